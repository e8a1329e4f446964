package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// Spec describes a table. Tag and Name are part of what lies in the store: they are forever.
type Spec struct {
	Tag    byte   // first byte of its keys, its own
	Name   string // part of the binding; also what errors call it
	Plane  Plane  // which key-encryption key it lies under
	Format int    // of the records it writes, 1 to 255; older ones are read, newer ones refused
}

// Table holds records of type T, a struct whose fields have `cbor:"N,keyasint"` tags. Use plain types, crypto.Secret,
// and maps, slices and structs of them: a type that has only MarshalBinary or MarshalText to write itself with, such as
// netip.Addr, would be stored empty. A Table may be used concurrently.
type Table[T any] struct {
	db       *DB
	spec     Spec
	holdsAny bool // T does
	decoder  cbor.DecMode
}

// NewTable returns the table of spec in db. It panics when the tag is taken or the spec incomplete.
func NewTable[T any](db *DB, spec Spec) *Table[T] {
	if spec.Format < 1 || spec.Format > 255 || spec.Name == "" || (spec.Plane != Tokens && spec.Plane != Policy) {
		panic(fmt.Sprintf("sealed: incomplete spec of table %q", spec.Name))
	}
	db.claim(spec.Tag, spec.Name)
	return &Table[T]{db: db, spec: spec, holdsAny: holdsAny(reflect.TypeFor[T](), map[reflect.Type]bool{}), decoder: decoder}
}

// Row is one record of a table. Rev 0 says that there is none; Value is then the zero value.
type Row[T any] struct {
	Key   []string // without project
	Value T
	Rev   storage.Rev
}

// Get returns the record at key and its revision. Errors: storage.ErrNotFound, *CorruptError, *FormatError,
// ErrNoTokensKey, and those of the store.
func (t *Table[T]) Get(ctx context.Context, key ...string) (T, storage.Rev, error) {
	var v T
	raw := t.db.key(t.spec.Tag, key)
	item, err := t.db.store.Get(ctx, raw)
	if err != nil {
		return v, 0, err
	}
	item.Key = raw // the binding is of what was asked for, not of what a store says that it found
	if err := t.open(ctx, item, &v); err != nil {
		var none T // not what was decoded up to the error
		return none, 0, err
	}
	return v, item.Rev, nil
}

// GetMany returns one row for each key, in the same order; the errors are those of Get, but that a record which is not
// there is a row with Rev 0.
func (t *Table[T]) GetMany(ctx context.Context, keys [][]string) ([]Row[T], error) {
	if len(keys) == 0 {
		return nil, nil
	}
	raw := make([][]byte, len(keys))
	for i, key := range keys {
		raw[i] = t.db.key(t.spec.Tag, key)
	}
	items, err := t.db.store.GetMany(ctx, raw)
	if err != nil {
		return nil, err
	}
	rows := make([]Row[T], len(items))
	for i, item := range items {
		rows[i].Key, rows[i].Rev, item.Key = keys[i], item.Rev, raw[i]
		if item.Rev == 0 {
			continue
		}
		if err := t.open(ctx, item, &rows[i].Value); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// List returns up to limit records (0: storage.DefaultLimit) whose keys begin with prefix, in order of their keys,
// behind the key after (nil: from the first). More says that others follow; the last row's Key is then the next after.
// Errors: those of Get.
func (t *Table[T]) List(ctx context.Context, prefix, after []string, limit int) (rows []Row[T], more bool, err error) {
	return t.list(ctx, t.db.span(t.spec.Tag, prefix, after, limit))
}

// Keys is List without opening anything: every Value is the zero value. It is for walking past records that do not open,
// and for deleting them. Errors: *CorruptError for a key that is none of this table's, and those of the store.
func (t *Table[T]) Keys(ctx context.Context, prefix, after []string, limit int) (rows []Row[T], more bool, err error) {
	r := t.db.span(t.spec.Tag, prefix, after, limit)
	r.KeysOnly = true
	return t.list(ctx, r)
}

func (t *Table[T]) list(ctx context.Context, r storage.Range) (rows []Row[T], more bool, err error) {
	page, err := t.db.store.Scan(ctx, r)
	if err != nil {
		return nil, false, err
	}
	rows = make([]Row[T], len(page.Items))
	for i, item := range page.Items {
		if rows[i].Key, err = t.db.partsIn(r, item.Key); err != nil {
			return nil, false, &CorruptError{Table: t.spec.Name, Err: err}
		}
		rows[i].Rev = item.Rev
		if r.KeysOnly {
			continue
		}
		if err := t.open(ctx, item, &rows[i].Value); err != nil {
			return nil, false, err
		}
	}
	return rows, page.Next != nil, nil
}

// Put adds to tx: the record at key, whose revision is rev (0: there must be none), becomes v. It returns the revision
// that the record will have. Errors come out of Commit.
func (t *Table[T]) Put(tx *Tx, v *T, rev storage.Rev, key ...string) storage.Rev {
	next := rev + 1
	if rev == 0 {
		next = creationRev()
	}
	raw := t.db.key(t.spec.Tag, key)
	value, err := t.seal(tx.keys, v, raw, next)
	if err != nil {
		tx.fail(fmt.Errorf("put %s record: %w", t.spec.Name, err))
		return next
	}
	b := tx.of(t.db)
	b.Puts = append(b.Puts, storage.Put{Key: raw, Value: value, If: rev, Rev: next})
	return next
}

// Delete adds to tx: the record at key, whose revision is rev, goes.
func (t *Table[T]) Delete(tx *Tx, rev storage.Rev, key ...string) {
	b := tx.of(t.db)
	b.Deletes = append(b.Deletes, storage.Delete{Key: t.db.key(t.spec.Tag, key), If: rev})
}

// Check adds to tx: the record at key is at revision rev, which is not 0.
func (t *Table[T]) Check(tx *Tx, rev storage.Rev, key ...string) {
	b := tx.of(t.db)
	b.Checks = append(b.Checks, storage.Check{Key: t.db.key(t.spec.Tag, key), Rev: rev})
}

// Conflicted reports whether err, from Commit, says that the record at key lost.
func (t *Table[T]) Conflicted(err error, key ...string) bool {
	var conflict *storage.ConflictError
	return errors.As(err, &conflict) && bytes.Equal(conflict.Key, t.db.key(t.spec.Tag, key))
}

func (t *Table[T]) seal(k *keys, v *T, key []byte, rev storage.Rev) ([]byte, error) {
	if k == nil {
		return nil, errNoKeys
	}
	set, err := k.plane(t.spec.Plane)
	if err != nil {
		return nil, err
	}
	plain, err := encode(t.spec.Format, v, t.holdsAny)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	text, err := set.Seal(plain, t.binding(key, rev))
	if err != nil {
		return nil, err
	}
	value := make([]byte, 0, 1+len(text))
	return append(append(value, envelopeVersion), text...), nil
}

// open decrypts and decodes an item. A key that is unknown may be one that another process has just added: the keysets
// are then loaded once more.
func (t *Table[T]) open(ctx context.Context, item storage.Item, v *T) error {
	plain, err := t.decrypt(ctx, item)
	if err == nil {
		err = decode(t.decoder, t.spec.Name, t.spec.Format, plain, v)
	}
	var newer *FormatError
	switch {
	case err == nil, errors.Is(err, ErrNoTokensKey), errors.As(err, &newer), errors.Is(err, errReload):
		return err
	}
	parts, _ := t.db.parts(item.Key)
	return &CorruptError{Table: t.spec.Name, Key: parts, Err: err}
}

var errReload = errors.New("load keysets again")

func (t *Table[T]) decrypt(ctx context.Context, item storage.Item) ([]byte, error) {
	text, err := ciphertext(item.Value)
	if err != nil {
		return nil, err
	}
	k := t.db.keys.Load()
	set, err := k.plane(t.spec.Plane)
	if err != nil {
		return nil, err
	}
	binding := t.binding(item.Key, item.Rev)
	plain, err := set.Open(text, binding)
	if !errors.Is(err, crypto.ErrUnknownKey) {
		return plain, err
	}
	if k, err = t.db.reload(ctx, k); err != nil {
		return nil, fmt.Errorf("%w: %w", errReload, err)
	}
	if set, err = k.plane(t.spec.Plane); err != nil {
		return nil, err
	}
	return set.Open(text, binding)
}

func (t *Table[T]) binding(key []byte, rev storage.Rev) []byte {
	size := 1 + 16 + 2 + len(t.spec.Name) + 2 + len(key) + 8
	return crypto.Binding{Store: t.db.id, Table: t.spec.Name, Key: key, Rev: uint64(rev)}.Append(make([]byte, 0, size))
}
