package lease_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

func TestLease(t *testing.T) {
	t.Parallel()
	ctx, w, c := t.Context(), newWorld(t), newClock()
	ada := w.process(t, lease.Options{Boot: "ada", Now: c.Now})
	bob := w.process(t, lease.Options{Boot: "bob", Now: c.Now})

	held := acquire(t, ada, "refresh", "1")
	refused(t, bob, "while another process holds it", "refresh", "1")
	refused(t, ada, "while this process holds it", "refresh", "1")
	acquire(t, bob, "refresh", "2")
	acquire(t, bob, "refresh", "1", "")
	acquire(t, bob, "refresh1")
	if err := held.Renew(ctx); err != nil {
		t.Errorf("Renew() = %v, want nil", err)
	}
	for range 2 {
		if err := held.Release(ctx); err != nil {
			t.Errorf("Release() = %v, want nil", err)
		}
	}
	if err := held.Renew(ctx); !errors.Is(err, lease.ErrLost) {
		t.Errorf("Renew() after Release = %v, want ErrLost", err)
	}
	acquire(t, bob, "refresh", "1")
	if err := held.Release(ctx); err != nil {
		t.Errorf("Release() again = %v, want nil", err)
	}
	refused(t, ada, "after the release of an older lease", "refresh", "1")
}

// A thief takes over when it has watched for the TTL, and not before: by its own clock alone.
func TestSteal(t *testing.T) {
	t.Parallel()
	ctx, w, c := t.Context(), newWorld(t), newClock()
	holder := w.process(t, lease.Options{Boot: "ada"})
	thief := w.process(t, lease.Options{Boot: "bob", Now: c.Now, TTL: ttl})

	held := acquire(t, holder, "sequencer")
	c.advance(1000 * ttl) // unwatched
	refused(t, thief, "at first sight", "sequencer")
	c.advance(ttl / 2)
	refused(t, thief, "half a TTL later", "sequencer")
	c.advance(ttl/2 - 1)
	refused(t, thief, "just before the TTL", "sequencer")
	if err := held.Renew(ctx); err != nil {
		t.Fatalf("Renew() = %v, want nil", err)
	}
	c.advance(1)
	refused(t, thief, "after it was renewed", "sequencer")
	c.advance(ttl / 2)
	refused(t, thief, "half a TTL after it was renewed", "sequencer")
	c.advance(ttl/2 - 1)
	refused(t, thief, "just before the TTL since it was renewed", "sequencer")
	c.advance(1)
	stolen := acquire(t, thief, "sequencer")

	if err := held.Renew(ctx); !errors.Is(err, lease.ErrLost) {
		t.Errorf("Renew() of a stolen lease = %v, want ErrLost", err)
	}
	if err := held.Release(ctx); err != nil {
		t.Errorf("Release() of a stolen lease = %v, want nil", err)
	}
	if err := stolen.Renew(ctx); err != nil {
		t.Errorf("Renew() by the thief, after the victim released = %v, want nil", err)
	}
	refused(t, holder, "from the thief", "sequencer")
}

func TestStealAfterClockWentBack(t *testing.T) {
	t.Parallel()
	w, c := newWorld(t), newClock()
	acquire(t, w.process(t, lease.Options{Boot: "ada"}), "x")
	thief := w.process(t, lease.Options{Boot: "bob", Now: c.Now, TTL: ttl})

	refused(t, thief, "at first sight", "x")
	c.advance(ttl / 2)
	refused(t, thief, "before the TTL", "x")
	c.advance(-100 * ttl)
	refused(t, thief, "after the clock went back", "x")
	c.advance(ttl / 2)
	refused(t, thief, "before the TTL since then", "x")
	c.advance(ttl / 2) // not 100 TTLs later
	acquire(t, thief, "x")
}

func TestExclusive(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	before := acquire(t, w.process(t, lease.Options{Boot: "before", Exclusive: true}), "x")
	now := w.process(t, lease.Options{Boot: "now", Exclusive: true})
	held := acquire(t, now, "x")
	refused(t, now, "held by this boot", "x")
	if err := before.Renew(ctx); !errors.Is(err, lease.ErrLost) {
		t.Errorf("Renew() by the boot before = %v, want ErrLost", err)
	}
	if err := held.Renew(ctx); err != nil {
		t.Errorf("Renew() = %v, want nil", err)
	}
}

// 64 goroutines of four processes want one lease. Clocks move by less than the TTL between two renewals, so whoever looks
// at a wrong moment sees a lease that is nearly over.
func TestRace(t *testing.T) {
	t.Parallel()
	ctx, w, c := t.Context(), newWorld(t), newClock()
	var processes []*lease.Table
	for i := range 4 {
		processes = append(processes, w.process(t, lease.Options{Boot: fmt.Sprint(i), Now: c.Now, TTL: ttl}))
	}
	const each = 5
	var holders, terms atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for done := 0; done < each; {
				l, err := processes[i%len(processes)].Acquire(ctx, "x")
				if err != nil {
					t.Errorf("Acquire() = %v, want no error", err)
					return
				}
				if l == nil {
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the lease at a time, want 1", n)
				}
				for range 3 {
					if err := l.Renew(ctx); err != nil {
						t.Errorf("Renew() = %v, want nil", err)
					}
					c.advance(ttl * 9 / 10)
				}
				holders.Add(-1)
				if err := l.Release(ctx); err != nil {
					t.Errorf("Release() = %v, want nil", err)
				}
				terms.Add(1)
				done++
			}
		})
	}
	wg.Wait()
	if got := terms.Load(); got != 64*each {
		t.Errorf("the lease was held %d times, want %d", got, 64*each)
	}
}

// Of many thieves one succeeds.
func TestStealRace(t *testing.T) {
	t.Parallel()
	ctx, w, c := t.Context(), newWorld(t), newClock()
	acquire(t, w.process(t, lease.Options{Boot: "gone"}), "x")
	thieves := make([]*lease.Table, 64)
	for i := range thieves {
		thieves[i] = w.process(t, lease.Options{Boot: fmt.Sprint(i), Now: c.Now, TTL: ttl})
		refused(t, thieves[i], "at first sight", "x")
	}
	c.advance(ttl / 2)
	for _, thief := range thieves {
		refused(t, thief, "half a TTL later", "x")
	}
	c.advance(ttl / 2)
	var winners atomic.Int64
	var wg sync.WaitGroup
	for _, thief := range thieves {
		wg.Go(func() {
			l, err := thief.Acquire(ctx, "x")
			if err != nil {
				t.Errorf("Acquire() = %v, want no error", err)
			}
			if l != nil {
				winners.Add(1)
			}
		})
	}
	wg.Wait()
	if got := winners.Load(); got != 1 {
		t.Errorf("%d thieves have the lease, want 1", got)
	}
}

func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	stolen := func(w *world, o lease.Options) func(func() error, context.Context) error {
		return func(apply func() error, ctx context.Context) error {
			thief := w.process(t, o)
			l, err := thief.Acquire(context.WithoutCancel(ctx), "x")
			if err != nil || l == nil {
				t.Errorf("Acquire() by the thief = %v, %v, want the lease", l, err)
			}
			return storage.ErrUnknownOutcome
		}
	}
	anyTime := lease.Options{Boot: "bob", Exclusive: true} // takes over at once

	t.Run("acquire", func(t *testing.T) {
		t.Parallel()
		ctx, w := t.Context(), newWorld(t)
		ada := w.process(t, lease.Options{Boot: "ada"})
		w.store.then(unknownBefore)
		if l, err := ada.Acquire(ctx, "x"); l != nil || !errors.Is(err, storage.ErrUnknownOutcome) {
			t.Errorf("Acquire() that did not happen = %v, %v, want ErrUnknownOutcome", l, err)
		}
		w.store.then(unknownAfter)
		l := acquire(t, ada, "x")
		if err := l.Renew(ctx); err != nil {
			t.Errorf("Renew() = %v, want nil", err)
		}
		refused(t, ada, "held already", "x")
	})
	t.Run("acquire by a caller who left", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ada := w.process(t, lease.Options{Boot: "ada"})
		ctx, cancel := context.WithCancel(t.Context())
		w.store.then(func(apply func() error, ctx context.Context) error {
			cancel()
			return unknownAfter(apply, ctx)
		})
		l, err := ada.Acquire(ctx, "x")
		if err != nil || l == nil {
			t.Fatalf("Acquire() = %v, %v, want the lease", l, err)
		}
		if err := l.Release(ctx); err != nil {
			t.Errorf("Release() with a context that is done = %v, want nil", err)
		}
		acquire(t, ada, "x")
	})
	t.Run("acquire, somebody was first", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ada := w.process(t, lease.Options{Boot: "ada"})
		w.store.then(func(apply func() error, ctx context.Context) error {
			acquire(t, w.process(t, lease.Options{Boot: "bob"}), "x")
			return apply()
		})
		refused(t, ada, "after it was taken in between", "x")
	})
	t.Run("renew", func(t *testing.T) {
		t.Parallel()
		ctx, w := t.Context(), newWorld(t)
		l := acquire(t, w.process(t, lease.Options{Boot: "ada"}), "x")
		w.store.then(unknownAfter, nil, unknownBefore, unknownBefore, nil)
		for i := range 3 { // happened, plainly, and at the third try
			if err := l.Renew(ctx); err != nil {
				t.Errorf("Renew() %d = %v, want nil", i, err)
			}
		}
		w.store.then(unknownBefore, unknownBefore, unknownBefore)
		if err := l.Renew(ctx); !errors.Is(err, storage.ErrUnknownOutcome) || errors.Is(err, lease.ErrLost) {
			t.Errorf("Renew() = %v, want ErrUnknownOutcome", err)
		}
		if err := l.Renew(ctx); err != nil {
			t.Errorf("Renew() after that = %v, want nil", err)
		}
		w.store.then(stolen(w, anyTime))
		if err := l.Renew(ctx); !errors.Is(err, lease.ErrLost) {
			t.Errorf("Renew() of a stolen lease = %v, want ErrLost", err)
		}
	})
	t.Run("release", func(t *testing.T) {
		t.Parallel()
		ctx, w := t.Context(), newWorld(t)
		ada := w.process(t, lease.Options{Boot: "ada"})
		for name, answers := range map[string][]func(func() error, context.Context) error{
			"happened":       {unknownAfter},
			"did not happen": {unknownBefore, unknownBefore},
			"stolen":         {stolen(w, anyTime)},
		} {
			l := acquire(t, ada, "x")
			w.store.then(answers...)
			if err := l.Release(ctx); err != nil {
				t.Errorf("Release(), %s = %v, want nil", name, err)
			}
			if name == "stolen" {
				refused(t, ada, name, "x")
				free(t, w)
			}
		}
		l := acquire(t, ada, "x")
		w.store.then(unknownBefore, unknownBefore, unknownBefore)
		if err := l.Release(ctx); !errors.Is(err, storage.ErrUnknownOutcome) {
			t.Errorf("Release() = %v, want ErrUnknownOutcome", err)
		}
		if err := l.Release(ctx); err != nil {
			t.Errorf("Release() again = %v, want nil", err)
		}
		acquire(t, ada, "x")
	})
}

// free ends whatever lease of that name there is.
func free(t *testing.T, w *world) {
	t.Helper()
	l := acquire(t, w.process(t, lease.Options{Boot: "cyd", Exclusive: true}), "x")
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestStoreErrors(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	ada := w.process(t, lease.Options{Boot: "ada"})
	l := acquire(t, ada, "x")
	full := func(func() error, context.Context) error { return storage.ErrFull }
	w.store.then(full, full, full)
	if l, err := ada.Acquire(ctx, "y"); l != nil || !errors.Is(err, storage.ErrFull) {
		t.Errorf("Acquire() = %v, %v, want ErrFull", l, err)
	}
	if err := l.Renew(ctx); !errors.Is(err, storage.ErrFull) || errors.Is(err, lease.ErrLost) {
		t.Errorf("Renew() = %v, want ErrFull", err)
	}
	if err := l.Release(ctx); !errors.Is(err, storage.ErrFull) {
		t.Errorf("Release() = %v, want ErrFull", err)
	}
	if err := l.Renew(ctx); err != nil {
		t.Errorf("Renew() after that = %v, want nil", err)
	}
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err := ada.Acquire(ctx, "y"); l != nil || !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Acquire() on a closed store = %v, %v, want ErrClosed", l, err)
	}
}

// More leases of others than a Table remembers: all of them change hands in the end.
func TestManyWatched(t *testing.T) {
	t.Parallel()
	w, c := newWorld(t), newClock()
	gone := w.process(t, lease.Options{Boot: "gone"})
	const many = 5000
	names := make([]string, many)
	for i := range names {
		names[i] = fmt.Sprint(i)
		acquire(t, gone, names[i])
	}
	thief := w.process(t, lease.Options{Boot: "bob", Now: c.Now, TTL: ttl})
	left := names
	for round := 0; len(left) > 0; round++ {
		if round > 7 {
			t.Fatalf("%d of %d leases are still not taken over after %d half TTLs", len(left), many, round)
		}
		var refused []string
		for _, name := range left {
			l, err := thief.Acquire(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if l == nil {
				refused = append(refused, name)
			}
		}
		left = refused
		c.advance(ttl / 2)
	}
}

// A lease moved to another name, or an old one put under a newer revision, does not open, and is not taken over.
func TestSwap(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	ada := w.process(t, lease.Options{Boot: "ada", Exclusive: true})
	bob := w.process(t, lease.Options{Boot: "bob", Exclusive: true})
	acquire(t, ada, "x")
	acquire(t, ada, "y")
	page, err := w.store.Scan(ctx, storage.Range{Start: []byte("v"), End: []byte("w")})
	if err != nil || len(page.Items) != 2 {
		t.Fatalf("the store holds %d leases, %v, want 2", len(page.Items), err)
	}
	x, y := page.Items[0], page.Items[1]
	for name, p := range map[string]storage.Put{
		"x": {Key: x.Key, Value: y.Value, If: x.Rev, Rev: y.Rev},
		"y": {Key: y.Key, Value: y.Value, If: y.Rev, Rev: y.Rev + 1},
	} {
		if err := w.store.Apply(ctx, storage.Batch{Puts: []storage.Put{p}}); err != nil {
			t.Fatal(err)
		}
		var corrupt *sealed.CorruptError
		if l, err := bob.Acquire(ctx, name); l != nil || !errors.As(err, &corrupt) {
			t.Errorf("Acquire(%s) = %v, %v, want a *CorruptError", name, l, err)
		}
	}
}

func TestNewWithoutBoot(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("New() without a boot did not panic")
		}
	}()
	newWorld(t).process(t, lease.Options{})
}

// A lease that was given up although the store could not be told keeps others waiting, not the process that had it.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	one, same := w.process(t, lease.Options{Boot: "given up"}), w.process(t, lease.Options{Boot: "given up"})
	other := w.process(t, lease.Options{Boot: "another"})
	held := acquire(t, one, "x")
	refused(t, same, "while it is held in this process", "x")
	w.store.then(func(func() error, context.Context) error { return storage.ErrFull })
	if err := held.Release(ctx); !errors.Is(err, storage.ErrFull) {
		t.Fatalf("Release() = %v, want the store's error", err)
	}
	refused(t, other, "given up by another process", "x")
	again := acquire(t, same, "x")
	if err := held.Renew(ctx); !errors.Is(err, lease.ErrLost) {
		t.Errorf("Renew() of what was given up = %v, want ErrLost", err)
	}
	refused(t, one, "while it is held again", "x")
	if err := again.Release(ctx); err != nil {
		t.Errorf("Release() = %v, want nil", err)
	}
	acquire(t, other, "x")
}

// Keep holds on to a lease for longer than its TTL, and stops when it is told.
func TestKeep(t *testing.T) {
	t.Parallel()
	ctx, w, c := t.Context(), newWorld(t), newClock()
	ada := w.process(t, lease.Options{Boot: "ada", TTL: 30 * time.Millisecond})
	bob := w.process(t, lease.Options{Boot: "bob", Now: c.Now, TTL: ttl})
	held := acquire(t, ada, "x")
	renewed := make(chan struct{})
	w.store.then(func(apply func() error, _ context.Context) error { return storage.ErrFull }, // is tried again
		func(apply func() error, _ context.Context) error {
			defer close(renewed)
			return apply()
		})
	refused(t, bob, "at first sight", "x")
	stop := held.Keep(ctx)
	<-renewed
	stop()
	c.advance(ttl / 2)
	refused(t, bob, "after it was renewed", "x")
	c.advance(ttl / 2)
	refused(t, bob, "half a TTL after it was renewed", "x")
	c.advance(ttl / 2)
	acquire(t, bob, "x")
}

// Who could not look for a while, because the store was gone or for any other reason, begins anew: the holder could not
// renew the lease either, and comes first.
func TestBlind(t *testing.T) {
	t.Parallel()
	w, c := newWorld(t), newClock()
	acquire(t, w.process(t, lease.Options{Boot: "ada"}), "x")
	thief := w.process(t, lease.Options{Boot: "bob", Now: c.Now, TTL: ttl})
	look := func(when string) {
		t.Helper()
		refused(t, thief, when, "x")
		c.advance(ttl / 2)
		refused(t, thief, when+", half a TTL later", "x")
	}
	look("at first sight")
	c.advance(ttl/2 + 1)
	look("after a long gap")
	thief.Forget("x")
	c.advance(ttl / 2)
	look("after something else met an error")
	c.advance(ttl / 2)
	acquire(t, thief, "x")
}
