package due_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/storage"
)

// restart is a new process at the time of p.
func (w *world) restart(t testing.TB, p *process) *process {
	t.Helper()
	next := w.process(t)
	next.now = p.now
	return next
}

// in puts an entry into minute at, as a process whose clock is behind would, or one that died after it was shown.
func (p *process) in(t testing.TB, at due.Minute, key string) []due.Entry {
	t.Helper()
	now := p.now
	p.now = (at - 1).Time()
	if got := p.move(t, 0, at, key); got != at {
		t.Fatalf("Move(%d) = %d", at, got)
	}
	p.now = now
	return entries(at, key)
}

// A new Scanner begins 15 minutes before where another one was, and looks at everything when nobody did within the hour.
func TestMark(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	for range 30 {
		p.now = p.now.Add(time.Minute)
		p.pass(t, ignored)
	}
	now := due.At(p.now) - 1
	before := p.in(t, now-16, "before the mark")
	after := p.in(t, now-15, "at the mark")
	want(t, "the old Scanner", p.pass(t, ignored))
	want(t, "a new one", w.restart(t, p).pass(t, ignored), after)
	p.now = p.now.Add(31 * time.Minute)
	want(t, "the old one within the hour", p.pass(t, ignored), before, after)
}

// However often processes are started anew, somebody looks at everything once an hour, and only once.
func TestMarkRestarts(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	shown, added := 0, 0
	for i := range 305 {
		if i%20 == 0 {
			p = w.restart(t, p)
		}
		if i%60 == 10 && i > 60 {
			p.in(t, first-100, "x")
			added++
		}
		got := p.pass(t, p.done(t))
		if shown += len(got); len(got) > 0 && i%60 == 10 {
			t.Errorf("what was added in the past was shown at once, in minute %d: each pass looks at everything", i)
		}
		p.now = p.now.Add(time.Minute)
	}
	if shown != added || added != 4 {
		t.Errorf("%d of %d entries were shown", shown, added)
	}
}

// What is left keeps the mark from going on, until it was taken some time ago.
func TestMarkWaits(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	stuck := p.in(t, first-1, "stuck")
	for range 50 {
		p.now = p.now.Add(time.Minute)
		want(t, "each pass", p.pass(t, left), stuck)
	}
	want(t, "a new Scanner", w.restart(t, p).pass(t, left), stuck)
	want(t, "when it is taken", p.pass(t, ignored), stuck)
	for range 9 {
		p.now = p.now.Add(time.Minute)
		p.pass(t, ignored)
	}
	want(t, "a new Scanner soon after", w.restart(t, p).pass(t, left), stuck)
	for range 7 {
		p.now = p.now.Add(time.Minute)
		p.pass(t, p.done(t))
	}
	want(t, "a new Scanner when that was long ago", w.restart(t, p).pass(t, left))
}

// Old entries that were taken and not done by a process that died are shown to the next one, if that was not long ago.
func TestMarkAfterDeath(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	for range 30 {
		p.now = p.now.Add(time.Minute)
		p.pass(t, left)
	}
	p.now = p.now.Add(3 * time.Hour) // down
	p = w.restart(t, p)
	taken := p.in(t, due.At(p.now)-120, "taken")
	want(t, "the first pass after a long time", p.pass(t, ignored), taken)
	for range 14 {
		p.now = p.now.Add(time.Minute)
		want(t, "its Scanner", p.pass(t, ignored))
	}
	want(t, "a new one", w.restart(t, p).pass(t, ignored), taken)
	p.now = p.now.Add(time.Minute)
	want(t, "its Scanner", p.pass(t, ignored))
	want(t, "a new one a minute later", w.restart(t, p).pass(t, ignored))
}

// A pass may take long: what it showed last was shown when it ended, not when it began.
func TestMarkAfterLongPass(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	taken := p.in(t, first-100, "taken")
	want(t, "a pass of 20 minutes", p.pass(t, func(due.Entry) bool {
		p.now = p.now.Add(20 * time.Minute)
		return false
	}), taken)
	p.now = p.now.Add(time.Minute)
	want(t, "the next one", p.pass(t, ignored))
	want(t, "a new Scanner", w.restart(t, p).pass(t, ignored), taken)
}

// No process tells less than another one told already.
func TestMarkOnlyRises(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	var q *process
	for i := range 90 {
		p.pass(t, left)
		if i == 30 {
			q = w.restart(t, p)
		}
		if q != nil {
			q.now = p.now
			q.pass(t, left)
		}
		p.now = p.now.Add(time.Minute)
	}
	fresh := w.restart(t, p)
	fresh.pass(t, left) // has no trail of its own, and looked at everything when p did, or before
	p.in(t, due.At(p.now)-20, "before the mark")
	want(t, "a new Scanner", w.restart(t, p).pass(t, left))
}

func TestMarkIsWrittenOnceAMinute(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p, q := w.process(t), w.process(t)
	w.count()
	for range 90 * 12 {
		p.now = p.now.Add(5 * time.Second)
		q.now = p.now
		p.pass(t, left)
		q.pass(t, left)
	}
	if _, _, _, marks := w.count(); marks < 75 || marks > 79 {
		t.Errorf("two Scanners wrote the mark %d times in 90 minutes, want 75 times as it rises, and for passes over everything", marks)
	}
}

// Nor when another one looked at everything since.
func TestMarkOfWholeOnlyRises(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p, q := w.process(t), w.process(t)
	for i := range 60 {
		q.now = p.now
		if q.pass(t, left); i == 45 {
			q.move(t, 0, due.At(q.now), "x")
			q.now = q.now.Add(time.Minute)
			_ = q.Pass(t.Context(), q.now, func(context.Context, []due.Entry) ([]due.Entry, error) { return nil, errDown })
			q.pass(t, q.done(t)) // over everything
			q.now = p.now
		}
		p.pass(t, ignored)
		p.now = p.now.Add(time.Minute)
	}
	p.now = p.now.Add(time.Minute)
	p.in(t, first-100, "x")
	want(t, "a new Scanner", w.restart(t, p).pass(t, ignored))
}

// A mark from a clock that is far ahead is not believed, and one from a clock that is a bit ahead hides nothing.
func TestMarkAhead(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{20 * time.Minute, 29 * time.Minute, 40 * time.Minute, 3 * time.Hour, 1000 * time.Hour} {
		for _, anew := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v, anew %v", ahead, anew), func(t *testing.T) {
				t.Parallel()
				w := newMemory(t)
				p := w.process(t)
				for i := range time.Duration(17) {
					p.now = begun.Add(ahead + (i-16)*time.Minute)
					p.pass(t, left)
				}
				p.now = begun
				entry := p.in(t, first-15, "x")
				if anew {
					p = w.process(t)
					want(t, "a new Scanner", p.pass(t, p.done(t)), entry)
				} else {
					p.pass(t, left) // whether it looks at everything depends on how far the clock went back
				}

				// And it was replaced, for those that come after.
				for range 16 {
					p.now = p.now.Add(time.Minute)
					p.pass(t, p.done(t))
				}
				p.in(t, first-40, "long ago")
				for _, e := range w.restart(t, p).pass(t, left) {
					if e.Key[0] == "long ago" {
						t.Error("a new Scanner begins at the very beginning: the mark was not replaced")
					}
				}
			})
		}
	}
}

// A clock that jumps ahead within the hour leaves a mark that is not believed, and a look at everything that is.
func TestMarkJumpsAhead(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	p.pass(t, left)
	for i := range time.Duration(17) {
		p.now = begun.Add((32 + i) * time.Minute)
		p.pass(t, left)
	}
	p.now = begun
	entry := p.in(t, first-100, "x")
	want(t, "a new Scanner", w.restart(t, p).pass(t, left), entry)
}

// That the mark cannot be written is no error, and nobody hears of it who only lost a race.
func TestMarkFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		log  bool
	}{
		{"conflict", &storage.ConflictError{Key: []byte("k")}, false},
		{"full", storage.ErrFull, true},
		{"unknown", storage.ErrUnknownOutcome, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newMemory(t)
			p := w.process(t)
			w.failing(func(_ *storage.Range, b *storage.Batch) error {
				if b != nil {
					return test.err
				}
				return nil
			})
			p.pass(t, left)
			if log := p.log.String(); strings.Contains(log, "low-water") != test.log {
				t.Errorf("the log says %q, want a warning: %v", log, test.log)
			}
			w.failing(nil)
			w.count()
			p.now = p.now.Add(time.Minute)
			p.pass(t, left)
			if _, _, _, marks := w.count(); marks != 1 {
				t.Errorf("a minute later the mark was written %d times, want once", marks)
			}
		})
	}
}

// A mark that was altered is as good as none.
func TestMarkCorrupt(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	p.pass(t, left)
	found, err := w.Store.Scan(t.Context(), storage.Range{Start: []byte{markTag}, Limit: 1})
	if err != nil || len(found.Items) != 1 {
		t.Fatalf("there is no mark: %v", err)
	}
	item := found.Items[0]
	item.Value[len(item.Value)-1] ^= 1
	put := storage.Put{Key: item.Key, Value: item.Value, If: item.Rev, Rev: item.Rev + 1}
	if err := w.Store.Apply(t.Context(), storage.Batch{Puts: []storage.Put{put}}); err != nil {
		t.Fatal(err)
	}
	entry := p.in(t, first-1000, "x")
	q := w.restart(t, p)
	want(t, "a new Scanner", q.pass(t, left), entry)
	if log := q.log.String(); !strings.Contains(log, "low-water") {
		t.Errorf("the log says %q, want why it begins at the start", log)
	}
	if oldest, err := q.Oldest(t.Context(), q.now); oldest != first-1000 || err != nil {
		t.Errorf("Oldest() = %d, %v, want %d, nil", oldest, err, first-1000)
	}
}

// Scanners of several processes race: each entry is shown to one of them at least, and its work is done by one.
func TestProcessesRace(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	const n, processes = 2000, 4
	p := w.process(t)
	p.add(t, first+1, n, "x")
	var mu sync.Mutex // guards what follows
	winners := map[string]int{}
	win := func(e due.Entry, by int) bool {
		mu.Lock()
		defer mu.Unlock()
		if winners[e.Key[1]] > 0 {
			return false
		}
		winners[e.Key[1]] = by
		return true
	}
	var racing sync.WaitGroup
	for i := range processes {
		q := w.restart(t, p)
		racing.Go(func() {
			for range 3 {
				q.now = q.now.Add(time.Minute)
				err := q.Pass(t.Context(), q.now, func(ctx context.Context, page []due.Entry) (left []due.Entry, err error) {
					for _, e := range page {
						if !win(e, i+1) {
							left = append(left, e)
							continue
						}
						tx := q.db.Begin(ctx)
						q.Move(tx, e.At, 0, e.Key...)
						if err := tx.Commit(ctx); err != nil {
							return nil, err
						}
					}
					return left, nil
				})
				if err != nil {
					t.Errorf("Pass() = %v, want nil", err)
				}
			}
		})
	}
	racing.Wait()
	for i := range n {
		if winners[fmt.Sprint(i)] == 0 {
			t.Errorf("entry %d was shown to nobody", i)
		}
	}
	by := map[int]int{}
	for _, winner := range winners {
		by[winner]++
	}
	t.Logf("shares of %d processes: %v", processes, by)
}
