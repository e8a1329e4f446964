package eventlog_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
)

// 32 writers, three sequencers that compete, and a consumer that is cancelled and started again from its cursor 100
// times: it sees each event once, under numbers without a gap.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		testExactlyOnce(t, newWorld(t, memory.New()), nil)
	})
	t.Run("memory that fails", func(t *testing.T) {
		t.Parallel()
		testExactlyOnce(t, newWorld(t, memory.New()), moody(20))
	})
	t.Run("badger", func(t *testing.T) {
		t.Parallel()
		store, err := badger.Open(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Errorf("Close() = %v, want nil", err)
			}
		})
		testExactlyOnce(t, newWorld(t, store), nil)
	})
}

const (
	writers  = 32
	restarts = 100
)

func testExactlyOnce(t *testing.T, w *world, fails func() fault) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	here, there := w.process(t), w.process(t)
	sources := []process{w.over(t, w.store.Store), w.over(t, w.store.Store)} // whose Applies do not fail
	w.store.fail(fails)

	c := consumer{process: here, last: map[int]int{}}
	var writing, sequencing sync.WaitGroup
	var total atomic.Int64
	enough, stop := make(chan struct{}), make(chan struct{})
	for i := range writers {
		writing.Go(func() {
			for n := 1; ; n++ {
				for total.Load() > c.progress.Load()+300 { // no more than what is read soon
					select {
					case <-enough:
						return
					case <-ctx.Done():
						return
					case <-time.After(time.Millisecond):
					}
				}
				if err := sources[i%2].write(ctx, event{Writer: i, Nth: n}); err != nil {
					t.Errorf("write = %v, want no error", err)
					return
				}
				total.Add(1)
				select {
				case <-enough:
					return
				default:
				}
			}
		})
	}
	for _, p := range []process{here, here, there} {
		sequencing.Go(func() {
			for {
				if _, err := p.Sequence(ctx); err != nil && fails == nil {
					t.Errorf("Sequence() = %v, want no error", err)
				}
				w.clock.advance(10 * time.Millisecond) // now and then a pass is a whole one
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				default:
				}
			}
		})
	}
	for range restarts {
		c.run(ctx, t, 1+rand.IntN(20))
	}
	close(enough)
	writing.Wait()
	all := total.Load()
	c.run(ctx, t, int(all)-int(c.cursor))
	close(stop)
	sequencing.Wait()
	w.store.fail(nil)

	for _, p := range []process{here, there} {
		if moved, err := p.Sequence(t.Context()); moved != 0 || err != nil {
			t.Errorf("Sequence() in the end = %d, %v, want 0, nil", moved, err)
		}
	}
	wantBounds(t, here, 1, uint64(all))
	if left := w.raw(t, 'o'); len(left) != 0 {
		t.Errorf("%d records are left in the outbox, want none", len(left))
	}
	seen := 0
	for _, n := range c.last {
		seen += n // the last is the n-th, and none before it was missing
	}
	if seen != int(all) || c.cursor != uint64(all) {
		t.Errorf("the consumer saw %d events up to entry %d, want %d", seen, c.cursor, all)
	}
}

// consumer is a reader that keeps its cursor.
type consumer struct {
	process
	cursor   uint64
	last     map[int]int  // the last event that it saw of each writer
	progress atomic.Int64 // the cursor, for the writers
}

// run reads on from the cursor. After n entries somebody cancels it, at whatever it is doing then.
func (c *consumer) run(ctx context.Context, t *testing.T, n int) {
	if n <= 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for ctx.Err() == nil {
		changed := c.Changed()
		entries, err := c.Read(ctx, c.cursor, 1+rand.IntN(20))
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Read(%d) = %v, want entries", c.cursor, err)
			}
			return
		}
		for _, e := range entries {
			if e.Number != c.cursor+1 {
				t.Errorf("entry %d follows %d", e.Number, c.cursor)
			}
			if v := e.Value; v.Nth != c.last[v.Writer]+1 {
				t.Errorf("entry %d is event %d of writer %d, want %d", e.Number, v.Nth, v.Writer, c.last[v.Writer]+1)
			}
			c.cursor, c.last[e.Value.Writer] = e.Number, e.Value.Nth
			c.progress.Store(int64(e.Number))
			if n--; n == 0 {
				go cancel()
			}
		}
		if len(entries) > 0 {
			continue
		}
		timer := time.NewTimer(2 * time.Millisecond) // the other process moves, too
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
