package core

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/storage"
	"golang.org/x/sync/singleflight"
)

// vitals are what the engine itself knows of how it is. The zero value is ready.
type vitals struct {
	running atomic.Int64 // calls of Run that have not returned
	passed  atomic.Int64 // when the scheduler last came by everything that was due: Unix milliseconds of the engine's clock
	failed  atomic.Int64 // when background work last failed that had failed before: Unix milliseconds of the machine's clock

	seen   atomic.Pointer[survey]
	flight singleflight.Group
}

// failing is how long background work that failed again counts as failing: each is tried again within a minute.
const failing = 2 * time.Minute

// noteFailure is told of each failure of background work, and how many there were in a row.
func (v *vitals) noteFailure(times int) {
	if times > 1 {
		v.failed.Store(time.Now().UnixMilli())
	}
}

// countedTo bounds what is counted of what waits.
const countedTo = 1000

// survey is what of the engine's health costs more than a look: it is taken once in cacheTTL at most. It does not change.
type survey struct {
	write    time.Duration // how long it took to write; 0: another process was writing the same record
	writeErr error

	refreshLag    time.Duration
	revocations   int
	revocationLag time.Duration
	jobs          int
	events        int
	eventLag      time.Duration

	at, real time.Time // as of disabledUsers
}

func (s *survey) fresh(now time.Time) bool {
	age := now.Sub(s.at)
	return s.writeErr == nil && age >= 0 && age < cacheTTL && time.Since(s.real) < cacheTTL
}

// survey returns what is known, or finds it out, once for all who ask at a time. Errors are those of reading the store,
// ErrClosed and ctx's.
func (e *Engine) survey(ctx context.Context) (*survey, error) {
	if seen := e.health.seen.Load(); seen != nil && seen.fresh(e.now()) {
		return seen, nil
	}
	flight := e.health.flight.DoChan("", func() (any, error) {
		done, err := e.begin()
		if err != nil {
			return nil, err
		}
		defer done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		s := &survey{at: e.now(), real: time.Now()}
		if err := e.count(ctx, s); err != nil {
			return nil, err
		}
		if s.write, s.writeErr = e.tryWrite(ctx); s.write == 0 && s.writeErr == nil {
			if before := e.health.seen.Load(); before != nil {
				s.write = before.write
			}
		}
		e.health.seen.Store(s)
		return s, nil
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*survey), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// count counts what waits in the store.
func (e *Engine) count(ctx context.Context, s *survey) error {
	oldest, err := e.tables.refreshes.Oldest(ctx, s.at)
	if err != nil {
		return err
	}
	if oldest > 0 {
		s.refreshLag = s.at.Sub(oldest.Time())
	}
	if oldest, err = e.tables.revokes.Oldest(ctx, s.at); err != nil {
		return err
	}
	if oldest > 0 {
		s.revocationLag = s.at.Sub(oldest.Time())
	}
	if s.revocations, err = e.tables.revokes.Waiting(ctx, countedTo); err != nil {
		return err
	}
	var since time.Time
	if s.events, since, err = e.kernel.Events().Waiting(ctx, countedTo); err != nil {
		return err
	}
	if s.events > 0 {
		s.eventLag = max(time.Since(since), 0)
	}
	return e.countJobs(ctx, s)
}

// countJobs counts those that have not ended. One that does not open counts: it has not.
func (e *Engine) countJobs(ctx context.Context, s *survey) error {
	keys, _, err := e.tables.jobs.Keys(ctx, nil, nil, countedTo)
	if err != nil {
		return err
	}
	for _, row := range keys {
		if len(row.Key) != 2 { // a part of one
			continue
		}
		job, _, err := e.tables.jobs.Get(ctx, row.Key...)
		switch {
		case errors.Is(err, storage.ErrNotFound):
		case unreadable(err), err == nil && job.Ended == 0:
			s.jobs++
		case err != nil:
			return err
		}
	}
	return nil
}

// tryWrite finds out whether the store takes what is written, with a lease that nobody needs: one that a process leaves
// behind which dies meanwhile is taken over by the next. It returns 0 while another process holds it.
func (e *Engine) tryWrite(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	held, err := e.leases.Acquire(ctx, "health")
	took := time.Since(began)
	if err != nil || held == nil {
		return 0, err
	}
	return took, held.Release(ctx)
}
