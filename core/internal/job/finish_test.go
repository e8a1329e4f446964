package job_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/job"
	"github.com/polycred/polycred/core/internal/lease"
)

// A job that the store cuts short, after whatever batch, is carried on by whoever comes next, in the same process or in
// another, and everything is done and counted once; answers that are lost change nothing.
func TestCutShort(t *testing.T) {
	t.Parallel()
	const few = 4
	for _, how := range []failure{forGood, onceLost, onceVanished} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			n := 0
			for done := false; !done; n++ {
				w := newWorld(t)
				other := w.open(lease.Options{})
				w.build("a", few)
				id := w.order("a", "")
				w.store.how = how
				w.store.left.Store(int64(n))
				got, err := w.Finish(t.Context(), "paint", "a", id, func(job.Progress) {})
				done = !w.store.failed.Load()
				w.store.left.Store(-1)
				if failed := how == forGood && !done; failed != errors.Is(err, errFailing) || !failed && err != nil {
					t.Fatalf("after %d batches: error %v", n, err)
				}
				switch {
				case err == nil:
				case n%3 == 0:
					got = w.finish(t, "a", id)
				case n%3 == 1:
					got = other.finish(t, "a", id)
				default:
					if err := other.Resume(t.Context()); err != nil {
						t.Fatal(err)
					}
					got = whole("a", few) // nobody waited for it
				}
				w.wantReport(got, whole("a", few))
				w.wantPainted("a", id, few)
				if t.Failed() {
					t.Fatalf("when cut short after %d batches", n)
				}
			}
			if want := 1 + 3 + 1 + few + 3 + 1; n != want+1 { // begin, doors, count, walls, scraps, end
				t.Errorf("the whole took %d batches, want %d", n-1, want)
			}
		})
	}
}

// Many callers at once, in four processes, do one job and get one report.
func TestFinishRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	processes := []*process{w.process, w.open(lease.Options{}), w.open(lease.Options{}), w.open(lease.Options{})}
	w.build("a", 200)
	id := w.order("a", "")
	var callers sync.WaitGroup
	for i := range 32 {
		callers.Go(func() {
			p := &progress{T: t}
			got, err := processes[i%len(processes)].Finish(t.Context(), "paint", "a", id, p.tell)
			if diff := cmp.Diff(whole("a", 200), got); err != nil || diff != "" {
				t.Errorf("caller %d: %v, report (-want +got):\n%s", i, err, diff)
			}
		})
	}
	for _, p := range processes {
		callers.Go(func() {
			if err := p.Resume(t.Context()); err != nil {
				t.Errorf("Resume() = %v, want nil", err)
			}
		})
	}
	callers.Wait()
	w.wantPainted("a", id, 200)
}

// Of many that make a job at once one does.
func TestAddRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	var winners atomic.Int64
	_, rev, err := w.Running(ctx, "paint", "a")
	if err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			tx := w.kernel.DB().Begin(ctx)
			w.Add(tx, rev, "paint", "a", "")
			if w.kernel.Apply(ctx, tx) == nil {
				winners.Add(1)
			}
		})
	}
	callers.Wait()
	if got := winners.Load(); got != 1 {
		t.Errorf("%d made the job, want 1", got)
	}
}

// halt makes a process stand still at a step of its next job, until it is released.
func (p *process) halt(step string) (reached <-chan struct{}, release func()) {
	halted, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.at = func(_ context.Context, at string) error {
		if at == step {
			once.Do(func() {
				close(halted)
				<-released
			})
		}
		return nil
	}
	return halted, func() { close(released) }
}

// takeOver carries on a job of a process that does not renew its lease, once that stood still for the TTL and no
// sooner.
func (p *process) takeOver(w *world, house, id string) {
	w.Helper()
	for range 3 { // the first sight, half a TTL later, and at its end
		if running, _, err := p.Running(w.Context(), "paint", house); running != id || err != nil {
			w.Fatalf("Running() while the lease lasts = %q, %v, want %q", running, err, id)
		}
		if err := p.Resume(w.Context()); err != nil {
			w.Fatal(err)
		}
		p.clock.advance(ttl / 2)
	}
}

// A process that is suspended while it holds the lease, for longer than that lasts, changes nothing once it goes on:
// another one has carried the job on, to its end. It gets the report of that.
func TestSuspended(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before", "page", "do", "after", "end"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			other := w.open(lease.Options{})
			w.build("a", walls)
			id := w.order("a", "")
			reached, release := w.halt(step)
			ended := w.later(t, "a", id)
			<-reached
			other.takeOver(w, "a", id)
			w.wantPainted("a", id, walls)
			before := w.store.applied.Load()
			release()
			w.wantReport(<-ended, whole("a", walls))
			if got, allowed := w.store.applied.Load()-before, int64(16); got > allowed { // one try of each part
				t.Errorf("%d batches were tried by a process that was suspended, want at most %d", got, allowed)
			}
			w.wantPainted("a", id, walls)
		})
	}
}

// Whoever carries a job on has it from then on: one that had it before changes nothing any more, neither items that are
// still to be dealt with nor anything else.
func TestFence(t *testing.T) {
	t.Parallel()
	for step, begun := range map[string]string{"before": "before", "page": "page", "do": "page", "after": "page", "end": "page"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			other := w.open(lease.Options{Exclusive: true}) // takes over at once
			w.build("a", walls)
			id := w.order("a", "")
			reached, release := w.halt(step)
			ended := w.later(t, "a", id)
			<-reached
			othersReached, releaseOther := other.halt(begun)
			othersEnded := other.later(t, "a", id)
			<-othersReached
			gaveUp := make(chan struct{})
			var once sync.Once
			w.store.looked = func() { once.Do(func() { close(gaveUp) }) } // it has gone on to wait for the other one
			before := w.items()
			release()
			<-gaveUp
			if diff := cmp.Diff(before, w.items()); diff != "" {
				t.Errorf("a process that lost the job changed (-before +after):\n%s", diff)
			}
			releaseOther()
			w.wantReport(<-othersEnded, whole("a", walls))
			w.wantReport(<-ended, whole("a", walls))
			w.wantPainted("a", id, walls)
		})
	}
}

// Who loses the lease notices at the next renewal, and leaves the rest to whoever has it.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	victim := w.process
	victim.start(3 * time.Millisecond)
	thief := w.open(lease.Options{Exclusive: true}) // takes over at once
	w.build("a", walls)
	id := w.order("a", "")
	reached := make(chan struct{})
	var once sync.Once
	victim.at = func(ctx context.Context, step string) error {
		if step == "do" {
			once.Do(func() { close(reached) })
			<-ctx.Done() // as long as it has the lease
			return ctx.Err()
		}
		return nil
	}
	ended := victim.later(t, "a", id)
	<-reached
	w.wantReport(thief.finish(t, "a", id), whole("a", walls))
	w.wantReport(<-ended, whole("a", walls))
	w.wantPainted("a", id, walls)
}

// A process that dies leaves its lease behind: another one takes over once that has run out.
func TestDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.open(lease.Options{})
	w.build("a", walls)
	id := w.order("a", "")
	ctx, die := context.WithCancel(t.Context())
	_, err := w.Finish(ctx, "paint", "a", id, func(job.Progress) {
		w.store.leases.Store(true)
		die()
	})
	w.store.leases.Store(false)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Finish() = %v, want %v", err, context.Canceled)
	}
	other.takeOver(w, "a", id)
	w.wantPainted("a", id, walls)
}

// Who leaves stops the work between two items; the next who comes does the rest, and only that.
func TestCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.build("a", 200)
	id := w.order("a", "")
	ctx, cancel := context.WithCancel(t.Context())
	p := &progress{T: t}
	_, err := w.Finish(ctx, "paint", "a", id, func(now job.Progress) {
		p.tell(now)
		cancel()
	})
	if !errors.Is(err, context.Canceled) || p.last.Done == 0 || p.last.Done == 200 {
		t.Errorf("Finish() = %v with %+v, want %v half-way", err, p.last, context.Canceled)
	}
	got, err := w.open(lease.Options{}).Finish(t.Context(), "paint", "a", id, p.tell) // goes on from there
	if want := (job.Progress{Done: 200, Total: 200}); err != nil || p.last != want {
		t.Errorf("Finish() = %v with %+v, want %+v", err, p.last, want)
	}
	w.wantReport(got, whole("a", 200))
	w.wantPainted("a", id, 200)
}

// Who waits for a job of another process is told how far it is, and stops waiting when its context ends.
func TestWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.open(lease.Options{})
	w.build("a", walls)
	id := w.order("a", "")
	reached, release := w.halt("after")
	ended := w.later(t, "a", id)
	<-reached
	ctx, cancel := context.WithCancel(t.Context())
	var told []job.Progress
	_, err := other.Finish(ctx, "paint", "a", id, func(now job.Progress) {
		told = append(told, now)
		cancel()
	})
	if want := []job.Progress{{Done: walls, Total: walls}}; !cmp.Equal(told, want) || !errors.Is(err, context.Canceled) {
		t.Errorf("Finish() of another = %v and was told %v, want %v and %v", err, told, context.Canceled, want)
	}
	release()
	w.wantReport(<-ended, whole("a", walls))
}

// An item that somebody else changes meanwhile is dealt with as it is then.
func TestConflict(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before", "do", "end"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx := t.Context()
			w.build("a", 1)
			id := w.order("a", "")
			var once sync.Once
			w.at = func(_ context.Context, at string) (err error) {
				if at == step {
					once.Do(func() { err = w.disturb(step) })
				}
				return err
			}
			want := whole("a", 1)
			if step == "before" {
				want.Unhinged-- // somebody else did
			}
			w.wantReport(w.finish(t, "a", id), want)
			coats := map[string]int{"before": 1, "do": 11, "end": 1}[step]
			if v, _, err := w.walls.Get(ctx, "a", "0000"); err != nil || v.Coats != coats {
				t.Errorf("after a change by somebody else: wall = %+v, %v, want %d coats", v, err, coats)
			}
		})
	}
}

// disturb changes what a step has just read.
func (w *world) disturb(step string) error {
	ctx := w.Context()
	tx := w.kernel.DB().Begin(ctx)
	switch step {
	case "before":
		_, rev, err := w.doors.Get(ctx, "a", "0")
		if err != nil {
			return err
		}
		w.doors.Delete(tx, rev, "a", "0")
	case "do":
		_, rev, err := w.walls.Get(ctx, "a", "0000")
		if err != nil {
			return err
		}
		w.walls.Put(tx, &wall{Coats: 10}, rev, "a", "0000")
	case "end":
		w.signs.Put(tx, &wall{}, 0, "a")
	default:
		return fmt.Errorf("step %q", step)
	}
	return w.kernel.Apply(ctx, tx)
}

// Who waits while the job ends is not told that it went back, whose parts are gone then.
func TestWaitToTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.open(lease.Options{})
	w.build("a", walls)
	id := w.order("a", "")
	reached, release := w.halt("end")
	ended := w.later(t, "a", id)
	<-reached
	releasing, released := make(chan struct{}), make(chan struct{})
	w.store.released = func() {
		close(releasing)
		<-released
	}
	var once sync.Once
	w.store.looked = func() { // the job had not ended, and now it does, while the lease is still held
		once.Do(func() {
			release()
			<-releasing
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := other.Finish(ctx, "paint", "a", id, func(now job.Progress) {
		t.Errorf("progress of a job that has ended = %+v, want none", now)
	})
	if err != nil {
		t.Errorf("Finish() = %v, want nil", err)
	}
	w.wantReport(got, whole("a", walls))
	close(released)
	w.wantReport(<-ended, whole("a", walls))
}
