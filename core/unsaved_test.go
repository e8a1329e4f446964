package core_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
)

// picky is a store that takes no credentials while it is full, but leases.
type picky struct{ fillable }

func (s *picky) Apply(ctx context.Context, b storage.Batch) error {
	if s.full.Load() && !touches(b, 'c') {
		return s.Store.Apply(ctx, b)
	}
	return s.fillable.Apply(ctx, b)
}

// unsaved has a process refresh a token while its store takes nothing: the answer lives in its memory.
func (w *world) unsaved(credential string) (*core.Engine, *fillable) {
	w.Helper()
	store := &fillable{Store: w.store}
	return w.unsavedIn(store, &store.full, credential), store
}

// unsavedIn is unsaved on a store that is full while it is told so.
func (w *world) unsavedIn(store storage.Store, full *atomic.Bool, credential string) *core.Engine {
	w.Helper()
	engine := w.process("unsaved", store, 0)
	w.refresh(coretest.Fault{Hold: true, Times: 1})
	result := w.begunToken(engine, credential)
	w.held(1)
	full.Store(true)
	w.refresh(coretest.Fault{})
	got := <-result
	if as := w.whose(got.token.Value.Reveal()); got.err != nil || as != "ada@example.com" {
		w.Fatalf("token while the store takes nothing = %q's, %v, want ada's", as, got.err)
	}
	if !engine.Unsaved("u", credential) {
		w.Fatal("nothing waits to be stored")
	}
	return engine
}

// wantSaved waits until what lived in memory is stored.
func (w *world) wantSaved(engine *core.Engine, credential string) {
	w.Helper()
	tick, end := time.NewTicker(5*time.Millisecond), time.NewTimer(20*time.Second)
	defer tick.Stop()
	defer end.Stop()
	for engine.Unsaved("u", credential) {
		select {
		case <-tick.C:
		case <-end.C:
			w.Fatal("it was never stored")
		}
	}
}

// An answer that the store does not take serves callers at once, is stored by itself as soon as the store takes it, and
// until then nobody spends its refresh token.
func TestUnsavedAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.declare(core.RotationSingleUse, 0)
	w.rotate()
	ada := w.expired()
	spent := w.stored("u", ada.ID).RefreshToken
	store := &picky{fillable{Store: w.store}}
	engine := w.unsavedIn(store, &store.full, ada.ID)

	short, cancel := context.WithTimeout(t.Context(), time.Second) // less than a try to store it takes
	defer cancel()
	together(32, func(int) {
		if _, err := engine.User("u").Token(short, core.Selector{Credential: ada.ID}); err != nil {
			t.Errorf("a caller while the store takes nothing: %v", w.note(err))
		}
	})
	spy := &spyStore{Store: w.store}
	other := w.begunAndWaiting(spy, w.process("other", spy, 0), ada.ID)
	if now := w.stored("u", ada.ID); !now.RefreshToken.Equal(spent) {
		t.Error("it is stored already")
	}
	select {
	case got := <-other:
		t.Fatalf("another process = %+v, %v, want it to wait", got.token, got.err)
	default:
	}
	store.full.Store(false)
	w.wantSaved(engine, ada.ID)
	if got := <-other; got.err != nil || w.whose(got.token.Value.Reveal()) != "ada@example.com" {
		t.Errorf("another process = %+v, %v, want the token once it is stored", got.token, got.err)
	}
	w.wantRefreshes("in all", 1)
	if now := w.stored("u", ada.ID); now.RefreshToken.Equal(spent) || now.Intent != nil || now.Failures != 0 {
		t.Errorf("stored = intent %v, %d failures, want the new refresh token", now.Intent, now.Failures)
	}
	w.wantAlive(ada.ID)
}

// Close stores what it can, and then lets go of the lease: whoever comes next waits for nothing.
func TestUnsavedClose(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]bool{"the store is back": true, "the store stays away": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.rotate()
			ada := w.expired()
			engine, store := w.unsaved(ada.ID)
			store.full.Store(!back)
			if err := engine.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
			w.engine = w.process("next", nil, 0)
			if back { // the clock stands still, so a lease would never end
				w.mustToken("u", ada.ID)
				w.wantRefreshes("in all", 1)
				w.wantAlive(ada.ID)
				return
			}
			got := w.afterLease(w.begunToken(w.engine, ada.ID))
			w.wantErr("an answer that was lost with its process", got.err, core.ErrReconnect)
			if now := w.credential("u", ada.ID); now.LastFailure != core.FailureIndeterminate {
				t.Errorf("last failure = %s, want %s", now.LastFailure, core.FailureIndeterminate)
			}
		})
	}
}

// Who connects the account anew in another process has brought what counts.
func TestUnsavedReconnectedElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.expired()
	engine, store := w.unsaved(ada.ID)
	w.engine = w.process("other", nil, 0)
	w.clock.Advance(time.Second)
	w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID})
	connected := w.stored("u", ada.ID)
	store.full.Store(false)
	w.wantSaved(engine, ada.ID)
	now := w.stored("u", ada.ID)
	if !now.AccessToken.Equal(connected.AccessToken) || !now.RefreshToken.Equal(connected.RefreshToken) {
		t.Error("an older answer was written over the new consent")
	}
	w.clock.Advance(2 * time.Hour)
	w.wantAlive(ada.ID)
}

// Disconnecting an account whose token lives in memory ends that too.
func TestUnsavedDisconnected(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.expired()
	engine, store := w.unsaved(ada.ID)
	w.engine = w.process("other", nil, 0)
	if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: ada.ID}); err != nil {
		t.Fatal(w.note(err))
	}
	store.full.Store(false)
	w.wantSaved(engine, ada.ID)
	_, err := w.tokenOf(engine, ada.ID)
	w.wantErr("a token of an account that is gone", err, core.ErrNotFound)
	w.mustConnect("u", "ada", core.ConnectInput{})
}
