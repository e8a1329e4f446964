package core_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// betweenStore does something once a commit that stores an account is made up, just before it is applied.
type betweenStore struct {
	storage.Store
	between *atomic.Pointer[func()]
}

func (s betweenStore) Apply(ctx context.Context, b storage.Batch) error {
	if len(b.Puts) > 2 && len(b.Checks) > 0 {
		if do := s.between.Swap(nil); do != nil {
			(*do)()
		}
	}
	return s.Store.Apply(ctx, b)
}

// What another process does between a decision and its commit undoes the decision: the rules are applied again.
func TestCommitAppliesRulesAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		in      core.ConnectInput // of ada
		between func(w *world)
		want    error // of ada's
		count   int   // of accounts in the end
	}{
		{
			name:    "rule 1: another account was connected",
			between: func(w *world) { w.mustConnect("u", "bob", core.ConnectInput{}) },
			want:    core.ErrAlreadyConnected, count: 1,
		},
		{
			name:    "rule 4: the same account was connected",
			in:      core.ConnectInput{AllowMultiple: true},
			between: func(w *world) { w.mustConnect("u", "ada", core.ConnectInput{}) },
			count:   1,
		},
		{
			name: "rule 4: the same account was connected, and is refused twice",
			in:   core.ConnectInput{AllowMultiple: true},
			between: func(w *world) {
				w.change(func(in *core.Integration) { in.SameAccount = core.SameAccountReject })
				w.mustConnect("u", "ada", core.ConnectInput{})
			},
			want: core.ErrAccountConnected, count: 1,
		},
		{
			name:    "rule 5: the external id was taken",
			in:      core.ConnectInput{AllowMultiple: true, ExternalID: "work"},
			between: func(w *world) { w.mustConnect("u", "bob", core.ConnectInput{ExternalID: "work"}) },
			want:    core.ErrExternalID, count: 1,
		},
		{
			name: "the external id was taken and is free again",
			in:   core.ConnectInput{AllowMultiple: true, ExternalID: "work"},
			between: func(w *world) {
				bob := w.mustConnect("u", "bob", core.ConnectInput{ExternalID: "work"})
				if err := w.engine.User("u").Disconnect(w.Context(), core.Selector{Credential: bob.ID}); err != nil {
					w.Error(err)
				}
			},
			count: 1,
		},
		{
			name:    "another user is not concerned",
			between: func(w *world) { w.mustConnect("v", "ada", core.ConnectInput{ExternalID: "work"}) },
			count:   1,
		},
		{
			name: "the integration was deleted",
			between: func(w *world) {
				if err := w.engine.DeleteIntegration(w.Context(), calendar); err != nil {
					w.Error(err)
				}
			},
			want: core.ErrNotFound,
		},
		{
			name: "the integration has keys now",
			between: func(w *world) {
				w.change(func(in *core.Integration) {
					in.OAuth2, in.Identity = nil, core.Identity{}
					in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
				})
			},
			want: core.ErrSession,
		},
		{
			name: "the session was swept",
			between: func(w *world) {
				page, err := w.store.Scan(w.Context(), storage.Range{Start: []byte{'s'}, End: []byte{'t'}, KeysOnly: true})
				if err != nil || len(page.Items) != 1 {
					w.Fatalf("Scan() = %v, %v, want one session", page.Items, err)
				}
				sweep := storage.Batch{Deletes: []storage.Delete{{Key: page.Items[0].Key, If: page.Items[0].Rev}}}
				if err := w.store.Apply(w.Context(), sweep); err != nil {
					w.Error(err)
				}
			},
			want: core.ErrSession,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := betweenStore{memory.New(), new(atomic.Pointer[func()])}
			w := newWorld(t, store, nil)
			callback := w.mustBegin("u", "ada", tt.in)
			ran := false
			do := func() {
				ran = true
				tt.between(w)
			}
			store.between.Store(&do)
			result, err := w.finish(callback)
			if tt.want != nil {
				w.wantErr("Callback", err, tt.want)
			} else if err != nil {
				t.Errorf("Callback() = %v", err)
			}
			if !ran {
				t.Fatal("nothing happened in between")
			}
			list := w.list("u")
			if len(list) != tt.count {
				t.Errorf("%d accounts, want %d: %v", len(list), tt.count, list)
			}
			if err == nil && result.Credential.ID != list[0].ID {
				t.Errorf("Callback() = %s, want %s, which is listed", result.Credential.ID, list[0].ID)
			}
			again, err2 := w.finish(callback)
			if tt.name == "the session was swept" {
				w.wantErr("Callback again", err2, core.ErrSession)
			} else if (err == nil) != (err2 == nil) || again == nil || !again.Replayed {
				t.Errorf("Callback again = %+v, %v, want the outcome %v", again, err2, err)
			}
		})
	}
	t.Run("rule 3: it was disconnected", func(t *testing.T) {
		t.Parallel()
		store := betweenStore{memory.New(), new(atomic.Pointer[func()])}
		w := newWorld(t, store, nil)
		ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
		callback := w.mustBegin("u", "ada", core.ConnectInput{Into: ada.ID})
		do := func() {
			if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: ada.ID}); err != nil {
				t.Error(err)
			}
		}
		store.between.Store(&do)
		_, err := w.finish(callback)
		w.wantErr("into what was disconnected", err, core.ErrNotFound)
		if got := w.list("u"); len(got) != 0 || store.between.Load() != nil {
			t.Errorf("accounts = %v, want none", got)
		}
	})
	t.Run("a key: the integration has OAuth now", func(t *testing.T) {
		t.Parallel()
		store := betweenStore{memory.New(), new(atomic.Pointer[func()])}
		w := newWorld(t, store, nil)
		w.change(func(in *core.Integration) {
			in.OAuth2, in.Identity = nil, core.Identity{}
			in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
		})
		w.provider.AddKey("canary-key-ada", "ada")
		do := func() { w.change(func(in *core.Integration) { *in = revised(w.integration(nil), *in) }) }
		store.between.Store(&do)
		_, err := w.putKey("u", "ada", core.KeyInput{Integration: calendar})
		w.wantErr("AddKey", err, core.ErrConflict)
		if got := w.list("u"); len(got) != 0 || store.between.Load() != nil {
			t.Errorf("accounts = %v, want none", got)
		}
	})
}

// revised is an integration in place of another.
func revised(in, old core.Integration) core.Integration {
	in.Revision = old.Revision
	return in
}

// A secret that was set for another client is not sent to the token endpoint that a session began with.
func TestCallbackAfterClientChanged(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*core.Integration){
		"client id": func(in *core.Integration) { in.OAuth2.ClientID = "another" },
		"token URL": func(in *core.Integration) { in.OAuth2.TokenURL = "https://another.example.com/token" },
	} {
		w := newWorld(t, nil, nil)
		callback := w.mustBegin("u", "ada", core.ConnectInput{})
		w.change(change)
		_, err := w.engine.Callback(t.Context(), callback)
		w.wantErr("a callback after the "+name+" was changed", err, core.ErrSession)
		if n := w.provider.Calls().Exchange; n != 0 {
			t.Errorf("%s: %d exchanges, want none", name, n)
		}
	}
}
