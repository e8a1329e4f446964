package due_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/due"
)

func TestAt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		t    time.Time
		want due.Minute
	}{
		{"zero time", time.Time{}, 0},
		{"1970", time.Unix(0, 0), 0},
		{"just after", time.Unix(0, 1), 1},
		{"on the minute", time.Unix(600, 0), 10},
		{"a nanosecond later", time.Unix(600, 1), 11},
		{"the last second", time.Unix(659, 999_999_999), 11},
		{"far away", time.Unix(1<<60, 0), 9_999_999_998},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := due.At(test.t)
			if got != test.want {
				t.Errorf("At(%v) = %d, want %d", test.t, got, test.want)
			}
			if again := due.At(got.Time()); got > 0 && again != got {
				t.Errorf("At(Minute(%d).Time()) = %d, want the same", got, again)
			}
		})
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		there, from, to due.Minute // relative to first, but for 0 and below -1000, which are never
		want            due.Minute // what Move returns
		lies            []due.Minute
	}{
		{"new", 0, 0, 5, 5, []due.Minute{5}},
		{"later", 5, 5, 9, 9, []due.Minute{9}},
		{"sooner", 9, 9, 5, 5, []due.Minute{5}},
		{"never", 5, 5, 0, 0, nil},
		{"never, by a negative one", 5, -2000, -2000, 0, []due.Minute{5}},
		{"from nothing to nothing", 0, 0, 0, 0, nil},
		{"what is not there", 0, 4, 0, 0, nil},
		{"a record that was wrong", 5, 4, 6, 6, []due.Minute{5, 6}},
		{"the same", 5, 5, 5, 5, []due.Minute{5}},
		{"the same, which was lost", 0, 5, 5, 5, []due.Minute{5}},
		{"the same, in the past", 1, -70, -70, 1, []due.Minute{1}},
		{"to the past", 0, 0, -3, 1, []due.Minute{1}},
		{"past to past", 3, 3, -7, 1, []due.Minute{1}},
		{"to where it would become", 1, 1, -3, 1, []due.Minute{1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			abs := func(m due.Minute) due.Minute {
				if m == 0 || m < -1000 {
					return m
				}
				return first + m
			}
			p := newMemory(t).process(t)
			if test.there != 0 {
				p.move(t, 0, abs(test.there), "key")
			}
			if got := p.move(t, abs(test.from), abs(test.to), "key"); got != abs(test.want) {
				t.Errorf("Move() = %d, want %d", got, abs(test.want))
			}
			var lies []due.Minute
			p.now = begun.Add(time.Hour)
			for _, e := range p.pass(t, ignored) {
				lies = append(lies, e.At-first)
			}
			if diff := cmp.Diff(test.lies, lies); diff != "" {
				t.Errorf("the entry lies at (-want +got):\n%s", diff)
			}
		})
	}
}

// A minute that has begun is moved to the next one by the queue's clock, so minute 0 + 1 is what stands in the table.
func TestMoveFarAway(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	if got := p.move(t, 0, 1<<62, "key"); got != 9_999_999_998 {
		t.Errorf("Move(1<<62) = %d, want the last minute there is", got)
	}
	p.now = time.Unix(9_999_999_998*60, 0)
	want(t, "in the last minute", p.pass(t, ignored), entries(9_999_999_998, "key"))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	p := newMemory(t).process(t)
	keys := [][]string{{"a"}, {"a", ""}, {"a", "b"}, {"a/b"}, {"a\x00b", "\x00\x01\xff"}, {""}, {"a", "b", "c"}, {"ä"}}
	for _, key := range keys {
		p.move(t, 0, first+1, key...)
	}
	p.now = begun.Add(time.Minute)
	shown := map[string]bool{}
	for _, e := range p.pass(t, p.done(t)) {
		shown[fmt.Sprintf("%q", e.Key)] = true
	}
	for _, key := range keys {
		if !shown[fmt.Sprintf("%q", key)] {
			t.Errorf("key %q was not shown", key)
		}
	}
	fresh := p.Queue.Scanner(nil)
	p.Scanner = fresh
	want(t, "after all were removed", p.pass(t, ignored))
}

func TestOldest(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	p := w.process(t)
	oldest := func(want due.Minute, when string) {
		t.Helper()
		if got, err := p.Oldest(t.Context(), p.now); got != want || err != nil {
			t.Errorf("Oldest() %s = %d, %v, want %d, nil", when, got, err, want)
		}
	}
	oldest(0, "of nothing")
	p.add(t, first+3, 20, "later")
	p.move(t, 0, first+2, "sooner")
	oldest(0, "before anything is due")
	p.now = begun.Add(3 * time.Minute)
	oldest(first+2, "when both are due")
	w.bury()
	w.spoil(t)
	p.move(t, first+1, 0, "in every shard")
	oldest(first+2, "among malformed ones")
	p.move(t, first+2, 0, "sooner")
	oldest(first+3, "when the oldest is gone")

	// What is left keeps the low-water minute where it is; what is removed costs nothing any more.
	p.pass(t, left)
	p.now = begun.Add(50 * time.Minute)
	p.pass(t, left)
	oldest(first+3, "when it was left")
	p.pass(t, p.done(t))
	oldest(0, "when nothing is")
	p.now = begun.Add(51 * time.Minute)
	p.pass(t, ignored)
	p.now = begun.Add(70 * time.Minute)
	p.pass(t, ignored)
	w.count()
	oldest(0, "later")
	if pages, keys, dead, _ := w.count(); pages != 1+shards || keys > 0 || dead > 0 {
		t.Errorf("Oldest() read %d pages with %d keys and %d removed ones, want %d with none: all are long past",
			pages, keys, dead, 1+shards)
	}
}
