package core_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
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

// What a process leaves that died between its intent and its commit, another one goes on with.
func TestRefreshAfterCrash(t *testing.T) {
	t.Parallel()
	const grace = 10 * time.Minute
	for _, tt := range []struct {
		name     string
		rotation core.Rotation
		grace    time.Duration
		spent    bool
		works    bool
	}{
		{"never rotating", core.RotationNever, 0, true, true},
		{"rotating with a grace window", core.RotationSingleUse, grace, true, true},
		{"rotating, spent", core.RotationSingleUse, 0, true, false},
		{"rotating, not spent", core.RotationSingleUse, 0, false, true},
		{"nothing is declared, spent", "", 0, true, false},
		{"nothing is declared, within a grace window", "", grace, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.declare(tt.rotation, tt.grace)
			w.provider.Set(func(sw *coretest.Switches) {
				sw.Rotate, sw.ReuseRevokes, sw.GraceWindow = tt.rotation != core.RotationNever, true, tt.grace
			})
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			after := uint64(len(w.events(0)))
			w.clock.Advance(2 * time.Hour)
			w.crash(ada.ID, tt.spent)
			left := w.credential("u", ada.ID)
			if !left.Refreshing || left.RefreshFailures != 0 || left.Status != core.StatusValid {
				t.Errorf("credential after the crash = %+v, want a refresh under way", left)
			}
			next := w.process("next", nil, 0)
			got := w.afterLease(w.begunToken(next, ada.ID))
			w.wantRefreshes("of both", 2)
			told := w.events(after)
			if tt.works {
				if got.err != nil || w.whose(got.token.Value.Reveal()) != "ada@example.com" {
					t.Errorf("token = %+v, %v, want one of ada", got.token, got.err)
				}
				if len(told) != 0 {
					t.Errorf("events = %v, want none", told)
				}
				w.engine = next
				w.wantAlive(ada.ID)
				return
			}
			w.wantErr("a refresh token whose successor was lost", got.err, core.ErrReconnect)
			now := w.credential("u", ada.ID)
			if now.Status != core.StatusInvalid || now.LastFailure != core.FailureIndeterminate || now.FailureCode != "invalid_grant" || now.Refreshing {
				t.Errorf("credential = %+v, want INVALID, because an answer was lost", now)
			}
			if len(told) != 1 || told[0].Kind != core.EventInvalidated || told[0].Result != "invalid_grant" || told[0].Details["lost"] != "refresh_token" {
				t.Errorf("events = %v, want one that says that the refresh token was lost", told)
			}
			w.engine = next
			w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID})
			w.wantAlive(ada.ID)
		})
	}
}

// Where a refresh token that was perhaps spent must not come again, a token that is still good is used to its end first.
// That costs no writes. A provider that refuses the token has ended it.
func TestRefreshPutOff(t *testing.T) {
	t.Parallel()
	for _, spent := range []bool{true, false} {
		for _, unauthorized := range []bool{true, false} {
			t.Run("spent "+strconv.FormatBool(spent)+", unauthorized "+strconv.FormatBool(unauthorized), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil, nil)
				w.declare(core.RotationSingleUse, 0)
				w.rotate()
				ada := w.mustConnect("u", "ada", core.ConnectInput{})
				w.clock.Advance(49*time.Minute + 15*time.Second) // due, and good by every clock
				w.crash(ada.ID, spent)

				var writes atomic.Int64
				spy := &spyStore{Store: w.store}
				spy.intercept(func(_ storage.Batch, next func() error) error {
					writes.Add(1)
					return next()
				})
				w.engine = w.process("next", spy, 0)
				w.mustToken("u", ada.ID)
				w.afterLeaseSettled(w.engine, ada.ID)
				got := w.credential("u", ada.ID)
				if got.Status != core.StatusValid || got.RefreshFailures != 1 || got.LastFailure != core.FailureIndeterminate || got.Refreshing {
					t.Errorf("credential = %+v, want it VALID, and to say that an answer was lost", got)
				}
				writes.Store(0)
				for range 3 {
					w.mustToken("u", ada.ID)
					w.engine.Settle("u", ada.ID)
				}
				if n := writes.Load(); n != 0 {
					t.Errorf("%d writes for a refresh that is put off, want none", n)
				}
				w.wantRefreshes("while the token is good", 1)

				if unauthorized {
					w.unauthorized(1)
					_, _ = w.me(w.client(ada.ID))
				} else {
					w.clock.Advance(time.Hour)
					_, _ = w.token("u", ada.ID)
				}
				w.wantRefreshes("once it was not", 2)
				if spent {
					if now := w.credential("u", ada.ID); now.Status != core.StatusInvalid || now.LastFailure != core.FailureIndeterminate {
						t.Errorf("credential = %+v, want INVALID, because an answer was lost", now)
					}
					return
				}
				w.wantAlive(ada.ID)
			})
		}
	}
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

// offsets are by how much the clocks of two processes are ahead.
var offsets = map[string][2]time.Duration{
	"the same":     {0, 0},
	"first ahead":  {5 * time.Minute, -5 * time.Minute},
	"first behind": {-5 * time.Minute, 5 * time.Minute},
}

// Clocks that differ change nothing: one call for each expiry, and never a token that has ended.
func TestRefreshClocksDiffer(t *testing.T) {
	t.Parallel()
	const span = 12 * time.Hour
	for name, ahead := range offsets {
		for _, lifetime := range []time.Duration{time.Hour, 30 * time.Minute} {
			t.Run(name+", "+lifetime.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil, nil)
				w.provider.Set(func(sw *coretest.Switches) {
					sw.Rotate, sw.ReuseRevokes = true, true
					sw.ExpiresIn = coretest.ExpiresIn(strconv.Itoa(int(lifetime / time.Second)))
				})
				engines := []*core.Engine{w.process("one", nil, ahead[0]), w.process("two", nil, ahead[1])}
				w.engine = engines[0]
				ada := w.mustConnect("u", "ada", core.ConnectInput{})
				issued := map[string]time.Time{w.stored("u", ada.ID).AccessToken.Reveal(): w.clock.Now()}
				for end := w.clock.Now().Add(span); w.clock.Now().Before(end); w.clock.Advance(30 * time.Second) {
					for i, engine := range engines {
						token, err := w.tokenOf(engine, ada.ID)
						engine.Settle("u", ada.ID)
						if stored := w.stored("u", ada.ID).AccessToken.Reveal(); issued[stored].IsZero() {
							issued[stored] = w.clock.Now()
						}
						if age := w.clock.Now().Sub(issued[token.Value.Reveal()]); err != nil || age >= lifetime {
							t.Fatalf("process %d: a token that is %v old, %v, want one that is still good", i+1, age, err)
						}
					}
				}
				refreshes := w.provider.Calls().Refresh
				t.Logf("%d refreshes in %v", refreshes, span)
				if most := int(span / (lifetime / 2)); refreshes > most || refreshes < int(span/lifetime) {
					t.Errorf("%d refreshes in %v, want at most %d", refreshes, span, most)
				}
				if got := w.credential("u", ada.ID); got.Status != core.StatusValid || got.RefreshFailures != 0 {
					t.Errorf("credential = %+v, want no trace of a failure", got)
				}
			})
		}
	}
}

// A pause that one process began lasts as long for another whose clock differs, and not much longer for one that sees it
// late.
func TestRefreshPauseOfAnother(t *testing.T) {
	t.Parallel()
	const wait = 90 * time.Second
	limited := func(seconds string) coretest.Fault {
		return coretest.Fault{Garbage: &coretest.Garbage{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": seconds}}}
	}
	for name, ahead := range offsets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			one, two := w.process("one", nil, ahead[0]), w.process("two", nil, ahead[1])
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.clock.Advance(2 * time.Hour)
			w.refresh(limited("90"))
			for _, left := range []time.Duration{wait, time.Second, time.Millisecond} {
				w.clock.Advance(wait - left - w.clock.Now().Sub(ada.Created.Add(2*time.Hour)))
				for i, engine := range []*core.Engine{one, two} {
					_, err := w.tokenOf(engine, ada.ID)
					var failed *core.ProviderError
					if !errors.As(err, &failed) || failed.Class != core.FailureRateLimited || failed.RetryAfter != left {
						t.Errorf("process %d with %v left = %+v, want it to wait for as long", i+1, left, failed)
					}
				}
			}
			w.wantRefreshes("in the pause", 1)
			w.refresh(coretest.Fault{})
			w.clock.Advance(time.Millisecond)
			if _, err := w.tokenOf(two, ada.ID); err != nil {
				t.Errorf("the other one after the pause: %v", err)
			}
			if _, err := w.tokenOf(one, ada.ID); err != nil {
				t.Errorf("who began it, after the pause: %v", err)
			}
			w.wantRefreshes("in all", 2)

			w.clock.Advance(2 * time.Hour)
			w.refresh(limited("86400"))
			if _, err := w.tokenOf(one, ada.ID); err == nil {
				t.Error("a token in spite of a limit")
			}
			w.refresh(coretest.Fault{})
			w.clock.Advance(23 * time.Hour)
			late := w.process("late", nil, 0)
			_, err := w.tokenOf(late, ada.ID)
			var failed *core.ProviderError
			if !errors.As(err, &failed) || failed.RetryAfter < 55*time.Minute || failed.RetryAfter > 75*time.Minute {
				t.Errorf("who comes an hour before the end = %v, want it to wait for that hour", failed)
			}
			w.clock.Advance(75 * time.Minute)
			if _, err := w.tokenOf(late, ada.ID); err != nil {
				t.Errorf("after that: %v", err)
			}
		})
	}
}

// However often a provider refuses tokens, and whoever asks: one forced refresh in each interval.
func TestRefreshForcedOnce(t *testing.T) {
	t.Parallel()
	for name, ahead := range offsets {
		for _, interval := range []time.Duration{0, 5 * time.Minute} {
			t.Run(name+", "+interval.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil, nil)
				w.provider.Set(func(sw *coretest.Switches) { sw.Rotate, sw.ReuseRevokes = true, true })
				w.change(func(in *core.Integration) { in.OAuth2.Refresh.MinInterval = catalog.Duration(interval) })
				each := max(interval, time.Minute)
				one, two := w.process("one", nil, ahead[0]), w.process("two", nil, ahead[1])
				ada := w.mustConnect("u", "ada", core.ConnectInput{})
				w.clock.Advance(30 * time.Minute)
				w.unauthorized(-1)
				var clients []*http.Client
				for i := range 4 {
					client, err := []*core.Engine{one, two}[i%2].User("u").Client(t.Context(), core.Selector{Credential: ada.ID})
					if err != nil {
						t.Fatal(err)
					}
					clients = append(clients, client)
				}
				const steps, step = 60, 10 * time.Second
				last, at := 0, time.Time{}
				for range steps {
					together(len(clients), func(i int) {
						resp, err := clients[i].Do(w.request(http.MethodGet, w.provider.APIURL()+"/me", nil))
						if err != nil {
							t.Error(w.note(err))
							return
						}
						_ = resp.Body.Close()
						if resp.StatusCode != http.StatusUnauthorized {
							t.Errorf("status = %d, want the 401 to be passed on", resp.StatusCode)
						}
					})
					if now := w.provider.Calls().Refresh; now != last {
						if now != last+1 || !at.IsZero() && w.clock.Now().Sub(at) < each {
							t.Errorf("%d forced refreshes %v after the last, want one each %v", now-last, w.clock.Now().Sub(at), each)
						}
						last, at = now, w.clock.Now()
					}
					w.clock.Advance(step)
				}
				if least := int(steps * step / each / 2); last < least {
					t.Errorf("%d forced refreshes in %v, want at least %d", last, steps*step, least)
				}
				w.unauthorized(0)
				w.engine = one
				w.wantAlive(ada.ID)
			})
		}
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

// A process whose lease was taken over between the lease and the intent spends nothing.
func TestRefreshLeaseLostBeforeIntent(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before its intent", "after its intent"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.rotate()
			ada := w.expired()
			spy := &spyStore{Store: w.store}
			suspended := w.process("suspended", spy, 0)
			reached, goOn, tried := make(chan struct{}), make(chan struct{}), make(chan struct{})
			spy.intercept(func(b storage.Batch, next func() error) error {
				if !touches(b, 'c') {
					return next()
				}
				spy.intercept(nil)
				close(reached)
				<-goOn
				defer close(tried)
				return next()
			})
			first := w.begunToken(suspended, ada.ID)
			<-reached

			// The other one takes over, and gets to where it is about to write its intent, or asks the provider.
			spied := &spyStore{Store: w.store}
			leased, intend := make(chan struct{}), make(chan struct{})
			spied.intercept(func(b storage.Batch, next func() error) error {
				if touches(b, 'c') && when == "before its intent" {
					spied.intercept(nil)
					close(leased)
					<-intend
				}
				return next()
			})
			w.refresh(coretest.Fault{Hold: true})
			second := w.begunToken(w.process("other", spied, 0), ada.ID)
			arrived := make(begun, 1)
			go func() {
				if when == "before its intent" {
					<-leased
				} else if err := w.provider.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.Waiting == 1 }); err != nil {
					t.Error(err)
				}
				arrived <- begunResult{}
			}()
			w.afterLease(arrived)
			close(goOn)
			if <-tried; when == "before its intent" {
				close(intend)
			}
			w.held(1)
			w.refresh(coretest.Fault{})
			one, two := <-first, <-second
			if one.err != nil || two.err != nil || !one.token.Value.Equal(two.token.Value) {
				t.Errorf("tokens = %+v, %v and %+v, %v, want the same", one.token, one.err, two.token, two.err)
			}
			w.wantRefreshes("of both", 1)
			w.wantAlive(ada.ID)
		})
	}
}

// touches reports whether a batch puts a record of that table.
func touches(b storage.Batch, tag byte) bool {
	for _, put := range b.Puts {
		if put.Key[0] == tag {
			return true
		}
	}
	return false
}

// A lease that nobody can say of whether it was taken is taken, or is in nobody's way.
func TestRefreshLeaseUnknown(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{true, false} {
		t.Run("applied "+strconv.FormatBool(applied), func(t *testing.T) {
			t.Parallel()
			spy := &spyStore{Store: memory.New()}
			w := newWorld(t, spy, nil)
			w.rotate()
			ada := w.expired()
			spy.intercept(func(b storage.Batch, next func() error) error {
				if !touches(b, 'v') {
					return next()
				}
				spy.intercept(nil)
				if applied {
					return errors.Join(next(), storage.ErrUnknownOutcome)
				}
				return storage.ErrUnknownOutcome
			})
			_, err := w.token("u", ada.ID)
			if applied && err != nil {
				t.Errorf("token = %v, want the lease to be found", err)
			} else if !applied {
				w.wantErr("a lease that was not taken", err, storage.ErrUnknownOutcome)
				w.wantRefreshes("without a lease", 0)
			}
			w.wantAlive(ada.ID)
		})
	}
}

// Close does not wait for another process, and who waits with it is told.
func TestCloseWhileAnotherRefreshes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.expired()
	w.refresh(coretest.Fault{Hold: true})
	first := w.begunToken(w.engine, ada.ID)
	w.held(1)
	other := w.process("other", nil, 0)
	seen := w.stored("u", ada.ID)
	other.RefreshBehind(t.Context(), "u", &seen) // certainly under way when Close is called
	second := w.begunToken(other, ada.ID)
	if err := other.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	got := <-second
	w.wantErr("who waited", got.err, core.ErrClosed)
	w.wantRefreshes("of both", 1)
	w.refresh(coretest.Fault{})
	if got := <-first; got.err != nil {
		t.Errorf("the one that refreshes: %v", got.err)
	}
	w.wantAlive(ada.ID)
}
