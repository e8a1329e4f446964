package core

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/due"
)

// lanesOf has a limit and works on each entry until it is let go.
func lanesOf(limit int) (l *lanes, begun chan string, letGo chan struct{}) {
	begun, letGo = make(chan string, 10*laneLength), make(chan struct{})
	l = &lanes{limit: limit, byName: map[string]*lane{}, work: func(ctx context.Context, entry due.Entry) {
		begun <- entry.Key[0]
		select {
		case <-letGo:
		case <-ctx.Done():
		}
	}}
	return l, begun, letGo
}

func laneEntry(i int) due.Entry { return due.Entry{At: 1, Key: []string{fmt.Sprint(i)}} }

// A lane takes as many as it has room for, however many others are full, and works on each once.
func TestLaneLength(t *testing.T) {
	t.Parallel()
	const limit = 3
	l, begun, letGo := lanesOf(limit)
	var mu sync.Mutex // guards taken
	taken := 0
	var callers sync.WaitGroup
	for i := range 2 * laneLength {
		callers.Go(func() {
			if l.enqueue(t.Context(), "full", laneEntry(i)) {
				mu.Lock()
				defer mu.Unlock()
				taken++
			}
		})
	}
	callers.Wait()
	if taken < laneLength || taken > laneLength+limit {
		t.Errorf("%d entries were taken, want %d, and up to %d more in work", taken, laneLength, limit)
	}
	if !l.enqueue(t.Context(), "other", laneEntry(-1)) {
		t.Error("another lane has no room")
	}
	close(letGo)
	if err := l.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(begun)
	seen := map[string]bool{}
	for name := range begun {
		if seen[name] {
			t.Errorf("entry %s was worked on twice", name)
		}
		seen[name] = true
	}
	if len(seen) != taken+1 || l.dropped() {
		t.Errorf("%d entries were worked on, want %d and none dropped", len(seen), taken+1)
	}
}

// When the context ends, what waits is dropped, which is told once, and nobody is left working.
func TestLaneEnds(t *testing.T) {
	t.Parallel()
	l, begun, _ := lanesOf(1)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 5 {
		l.enqueue(ctx, "a", laneEntry(i))
	}
	<-begun
	short, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if err := l.settle(short); err == nil {
		t.Error("settle() = nil while one is in work")
	}
	cancel()
	if err := l.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !l.dropped() || l.dropped() {
		t.Error("dropped() does not report once that entries were")
	}
	if len(begun) != 0 {
		t.Errorf("%d more entries were begun, want none", len(begun))
	}
	if !l.enqueue(t.Context(), "a", laneEntry(9)) || <-begun != "9" {
		t.Error("the lane does not go on")
	}
}

// A pause is the longest that was asked for, and one integration's alone.
func TestLanePause(t *testing.T) {
	t.Parallel()
	l, _, letGo := lanesOf(1)
	close(letGo)
	now := time.Unix(1_800_000_000, 0)
	for _, name := range []string{"a", "b"} {
		l.enqueue(t.Context(), name, laneEntry(1))
	}
	l.pause("a", now.Add(time.Minute))
	l.pause("a", now.Add(time.Second))
	if got := l.pausedUntil("a", now); !got.Equal(now.Add(time.Minute)) {
		t.Errorf("paused until %v, want a minute", got)
	}
	if got := l.pausedUntil("a", now.Add(time.Minute)); !got.IsZero() {
		t.Errorf("paused until %v when it is over, want the zero time", got)
	}
	if got := l.pausedUntil("b", now); !got.IsZero() {
		t.Errorf("the other is paused until %v", got)
	}
}
