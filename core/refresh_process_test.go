package core_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
)

// What several processes make of one store. Each is an engine of another run of the program, with a clock of its own.

var errGone = errors.New("the process is gone")

// mortal is the store as one process sees it, until that dies.
type mortal struct {
	storage.Store
	dead atomic.Bool
}

func (s *mortal) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if s.dead.Load() {
		return storage.Item{}, errGone
	}
	return s.Store.Get(ctx, key)
}

func (s *mortal) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	if s.dead.Load() {
		return nil, errGone
	}
	return s.Store.GetMany(ctx, keys)
}

func (s *mortal) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	if s.dead.Load() {
		return storage.Page{}, errGone
	}
	return s.Store.Scan(ctx, r)
}

func (s *mortal) Apply(ctx context.Context, b storage.Batch) error {
	if s.dead.Load() {
		return errGone
	}
	return s.Store.Apply(ctx, b)
}

// process opens an engine as another process does, on its own view of the world's store (nil: the store itself). Its
// clock is ahead of the world's by so much.
func (w *world) process(boot string, store storage.Store, ahead time.Duration) *core.Engine {
	w.Helper()
	opts := w.opts
	opts.Now = func() time.Time { return w.clock.Now().Add(ahead) }
	opts.Run(boot)
	if store == nil {
		store = w.store
	}
	engine, err := core.Open(w.Context(), store, w.keks, &opts)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = engine.Close() })
	return engine
}

// crash has a process die while it refreshes a credential: its intent is written, and its lease stays. Spent says whether
// the provider did its part.
func (w *world) crash(credential string, spent bool) {
	w.Helper()
	store := &mortal{Store: w.store}
	engine := w.process("crashed", store, 0)
	w.refresh(coretest.Fault{Hold: true, WorkFirst: spent, Times: 1, Error: "server_error"})
	result := w.begunToken(engine, credential)
	w.held(1)
	store.dead.Store(true)
	w.refresh(coretest.Fault{})
	<-result
	engine.Settle("u", credential)
}

// afterLeaseSettled is afterLease for what runs behind calls.
func (w *world) afterLeaseSettled(engine *core.Engine, credential string) {
	w.Helper()
	done := make(begun, 1)
	go func() {
		engine.Settle("u", credential)
		done <- begunResult{}
	}()
	w.afterLease(done)
}

// begunAndWaiting is begunToken for a process that has to wait for another one: it has looked several times already.
func (w *world) begunAndWaiting(spy *spyStore, engine *core.Engine, credential string) begun {
	w.Helper()
	before := spy.reads.Load()
	result := w.begunToken(engine, credential)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for spy.reads.Load() < before+20 && len(result) == 0 {
		<-tick.C
	}
	return result
}

// declare says how the provider's refresh tokens behave.
func (w *world) declare(rotation core.Rotation, grace time.Duration) {
	w.Helper()
	w.change(func(in *core.Integration) {
		in.OAuth2.Refresh = core.RefreshTokens{Rotation: rotation, Grace: catalog.Duration(grace)}
	})
}

// tokenOf is the token of a credential as a process gets it.
func (w *world) tokenOf(engine *core.Engine, credential string) (core.Token, error) {
	token, err := engine.User("u").Token(w.Context(), core.Selector{Credential: credential})
	return token, w.note(err)
}

// A storm of callers in several processes makes one call.
func TestRefreshStorm(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), nil)
			w.rotate()
			ada := w.expired()
			engines := make([]*core.Engine, 4)
			for i := range engines {
				boot := "process " + strconv.Itoa(i)
				if name == "badger" { // several engines, but one process
					boot = ""
				}
				engines[i] = w.process(boot, nil, 0)
			}
			for round := 1; round <= 3; round++ {
				tokens := make([]core.Token, 64*len(engines))
				together(len(tokens), func(i int) {
					var err error
					if tokens[i], err = w.tokenOf(engines[i%len(engines)], ada.ID); err != nil {
						t.Error(err)
					}
				})
				for _, token := range tokens {
					if !token.Value.Equal(tokens[0].Value) {
						t.Fatal("not everybody got the same token")
					}
				}
				w.wantRefreshes("of a storm", round)
				if as := w.whose(tokens[0].Value.Reveal()); as != "ada@example.com" {
					t.Errorf("the token is %q's, want ada's", as)
				}
				w.clock.Advance(2 * time.Hour)
			}
		})
	}
}

// Somebody who connects an account anew in another process is not overruled by what the provider said of the token before.
func TestRefreshReconnectedElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	after := uint64(len(w.events(0)))
	w.clock.Advance(2 * time.Hour)
	w.refresh(coretest.Fault{Hold: true, Times: 1, Error: "invalid_grant"})
	result := w.begunToken(w.engine, ada.ID)
	w.held(1)
	w.engine = w.process("elsewhere", nil, 0)
	w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID})
	connected := w.stored("u", ada.ID)
	w.refresh(coretest.Fault{})
	if got := <-result; got.err != nil || !got.token.Value.Equal(connected.AccessToken) {
		t.Errorf("token = %+v, %v, want the one of the new consent", got.token, got.err)
	}
	for _, ev := range w.events(after) {
		if ev.Kind == core.EventInvalidated {
			t.Errorf("told: %s, though it was connected again", ev)
		}
	}
	w.wantAlive(ada.ID)
}

// Two answers to one refresh token, both good: who commits first wins, and everybody gets that one's token.
func TestRefreshAnsweredTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.declare(core.RotationSingleUse, 10*time.Minute)
	w.provider.Set(func(sw *coretest.Switches) { sw.Rotate, sw.ReuseRevokes, sw.GraceWindow = true, true, 10*time.Minute })
	ada := w.expired()
	w.refresh(coretest.Fault{Hold: true, WorkFirst: true, Times: 1})
	slow := w.begunToken(w.engine, ada.ID)
	w.held(1)
	other := w.process("other", nil, 0)
	winner := w.afterLease(w.begunToken(other, ada.ID))
	stored := w.stored("u", ada.ID)
	w.refresh(coretest.Fault{})
	loser := <-slow
	if winner.err != nil || loser.err != nil || !winner.token.Value.Equal(loser.token.Value) {
		t.Errorf("tokens = %+v, %v and %+v, %v, want the same", winner.token, winner.err, loser.token, loser.err)
	}
	w.wantRefreshes("of both", 2)
	if now := w.stored("u", ada.ID); !now.RefreshToken.Equal(stored.RefreshToken) || !now.AccessToken.Equal(stored.AccessToken) {
		t.Error("the answer that came late was written over the first")
	}
	w.wantAlive(ada.ID)
}
