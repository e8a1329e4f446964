package core

import (
	"context"
	"testing"
	"time"
)

// RevokeDue carries out the revocations that are due, as Run does.
func (e *Engine) RevokeDue(ctx context.Context) error { return e.revokeDue(ctx) }

// QueuedRevocation is one that was not carried out yet.
type QueuedRevocation = revocationRecord

// Revocations are all that were not carried out yet.
func (e *Engine) Revocations(ctx context.Context) ([]QueuedRevocation, error) {
	rows, _, err := e.tables.revocations.List(ctx, nil, nil, 1000)
	queued := make([]QueuedRevocation, len(rows))
	for i, row := range rows {
		queued[i] = row.Value
	}
	return queued, err
}

// Due is when the record is looked at again.
func (r *revocationRecord) DueAt() time.Time { return r.Due.Time() }

func TestRetryIn(t *testing.T) {
	t.Parallel()
	for attempts, least := range map[int]time.Duration{
		0: 10 * time.Second, 1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 12: 20480 * time.Second,
		13: 6 * time.Hour, 16: 6 * time.Hour, 1000: 6 * time.Hour,
	} {
		for range 100 {
			if got := retryIn(attempts); got < least || got >= least+least/4 {
				t.Fatalf("retryIn(%d) = %v, want %v to a quarter more", attempts, got, least)
			}
		}
	}
}
