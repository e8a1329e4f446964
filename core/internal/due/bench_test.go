package due_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/storage/badger"
)

// BenchmarkPass tells what passes cost over a Badger store with 1,000,000 entries, of which 1 % comes due each minute:
// in each metric the median of several passes, or the one that there is. "alone" is a store that holds nothing but that
// 1 %; "drained" is when half of all entries came due, and others removed them.
func BenchmarkPass(b *testing.B) {
	const (
		n    = 1_000_000
		each = n / 100 // due in each minute
	)
	at := func(i int) due.Minute { return first + 1 + due.Minute(i/each) }
	add := func(i int) (from, to due.Minute) { return 0, at(i) }
	for range b.N {
		alone := newBench(b)
		alone.minutes("alone", each, func(i int) {
			alone.moves(b, i*each, (i+1)*each, add) // nothing else is there
		})

		p := newBench(b)
		p.moves(b, 0, n, add)
		p.minutes("1%", each, nil)
		p.report("idle-minute", p.time(0, time.Minute/2, p.Scanner)) // in which only the mark is looked after
		p.report("same-minute", p.time(0, 0, p.Scanner))

		p.now = p.now.Add(51 * time.Minute)
		from := (passes + 1) * each
		p.moves(b, from, from+n/2, func(i int) (from, to due.Minute) { return at(i), 0 })
		p.report("drained", p.time(-1, 0, p.Scanner))
		p.minutes("1%-drained", each, nil)
		p.report("drained-new-process", p.time(-1, time.Minute, p.Queue.Scanner(nil)))
		p.fail()
		p.report("drained-whole", p.time(-1, 0, p.Scanner))
		from += n/2 + (passes+2)*each
		p.moves(b, from, n, func(i int) (from, to due.Minute) { return at(i), 0 })
		p.minutes("all-ahead-drained", 0, nil)
		began := time.Now()
		if _, err := p.Oldest(b.Context(), p.now); err != nil {
			b.Fatal(err)
		}
		p.report("oldest", time.Since(began))
	}
	b.ReportMetric(0, "ns/op") // a story has none
}

// passes is how many are measured for a median.
const passes = 5

// bench is a process over a store on disk.
type bench struct {
	*process
	b *testing.B
}

func newBench(b *testing.B) bench {
	b.Helper()
	store, err := badger.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Errorf("Close() = %v, want nil", err)
		}
	})
	p := bench{newWorld(b, store).process(b), b}
	p.pass(b, ignored) // over everything, which is nothing yet
	return p
}

// minutes measures the passes of so many minutes, each of which shows so many entries; they are removed after each.
func (p bench) minutes(name string, shows int, before func(i int)) {
	p.b.Helper()
	var times []time.Duration
	for i := range passes {
		if before != nil {
			before(i)
		}
		times = append(times, p.time(shows, time.Minute, p.Scanner))
	}
	slices.Sort(times)
	p.report(name, times[passes/2])
}

// fail makes the next pass one over everything.
func (p bench) fail() {
	p.b.Helper()
	p.now = p.now.Add(time.Minute)
	err := p.Pass(p.b.Context(), p.now, func(context.Context, []due.Entry) ([]due.Entry, error) { return nil, errDown })
	if !errors.Is(err, errDown) {
		p.b.Fatalf("Pass() = %v, want %v", err, errDown)
	}
}

func (p bench) report(name string, d time.Duration) {
	p.b.ReportMetric(float64(d.Microseconds())/1000, name+"-ms")
}

// time measures one pass when some time has gone by. It wants it to show so many entries (-1: any), and removes them.
func (p bench) time(shows int, after time.Duration, s *due.Scanner) time.Duration {
	p.b.Helper()
	p.now = p.now.Add(after)
	var shown []due.Entry
	began := time.Now()
	err := s.Pass(p.b.Context(), p.now, func(_ context.Context, page []due.Entry) ([]due.Entry, error) {
		shown = append(shown, page...)
		return nil, nil
	})
	took := time.Since(began)
	if err != nil || (shows >= 0 && len(shown) != shows) {
		p.b.Fatalf("Pass() = %v, and showed %d entries, want %d", err, len(shown), shows)
	}
	for part := range slices.Chunk(shown, 200) {
		tx := p.db.Begin(p.b.Context())
		for _, e := range part {
			p.Move(tx, e.At, 0, e.Key...)
		}
		if err := tx.Commit(p.b.Context()); err != nil {
			p.b.Fatal(err)
		}
	}
	return took
}
