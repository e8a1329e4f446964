package eventlog_test

import (
	"fmt"
	"testing"
	"time"
)

func TestWaiting(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	if n, since, err := p.Waiting(t.Context(), 10); n != 0 || !since.IsZero() || err != nil {
		t.Errorf("Waiting() of nothing = %d, %v, %v, want 0 and no time", n, since, err)
	}
	drop(t, w, outboxSpec, ago(t, time.Hour), "an hour ago")
	for i := range 5 {
		if err := p.write(t.Context(), event{Text: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for limit, want := range map[int]int{3: 3, 6: 6, 100: 6} {
		n, since, err := p.Waiting(t.Context(), limit)
		if age := time.Since(since); n != want || err != nil || age < time.Hour || age > time.Hour+time.Minute {
			t.Errorf("Waiting(%d) = %d, %v, %v, want %d, for an hour", limit, n, age, err, want)
		}
	}
	wantMoved(t, p, 6)
	if n, since, err := p.Waiting(t.Context(), 10); n != 0 || !since.IsZero() || err != nil {
		t.Errorf("Waiting() when all are numbered = %d, %v, %v, want 0 and no time", n, since, err)
	}
}
