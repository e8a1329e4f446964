package core

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
	"golang.org/x/sync/errgroup"
)

// A job is work that takes more than one Apply: something is done to each of many credentials, and then it is over. What
// was done to a credential, how far the job is and what it has to report change in one Apply, so that a job which is cut
// short anywhere is carried on by whoever comes next, and its report counts everything once. A lease keeps two processes
// from doing the same; nothing believes in it.

const (
	jobDelete = "delete" // of a user
	jobRevoke = "revoke" // of the credentials of an integration
)

const (
	// jobParts is how many credentials a job works on at a time, so that their Applies share synced commits. Each part has
	// those whose id ends with its digit, in order. It is part of what lies in the store.
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
	// do adds to tx what is done to one of them, and returns what to report of that; errUnchanged when there is nothing.
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

// errJobOver says that somebody else ended the job, or carries it on.
var errJobOver = errors.New("another process carries it on")

// job is one run of a job.
type job struct {
	e             *Engine
	kind, subject string
	what          jobKind
	tell          func(Progress)

	record jobRecord
	rev    storage.Rev
	parts  [jobParts]jobPart

	mu   sync.Mutex // guards done, and keeps tell from being called twice at once
	done int
}

type jobPart struct {
	record jobRecord
	rev    storage.Rev
}

func partName(i int) string { return string("0123456789abcdef"[i]) }

// partOf returns which part a credential belongs to.
func partOf(id string) int {
	return max(strings.IndexByte("0123456789abcdef", id[max(len(id)-1, 0):][0]), 0)
}

// runJob carries a job on until it has ended, and returns its report. Where another call or process is at it, it waits for
// that one.
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

func (j *job) run(ctx context.Context, id string) error {
	if err := j.begin(ctx, id); err != nil {
		return err
	}
	if err := j.what.before(ctx, j); err != nil {
		return err
	}
	if err := j.count(ctx); err != nil {
		return err
	}
	group, grouped := errgroup.WithContext(ctx)
	var lanes [jobParts]chan jobItem
	for i := range lanes {
		lanes[i] = make(chan jobItem, 8)
		group.Go(func() error {
			for item := range lanes[i] {
				if err := j.one(grouped, i, item); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer func() {
			for _, lane := range lanes {
				close(lane)
			}
		}()
		return j.walk(grouped, func(item jobItem) error {
			select {
			case lanes[partOf(item.id)] <- item:
				return nil
			case <-grouped.Done():
				return grouped.Err()
			}
		})
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if err := j.what.after(ctx, j); err != nil {
		return err
	}
	return j.end(ctx)
}

// begin reads how far the job is, and changes its record: whoever worked on it before cannot go on.
func (j *job) begin(ctx context.Context, id string) error {
	for try := 0; ; try++ {
		err := j.read(ctx, id)
		if err != nil {
			return err
		}
		if j.what == nil {
			j.what = j.e.kindOf(j.kind, j.subject, &j.record)
		}
		err = j.put(ctx)
		if !conflicted(err) {
			return err
		}
		if err := again(ctx, try); err != nil {
			return err
		}
	}
}

func (j *job) read(ctx context.Context, id string) (err error) {
	tables := &j.e.tables
	j.record, j.rev, err = tables.jobs.Get(ctx, j.kind, j.subject)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return errJobOver
	case err != nil:
		return err
	case j.record.ID != id, j.record.Ended != 0:
		return errJobOver
	}
	keys := make([][]string, jobParts)
	for i := range keys {
		keys[i] = []string{j.kind, j.subject, partName(i)}
	}
	rows, err := tables.jobs.GetMany(ctx, keys)
	j.done = 0
	for i := range rows {
		j.parts[i] = jobPart{rows[i].Value, rows[i].Rev}
		j.done += rows[i].Value.Done
	}
	return err
}

func (j *job) put(ctx context.Context) error {
	tx := j.e.db.Begin(ctx)
	next := j.e.tables.jobs.Put(tx, &j.record, j.rev, j.kind, j.subject)
	err := j.e.kernel.Apply(ctx, tx)
	if err == nil {
		j.rev = next
	}
	return err
}

// count finds out how much there is to do in all, and notes it for those who wait.
func (j *job) count(ctx context.Context) error {
	j.record.Total = j.done
	err := j.walk(ctx, func(item jobItem) error {
		if item.id > j.parts[partOf(item.id)].record.After {
			j.record.Total++
		}
		return nil
	})
	if err == nil {
		err = j.put(ctx)
	}
	if conflicted(err) {
		err = errJobOver
	}
	return err
}

// walk gives the credentials that the job is about, also those that it has dealt with, in the order of their ids.
func (j *job) walk(ctx context.Context, do func(jobItem) error) error {
	for after, more := []string(nil), true; more; {
		items, last, next, err := j.what.page(ctx, after, jobPage)
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

// one does what the job does to one credential, once.
func (j *job) one(ctx context.Context, part int, item jobItem) error {
	for try := 0; ; try++ {
		if item.id <= j.parts[part].record.After { // by an earlier run, or by this one, whose answer was lost
			return nil
		}
		err := j.apply(ctx, part, item.id, func(tx *sealed.Tx) (reportRecord, error) { return j.what.do(ctx, tx, item) })
		if !conflicted(err) {
			return err
		}
		if err := j.reread(ctx, part, try); err != nil {
			return err
		}
	}
}

// apply changes something and what the job has to report in one Apply: of one credential, or, where id is empty, of
// something else. Where that conflicts, reread comes next.
func (j *job) apply(ctx context.Context, part int, id string, add func(tx *sealed.Tx) (reportRecord, error)) error {
	done, err := j.e.begin()
	if err != nil {
		return err
	}
	defer done()
	p, tables := &j.parts[part], &j.e.tables
	tx := j.e.db.Begin(ctx)
	did, err := add(tx)
	if err == nil {
		next := p.record
		next.Report = p.record.Report.plus(did)
		if id != "" {
			next.After, next.Done = id, next.Done+1
		}
		tables.jobs.Check(tx, j.rev, j.kind, j.subject)
		rev := tables.jobs.Put(tx, &next, p.rev, j.kind, j.subject, partName(part))
		if err = j.e.kernel.Commit(ctx, tx); err == nil {
			p.record, p.rev = next, rev
		}
	}
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	if err == nil && id != "" {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.done++
		j.tell(Progress{Done: j.done, Total: max(j.record.Total, j.done)})
	}
	return err
}

// reread finds out, after a conflict, whether the job still is this run's, and how far the part is.
func (j *job) reread(ctx context.Context, part, try int) error {
	if err := again(ctx, try); err != nil {
		return err
	}
	rows, err := j.e.tables.jobs.GetMany(ctx, [][]string{{j.kind, j.subject}, {j.kind, j.subject, partName(part)}})
	switch {
	case err != nil:
		return err
	case rows[0].Rev != j.rev:
		return errJobOver
	}
	j.parts[part] = jobPart{rows[1].Value, rows[1].Rev}
	return nil
}

// sweep applies what add adds until it says that it adds nothing.
func (j *job) sweep(ctx context.Context, add func(tx *sealed.Tx) (more bool, err error)) error {
	for try := 0; ; {
		tx := j.e.db.Begin(ctx)
		j.e.tables.jobs.Check(tx, j.rev, j.kind, j.subject)
		more, err := add(tx)
		if err != nil || !more {
			return err
		}
		if err = j.e.kernel.Apply(ctx, tx); conflicted(err) {
			err = j.reread(ctx, 0, try)
			try++
		}
		if err != nil {
			return err
		}
	}
}

// end writes the report down and ends the job.
func (j *job) end(ctx context.Context) error {
	record, tables := j.record, &j.e.tables
	tx := j.e.db.Begin(ctx)
	for i := range j.parts {
		record.Report = record.Report.plus(j.parts[i].record.Report)
		if j.parts[i].rev != 0 {
			tables.jobs.Delete(tx, j.parts[i].rev, j.kind, j.subject, partName(i))
		}
	}
	record.Ended = toMillis(j.e.now())
	tables.jobs.Put(tx, &record, j.rev, j.kind, j.subject)
	err := j.what.end(ctx, tx, &record.Report)
	if err == nil {
		err = j.e.kernel.Commit(ctx, tx)
	}
	switch {
	case conflicted(err):
		return errJobOver
	case err == nil:
		j.record = record
	}
	return err
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
