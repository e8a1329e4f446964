package due

import (
	"context"
	"errors"
	"slices"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// trailing is how far the low-water minute is behind the clock of whoever writes it, how long ago an entry was shown that
// lies before it, and how far ahead of our clock it may be to be believed. Clocks may differ by 10 minutes, and an entry
// may be in work, or being committed, for some more.
const trailing Minute = 15

// markKey is the only key of the table.
const markKey = "low water"

// mark is what one process tells the next.
type mark struct {
	Low   Minute `cbor:"1,keyasint"`           // everything before it was shown, and was not left
	Whole Minute `cbor:"2,keyasint,omitempty"` // when the last pass began that looked at everything
}

// believed is what of the mark can be true in minute m: a clock that is far ahead tells nothing.
func (k mark) believed(m Minute) mark {
	if k.Low > m+trailing || k.Low < 0 {
		k.Low = 0
	}
	if k.Whole > m+trailing || k.Whole < 0 {
		k.Whole = 0
	}
	return k
}

// readMark returns the mark, which is zero when there is none.
func (q *Queue) readMark(ctx context.Context) (mark, storage.Rev, error) {
	held, rev, err := q.marks.Get(ctx, markKey)
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return held, rev, err
}

// unreadable reports whether err says that the mark is there and does not open. Nothing depends on it but speed.
func unreadable(err error) bool {
	var corrupt *sealed.CorruptError
	var newer *sealed.FormatError
	return errors.As(err, &corrupt) || errors.As(err, &newer)
}

// step is before which minute nothing was left to be done when a pass ended.
type step struct{ at, low Minute }

// keepMark notes how far the pass in minute m came, and writes the mark, at most once a minute and only when it tells
// more than what is there, which is what another process wrote. Who took an old entry may die before it is done: so the
// mark goes on to where a pass came only when that has ended for a while.
func (s *Scanner) keepMark(ctx context.Context, m Minute) {
	if m == s.kept {
		return
	}
	s.kept = m
	reached := step{at: max(m, within(s.queue.now())), low: m} // the pass may have taken long
	for i := range s.shards {
		reached.low = min(reached.low, s.shards[i].low())
	}
	s.trail = slices.DeleteFunc(s.trail, func(t step) bool { return t.at > reached.at }) // the clock went back
	s.trail = append(s.trail, reached)
	for len(s.trail) > 1 && s.trail[1].at <= reached.at-trailing {
		s.trail = slices.Delete(s.trail, 0, 1)
	}
	low := s.trail[0].low // at least that far behind us, too
	if s.trail[0].at > reached.at-trailing {
		low = 0
	}
	err := s.queue.raiseMark(ctx, m, mark{Low: low, Whole: s.finished})
	var conflict *storage.ConflictError
	if err != nil && !errors.As(err, &conflict) && !unreadable(err) && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the low-water minute was not written", "error", err)
	}
}

func (q *Queue) raiseMark(ctx context.Context, m Minute, to mark) error {
	held, rev, err := q.readMark(ctx)
	if err != nil {
		return err
	}
	known := held.believed(m)
	to.Low, to.Whole = max(to.Low, known.Low), max(to.Whole, known.Whole)
	if to == held {
		return nil
	}
	tx := q.db.Begin(ctx)
	q.marks.Put(tx, &to, rev, markKey)
	return tx.Commit(ctx)
}
