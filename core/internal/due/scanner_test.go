package due_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

func TestPass(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	want(t, "an empty queue", p.pass(t, left))

	p.move(t, 0, first+1, "a")
	p.move(t, 0, first+1, "b")
	p.move(t, 0, first+2, "c")
	want(t, "before anything is due", p.pass(t, left))
	p.now = (first + 1).Time().Add(-1)
	want(t, "just before", p.pass(t, left))
	p.now = (first + 1).Time()
	want(t, "the first minute", p.pass(t, left), entries(first+1, "a", "b"))
	want(t, "what was left", p.pass(t, func(e due.Entry) bool { return e.Key[0] == "b" }), entries(first+1, "a", "b"))
	want(t, "what was left of that", p.pass(t, p.done(t)), entries(first+1, "b"))
	want(t, "in the same minute, when nothing is left", p.pass(t, left))
	p.now = (first + 2).Time()
	p.move(t, first+1, 0, "a")
	want(t, "the second minute", p.pass(t, p.done(t)), entries(first+2, "c"))
	p.now = (first + 3).Time()
	want(t, "the third minute", p.pass(t, left))
}

// A pass shows oldest first within a shard, in pages, and each entry once.
func TestPages(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	const n = 1300 // in one shard: what is last decides, and is the same
	for i := range n {
		p.move(t, 0, first+1+due.Minute(i%3), fmt.Sprint(i), "same")
	}
	p.now = begun.Add(3 * time.Minute)
	var shown []due.Entry
	var sizes []int
	err := p.Pass(t.Context(), p.now, func(_ context.Context, page []due.Entry) ([]due.Entry, error) {
		shown, sizes = append(shown, page...), append(sizes, len(page))
		slices.Reverse(page) // it is the function's own
		return page[:1], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{page, page, n - 2*page}, sizes); diff != "" {
		t.Errorf("sizes of pages (-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(shown, compare) || !each(shown) || len(shown) != n {
		t.Errorf("%d entries were shown, want %d in order, each once", len(shown), n)
	}
	want(t, "what was left", p.pass(t, ignored), []due.Entry{shown[page-1], shown[2*page-1], shown[n-1]})
}

// What a function returns that was not on the page is no entry.
func TestLeftForeign(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	p.add(t, first+1, 3, "x")
	p.now = begun.Add(time.Minute)
	err := p.Pass(t.Context(), p.now, func(context.Context, []due.Entry) ([]due.Entry, error) {
		return entries(first+1, "never there"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "what was left", p.pass(t, left))
}

// More is left than a Scanner remembers: all of it comes again, and what is behind is shown all the same.
func TestLeftOverflow(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	const n = 1500
	for i := range n {
		p.move(t, 0, first+1+due.Minute(i%2), fmt.Sprint(i), "same")
	}
	for i := range 4 {
		p.now = begun.Add(time.Duration(2+i/2) * time.Minute)
		if got := p.pass(t, left); len(got) != n || !each(got) {
			t.Fatalf("pass %d showed %d entries, want %d, each once", i, len(got), n)
		}
	}
	p.move(t, 0, first+4, "behind", "same")
	p.now = begun.Add(4 * time.Minute)
	if got := p.pass(t, func(e due.Entry) bool { return e.Key[0] != "behind" && left(e) }); len(got) != n+1 || !each(got) {
		t.Errorf("with one more behind, a pass showed %d entries, want %d, each once", len(got), n+1)
	}
	p.move(t, first+4, 0, "behind", "same")

	for more := n; more > 0; {
		shown, done := 0, 0
		got := p.pass(t, func(e due.Entry) bool {
			if shown++; shown%2 == 0 && more > 1 {
				return true
			}
			done++
			p.move(t, e.At, 0, e.Key...)
			return false
		})
		if len(got) != more || !each(got) {
			t.Fatalf("a pass showed %d entries, want the %d that are not done, each once", len(got), more)
		}
		more -= done
	}
	want(t, "when all are done", p.pass(t, left))
}

// each reports whether no entry is there twice.
func each(shown []due.Entry) bool {
	for i := 1; i < len(shown); i++ {
		if compare(shown[i-1], shown[i]) == 0 {
			return false
		}
	}
	return true
}

// An entry that was moved in time, and committed when its minute had been looked at.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	p.pass(t, left)
	p.now = (first + 1).Time().Add(-1)
	tx := p.db.Begin(t.Context())
	if at := p.Move(tx, 0, first, "late"); at != first+1 {
		t.Fatalf("Move() = %d, want %d", at, first+1)
	}
	p.add(t, first+1, 50, "others")
	p.now = (first + 1).Time()
	if got := p.pass(t, left); len(got) != 50 {
		t.Errorf("the first minute showed %d, want 50", len(got))
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.now = (first + 2).Time()
	if got := p.pass(t, left); len(got) != 51 || !each(got) {
		t.Errorf("the second minute showed %d, want 51, each once", len(got))
	}
	if got := p.pass(t, ignored); len(got) != 51 || !each(got) {
		t.Errorf("the same minute again showed %d, want 51, each once", len(got))
	}
}

// The same when the pass that looked at the minute ended in the middle of it, or had too much left to go on.
func TestLateCommitInterrupted(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"ended", "left"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newMemory(t).process(t)
			p.pass(t, left)
			const n = 1500
			for i := range n {
				p.move(t, 0, first+1, fmt.Sprint("b", i), "same")
			}
			p.now = (first + 1).Time()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			shown := 0
			err := p.Pass(ctx, p.now, func(_ context.Context, page []due.Entry) ([]due.Entry, error) {
				if shown += len(page); how == "ended" {
					cancel()
				}
				return page, nil
			})
			if ended := how == "ended"; errors.Is(err, context.Canceled) != ended || (shown < n) != ended {
				t.Fatalf("Pass() = %v after %d entries", err, shown)
			}
			p.now = begun
			p.move(t, 0, first+1, "a", "same") // late, since it sorts before what was shown
			p.now = (first + 2).Time()
			if got := p.pass(t, left); len(got) != n+1 || !each(got) {
				t.Errorf("the second minute showed %d, want %d, each once", len(got), n+1)
			}
		})
	}
}

func TestClockWentBack(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	p.add(t, first+1, 20, "x")
	p.now = begun.Add(10 * time.Minute)
	if got := p.pass(t, left); len(got) != 20 {
		t.Fatalf("Pass() showed %d, want 20", len(got))
	}
	p.now = begun.Add(2 * time.Minute)
	p.move(t, 0, first, "back")
	if got := p.pass(t, left); len(got) != 20 {
		t.Errorf("after the clock went back, Pass() showed %d, want 20", len(got))
	}
	p.now = begun.Add(3 * time.Minute)
	if got := p.pass(t, left); len(got) != 21 || !each(got) {
		t.Errorf("a minute later, Pass() showed %d, want 21, each once", len(got))
	}
	p.now = begun.Add(10 * time.Minute)
	p.pass(t, left)
	p.now = begun.Add(4 * time.Minute)
	p.move(t, 0, first, "back again")
	p.now = begun.Add(5 * time.Minute)
	if got := p.pass(t, left); len(got) != 22 || !each(got) {
		t.Errorf("after the clock went back again, Pass() showed %d, want 22, each once", len(got))
	}
	p.now = begun.Add(-24 * time.Hour)
	want(t, "a day before", p.pass(t, left))
	at := p.move(t, 0, 1, "yesterday")
	p.now = p.now.Add(time.Minute)
	want(t, "a day before, what was added then", p.pass(t, left), entries(at, "yesterday"))
	p.move(t, at, 0, "yesterday")
	long := p.in(t, first-2000, "long ago")
	p.now = p.now.Add(time.Hour)
	want(t, "an hour later", p.pass(t, left), long)
	p.now = p.now.Add(-24 * time.Hour)
	longer := p.in(t, first-4000, "longer ago")
	want(t, "when the clock went back again", p.pass(t, left), longer)
}

// The function fails: the page counts as not shown, and once everything is looked at again.
func TestFuncFails(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	p.pass(t, left)
	p.add(t, first+1, 100, "x")
	p.now = begun.Add(time.Minute)
	want := errors.New("no")
	shown := map[string]bool{}
	pages := 0
	err := p.Pass(t.Context(), p.now, func(_ context.Context, page []due.Entry) ([]due.Entry, error) {
		if pages++; pages == 5 {
			return page, want
		}
		for _, e := range page {
			shown[e.Key[1]] = true
		}
		return nil, nil
	})
	if !errors.Is(err, want) || !strings.Contains(err.Error(), "work") || pages != 5 {
		t.Fatalf("Pass() = %v after %d pages, want the function's error, and which queue, after 5", err, pages)
	}
	p.in(t, first-30, "in the past")
	if got := p.pass(t, left); len(got) != 101 || !each(got) {
		t.Errorf("after an error, Pass() showed %d, want all 101", len(got))
	}
	p.move(t, first-30, 0, "in the past")
	p.in(t, first-29, "in the past")
	if got := p.pass(t, left); len(got) != 101 {
		t.Errorf("then Pass() showed %d, want the 101 that were left: it looks at everything once", len(got))
	}
}

// What was left is not lost when the context ends in the middle of it.
func TestContextEndsOnLeft(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"during the first page", "during the second"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			p := newMemory(t).process(t)
			const n = 600
			for i := range n {
				p.move(t, 0, first+1, fmt.Sprint(i), "same")
			}
			p.now = begun.Add(time.Minute)
			p.pass(t, left)
			ctx, cancel := context.WithCancel(t.Context())
			pages := 0
			err := p.Pass(ctx, p.now, func(_ context.Context, page []due.Entry) ([]due.Entry, error) {
				if pages++; pages == 2 {
					cancel()
					return nil, ctx.Err()
				}
				if when == "during the first page" {
					cancel()
				}
				return page[:100], nil
			})
			if !errors.Is(err, context.Canceled) || (pages == 2) != (when == "during the second") {
				t.Fatalf("Pass() = %v after %d pages, want context.Canceled", err, pages)
			}
			if got := p.pass(t, left); len(got) != 200 || !each(got) {
				t.Errorf("Pass() showed %d, want 200: those that were left again, and those of the page that was not shown", len(got))
			}
		})
	}
}

// The context ends: nothing more is shown, nothing is shown again, and the rest comes with the next pass.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	const n, many = 200, 1600
	p.add(t, first+1, n, "x")
	for i := range many {
		p.move(t, 0, first+1, fmt.Sprint(i), "same")
	}
	p.now = begun.Add(time.Minute)
	shown := map[string]int{}
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		pages := 0
		err := p.Pass(ctx, p.now, func(_ context.Context, page []due.Entry) ([]due.Entry, error) {
			for _, e := range page {
				shown[fmt.Sprint(e.Key)]++
			}
			clear(page) // it is the function's own
			pages++
			cancel()
			return nil, nil
		})
		cancel()
		if pages > 1 {
			t.Fatalf("a pass went on for %d pages after its context ended", pages)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Pass() = %v, want context.Canceled", err)
		}
	}
	for key, times := range shown {
		if times != 1 {
			t.Errorf("entry %s was shown %d times, want once", key, times)
		}
	}
	if len(shown) != n+many {
		t.Errorf("%d entries were shown, want %d", len(shown), n+many)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.count()
	if err := p.Pass(ctx, p.now, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Pass() of a context that is done = %v, want context.Canceled", err)
	}
	if pages, _, _, _ := w.count(); pages > 0 {
		t.Errorf("it read %d pages, want none", pages)
	}
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	p.add(t, first+1, 100, "x")
	p.now = begun.Add(time.Minute)
	scans := 0
	w.failing(func(r *storage.Range, _ *storage.Batch) error {
		if r == nil || r.Start[0] != entriesTag {
			return nil
		}
		if scans++; scans == 3 {
			return errDown
		}
		return nil
	})
	got := 0
	count := func(_ context.Context, page []due.Entry) ([]due.Entry, error) {
		got += len(page)
		return nil, nil
	}
	if err := p.Pass(t.Context(), p.now, count); !errors.Is(err, errDown) {
		t.Fatalf("Pass() = %v, want the store's error", err)
	}
	if err := p.Pass(t.Context(), p.now, count); err != nil || got != 100 {
		t.Errorf("Pass() again = %v, with %d entries in all, want nil, 100", err, got)
	}
	w.failing(func(*storage.Range, *storage.Batch) error { return errDown })
	if _, err := p.Oldest(t.Context(), p.now); !errors.Is(err, errDown) {
		t.Errorf("Oldest() = %v, want the store's error", err)
	}
}

// spoil puts among the entries what no program of ours wrote: more of it than a page holds.
func (w *world) spoil(t testing.TB) {
	t.Helper()
	db := w.open(t)
	index := sealed.NewIndex(db, entriesTag, "work")
	minute := fmt.Sprintf("%010d", first+1)
	for i := range shards {
		shard := fmt.Sprintf("%x", i)
		tx := db.Begin(t.Context())
		index.Mark(tx, shard)
		index.Mark(tx, shard, minute)
		index.Mark(tx, shard, "0000000000", "never")
		index.Mark(tx, shard, "+000000001", "sign")
		index.Mark(tx, shard, "00", "short", "a")
		index.Mark(tx, shard, "000000000x", "digits")
		index.Mark(tx, "", minute, "no shard")
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"}
	for _, shard := range all { // 15 times in the wrong shard
		tx := db.Begin(t.Context())
		index.Mark(tx, shard, minute, "in every shard")
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	good, err := w.Store.Scan(t.Context(), storage.Range{Start: []byte{entriesTag}, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	project := good.Items[0].Key[:len(good.Items[0].Key)-len("\x00\x01"+minute+"\x00\x01"+"no shard"+"\x00\x01")]
	for i := range 3 * page {
		key := slices.Concat(project, []byte("3\x00\x01"), []byte(minute), fmt.Appendf(nil, "\x00\x01torn %04d\x00", i))
		b := storage.Batch{Puts: []storage.Put{{Key: key, If: storage.Any, Rev: 1}}}
		if err := w.Store.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	w.spoil(t)
	p.add(t, first+1, 100, "x")
	p.now = begun.Add(time.Minute)
	if got := p.pass(t, ignored); len(got) != 101 {
		t.Errorf("Pass() showed %d entries, want 101", len(got))
	}
	if log := p.log.String(); strings.Count(log, "passed over") != 1 || !strings.Contains(log, "entries=1563") {
		t.Errorf("the log says %q, want the number of what was passed over, once", log)
	}
	p.now = begun.Add(2 * time.Minute)
	p.pass(t, ignored)
	if log := p.log.String(); strings.Count(log, "passed over") != 1 {
		t.Errorf("the log says %q, want no more of it within the hour", log)
	}
}
