// Package due orders work by the minute in which it is due. It knows nothing of the work: an entry is a minute and a key,
// and says that whatever the key names should be looked at then. Any number of processes share the work without a leader.
//
// The owner of the work keeps the minute in a record of its own, and moves the entry in the Tx that changes the record:
//
//	r.Due = queue.Move(tx, r.Due, due.At(t), user, id)
//	records.Put(tx, &r, rev, user, id)
//
// A [Scanner], one in each process, shows what is due, pass by pass:
//
//	scanner := queue.Scanner(log)
//	err := scanner.Pass(ctx, now, func(ctx context.Context, page []due.Entry) (left []due.Entry, err error) {…})
//
// The record is what counts. An entry whose record is gone, or holds another minute, is stale: whoever is shown it
// removes it, Move(tx, entry.At, 0, entry.Key...), with a Check that the record did not change.
//
// Promises: a pass costs what is due, not what exists, nor what was due before. What a process moves, its own Scanner
// shows in its first pass in the minute that is due, or in the next minute. Whatever else happens (a process dies, clocks
// differ by minutes, an entry is committed long after it was moved, somebody who took it forgot it), each entry that is
// due is shown within the hour, and nothing is lost. An entry may be shown more than once, in several processes at a
// time, and when it was moved already: a lease and the revision of the record keep the work from being done twice.
//
// Entries are index entries, which are not sealed: their keys are readable in the store.
package due

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/polycred/polycred/storage/sealed"
)

// Spec describes a queue. Tags and Name are part of what lies in the store: they are forever.
type Spec struct {
	Entries byte   // tag of the index of entries
	Mark    byte   // tag of the table with the low-water minute, which lies under the policy key-encryption key
	Name    string // part of the binding of the latter; also what errors call the queue

	// Now is the clock by which Move judges what has passed. Nil: time.Now.
	Now func() time.Time
}

// Minute counts minutes since 1970. 0 is never.
type Minute int64

// maxMinute is the last one that has minuteDigits digits and another one behind it.
const maxMinute Minute = 9_999_999_998

// At returns the minute in which something is due that is due at t: rounded up, so that nothing is looked at before. A
// time before 1970, as the zero Time is, is never.
func At(t time.Time) Minute {
	seconds := t.Unix()
	if seconds < 0 {
		return 0
	}
	if t.Nanosecond() > 0 {
		seconds++
	}
	return min(Minute((seconds+59)/60), maxMinute)
}

// Time returns when the minute begins.
func (m Minute) Time() time.Time { return time.Unix(int64(m)*60, 0) }

// within returns the minute in which t lies.
func within(t time.Time) Minute { return min(max(Minute(t.Unix()/60), 0), maxMinute) }

// Entry says that Key is due in minute At.
type Entry struct {
	At  Minute
	Key []string // as Move got it; not to be changed
}

func compare(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.At, b.At), slices.Compare(a.Key, b.Key))
}

// Queue holds entries. It may be used concurrently.
type Queue struct {
	db      *sealed.DB
	name    string
	entries *sealed.Index
	marks   *sealed.Table[mark]
	now     func() time.Time
}

// New returns the queue of s in db. It panics when a tag is taken or the spec incomplete.
func New(db *sealed.DB, s Spec) *Queue {
	q := &Queue{
		db:      db,
		name:    s.Name,
		entries: sealed.NewIndex(db, s.Entries, s.Name),
		marks:   sealed.NewTable[mark](db, sealed.Spec{Tag: s.Mark, Name: s.Name + " mark", Plane: sealed.Policy, Format: 1}),
		now:     s.Now,
	}
	if q.now == nil {
		q.now = time.Now
	}
	return q
}

// Move adds to tx: key, of one part at least, is due in minute to, and not any more in minute from. From 0, or less, is
// for a key that was never due, to 0 for one that never will be.
//
// It returns the minute in which the entry lies then, which the record must hold: one that has begun already becomes the
// next one, because passes do not look at the past again. Where from and to are the same, the entry is added all the
// same, so that one that was lost is there again. Commit soon: an entry that comes a minute after the call may be shown
// as late as the hour.
func (q *Queue) Move(tx *sealed.Tx, from, to Minute, key ...string) Minute {
	if to > 0 {
		to = min(max(to, within(q.now())+1), maxMinute)
	}
	if from > 0 && from != to {
		q.entries.Unmark(tx, entryKey(from, key)...)
	}
	if to > 0 {
		q.entries.Mark(tx, entryKey(to, key)...)
	}
	return max(to, 0)
}

// Scanner returns a Scanner, which reads nothing before its first pass. It logs what passes come by and cannot show, and
// that the low-water minute could not be written; nil: slog.Default.
func (q *Queue) Scanner(log *slog.Logger) *Scanner {
	if log == nil {
		log = slog.Default()
	}
	s := &Scanner{queue: q, log: log.With("queue", q.name)}
	for i := range s.shards {
		s.shards[i].name = shardName(i)
	}
	return s
}

// Oldest returns the minute of the oldest entry that is due at now, or 0 when nothing is. It is for health: it does not
// look before the low-water minute, where only a process that died can have left something. Errors are those of the
// store.
func (q *Queue) Oldest(ctx context.Context, now time.Time) (Minute, error) {
	m, oldest := within(now), Minute(0)
	held, _, err := q.readMark(ctx)
	if err != nil && !unreadable(err) {
		return 0, q.wrap("find the oldest entry", err)
	}
	low := min(held.believed(m).Low, max(m-trailing, 0))
	for i := range shards {
		after, more := edge(shardName(i), low), true
		for more {
			var rows [][]string
			rows, _, more, err = q.entries.Range(ctx, after, edge(shardName(i), m+1), oldestPage)
			if err != nil {
				return 0, q.wrap("find the oldest entry", err)
			}
			for _, row := range rows {
				if e, ok := parse(row); ok {
					if oldest == 0 || e.At < oldest {
						oldest = e.At
					}
					more = false
					break
				}
				after = row
			}
		}
	}
	return oldest, nil
}

// oldestPage is more than one because an entry may be malformed.
const oldestPage = 4

func (q *Queue) wrap(what string, err error) error {
	return fmt.Errorf("%s of the %s queue: %w", what, q.name, err)
}

// An entry lies at (shard, minute, key...). The shard comes first, so that several processes each find work of their own
// by beginning elsewhere, and each shard is one range in the order of time. The minute is decimal, so that a person can
// read it; and Badger, which walks over removed keys up to the end of what the two ends of a range have in common, stops
// minutes behind the range, not hours.
const (
	shards       = 16
	minuteDigits = 10
)

func shardName(i int) string { return strconv.FormatInt(int64(i), 16) }

func entryKey(at Minute, key []string) []string {
	return append(edge(shardOf(key), at), key...)
}

// edge is the key before all entries of that minute, and behind all of those before.
func edge(shard string, at Minute) []string {
	return []string{shard, fmt.Sprintf("%0*d", minuteDigits, at)}
}

// shardOf spreads keys by their last part, which the owner of many has most of. Forever.
func shardOf(key []string) string {
	hash := fnv.New32a()
	if len(key) > 0 {
		_, _ = hash.Write([]byte(key[len(key)-1])) // never fails
	}
	return shardName(int(hash.Sum32() >> 28)) // the low bits of FNV know little of the text
}

// parse undoes entryKey. What it refuses, Move could not remove.
func parse(row []string) (Entry, bool) {
	if len(row) < 3 || len(row[1]) != minuteDigits || row[0] != shardOf(row) {
		return Entry{}, false
	}
	at, err := strconv.ParseUint(row[1], 10, 63) // no signs
	if err != nil || at == 0 {
		return Entry{}, false
	}
	return Entry{At: Minute(at), Key: slices.Clip(row[2:])}, true
}
