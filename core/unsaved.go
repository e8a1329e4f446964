package core

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/core/internal/oauth"
)

// unsaved is an answer that the store did not take: the only place of a new refresh token, while the one in the store is
// spent. It is tried again all the time, see persist, by Run too, and a last time when the engine is closed.
type unsaved struct {
	of     *credentialRecord // the account as the refresh began with it; not to be changed
	spent  tokenRecord       // its tokens then
	answer *oauth.Answer
	at     time.Time // when it came
	p      *provider // whose answer it is
	err    error     // why the store did not take it
	gone   bool      // nobody can use it any more: it waits to be revoked
}

// kept returns the answer that waits to be stored over this record.
func (e *Engine) kept(user string, record *credentialRecord) (unsaved, bool) {
	key := flightKey(user, record.ID)
	v, ok := e.unsaved.Load(key)
	if !ok {
		return unsaved{}, false
	}
	if k := v.(unsaved); record.RefreshToken.Equal(k.spent.RefreshToken) {
		return k, true
	}
	e.unsaved.Delete(key) // somebody has connected it again, and brought another one
	return unsaved{}, false
}

// save tries once more to store what the store did not take.
func (e *Engine) save(ctx context.Context) {
	e.unsaved.Range(func(key, _ any) bool {
		user, id, _ := strings.Cut(key.(string), "\x00")
		e.saveOne(ctx, user, id)
		return ctx.Err() == nil
	})
}

// saveOne is save for one credential. A refresh of it may be under way beside it: both write the same.
func (e *Engine) saveOne(ctx context.Context, user, id string) {
	v, ok := e.unsaved.Load(flightKey(user, id))
	if !ok {
		return
	}
	record, rev, err := e.credential(ctx, user, id)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && !record.holdsTokens(): // disconnected, or given back
		k := v.(unsaved)
		e.revokeAnswer(ctx, user, &k)
	case err == nil:
		if k, ok := e.kept(user, &record); ok {
			_, _ = e.write(ctx, user, &record, rev, k)
		}
	}
}

// persist stores a kept answer as soon as the store takes it, and ends the lease then: until then nobody else may spend
// the refresh token that was spent. Close has it try once more, and waits for that.
func (e *Engine) persist(ctx context.Context, user, id string, held *lease.Lease) {
	ctx = context.WithoutCancel(ctx)
	last := func() {
		e.saveOne(ctx, user, id)
		_ = held.Release(ctx) // else it runs out
	}
	done, err := e.begin()
	if err != nil { // Close waits for the attempt that this belongs to
		last()
		return
	}
	go func() {
		defer done()
		defer last()
		defer held.Keep(ctx)() // where it was lost, the credential's revision decides
		key := flightKey(user, id)
		for wait := 50 * time.Millisecond; pause(e.closed, wait) == nil; wait = min(2*wait, 250*time.Millisecond) {
			e.saveOne(ctx, user, id)
			if _, kept := e.unsaved.Load(key); !kept {
				return
			}
		}
	}()
}
