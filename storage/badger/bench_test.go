package badger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/storage"
)

// BenchmarkApply256 lets 256 goroutines apply durably, and tells how many batches shared a synced commit.
func BenchmarkApply256(b *testing.B) {
	s := opened(b, b.TempDir(), nil)
	value := string(make([]byte, 1<<10))
	var next atomic.Int64
	before := s.Stats()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := s.Apply(context.Background(), put(fmt.Sprintf("%016x", n), value, 0, 1)); err != nil {
					b.Errorf("Apply() = %v, want nil", err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	after := s.Stats()
	ratio := float64(after.Applies-before.Applies) / float64(after.Commits-before.Commits)
	b.ReportMetric(ratio, "applies/commit")
	if b.N >= 10_000 && ratio < 20 {
		b.Errorf("%.1f applies in one commit, want 20 at least", ratio)
	}
}

// BenchmarkGet reads random keys of 100,000 with values of 1 KiB: through the store, and with Badger alone for
// comparison.
func BenchmarkGet(b *testing.B) {
	const keys = 100_000
	s, ctx := opened(b, b.TempDir(), nil), context.Background()
	key := func(i int) []byte { return fmt.Appendf(nil, "%016x", i) }
	value := make([]byte, 1<<10)
	for i := 0; i < keys; i += 200 {
		var batch storage.Batch
		for j := i; j < i+200; j++ {
			batch.Puts = append(batch.Puts, storage.Put{Key: key(j), Value: value, Rev: 1})
		}
		mustApply(b, s, batch)
	}
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Get(ctx, key(rand.IntN(keys))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("badger", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			txn := s.DB().NewTransactionAt(1<<62, false)
			item, err := txn.Get(key(rand.IntN(keys)))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := item.ValueCopy(nil); err != nil {
				b.Fatal(err)
			}
			txn.Discard()
		}
	})
	b.Run("store beside writes", func(b *testing.B) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for rev := storage.Rev(1); ; rev++ {
					select {
					case <-stop:
						return
					default:
						if err := s.Apply(ctx, put(fmt.Sprint("writer ", i), "", storage.Any, rev)); err != nil {
							b.Errorf("Apply() = %v, want nil", err)
							return
						}
					}
				}
			})
		}
		for b.Loop() {
			if _, err := s.Get(ctx, key(rand.IntN(keys))); err != nil {
				b.Fatal(err)
			}
		}
		close(stop)
		wg.Wait()
	})
}
