// Package lease keeps work that should be done by one process at a time to one of them, by compare-and-swap on a record
// of the store. [Table.Acquire] gives a [Lease] or none; its holder renews it before the TTL has passed and releases it.
//
// A lease saves work, it is no lock: a holder that was suspended may not know yet that another one has taken over. What
// must not happen twice is committed on the revision of the record that it changes.
package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

const (
	defaultTTL = 30 * time.Second

	tries    = 3               // how often a write is repeated that may or may not have happened
	patience = 5 * time.Second // for what is finished although nobody waits any more
)

// ErrLost says that a lease is not held any more: it was released, or somebody took it over.
var ErrLost = errors.New("the lease is lost")

// Options of a Table.
type Options struct {
	// Boot names this run of the program. It may not be empty.
	Boot string

	// Exclusive says that the store is open in one process at a time, so that a lease of another boot is stale at once.
	Exclusive bool

	// TTL is how long a lease that is not renewed lasts. 0: 30 s.
	TTL time.Duration

	// Now is the clock by which others are observed; it never meets the clock of another process. Nil: time.Now, which
	// does not jump.
	Now func() time.Time
}

// record is a lease in the store. That it is there says that somebody holds it.
type record struct {
	Owner string `cbor:"1,keyasint"` // of one Acquire
	Boot  string `cbor:"2,keyasint"`
}

// Table holds leases by name. It may be used concurrently.
type Table struct {
	db       *sealed.DB
	records  *sealed.Table[record]
	opts     Options
	watching *Watch
}

// New returns the leases of db: the sealed table with tag 'v'. It panics when that is taken, or when o names no boot.
func New(db *sealed.DB, o Options) *Table {
	if o.Boot == "" {
		panic("lease: Options.Boot is empty")
	}
	o.TTL = cmp.Or(o.TTL, defaultTTL)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Table{
		db:       db,
		records:  sealed.NewTable[record](db, sealed.Spec{Tag: 'v', Name: "lease", Plane: sealed.Policy, Format: 1}),
		opts:     o,
		watching: NewWatch(o.TTL, o.TTL/2),
	}
}

// Acquire returns the lease of that name, or nil while somebody else holds it, be it in this process. A lease is taken
// over when its record did not change for the TTL while this Table watched, with calls at most half a TTL apart and none
// of them failing: while the store cannot be reached nobody can renew a lease, and its holder has its turn after that. Or at
// once when it is of another boot on an exclusive store, or of this boot and given up. Errors: those of
// sealed.Table.Get and Tx.Commit; after storage.ErrUnknownOutcome other processes may be refused until the TTL has passed.
func (t *Table) Acquire(ctx context.Context, name ...string) (*Lease, error) {
	l := &Lease{table: t, name: slices.Clone(name), record: record{Owner: uuid.NewString(), Boot: t.opts.Boot}}
	held, rev, err := t.records.Get(ctx, name...)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		t.watching.Forget(name)
	case err != nil: // while nobody can look, its holder cannot renew it either
		t.watching.Forget(name)
		return nil, l.wrap("acquire", err)
	case t.opts.Exclusive && held.Boot != t.opts.Boot: // nobody can be left to renew it
	case held.Boot == t.opts.Boot && !alive(held.Owner): // given up by this very process, which could not say so to the store
	case t.watching.Still(name, uint64(rev), t.opts.Now()) < t.opts.TTL:
		return nil, nil
	}
	owners.Store(l.record.Owner, nil)
	if l.rev, err = l.put(ctx, rev); err != nil {
		mine, unsettled := l.settle(ctx, err)
		if !mine {
			owners.Delete(l.record.Owner)
		}
		switch {
		case unsettled != nil:
			return nil, l.wrap("acquire", unsettled)
		case !mine && errors.Is(err, storage.ErrUnknownOutcome):
			return nil, l.wrap("acquire", err)
		case !mine:
			return nil, nil
		}
	}
	t.watching.Forget(name)
	return l, nil
}

// Forget begins the watch of a lease anew, after something else than Acquire found that the store cannot be reached.
func (t *Table) Forget(name ...string) { t.watching.Forget(name) }

// owners are those whose leases are held in this process, by whichever Table.
var owners sync.Map

func alive(owner string) bool {
	_, ok := owners.Load(owner)
	return ok
}

// lostLocked notes that the lease is not held any more.
func (l *Lease) lostLocked() {
	l.rev = 0
	owners.Delete(l.record.Owner)
}

// Lease is held by whoever acquired it. It may be used concurrently.
type Lease struct {
	table  *Table
	name   []string
	record record

	mu  sync.Mutex  // guards rev, and keeps changes in order
	rev storage.Rev // 0: lost or released
}

// Renew makes the lease last for another TTL. ErrLost: it was taken over or released, and the work is somebody else's.
// Other errors are those of Tx.Commit, and say nothing of that: try again before the TTL has passed.
func (l *Lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed error
	for range tries {
		if l.rev == 0 {
			return l.wrap("renew", ErrLost)
		}
		before := l.rev
		var rev storage.Rev
		if rev, failed = l.put(ctx, l.rev); failed == nil {
			l.rev = rev
			return nil
		}
		mine, err := l.settle(ctx, failed)
		switch {
		case err != nil:
			return l.wrap("renew", err)
		case !mine:
			l.lostLocked()
			return l.wrap("renew", ErrLost)
		case l.rev != before && errors.Is(failed, storage.ErrUnknownOutcome):
			return nil // it did happen
		}
	}
	return l.wrap("renew", failed)
}

// Keep renews the lease each third of the TTL, in real time, until stop is called, which waits until no renewal is under
// way, or until the lease is lost or ctx done. A renewal that fails is tried again.
func (l *Lease) Keep(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(l.table.opts.TTL / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			once, done := context.WithTimeout(context.WithoutCancel(ctx), l.table.opts.TTL/3)
			err := l.Renew(once) // stop does not cut it off: its outcome would be unknown
			if done(); errors.Is(err, ErrLost) {
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// Check adds to tx that nobody has taken the lease over: Commit fails with a storage.ConflictError otherwise, and after a
// renewal in between; Renew tells which. ErrLost: it is known to be over.
func (l *Lease) Check(tx *sealed.Tx) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rev == 0 {
		return l.wrap("check", ErrLost)
	}
	l.table.records.Check(tx, l.rev, l.name...)
	return nil
}

// Release ends the lease, also when ctx is done: others wait for it. One that was lost, or released before, is no error.
// After an error the lease ends with its TTL; for this process it ends at once.
func (l *Lease) Release(ctx context.Context) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	defer owners.Delete(l.record.Owner) // also when the store does not hear of it
	var failed error
	for range tries {
		if l.rev == 0 {
			return nil
		}
		tx := l.table.db.Begin(ctx)
		l.table.records.Delete(tx, l.rev, l.name...)
		if failed = tx.Commit(ctx); failed == nil {
			l.lostLocked()
			return nil
		}
		mine, err := l.settle(ctx, failed)
		if err != nil {
			return l.wrap("release", err)
		}
		if !mine {
			l.lostLocked()
			return nil
		}
	}
	return l.wrap("release", failed)
}

func (l *Lease) put(ctx context.Context, rev storage.Rev) (next storage.Rev, err error) {
	tx := l.table.db.Begin(ctx)
	next = l.table.records.Put(tx, &l.record, rev, l.name...)
	return next, tx.Commit(ctx)
}

// settle is what follows a write that failed with cause. It reports whether the lease is held all the same, and sets rev
// to what it is then: an earlier write whose outcome was unknown may have happened. The error is cause where that says
// nothing of the record, or why it could not be read.
func (l *Lease) settle(ctx context.Context, cause error) (mine bool, err error) {
	var conflict *storage.ConflictError
	if !errors.As(cause, &conflict) && !errors.Is(cause, storage.ErrUnknownOutcome) {
		return false, cause
	}
	ctx, cancel := detached(ctx) // a lease that nobody knows of would keep others waiting
	defer cancel()
	held, rev, err := l.table.records.Get(ctx, l.name...)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%w (after: %v)", err, cause)
	case held.Owner != l.record.Owner:
		return false, nil
	}
	l.rev = rev
	return true, nil
}

func (l *Lease) wrap(what string, err error) error {
	return fmt.Errorf("%s lease %s: %w", what, strings.Join(l.name, "/"), err)
}

func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}
