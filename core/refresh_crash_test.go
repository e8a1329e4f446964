package core_test

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

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
	spy := &spyStore{Store: w.store}
	other := w.process("other", spy, 0)
	second := w.begunAndWaiting(spy, other, ada.ID)
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
