package postgres

import (
	"bytes"
	"context"
	encoding "encoding/binary"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/polycred/polycred/storage"
)

// Get returns the item at key, or storage.ErrNotFound.
func (s *Store) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if err := storage.ValidateKey(key); err != nil {
		return storage.Item{}, err
	}
	item := storage.Item{}
	err := s.read(ctx, func(on session) error {
		_, err := on.run(ctx, &s.sql.get, [][]byte{key}, func(values [][]byte) {
			item = storage.Item{Rev: decodeRev(values[0]), Value: clone(values[1])}
		})
		return err
	})
	switch {
	case err != nil:
		return storage.Item{}, err
	case item.Rev == 0:
		return storage.Item{}, storage.ErrNotFound
	}
	item.Key = bytes.Clone(key)
	return item, nil
}

// GetMany returns one item for each key, in the order of keys. Rev is 0 where a key is absent.
func (s *Store) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	for _, key := range keys {
		if err := storage.ValidateKey(key); err != nil {
			return nil, err
		}
	}
	found := make(map[string]storage.Item, len(keys))
	err := s.read(ctx, func(on session) error {
		if len(keys) == 0 {
			return nil
		}
		list, err := on.conn.Conn().TypeMap().Encode(pgtype.ByteaArrayOID, pgx.BinaryFormatCode, keys, nil)
		if err != nil {
			return fmt.Errorf("encode %d keys: %w", len(keys), err)
		}
		_, err = on.run(ctx, &s.sql.getMany, [][]byte{list}, func(values [][]byte) {
			found[string(values[0])] = storage.Item{Rev: decodeRev(values[1]), Value: clone(values[2])}
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	items := make([]storage.Item, len(keys))
	for i, key := range keys {
		if item, ok := found[string(key)]; ok {
			items[i] = storage.Item{Value: clone(item.Value), Rev: item.Rev} // a key can be named twice
		}
		items[i].Key = bytes.Clone(key)
	}
	return items, nil
}

// Scan returns one page of r, all of it as it was at one moment.
func (s *Store) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	if err := r.Validate(); err != nil {
		return storage.Page{}, err
	}
	from, skip := r.From()
	from = clone(from)
	if skip {
		from = append(from, 0) // the next key there can be
	}
	limit := int64(r.Max())
	ask := min(limit, math.MaxInt64-1) + 1 // one more tells whether there is a next page
	params := [][]byte{from, encodeInt(uint64(ask))}
	st := &s.sql.scan
	switch {
	case r.End != nil && r.KeysOnly:
		st, params = &s.sql.scanKeysTo, append(params, r.End)
	case r.End != nil:
		st, params = &s.sql.scanTo, append(params, r.End)
	case r.KeysOnly:
		st = &s.sql.scanKeys
	}
	var page storage.Page
	err := s.read(ctx, func(on session) error {
		page = storage.Page{}
		_, err := on.run(ctx, st, params, func(values [][]byte) {
			if int64(len(page.Items)) == limit {
				page.Next = bytes.Clone(page.Items[limit-1].Key)
				return
			}
			item := storage.Item{Key: clone(values[0]), Rev: decodeRev(values[1])}
			if !r.KeysOnly {
				item.Value = clone(values[2])
			}
			page.Items = append(page.Items, item)
		})
		return err
	})
	if err != nil {
		return storage.Page{}, err
	}
	return page, nil
}

// read runs do on a connection, and once more on a new one when the first turns out to be broken: after a restart of
// the server all that the pool holds are, so the others are thrown away with it.
func (s *Store) read(ctx context.Context, do func(on session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return storage.ErrClosed
	}
	err := s.readOnce(ctx, do)
	if lost(ctx, err) {
		s.pool.Reset()
		err = s.readOnce(ctx, do)
	}
	if err != nil {
		return hide(ctx, err)
	}
	return nil
}

func (s *Store) readOnce(ctx context.Context, do func(on session) error) error {
	on, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer on.release()
	on.limit(s.opts.Timeout)
	return do(on)
}

// clone copies bytes that the driver will use again. It never returns nil, which is NULL on the way back.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

func encodeInt(n uint64) []byte { return encoding.BigEndian.AppendUint64(nil, n) }

func decodeRev(b []byte) storage.Rev { return storage.Rev(encoding.BigEndian.Uint64(b)) }
