package core

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/storage"
	"golang.org/x/sync/singleflight"
)

// disabled is who is disabled, in memory, so that asking costs a use of an account nothing. The zero value is ready.
type disabled struct {
	seen   atomic.Pointer[disabledUsers]
	flight singleflight.Group
}

// disabledUsers is who was disabled at a time. It does not change.
type disabledUsers struct {
	rev   storage.Rev // of the switches record, which changes with each of them; 0: nobody ever was
	users map[string]struct{}
	at    time.Time // by the engine's clock
	real  time.Time // by one that nobody can stop: that of Options may stand still
}

// checkUser returns ErrDisabled for a user that is disabled. Who is comes from memory for cacheTTL, and is read again
// then (security 13): one read of a revision, and a scan of those who are disabled only where it changed. Where that
// cannot be read, what was read before counts for Options.OutageTTL; then nobody is let through, because nobody knows.
func (e *Engine) checkUser(ctx context.Context, user string) error {
	if e == nil { // the handle belongs to no engine, as its check will say
		return nil
	}
	seen := e.disabled.seen.Load()
	if seen == nil || !seen.fresh(e.now()) {
		now, err := e.loadDisabled(ctx)
		switch {
		case err == nil:
			seen = now
		case seen == nil || !e.bridges(err, seen.at):
			return fmt.Errorf("find out whether user %s is disabled: %w", clip(user), err)
		}
	}
	if _, is := seen.users[user]; is {
		return fmt.Errorf("user %s: %w", clip(user), ErrDisabled)
	}
	return nil
}

func (d *disabledUsers) fresh(now time.Time) bool {
	age := now.Sub(d.at)
	return age >= 0 && age < cacheTTL && time.Since(d.real) < cacheTTL
}

// loadDisabled reads who is disabled, once for all who ask at a time.
func (e *Engine) loadDisabled(ctx context.Context) (*disabledUsers, error) {
	flight := e.disabled.flight.DoChan("", func() (any, error) {
		done, err := e.begin()
		if err != nil {
			return nil, err
		}
		defer done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cacheTTL)
		defer cancel()
		return e.readDisabled(ctx)
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*disabledUsers), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *Engine) readDisabled(ctx context.Context) (*disabledUsers, error) {
	before := e.disabled.seen.Load()
	now := &disabledUsers{at: e.now(), real: time.Now()}
	rows, _, err := e.tables.switches.Keys(ctx, nil, nil, 1) // no more than its revision: one that does not open stops nobody
	if err != nil {
		return nil, err
	}
	if len(rows) > 0 {
		now.rev = rows[0].Rev
	}
	if before != nil && before.rev == now.rev {
		now.users = before.users
	} else if now.rev != 0 {
		now.users = map[string]struct{}{}
		for after, more := []string(nil), true; more; {
			var entries [][]string
			if entries, more, err = e.tables.disabledUsers.Scan(ctx, nil, after, 1000); err != nil {
				return nil, err
			}
			for _, entry := range entries {
				if after = entry; len(entry) == 1 {
					now.users[entry[0]] = struct{}{}
				}
			}
		}
	}
	e.disabled.seen.CompareAndSwap(before, now) // lost to a change of our own: it counts only for those who asked before that
	return now, nil
}

// forgetDisabled has the next use read who is disabled: this process has changed that.
func (e *Engine) forgetDisabled() {
	stale := &disabledUsers{}
	if seen := e.disabled.seen.Load(); seen != nil {
		stale.rev, stale.users = seen.rev, seen.users
	}
	e.disabled.seen.Store(stale)
	e.disabled.flight.Forget("")
}
