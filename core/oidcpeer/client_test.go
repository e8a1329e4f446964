package oidcpeer_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
)

const wrongSecret = "not the secret of this client"

func TestClientAuth(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*core.OAuth2)
		basic  bool
		secret bool // in the form
	}{
		{"basic", func(o *core.OAuth2) { o.ClientAuth = core.ClientAuthBasic }, true, false},
		{"body", func(o *core.OAuth2) { o.ClientAuth = core.ClientAuthBody }, false, true},
		{"none", func(o *core.OAuth2) {
			o.ClientAuth, o.ClientID, o.ClientSecret = core.ClientAuthNone, publicClient, crypto.Secret{}
		}, false, false},
		{"nonce instead of PKCE", func(o *core.OAuth2) { o.PKCE = core.PKCERefused }, true, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, h *host) {
				var pkce core.PKCE
				h.declare(t, func(in *core.Integration) {
					test.change(in.OAuth2)
					pkce = in.OAuth2.PKCE
				})
				ada := h.mustConnect(t, h.ada, "")
				h.clock.Advance(lifetime + time.Minute)
				h.checkIs(t, ada, h.ada)
				calls := append(h.exchanges(), h.refreshes()...)
				if len(calls) != 2 {
					t.Fatalf("the provider saw %d token requests, want 2", len(calls))
				}
				for _, c := range calls {
					if c.basic != test.basic || c.form.Has("client_secret") != test.secret || c.form.Has("client_id") == test.basic {
						t.Errorf("%s: header %t, fields %t and %t, want the client only in the one place", c.grant(), c.basic, c.form.Has("client_id"), c.form.Has("client_secret"))
					}
				}
				if asked := h.lastAuthorization(); asked.Has("code_challenge") != (pkce == "") || !asked.Has("nonce") {
					t.Errorf("the authorization request is %v", asked)
				}
			})
		})
	}
}

// TestClientSecret: a client that is rejected has spent neither its code nor its refresh token.
func TestClientSecret(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, func(in *core.Integration) { in.OAuth2.ClientSecret = crypto.NewSecret(wrongSecret) })
		_, err := h.signIn(t, h.ada, "")
		h.checkRejected(t, err, "exchange")
		if got := h.accounts(t); len(got) != 0 {
			t.Fatalf("the user has the accounts %v, want none", got)
		}

		h.setSecrets(t, wrongSecret, clientSecret)
		ada := h.mustConnect(t, h.ada, "")
		checkStatuses(t, h.exchanges(), http.StatusUnauthorized, http.StatusUnauthorized, http.StatusOK)

		h.setSecrets(t, wrongSecret)
		h.clock.Advance(lifetime + time.Minute)
		_, err = h.user.Token(t.Context(), selector(ada))
		h.checkRejected(t, err, "refresh")
		if got := h.credential(t, ada.ID); got.Status != core.StatusValid || got.RefreshFailures != 1 {
			t.Errorf("credential = %s, %d failures, want VALID, 1: the account is as good as before", got.Status, got.RefreshFailures)
		}

		h.setSecrets(t, wrongSecret, clientSecret)
		h.clock.Advance(time.Minute)
		h.checkIs(t, ada, h.ada)
		checkStatuses(t, h.refreshes(), http.StatusUnauthorized, http.StatusUnauthorized, http.StatusOK)
		if got := h.credential(t, ada.ID); got.RefreshFailures != 0 {
			t.Errorf("%d failures are counted after a good refresh", got.RefreshFailures)
		}
	})
}

func (h *host) setSecrets(t *testing.T, secrets ...string) {
	t.Helper()
	var live []crypto.Secret
	for _, secret := range secrets {
		live = append(live, crypto.NewSecret(secret))
	}
	if err := h.engine.SetClientSecret(t.Context(), integration, live...); err != nil {
		t.Fatal(err)
	}
}

// checkRejected fails unless err says that the provider does not know the client.
func (h *host) checkRejected(t *testing.T, err error, op string) {
	t.Helper()
	var failed *core.ProviderError
	if !errors.As(err, &failed) {
		t.Fatalf("%s with a wrong client secret = %v, want ProviderError", op, err)
	}
	if failed.Op != op || failed.Code != "invalid_client" || failed.Status != http.StatusUnauthorized || failed.Integration != integration {
		t.Errorf("%s with a wrong client secret = %+v, want 401 invalid_client", op, failed)
	}
	if !strings.Contains(err.Error(), "client id or secret") || errors.Is(err, core.ErrReconnect) {
		t.Errorf("%s with a wrong client secret = %v, want it to name the client, not the account", op, err)
	}
	h.checkNoSecret(t, "the error", err.Error()+core.Message(err))
}

func checkStatuses(t *testing.T, calls []call, want ...int) {
	t.Helper()
	for i, c := range calls {
		if i >= len(want) || c.status != want[i] {
			t.Errorf("token request %d was answered %d, want %v", i+1, c.status, want)
		}
	}
	if len(calls) != len(want) {
		t.Errorf("the provider saw %d token requests, want %d", len(calls), len(want))
	}
}
