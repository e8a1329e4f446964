package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/polycred/polycred/storage"
)

// attempts is how often a batch is tried that loses to others by a deadlock or a serialization failure.
const attempts = 10

// op is one operation of a batch.
type op struct {
	key         []byte
	st          *statement
	params      [][]byte
	conditional bool // a statement that finds no row is a conflict
	reads       bool // changes nothing
}

// Apply commits b, or changes nothing.
//
// A context that is done before the changes were sent to the server ends the call without effect; from then on the
// answer is awaited, for Options.Timeout, so that an impatient caller leaves neither an unknown outcome nor a broken
// connection behind. The context's own error always means that nothing happened. A connection that is lost, or silent
// for too long, before the commit was sent is an error without effect; after that it wraps storage.ErrUnknownOutcome.
// A server without disk space gives storage.ErrFull.
func (s *Store) Apply(ctx context.Context, b storage.Batch) error {
	if err := b.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return storage.ErrClosed
	}
	ops := s.ops(b)
	if len(ops) == 0 {
		return nil
	}
	reconnected := false
	for n := 1; ; n++ {
		err := s.attempt(ctx, ops)
		switch {
		case err == nil || isConflict(err):
			return err
		case errors.Is(err, storage.ErrUnknownOutcome):
			s.pool.Reset() // the other connections may have died with this one: let no other caller find out
			return err
		case again(err) && n < attempts:
			if err := pause(ctx, n); err != nil {
				return err
			}
		case lost(ctx, err) && !reconnected: // before the commit was sent
			reconnected = true
			s.pool.Reset()
		default:
			return s.explain(ctx, err)
		}
	}
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*storage.ConflictError](err)
	return ok
}

// explain is what the caller learns of an attempt that had no effect.
func (s *Store) explain(ctx context.Context, err error) error {
	switch {
	case code(err) == codeReadOnly:
		s.pool.Reset() // the server we know has become a replica; the DSN may lead to the new primary
		return fmt.Errorf("postgres: the server takes no writes; is it a replica? %v", err)
	case again(err):
		return fmt.Errorf("postgres: lost to other transactions %d times: %v", attempts, err)
	default:
		return hide(ctx, err)
	}
}

// pause waits a random time before the attempt after the n-th.
func pause(ctx context.Context, n int) error {
	timer := time.NewTimer(rand.N(min(time.Millisecond<<n, 100*time.Millisecond)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ops returns the operations of b in the order in which they are executed.
//
// READ COMMITTED is enough for this reason. Each statement sees what was committed when it began. A conditional one
// locks the row that fulfils its condition (or, for a key that must be absent, the key, by its place in the unique
// index) until the batch has committed; if another transaction holds the row, the statement waits for it and judges the
// newest version of the row, not the one that it saw first. So when all conditional statements have found their row,
// all conditions hold at once and go on to hold until the commit: the batch might as well have been alone.
//
// Statements without a condition come after them. They are index entries of a record that the same batch has a
// condition on, and a Delete of an absent key locks nothing; behind the condition it sees whatever an earlier holder of
// the record has put there.
//
// Within both groups the keys are in order, so that two batches do not wait for each other.
func (s *Store) ops(b storage.Batch) []op {
	n := len(b.Puts) + len(b.Deletes) + len(b.Checks)
	ops := make([]op, 0, n)
	for _, p := range b.Puts {
		value := p.Value
		if value == nil {
			value = []byte{} // nil is NULL
		}
		o := op{key: p.Key, params: [][]byte{p.Key, value, encodeInt(uint64(p.Rev))}, conditional: p.If != storage.Any}
		switch p.If {
		case storage.Any:
			o.st = &s.sql.write
		case 0:
			o.st = &s.sql.insert
		default:
			o.st, o.params = &s.sql.update, append(o.params, encodeInt(uint64(p.If)))
		}
		ops = append(ops, o)
	}
	for _, d := range b.Deletes {
		o := op{key: d.Key, st: &s.sql.drop, params: [][]byte{d.Key}}
		if d.If != storage.Any {
			o.st, o.params, o.conditional = &s.sql.remove, append(o.params, encodeInt(uint64(d.If))), true
		}
		ops = append(ops, o)
	}
	for _, c := range b.Checks {
		o := op{key: c.Key, st: &s.sql.lock, params: [][]byte{c.Key, encodeInt(uint64(c.Rev))}}
		o.conditional, o.reads = true, true
		if n == 1 {
			o.st = &s.sql.look // there is nothing to keep the record still for
		}
		ops = append(ops, o)
	}
	slices.SortFunc(ops, func(a, b op) int {
		if a.conditional != b.conditional {
			if a.conditional {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.key, b.key)
	})
	return ops
}

// attempt executes ops once. Unless its error wraps storage.ErrUnknownOutcome, it means that nothing was changed.
func (s *Store) attempt(ctx context.Context, ops []op) error {
	on, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer on.release()
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(ops) == 1 {
		return s.single(ctx, on, ops[0])
	}
	return s.batch(ctx, on, ops)
}

// single executes one operation, which is a transaction by itself: one round trip.
func (s *Store) single(ctx context.Context, on session, o op) error {
	on.limit(s.opts.Timeout)
	rows, err := on.run(context.WithoutCancel(ctx), o.st, o.params, func([][]byte) {})
	switch {
	case err != nil && o.reads:
		return err
	case err != nil:
		return outcome(err)
	case o.conditional && rows == 0:
		return &storage.ConflictError{Key: bytes.Clone(o.key)}
	}
	return nil
}

// batch executes several operations: one round trip for all of them, a second one to commit.
func (s *Store) batch(ctx context.Context, on session, ops []op) error {
	awaited := context.WithoutCancel(ctx)
	on.limit(s.opts.Timeout)
	err := s.change(awaited, on, ops)
	if err == nil {
		err = ctx.Err() // the last moment to stop
	}
	on.limit(s.opts.Timeout)
	if err != nil {
		_, _ = on.command(awaited, "rollback") // where this fails, release closes the connection, to the same effect
		return err
	}
	done, err := on.command(awaited, "commit")
	switch {
	case err != nil:
		return outcome(err)
	case done != "COMMIT":
		return fmt.Errorf("commit ended as %s", done)
	}
	return nil
}

// change begins a transaction and executes ops in it. An error means that it cannot be committed.
func (s *Store) change(ctx context.Context, on session, ops []op) error {
	before := []string{"begin isolation level read committed"}
	if !on.own {
		// The connection has none of the settings that greet makes.
		before = append(before, "set local idle_in_transaction_session_timeout = "+milliseconds(s.opts.Timeout),
			"set local lock_timeout = "+milliseconds(s.opts.Timeout*4/5))
	}
	var pipeline pgconn.Batch
	for _, text := range before {
		pipeline.ExecParams(text, nil, nil, nil, nil)
	}
	for _, o := range ops {
		if err := on.queue(ctx, &pipeline, o.st, o.params); err != nil {
			return err
		}
	}
	results := on.pg.ExecBatch(ctx, &pipeline)
	var conflict error
	for n := -len(before); results.NextResult(); n++ {
		tag, err := results.ResultReader().Close()
		if err == nil && n >= 0 && conflict == nil && ops[n].conditional && tag.RowsAffected() == 0 {
			conflict = &storage.ConflictError{Key: bytes.Clone(ops[n].key)}
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	return conflict
}

// outcome tells whether the failure of a commit leaves open what happened. pgconn.SafeToRetry is no help: for a
// connection that ends while the answer to a simple query is awaited, pgx 5.12 claims that nothing was sent.
func outcome(err error) error {
	var unprepared *prepareError
	if refused(err) || errors.As(err, &unprepared) {
		return err
	}
	return fmt.Errorf("%w: %v", storage.ErrUnknownOutcome, err)
}
