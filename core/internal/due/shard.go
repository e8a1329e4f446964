package due

import (
	"context"
	"slices"
)

// maxLeft is how many entries a shard remembers as left. All shards together: about 10,000.
const maxLeft = 640

// shard is how far a Scanner has come in one of the shards. Each entry that is due and was not done is in left, or behind
// the position.
type shard struct {
	name string

	// The position: behind the entry (at, key), or before all entries of minute at when key is nil.
	at  Minute
	key []string

	left []Entry // in order
	seen Minute  // in which the last pass began
	done bool    // that pass came to its end: it showed everything up to seen
}

// start forgets everything: minute at is the next one to be looked at, in a pass in minute m.
func (s *shard) start(at, m Minute) { *s = shard{name: s.name, at: at, seen: m} }

// begin is for a pass in minute m. Whoever wrote in minute m-1 may commit in minute m, after we were there; so the minute
// of the last pass is looked at again. When the clock went back, so do writers.
func (s *shard) begin(m Minute) {
	if m == s.seen {
		return
	}
	if lo := min(m, s.seen); s.at >= lo {
		s.at, s.key = lo, nil
		s.left = slices.DeleteFunc(s.left, func(e Entry) bool { return e.At >= lo }) // the walk comes by them
	}
	s.seen, s.done = m, false
}

func (s *shard) after() []string {
	return append(edge(s.name, s.at), s.key...)
}

// keep notes that page was shown and rest of it was left, and reports false when that is too much to remember: the
// position is then before the first that is not.
func (s *shard) keep(page, rest []Entry) bool {
	for _, e := range page {
		if isIn(rest, e) {
			if len(s.left) >= maxLeft {
				return false
			}
			s.left = append(s.left, e)
		}
		s.at, s.key = e.At, e.Key
	}
	return true
}

// low is the first minute in which there may be something that was not done.
func (s *shard) low() Minute {
	if len(s.left) > 0 {
		return min(s.at, s.left[0].At)
	}
	return s.at
}

// walk is one pass.
type walk struct {
	queue  *Queue
	minute Minute
	fn     Func
	odd    int // malformed entries that it came by
}

// shard shows what was left in s, and then what is due behind its position.
func (w *walk) shard(ctx context.Context, s *shard) error {
	if err := w.left(ctx, s); err != nil || s.done {
		return err
	}
	after, end, room := s.after(), edge(s.name, w.minute+1), true
	for more := true; more; {
		var rows [][]string
		var odd int
		var err error
		if rows, odd, more, err = w.queue.entries.Range(ctx, after, end, pageSize); err != nil {
			return err
		}
		page := make([]Entry, 0, len(rows))
		for _, row := range rows {
			after = row
			if e, ok := parse(row); ok && row[0] == s.name {
				page = append(page, e)
			} else {
				odd++
			}
		}
		w.odd += odd
		rest, err := w.show(ctx, page)
		if err != nil {
			return err
		}
		room = room && s.keep(page, rest)
	}
	if room {
		s.at, s.key, s.done = w.minute+1, nil, true
	}
	return nil
}

// left shows what was left in s.
func (w *walk) left(ctx context.Context, s *shard) error {
	before := s.left
	s.left = nil
	for len(before) > 0 {
		n := min(len(before), pageSize)
		rest, err := w.show(ctx, before[:n])
		if err != nil {
			s.left = append(s.left, before...)
			return err
		}
		s.left, before = append(s.left, rest...), before[n:]
	}
	return nil
}

// show shows page and returns what of it is left, in the order of page.
func (w *walk) show(ctx context.Context, page []Entry) (rest []Entry, err error) {
	if len(page) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	left, err := w.fn(ctx, slices.Clone(page)) // which it may sort or cut
	if err != nil || len(left) == 0 {
		return nil, err
	}
	left = slices.SortedFunc(slices.Values(left), compare)
	for _, e := range page {
		if isIn(left, e) {
			rest = append(rest, e)
		}
	}
	return rest, nil
}

func isIn(sorted []Entry, e Entry) bool {
	_, found := slices.BinarySearchFunc(sorted, e, compare)
	return found
}
