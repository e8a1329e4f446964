package due_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/due"
)

// moves commits the moves of keys lo up to hi, many in each transaction and many transactions at a time.
func (p *process) moves(t testing.TB, lo, hi int, move func(i int) (from, to due.Minute)) {
	t.Helper()
	const each = 100
	var next atomic.Int64
	next.Store(int64(lo))
	var moving sync.WaitGroup
	for range 64 {
		moving.Go(func() {
			for lo := int(next.Add(each)) - each; lo < hi; lo = int(next.Add(each)) - each {
				tx := p.db.Begin(t.Context())
				for i := lo; i < min(lo+each, hi); i++ {
					from, to := move(i)
					p.Move(tx, from, to, "user", fmt.Sprintf("%036d", i))
				}
				if err := tx.Commit(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	moving.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// A pass costs what is due. The store here counts each key that one which keeps removed keys, as Badger does, walks over.
func TestCost(t *testing.T) {
	t.Parallel()
	const (
		n       = 100_000
		minutes = 100 // so 1 % is due in each
		each    = n / minutes
		drained = 50 * each
	)
	w := newMemory(t)
	p, other := w.process(t), w.process(t)
	w.bury()
	at := func(i int) due.Minute { return first + 1 + due.Minute(i/each) }
	other.moves(t, 0, n, func(i int) (from, to due.Minute) { return 0, at(i) })
	w.count()

	var last time.Time
	// cost is one pass that shows so many entries; all are moved behind the rest then.
	cost := func(when string, shows, maxDead int) {
		t.Helper()
		got := p.pass(t, ignored)
		pages, keys, dead, _ := w.count()
		t.Logf("%-60s %3d pages, %5d keys, %5d removed keys", when, pages, keys, dead)
		maxPages := 2 + shards + shows/page + shows/(each/shards)
		if p.now.Equal(last) {
			maxPages = 0
		}
		last = p.now
		if len(got) != shows || keys != shows || pages > maxPages || dead > maxDead {
			t.Errorf("%s: shown %d, %d pages, %d keys, %d removed ones, want %d, at most %d, %d, at most %d",
				when, len(got), pages, keys, dead, shows, maxPages, shows, maxDead)
		}
		for _, e := range got {
			other.move(t, e.At, first+500, e.Key...)
		}
		w.count()
	}
	cost("nothing is due", 0, 0)
	cost("the same minute again", 0, 0)
	for i := range 5 {
		p.now = p.now.Add(time.Minute)
		cost(fmt.Sprintf("1 %% is due, minute %d", i+1), each, each)
	}
	cost("the same minute again", 0, 0)

	// Half of all comes due while nobody looks, and is disabled or moved by others before anybody does.
	p.now = p.now.Add(51 * time.Minute)
	other.moves(t, 5*each, 5*each+drained, func(i int) (from, to due.Minute) {
		if i%2 == 0 {
			return at(i), 0
		}
		return at(i), first + 600
	})
	w.count()
	cost("50 % were drained, 1 % is due", each, each+drained)
	cost("the same minute again", 0, 0)
	for i := range 3 {
		p.now = p.now.Add(time.Minute)
		cost(fmt.Sprintf("after that, 1 %% is due, minute %d", i+1), each, each)
	}

	// A process that starts now does not walk over them either, once the mark is behind them.
	for range 17 {
		p.now = p.now.Add(time.Minute)
		p.pass(t, p.done(t))
	}
	p = w.restart(t, p)
	w.count()
	last = time.Time{}
	cost("a new process", 0, 17*each)
	p.now = p.now.Add(time.Minute)
	cost("its next minute", each, each)

	// Removed keys ahead are nobody's business before their time.
	other.moves(t, 80*each, n, func(i int) (from, to due.Minute) { return at(i), 0 })
	w.count()
	p.now = p.now.Add(time.Minute)
	cost("20 % ahead were drained", each, each)
}
