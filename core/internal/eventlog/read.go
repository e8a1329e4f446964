package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/storage/sealed"
)

var errGone = errors.New("it is gone")

// Read returns the entries with a Number above after, in order and without a gap, limit at most (0:
// storage.DefaultLimit); none when there is nothing new yet. Nothing is ever passed over: a *RemovedError says that some
// of them were trimmed, an *AheadError that after was never given, and an *EntryError that the entry after+1 cannot be
// read, once those before it were returned. Other errors are those of the store.
func (l *Log[T]) Read(ctx context.Context, after uint64, limit int) ([]Entry[T], error) {
	for was := uint64(0); ; {
		oldest, newest, err := l.Bounds(ctx)
		switch {
		case err != nil:
			return nil, err
		case after > newest:
			return nil, &AheadError{Newest: newest}
		case after+1 < oldest:
			return nil, &RemovedError{Oldest: oldest}
		case after == newest:
			return nil, nil
		}
		rows, _, err := list(ctx, l.entries, []string{entryKey(after)}, limit)
		if err != nil {
			return nil, fmt.Errorf("read the %s log behind %d: %w", l.name, after, err)
		}
		entries, err := run(rows, after+1)
		if err != nil || len(entries) > 0 {
			return entries, err
		}
		if was == oldest { // not trimmed meanwhile: entries and marks change together
			return nil, &EntryError{after + 1, &sealed.CorruptError{Table: l.name, Key: []string{entryKey(after + 1)}, Err: errGone}}
		}
		was = oldest
	}
}

// run returns what can be read of rows from number first on, up to the first gap.
func run[T any](rows []row[T], first uint64) (entries []Entry[T], err error) {
	entries = make([]Entry[T], 0, len(rows))
	for i, r := range rows {
		number := first + uint64(i)
		switch {
		case len(r.Key) != 1 || r.Key[0] != entryKey(number):
			return entries, nil
		case r.err != nil && i == 0:
			return nil, &EntryError{number, r.err}
		case r.err != nil:
			return entries, nil
		}
		entries = append(entries, Entry[T]{number, r.Value})
	}
	return entries, nil
}
