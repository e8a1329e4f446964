package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage"
)

// errForeign is found in a directory that another program writes to with Badger.
var errForeign = errors.New("a value that this package did not write")

// scanCheck is after how many items a scan looks at its context again.
const scanCheck = 256

// Get returns the item at key, or storage.ErrNotFound.
func (s *Store) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if err := storage.ValidateKey(key); err != nil {
		return storage.Item{}, err
	}
	if err := ctx.Err(); err != nil {
		return storage.Item{}, err
	}
	r, err := s.begin()
	if err != nil {
		return storage.Item{}, err
	}
	defer r.end()
	return read(r.txn, key)
}

// GetMany returns one item for each key, in the order of keys. Rev is 0 where a key is absent.
func (s *Store) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	for _, key := range keys {
		if err := storage.ValidateKey(key); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer r.end()
	items := make([]storage.Item, len(keys))
	for i, key := range keys {
		items[i], err = read(r.txn, key)
		if errors.Is(err, storage.ErrNotFound) {
			items[i] = storage.Item{Key: bytes.Clone(key)}
		} else if err != nil {
			return nil, err
		}
	}
	return items, nil
}

// read returns the item at key as txn sees it, or storage.ErrNotFound.
func read(txn *badgerdb.Txn, key []byte) (storage.Item, error) {
	got, err := txn.Get(encodeKey(key))
	if errors.Is(err, badgerdb.ErrKeyNotFound) {
		return storage.Item{}, storage.ErrNotFound
	}
	if err != nil {
		return storage.Item{}, fmt.Errorf("read key %x: %w", key, err)
	}
	item := storage.Item{Key: bytes.Clone(key)}
	if err := readValue(got, &item, false); err != nil {
		return storage.Item{}, fmt.Errorf("read key %x: %w", key, err)
	}
	return item, nil
}

// readValue sets the revision of item and, unless keysOnly, its value.
func readValue(from *badgerdb.Item, item *storage.Item, keysOnly bool) error {
	return from.Value(func(b []byte) (err error) {
		if item.Rev, err = decodeRev(b); err == nil && !keysOnly {
			item.Value = bytes.Clone(b[revSize:])
		}
		return err
	})
}

// Scan returns one page of r, all of it as it was at one moment.
func (s *Store) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	if err := r.Validate(); err != nil {
		return storage.Page{}, err
	}
	if err := ctx.Err(); err != nil {
		return storage.Page{}, err
	}
	reader, err := s.begin()
	if err != nil {
		return storage.Page{}, err
	}
	defer reader.end()

	from, skip := r.From()
	start, end := encodeKey(from), r.End
	if end != nil {
		end = encodeKey(end)
	}
	opts := badgerdb.DefaultIteratorOptions
	opts.PrefetchValues = false // it starts goroutines, which cost more than our small values
	opts.Prefix = commonPrefix(start, end)
	it := reader.txn.NewIterator(opts)
	defer it.Close()

	var page storage.Page
	for it.Seek(start); it.Valid(); it.Next() {
		key := it.Item().Key()
		switch {
		case end != nil && bytes.Compare(key, end) >= 0:
			return page, nil
		case skip && bytes.Equal(key, start):
			continue
		case len(page.Items) == r.Max():
			page.Next = bytes.Clone(page.Items[len(page.Items)-1].Key)
			return page, nil
		}
		if len(page.Items)%scanCheck == scanCheck-1 && ctx.Err() != nil {
			return storage.Page{}, ctx.Err()
		}
		item := storage.Item{Key: decodeKey(key)}
		if err := readValue(it.Item(), &item, r.KeysOnly); err != nil {
			return storage.Page{}, fmt.Errorf("scan at key %x: %w", item.Key, err)
		}
		page.Items = append(page.Items, item)
	}
	return page, nil
}

// commonPrefix returns what all keys from start up to end begin with: it spares Badger the tables that lie elsewhere.
func commonPrefix(start, end []byte) []byte {
	if end == nil {
		return nil
	}
	if bytes.Equal(end, storage.PrefixEnd(start)) {
		return start
	}
	n := 0
	for n < len(start) && n < len(end) && start[n] == end[n] {
		n++
	}
	return start[:n]
}
