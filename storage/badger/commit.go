package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage"
)

// fold bounds what one commit carries. It may be passed by one batch, and one batch beyond it must still fit into a
// transaction of Badger, which ends at 15 % of the memtable: 2.4 MiB here, and some 26,000 entries.
type fold struct {
	ops, bytes int
}

var defaultFold = fold{ops: 4096, bytes: 1 << 20}

// request is one Apply that waits for its outcome.
type request struct {
	ctx   context.Context
	batch storage.Batch
	done  chan error // has room for the outcome
}

// committer is the only writer of the database. Syncing the disk is what a commit costs, and Badger syncs once for
// each transaction, so the committer puts all the batches that arrived during one commit into the next.
type committer struct {
	store  *Store
	bounds fold
	commit func(txn *badgerdb.Txn, ts uint64) error // tests break it

	requests chan *request // unbuffered: what was sent is taken
	closing  chan struct{} // closed by Close: nothing more is taken
	done     chan struct{} // closed when run has ended

	applies, commits atomic.Uint64
}

func newCommitter(s *Store, opts Options) *committer {
	return &committer{
		store: s, bounds: opts.fold,
		commit:   func(txn *badgerdb.Txn, ts uint64) error { return txn.CommitAt(ts, nil) },
		requests: make(chan *request), closing: make(chan struct{}), done: make(chan struct{}),
	}
}

// Apply commits b durably, together with the batches of other callers, or changes nothing.
//
// A context that is done before the batch is taken up ends the call without effect; from then on the outcome is
// awaited, so the context's error always means that nothing happened. Below Options.MinFree the error wraps
// storage.ErrFull. If Badger fails to write, the error wraps storage.ErrUnknownOutcome, and every later call fails
// until the store has been closed and opened again, which tells what reached the disk.
func (s *Store) Apply(ctx context.Context, b storage.Batch) error {
	if err := b.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.refusal(); err != nil {
		return err
	}
	if len(b.Puts)+len(b.Deletes)+len(b.Checks) == 0 {
		return nil
	}
	r := &request{ctx: ctx, batch: b, done: make(chan error, 1)}
	select {
	case s.commits.requests <- r:
		return <-r.done
	case <-ctx.Done():
		return ctx.Err()
	case <-s.commits.closing:
		return storage.ErrClosed
	}
}

// run commits until Close. It owns the write side of the database.
func (c *committer) run() {
	defer close(c.done)
	var taken []*request
	for {
		select {
		case r := <-c.requests:
			taken = c.gather(append(taken[:0], r))
		case <-c.closing:
			return
		}
		if err := c.ready(); err != nil {
			answer(taken, err)
		} else {
			c.apply(taken)
		}
		clear(taken)
	}
}

// gather takes the requests that wait by now, up to the bounds. Those whom the commit before has answered may be on
// their way back with the next one: they get a chance to run before nobody is believed to wait.
func (c *committer) gather(taken []*request) []*request {
	var sum fold
	yielded := false
	for {
		last := taken[len(taken)-1]
		sum.ops += len(last.batch.Puts) + len(last.batch.Deletes) + len(last.batch.Checks)
		for _, p := range last.batch.Puts {
			sum.bytes += len(p.Key) + len(p.Value)
		}
		for _, d := range last.batch.Deletes {
			sum.bytes += len(d.Key)
		}
		if sum.ops >= c.bounds.ops || sum.bytes >= c.bounds.bytes {
			return taken
		}
		r := c.waiting()
		if r == nil && !yielded {
			yielded = true
			runtime.Gosched()
			r = c.waiting()
		}
		if r == nil {
			return taken
		}
		taken = append(taken, r)
	}
}

// waiting takes one request if there is one.
func (c *committer) waiting() *request {
	select {
	case r := <-c.requests:
		return r
	default:
		return nil
	}
}

// ready tells why nothing can be written now.
func (c *committer) ready() error {
	if err := c.store.failure.Load(); err != nil && !errors.Is(*err, storage.ErrClosed) {
		return *err
	}
	return c.store.space.check()
}

// apply commits the requests in one transaction and answers each of them.
func (c *committer) apply(taken []*request) {
	txn := c.store.db.NewTransactionAt(c.store.reads.last.Load(), true)
	defer txn.Discard()
	outcomes := make([]error, len(taken))
	writes, applied := false, 0
	for i, r := range taken {
		if outcomes[i] = r.ctx.Err(); outcomes[i] == nil {
			outcomes[i] = conditions(txn, r.batch)
		}
		if outcomes[i] != nil {
			continue
		}
		if err := write(txn, r.batch); err != nil {
			c.split(taken, err)
			return
		}
		applied++
		writes = writes || len(r.batch.Puts)+len(r.batch.Deletes) > 0
	}
	if writes {
		ts := c.store.reads.last.Load() + 1
		if err := c.commit(txn, ts); errors.Is(err, badgerdb.ErrTxnTooBig) {
			c.split(taken, err)
			return
		} else if err != nil {
			c.broke(taken, err)
			return
		}
		c.store.reads.advance(ts)
		c.commits.Add(1)
	}
	c.applies.Add(uint64(applied))
	for i, r := range taken {
		r.done <- outcomes[i]
	}
}

// split commits the two halves of taken by themselves, after err has refused the whole before anything was written.
// The bounds make this unreachable as long as Badger keeps its limits.
func (c *committer) split(taken []*request, err error) {
	if len(taken) == 1 || !errors.Is(err, badgerdb.ErrTxnTooBig) {
		answer(taken, fmt.Errorf("write to store: %w", err))
		return
	}
	half := len(taken) / 2
	c.apply(taken[:half])
	if err := c.ready(); err != nil {
		answer(taken[half:], err)
		return
	}
	c.apply(taken[half:])
}

// broke answers a commit that failed while it was being written. What of it reached the disk shows when the write-ahead
// log is read again, and a later sync may claim success for pages that the kernel has given up; so the store stops.
func (c *committer) broke(taken []*request, err error) {
	c.store.refuse(fmt.Errorf("store in %s stopped after a failed write, close and open it again: %w", c.store.dir, err))
	answer(taken, fmt.Errorf("%w: commit: %w", storage.ErrUnknownOutcome, err))
}

func answer(taken []*request, err error) {
	for _, r := range taken {
		r.done <- err
	}
}

// conditions returns a *storage.ConflictError for the first condition of b that does not hold in txn, which holds the
// writes of the requests before it, too.
func conditions(txn *badgerdb.Txn, b storage.Batch) error {
	for _, p := range b.Puts {
		if err := condition(txn, p.Key, p.If); err != nil {
			return err
		}
	}
	for _, d := range b.Deletes {
		if err := condition(txn, d.Key, d.If); err != nil {
			return err
		}
	}
	for _, c := range b.Checks {
		if err := condition(txn, c.Key, c.Rev); err != nil {
			return err
		}
	}
	return nil
}

func condition(txn *badgerdb.Txn, key []byte, want storage.Rev) error {
	if want == storage.Any {
		return nil
	}
	var have storage.Item // revision 0: absent
	item, err := txn.Get(encodeKey(key))
	if err == nil {
		err = readValue(item, &have, true)
	}
	if err != nil && !errors.Is(err, badgerdb.ErrKeyNotFound) {
		return fmt.Errorf("read key %x: %w", key, err)
	}
	if have.Rev != want {
		return &storage.ConflictError{Key: bytes.Clone(key)}
	}
	return nil
}

// write adds the changes of b to txn. The caller of Apply waits meanwhile, so its slices need no copy.
func write(txn *badgerdb.Txn, b storage.Batch) error {
	for _, p := range b.Puts {
		if err := txn.Set(encodeKey(p.Key), encodeValue(p.Rev, p.Value)); err != nil {
			return err
		}
	}
	for _, d := range b.Deletes {
		if err := txn.Delete(encodeKey(d.Key)); err != nil {
			return err
		}
	}
	return nil
}
