package eventlog_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/sealed"
)

// The benchmarks show what an event costs whoever causes it: 256 goroutines that each write, the same with an event in
// the same Apply, and the same while a sequencer moves the events, as an engine does. What they write is one small record,
// so that the event is most of it; or what connecting an account writes, so that it is a part.

// BenchmarkWriters writes no events.
func BenchmarkWriters(b *testing.B) { benchmarkWriters(b, nothing) }

// BenchmarkWritersWithRecord writes another record in place of the event: what any second record costs.
func BenchmarkWritersWithRecord(b *testing.B) { benchmarkWriters(b, record) }

// BenchmarkWritersWithEvents leaves the events in the outbox.
func BenchmarkWritersWithEvents(b *testing.B) { benchmarkWriters(b, events) }

// BenchmarkWritersWithEventsSequenced tells also how many of them were in the log when the last writer was done.
func BenchmarkWritersWithEventsSequenced(b *testing.B) { benchmarkWriters(b, sequenced) }

// what is written beside.
const (
	nothing = iota
	record
	events
	sequenced
)

func benchmarkWriters(b *testing.B, beside int) {
	b.Run("small", func(b *testing.B) {
		benchmarkShape(b, beside, func(s *shape, tx *sealed.Tx, n string) { s.small.Put(tx, &event{Text: "small"}, 0, n) })
	})
	token := event{Text: strings.Repeat("t", 1<<10)}
	b.Run("connect", func(b *testing.B) {
		benchmarkShape(b, beside, func(s *shape, tx *sealed.Tx, n string) {
			s.tokens.Put(tx, &token, 0, "user "+n, n)        // the credential
			s.small.Put(tx, &event{Text: n}, 0, "claim", n)  // what makes the account unique
			s.small.Put(tx, &event{Text: n}, 0, "roster", n) // what makes a second one known
			s.small.Put(tx, &event{Text: n}, 0, "config", n)
			s.small.Put(tx, &event{Text: n}, 0, "session", n)
			s.index.Mark(tx, "by user", "user "+n, n)
			s.index.Mark(tx, "by integration", n)
		})
	})
}

// shape is where the benchmarks write to.
type shape struct {
	small, tokens *sealed.Table[event]
	index         *sealed.Index
}

func benchmarkShape(b *testing.B, beside int, write func(s *shape, tx *sealed.Tx, n string)) {
	store, err := badger.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			b.Errorf("Close() = %v, want nil", err)
		}
	}()
	w := newWorld(b, store)
	p := w.over(b, store)
	s := shape{
		small:  sealed.NewTable[event](p.db, sealed.Spec{Tag: 'n', Name: "note", Plane: sealed.Policy, Format: 1}),
		tokens: sealed.NewTable[event](p.db, sealed.Spec{Tag: 't', Name: "token", Plane: sealed.Tokens, Format: 1}),
		index:  sealed.NewIndex(p.db, 'x', "index"),
	}
	text := strings.Repeat("x", 240)

	ctx, cancel := context.WithCancel(context.Background())
	var writing, sequencing sync.WaitGroup
	if beside == sequenced {
		sequencing.Go(func() { sequence(ctx, b, p) })
	}
	var next atomic.Int64
	b.ResetTimer()
	for range 256 {
		writing.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				tx := p.db.Begin(ctx)
				write(&s, tx, fmt.Sprintf("%036x", n))
				switch v := (event{Text: text, Nth: int(n)}); beside {
				case record:
					s.small.Put(tx, &v, 0, fmt.Sprintf("beside %036x", n))
				case events, sequenced:
					p.Append(tx, &v)
				}
				if err := tx.Commit(ctx); err != nil {
					b.Errorf("Commit() = %v, want nil", err)
				}
				p.Notify()
			}
		})
	}
	writing.Wait()
	b.StopTimer()
	cancel()
	sequencing.Wait()
	if beside == sequenced {
		_, newest, err := p.Bounds(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(100*float64(newest)/float64(b.N), "%sequenced")
	}
}

// sequence is what a runner does.
func sequence(ctx context.Context, b *testing.B, p process) {
	for {
		select {
		case <-p.Wake():
		case <-ctx.Done():
			return
		}
		if _, err := p.Sequence(ctx); err != nil && ctx.Err() == nil {
			b.Errorf("Sequence() = %v, want nil", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// BenchmarkSequence moves what waits while nobody writes. It also tells how long the pass that follows takes, which finds
// nothing: where it begins behind what was moved, and from the very start.
func BenchmarkSequence(b *testing.B) {
	store, err := badger.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			b.Errorf("Close() = %v, want nil", err)
		}
	}()
	ctx, w := b.Context(), newWorld(b, store)
	p, v := w.process(b), event{Text: strings.Repeat("x", 240)}
	for n := 0; n < b.N; {
		tx := p.db.Begin(ctx)
		for range min(200, b.N-n) {
			p.Append(tx, &v)
			n++
		}
		if err := tx.Commit(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	if moved, err := p.Sequence(ctx); moved != b.N || err != nil {
		b.Fatalf("Sequence() = %d, %v, want %d, nil", moved, err, b.N)
	}
	b.StopTimer()
	for name, idle := range map[string]process{"next": p, "whole": w.process(b)} {
		began := time.Now()
		if moved, err := idle.Sequence(ctx); moved != 0 || err != nil {
			b.Fatalf("Sequence() = %d, %v, want 0, nil", moved, err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds()), "µs/"+name)
	}
}

// pause is how long a runner lets records gather after each pass.
const pause = 20 * time.Millisecond
