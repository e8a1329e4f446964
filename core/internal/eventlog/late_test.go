package eventlog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/storage"
)

// ago returns a key as it was made some time ago, or will be.
func ago(t *testing.T, d time.Duration) string {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	ms := time.Now().Add(-d).UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return string(id[:])
}

// Writers whose keys are older than what was moved already, or newer than anything that comes: late at most.
func TestLateKeys(t *testing.T) {
	t.Parallel()
	t.Run("a commit that took a while", func(t *testing.T) {
		t.Parallel()
		w := newMemory(t)
		p := w.process(t)
		tx := p.db.Begin(t.Context())
		p.Append(tx, &event{Text: "first appended"})
		p.fill(t, 300)
		if !w.store.whole() {
			t.Error("the first pass began somewhere, want it to begin at the very start")
		}
		p.fill(t, 300)
		if w.store.whole() {
			t.Error("the pass began at the very start, want it to begin where the one before ended")
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantMoved(t, p, 1)
		wantTexts(t, p, 600, "first appended")
	})

	t.Run("under steady work", func(t *testing.T) {
		t.Parallel()
		w := newMemory(t)
		p := w.process(t)
		p.fill(t, 3)
		drop(t, w, outboxSpec, ago(t, time.Hour), "an hour behind")
		for range 59 {
			w.clock.advance(time.Second)
			p.fill(t, 3) // and not the other one
		}
		w.clock.advance(time.Second)
		p.mustWrite(t, "new")
		wantMoved(t, p, 2)
		wantTexts(t, p, 180, "an hour behind", "new")
	})

	t.Run("while there is nothing to do", func(t *testing.T) {
		t.Parallel()
		w := newMemory(t)
		p := w.process(t)
		p.fill(t, 3)
		drop(t, w, outboxSpec, ago(t, time.Hour), "an hour behind")
		wantMoved(t, p, 0)
		w.clock.advance(5 * time.Second)
		wantMoved(t, p, 1)
	})

	t.Run("after the clock went back", func(t *testing.T) {
		t.Parallel()
		w := newMemory(t)
		p := w.process(t)
		p.fill(t, 3)
		drop(t, w, outboxSpec, ago(t, time.Hour), "an hour behind")
		w.clock.advance(-time.Hour)
		wantMoved(t, p, 1)
	})

	t.Run("of another process that takes over", func(t *testing.T) {
		t.Parallel()
		w := newMemory(t)
		p := w.process(t)
		p.fill(t, 3)
		drop(t, w, outboxSpec, ago(t, time.Hour), "an hour behind")
		wantMoved(t, w.process(t), 1)
	})

	t.Run("a clock that is ahead", func(t *testing.T) {
		t.Parallel()
		w := newMemory(t)
		p := w.process(t)
		for i := range 300 { // more than a page
			drop(t, w, outboxSpec, ago(t, -time.Hour), fmt.Sprint("ahead ", i))
		}
		p.mustWrite(t, "now")
		for total := 0; total < 301; {
			moved, err := p.Sequence(t.Context())
			if moved == 0 || err != nil {
				t.Fatalf("Sequence() after %d = %d, %v, want them all moved", total, moved, err)
			}
			total += moved
			p.mustWrite(t, "now") // does not get stuck behind them
			if moved, err := p.Sequence(t.Context()); moved == 0 || err != nil {
				t.Fatalf("Sequence() = %d, %v, want the new record moved", moved, err)
			} else {
				total += moved - 1
			}
		}
	})

	t.Run("a pass that failed", func(t *testing.T) {
		t.Parallel()
		w := newMemory(t)
		p := w.process(t)
		drop(t, w, outboxSpec, ago(t, time.Hour), "an hour behind")
		w.store.fail(func() fault { return lost })
		if moved, err := p.Sequence(t.Context()); moved != 0 || !errors.Is(err, storage.ErrFull) {
			t.Fatalf("Sequence() = %d, %v, want 0, ErrFull", moved, err)
		}
		w.store.fail(nil)
		wantMoved(t, p, 1)
	})
}
