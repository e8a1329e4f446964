package recall_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/recall"
)

type memory struct {
	*testing.T
	*recall.Memory[string, int]
	now time.Time
}

func newMemory(t *testing.T, ttl time.Duration, size int) *memory {
	t.Helper()
	m := &memory{T: t, now: time.Unix(1_800_000_000, 0)}
	m.Memory = recall.New[string, int](recall.Options{TTL: ttl, Size: size, Now: func() time.Time { return m.now }})
	return m
}

func (m *memory) keep(owner, key string, value int) { m.Keep(owner, key, value, m.Begin(owner)) }

// want checks what is remembered; 0: nothing.
func (m *memory) want(owner, key string, want int) {
	m.Helper()
	got, ok := m.Recall(owner, key)
	if got != want || ok != (want != 0) {
		m.Errorf("Recall(%q, %q) = %d, %t, want %d", owner, key, got, ok, want)
	}
}

func TestRecall(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 5*time.Second, 10)
	m.want("ann", "a", 0)
	m.keep("ann", "a", 1)
	m.keep("bob", "a", 2)
	m.want("ann", "a", 1)
	m.want("bob", "a", 2)
	m.want("ann", "b", 0)
	m.now = m.now.Add(4 * time.Second)
	m.keep("ann", "a", 3)
	m.want("bob", "a", 2)
	m.now = m.now.Add(time.Second)
	m.want("bob", "a", 0)
	m.want("ann", "a", 3)
	m.now = m.now.Add(-2 * time.Second) // the clock went back, behind when it was read
	m.want("ann", "a", 0)
}

// A value is as old as when its reading began, not as when it ended.
func TestRecallAge(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 5*time.Second, 10)
	mark := m.Begin("ann")
	m.now = m.now.Add(4 * time.Second)
	m.Keep("ann", "a", 1, mark)
	m.want("ann", "a", 1)
	m.now = m.now.Add(time.Second)
	m.want("ann", "a", 0)
}

func TestForget(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 5*time.Second, 10)
	m.keep("ann", "a", 1)
	m.keep("bob", "a", 2)
	mark := m.Begin("ann")
	m.Forget("ann")
	m.want("ann", "a", 0)
	m.want("bob", "a", 2)
	m.Keep("ann", "a", 1, mark) // read before it was forgotten
	m.want("ann", "a", 0)
	m.keep("ann", "a", 3)
	m.want("ann", "a", 3)
}

// However much is kept, no more is remembered than twice the size, and the newest of it is.
func TestRecallSize(t *testing.T) {
	t.Parallel()
	const size, n = 10, 100
	m := newMemory(t, time.Hour, size)
	for i := range n {
		m.keep(strconv.Itoa(i), "a", i+1)
	}
	remembered := 0
	for i := range n {
		if _, ok := m.Recall(strconv.Itoa(i), "a"); ok {
			remembered++
		} else if i >= n-size {
			t.Errorf("of %d kept, number %d is forgotten, want the last %d remembered", n, i, size)
		}
	}
	if remembered > 2*size {
		t.Errorf("%d are remembered, want %d at most", remembered, 2*size)
	}
}

func TestNothingRemembered(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 0, 10)
	m.keep("ann", "a", 1)
	m.Forget("ann")
	m.want("ann", "a", 0)
}

// Whoever forgets is believed by all that read at the same time.
func TestForgetRace(t *testing.T) {
	t.Parallel()
	m := newMemory(t, time.Hour, 1000)
	var mu sync.Mutex // guards truth
	truth := 1
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 1000 {
				if i == 0 {
					mu.Lock()
					truth++
					mu.Unlock()
					m.Forget("ann")
					continue
				}
				mark := m.Begin("ann")
				mu.Lock()
				value := truth
				mu.Unlock()
				m.Keep("ann", strconv.Itoa(j%4), value, mark)
			}
		})
	}
	wg.Wait()
	for j := range 4 {
		if got, ok := m.Recall("ann", strconv.Itoa(j)); ok && got != truth {
			t.Errorf("Recall = %d, want %d or nothing: it was forgotten after it was read", got, truth)
		}
	}
}
