package sealed

import (
	"context"

	"github.com/polycred/polycred/storage"
)

// Index holds keys without values, so that what lies under longer keys can be listed. It may be used concurrently.
type Index struct {
	db   *DB
	tag  byte
	name string
}

// NewIndex returns the index with that tag in db. It panics when the tag is taken.
func NewIndex(db *DB, tag byte, name string) *Index {
	db.claim(tag, name)
	return &Index{db: db, tag: tag, name: name}
}

// Scan returns up to limit entries (0: storage.DefaultLimit) that begin with prefix, in order, behind the entry after
// (nil: from the first). More says that others follow; the last entry is then the next after. Errors: *CorruptError, and
// those of the store.
func (x *Index) Scan(ctx context.Context, prefix, after []string, limit int) (entries [][]string, more bool, err error) {
	r := x.db.span(x.tag, prefix, after, limit)
	r.KeysOnly = true
	page, err := x.db.store.Scan(ctx, r)
	if err != nil {
		return nil, false, err
	}
	entries = make([][]string, len(page.Items))
	for i, item := range page.Items {
		if entries[i], err = x.db.partsIn(r, item.Key); err != nil {
			return nil, false, &CorruptError{Table: x.name, Err: err}
		}
	}
	return entries, page.Next != nil, nil
}

// Range returns up to limit entries (0: storage.DefaultLimit) behind the entry after, up to but not including the entry
// end, in order; neither needs to be there. More says that others follow; the last entry is then the next after. What lies
// in between and is no key of an entry, which only somebody else can have put there, stops nobody: it is passed over, and
// odd counts it. Errors are those of the store.
func (x *Index) Range(
	ctx context.Context, after, end []string, limit int,
) (entries [][]string, odd int, more bool, err error) {
	start := x.db.key(x.tag, after)
	r := storage.Range{Start: start, End: x.db.key(x.tag, end), After: start, Limit: limit, KeysOnly: true}
	all := storage.Range{Start: x.db.key(x.tag, nil)}
	passed := 0 // up to the last entry: what is behind that will be met again
	for {
		page, err := x.db.store.Scan(ctx, r)
		if err != nil {
			return nil, 0, false, err
		}
		for _, item := range page.Items {
			entry, err := x.db.partsIn(all, item.Key)
			if err != nil {
				odd++
				continue
			}
			entries, passed = append(entries, entry), odd
		}
		if page.Next == nil {
			return entries, odd, false, nil
		}
		if len(entries) > 0 {
			return entries, passed, true, nil
		}
		r.After = page.Next
	}
}

// Mark adds to tx: the entry is there, whether it was before or not.
func (x *Index) Mark(tx *Tx, entry ...string) {
	b := tx.of(x.db)
	b.Puts = append(b.Puts, storage.Put{Key: x.db.key(x.tag, entry), If: storage.Any, Rev: 1})
}

// Unmark adds to tx: the entry is not there, whether it was before or not.
func (x *Index) Unmark(tx *Tx, entry ...string) {
	b := tx.of(x.db)
	b.Deletes = append(b.Deletes, storage.Delete{Key: x.db.key(x.tag, entry), If: storage.Any})
}

// span is the range of all keys that begin with prefix, behind the key after.
func (db *DB) span(tag byte, prefix, after []string, limit int) storage.Range {
	start := db.key(tag, prefix)
	r := storage.Range{Start: start, End: storage.PrefixEnd(start), Limit: limit}
	if after != nil {
		r.After = db.key(tag, after)
	}
	return r
}
