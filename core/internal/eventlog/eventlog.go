// Package eventlog is a durable log whose writers never meet: what is appended lies in an outbox, under a key that
// nobody else uses, in the same Apply as its cause. A sequencer moves it to a log that is numbered without gaps, and the
// number is the cursor of whoever reads.
//
//	events := eventlog.New[event](db, eventlog.Spec{Outbox: 'o', Entries: 'l', Head: 'h', Name: "event", Plane: sealed.Policy, Format: 1}, nil)
//	events.Append(tx, &event{…})              // then tx.Commit, then events.Notify
//	moved, err := events.Sequence(ctx)        // in the background, when Wake says so and from time to time
//	entries, err := events.Read(ctx, after, 100)
//
// Promises: a record is in the outbox exactly when the transaction that it was appended to was applied; it gets one
// number, once, whatever crashes in between and however many sequencers run; and a reader is never handed the entry
// behind a gap. Of two records of one process, the one that was committed before the other was appended gets the lower
// number, unless its commit took seconds. Nothing is promised of the order of what happens at the same time, or
// in processes whose clocks differ.
package eventlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/storage/sealed"
)

// Spec describes a log. Tags and Name are part of what lies in the store: they are forever.
type Spec struct {
	Outbox, Entries, Head byte // tags of three tables, each its own

	Name  string       // part of the bindings; also what errors call it
	Plane sealed.Plane // which key-encryption key everything lies under

	// Format of the records, 1 to 255. Raise it with every field that is added: a sequencer of an older program decodes
	// and encodes what it moves, and would drop the field. A newer format it leaves alone.
	Format int

	// Now decides how often the outbox is looked through from the very start. Nil: time.Now.
	Now func() time.Time
}

// Entry is one record of the log. Numbers begin with 1.
type Entry[T any] struct {
	Number uint64
	Value  T
}

// mark is a number that is kept: the newest that was given, or the oldest that was not trimmed.
type mark struct {
	Number uint64 `cbor:"1,keyasint"`
}

// The two marks are records of their own, so that trimming never makes a sequencer try again.
const (
	newestMark = "newest"
	oldestMark = "oldest"
)

// Log is a log of records of type T, a struct as sealed.Table takes it. It may be used concurrently.
type Log[T any] struct {
	db      *sealed.DB
	name    string
	outbox  *sealed.Table[T]
	entries *sealed.Table[T]
	marks   *sealed.Table[mark]
	stamp   func(v *T, id string)
	now     func() time.Time
	wake    chan struct{}

	turn  chan struct{} // holds one token while a pass runs; it guards what follows
	trail trail
	size  int // how many records the next move tries to take

	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// New returns the log of s in db. stamp is told the UUIDv7 that each record has had since Append, when it is numbered; nil
// wants none. It panics when a tag is taken or the spec incomplete.
func New[T any](db *sealed.DB, s Spec, stamp func(v *T, id string)) *Log[T] {
	l := &Log[T]{
		db:      db,
		name:    s.Name,
		outbox:  sealed.NewTable[T](db, sealed.Spec{Tag: s.Outbox, Name: s.Name + " outbox", Plane: s.Plane, Format: s.Format}),
		entries: sealed.NewTable[T](db, sealed.Spec{Tag: s.Entries, Name: s.Name, Plane: s.Plane, Format: s.Format}),
		marks:   sealed.NewTable[mark](db, sealed.Spec{Tag: s.Head, Name: s.Name + " mark", Plane: s.Plane, Format: 1}),
		stamp:   stamp,
		now:     s.Now,
		wake:    make(chan struct{}, 1),
		turn:    make(chan struct{}, 1),
		size:    maxMove,
		changed: make(chan struct{}),
	}
	if l.now == nil {
		l.now = time.Now
	}
	return l
}

// Append adds to tx: v joins the log. It is one more operation of the batch, which reads nothing and conflicts with nobody.
// What goes wrong comes out of Commit; call Notify when that has succeeded.
func (l *Log[T]) Append(tx *sealed.Tx, v *T) {
	l.outbox.Put(tx, v, 0, newKey())
}

// newKey returns the key of an outbox record, the 16 bytes of a UUIDv7: later ones of the same process sort behind it
// (RFC 9562 §6.2).
func newKey() string {
	id := uuid.Must(uuid.NewV7()) // fails only when the system has no randomness
	return string(id[:])
}

// Notify says that a transaction with records of this log was applied: Wake fires.
func (l *Log[T]) Notify() {
	select {
	case l.wake <- struct{}{}:
	default: // it will fire already
	}
}

// Wake fires when Sequence has something to do. It is for one receiver, and only knows of what this process notified:
// call Sequence from time to time, too.
func (l *Log[T]) Wake() <-chan struct{} { return l.wake }

// Changed returns a channel that is closed when Sequence, in this process, has moved something. Take it before Read:
// then nothing that Read has not seen goes by unnoticed. What other processes move is found by reading from time to time.
func (l *Log[T]) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *Log[T]) announce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// Bounds returns the numbers of the oldest entry that is kept and of the newest that was given. Both are 0 when nothing
// was ever numbered; oldest is newest+1 when everything was trimmed. Errors: those of sealed.Table.Get.
func (l *Log[T]) Bounds(ctx context.Context) (oldest, newest uint64, err error) {
	rows, err := l.marks.GetMany(ctx, [][]string{{oldestMark}, {newestMark}})
	if err != nil {
		return 0, 0, fmt.Errorf("read the bounds of the log: %w", err)
	}
	oldest, newest = rows[0].Value.Number, rows[1].Value.Number
	if oldest == 0 && newest > 0 {
		oldest = 1 // nothing was ever trimmed
	}
	if newest+1 < oldest {
		newest = oldest - 1 // the two were not read at one moment
	}
	return oldest, newest, nil
}

// entryKey is where the entry of a number lies: decimal, so that a person can read it, and as long as the largest.
func entryKey(number uint64) string { return fmt.Sprintf("%020d", number) }
