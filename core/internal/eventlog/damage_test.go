package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/eventlog"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// What cannot be read stays in the outbox and is reported; the others are moved.
func TestDamagedOutbox(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newMemory(t)
	p := w.process(t)
	p.mustWrite(t, "a", "damaged", "b")
	newer := outboxSpec
	newer.Format = 2
	drop(t, w, newer, ago(t, -time.Minute), "newer")
	w.damage(t, w.raw(t, 'o')[1])
	before := len(w.raw(t, 'o'))

	moved, err := p.Sequence(ctx)
	var corrupt *sealed.CorruptError
	var format *sealed.FormatError
	if moved != 2 || !errors.As(err, &corrupt) || !errors.As(err, &format) {
		t.Errorf("Sequence() = %d, %v, want 2, a *CorruptError and a *FormatError", moved, err)
	}
	wantTexts(t, p, 0, "a", "b")
	left := w.raw(t, 'o')
	if len(left) != before-2 {
		t.Errorf("the outbox holds %d records, want the damaged and the newer one", len(left))
	}
	p.mustWrite(t, "c")
	if moved, err := p.Sequence(ctx); moved != 1 || !errors.As(err, &corrupt) {
		t.Errorf("Sequence() again = %d, %v, want 1 and a *CorruptError", moved, err)
	}

	// The program is updated, and the record repaired from a backup.
	w.damage(t, left[0])
	s := spec
	s.Format = 2
	db := w.open(t)
	updated := process{eventlog.New[event](db, s, nil), db}
	wantMoved(t, updated, 2)
	wantTexts(t, updated, 3, "damaged", "newer")
}

// Many damaged records stand in nobody's way, over page after page.
func TestManyDamaged(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	const many = 400
	for range many {
		p.mustWrite(t, "damaged")
	}
	for _, item := range w.raw(t, 'o') {
		w.damage(t, item)
	}
	p.mustWrite(t, "good")
	moved, err := p.Sequence(t.Context())
	if got := strings.Count(fmt.Sprint(err), "stays in the outbox"); moved != 1 || got != many {
		t.Errorf("Sequence() = %d and %d complaints, want 1 and %d", moved, got, many)
	}
}

func TestDamagedLog(t *testing.T) {
	t.Parallel()
	newer := entriesSpec
	newer.Format = 2
	tests := []struct {
		name   string
		tamper func(t *testing.T, w *world, entry storage.Item)
		format bool // a *FormatError instead of a *CorruptError
	}{
		{"altered", func(t *testing.T, w *world, entry storage.Item) { w.damage(t, entry) }, false},
		{"gone", func(t *testing.T, w *world, entry storage.Item) { w.put(t, storage.Item{Key: entry.Key}) }, false},
		{"of a newer format", func(t *testing.T, w *world, entry storage.Item) {
			w.put(t, storage.Item{Key: entry.Key})
			drop(t, w, newer, "00000000000000000003", "newer")
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, w := t.Context(), newMemory(t)
			p := w.process(t)
			p.mustWrite(t, "a", "b", "c", "d", "e")
			wantMoved(t, p, 5)
			tt.tamper(t, w, w.raw(t, 'l')[2])

			wantTexts(t, p, 0, "a", "b")
			wantTexts(t, p, 1, "b")
			var damage *eventlog.EntryError
			var corrupt *sealed.CorruptError
			var format *sealed.FormatError
			entries, err := p.Read(ctx, 2, 0)
			if len(entries) > 0 || !errors.As(err, &damage) || damage.Number != 3 {
				t.Errorf("Read(2) = %v, %v, want an *EntryError of 3", entries, err)
			}
			if errors.As(err, &corrupt) == tt.format || errors.As(err, &format) != tt.format {
				t.Errorf("Read(2) = %v, want a *FormatError: %v", err, tt.format)
			}
			wantTexts(t, p, 3, "d", "e") // the consumer decided to go on

			// Retention passes it as soon as something behind it is old.
			for _, step := range []struct {
				old     string
				removed int
				oldest  uint64
			}{{"ab", 2, 3}, {"", 0, 3}, {"abd", 2, 5}} {
				want := step.removed
				if tt.name == "gone" && step.old == "abd" {
					want--
				}
				removed, err := p.Trim(ctx, func(v *event) bool { return strings.Contains(step.old, v.Text) })
				if removed != want || err != nil {
					t.Errorf("Trim(%q) = %d, %v, want %d, nil", step.old, removed, err, want)
				}
				wantBounds(t, p, step.oldest, 5)
			}
			wantTexts(t, p, 4, "e")
		})
	}
}

func TestTrimOnlyDamaged(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	p.mustWrite(t, "a", "b")
	wantMoved(t, p, 2)
	w.damage(t, w.raw(t, 'l')[1])
	var damage *eventlog.EntryError
	removed, err := p.Trim(t.Context(), func(*event) bool { return true })
	if removed != 1 || err != nil {
		t.Errorf("Trim() = %d, %v, want 1, nil", removed, err)
	}
	removed, err = p.Trim(t.Context(), func(*event) bool { return true })
	if removed != 0 || !errors.As(err, &damage) || damage.Number != 2 {
		t.Errorf("Trim() again = %d, %v, want 0 and an *EntryError of 2", removed, err)
	}
}

// A mark that is gone would have numbers given twice: the entries that are there forbid it.
func TestMarkGone(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	p.mustWrite(t, "a", "b")
	wantMoved(t, p, 2)
	w.put(t, storage.Item{Key: w.raw(t, 'h')[0].Key})
	p.mustWrite(t, "c")
	var conflict *storage.ConflictError
	if moved, err := p.Sequence(t.Context()); moved != 0 || !errors.As(err, &conflict) {
		t.Errorf("Sequence() = %d, %v, want 0 and a *ConflictError", moved, err)
	}
	if n := len(w.raw(t, 'o')); n != 1 {
		t.Errorf("the outbox holds %d records, want 1", n)
	}
}

// Whatever a store answers comes out, and a reader is not shown it as the end of the log.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	p.mustWrite(t, "a")
	wantMoved(t, p, 1)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Read(done, 0, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Read(done) = %v, want context.Canceled", err)
	}
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Read(t.Context(), 1, 0); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Read() of a closed store = %v, want ErrClosed", err)
	}
	if _, err := p.Sequence(t.Context()); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Sequence() of a closed store = %v, want ErrClosed", err)
	}
	if _, err := p.Trim(t.Context(), func(*event) bool { return true }); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Trim() of a closed store = %v, want ErrClosed", err)
	}
}
