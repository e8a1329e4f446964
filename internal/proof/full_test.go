//go:build long

package proof_test

import (
	"errors"
	"testing"
	"time"

	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
)

// TestFull lets the disk under a Badger store fill up, before refreshes and while the provider holds them. Tokens that
// are valid are handed out all the time, a refresh that could not be written down is not begun, an answer that came all
// the same is handed out and kept, and when there is room again nothing is lost, also after a restart.
func TestFull(t *testing.T) {
	t.Parallel()
	began := time.Now()
	const accounts, rounds = 20, 10
	h := newHouse(t, "full", rotating, nil)
	on := h.setup(onBadger, t.TempDir())
	h.found(on, 0)
	var all []account
	h.inside(on, func(a *agent) {
		for range accounts {
			c := h.somebody()
			var err error
			if c.Credential, err = a.connect(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
	})
	served, refused, kept := 0, 0, 0
	for round := range rounds {
		on.Offset = time.Duration(h.clock.offset.Load())
		h.inside(on, func(a *agent) {
			move := func(d time.Duration) {
				h.advance(d)
				_, _ = a.setTime(t.Context(), time.Duration(h.clock.offset.Load()))
			}
			tokens := func(when string) {
				t.Helper()
				for _, c := range all {
					asked := time.Now()
					got, err := a.token(t.Context(), h.use(c))
					took := time.Since(asked)
					if err != nil || got.Whose != c.Login || took > 5*time.Second {
						t.Errorf("round %d: token %s = for %q, %v, after %v, want for %q, soon", round, when, got.Whose, err, took, c.Login)
						continue
					}
					served++
				}
			}
			tokens("with room")
			a.full.Store(true)
			before := h.provider.Calls().Refresh
			tokens("without room, valid")
			move(lifetime * 85 / 100) // due, and still valid
			tokens("without room, due")
			move(lifetime) // over
			for _, c := range all {
				if _, err := a.token(t.Context(), h.use(c)); !errors.Is(err, storage.ErrFull) {
					t.Errorf("round %d: token that has ended, without room = %v, want ErrFull", round, err)
					continue
				}
				refused++
			}
			if calls := h.provider.Calls().Refresh - before; calls != 0 {
				t.Errorf("round %d: %d provider calls whose beginning could not be written down, want none", round, calls)
			}

			// The room ends between the question and the answer.
			a.full.Store(false)
			h.provider.Set(func(sw *coretest.Switches) { sw.Refresh.Hold = true })
			type outcome struct {
				c   account
				got handed
				err error
			}
			outcomes := make(chan outcome, accounts)
			for _, c := range all {
				go func() {
					got, err := a.token(t.Context(), h.use(c))
					outcomes <- outcome{c, got, err}
				}()
			}
			h.waitCalls(func(c coretest.Calls) bool { return c.Waiting == accounts })
			a.full.Store(true)
			h.provider.Set(func(sw *coretest.Switches) { sw.Refresh.Hold = false })
			for range accounts {
				if o := <-outcomes; o.err != nil || o.got.Whose != o.c.Login {
					t.Errorf("round %d: token that could not be stored = for %q, %v, want for %q", round, o.got.Whose, o.err, o.c.Login)
				}
				kept++
			}
			a.full.Store(false)
			if err := coretest.Step(a.engine); err != nil {
				t.Errorf("round %d: Step() with room again = %v, want nil", round, err)
			}
			if round%2 == 0 { // else what was kept is spent by the process that comes next
				move(2 * lifetime)
				tokens("with room again")
			}
		})
	}
	on.Offset = time.Duration(h.clock.offset.Load())
	h.inside(on, func(a *agent) {
		for _, c := range all {
			if got, err := a.token(t.Context(), h.use(c)); err != nil || got.Whose != c.Login {
				t.Errorf("token in the end = for %q, %v, want for %q", got.Whose, err, c.Login)
			}
		}
	})
	figures.say(t, began, "%d accounts on a full Badger store, %d times: %d valid tokens handed out, %d refreshes not begun, "+
		"%d answers kept until there was room, lost = 0", accounts, rounds, served, refused, kept)
}
