package usertoken_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core/usertoken"
)

func TestMint(t *testing.T) {
	t.Parallel()
	for _, key := range []crypto.Signer{rsaKey(), ecKey(), edKey()} {
		v := newVerifier(t, usertoken.Options{Keys: []usertoken.Key{{ID: "main", Public: key.Public()}}, Now: newClock().Now})
		token, err := usertoken.Mint(key, usertoken.MintInput{
			Project: project, User: "org 1/a", Person: "ada", Lifetime: 90 * time.Second, KeyID: "main",
			Permissions: map[string]any{"integration:*": true}, Claims: map[string]any{"team": "a", "jti": "j", "iss": "app"},
			Now: start.Add(999 * time.Millisecond),
		})
		if err != nil {
			t.Fatalf("Mint with %T: %v", key, err)
		}
		got := accept(t, v, token)
		want := &usertoken.Claims{
			Subject: "org 1/a", Person: "ada", ID: "j", Issuer: "app", Audience: []string{"polycred/" + project},
			IssuedAt: start, Expires: start.Add(90 * time.Second), HasPermissions: true,
			Permissions: map[string]any{"integration:*": true}, Key: "main",
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(*want), cmpopts.IgnoreFields(*want, "All")); diff != "" {
			t.Errorf("claims with %T (-want +got):\n%s", key, diff)
		}
		if got.All["team"] != "a" {
			t.Errorf("team = %v, want a", got.All["team"])
		}
	}
}

func TestMintDefaults(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, usertoken.Options{Keys: live(edKey())})
	ids := map[string]bool{}
	for range 2 {
		token, err := usertoken.Mint(edKey(), usertoken.MintInput{Project: project, User: "u", Policy: "reader"})
		if err != nil {
			t.Fatal(err)
		}
		c := accept(t, v, token)
		if c.Policy != "reader" || c.HasPermissions || c.Expires.Sub(c.IssuedAt) != time.Hour || time.Since(c.IssuedAt) > time.Minute {
			t.Errorf("claims = %+v", c)
		}
		ids[c.ID] = true
	}
	if len(ids) != 2 {
		t.Errorf("two tokens have the ids %v", ids)
	}
	// A token for another project is refused under the same key.
	token, err := usertoken.Mint(edKey(), usertoken.MintInput{Project: otherProject, User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(context.Background(), token); !errors.Is(err, usertoken.ErrToken) {
		t.Errorf("Verify of another project's token = %v, want ErrToken", err)
	}
}

func TestMintErrors(t *testing.T) {
	t.Parallel()
	small, err := smallRSA()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		key    crypto.Signer
		change func(*usertoken.MintInput)
		reason string
	}{
		{"no key", nil, nil, "private key"},
		{"nil RSA key", (*rsa.PrivateKey)(nil), nil, "private key"},
		{"nil EC key", (*ecdsa.PrivateKey)(nil), nil, "private key"},
		{"empty Ed25519 key", ed25519.PrivateKey{}, nil, "private key"},
		{"short RSA key", small, nil, "private key"},
		{"project", edKey(), func(in *usertoken.MintInput) { in.Project = "x" }, "project"},
		{"user", edKey(), func(in *usertoken.MintInput) { in.User = "" }, "user"},
		{"user with broken text", edKey(), func(in *usertoken.MintInput) { in.User = "\xff" }, "user"},
		{"person", edKey(), func(in *usertoken.MintInput) { in.Person = "\x00" }, "person"},
		{"policy", edKey(), func(in *usertoken.MintInput) { in.Policy = strings.Repeat("p", 256) }, "policy"},
		{"policy beside permissions", edKey(), func(in *usertoken.MintInput) { in.Policy, in.Permissions = "p", true }, "policy"},
		{"permissions that are nil", edKey(), func(in *usertoken.MintInput) { in.Permissions = map[string]any(nil) }, "permissions"},
		{"permissions that are no JSON", edKey(), func(in *usertoken.MintInput) { in.Permissions = func() {} }, "permissions"},
		{"lifetime", edKey(), func(in *usertoken.MintInput) { in.Lifetime = time.Millisecond }, "lifetime"},
		{"sub twice", edKey(), func(in *usertoken.MintInput) { in.Claims = map[string]any{"sub": "x"} }, "must not have sub"},
		{"permissions under their other name", edKey(), func(in *usertoken.MintInput) {
			in.Claims = map[string]any{"urn:useparagon:connect:permissions": true}
		}, "must not have"},
		{"claim that is no JSON", edKey(), func(in *usertoken.MintInput) { in.Claims = map[string]any{"x": func() {}} }, "mint"},
		{"key id", edKey(), func(in *usertoken.MintInput) { in.KeyID = strings.Repeat("k", 256) }, "keyId"},
		{"size", edKey(), func(in *usertoken.MintInput) { in.Claims = map[string]any{"x": strings.Repeat("x", 16<<10)} }, "bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := usertoken.MintInput{Project: project, User: "u"}
			if test.change != nil {
				test.change(&in)
			}
			token, err := usertoken.Mint(test.key, in)
			if err == nil || token != "" || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("Mint = %q, %v, want an error with %q", token, err, test.reason)
			}
		})
	}
}
