package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Waiting counts the records that have no number yet, up to limit, and returns since when the oldest waits, by the clock
// of the machine that appended it. It is for health: it begins at the very start, which costs what a pass that does so
// costs. Errors are those of the store.
func (l *Log[T]) Waiting(ctx context.Context, limit int) (n int, since time.Time, err error) {
	rows, _, err := l.outbox.Keys(ctx, nil, nil, limit)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("count the outbox of the %s log: %w", l.name, err)
	}
	for _, r := range rows {
		if id, err := uuid.FromBytes([]byte(r.Key[0])); err == nil && since.IsZero() {
			since = time.Unix(id.Time().UnixTime())
		}
	}
	return len(rows), since, nil
}
