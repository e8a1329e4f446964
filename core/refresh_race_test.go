package core_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// Two engines on one store refresh a token once: the second one waits for the first.
func TestRefreshTwoEngines(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), nil)
			w.rotate()
			ada := w.expired()
			w.refresh(coretest.Fault{Hold: true})
			first := w.begunToken(w.engine, ada.ID)
			w.held(1)
			second := w.begunToken(w.open(), ada.ID)
			w.refresh(coretest.Fault{})
			one, two := <-first, <-second
			if one.err != nil || two.err != nil || !one.token.Value.Equal(two.token.Value) {
				t.Errorf("tokens = %+v, %v and %+v, %v, want the same", one.token, one.err, two.token, two.err)
			}
			w.wantRefreshes("of two engines", 1)
			w.wantAlive(ada.ID)
		})
	}
}

// afterLease returns what is begun while another engine keeps the lease and does not renew it, as one that is suspended.
// The clock moves slowly enough for who waits to look often, as it has to.
func (w *world) afterLease(result begun) begunResult {
	w.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case r := <-result:
			return r
		case <-tick.C:
			w.clock.Advance(500 * time.Millisecond)
		}
	}
}

// A lease is no lock: an engine that was suspended comes back beside the one that took its work over.
func TestRefreshStolen(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("the loser is refused", func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, open(t), nil)
				w.provider.Set(func(sw *coretest.Switches) { sw.Rotate = true })
				ada := w.expired()
				w.refresh(coretest.Fault{Hold: true, Times: 1})
				slow := w.begunToken(w.engine, ada.ID)
				w.held(1)
				winner := w.afterLease(w.begunToken(w.open(), ada.ID))
				w.refresh(coretest.Fault{})
				loser := <-slow
				if winner.err != nil || loser.err != nil || !winner.token.Value.Equal(loser.token.Value) {
					t.Errorf("tokens = %+v, %v and %+v, %v, want the same", winner.token, winner.err, loser.token, loser.err)
				}
				w.wantRefreshes("of two engines", 2)
				w.wantAlive(ada.ID)
			})
			t.Run("the loser fails", func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, open(t), nil) // the refresh token does not rotate, so it does not tell that somebody won
				ada := w.expired()
				fault := garbage(500, "", "")
				fault.Hold, fault.Times = true, 1
				w.refresh(fault)
				slow := w.begunToken(w.engine, ada.ID)
				w.held(1)
				winner := w.afterLease(w.begunToken(w.open(), ada.ID))
				w.refresh(coretest.Fault{})
				loser := <-slow
				if winner.err != nil || loser.err != nil || !winner.token.Value.Equal(loser.token.Value) {
					t.Errorf("tokens = %+v, %v and %+v, %v, want the same", winner.token, winner.err, loser.token, loser.err)
				}
				w.wantAlive(ada.ID)
			})
			t.Run("the winner is slow", func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, open(t), nil)
				w.provider.Set(func(sw *coretest.Switches) { sw.Rotate = true })
				ada := w.expired()
				w.refresh(coretest.Fault{Hold: true, WorkFirst: true, Times: 1})
				slow := w.begunToken(w.engine, ada.ID)
				w.held(1)
				loser := w.afterLease(w.begunToken(w.open(), ada.ID))
				if !errors.Is(loser.err, core.ErrReconnect) {
					t.Errorf("a spent refresh token: error %v, want %v", loser.err, core.ErrReconnect)
				}
				got, err := w.engine.User("u").Credential(t.Context(), core.Selector{Credential: ada.ID})
				if err != nil || got.Status != core.StatusInvalid || got.LastFailure != core.FailureIndeterminate {
					t.Errorf("credential = %s, %s, %v, want it to be invalid because an answer was lost", got.Status, got.LastFailure, err)
				}
				w.refresh(coretest.Fault{})
				if winner := <-slow; winner.err != nil || w.whose(winner.token.Value.Reveal()) != "ada@example.com" {
					t.Errorf("the only live token = %+v, %v, want ada's", winner.token, winner.err)
				}
				w.wantAlive(ada.ID)
			})
		})
	}
}

// Whatever the store does, the only live refresh token is not lost.
func TestRefreshStoreFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		times int
		fault func(next func() error) error
	}{
		{"full", 4, func(func() error) error { return storage.ErrFull }},
		{"unknown, and not applied", 3, func(func() error) error { return storage.ErrUnknownOutcome }},
		{"unknown, and applied", 1, func(next func() error) error { return errors.Join(next(), storage.ErrUnknownOutcome) }},
		{"a conflict", 3, func(func() error) error { return &storage.ConflictError{Key: []byte("x")} }},
		{"anything", 3, func(func() error) error { return errors.New("disk on fire") }},
	} {
		for _, rotate := range []bool{true, false} {
			t.Run(tt.name+", rotating "+strconv.FormatBool(rotate), func(t *testing.T) {
				t.Parallel()
				spy := &spyStore{Store: memory.New()}
				w := newWorld(t, spy, nil)
				w.provider.Set(func(sw *coretest.Switches) { sw.Rotate, sw.ReuseRevokes = rotate, true })
				ada := w.expired()
				w.refresh(coretest.Fault{Hold: true})
				result := w.begunToken(w.engine, ada.ID)
				w.held(1)
				left := tt.times
				spy.intercept(func(_ storage.Batch, next func() error) error {
					if left == 0 {
						return next()
					}
					left--
					return tt.fault(next)
				})
				w.refresh(coretest.Fault{})
				got := <-result
				if got.err != nil || w.whose(got.token.Value.Reveal()) != "ada@example.com" {
					t.Errorf("token = %+v, %v, want a live one of ada", got.token, got.err)
				}
				if left != 0 {
					t.Errorf("%d faults were not met", left)
				}
				w.wantRefreshes("over the faults", 1)
				if again := w.mustToken("u", ada.ID); !again.Value.Equal(got.token.Value) {
					t.Error("the token that is stored is another one than the one given out")
				}
				w.wantAlive(ada.ID)
			})
		}
	}
	t.Run("full before the provider is asked", func(t *testing.T) {
		t.Parallel()
		spy := &spyStore{Store: memory.New()}
		w := newWorld(t, spy, nil)
		w.rotate()
		ada := w.expired()
		spy.intercept(func(storage.Batch, func() error) error { return storage.ErrFull })
		_, err := w.token("u", ada.ID)
		w.wantErr("token on a full store", err, storage.ErrFull)
		w.wantRefreshes("that could not be stored", 0)
		spy.intercept(nil)
		w.wantAlive(ada.ID)
	})
	t.Run("a failure that cannot be written down", func(t *testing.T) {
		t.Parallel()
		spy := &spyStore{Store: memory.New()}
		w := newWorld(t, spy, nil)
		ada := w.expired()
		fault := garbage(500, "", "")
		fault.Hold = true
		w.refresh(fault)
		result := w.begunToken(w.engine, ada.ID)
		w.held(1)
		spy.intercept(func(storage.Batch, func() error) error { return storage.ErrFull })
		w.refresh(coretest.Fault{})
		if got := <-result; !errors.Is(got.err, core.ErrProvider) {
			t.Errorf("token = %v, want %v", got.err, core.ErrProvider)
		}
		spy.intercept(nil)
		w.wantAlive(ada.ID)
	})
	t.Run("connected again while it is marked as ended", func(t *testing.T) {
		t.Parallel()
		spy := &spyStore{Store: memory.New()}
		w := newWorld(t, spy, nil)
		w.provider.Set(func(sw *coretest.Switches) { sw.OmitRefreshTokenAtExchange = true })
		ada := w.expired()
		callback, err := w.begin("u", "ada", core.ConnectInput{Into: ada.ID})
		if err != nil {
			t.Fatal(err)
		}
		spy.intercept(func(_ storage.Batch, next func() error) error {
			spy.intercept(nil)
			if _, err := w.engine.Callback(t.Context(), callback); err != nil {
				t.Error(err)
			}
			return next()
		})
		if as, err := w.as("u", ada.ID); as != "ada@example.com" {
			t.Errorf("as = %q, %v, want the token that has just come", as, err)
		}
	})
}

func TestRefreshDisconnected(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]coretest.Fault{
		"it succeeds": {Hold: true},
		"it fails":    {Hold: true, Error: "temporarily_unavailable"},
		"it ended":    {Hold: true, Error: "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			ada := w.expired()
			w.refresh(fault)
			result := w.begunToken(w.engine, ada.ID)
			w.held(1)
			if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: ada.ID}); err != nil {
				t.Fatal(err)
			}
			w.refresh(coretest.Fault{})
			got := <-result
			w.wantErr("token of an account that is disconnected meanwhile", got.err, core.ErrNotFound)
			if !got.token.Value.IsZero() {
				t.Error("a token stands beside the error")
			}
			if left := w.list("u"); len(left) != 0 {
				t.Errorf("accounts = %v, want none", left)
			}
			_, err := w.engine.StoredCredential(t.Context(), "u", ada.ID)
			w.wantErr("the record", err, core.ErrNotFound)
			w.mustConnect("u", "ada", core.ConnectInput{})
		})
	}
}

// Somebody who connects an account anew while it is refreshed is not overruled by the refresh.
func TestRefreshReconnected(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]coretest.Fault{
		"it succeeds": {Hold: true, Times: 1},
		"it ended":    {Hold: true, Times: 1, Error: "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.rotate()
			ada := w.expired()
			w.refresh(fault)
			result := w.begunToken(w.engine, ada.ID)
			w.held(1)
			w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID})
			connected := w.stored("u", ada.ID)
			w.refresh(coretest.Fault{})
			if got := <-result; got.err != nil || !got.token.Value.Equal(connected.AccessToken) {
				t.Errorf("token = %+v, %v, want the one of the new consent", got.token, got.err)
			}
			if got := w.stored("u", ada.ID); !reflect.DeepEqual(got, connected) {
				t.Error("the refresh changed what the new consent stored")
			}
			w.wantAlive(ada.ID)
		})
	}
}

func TestCloseWaitsForRefreshes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.expired()
	u := w.engine.User("u")
	source, err1 := u.TokenSource(t.Context(), core.Selector{Credential: ada.ID})
	client, err2 := u.Client(t.Context(), core.Selector{Credential: ada.ID})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	w.refresh(coretest.Fault{Hold: true})
	result := w.begunToken(w.engine, ada.ID)
	w.held(1)
	seen := w.stored("u", ada.ID)
	closed := make(chan error, 1)
	go func() { closed <- w.engine.Close() }()
	for {
		if _, err := u.Credential(t.Context(), core.Selector{Credential: ada.ID}); errors.Is(err, core.ErrClosed) {
			break
		}
		runtime.Gosched()
	}
	select {
	case err := <-closed:
		t.Fatalf("Close = %v while a refresh is in flight, want it to wait", err)
	default:
	}
	w.refresh(coretest.Fault{})
	if err := <-closed; err != nil {
		t.Errorf("Close = %v", err)
	}
	got := <-result
	if got.err != nil {
		t.Errorf("the caller that waited = %v, want its token", got.err)
	}

	w.engine.RefreshBehind(t.Context(), "u", &seen)
	w.engine.Settle("u", ada.ID)
	w.wantRefreshes("after Close", 1)
	_, err := source.Token()
	w.wantErr("a token source", err, core.ErrClosed)
	_, err = u.Client(t.Context(), core.Selector{Credential: ada.ID})
	w.wantErr("a new client", err, core.ErrClosed)
	_, err = w.me(client)
	w.wantErr("a client", err, core.ErrClosed)
	if err := w.engine.Close(); err != nil {
		t.Errorf("Close again = %v", err)
	}

	w.engine = w.open()
	if again := w.mustToken("u", ada.ID); !again.Value.Equal(got.token.Value) {
		t.Error("what the refresh brought was not stored")
	}
	w.wantAlive(ada.ID)
}

// movedStore is a store that lies somewhere.
type movedStore struct {
	storage.Store
	place string
}

func (s *movedStore) Place() string { return s.place }

func TestSecurity22_NothingIsRefreshedInQuarantine(t *testing.T) {
	t.Parallel()
	store := &movedStore{memory.New(), "here"}
	w := newWorld(t, store, nil)
	w.rotate()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	store.place = "elsewhere"
	w.engine = w.open()
	if !w.engine.Quarantined() {
		t.Fatal("a store that was moved is not quarantined")
	}
	before := w.stored("u", ada.ID)

	w.clock.Advance(55 * time.Minute)
	if as, err := w.as("u", ada.ID); as != "ada@example.com" {
		t.Errorf("as with a valid token = %q, %v, want ada", as, err)
	}
	client, err := w.engine.User("u").Client(t.Context(), core.Selector{Credential: ada.ID})
	if err != nil {
		t.Fatal(err)
	}
	w.provider.Set(func(sw *coretest.Switches) { sw.Unauthorized = 1 })
	w.wantStatus("a 401", client, w.request(http.MethodGet, "/me", nil), http.StatusUnauthorized)
	w.clock.Advance(time.Hour)
	together(16, func(int) {
		_, err := w.token("u", ada.ID)
		w.wantErr("an ended token", err, core.ErrQuarantined)
	})
	_, err = w.me(client)
	w.wantErr("a client with an ended token", err, core.ErrQuarantined)
	w.engine.Settle("u", ada.ID)
	w.wantRefreshes("in quarantine", 0)
	if got := w.stored("u", ada.ID); !reflect.DeepEqual(got, before) {
		t.Error("a quarantined engine changed a credential")
	}

	w.opts.TakeOver = true
	w.engine = w.open()
	w.wantAlive(ada.ID)
}

// The context of a caller is not kept: its values serve the refresh, its end does not.
func TestRefreshContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(55 * time.Minute)
	w.refresh(coretest.Fault{Hold: true})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := w.engine.User("u").Token(ctx, core.Selector{Credential: ada.ID}); err != nil {
		t.Fatal(err)
	}
	w.held(1)
	cancel()
	w.refresh(coretest.Fault{})
	w.engine.Settle("u", ada.ID)
	if got := w.credential("u", ada.ID); !got.Refreshed.Equal(w.clock.Now()) {
		t.Errorf("refreshed at %v, want now (%v)", got.Refreshed, w.clock.Now())
	}
}
