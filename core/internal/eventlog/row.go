package eventlog

import (
	"context"
	"errors"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// row is a record, or why it cannot be read.
type row[T any] struct {
	sealed.Row[T]
	err error
}

// list returns up to limit records of t behind the key after, in order, and where the next page begins: nil at the end.
// A record that cannot be read is a row of its own instead of the end of everything.
func list[T any](ctx context.Context, t *sealed.Table[T], after []string, limit int) (rows []row[T], next []string, err error) {
	good, more, err := t.List(ctx, nil, after, limit)
	if damaged(err) {
		return listEach(ctx, t, after, limit)
	}
	if err != nil {
		return nil, nil, err
	}
	rows = make([]row[T], len(good))
	for i := range good {
		rows[i].Row = good[i]
	}
	if more {
		next = good[len(good)-1].Key
	}
	return rows, next, nil
}

// listEach is list, one record at a time.
func listEach[T any](ctx context.Context, t *sealed.Table[T], after []string, limit int) (rows []row[T], next []string, err error) {
	keys, more, err := t.Keys(ctx, nil, after, limit)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range keys {
		v, rev, err := t.Get(ctx, k.Key...)
		switch {
		case err == nil:
			rows = append(rows, row[T]{Row: sealed.Row[T]{Key: k.Key, Value: v, Rev: rev}})
		case damaged(err):
			rows = append(rows, row[T]{Row: k, err: err})
		case errors.Is(err, storage.ErrNotFound): // removed since the keys were read
		default:
			return nil, nil, err
		}
	}
	if more {
		next = keys[len(keys)-1].Key
	}
	return rows, next, nil
}

// damaged reports whether err is about one record, and says nothing of the others.
func damaged(err error) bool {
	var corrupt *sealed.CorruptError
	var newer *sealed.FormatError
	return errors.As(err, &corrupt) || errors.As(err, &newer)
}

func conflicted(err error) bool {
	var conflict *storage.ConflictError
	return errors.As(err, &conflict)
}
