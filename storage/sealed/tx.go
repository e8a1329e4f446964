package sealed

import (
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

// Commit applies everything or nothing. Errors: *storage.ConflictError (Table.Conflicted says whose), storage.ErrInvalid
// for a key that is named twice, storage.ErrTooLarge, ErrNoTokensKey, and those of the store.
func (tx *Tx) Commit(ctx context.Context) error {
	if tx.err != nil {
		return tx.err
	}
	return tx.db.store.Apply(ctx, tx.batch)
}
