package core_test

import (
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
)

// A refreshed token that lives in the memory of a process alone is revoked too, when its account goes or loses its
// authorisation by another process: as soon as the store takes that.
func TestRevocationOfUnsavedTokens(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *world, c core.Credential) error{
		"disconnected": func(w *world, c core.Credential) error {
			return w.engine.User(c.User).Disconnect(w.Context(), core.Selector{Credential: c.ID})
		},
		"with its user": func(w *world, c core.Credential) error {
			_, err := w.engine.DeleteUser(w.Context(), c.User, nil)
			return err
		},
		"revoked": func(w *world, _ core.Credential) error {
			_, err := w.engine.RevokeCredentials(w.Context(), calendar, nil)
			return err
		},
	} {
		for _, closes := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", and the process ends"}[closes], func(t *testing.T) {
				t.Parallel()
				w := newRevoking(t, nil, core.Revocation{})
				w.rotate()
				ada := w.expired()
				engine, store := w.unsaved(ada.ID)
				token, err := w.tokenOf(engine, ada.ID)
				if err != nil {
					t.Fatal(w.note(err))
				}
				if err := end(w, ada); err != nil {
					t.Fatal(w.note(err))
				}
				w.wantLog("could not be queued for revocation yet")
				if queued := w.queued(); len(queued) != 1 || !engine.Unsaved("u", ada.ID) {
					t.Fatalf("%d revocations are queued, want that of the stored tokens, and the others still in memory", len(queued))
				}

				store.full.Store(false)
				if closes {
					if err := engine.Close(); err != nil {
						t.Error(err)
					}
				}
				w.wantSaved(engine, ada.ID)
				queued := w.queued()
				if len(queued) != 2 || !queued[1].AccessToken.Equal(token.Value) || queued[1].RefreshToken.Equal(queued[0].RefreshToken) {
					t.Fatalf("queued = %+v, want the tokens that were stored, and those that lived in memory", queued)
				}
				w.carryOut(0)
				w.wantEnd(ended(ada, "ok", "attempts", "1"), ended(ada, "ok", "attempts", "1"))
				w.wantDead(token.Value.Reveal(), queued[1].RefreshToken)
			})
		}
	}
}

// What lived in memory stands for the account's grant, and leaves that to others as what was stored does.
func TestRevocationOfUnsavedTokensShared(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{Scope: core.RevokesGrant})
	w.rotate()
	ada := w.expired()
	other := w.mustConnect("v", "ada", core.ConnectInput{})
	engine, store := w.unsaved(ada.ID)
	w.disconnect("u", ada.ID)
	store.full.Store(false)
	w.wantSaved(engine, ada.ID)
	w.carryOut(0)
	w.wantRevoked("while another account stands for the grant", 0)
	w.wantEnd(ended(ada, "ok", "grant", "shared"), ended(ada, "ok", "grant", "shared"))
	if as, err := w.as("v", other.ID); as != "ada@example.com" {
		t.Errorf("the other account: as = %q, %v, want it to go on working", as, err)
	}
}

// wantLog waits until a line of the log says that.
func (w *world) wantLog(text string) {
	w.Helper()
	tick, end := time.NewTicker(5*time.Millisecond), time.NewTimer(20*time.Second)
	defer tick.Stop()
	defer end.Stop()
	for {
		w.mu.Lock()
		found := strings.Contains(w.text.String(), text)
		w.mu.Unlock()
		if found {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			w.Fatalf("the log never said %q", text)
		}
	}
}
