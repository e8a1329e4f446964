package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Finish carries the job with that id on until it has ended, and returns its report. Where another call or process is
// at it, it waits for that one. Tell is told how far it is, never twice at a time, and holds the work up. With ctx it
// ends between two items; what was done stays done, and is carried on by the next who comes.
//
// Errors: ErrGone, those of Options.Begin and of the Kind, and those of the store.
func (j *Jobs[R]) Finish(ctx context.Context, kind, subject, id string, tell func(Progress)) (R, error) {
	var none R
	var told Progress
	for {
		if err := j.open(); err != nil {
			return none, err
		}
		record, _, err := j.records.Get(ctx, kind, subject)
		switch {
		case errors.Is(err, storage.ErrNotFound), err == nil && record.ID != id:
			return none, ErrGone // it took this one hours to look
		case err != nil:
			return none, err
		case record.Ended != 0:
			return record.Report, nil
		}
		held, err := j.leases.Acquire(ctx, "job", kind, subject)
		if err != nil {
			return none, err
		}
		if held != nil {
			report, err := j.carryOn(ctx, held, kind, subject, id, tell)
			if !errors.Is(err, ErrOver) {
				return report, err
			}
		} else if now, err := j.progress(ctx, kind, subject); err == nil && now != told {
			tell(now)
			told = now
		}
		if err := pause(ctx, poll); err != nil {
			return none, err
		}
	}
}

// progress is how far a job is that somebody else carries out. ErrOver: it has ended in the meantime.
func (j *Jobs[R]) progress(ctx context.Context, kind, subject string) (Progress, error) {
	rows, _, err := j.records.List(ctx, []string{kind, subject}, nil, parts+1)
	if err == nil && (len(rows) == 0 || rows[0].Value.Ended != 0) { // its parts are gone
		err = ErrOver
	}
	if err != nil {
		return Progress{}, err
	}
	p := Progress{Total: rows[0].Value.Total}
	for i := range rows {
		p.Done += rows[i].Value.Done
	}
	p.Total = max(p.Total, p.Done)
	return p, nil
}

// carryOn runs a job while it holds the lease.
func (j *Jobs[R]) carryOn(
	ctx context.Context, held *lease.Lease, kind, subject, id string, tell func(Progress),
) (R, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		for pause(ctx, j.opts.TTL/3) == nil {
			if err := held.Renew(ctx); errors.Is(err, lease.ErrLost) {
				cancel(ErrOver)
			}
		}
	}()
	r := &Run[R]{jobs: j, kind: kind, subject: subject, tell: tell}
	report, err := r.run(ctx, id)
	if context.Cause(ctx) == ErrOver { //nolint:errorlint // which of the two it is
		err = ErrOver
	}
	cancel(nil)
	<-renewing
	if failed := held.Release(ctx); failed != nil {
		j.kernel.Log().WarnContext(ctx, "a job could not be released, and waits for its lease to run out",
			"job", kind, "error", failed)
	}
	return report, err
}

// DryRun returns what a job would report: it does everything but to apply it, except what Kind.Before, After and End
// do. Errors: those of Options.Begin, of the Kind and of the store.
func (j *Jobs[R]) DryRun(ctx context.Context, what Kind[R], tell func(Progress)) (R, error) {
	var report R
	total := 0
	if err := walk(ctx, what, func(Item) error {
		total++
		return nil
	}); err != nil {
		return report, err
	}
	done := 0
	err := walk(ctx, what, func(item Item) error {
		if err := j.open(); err != nil {
			return err
		}
		did, err := what.Do(ctx, j.kernel.DB().Begin(ctx), item)
		if err != nil && !errors.Is(err, ErrUnchanged) {
			return err
		}
		report = report.Plus(did)
		done++
		tell(Progress{Done: done, Total: max(total, done)})
		return nil
	})
	return report, err
}

// Resume carries on what was cut short, one job after the other, and forgets those that ended an hour ago. Call it
// every quarter of Options.TTL: a job that a process held when it died is taken over by one that has seen its lease
// stand still, and has looked often enough. What fails stops nothing else.
func (j *Jobs[R]) Resume(ctx context.Context) error {
	var errs []error
	for after, more := []string(nil), true; more; {
		rows, next, err := j.records.Keys(ctx, nil, after, 100)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, row := range rows {
			if after = row.Key; len(row.Key) != 2 { // a part
				continue
			}
			if row.Value, row.Rev, err = j.records.Get(ctx, row.Key...); err == nil { // each by itself: one may not open
				err = j.resume(ctx, row)
			}
			if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, ErrOver) {
				errs = append(errs, fmt.Errorf("carry on to %s %.64q: %w", row.Key[0], row.Key[1], err))
			}
		}
		more = next
	}
	return errors.Join(errs...)
}

func (j *Jobs[R]) resume(ctx context.Context, row sealed.Row[Record[R]]) error {
	if ended := row.Value.Ended; ended != 0 {
		if j.kernel.Now().Sub(time.UnixMilli(ended)) < echo {
			return nil
		}
		tx := j.kernel.DB().Begin(ctx)
		j.records.Delete(tx, row.Rev, row.Key...)
		if err := j.kernel.Apply(ctx, tx); !conflicted(err) {
			return err
		}
		return nil
	}
	held, err := j.leases.Acquire(ctx, "job", row.Key[0], row.Key[1])
	if err != nil || held == nil {
		return err
	}
	_, err = j.carryOn(ctx, held, row.Key[0], row.Key[1], row.Value.ID, func(Progress) {})
	return err
}

// walk gives all items, also those that were dealt with, in the order of their ids.
func walk[R Report[R]](ctx context.Context, what Kind[R], do func(Item) error) error {
	for after, more := []string(nil), true; more; {
		items, last, next, err := what.Page(ctx, after, page)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := do(item); err != nil {
				return err
			}
		}
		after, more = last, next
	}
	return nil
}

// conflicted reports whether err says that somebody else changed a record first.
func conflicted(err error) bool {
	var conflict *storage.ConflictError
	return errors.As(err, &conflict)
}

// again waits a moment before a change that lost is tried once more, so that those who want the same do not keep
// disturbing each other.
func again(ctx context.Context, try int) error {
	return pause(ctx, rand.N(time.Duration(min(try, 20)+1)*time.Millisecond))
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
