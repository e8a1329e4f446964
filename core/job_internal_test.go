package core

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/memory"
)

// Run takes over the work of a process that died, soon after the lease that it left behind has run out.
func TestRunResumesJobs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	store := memory.New()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	open := func(boot string) *Engine {
		e, err := Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, &Options{
			boot: boot, LeaseTTL: time.Second, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	dead, alive := open("dead"), open("alive")
	tx := dead.db.Begin(ctx)
	dead.tables.users.Put(tx, &userRecord{Deleting: true}, 0, "u")
	dead.jobs.Add(tx, 0, jobDelete, "u", "")
	if err := dead.kernel.Apply(ctx, tx); err != nil {
		t.Fatal(err)
	}
	if held, err := dead.leases.Acquire(ctx, "job", jobDelete, "u"); held == nil || err != nil {
		t.Fatalf("Acquire() = %v, %v, want the lease", held, err)
	}
	began := time.Now()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- alive.Run(running) }()
	for ev, err := range alive.Subscribe(ctx, 0) {
		if err != nil {
			t.Errorf("the user is not deleted after %v: %v", time.Since(began), err)
			break
		}
		if ev.Kind == EventUserDeleted {
			break
		}
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("the user is deleted after %v, while the lease lasts", took)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
}
