package oidcpeer_test

import (
	"errors"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
)

func TestRefreshRotates(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, nil)
		ada, bob := h.mustConnect(t, h.ada, ""), h.mustConnect(t, h.bob, "another=1")
		bobBefore := h.credential(t, bob.ID)
		spent, token := h.exchanges()[0].text("refresh_token"), h.token(t, ada)
		for i := range 2 {
			h.clock.Advance(lifetime + time.Minute)
			h.checkIs(t, ada, h.ada)
			refreshes := h.refreshes()
			if len(refreshes) != i+1 {
				t.Fatalf("refresh %d: the provider saw %d refreshes", i+1, len(refreshes))
			}
			last := refreshes[i]
			if last.form.Get("refresh_token") != spent {
				t.Errorf("refresh %d did not spend the refresh token that the provider gave last", i+1)
			}
			if next := last.text("refresh_token"); next == "" || next == spent {
				t.Errorf("refresh %d: the provider did not rotate the refresh token", i+1)
			} else {
				spent = next
			}
			if next := h.token(t, ada); next == token {
				t.Errorf("refresh %d: the access token is the old one", i+1)
			} else {
				token = next
			}
			now := h.credential(t, ada.ID)
			if !now.Refreshed.Equal(h.clock.Now().Truncate(time.Millisecond)) || now.RefreshFailures != 0 || !now.ValidUntil.After(h.clock.Now()) {
				t.Errorf("refresh %d: credential = %+v, want it refreshed now", i+1, now)
			}
		}
		if diff := cmp.Diff(bobBefore, h.credential(t, bob.ID)); diff != "" {
			t.Errorf("the other account changed (-before +after):\n%s", diff)
		}
		h.checkIs(t, bob, h.bob)
		h.checkIs(t, ada, h.ada)
		if got := len(h.refreshes()); got != 3 {
			t.Errorf("the provider saw %d refreshes, want 3", got)
		}
		for _, c := range h.refreshes() { // it was a real rotation: what was spent is worth nothing now
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": c.form["refresh_token"]}
			if status, code := h.post(t, h.TokenEndpoint, form); status != http.StatusBadRequest || code != "invalid_grant" {
				t.Errorf("the provider answers a spent refresh token %d %s, want 400 invalid_grant", status, code)
			}
		}
	})
}

// TestRefreshOnce: a second refresh with a rotated token would end in invalid_grant.
func TestRefreshOnce(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, nil)
		ada := h.mustConnect(t, h.ada, "")
		old := h.token(t, ada)
		h.clock.Advance(lifetime + time.Minute)
		seen, release := h.holdRefreshes(t)

		const callers = 16
		var wg, started sync.WaitGroup
		tokens := make([]string, callers)
		started.Add(callers)
		for i := range callers {
			wg.Go(func() {
				started.Done()
				if i%4 == 0 {
					h.checkIs(t, ada, h.ada)
				}
				token, err := h.user.Token(t.Context(), selector(ada))
				if err != nil {
					t.Error(err)
				}
				tokens[i] = token.Value.Reveal()
			})
		}
		started.Wait()
		await(t, seen)
		release()
		wg.Wait()

		refreshes := h.refreshes()
		if len(refreshes) != 1 || refreshes[0].status != http.StatusOK {
			t.Fatalf("the provider saw %d refreshes, want 1 that worked", len(refreshes))
		}
		for i, token := range tokens {
			if token == old || token != refreshes[0].text("access_token") {
				t.Errorf("caller %d has another token than the new one", i)
			}
		}
	})
}

// TestRefreshBehind: a token that is due but good is given out while the next one is fetched.
func TestRefreshBehind(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, nil)
		ada := h.mustConnect(t, h.ada, "")
		old := h.token(t, ada)
		h.clock.Advance(lifetime * 7 / 10)
		seen, release := h.holdRefreshes(t)
		if h.token(t, ada) != old {
			t.Error("a token that is due but good was not given out")
		}
		await(t, seen)
		h.checkIs(t, ada, h.ada) // as long as the provider has not seen the refresh, the old token works
		release()
		h.clock.Advance(lifetime * 3 / 10) // now the old token has ended, and callers wait for the new one
		h.checkIs(t, ada, h.ada)
		if h.token(t, ada) == old {
			t.Error("the old token is given out after its end")
		}
		if got := len(h.refreshes()); got != 1 {
			t.Errorf("the provider saw %d refreshes, want 1", got)
		}
	})
}

func await(t *testing.T, seen <-chan struct{}) {
	t.Helper()
	select {
	case <-seen:
	case <-time.After(20 * time.Second):
		t.Fatal("no refresh reached the provider")
	}
}

func TestRevokedRefreshToken(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, nil)
		ada, bob := h.mustConnect(t, h.ada, ""), h.mustConnect(t, h.bob, "another=1")
		h.revoke(t, h.exchanges()[0].text("refresh_token"))
		h.clock.Advance(lifetime + time.Minute)

		_, err := h.user.Token(t.Context(), selector(ada))
		if !errors.Is(err, core.ErrReconnect) {
			t.Fatalf("Token = %v, want ErrReconnect", err)
		}
		h.checkNoSecret(t, "the error", err.Error())
		got := h.credential(t, ada.ID)
		if got.Status != core.StatusInvalid || got.LastFailure != core.FailurePermanent || got.RefreshFailures != 1 {
			t.Errorf("credential = %s, last failure %q, %d failures, want INVALID, permanent, 1", got.Status, got.LastFailure, got.RefreshFailures)
		}
		if _, err := h.user.Token(t.Context(), selector(ada)); !errors.Is(err, core.ErrReconnect) {
			t.Errorf("Token again = %v, want ErrReconnect", err)
		}
		if refused := h.refreshes()[0]; refused.status != http.StatusBadRequest || refused.text("error") != "invalid_grant" {
			t.Errorf("the provider answered %d %s, want 400 invalid_grant", refused.status, refused.text("error"))
		}
		if got := len(h.refreshes()); got != 1 {
			t.Errorf("the provider saw %d refreshes, want 1: what has ended is not tried again", got)
		}

		h.checkIs(t, bob, h.bob)
		h.checkIs(t, core.Credential{}, h.bob) // the only valid one
		if got := h.credential(t, bob.ID); got.Status != core.StatusValid {
			t.Errorf("the other account is %s", got.Status)
		}
		again := h.mustConnect(t, h.ada, "into="+ada.ID)
		if again.ID != ada.ID || again.Status != core.StatusValid || again.RefreshFailures != 0 {
			t.Errorf("connect into the ended account = %+v, want credential %s, VALID", again, ada.ID)
		}
		h.checkIs(t, ada, h.ada)
	})
}
