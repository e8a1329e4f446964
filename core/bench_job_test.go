package core

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/badger"
)

// benchJob is how many credentials long work deals with in a benchmark.
const benchJob = 5000

// benchWork measures long work on a durable store: on 5,000 credentials of one user, at one integration.
func benchWork(b *testing.B, work func(ctx context.Context, e *Engine) (Report, error)) {
	b.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for b.Loop() {
		b.StopTimer()
		store, err := badger.Open(filepath.Join(b.TempDir(), "store"), nil)
		if err != nil {
			b.Fatal(err)
		}
		e, err := Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, &Options{
			CallbackURL: "http://127.0.0.1:1/callback", Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			b.Fatal(err)
		}
		for _, in := range crowdIntegrations("https://example.com") {
			if in.OAuth2 == nil {
				continue
			}
			in.OAuth2.RevocationURL = "https://example.com/revoke"
			if _, err := e.CreateIntegration(ctx, in); err != nil {
				b.Fatal(err)
			}
		}
		if err := e.Fill(ctx, "u", "oauth", benchJob); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		report, err := work(ctx, e)
		b.StopTimer()
		if err != nil || report.Queued != benchJob {
			b.Fatalf("report = %+v, %v, want %d revocations queued", report, err, benchJob)
		}
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/benchJob, "µs/credential")
}

// BenchmarkDeleteUser deletes a user with 5,000 accounts.
func BenchmarkDeleteUser(b *testing.B) {
	benchWork(b, func(ctx context.Context, e *Engine) (Report, error) { return e.DeleteUser(ctx, "u", nil) })
}

// BenchmarkRevokeCredentials revokes 5,000 accounts of an integration.
func BenchmarkRevokeCredentials(b *testing.B) {
	benchWork(b, func(ctx context.Context, e *Engine) (Report, error) { return e.RevokeCredentials(ctx, "oauth", nil) })
}
