package due_test

import (
	"testing"
	"time"
)

func TestWaiting(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	waiting := func(want, limit int, when string) {
		t.Helper()
		if got, err := p.Waiting(t.Context(), limit); got != want || err != nil {
			t.Errorf("Waiting(%d) %s = %d, %v, want %d, nil", limit, when, got, err, want)
		}
	}
	waiting(0, 10, "of nothing")
	p.add(t, first+3, 20, "soon")
	p.add(t, first+100_000, 5, "far away")
	waiting(25, 1000, "of all")
	waiting(25, 25, "of as many")
	waiting(7, 7, "of more")
	w.spoil(t)
	p.move(t, first+1, 0, "in every shard")
	waiting(25, 1000, "among malformed ones")
	waiting(25, 25, "among malformed ones, of as many")
	p.now = begun.Add(4 * time.Minute)
	p.pass(t, p.done(t))
	waiting(5, 1000, "when what was due is done")
}
