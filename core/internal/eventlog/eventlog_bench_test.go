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

// The three benchmarks show what an event costs whoever causes it: 256 goroutines that each write a small record, the
// same with an event in the same Apply, and the same while a sequencer moves the events, as an engine does.

// BenchmarkWriters writes no events.
func BenchmarkWriters(b *testing.B) { benchmarkWriters(b, false, false) }

// BenchmarkWritersWithEvents leaves the events in the outbox.
func BenchmarkWritersWithEvents(b *testing.B) { benchmarkWriters(b, true, false) }

// BenchmarkWritersWithEventsSequenced tells also how many of them were in the log when the last writer was done.
func BenchmarkWritersWithEventsSequenced(b *testing.B) { benchmarkWriters(b, true, true) }

func benchmarkWriters(b *testing.B, events, sequenced bool) {
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
	notes := sealed.NewTable[event](p.db, sealed.Spec{Tag: 'n', Name: "note", Plane: sealed.Tokens, Format: 1})
	small, text := event{Text: "small"}, strings.Repeat("x", 240)

	ctx, cancel := context.WithCancel(context.Background())
	var writing, sequencing sync.WaitGroup
	if sequenced {
		sequencing.Go(func() { sequence(ctx, b, p) })
	}
	var next atomic.Int64
	b.ResetTimer()
	for range 256 {
		writing.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				tx := p.db.Begin(ctx)
				notes.Put(tx, &small, 0, fmt.Sprintf("%016x", n))
				if events {
					p.Append(tx, &event{Text: text, Nth: int(n)})
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
	if sequenced {
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

var pause = 20 * time.Millisecond
