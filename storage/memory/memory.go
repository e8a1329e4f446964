// Package memory is a storage.Store in a process's memory: for tests, and for programs that may forget everything when
// they end. It answers every call exactly as the durable stores do; the conformance suite holds all of them to that.
package memory

import (
	"bytes"
	"context"
	"sync"

	"github.com/polycred/polycred/storage"
	"github.com/tidwall/btree"
)

var _ storage.Store = (*Store)(nil)

// Store keeps items in a B-tree. Its methods may be called concurrently. A batch is applied under one lock, and a page
// is read under it, so both are atomic.
type Store struct {
	mu     sync.RWMutex // guards tree and closed
	tree   *btree.BTreeG[storage.Item]
	closed bool
}

// New returns an empty store. It starts no goroutine; a store that is not closed is simply collected.
func New() *Store {
	less := func(a, b storage.Item) bool { return bytes.Compare(a.Key, b.Key) < 0 }
	return &Store{tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})}
}

// Get returns a copy of the item at key, or storage.ErrNotFound.
func (s *Store) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if err := storage.ValidateKey(key); err != nil {
		return storage.Item{}, err
	}
	if err := ctx.Err(); err != nil {
		return storage.Item{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return storage.Item{}, storage.ErrClosed
	}
	item, ok := s.tree.Get(storage.Item{Key: key})
	if !ok {
		return storage.Item{}, storage.ErrNotFound
	}
	return clone(item), nil
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
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	items := make([]storage.Item, len(keys))
	for i, key := range keys {
		item, ok := s.tree.Get(storage.Item{Key: key})
		if !ok {
			items[i].Key = bytes.Clone(key)
			continue
		}
		items[i] = clone(item)
	}
	return items, nil
}

// Scan returns one page of r.
func (s *Store) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	if err := r.Validate(); err != nil {
		return storage.Page{}, err
	}
	if err := ctx.Err(); err != nil {
		return storage.Page{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return storage.Page{}, storage.ErrClosed
	}
	var page storage.Page
	from, skip := r.From()
	s.tree.Ascend(storage.Item{Key: from}, func(item storage.Item) bool {
		switch {
		case r.End != nil && bytes.Compare(item.Key, r.End) >= 0:
			return false
		case skip && bytes.Equal(item.Key, from):
			return true
		case len(page.Items) == r.Max():
			page.Next = bytes.Clone(page.Items[len(page.Items)-1].Key)
			return false
		}
		if r.KeysOnly {
			item.Value = nil
		}
		page.Items = append(page.Items, clone(item))
		return true
	})
	return page, nil
}

// Apply changes the store by all of b, or returns an error and changes nothing.
func (s *Store) Apply(ctx context.Context, b storage.Batch) error {
	if err := b.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	if err := s.checkLocked(b); err != nil {
		return err
	}
	for _, p := range b.Puts {
		s.tree.Set(clone(storage.Item{Key: p.Key, Value: p.Value, Rev: p.Rev}))
	}
	for _, d := range b.Deletes {
		s.tree.Delete(storage.Item{Key: d.Key})
	}
	return nil
}

// checkLocked returns a *storage.ConflictError for a condition of b that does not hold.
func (s *Store) checkLocked(b storage.Batch) error {
	check := func(key []byte, want storage.Rev) error {
		if want == storage.Any {
			return nil
		}
		// An absent key yields the zero item, whose revision 0 says just that.
		if item, _ := s.tree.Get(storage.Item{Key: key}); item.Rev != want {
			return &storage.ConflictError{Key: bytes.Clone(key)}
		}
		return nil
	}
	for _, p := range b.Puts {
		if err := check(p.Key, p.If); err != nil {
			return err
		}
	}
	for _, d := range b.Deletes {
		if err := check(d.Key, d.If); err != nil {
			return err
		}
	}
	for _, c := range b.Checks {
		if err := check(c.Key, c.Rev); err != nil {
			return err
		}
	}
	return nil
}

// Close forgets everything. Calls that come later get storage.ErrClosed; closing twice is no error.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.tree.Clear()
	return nil
}

// clone copies the bytes of an item, so that neither side sees the other's changes.
func clone(item storage.Item) storage.Item {
	return storage.Item{Key: bytes.Clone(item.Key), Value: bytes.Clone(item.Value), Rev: item.Rev}
}
