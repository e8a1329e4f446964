package core

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/polycred/polycred/core/internal/oauth"
)

// unsaved is an answer that the store did not take: the only place of a new refresh token, while the one in the store is
// spent. It is tried again by the next refresh of the credential, by Run and by Close.
type unsaved struct {
	spent  tokenRecord // what the refresh began with
	answer *oauth.Answer
	at     time.Time // when it came
	err    error     // why the store did not take it
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
		_, _, _ = e.refreshes.Do(key.(string), func() (any, error) {
			record, rev, err := e.credential(ctx, user, id)
			if errors.Is(err, ErrNotFound) {
				e.unsaved.Delete(key)
			}
			if err != nil {
				return nil, err
			}
			if k, ok := e.kept(user, &record); ok {
				_, err = e.write(ctx, user, &record, rev, k)
			}
			return nil, err
		})
		return ctx.Err() == nil
	})
}
