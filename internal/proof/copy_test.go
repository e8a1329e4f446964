//go:build long

package proof_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
)

// TestCopy opens a copy of a store beside the original (security 22). The copy hands out tokens that are valid, and
// refreshes and revokes nothing, though its Run runs and everything is due; the original goes on undisturbed. A copy whose
// original is gone works once it was taken over.
func TestCopy(t *testing.T) {
	t.Run(onBadger, func(t *testing.T) {
		t.Parallel()
		copyIs(t, onBadger, filepath.Join(t.TempDir(), "original"), func(t *testing.T, place string) string {
			other := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(other, os.DirFS(place)); err != nil {
				t.Fatal(err)
			}
			return other
		})
	})
	t.Run(onPostgres, func(t *testing.T) {
		t.Parallel()
		copyIs(t, onPostgres, database(t), copyDatabase)
	})
}

// copyIs proves it for one kind of store. Copy copies a store that nobody has open.
func copyIs(t *testing.T, store, place string, copy func(t *testing.T, place string) string) {
	began := time.Now()
	const accounts = 20
	h := newHouse(t, "copied", rotating, nil)
	on := h.setup(store, place)
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
	beside := on
	beside.Place = copy(t, place)

	first, second := start(t, on), start(t, beside)
	h.wantQuarantine(first, false)
	h.wantQuarantine(second, true)
	must[nothing](second, "run", nothing{})
	before := h.provider.Calls()
	h.tokens(second, all) // valid
	h.advance(lifetime*85/100, first, second)
	h.tokens(second, all)                 // due, and still valid
	must[nothing](second, "step", 3)      // beside Run, so that it is certain that all tasks had their turn
	h.advance(lifetime*20, first, second) // over, and by then idle for long
	must[nothing](second, "step", 3)
	for i, c := range all {
		if _, err := ask[handed](t.Context(), second, "token", h.use(c)); !errors.Is(err, core.ErrQuarantined) {
			t.Errorf("token in the copy that has ended = %v, want ErrQuarantined", err)
		}
		if i%4 == 0 {
			must[nothing](second, "disconnect", c)
		}
	}
	must[nothing](second, "step", 3)
	if after := h.provider.Calls(); after.Refresh != before.Refresh || after.Revoke != before.Revoke {
		t.Errorf("the copy made %d refreshes and %d revocations, want none",
			after.Refresh-before.Refresh, after.Revoke-before.Revoke)
	}

	must[nothing](first, "run", nothing{})
	h.tokens(first, all)
	if calls := h.provider.Calls().Refresh - before.Refresh; calls != accounts {
		t.Errorf("%d refreshes of %d accounts in the original, want one each", calls, accounts)
	}
	first.end()
	second.end()

	restored := h.setup(store, copy(t, place))
	third := start(t, restored)
	h.wantQuarantine(third, true)
	third.end()
	restored.TakeOver = true
	taken := start(t, restored)
	h.wantQuarantine(taken, false)
	must[nothing](taken, "run", nothing{})
	h.advance(2*lifetime, taken)
	h.tokens(taken, all)
	taken.end()
	restored.TakeOver = false
	restored.Offset = time.Duration(h.clock.offset.Load())
	later := start(t, restored)
	h.wantQuarantine(later, false)
	later.end()
	figures.say(t, began, "a copy of %d accounts beside its original: 0 refreshes and 0 revocations by the copy, %d by the "+
		"original, all %d work after the take-over, lost = 0", accounts, accounts, accounts)
}

// wantQuarantine fails the test unless a process is in quarantine, or not.
func (h *house) wantQuarantine(p *process, want bool) {
	h.Helper()
	if got := must[bool](p, "quarantine", nothing{}); got != want {
		h.Errorf("Quarantined() = %v, want %v\n%s", got, want, p.tail())
	}
}

// tokens fails the test unless each account has a token in p that works.
func (h *house) tokens(p *process, all []account) {
	h.Helper()
	for _, c := range all {
		h.works(h.Context(), p, c)
	}
}
