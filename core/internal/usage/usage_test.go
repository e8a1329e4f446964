package usage_test

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/usage"
)

const (
	full = 1024 // keys of one name, before they should be told
	most = 16 * full
)

var (
	now     = time.Unix(1_800_000_000, 0)
	errFull = errors.New("full")
)

// key is who used what.
type key struct{ what, who string }

func newCounter() *usage.Counter[key] {
	return usage.New(func(k key) string { return k.what })
}

// told returns what is told, and fails the test where a batch is too large or empty.
func told(t *testing.T, c *usage.Counter[key], limit int) map[key]usage.Use {
	t.Helper()
	all := map[key]usage.Use{}
	if err := c.Tell(limit, func(batch map[key]usage.Use) error {
		if len(batch) == 0 || len(batch) > limit {
			t.Errorf("a batch of %d keys, want 1 to %d", len(batch), limit)
		}
		for k, u := range batch {
			if _, again := all[k]; again {
				t.Errorf("%v is told twice", k)
			}
			all[k] = u
		}
		return nil
	}); err != nil {
		t.Errorf("Tell() = %v, want nil", err)
	}
	return all
}

// held is how many keys lie in memory.
func held(t *testing.T, c *usage.Counter[key]) (n int) {
	t.Helper()
	if err := c.Tell(1e9, func(batch map[key]usage.Use) error {
		n = len(batch)
		return errFull // so that they stay there
	}); err != nil && !errors.Is(err, errFull) {
		t.Errorf("Tell() = %v, want %v", err, errFull)
	}
	return n
}

func TestTell(t *testing.T) {
	t.Parallel()
	c := newCounter()
	ada, bob := key{"a", "ada"}, key{"b", "bob"}
	for i := range 3 {
		if c.Add(ada, now.Add(time.Duration(i)*time.Second)) {
			t.Error("Add() = true for a few uses, want false")
		}
	}
	c.Add(bob, now)
	want := map[key]usage.Use{ada: {3, now, now.Add(2 * time.Second)}, bob: {1, now, now}}
	for _, limit := range []int{1, 2, 100} {
		if diff := cmp.Diff(want, told(t, c, limit)); diff != "" {
			t.Errorf("told %d at a time (-want +got):\n%s", limit, diff)
		}
		if again := told(t, c, limit); len(again) != 0 {
			t.Errorf("told again: %v, want nothing", again)
		}
		for range 3 {
			c.Add(ada, now.Add(2*time.Second))
		}
		c.Add(bob, now)
		want[ada] = usage.Use{Count: 3, First: now.Add(2 * time.Second), Last: now.Add(2 * time.Second)}
	}
	if lost := c.Lost(); lost != 0 {
		t.Errorf("Lost() = %d, want 0", lost)
	}
}

// What cannot be told, of a batch in the middle, is told later, together with what came meanwhile.
func TestTellFails(t *testing.T) {
	t.Parallel()
	c := newCounter()
	want := map[key]usage.Use{}
	for i := range 10 {
		k := key{fmt.Sprint(i), "ada"}
		want[k] = usage.Use{Count: 1, First: now, Last: now}
		c.Add(k, now)
	}
	later := now.Add(time.Minute)
	batches := 0
	first := map[key]usage.Use{}
	err := c.Tell(4, func(batch map[key]usage.Use) error {
		if batches++; batches == 1 {
			maps.Copy(first, batch)
			return nil
		}
		for k := range batch { // somebody uses it while it cannot be told
			c.Add(k, later)
			want[k] = usage.Use{Count: 2, First: now, Last: later}
		}
		return errFull
	})
	if !errors.Is(err, errFull) || batches != 2 || len(first) != 4 {
		t.Fatalf("Tell() = %v after %d batches, the first of %d keys, want %v after 2, the first of 4",
			err, batches, len(first), errFull)
	}
	rest := told(t, c, 100)
	if len(rest) != 6 {
		t.Errorf("told later: %d keys, want 6", len(rest))
	}
	maps.Copy(rest, first)
	if diff := cmp.Diff(want, rest); diff != "" {
		t.Errorf("told in all (-want +got):\n%s", diff)
	}
}

// Add asks to be told once a shard is full, and says so to whoever brings one key more, not to those who are counted
// already.
func TestAddAsks(t *testing.T) {
	t.Parallel()
	c := newCounter()
	add := func(who int, want bool) {
		if got := c.Add(key{"a", fmt.Sprint(who)}, now); got != want {
			t.Fatalf("Add() of key %d = %v, want %v", who, got, want)
		}
	}
	for who := range full - 1 {
		add(who, false)
	}
	add(0, false)
	add(full-1, true)
	add(full-1, false)
	add(full, true)
	told(t, c, 100)
	add(full, false)
}

// However long nothing can be told, and whoever comes meanwhile, what is held stays bounded; what was not counted is
// known.
func TestBounded(t *testing.T) {
	t.Parallel()
	c := newCounter()
	total := int64(0)
	come := func(n int) (asked int) {
		for range n {
			if c.Add(key{"a", fmt.Sprint(total)}, now) {
				asked++
			}
			total++
		}
		return asked
	}
	for range 3 {
		come(most + 5)
		if err := c.Tell(100, func(map[key]usage.Use) error { // and others come while it is tried
			come(most / 2)
			return errFull
		}); !errors.Is(err, errFull) {
			t.Fatalf("Tell() = %v, want %v", err, errFull)
		}
		if got := held(t, c); got != most {
			t.Fatalf("%d keys are held, want %d", got, most)
		}
		if asked := come(7); asked != 7 {
			t.Errorf("%d of 7 keys without room asked to be told, want all", asked)
		}
	}
	if got := c.Lost(); got != total-most {
		t.Errorf("Lost() = %d, want %d", got, total-most)
	}
	if got := c.Lost(); got != 0 {
		t.Errorf("Lost() again = %d, want 0", got)
	}
	if got := len(told(t, c, 100)); got != most {
		t.Errorf("%d keys are told, want %d", got, most)
	}
}

func TestTelling(t *testing.T) {
	t.Parallel()
	c := newCounter()
	c.Add(key{"a", "ada"}, now)
	for _, result := range []error{errFull, nil} {
		if err := c.Tell(1, func(map[key]usage.Use) error {
			if !c.Telling() {
				t.Error("Telling() while it is told = false, want true")
			}
			return result
		}); !errors.Is(err, result) {
			t.Errorf("Tell() = %v, want %v", err, result)
		}
		if c.Telling() {
			t.Error("Telling() once it was told = true, want false")
		}
	}
}

// 64 goroutines count while two tell, which fails each third time: nothing is lost, and nothing counted twice.
func TestRace(t *testing.T) {
	t.Parallel()
	c := newCounter()
	sum := map[key]int64{} // Tell keeps others out
	var calls, tellers atomic.Int64
	tell := func() {
		err := c.Tell(3, func(batch map[key]usage.Use) error {
			if n := tellers.Add(1); n != 1 {
				t.Errorf("%d tell at a time, want 1", n)
			}
			defer tellers.Add(-1)
			if calls.Add(1)%3 == 0 {
				return errFull
			}
			for k, u := range batch {
				sum[k] += u.Count
			}
			return nil
		})
		if err != nil && !errors.Is(err, errFull) {
			t.Error(err)
		}
	}
	var working, telling sync.WaitGroup
	for i := range 64 {
		working.Go(func() {
			for n := range 500 {
				c.Add(key{fmt.Sprint((i/8 + n) % 4), fmt.Sprint(i % 8)}, now)
			}
		})
	}
	stop := make(chan struct{})
	for range 2 {
		telling.Go(func() {
			for {
				tell()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	working.Wait()
	close(stop)
	telling.Wait()
	for k, u := range told(t, c, 100) {
		sum[k] += u.Count
	}
	if len(sum) != 4*8 || c.Lost() != 0 {
		t.Errorf("%d keys, want %d", len(sum), 4*8)
	}
	for k, n := range sum {
		if n != 64*500/(4*8) {
			t.Errorf("%v was used %d times, want %d", k, n, 64*500/(4*8))
		}
	}
}
