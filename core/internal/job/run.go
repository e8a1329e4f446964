package job

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
	"golang.org/x/sync/errgroup"
)

// Run is one run of a job, by one process. What of it a Kind may use is not for concurrent use.
type Run[R Report[R]] struct {
	jobs          *Jobs[R]
	kind, subject string
	what          Kind[R]
	tell          func(Progress)

	record Record[R]
	rev    storage.Rev
	parts  [parts]part[R] // each is changed by who works on it

	mu   sync.Mutex // guards done, and keeps tell from being called twice at once
	done int
}

type part[R any] struct {
	record Record[R]
	rev    storage.Rev
}

const digits = "0123456789abcdef"

func partName(i int) string { return digits[i : i+1] }

// partOf returns which part an item belongs to; those with an id of another kind are of the first.
func partOf(id string) int {
	if id == "" {
		return 0
	}
	return max(strings.IndexByte(digits, id[len(id)-1]), 0)
}

// run carries the job with that id on to its end. ErrOver: it is not this run's, or not any more.
func (r *Run[R]) run(ctx context.Context, id string) (report R, err error) {
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return r.begin(ctx, id) },
		func(ctx context.Context) error { return r.what.Before(ctx, r) },
		r.count,
		r.all,
		func(ctx context.Context) error { return r.what.After(ctx, r) },
		r.end,
	} {
		if err := step(ctx); err != nil {
			return report, err
		}
	}
	return r.record.Report, nil
}

// begin reads how far the job is, and changes its record: whoever worked on it before cannot go on.
func (r *Run[R]) begin(ctx context.Context, id string) error {
	for try := 0; ; try++ {
		if err := r.read(ctx, id); err != nil {
			return err
		}
		r.what = r.jobs.opts.Kind(r.kind, r.subject, r.record.Until)
		if err := r.put(ctx); !conflicted(err) {
			return err
		}
		if err := again(ctx, try); err != nil {
			return err
		}
	}
}

func (r *Run[R]) read(ctx context.Context, id string) (err error) {
	records := r.jobs.records
	r.record, r.rev, err = records.Get(ctx, r.kind, r.subject)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return ErrOver
	case err != nil:
		return err
	case r.record.ID != id, r.record.Ended != 0:
		return ErrOver
	}
	keys := make([][]string, parts)
	for i := range keys {
		keys[i] = []string{r.kind, r.subject, partName(i)}
	}
	rows, err := records.GetMany(ctx, keys)
	r.done = 0
	for i := range rows {
		r.parts[i] = part[R]{rows[i].Value, rows[i].Rev}
		r.done += rows[i].Value.Done
	}
	return err
}

func (r *Run[R]) put(ctx context.Context) error {
	tx := r.jobs.kernel.DB().Begin(ctx)
	next := r.jobs.records.Put(tx, &r.record, r.rev, r.kind, r.subject)
	err := r.jobs.kernel.Apply(ctx, tx)
	if err == nil {
		r.rev = next
	}
	return err
}

// count finds out how much there is to do in all, and notes it for those who wait.
func (r *Run[R]) count(ctx context.Context) error {
	r.record.Total = r.done
	err := walk(ctx, r.what, func(item Item) error {
		if item.ID > r.parts[partOf(item.ID)].record.After {
			r.record.Total++
		}
		return nil
	})
	if err == nil {
		err = r.put(ctx)
	}
	if conflicted(err) {
		err = ErrOver
	}
	return err
}

// all does what the job does to all items, those of each part one after the other.
func (r *Run[R]) all(ctx context.Context) error {
	group, grouped := errgroup.WithContext(ctx)
	var lanes [parts]chan Item
	for i := range lanes {
		lanes[i] = make(chan Item, 8)
		group.Go(func() error {
			for item := range lanes[i] {
				if err := r.one(grouped, i, item); err != nil {
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
		return walk(grouped, r.what, func(item Item) error {
			select {
			case lanes[partOf(item.ID)] <- item:
				return nil
			case <-grouped.Done():
				return grouped.Err()
			}
		})
	})
	return group.Wait()
}

// one does what the job does to one item, once.
func (r *Run[R]) one(ctx context.Context, part int, item Item) error {
	for try := 0; ; try++ {
		if item.ID <= r.parts[part].record.After { // by an earlier run, or by this one, whose answer was lost
			return nil
		}
		err := r.apply(ctx, part, item.ID, func(tx *sealed.Tx) (R, error) { return r.what.Do(ctx, tx, item) })
		if !conflicted(err) {
			return err
		}
		if err := r.reread(ctx, part, try); err != nil {
			return err
		}
	}
}

// Apply is for Before and After: it applies what add adds to a Tx together with what add returns to report of it, so
// that what is not there to be done again is reported once. Add is called again where that lost to somebody else;
// ErrUnchanged from it applies nothing. ErrOver: the job is not this run's any more. Other errors are those of
// Options.Begin, of add and of the store.
func (r *Run[R]) Apply(ctx context.Context, add func(tx *sealed.Tx) (R, error)) error {
	for try := 0; ; try++ {
		err := r.apply(ctx, 0, "", add)
		if !conflicted(err) {
			return err
		}
		if err := r.reread(ctx, 0, try); err != nil {
			return err
		}
	}
}

// apply changes something and what the job has to report in one Apply: of one item, or, where id is empty, of something
// else. Where that conflicts, reread comes next.
func (r *Run[R]) apply(ctx context.Context, part int, id string, add func(tx *sealed.Tx) (R, error)) error {
	done, err := r.jobs.opts.Begin()
	if err != nil {
		return err
	}
	defer done()
	p, records := &r.parts[part], r.jobs.records
	tx := r.jobs.kernel.DB().Begin(ctx)
	did, err := add(tx)
	if err == nil {
		next := p.record
		next.Report = p.record.Report.Plus(did)
		if id != "" {
			next.After, next.Done = id, next.Done+1
		}
		records.Check(tx, r.rev, r.kind, r.subject)
		rev := records.Put(tx, &next, p.rev, r.kind, r.subject, partName(part))
		if err = r.jobs.kernel.Commit(ctx, tx); err == nil {
			p.record, p.rev = next, rev
		}
	}
	if errors.Is(err, ErrUnchanged) {
		err = nil
	}
	if err == nil && id != "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.done++
		r.tell(Progress{Done: r.done, Total: max(r.record.Total, r.done)})
	}
	return err
}

// reread finds out, after a conflict, whether the job still is this run's, and how far the part is.
func (r *Run[R]) reread(ctx context.Context, at, try int) error {
	if err := again(ctx, try); err != nil {
		return err
	}
	rows, err := r.jobs.records.GetMany(ctx, [][]string{{r.kind, r.subject}, {r.kind, r.subject, partName(at)}})
	switch {
	case err != nil:
		return err
	case rows[0].Rev != r.rev:
		return ErrOver
	}
	r.parts[at] = part[R]{rows[1].Value, rows[1].Rev}
	return nil
}

// Sweep is for Before and After: it applies what add adds to a Tx, which reports nothing, until add says that it added
// nothing. Errors: ErrOver, those of add and those of the store.
func (r *Run[R]) Sweep(ctx context.Context, add func(tx *sealed.Tx) (more bool, err error)) error {
	for try := 0; ; {
		tx := r.jobs.kernel.DB().Begin(ctx)
		r.jobs.records.Check(tx, r.rev, r.kind, r.subject)
		more, err := add(tx)
		if err != nil || !more {
			return err
		}
		if err = r.jobs.kernel.Apply(ctx, tx); conflicted(err) {
			err = r.reread(ctx, 0, try)
			try++
		}
		if err != nil {
			return err
		}
	}
}

// end writes the report down and ends the job.
func (r *Run[R]) end(ctx context.Context) error {
	record, records := r.record, r.jobs.records
	tx := r.jobs.kernel.DB().Begin(ctx)
	for i := range r.parts {
		record.Report = record.Report.Plus(r.parts[i].record.Report)
		if r.parts[i].rev != 0 {
			records.Delete(tx, r.parts[i].rev, r.kind, r.subject, partName(i))
		}
	}
	record.Ended = r.jobs.kernel.Now().UnixMilli()
	records.Put(tx, &record, r.rev, r.kind, r.subject)
	err := r.what.End(ctx, tx, &record.Report)
	if err == nil {
		err = r.jobs.kernel.Commit(ctx, tx)
	}
	switch {
	case conflicted(err):
		return ErrOver
	case err == nil:
		r.record = record
	}
	return err
}
