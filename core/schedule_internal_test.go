package core

import (
	"context"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/storage/sealed"
)

// AddDue adds an entry that no record knows of.
func (e *Engine) AddDue(ctx context.Context, at due.Minute, user, id string) error {
	tx := e.db.Begin(ctx)
	e.tables.refreshes.Move(tx, 0, at, user, id)
	return tx.Commit(ctx)
}

// ShowDue has the scheduler decide about entries.
func (e *Engine) ShowDue(ctx context.Context, entries []due.Entry) (left []due.Entry, err error) {
	return e.ahead.page(ctx, entries)
}

// ForgetDue makes a record one from before there was a queue.
func (e *Engine) ForgetDue(ctx context.Context, user, id string) error {
	return e.changeRecord(ctx, user, id, func(tx *sealed.Tx, r *credentialRecord) {
		e.tables.refreshes.Move(tx, r.Due, 0, user, id)
		r.Due = 0
	})
}

func (e *Engine) changeRecord(ctx context.Context, user, id string, change func(*sealed.Tx, *credentialRecord)) error {
	record, rev, err := e.credential(ctx, user, id)
	if err != nil {
		return err
	}
	tx := e.db.Begin(ctx)
	change(tx, &record)
	e.tables.credentials.Put(tx, &record, rev, user, id)
	return tx.Commit(ctx)
}
