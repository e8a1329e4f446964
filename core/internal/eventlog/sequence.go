package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

const (
	maxMove  = (storage.MaxBatchOps - 1) / 2 // an entry is written and an outbox record removed, beside one mark
	maxStuck = 3                             // conflicts in a row that nobody can have caused
	maxRest  = 50 * time.Millisecond         // between two pages
)

// Sequence moves what waits in the outbox to the log, and returns how many records it moved. It ends although others go
// on to append. Any number of sequencers may run, in any number of processes; they only take work from each other.
//
// A record that cannot be read, or that a newer program wrote, stays where it is, and so does one that does not fit; the
// others are moved. The error then joins a *sealed.CorruptError, *sealed.FormatError or storage.ErrTooLarge for each that
// the pass came by, and not every pass comes by. Other errors are those of the store; after storage.ErrUnknownOutcome
// more may have been moved than moved says. Calling again is always right.
func (l *Log[T]) Sequence(ctx context.Context) (moved int, err error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	p := pass[T]{Log: l, horizon: newKey()}
	err = p.run(ctx, l.trail.begin(l.now()))
	l.trail.end(p.moved, err)
	if err != nil {
		err = fmt.Errorf("move the outbox of the %s log: %w", l.name, err)
	}
	return p.moved, errors.Join(append(p.left, err)...)
}

// pass is one walk over the outbox.
type pass[T any] struct {
	*Log[T]
	horizon string // a key as it would have been made when the pass began
	moved   int
	left    []error // why records were left where they are

	newest uint64 // the mark, as it was before the page was read
	rev    storage.Rev
	stuck  int // conflicts since anything moved
}

// run walks the outbox from the key after on.
//
// Behind its first page it takes nothing that was appended since it began. So what was appended in this process when
// another record had been committed is never numbered before that: a page is one moment of the store, and whatever was
// committed before the horizon is on the page that its key belongs to.
//
// The mark is read, or written, before each page. While it does not change nobody else has moved anything, so what is on
// the page is still in the outbox, and removing it needs no condition, which would cost the store a look-up for each.
func (p *pass[T]) run(ctx context.Context, after []string) error {
	if err := p.readMark(ctx); err != nil {
		return err
	}
	for first := true; ; {
		began := time.Now()
		rows, next, err := list(ctx, p.outbox, after, p.size)
		if err != nil {
			return err
		}
		if !first {
			for i := range rows {
				if rows[i].Key[0] > p.horizon {
					rows, next = rows[:i], nil
					break
				}
			}
		}
		left, err := p.page(ctx, rows)
		if conflicted(err) {
			if err = p.lost(ctx, err); err == nil {
				continue // with what is there now
			}
		}
		if err != nil {
			return err
		}
		p.left = append(p.left, left...)
		if next == nil {
			return nil
		}
		after, first = next, false
		if err := rest(ctx, 2*time.Since(began)); err != nil {
			return err
		}
	}
}

// rest waits between two pages, twice as long as the one before took, so that whoever writes has the store to himself most
// of the time: a record that waits disturbs nobody.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(min(d, maxRest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// page moves what can be moved of one page and returns why the rest was left.
func (p *pass[T]) page(ctx context.Context, rows []row[T]) (left []error, err error) {
	good := make([]sealed.Row[T], 0, len(rows))
	for _, r := range rows {
		if r.err != nil {
			left = append(left, leave(r.Key, r.err))
		} else {
			good = append(good, r.Row)
		}
	}
	for len(good) > 0 {
		n := min(p.size, len(good))
		err := p.move(ctx, good[:n])
		switch tooLarge := errors.Is(err, storage.ErrTooLarge); {
		case tooLarge && n > 1:
			p.size = n / 2
			continue
		case tooLarge: // it grew, being written in a newer format
			left = append(left, leave(good[0].Key, err))
		case err != nil:
			return nil, err
		}
		good = good[n:]
		p.size = min(p.size+p.size/4+1, maxMove)
	}
	return left, nil
}

func leave(key []string, why error) error {
	return fmt.Errorf("record %x stays in the outbox: %w", strings.Join(key, "/"), why)
}

// move gives the next numbers to rows, in one batch.
func (p *pass[T]) move(ctx context.Context, rows []sealed.Row[T]) error {
	tx := p.db.Begin(ctx)
	for i := range rows {
		if id, err := uuid.FromBytes([]byte(rows[i].Key[0])); p.stamp != nil && err == nil {
			p.stamp(&rows[i].Value, id.String())
		}
		p.entries.Put(tx, &rows[i].Value, 0, entryKey(p.newest+uint64(i)+1))
		p.outbox.Delete(tx, storage.Any, rows[i].Key...) // see run
	}
	next := mark{p.newest + uint64(len(rows))}
	rev := p.marks.Put(tx, &next, p.rev, newestMark)
	err := tx.Commit(ctx)
	switch {
	case err == nil:
		p.newest, p.rev, p.stuck = next.Number, rev, 0
		p.moved += len(rows)
		p.announce()
	case errors.Is(err, storage.ErrUnknownOutcome):
		p.announce() // somebody may find something
	}
	return err
}

func (p *pass[T]) readMark(ctx context.Context) error {
	m, rev, err := p.marks.Get(ctx, newestMark)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	p.newest, p.rev = m.Number, rev
	return nil
}

// lost is what follows a conflict: another sequencer was first, so the mark is read again. Where it did not change, time
// after time, nobody was, and the log contradicts the mark; err is then returned.
func (p *pass[T]) lost(ctx context.Context, err error) error {
	before := p.rev
	if err := p.readMark(ctx); err != nil {
		return err
	}
	if p.stuck++; p.rev != before {
		p.stuck = 0
	}
	if p.stuck >= maxStuck {
		return fmt.Errorf("entry %d exists, but is not counted: %w", p.newest+1, err)
	}
	return nil
}
