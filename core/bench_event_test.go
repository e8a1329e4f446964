package core

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/badger"
)

const (
	benchWriters = 256
	benchTurn    = 512 // connects by all writers, before it is the other store's turn
)

// BenchmarkEvents tells what events cost 256 writers that write what a connect writes: how many times as long they take as
// writers without events. The two take turns, so that whatever else the machine does hits both alike. Nobody numbers the
// events meanwhile: that would go on into the others' turns.
func BenchmarkEvents(b *testing.B) {
	without, with := benchWriter(b), benchWriter(b)
	var took, tookWith time.Duration
	turns := 0
	for b.Loop() {
		turns += 2
		took += connectMany(b, without, false)
		tookWith += connectMany(b, with, true)
		tookWith += connectMany(b, with, true) // in the other order: what one leaves behind, such as garbage, burdens the next
		took += connectMany(b, without, false)
	}
	b.ReportMetric(float64(tookWith)/float64(took), "times")
	b.ReportMetric(float64(took.Nanoseconds())/float64(turns*benchTurn), "ns/connect")
}

// benchWriter opens an engine on a new store.
func benchWriter(b *testing.B) *Engine {
	b.Helper()
	store, err := badger.Open(b.TempDir(), &badger.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	kek, err := crypto.NewKEK()
	if err != nil {
		b.Fatal(err)
	}
	e, err := Open(context.Background(), store, crypto.KEKs{Tokens: kek, Policy: kek}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	return e
}

// connectMany has all writers write what connecting new accounts writes, without the provider, and returns how long that
// takes.
func connectMany(b *testing.B, e *Engine, events bool) time.Duration {
	ctx, now := context.Background(), time.Now()
	var next atomic.Int64
	var writers sync.WaitGroup
	for range benchWriters {
		writers.Go(func() {
			for next.Add(1) <= benchTurn {
				record := benchRecord(newID(), now)
				record.ClientID = "client"
				user, tx := "user "+record.ID, e.db.Begin(ctx)
				claims, err := e.claimsOf(ctx, user, record.Integration, ProviderAccount(record.Account))
				if err == nil {
					err = e.moveGrant(ctx, tx, user, nil, record)
				}
				e.putClaims(tx, user, record.Integration, claims, []string{record.ID})
				rev := e.tables.credentials.Put(tx, record, 0, user, record.ID)
				e.tables.byUser.Mark(tx, user, record.Integration, record.ID)
				e.tables.byIntegration.Mark(tx, record.Integration, record.ID, user)
				e.putDefaultConfiguration(tx, user, record)
				e.tables.rosters.Put(tx, &rosterRecord{Count: 1}, 0, user, record.Integration)
				if events {
					e.User(user).tell(tx, EventConnected, "connect", record, rev, map[string]string{"status": string(record.Status)})
				}
				if err == nil {
					err = e.kernel.Commit(ctx, tx)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	return time.Since(now)
}
