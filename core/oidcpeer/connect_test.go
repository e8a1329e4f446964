package oidcpeer_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core"
	example "github.com/zitadel/oidc/v3/example/server/storage"
)

func TestConnectTwoAccounts(t *testing.T) {
	t.Parallel()
	identities := []struct {
		name     string
		identity func(*host) core.Identity
		display  func(*example.User) string
	}{
		{
			"userinfo",
			func(h *host) core.Identity { return h.integration().Identity },
			func(u *example.User) string { return u.Username },
		},
		{ // op keeps email and profile out of id_tokens that come with an access token (OpenID Connect Core §5.4)
			"id_token",
			func(*host) core.Identity {
				return core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub", DisplayPath: "email"}
			},
			func(*example.User) string { return "" },
		},
		{ // a claim within a claim
			"id_token with tenant",
			func(*host) core.Identity {
				return core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub", TenantPath: "custom_claim.client", DisplayPath: "sub"}
			},
			func(u *example.User) string { return u.ID },
		},
	}
	for _, test := range identities {
		t.Run(test.name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, h *host) {
				identity, tenant := test.identity(h), ""
				h.declare(t, func(in *core.Integration) {
					in.Identity = identity
					if identity.TenantPath != "" {
						in.OAuth2.Scopes, tenant = append(in.OAuth2.Scopes, example.CustomScope), clientID
					}
				})
				connectTwo(t, h, identity, tenant, test.display)
			})
		})
	}
}

func connectTwo(t *testing.T, h *host, identity core.Identity, tenant string, display func(*example.User) string) {
	people := []*example.User{h.ada, h.bob}
	var want []core.Credential
	for i, query := range []string{"", "another=1"} {
		got := h.mustConnect(t, people[i], query)
		want = append(want, core.Credential{
			ID: got.ID, User: connected, Integration: integration, Status: core.StatusValid,
			Account: core.ProviderAccount{Issuer: h.Issuer, Tenant: tenant, Subject: people[i].ID, Display: display(people[i])},
			Scopes:  []string{"openid", "profile", "email", "offline_access"},
		})
		if tenant != "" {
			want[i].Scopes = append(want[i].Scopes, example.CustomScope)
		}
		ignoreTimes := cmpopts.IgnoreFields(core.Credential{}, "Created", "Updated", "Refreshed", "ValidUntil")
		if diff := cmp.Diff(want[i], got, ignoreTimes); diff != "" {
			t.Errorf("identity %s, account %d (-want +got):\n%s", identity.Source, i, diff)
		}
		if left := got.ValidUntil.Sub(h.clock.Now()); left <= lifetime/2 || left > lifetime {
			t.Errorf("the token is valid for %v, want nearly %v", left, lifetime)
		}
		asked, spent := h.lastAuthorization(), h.exchanges()[i]
		if asked.Get("code_challenge") == "" || asked.Get("code_challenge_method") != "S256" || asked.Get("nonce") == "" {
			t.Errorf("the authorization request %v lacks a challenge with S256, or a nonce", asked)
		}
		if spent.form.Get("code_verifier") == "" || spent.text("refresh_token") == "" || spent.text("id_token") == "" {
			t.Error("the exchange lacks a code_verifier, or its answer a refresh_token or id_token")
		}
	}
	if len(h.accounts(t)) != 2 || want[0].ID == want[1].ID {
		t.Fatalf("the user has %d accounts, want 2", len(h.accounts(t)))
	}
	for i := range want {
		h.checkIs(t, want[i], people[i])
	}
	var ambiguous *core.AmbiguousError
	if _, err := h.user.Client(t.Context(), core.Selector{Integration: integration}); !errors.As(err, &ambiguous) {
		t.Errorf("Client without a credential = %v, want AmbiguousError", err)
	}
}

// TestIssuer: the issuer is checked where op names it, in the id_token; RFC 9207 it does not speak.
func TestIssuer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		change    func(*core.OAuth2)
		op        string
		exchanges int
	}{
		{"other issuer", func(o *core.OAuth2) { o.Issuer += "/tenant" }, "identity", 1},
		{"required on the callback", func(o *core.OAuth2) { o.RequireIssuer = true }, "authorize", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, h *host) {
				h.declare(t, func(in *core.Integration) { test.change(in.OAuth2) })
				_, err := h.signIn(t, h.ada, "")
				var failed *core.ProviderError
				if !errors.As(err, &failed) || failed.Op != test.op || failed.Class != core.FailurePermanent {
					t.Fatalf("connect = %v, want a permanent ProviderError of %s", err, test.op)
				}
				h.checkNoSecret(t, "the error", err.Error())
				if got := len(h.exchanges()); got != test.exchanges {
					t.Errorf("%d codes were exchanged, want %d", got, test.exchanges)
				}
				if got := h.accounts(t); len(got) != 0 {
					t.Errorf("the user has the accounts %v, want none", got)
				}
			})
		})
	}
}

// TestRefusal: op redirects back with an error and the state, without anybody seeing a page.
func TestRefusal(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, func(in *core.Integration) {
			in.OAuth2.AuthorizationParams = map[string]string{"prompt": "none"}
		})
		_, err := h.signIn(t, h.ada, "")
		var failed *core.ProviderError
		if !errors.As(err, &failed) || failed.Op != "authorize" || failed.Code != "login_required" {
			t.Errorf("connect = %v, want a ProviderError with login_required", err)
		}
		if got := h.exchanges(); len(got) != 0 {
			t.Errorf("%d codes were exchanged, want none", len(got))
		}
	})
}

func TestConnectSameAccount(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, nil)
		before := h.mustConnect(t, h.ada, "")
		token := h.token(t, before)
		if _, err := h.signIn(t, h.ada, ""); !errors.Is(err, core.ErrAlreadyConnected) {
			t.Errorf("connect again = %v, want ErrAlreadyConnected", err)
		}
		after := h.mustConnect(t, h.ada, "another=1")
		if after.ID != before.ID {
			t.Errorf("the same account became credential %s, want %s", after.ID, before.ID)
		}
		if got := h.accounts(t); len(got) != 1 {
			t.Errorf("the user has %d accounts, want 1", len(got))
		}
		if h.token(t, after) == token {
			t.Error("the credential still has the token of the first time")
		}
		h.checkIs(t, after, h.ada)
	})
}

func TestReconnectOtherAccount(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, nil)
		ada := h.mustConnect(t, h.ada, "")
		refuse := func(name string) {
			before, token := h.accounts(t), h.token(t, ada)
			if _, err := h.signIn(t, h.bob, "into="+ada.ID); !errors.Is(err, core.ErrAccountMismatch) {
				t.Errorf("%s: connect into the other account = %v, want ErrAccountMismatch", name, err)
			}
			if diff := cmp.Diff(before, h.accounts(t)); diff != "" {
				t.Errorf("%s: the accounts changed (-before +after):\n%s", name, diff)
			}
			if h.token(t, ada) != token {
				t.Errorf("%s: the token changed", name)
			}
			h.checkIs(t, ada, h.ada)
		}
		refuse("unknown account")
		bob := h.mustConnect(t, h.bob, "another=1")
		refuse("connected account")
		h.checkIs(t, bob, h.bob)
		if again := h.mustConnect(t, h.ada, "into="+ada.ID); again.ID != ada.ID {
			t.Errorf("connect into the same account = credential %s, want %s", again.ID, ada.ID)
		}
	})
}
