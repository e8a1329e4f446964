package core

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

const (
	postponed = time.Hour       // until a credential is looked at again whose user is disabled
	unable    = 5 * time.Minute // and one whose refresh could not even begin

	movesAtOnce = storage.MaxBatchOps / 3 // each is a record, an entry that goes and one that comes
)

// scheduler refreshes tokens before they are needed. Every process has one: they find the same credentials due, and the
// lease of each refresh sees to it that one of them does it.
type scheduler struct {
	e       *Engine
	passing sync.Mutex // held during a pass
	scanner *due.Scanner
	again   atomic.Int64 // when entries are shown again that the store kept from being moved: Unix milliseconds; 0: there are none

	lanes lanes
}

func newScheduler(e *Engine) *scheduler {
	s := &scheduler{e: e}
	s.lanes = lanes{limit: e.opts.RefreshLimit, work: s.refresh, byName: map[string]*lane{}}
	return s
}

// pass puts everything that is due into the lanes, where workers refresh it.
func (s *scheduler) pass(ctx context.Context) error {
	if s.e.quarantined || !s.e.db.HasTokens() {
		return nil
	}
	s.passing.Lock()
	defer s.passing.Unlock()
	now := s.e.now()
	again := s.again.Load()
	// What was shown to a Run that ended, or could not be moved, is shown again.
	if s.scanner == nil || s.lanes.dropped() || again != 0 && now.UnixMilli() >= again && s.again.CompareAndSwap(again, 0) {
		s.scanner = s.e.tables.refreshes.Scanner(s.e.log)
	}
	err := s.scanner.Pass(ctx, now, s.page)
	if err == nil {
		s.e.health.passed.Store(now.UnixMilli())
	}
	return err
}

// page decides about each entry of a page: refresh, move, or drop. Left are those that could not be decided now.
func (s *scheduler) page(ctx context.Context, entries []due.Entry) (left []due.Entry, err error) {
	var moves []move
	for chunk := range slices.Chunk(entries, 100) {
		rows, err := s.rows(ctx, chunk)
		if err != nil {
			return entries, err
		}
		for i, row := range rows {
			switch m, what := s.decide(ctx, chunk[i], row); {
			case what == doMove:
				moves = append(moves, m)
			case what == doLeave, what == doRefresh && !s.lanes.enqueue(ctx, m.record.Integration, chunk[i]):
				left = append(left, chunk[i])
			}
		}
	}
	for chunk := range slices.Chunk(moves, movesAtOnce) {
		left = append(left, s.move(ctx, chunk)...)
	}
	return left, nil
}

// rows reads the credentials of entries, each nil where there is none, or none that opens.
func (s *scheduler) rows(ctx context.Context, entries []due.Entry) ([]*row, error) {
	keys := make([][]string, len(entries))
	for i, entry := range entries {
		keys[i] = entry.Key
	}
	found, err := s.e.tables.credentials.GetMany(ctx, keys)
	rows := make([]*row, len(entries))
	for i := range found {
		if err == nil {
			rows[i] = &found[i]
		}
	}
	if err == nil {
		return rows, nil
	}
	for i, entry := range entries { // one of them does not open: it is passed over
		record, rev, err := s.e.tables.credentials.Get(ctx, entry.Key...)
		switch {
		case errors.Is(err, storage.ErrNotFound), err == nil:
			rows[i] = &row{Key: entry.Key, Value: record, Rev: rev}
		case unreadable(err):
			s.e.log.ErrorContext(ctx, "a credential that is due cannot be read", "credential", entry.Key[len(entry.Key)-1], "error", err)
		default:
			return nil, err
		}
	}
	return rows, nil
}

type row = sealed.Row[credentialRecord]

// move is a change of an entry alone, or of the record and its entry.
type move struct {
	entry  due.Entry
	user   string
	record *credentialRecord // nil: it is gone
	rev    storage.Rev
	to     time.Time // zero: the entry is none of the record's, and goes
}

type decision int

const (
	doNothing decision = iota
	doRefresh
	doMove
	doLeave
)

// decide says what becomes of an entry.
func (s *scheduler) decide(ctx context.Context, entry due.Entry, found *row) (move, decision) {
	if found == nil || len(entry.Key) != 2 {
		return move{}, doNothing
	}
	m := move{entry: entry, user: entry.Key[0]}
	if found.Rev == 0 {
		return m, doMove
	}
	now, r := s.e.now(), &found.Value
	m.record, m.rev = r, found.Rev
	if r.Due != entry.At {
		return m, doMove
	}
	p, err := s.e.provider(ctx, r.Integration)
	unknown := err != nil && !errors.Is(err, ErrNotFound) && !unreadable(err)
	disabled := s.e.checkUser(ctx, m.user)
	unknown = unknown || disabled != nil && !errors.Is(disabled, ErrDisabled)
	next := r.nextRefresh(p)
	switch {
	case unknown: // the store fails
		return m, doLeave
	case err != nil, p.OAuth2 == nil, disabled != nil:
		m.to = now.Add(postponed)
		return m, doMove
	case next.IsZero(): // a record that another program wrote
		return m, doMove
	case s.e.pause(m.user, &r.tokenRecord, now) > 0, next.After(now.Add(mostSkew)):
		m.to = later(next, now)
		return m, doMove
	}
	if until := s.lanes.pausedUntil(r.Integration, now); !until.IsZero() {
		m.to = until
		return m, doMove
	}
	if r.Intent != nil && !r.Intent.Ended && r.Intent.Boot != s.e.boot {
		if age := now.Sub(r.Intent.Started.time()); age >= 0 && age < s.e.opts.ProviderTimeout && !s.e.exclusive {
			return m, doLeave // another process is at it
		}
	}
	return m, doRefresh
}

func later(at, now time.Time) time.Time {
	if soon := now.Add(time.Minute); at.Before(soon) {
		return soon
	}
	return at
}

// move applies moves, and returns the entries of those that others changed first.
func (s *scheduler) move(ctx context.Context, moves []move) (left []due.Entry) {
	if len(moves) == 0 {
		return nil
	}
	e := s.e
	apply := func(moves []move) error {
		tx := e.db.Begin(ctx)
		for _, m := range moves {
			switch {
			case m.record == nil: // ids never come back
				e.tables.refreshes.Move(tx, m.entry.At, 0, m.entry.Key...)
			case m.to.IsZero() && m.record.Due != m.entry.At:
				e.tables.credentials.Check(tx, m.rev, m.entry.Key...)
				e.tables.refreshes.Move(tx, m.entry.At, 0, m.entry.Key...)
			default:
				record := *m.record
				record.Due = e.tables.refreshes.Move(tx, m.record.Due, due.At(m.to), m.entry.Key...)
				e.tables.credentials.Put(tx, &record, m.rev, m.entry.Key...)
			}
		}
		return e.kernel.Apply(ctx, tx)
	}
	err := apply(moves)
	if err == nil {
		return nil
	}
	alone := conflicted(err) || errors.Is(err, storage.ErrTooLarge) // else each by itself would fare no better
	for _, m := range moves {
		if !alone {
			left = append(left, m.entry)
			continue
		}
		if err := apply([]move{m}); err != nil {
			left = append(left, m.entry)
		}
	}
	return left
}

// refresh refreshes one credential, as somebody who waits for its token would.
func (s *scheduler) refresh(ctx context.Context, entry due.Entry) {
	e, user, id := s.e, entry.Key[0], entry.Key[1]
	record, rev, err := e.credential(ctx, user, id)
	switch {
	case errors.Is(err, ErrNotFound), unreadable(err):
		return
	case err != nil:
		s.later(ctx)
		return
	case record.Due != entry.At:
		return
	}
	if until := s.lanes.pausedUntil(record.Integration, e.now()); !until.IsZero() { // since it was put there
		s.put(ctx, move{entry: entry, user: user, record: &record, rev: rev, to: until})
		return
	}
	e.telemetry.Lagged(ctx, e.now().Sub(entry.At.Time()))
	select {
	case r := <-e.flight(ctx, user, &record.tokenRecord, triggerAhead):
		err = r.Err
	case <-ctx.Done(): // the refresh goes on, and Close waits for it
		s.lanes.lose()
		return
	}
	if errors.Is(err, ErrClosed) { // it is due for the next engine
		return
	}
	var failed *ProviderError
	if errors.As(err, &failed) && failed.Class == FailureRateLimited {
		s.lanes.pause(record.Integration, e.now().Add(failed.RetryAfter))
	}
	wait := time.Minute
	if err != nil {
		wait = unable
	}
	// Most refreshes moved the entry, whatever came of them. One that could not even begin left it where it was.
	record, rev, err = e.credential(ctx, user, id)
	switch {
	case err == nil && record.Due == entry.At:
		s.put(ctx, move{entry: entry, user: user, record: &record, rev: rev, to: e.now().Add(wait)})
	case err != nil && !errors.Is(err, ErrNotFound) && !unreadable(err):
		s.later(ctx)
	}
}

// put applies a move of an entry that is shown no more, whatever comes of it.
func (s *scheduler) put(ctx context.Context, m move) {
	if left := s.move(ctx, []move{m}); len(left) > 0 {
		s.later(ctx)
	}
}

// later has everything shown again that is due: at once where a Run has ended, else in a minute, when the store may take
// what it does not take now.
func (s *scheduler) later(ctx context.Context) {
	if ctx.Err() != nil {
		s.lanes.lose()
		return
	}
	s.again.CompareAndSwap(0, s.e.now().Add(time.Minute).UnixMilli())
}
