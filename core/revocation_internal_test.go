package core

import (
	"context"

	"github.com/polycred/polycred/core/internal/revocation"
)

// RevokeDue carries out the revocations that are due, as Run does.
func (e *Engine) RevokeDue(ctx context.Context) error { return e.revokeDue(ctx) }

// QueuedRevocation is one that was not carried out yet.
type QueuedRevocation = revocation.Record

// Revocations are all that were not carried out yet.
func (e *Engine) Revocations(ctx context.Context) ([]QueuedRevocation, error) {
	rows, _, err := e.tables.revocations.List(ctx, nil, nil, 1000)
	queued := make([]QueuedRevocation, len(rows))
	for i, row := range rows {
		queued[i] = row.Value
	}
	return queued, err
}
