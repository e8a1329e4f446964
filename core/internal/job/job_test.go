package job_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/job"
	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/storage"
)

// walls is how many a house has, unless a test needs more: more than one for some parts.
const walls = 20

// progress collects what is told, and fails the test where that goes back.
type progress struct {
	*testing.T
	last job.Progress
}

func (p *progress) tell(now job.Progress) {
	if now.Done < p.last.Done || now.Done > now.Total {
		p.Errorf("progress %+v behind %+v", now, p.last)
	}
	p.last = now
}

// Everything is done once, however many pages it fills, and whoever asks later gets the same report.
func TestFinish(t *testing.T) {
	t.Parallel()
	const many = 2300
	w := newWorld(t)
	ctx := t.Context()
	w.build("a", many)
	w.build("b", walls)
	id := w.order("a", "")
	if running, _, err := w.Running(ctx, "paint", "a"); running != id || err != nil {
		t.Errorf("Running() = %q, %v, want %q", running, err, id)
	}
	p := &progress{T: t}
	got, err := w.Finish(ctx, "paint", "a", id, p.tell)
	if err != nil {
		t.Fatal(err)
	}
	w.wantReport(got, whole("a", many))
	if want := (job.Progress{Done: many, Total: many}); p.last != want {
		t.Errorf("progress = %+v, want %+v", p.last, want)
	}
	w.wantPainted("a", id, many)
	if v, _, err := w.walls.Get(ctx, "b", "0000"); v.Coats != 0 || err != nil {
		t.Errorf("a wall of another house = %+v, %v, want it as it was", v, err)
	}

	before := w.store.applied.Load()
	w.wantReport(w.open(lease.Options{}).finish(t, "a", id), whole("a", many))
	if n := w.store.applied.Load() - before; n != 0 {
		t.Errorf("asking for the report took %d writes, want none", n)
	}
}

// A job is about items up to the last one that it was made with, whoever carries it on. Ids of any form are dealt with.
func TestUntil(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	tx := w.kernel.DB().Begin(ctx)
	for _, id := range []string{"0", "A", "f", "ff", "fg", "g"} {
		w.walls.Put(tx, &wall{}, 0, "a", id)
	}
	w.apply(tx)
	id := w.order("a", "ff")
	if err := w.open(lease.Options{}).Resume(ctx); err != nil {
		t.Fatal(err)
	}
	w.wantReport(w.finish(t, "a", id), report{Painted: 4, Of: map[string]int{"a": 4}})
	if v, _, err := w.walls.Get(ctx, "a", "fg"); v.Coats != 0 || err != nil {
		t.Errorf("a wall behind the last one = %+v, %v, want it as it was", v, err)
	}
}

// There is one job of a kind and a subject at a time; another one takes the place of one that has ended, whose report
// is gone then.
func TestAdd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.build("a", walls)
	_, rev, err := w.Running(ctx, "paint", "a")
	if rev != 0 || err != nil {
		t.Fatalf("Running() = revision %d, %v, want none", rev, err)
	}
	first := w.order("a", "")
	tx := w.kernel.DB().Begin(ctx)
	w.Add(tx, rev, "paint", "a", "")
	var conflict *storage.ConflictError
	if err := w.kernel.Apply(ctx, tx); !errors.As(err, &conflict) {
		t.Errorf("Add() beside another one = %v, want a conflict", err)
	}
	w.finish(t, "a", first)
	second := w.order("a", "")
	if second == first {
		t.Errorf("Add() twice = %q, want ids of their own", first)
	}
	for _, gone := range []struct{ house, id string }{{"a", first}, {"b", first}} {
		if _, err := w.Finish(ctx, "paint", gone.house, gone.id, nil); !errors.Is(err, job.ErrGone) {
			t.Errorf("Finish() of a job that is gone = %v, want ErrGone", err)
		}
	}
}

// What a dry run returns is what is done then, and looking changes nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.build("a", walls)
	tx := w.kernel.DB().Begin(ctx)
	w.walls.Put(tx, &wall{Coats: -1}, 0, "a", "not to be painted")
	w.apply(tx)
	before := w.store.applied.Load()
	p := &progress{T: t}
	dry, err := w.DryRun(ctx, &painting{w.process, "a", ""}, p.tell)
	if err != nil {
		t.Fatal(err)
	}
	want := whole("a", walls)
	want.Unhinged = 0 // Before is not called
	w.wantReport(dry, want)
	if want := (job.Progress{Done: walls + 1, Total: walls + 1}); p.last != want {
		t.Errorf("progress = %+v, want %+v", p.last, want)
	}
	if n := w.store.applied.Load() - before; n != 0 {
		t.Errorf("a dry run took %d writes, want none", n)
	}

	p.last = job.Progress{}
	got, err := w.Finish(ctx, "paint", "a", w.order("a", ""), p.tell)
	if err != nil {
		t.Fatal(err)
	}
	w.wantReport(got, whole("a", walls))
	if want := (job.Progress{Done: walls + 1, Total: walls + 1}); p.last != want {
		t.Errorf("progress = %+v, want what is not to be changed to count as done", p.last)
	}
	if v, _, err := w.walls.Get(ctx, "a", "not to be painted"); v.Coats != -1 || err != nil {
		t.Errorf("what is not to be changed = %+v, %v", v, err)
	}
}

// What fails ends the job for now, whichever step it is, and is done by the next who comes, once.
func TestStepFails(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before", "page", "do", "after", "end"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.build("a", walls)
			id := w.order("a", "")
			errStep := errors.New("no paint")
			w.at = func(_ context.Context, at string) error {
				if at == step {
					return errStep
				}
				return nil
			}
			got, err := w.Finish(t.Context(), "paint", "a", id, func(job.Progress) {})
			if !errors.Is(err, errStep) || !cmp.Equal(got, report{}) {
				t.Errorf("Finish() = %+v, %v, want %v", got, err, errStep)
			}
			_, err = w.DryRun(t.Context(), &painting{w.process, "a", ""}, func(job.Progress) {})
			if want := step == "page" || step == "do"; errors.Is(err, errStep) != want {
				t.Errorf("DryRun() = %v, want %v: %v", err, errStep, want)
			}
			other := w.open(lease.Options{}) // the lease was released
			w.wantReport(other.finish(t, "a", id), whole("a", walls))
			w.wantPainted("a", id, walls)
		})
	}
}

// A process that ends begins no step any more.
func TestEnding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.build("a", walls)
	id := w.order("a", "")
	p := &progress{T: t}
	_, err := w.Finish(ctx, "paint", "a", id, func(now job.Progress) {
		p.tell(now)
		w.ending.Store(true)
	})
	if !errors.Is(err, errEnding) || p.last.Done == 0 || p.last.Done == walls {
		t.Errorf("Finish() while the process ends = %v with %+v, want %v half-way", err, p.last, errEnding)
	}
	if _, err := w.Finish(ctx, "paint", "a", id, nil); !errors.Is(err, errEnding) {
		t.Errorf("Finish() = %v, want %v", err, errEnding)
	}
	if _, err := w.DryRun(ctx, &painting{w.process, "a", ""}, nil); !errors.Is(err, errEnding) {
		t.Errorf("DryRun() = %v, want %v", err, errEnding)
	}
	w.wantReport(w.open(lease.Options{}).finish(t, "a", id), whole("a", walls))
	w.wantPainted("a", id, walls)
}

// What the store cannot answer is an error, and nothing else.
func TestStoreClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.build("a", walls)
	id := w.order("a", "")
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, running := w.Running(ctx, "paint", "a")
	_, finish := w.Finish(ctx, "paint", "a", id, nil)
	_, dry := w.DryRun(ctx, &painting{w.process, "a", ""}, nil)
	for what, err := range map[string]error{"Running": running, "Finish": finish, "DryRun": dry, "Resume": w.Resume(ctx)} {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("%s() on a closed store = %v, want ErrClosed", what, err)
		}
	}
}

// Resume carries on what nobody waits for, whatever fails beside it, and keeps a report for an hour.
func TestResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	houses := []string{"a", "b" + strings.Repeat("é", 100), "c"}
	ids := map[string]string{}
	for _, house := range houses {
		w.build(house, walls)
		ids[house] = w.order(house, "")
	}
	broken := houses[1]
	tx := w.kernel.DB().Begin(ctx)
	w.walls.Put(tx, &wall{}, 0, broken, "broken")
	w.apply(tx)
	page, err := w.store.Scan(ctx, storage.Range{Start: []byte("w"), End: []byte("x"), Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range page.Items {
		if strings.Contains(string(item.Key), "broken") {
			put := storage.Put{Key: item.Key, Value: []byte("damaged"), If: item.Rev, Rev: item.Rev + 1}
			if err := w.store.Store.Apply(ctx, storage.Batch{Puts: []storage.Put{put}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = w.Resume(ctx)
	want := fmt.Sprintf("carry on to paint %q: ", "b"+strings.Repeat("é", 63))
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Resume() = %v, want an error that begins with %s", err, want)
	}
	for _, house := range []string{"a", "c"} {
		w.wantPainted(house, ids[house], walls)
	}
	if id, _, err := w.Running(ctx, "paint", broken); id != ids[broken] || err != nil {
		t.Errorf("Running() = %q, %v, want %q to go on", id, err, ids[broken])
	}

	w.clock.advance(59 * time.Minute)
	if err := w.Resume(ctx); err == nil {
		t.Error("Resume() = nil, want what is broken to fail again")
	}
	w.wantReport(w.finish(t, "a", ids["a"]), whole("a", walls))
	w.clock.advance(time.Minute)
	if err := w.Resume(ctx); err == nil {
		t.Error("Resume() = nil, want what is broken to fail again")
	}
	for house, want := range map[string]bool{"a": false, broken: true, "c": false} {
		rows, _, err := w.records.Keys(ctx, []string{"paint", house}, nil, 0)
		if err != nil || len(rows) > 0 != want {
			t.Errorf("after an hour %d records of job %.10s are left, %v; want any: %v", len(rows), house, err, want)
		}
	}
	if _, err := w.Finish(ctx, "paint", "a", ids["a"], nil); !errors.Is(err, job.ErrGone) {
		t.Errorf("Finish() after an hour = %v, want ErrGone", err)
	}
}
