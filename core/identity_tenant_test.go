package core_test

import (
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// An answer without the tenant that an account is known by is refused: the accounts of one subject in all tenants would
// be one.
func TestSecurity10_TenantMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	paths := func(tenant string, optional bool) {
		w.change(func(in *core.Integration) {
			in.OAuth2.Issuer, in.OAuth2.Scopes = "", []string{"calendar"}
			in.Identity = core.Identity{Source: core.IdentityToken, SubjectPath: "owner.id", TenantPath: tenant, TenantOptional: optional}
		})
	}
	missing, odd := "is missing", "is of a kind"
	for _, tt := range []struct {
		name     string
		path     string
		optional bool
		fields   map[string]any
		tenant   string
		reason   string // empty: accepted
	}{
		{"there", "space", false, map[string]any{"space": "one"}, "one", ""},
		{"a number", "space", false, map[string]any{"space": 1}, "1", ""},
		{"no field", "space", false, nil, "", missing},
		{"null", "space", false, map[string]any{"space": nil}, "", missing},
		{"empty", "space", false, map[string]any{"space": ""}, "", missing},
		{"an object", "space", false, map[string]any{"space": map[string]any{"id": "one"}}, "", odd},
		{"no object on the way", "space.id", false, map[string]any{"space": nil}, "", missing},
		{"a text on the way", "space.id", false, map[string]any{"space": "one"}, "", odd},
		{"optional: there", "space", true, map[string]any{"space": "one"}, "one", ""},
		{"optional: no field", "space", true, nil, "", ""},
		{"optional: null on the way", "space.id", true, map[string]any{"space": nil}, "", ""},
		{"optional: empty", "space", true, map[string]any{"space": ""}, "", ""},
		{"optional: an object", "space", true, map[string]any{"space": map[string]any{"id": "one"}}, "", odd},
		{"optional: a list", "space", true, map[string]any{"space": []string{"one"}}, "", odd},
		{"optional: a text on the way", "space.id", true, map[string]any{"space": "one"}, "", odd},
	} {
		paths(tt.path, tt.optional)
		fields := map[string]any{"owner": map[string]any{"id": "1"}}
		for name, value := range tt.fields {
			fields[name] = value
		}
		w.fields(fields)
		user := "user of " + tt.name
		got, err := w.connect(user, "ada", core.ConnectInput{})
		if tt.reason != "" {
			w.wantFailed(tt.name, err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: tt.reason})
			if err != nil && strings.Contains(err.Error(), "one") {
				t.Errorf("%s: error %v, want one without the provider's text", tt.name, err)
			}
			continue
		}
		if want := (core.ProviderAccount{Issuer: w.provider.Host(), Tenant: tt.tenant, Subject: "1"}); err != nil || got.Account != want {
			t.Errorf("%s: account = %+v, %v, want %+v", tt.name, got.Account, err, want)
		}
	}
	err := w.tryChange(func(in *core.Integration) {
		in.Identity = core.Identity{Source: core.IdentityToken, SubjectPath: "owner.id", TenantOptional: true}
	})
	w.wantInput("tenantOptional without a path", err, "identity.tenantOptional")
}

// Two shops with a token host each have a user 1 each, whatever issuer the integration has.
func TestSecurity10_SubjectsOfTokenHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	region, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{
		Now: w.clock.Now, ClientID: w.provider.ClientID(), ClientSecret: clientSecret,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(region.Close)
	w.opts.PrivateHosts = append(w.opts.PrivateHosts, region.Host())
	w.engine = w.open()
	region.AddAccount(coretest.Account{Subject: "bob", Name: "bob@example.com"})
	w.change(func(in *core.Integration) {
		in.OAuth2.Issuer, in.OAuth2.Scopes = "https://example.com", []string{"calendar"}
		in.SentHosts = []core.SentHost{{Field: "accounts-server", In: core.SentInCallback, TokenHost: true, Hosts: []string{w.provider.URL(), region.URL()}}}
		in.Identity = core.Identity{Source: core.IdentityToken, SubjectPath: "user_id"}
	})
	var accounts []core.Credential
	for _, at := range []*coretest.OAuthServer{w.provider, region} {
		at.Set(func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"user_id": 1} })
		session := w.session("u", core.ConnectInput{Browser: "b", AllowMultiple: true})
		session.URL = strings.Replace(session.URL, w.provider.URL(), at.URL(), 1)
		callback := with(w.consent(session, "bob", calendar, "b"), "accounts-server", at.URL())
		result, err := w.finish(with(callback, "iss"))
		if err != nil {
			t.Fatalf("connect at %s: %v", at.Host(), err)
		}
		if result.Credential.Account.Issuer != at.Host() {
			t.Errorf("issuer = %q, want the host %s", result.Credential.Account.Issuer, at.Host())
		}
		accounts = append(accounts, result.Credential)
	}
	if accounts[0].ID == accounts[1].ID {
		t.Error("user 1 of two hosts is one account, want two")
	}
}
