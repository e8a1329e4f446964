package sealed

import (
	"bytes"
	"context"
	"errors"

	"github.com/polycred/polycred/storage"
)

var (
	errNoKeys  = errors.New("the keysets could not be loaded")
	errOtherDB = errors.New("a table or index of another DB was used in this transaction")
)

// Tx collects changes of tables and indexes of one DB; Commit makes them one Apply. Its methods and those that take it
// must not be called concurrently. It holds nothing open: a Tx that is not committed needs no ending.
type Tx struct {
	db    *DB
	keys  *keys
	batch storage.Batch
	after []func()
	err   error // the first thing that went wrong
}

// Begin returns an empty transaction. What goes wrong comes out of Commit.
func (db *DB) Begin(ctx context.Context) *Tx {
	k, err := db.freshKeys(ctx)
	return &Tx{db: db, keys: k, err: err}
}

// of notes a change by a table of another DB: its keys and bindings would be of another project or store.
func (tx *Tx) of(db *DB) *storage.Batch {
	if tx.db != db {
		tx.fail(errOtherDB)
	}
	return &tx.batch
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// After has Commit call f once the transaction was applied, or may have been, before it returns.
func (tx *Tx) After(f func()) { tx.after = append(tx.after, f) }

// Landed reports whether the transaction was applied, after Commit gave storage.ErrUnknownOutcome: whether a record is
// there as it was sealed, which nobody else can have written. False may only mean "not yet", or that every record was
// changed since; who then tries again under the same conditions loses to what landed late. Errors are those of the store.
func (tx *Tx) Landed(ctx context.Context) (bool, error) {
	var puts []storage.Put
	var keys [][]byte
	for _, put := range tx.batch.Puts {
		if len(put.Value) > 0 { // entries of an index look alike, whoever made them
			puts, keys = append(puts, put), append(keys, put.Key)
		}
	}
	items, err := tx.db.store.GetMany(ctx, keys)
	if err != nil {
		return false, err
	}
	for i, item := range items {
		if item.Rev == puts[i].Rev && bytes.Equal(item.Value, puts[i].Value) {
			return true, nil
		}
	}
	return false, nil
}

// Commit applies everything or nothing. Errors: *storage.ConflictError (Table.Conflicted says whose), storage.ErrInvalid
// for a key that is named twice, storage.ErrTooLarge, ErrNoTokensKey, and those of the store.
func (tx *Tx) Commit(ctx context.Context) error {
	if tx.err != nil {
		return tx.err
	}
	err := tx.db.store.Apply(ctx, tx.batch)
	if err == nil || errors.Is(err, storage.ErrUnknownOutcome) {
		for _, do := range tx.after {
			do()
		}
	}
	return err
}
