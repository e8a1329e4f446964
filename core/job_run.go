package core

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
	"golang.org/x/sync/errgroup"
)

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

// partOf returns which part a credential belongs to; keys that somebody else made are of the first.
func partOf(id string) int {
	if id == "" {
		return 0
	}
	return max(strings.IndexByte("0123456789abcdef", id[len(id)-1]), 0)
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
