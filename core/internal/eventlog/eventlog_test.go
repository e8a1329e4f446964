package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/polycred/polycred/core/internal/eventlog"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

func TestLog(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newMemory(t)
	p := w.process(t)

	wantBounds(t, p, 0, 0)
	wantMoved(t, p, 0)
	wantTexts(t, p, 0)
	p.mustWrite(t, "a", "b", "c")
	wantTexts(t, p, 0) // not numbered yet
	wantMoved(t, p, 3)
	wantMoved(t, p, 0)
	wantBounds(t, p, 1, 3)
	wantTexts(t, p, 0, "a", "b", "c")
	wantTexts(t, p, 2, "c")
	wantTexts(t, p, 3)
	if entries, err := p.Read(ctx, 0, 2); err != nil || len(entries) != 2 {
		t.Errorf("Read(0, limit 2) = %v, %v, want two", entries, err)
	}

	other := w.process(t) // goes on where this one ended
	other.mustWrite(t, "d")
	wantMoved(t, p, 1)
	wantTexts(t, other, 2, "c", "d")
	if left := w.raw(t, 'o'); len(left) != 0 {
		t.Errorf("%d records are left in the outbox, want none", len(left))
	}

	tx := p.db.Begin(ctx)
	p.Append(tx, &event{Text: "never"}) // and not committed
	wantMoved(t, p, 0)
	done, cancel := context.WithCancel(ctx)
	cancel()
	if moved, err := p.Sequence(done); moved != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("Sequence(done) = %d, %v, want 0, context.Canceled", moved, err)
	}
}

// What lies in the store is forever.
func TestLayout(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newMemory(t)
	p := w.process(t)
	p.mustWrite(t, "a", "b", "c")
	wantMoved(t, p, 3)
	if removed, err := p.Trim(ctx, func(v *event) bool { return v.Text == "a" }); removed != 1 || err != nil {
		t.Fatalf("Trim() = %d, %v, want 1, nil", removed, err)
	}
	p.mustWrite(t, "waits")

	type mark struct {
		Number uint64 `cbor:"1,keyasint"`
	}
	db := w.open(t)
	rows := func(rows []sealed.Row[event], _ bool, err error) (got []string) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			got = append(got, strings.Join(r.Key, "/")+"="+r.Value.Text)
		}
		return got
	}
	got := rows(sealed.NewTable[event](db, entriesSpec).List(ctx, nil, nil, 0))
	if diff := cmp.Diff([]string{"00000000000000000002=b", "00000000000000000003=c"}, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	waits := rows(sealed.NewTable[event](db, outboxSpec).List(ctx, nil, nil, 0))
	if len(waits) != 1 || !strings.HasSuffix(waits[0], "=waits") {
		t.Errorf("outbox = %v, want one record", waits)
	}
	if id, err := uuid.FromBytes([]byte(strings.TrimSuffix(waits[0], "=waits"))); err != nil || id.Version() != 7 {
		t.Errorf("outbox key = %v, want a UUIDv7", waits)
	}
	marks := sealed.NewTable[mark](db, marksSpec)
	for name, want := range map[string]uint64{"oldest": 2, "newest": 3} {
		if m, _, err := marks.Get(ctx, name); err != nil || m.Number != want {
			t.Errorf("mark %s = %d, %v, want %d", name, m.Number, err, want)
		}
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	fired := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	changed := p.Changed()
	if fired(p.Wake()) || fired(changed) {
		t.Error("a new log signals, want silence")
	}
	p.mustWrite(t, "a", "b")
	if !fired(p.Wake()) || fired(p.Wake()) {
		t.Error("Wake() after two writes: want one signal")
	}
	if fired(changed) {
		t.Error("Changed() fired before anything was moved")
	}
	wantMoved(t, p, 2)
	if !fired(changed) || fired(p.Changed()) {
		t.Error("Changed() after a move: want the old channel closed and the new one open")
	}
	changed = p.Changed()
	wantMoved(t, p, 0)
	if fired(changed) {
		t.Error("Changed() fired when nothing was moved")
	}
	w.store.fail(func() fault { return unknownAfter })
	if err := p.write(t.Context(), event{Text: "c"}); !errors.Is(err, storage.ErrUnknownOutcome) || fired(p.Wake()) {
		t.Errorf("write = %v, want ErrUnknownOutcome and no signal", err)
	}
	if _, err := p.Sequence(t.Context()); !errors.Is(err, storage.ErrUnknownOutcome) || !fired(changed) {
		t.Errorf("Sequence() = %v, want ErrUnknownOutcome, and Changed() to fire", err)
	}
	wantTexts(t, p, 2, "c")
}

// Records as large as they may be: batches are cut by size, too.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	var want []string
	for i := range 60 {
		n := 200 << 10
		switch {
		case i == 20:
			n = storage.MaxValue - 200
		case i > 20 && i < 50:
			n = 10
		}
		want = append(want, strings.Repeat(fmt.Sprint(i%10), n))
	}
	p.mustWrite(t, want...)
	for total := 0; total < len(want); {
		moved, err := p.Sequence(t.Context())
		if err != nil || moved == 0 {
			t.Fatalf("Sequence() after %d of %d = %d, %v", total, len(want), moved, err)
		}
		total += moved
	}
	entries, err := p.Read(t.Context(), 0, 0)
	if err != nil || len(entries) != len(want) {
		t.Fatalf("Read() = %d entries, %v, want %d", len(entries), err, len(want))
	}
	for i, e := range entries {
		if e.Value.Text != want[i] {
			t.Errorf("entry %d is another one than was written in its place", e.Number)
		}
	}
	if removed, err := p.Trim(t.Context(), func(*event) bool { return true }); removed != len(want) || err != nil {
		t.Errorf("Trim() = %d, %v, want %d, nil", removed, err, len(want))
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newMemory(t)
	p := w.process(t)
	const n = 500
	for i := range n {
		if err := p.write(ctx, event{Nth: i + 1}); err != nil {
			t.Fatal(err)
		}
	}
	wantMoved(t, p, n)
	upTo := func(last int) func(*event) bool { return func(v *event) bool { return v.Nth <= last } }

	if removed, err := p.Trim(ctx, upTo(0)); removed != 0 || err != nil {
		t.Errorf("Trim(none) = %d, %v, want 0, nil", removed, err)
	}
	if removed, err := p.Trim(ctx, upTo(300)); removed != 300 || err != nil {
		t.Errorf("Trim(300) = %d, %v, want 300, nil", removed, err)
	}
	wantBounds(t, p, 301, n)
	var gone *eventlog.RemovedError
	for _, after := range []uint64{0, 1, 299} {
		if _, err := p.Read(ctx, after, 0); !errors.As(err, &gone) || gone.Oldest != 301 {
			t.Errorf("Read(%d) = %v, want *RemovedError with 301", after, err)
		}
	}
	if entries, err := p.Read(ctx, 300, 1); err != nil || len(entries) != 1 || entries[0].Value.Nth != 301 {
		t.Errorf("Read(300) = %v, %v, want entry 301", entries, err)
	}

	// It stops at an entry that is not old, whatever lies behind it.
	if removed, err := p.Trim(ctx, func(v *event) bool { return v.Nth != 310 }); removed != 9 || err != nil {
		t.Errorf("Trim(not 310) = %d, %v, want 9, nil", removed, err)
	}

	// Every second Apply fails, in one way or another: nothing is removed twice, and in the end all is.
	w.store.fail(moody(6))
	for try := 0; ; try++ {
		if _, err := p.Trim(ctx, upTo(n)); err == nil {
			break
		} else if try > 100 {
			t.Fatalf("Trim() = %v after %d tries", err, try)
		}
	}
	w.store.fail(nil)
	wantBounds(t, p, n+1, n)
	wantTexts(t, p, n)
	if _, err := p.Read(ctx, n-1, 0); !errors.As(err, &gone) || gone.Oldest != n+1 {
		t.Errorf("Read(%d) of an empty log = %v, want *RemovedError with %d", n-1, err, n+1)
	}
	p.mustWrite(t, "next")
	wantMoved(t, p, 1)
	wantBounds(t, p, n+1, n+1)
	wantTexts(t, p, n, "next")
}

func TestReadAhead(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newMemory(t)
	p := w.process(t)
	var ahead *eventlog.AheadError
	if _, err := p.Read(ctx, 1, 0); !errors.As(err, &ahead) || ahead.Newest != 0 {
		t.Errorf("Read(1) of an empty log = %v, want *AheadError with 0", err)
	}
	p.mustWrite(t, "a", "b")
	wantMoved(t, p, 2)
	for _, after := range []uint64{3, 1 << 40, ^uint64(0)} {
		if _, err := p.Read(ctx, after, 0); !errors.As(err, &ahead) || ahead.Newest != 2 {
			t.Errorf("Read(%d) = %v, want *AheadError with 2", after, err)
		}
	}
}

// A record that was moved to another place does not open there.
func TestSwap(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tests := []struct {
		name   string
		tamper func(t *testing.T, w *world)
		read   string // what Read complains of
		seq    bool   // whether Sequence complains
	}{
		{"outbox record as an entry", func(t *testing.T, w *world) {
			from, to := w.raw(t, 'o')[0], w.raw(t, 'l')[0]
			w.put(t, storage.Item{Key: to.Key, Value: from.Value, Rev: from.Rev})
		}, "entry 1", false},
		{"entry as an outbox record", func(t *testing.T, w *world) {
			from, to := w.raw(t, 'l')[0], w.raw(t, 'o')[0]
			w.put(t, storage.Item{Key: to.Key, Value: from.Value, Rev: from.Rev})
		}, "", true},
		{"entry as another entry", func(t *testing.T, w *world) {
			entries := w.raw(t, 'l')
			w.put(t, storage.Item{Key: entries[0].Key, Value: entries[1].Value, Rev: entries[1].Rev})
		}, "entry 1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newMemory(t)
			p := w.process(t)
			p.mustWrite(t, "a", "b")
			wantMoved(t, p, 2)
			p.mustWrite(t, "waits")
			tt.tamper(t, w)

			var corrupt *sealed.CorruptError
			moved, err := p.Sequence(ctx)
			if errors.As(err, &corrupt) != tt.seq || (moved == 0) != tt.seq {
				t.Errorf("Sequence() = %d, %v, want a *CorruptError: %v", moved, err, tt.seq)
			}
			_, err = p.Read(ctx, 0, 0)
			if tt.read == "" && err != nil || tt.read != "" && (!errors.As(err, &corrupt) || !strings.HasPrefix(err.Error(), tt.read+" ")) {
				t.Errorf("Read() = %v, want a *CorruptError of %q", err, tt.read)
			}
		})
	}
	t.Run("one mark as the other", func(t *testing.T) {
		t.Parallel()
		w := newMemory(t)
		p := w.process(t)
		p.mustWrite(t, "a", "b")
		wantMoved(t, p, 2)
		if _, err := p.Trim(ctx, func(v *event) bool { return v.Text == "a" }); err != nil {
			t.Fatal(err)
		}
		marks := w.raw(t, 'h')
		i := slices.IndexFunc(marks, func(i storage.Item) bool { return strings.Contains(string(i.Key), "newest") })
		w.put(t, storage.Item{Key: marks[i].Key, Value: marks[1-i].Value, Rev: marks[1-i].Rev})
		var corrupt *sealed.CorruptError
		if _, _, err := p.Bounds(ctx); !errors.As(err, &corrupt) {
			t.Errorf("Bounds() = %v, want a *CorruptError", err)
		}
		p.mustWrite(t, "c")
		if moved, err := p.Sequence(ctx); moved != 0 || !errors.As(err, &corrupt) {
			t.Errorf("Sequence() = %d, %v, want 0 and a *CorruptError", moved, err)
		}
	})
}
