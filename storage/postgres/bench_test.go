package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/postgres/pgtest"
)

// BenchmarkGet reads random keys of 10,000 with values of 1 KiB: through the store, through the store as it talks to a
// pooler, and with pgx alone.
func BenchmarkGet(b *testing.B) {
	const keys = 10_000
	dsn := pgtest.DSN(b)
	key := func(i int) []byte { return fmt.Appendf(nil, "%016x", i) }
	s, ctx := pgtest.OpenDSN(b, dsn, nil), context.Background()
	for i := 0; i < keys; i += 200 {
		var batch storage.Batch
		for j := i; j < i+200; j++ {
			batch.Puts = append(batch.Puts, storage.Put{Key: key(j), Value: make([]byte, 1<<10), Rev: 1})
		}
		apply(b, s, batch)
	}
	for name, dsn := range map[string]string{"store": dsn, "store to a pooler": pooled(dsn)} {
		b.Run(name, func(b *testing.B) {
			s := pgtest.OpenDSN(b, dsn, nil)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Get(ctx, key(rand.IntN(keys))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("pgx", func(b *testing.B) {
		pool, err := pgxpool.New(ctx, dsn)
		if err != nil {
			b.Fatal(err)
		}
		defer pool.Close()
		b.ReportAllocs()
		for b.Loop() {
			var rev int64
			var v []byte
			row := pool.QueryRow(ctx, "select rev, v from polycred_records where k = $1", key(rand.IntN(keys)))
			if err := row.Scan(&rev, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkApply commits durably: one key, a batch of three, and the most that a batch may hold.
func BenchmarkApply(b *testing.B) {
	s, value := pgtest.Open(b, nil), string(make([]byte, 1<<10))
	n := 0 // with -count, the sub-benchmarks run again on the same store
	for _, size := range []int{1, 3, storage.MaxBatchOps} {
		b.Run(fmt.Sprintf("%d keys", size), func(b *testing.B) {
			for b.Loop() {
				var batch storage.Batch
				for range size {
					n++
					batch.Puts = append(batch.Puts, put(fmt.Sprintf("%d/%016x", size, n), value, 0, 1).Puts...)
				}
				apply(b, s, batch)
			}
		})
	}
}
