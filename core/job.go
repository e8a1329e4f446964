package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// A job is work that takes more than one Apply: something is done to each of many credentials, and then it is over.
// What was done to a credential, how far the job is and what it has to report change in one Apply, so that a job
// which is cut short anywhere is carried on by whoever comes next, and its report counts everything once. A lease
// keeps two processes from doing the same; nothing believes in it.

const (
	jobDelete = "delete" // of a user
	jobRevoke = "revoke" // of the credentials of an integration
)

const (
	// jobParts is how many credentials a job works on at a time, so that their Applies share synced commits. Each
	// part has those whose id ends with its digit, in order. It is part of what lies in the store.
	jobParts = 16
	jobPage  = 1000      // keys that are read at a time
	jobEcho  = time.Hour // how long the report is kept for those who wait for a job that another one carries out
	jobPoll  = 50 * time.Millisecond
)

// jobRecord is a job, or one of its parts, which has only After and Report.
type jobRecord struct {
	ID      string       `cbor:"1,keyasint,omitempty"`
	Created millis       `cbor:"2,keyasint,omitempty"`
	Ended   millis       `cbor:"3,keyasint,omitempty"` // 0: it has not
	Until   string       `cbor:"4,keyasint,omitempty"` // the last credential that it is about; empty: there is no last one
	After   string       `cbor:"5,keyasint,omitempty"` // of a part: up to which credential it is done
	Total   int          `cbor:"6,keyasint,omitempty"`
	Done    int          `cbor:"7,keyasint,omitempty"` // credentials
	Report  reportRecord `cbor:"8,keyasint"`
}

// jobItem is a credential that a job does something to.
type jobItem struct{ user, id string }

// jobKind is what a job of a kind does.
type jobKind interface {
	// page returns the credentials behind a key, in the order of their ids, and the key of the last.
	page(ctx context.Context, after []string, limit int) (items []jobItem, last []string, more bool, err error)
	// do adds to tx what is done to one of them, and returns what to report of that; errUnchanged when there is
	// nothing.
	do(ctx context.Context, tx *sealed.Tx, item jobItem) (reportRecord, error)
	// before is done first, and may be done again.
	before(ctx context.Context, j *job) error
	// after is done when all credentials are, and may be done again.
	after(ctx context.Context, j *job) error
	// end adds to tx, which ends the job, what else that means.
	end(ctx context.Context, tx *sealed.Tx, report *reportRecord) error
}

// kindOf returns what a stored job does.
func (e *Engine) kindOf(kind, subject string, record *jobRecord) jobKind {
	if kind == jobDelete {
		return &deletion{e: e, user: subject}
	}
	return &revoking{e: e, integration: subject, until: record.Until}
}

// runJob carries a job on until it has ended, and returns its report. Where another call or process is at it, it
// waits for that one.
func (e *Engine) runJob(ctx context.Context, kind, subject, id string, tell func(Progress)) (Report, error) {
	var told Progress
	for {
		if e.ending.Load() {
			return Report{}, ErrClosed
		}
		record, _, err := e.tables.jobs.Get(ctx, kind, subject)
		switch {
		case errors.Is(err, storage.ErrNotFound), err == nil && record.ID != id:
			return Report{}, fmt.Errorf("its report is gone: %w", ErrConflict) // it took this one hours to look
		case err != nil:
			return Report{}, err
		case record.Ended != 0:
			return record.Report.public(), nil
		}
		held, err := e.leases.Acquire(ctx, "job", kind, subject)
		if err != nil {
			return Report{}, err
		}
		if held != nil {
			report, err := e.carryOn(ctx, held, kind, subject, id, tell)
			if !errors.Is(err, errJobOver) {
				return report, err
			}
		} else if now, err := e.progress(ctx, kind, subject, &record); err == nil && now != told {
			tell(now)
			told = now
		}
		if err := pause(ctx, jobPoll); err != nil {
			return Report{}, err
		}
	}
}

// progress is how far a job is that somebody else carries out.
func (e *Engine) progress(ctx context.Context, kind, subject string, record *jobRecord) (Progress, error) {
	rows, _, err := e.tables.jobs.List(ctx, []string{kind, subject}, nil, jobParts+1)
	p := Progress{Total: record.Total}
	for i := range rows {
		p.Done += rows[i].Value.Done
	}
	return p, err
}

// carryOn runs a job while it holds the lease.
func (e *Engine) carryOn(ctx context.Context, held *lease.Lease, kind, subject, id string, tell func(Progress)) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		for pause(ctx, e.opts.LeaseTTL/3) == nil {
			if err := held.Renew(ctx); errors.Is(err, lease.ErrLost) {
				cancel(errJobOver)
			}
		}
	}()
	j := &job{e: e, kind: kind, subject: subject, tell: tell}
	err := j.run(ctx, id)
	if context.Cause(ctx) == errJobOver { //nolint:errorlint // which of the two it is
		err = errJobOver
	}
	cancel(nil)
	<-renewing
	if failed := held.Release(ctx); failed != nil {
		e.log.WarnContext(ctx, "a job could not be released, and waits for its lease to run out", "job", kind, "error", failed)
	}
	return j.record.Report.public(), err
}

// dryRun tells what a job would report: it does everything but to apply it.
func (e *Engine) dryRun(ctx context.Context, what jobKind, tell func(Progress)) (reportRecord, error) {
	var report reportRecord
	total := 0
	j := &job{e: e, what: what}
	if err := j.walk(ctx, func(jobItem) error {
		total++
		return nil
	}); err != nil {
		return report, err
	}
	done := 0
	err := j.walk(ctx, func(item jobItem) error {
		if e.ending.Load() {
			return ErrClosed
		}
		did, err := what.do(ctx, e.db.Begin(ctx), item)
		if err != nil && !errors.Is(err, errUnchanged) {
			return err
		}
		report = report.plus(did)
		done++
		tell(Progress{Done: done, Total: max(total, done)})
		return nil
	})
	return report, err
}

// resumeJobs carries on what was cut short.
func (e *Engine) resumeJobs(ctx context.Context) error {
	if e.quarantined || e.usable() != nil {
		return nil
	}
	var errs []error
	for after, more := []string(nil), true; more; {
		rows, next, err := e.tables.jobs.List(ctx, nil, after, 100)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, row := range rows {
			if after = row.Key; len(row.Key) != 2 {
				continue
			}
			if err := e.resumeJob(ctx, row); err != nil && !errors.Is(err, errJobOver) {
				errs = append(errs, fmt.Errorf("carry on to %s %s: %w", row.Key[0], clip(row.Key[1]), err))
			}
		}
		more = next
	}
	return errors.Join(errs...)
}

func (e *Engine) resumeJob(ctx context.Context, row sealed.Row[jobRecord]) error {
	if ended := row.Value.Ended; ended != 0 {
		if e.now().Sub(ended.time()) < jobEcho {
			return nil
		}
		tx := e.db.Begin(ctx)
		e.tables.jobs.Delete(tx, row.Rev, row.Key...)
		if err := e.kernel.Apply(ctx, tx); !conflicted(err) {
			return err
		}
		return nil
	}
	held, err := e.leases.Acquire(ctx, "job", row.Key[0], row.Key[1])
	if err != nil || held == nil {
		return err
	}
	_, err = e.carryOn(ctx, held, row.Key[0], row.Key[1], row.Value.ID, func(Progress) {})
	return err
}
