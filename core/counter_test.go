package core_test

import (
	"context"
	"sync/atomic"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// counter is a store that counts the calls it gets.
type counter struct {
	storage.Store
	reads   atomic.Int64 // Get, GetMany, Scan
	applies atomic.Int64
	keys    atomic.Int64 // that all reads asked for, or returned
}

// newCounter wraps a store; nil: one in memory.
func newCounter(store storage.Store) *counter {
	if store == nil {
		store = memory.New()
	}
	return &counter{Store: store}
}

func (c *counter) Get(ctx context.Context, key []byte) (storage.Item, error) {
	c.reads.Add(1)
	c.keys.Add(1)
	return c.Store.Get(ctx, key)
}

func (c *counter) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	c.reads.Add(1)
	c.keys.Add(int64(len(keys)))
	return c.Store.GetMany(ctx, keys)
}

func (c *counter) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	c.reads.Add(1)
	page, err := c.Store.Scan(ctx, r)
	c.keys.Add(int64(len(page.Items)))
	return page, err
}

func (c *counter) Apply(ctx context.Context, b storage.Batch) error {
	c.applies.Add(1)
	return c.Store.Apply(ctx, b)
}
