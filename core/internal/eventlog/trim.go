package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/polycred/polycred/storage"
)

// maxTrim is how many entries one batch removes, beside one mark. It reads as many, so it is below what would fit.
const maxTrim = 128

// Trim removes entries from the oldest on, as long as old says so of them, and returns how many it removed. It does so in
// batches: after an error, or a crash, the next call goes on. Readers that had not come so far get a *RemovedError.
//
// An entry that cannot be read is removed with the first one behind it that is old. Where none of a whole batch can be
// read, Trim stops with an *EntryError. Other errors are those of the store. Old must not keep what it is given.
func (l *Log[T]) Trim(ctx context.Context, old func(*T) bool) (removed int, err error) {
	for more := true; more; {
		var n int
		n, more, err = l.trimBatch(ctx, old)
		if conflicted(err) {
			more = true // another one trims, too
			continue
		}
		if err != nil {
			return removed, fmt.Errorf("trim the %s log: %w", l.name, err)
		}
		removed += n
	}
	return removed, nil
}

func (l *Log[T]) trimBatch(ctx context.Context, old func(*T) bool) (removed int, more bool, err error) {
	m, rev, err := l.marks.Get(ctx, oldestMark)
	if errors.Is(err, storage.ErrNotFound) {
		m.Number, err = 1, nil
	}
	if err != nil {
		return 0, false, err
	}
	rows, next, err := list(ctx, l.entries, []string{entryKey(m.Number - 1)}, maxTrim)
	if err != nil {
		return 0, false, err
	}
	readable := false
	for i := range rows {
		if rows[i].err != nil {
			continue
		}
		readable = true
		if !old(&rows[i].Value) {
			next = nil
			break
		}
		removed = i + 1
	}
	if len(rows) > 0 && !readable {
		return 0, false, &EntryError{m.Number, rows[0].err}
	}
	if removed == 0 {
		return 0, false, nil
	}
	last, err := strconv.ParseUint(rows[removed-1].Key[0], 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("entry %q: its key is no number", rows[removed-1].Key)
	}
	tx := l.db.Begin(ctx)
	for _, r := range rows[:removed] {
		l.entries.Delete(tx, r.Rev, r.Key...)
	}
	l.marks.Put(tx, &mark{last + 1}, rev, oldestMark)
	if err := tx.Commit(ctx); err != nil {
		return 0, false, err
	}
	return removed, next != nil, nil
}
