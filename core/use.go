package core

import (
	"context"
	"strconv"
	"time"

	"github.com/polycred/polycred/core/internal/usage"
)

// Who used which account is counted in memory, and told as one event a minute: a use writes nothing (rule 10). Only
// uses by somebody with a name are counted, a person or a token; what a program does by itself needs no telling.

const tellUses = 100 // events in one batch

// useKey is who used what how.
type useKey struct {
	user, integration, credential string
	person, tokenID               string
	how                           string
}

// newUses returns what counts them. All that is counted of one credential shares the same room in memory.
func newUses() *usage.Counter[useKey] {
	return usage.New(func(key useKey) string { return key.credential })
}

// used counts a use of a credential, if there is somebody to tell of.
func (u *User) used(ctx context.Context, integration, credential, how string) {
	if u.person == "" && u.tokenID == "" {
		return
	}
	many := u.e.uses.Add(useKey{u.id, integration, credential, u.person, u.tokenID, how}, u.e.now())
	if !many || u.e.uses.Telling() {
		return
	}
	done, err := u.e.begin()
	if err != nil {
		return
	}
	go func() { // nobody calls Run, or this minute is a busy one
		defer done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := u.e.tellUses(ctx); err != nil {
			u.e.log.WarnContext(ctx, "who used which account could not be written down yet", "error", err)
		}
	}()
}

// tellUses writes down who used what since it was last called.
func (e *Engine) tellUses(ctx context.Context) error {
	if lost := e.uses.Lost(); lost > 0 {
		e.log.WarnContext(ctx, "some uses of accounts were not counted, because the store did not take those before",
			"uses", lost)
	}
	return e.uses.Tell(tellUses, func(batch map[useKey]usage.Use) error {
		for try := 0; ; try++ {
			tx := e.db.Begin(ctx)
			for key, n := range batch {
				by := User{e: e, id: key.user, person: key.person, tokenID: key.tokenID}
				e.kernel.Emit(tx, by.event(EventUsed, key.how, key.integration, key.credential, map[string]string{
					"count": strconv.FormatInt(n.Count, 10),
					"first": n.First.UTC().Format(time.RFC3339), "last": n.Last.UTC().Format(time.RFC3339),
				}))
			}
			err := e.kernel.Commit(ctx, tx)
			if !conflicted(err) {
				return err
			}
			if err := again(ctx, try); err != nil { // it conflicted with nobody: the store's answer was lost
				return err
			}
		}
	})
}
