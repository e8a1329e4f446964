// Package job carries out work that takes more than one Apply: something is done to each of many items, and then it
// is over. It knows nothing of the items, nor of what is done to them: that is a [Kind].
//
// What was done to an item, how far the job is and what it has to report change in one Apply, so that a job which is
// cut short anywhere is carried on by whoever comes next, and its report counts everything once. A lease keeps two
// processes from doing the same, and nothing believes in it: whoever carries a job on changes its record first, and
// each Apply of theirs checks that nobody did after them.
//
// A job has a kind and a subject, and there is one of both at a time. Its owner makes it in the Tx that decides on
// it:
//
//	id, rev, err := jobs.Running(ctx, "delete", user)
//	if id == "" {
//		id = jobs.Add(tx, rev, "delete", user, "")
//		err = kernel.Apply(ctx, tx)
//	}
//	report, err := jobs.Finish(ctx, "delete", user, id, tell)
//
// Finish carries it on, or waits for whoever does; Resume, called now and then, carries on what nobody waits for.
package job

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

const (
	// parts is how many items a job works on at a time, so that their Applies share synced commits. Each part has those
	// whose id ends with its digit, in order. It is part of what lies in the store.
	parts = 16
	page  = 1000      // keys that are read at a time
	echo  = time.Hour // how long the report is kept for those who wait for a job that another one carries out
	poll  = 50 * time.Millisecond
)

var (
	// ErrUnchanged, from Kind.Do or from what Run.Apply was given: there is nothing to do. Nothing is applied then.
	ErrUnchanged = errors.New("nothing to change")

	// ErrOver says that a job was ended by somebody else, or is carried on there.
	ErrOver = errors.New("another process carries it on")

	// ErrGone says that a job is not there any more, nor its report: it ended more than an hour ago.
	ErrGone = errors.New("the report of the job is gone")
)

// Item is something that a job does something to.
type Item struct {
	ID string // by which items are ordered
	Of string // what it belongs to, if its Kind needs to know
}

// Progress is how far a job is: how many items are done, of how many as far as is known.
type Progress struct{ Done, Total int }

// Report is what a job has to report, a struct that sealed.Table can store. Plus returns the sum, and changes neither.
type Report[R any] interface{ Plus(more R) R }

// Kind is what a job does. Do is called concurrently for several items, each with a Tx of its own, and again where that
// lost to somebody else; Before, After and End are called while the run does nothing else.
type Kind[R Report[R]] interface {
	// Page returns the items behind a key (nil: the first), in the order of their ids, and the key of the last.
	Page(ctx context.Context, after []string, limit int) (items []Item, last []string, more bool, err error)
	// Before is done first, and may be done again.
	Before(ctx context.Context, r *Run[R]) error
	// Do adds to tx what is done to one item, and returns what to report of that; ErrUnchanged when there is nothing.
	Do(ctx context.Context, tx *sealed.Tx, item Item) (R, error)
	// After is done when all items are, and may be done again.
	After(ctx context.Context, r *Run[R]) error
	// End adds to tx, which ends the job, what else that means. It may add to the report. ErrOver: the job has ended.
	End(ctx context.Context, tx *sealed.Tx, report *R) error
}

// Record is a job as it is stored, or one of its parts, which has only After, Done and Report.
type Record[R any] struct {
	ID      string `cbor:"1,keyasint,omitempty"`
	Created int64  `cbor:"2,keyasint,omitempty"` // milliseconds since 1970 UTC
	Ended   int64  `cbor:"3,keyasint,omitempty"` // the same; 0: it has not
	Until   string `cbor:"4,keyasint,omitempty"` // for the Kind: the last item it is about; empty: there is no last one
	After   string `cbor:"5,keyasint,omitempty"` // of a part: up to which item it is done
	Total   int    `cbor:"6,keyasint,omitempty"` // items
	Done    int    `cbor:"7,keyasint,omitempty"` // items
	Report  R      `cbor:"8,keyasint"`
}

// NewTable returns the jobs of db, by kind and subject, and their parts, whose keys have the part's digit behind these:
// the sealed table with tag '7', under the policy key-encryption key. It panics when that is taken.
func NewTable[R any](db *sealed.DB) *sealed.Table[Record[R]] {
	return sealed.NewTable[Record[R]](db, sealed.Spec{Tag: '7', Name: "job", Plane: sealed.Policy, Format: 1})
}

// Options of Jobs. All of them are needed.
type Options[R Report[R]] struct {
	// Kind returns what a stored job does; until is what Add was given.
	Kind func(kind, subject, until string) Kind[R]

	// Begin is asked before each step. It returns what to call once that is over, or why no more are to be begun, which
	// ends what goes on.
	Begin func() (done func(), err error)

	// TTL is how long a lease lasts that is not renewed: that of the leases.
	TTL time.Duration
}

// Jobs are those of a store. They may be used concurrently, in as many processes as the store allows.
type Jobs[R Report[R]] struct {
	kernel  *kernel.Kernel
	leases  *lease.Table
	records *sealed.Table[Record[R]]
	opts    Options[R]
}

// New returns the jobs of k's store, whose records are those of NewTable.
func New[R Report[R]](k *kernel.Kernel, leases *lease.Table, records *sealed.Table[Record[R]], o Options[R]) *Jobs[R] {
	return &Jobs[R]{kernel: k, leases: leases, records: records, opts: o}
}

// Running returns the id of the job that has not ended, or "" where there is none, and the revision that Add needs.
// Errors: those of sealed.Table.Get, but storage.ErrNotFound.
func (j *Jobs[R]) Running(ctx context.Context, kind, subject string) (id string, rev storage.Rev, err error) {
	record, rev, err := j.records.Get(ctx, kind, subject)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return "", 0, nil
	case err != nil:
		return "", 0, err
	case record.Ended != 0:
		return "", rev, nil
	}
	return record.ID, rev, nil
}

// Add adds to tx a new job, in the place of one that has ended, and returns its id. Rev is what Running returned: when
// somebody else was first, tx conflicts.
func (j *Jobs[R]) Add(tx *sealed.Tx, rev storage.Rev, kind, subject, until string) (id string) {
	id = uuid.Must(uuid.NewV7()).String() // fails only when the system has no randomness
	j.records.Put(tx, &Record[R]{ID: id, Created: j.kernel.Now().UnixMilli(), Until: until}, rev, kind, subject)
	return id
}

// open reports why no more steps are to be begun, if so.
func (j *Jobs[R]) open() error {
	done, err := j.opts.Begin()
	if err == nil {
		done()
	}
	return err
}
