package coretest

import (
	"context"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/memory"
)

// NewEngine returns an engine on a memory store of its own, under a key-encryption key that exists only in memory, and
// closes both when the test ends. o is passed to core.Open and may be nil. It fails the test when that fails.
func NewEngine(t testing.TB, o *core.Options) *core.Engine {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatalf("NewKEK: %v", err)
	}
	store := memory.New()
	engine, err := core.Open(context.Background(), store, crypto.KEKs{Tokens: kek, Policy: kek}, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Errorf("Engine.Close: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Errorf("Store.Close: %v", err)
		}
	})
	return engine
}

// Integration describes the server as an integration of that name, ready for CreateIntegration: OAuth with every
// endpoint, the account's identity from userinfo, and requests allowed to the server's API. The engine's
// Options.PrivateHosts must list the server's Host.
func (s *OAuthServer) Integration(name string) core.Integration {
	return core.Integration{
		Name: name,
		OAuth2: &core.OAuth2{
			ClientID: s.ClientID(), ClientSecret: crypto.NewSecret(s.ClientSecret()),
			AuthorizationURL: s.AuthorizationURL(), TokenURL: s.TokenURL(), RevocationURL: s.RevocationURL(),
			Issuer: s.Issuer(), RequireIssuer: true, Scopes: []string{"openid"},
		},
		Identity:     core.Identity{Source: core.IdentityURL, URL: s.UserInfoURL(), SubjectPath: "sub", TenantPath: "tenant", DisplayPath: "name", TenantOptional: true},
		AllowedHosts: []string{s.URL()},
	}
}
