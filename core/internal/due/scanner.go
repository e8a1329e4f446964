package due

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// pageSize is how many entries are shown at a time.
	pageSize = 500

	// wholeEvery is after how many minutes a pass begins at the very beginning, come what may.
	wholeEvery Minute = 60
)

// Func looks at what is due. It returns those entries of page whose work is not done, to be shown again in the next pass:
// somebody else holds the lease, or a limit was reached. The others are its own now: one that it does not move is shown
// again by the next pass that begins at the very beginning, and, within 15 minutes, by a new Scanner. An error is for what
// concerns all entries, as a store that is down; it ends the pass, and the page counts as not shown. Page is the
// function's own.
type Func = func(ctx context.Context, page []Entry) (left []Entry, err error)

// Scanner walks over a queue, in passes. It remembers in memory how far it came, because removed entries are not free:
// on Badger each scan that begins before them walks over what is left of them, until that is compacted away. A process
// needs one, and each is for one goroutine at a time.
type Scanner struct {
	queue  *Queue
	log    *slog.Logger
	shards [shards]shard

	begun    bool   // the shards have a position
	whole    Minute // when a pass last began at the very beginning
	open     bool   // that one has not come to its end yet
	finished Minute // when the last one began that has
	failed   bool   // a pass failed since

	trail  []step // of passes of the last 15 minutes, and the last one before
	kept   Minute // when the low-water minute was last looked after
	warned Minute // when malformed entries were last reported
}

// Pass shows fn every entry that is due at now, page by page: those that were left before, then those behind where the
// last pass ended, in order of time within a shard, the shards in random order. The next pass goes on behind them, but
// for those that fn says are left. It remembers about 10,000 of those, from memory; with more, a pass begins again at the
// first of the rest, and shows all that is due behind it.
//
// The minute in which a pass ran is looked at a second time, by the first pass in a later minute, for entries that were
// being committed. Once an hour, and after an error, a pass begins at the very beginning: for entries that were added
// in the past, which only processes whose clocks are behind do. The low-water minute tells the next process where to
// begin; that it could not be written is logged and no error.
//
// Malformed entries are passed over, and logged. Errors are that of fn, those of the store, and ctx's; all that was shown
// before stays shown, and calling again is always right.
func (s *Scanner) Pass(ctx context.Context, now time.Time, fn Func) error {
	m := within(now)
	err := s.pass(ctx, m, fn)
	switch {
	case err == nil:
		s.keepMark(ctx, m)
		return nil
	case ctx.Err() == nil && !s.open: // else the pass that began at the very beginning goes on
		s.failed = true
	}
	return s.queue.wrap("walk over what is due", err)
}

func (s *Scanner) pass(ctx context.Context, m Minute, fn Func) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.begin(ctx, m); err != nil {
		return err
	}
	w := walk{queue: s.queue, minute: m, fn: fn}
	defer func() { s.warn(ctx, m, w.odd) }()
	for _, i := range rand.Perm(shards) {
		s.shards[i].begin(m)
		if err := w.shard(ctx, &s.shards[i]); err != nil {
			return err
		}
	}
	s.open, s.finished = false, s.whole
	return nil
}

// begin decides where the pass in minute m begins.
func (s *Scanner) begin(ctx context.Context, m Minute) error {
	if !s.begun {
		held, _, err := s.queue.readMark(ctx)
		switch {
		case unreadable(err):
			s.log.WarnContext(ctx, "the low-water minute cannot be read, so each start looks at everything", "error", err)
		case err != nil:
			return err
		}
		held = held.believed(m)
		s.whole, s.finished, s.begun = held.Whole, held.Whole, true
		for i := range s.shards {
			s.shards[i].start(min(held.Low, max(m-trailing, 0)), m)
		}
	}
	if s.failed || m-s.whole >= wholeEvery || s.whole > m+trailing { // the last: the clock went back
		s.whole, s.open, s.failed = m, true, false
		for i := range s.shards {
			s.shards[i].start(0, m)
		}
	}
	return nil
}

// warn reports once an hour what somebody else put among the entries.
func (s *Scanner) warn(ctx context.Context, m Minute, odd int) {
	if odd == 0 || (s.warned > 0 && m >= s.warned && m-s.warned < wholeEvery) {
		return
	}
	s.warned = m
	s.log.WarnContext(ctx, "entries that no program of ours wrote were passed over", "entries", odd)
}
