package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/storage"
)

// bootUp writes down where the store is and which boot of the program acts on it, and notices a copy: the record then
// names another place than the store has (security 22). A quarantined store's record is left as it is, so that the
// quarantine lasts until somebody lifts it, and ends by itself where the store is put back.
func (e *Engine) bootUp(ctx context.Context) error {
	if !e.db.HasTokens() {
		return nil
	}
	var place string
	if placer, ok := e.store.(storage.Placer); ok {
		place = placer.Place()
	}
	for {
		record, rev, err := e.tables.boots.Get(ctx)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("read boot record: %w", err)
		}
		moved := record.Place != "" && place != "" && record.Place != place
		if (moved || record.Quarantined) && !e.opts.TakeOver {
			e.quarantined = true
			e.log.WarnContext(ctx, "this store was copied or moved: nothing is refreshed or revoked until Options.TakeOver confirms that no other copy is in use",
				"project", e.Project())
			return nil
		}
		quarantined := record.Quarantined
		if place == "" {
			place = record.Place
		}
		record = bootRecord{Boot: e.boot, Place: place, Started: toMillis(e.now())}
		tx := e.db.Begin(ctx)
		e.tables.boots.Put(tx, &record, rev)
		if moved || quarantined {
			e.tellOperator(tx, EventTakenOver, "take_over", "", nil)
		}
		switch err := e.kernel.Commit(ctx, tx); {
		case conflicted(err): // another process boots at the same time
			continue
		case errors.Is(err, storage.ErrFull):
			e.log.WarnContext(ctx, "the store is full: credentials can be used, nothing can be changed", "error", err)
			return nil
		case err != nil:
			return fmt.Errorf("write boot record: %w", err)
		}
		return nil
	}
}
