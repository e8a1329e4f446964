package core_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// forgetful is a store that applies a batch, or does not, and then says that it does not know.
type forgetful struct {
	storage.Store
	after, before atomic.Bool // the next Apply is carried out and forgotten, or never arrives
	then          func()      // what others do before that is told; nil: nothing
}

func (s *forgetful) Apply(ctx context.Context, b storage.Batch) error {
	if s.before.CompareAndSwap(true, false) {
		return storage.ErrUnknownOutcome
	}
	err := s.Store.Apply(ctx, b)
	if err == nil && s.after.CompareAndSwap(true, false) {
		if s.then != nil {
			s.then()
		}
		return storage.ErrUnknownOutcome
	}
	return err
}

// The store loses the answer to a commit. Every change is done once all the same, and says so (design §3).
func TestUnknownOutcomes(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"applied", "not applied"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			store := &forgetful{Store: memory.New()}
			w := newWorld(t, store, nil)
			ctx, u := t.Context(), w.engine.User("u")
			lose := func() {
				store.after.Store(lost == "applied")
				store.before.Store(lost != "applied")
			}
			do := func(what string, err error) {
				t.Helper()
				if err != nil {
					t.Errorf("%s: %v", what, w.note(err))
				}
				if store.after.Load() || store.before.Load() {
					t.Errorf("%s: nothing was lost: the test is blind", what)
				}
			}

			lose()
			session, err := u.Connect(ctx, core.ConnectInput{Integration: calendar, Browser: "b", ExternalID: "work"})
			do("Connect", err)
			callback := w.consent(session, "ada", calendar, "b")
			lose() // while it is claimed
			result, err := w.engine.Callback(ctx, callback)
			do("Callback", err)
			sel := core.Selector{Credential: result.Credential.ID}

			lose()
			inbox, err := u.CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: "inbox"})
			do("CreateConfiguration", err)
			lose()
			_, err = u.UpdateConfiguration(ctx, core.Selector{Configuration: inbox.ID}, core.ConfigurationUpdate{Meta: map[string]any{"a": 1}})
			do("UpdateConfiguration", err)
			lose()
			_, err = u.Rename(ctx, sel, core.RenameInput{ExternalID: new("home")})
			do("Rename", err)

			lose()
			w.create(func(in *core.Integration) {
				in.Name, in.OAuth2, in.Identity = "mail", nil, core.Identity{}
				in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
			})
			w.provider.AddKey("key-cyd", "cyd")
			lose()
			_, err = u.AddKey(ctx, core.KeyInput{Integration: "mail", Key: crypto.NewSecret("key-cyd")})
			do("AddKey", err)

			for range 3 {
				if _, err := u.As("pat").Token(ctx, sel); err != nil {
					t.Fatal(err)
				}
			}
			lose()
			do("Step", coretest.Step(w.engine))

			if all, err := u.Configurations(ctx, sel); err != nil || len(all) != 2 {
				t.Errorf("%d configurations, %v, want the default one and inbox", len(all), err)
			}
			lose()
			do("Disconnect", u.Disconnect(ctx, sel))
			kinds := map[core.EventKind]int{}
			for _, ev := range w.events(0) {
				kinds[ev.Kind]++
			}
			for kind, want := range map[core.EventKind]int{
				core.EventConnected: 2, core.EventConfigurationCreated: 1, core.EventConfigurationUpdated: 1, core.EventRenamed: 1,
				core.EventDisconnected: 1,
			} {
				if kinds[kind] != want {
					t.Errorf("%d events %s, want %d", kinds[kind], kind, want)
				}
			}
			if got := w.list("u"); len(got) != 0 {
				t.Errorf("accounts = %+v, want none of the calendar's", got)
			}
			if dangling, err := w.engine.Dangling(ctx); err != nil || len(dangling) > 0 {
				t.Errorf("dangling = %q, %v, want nothing", dangling, err)
			}
		})
	}
}

// The only record that a disconnect leaves behind is its event, which may have got its number before anybody looks whether
// the disconnect was carried out: it was.
func TestUnknownOutcomeOfDisconnect(t *testing.T) {
	t.Parallel()
	store := &forgetful{Store: memory.New()}
	w := newWorld(t, store, nil)
	account := w.mustConnect("u", "ada", core.ConnectInput{})
	store.then = func() {
		if err := coretest.Step(w.engine); err != nil {
			t.Error(err)
		}
	}
	store.after.Store(true)
	if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: account.ID}); err != nil {
		t.Errorf("Disconnect() = %v, want nil: it is gone", w.note(err))
	}
	disconnected := 0
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventDisconnected {
			disconnected++
		}
	}
	if disconnected != 1 {
		t.Errorf("%d events of the disconnect, want 1", disconnected)
	}
	w.wantErr("disconnecting it again", w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: account.ID}), core.ErrNotFound)
}
