package core

import (
	"errors"
	"time"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/storage"
)

// What is given out while the store cannot be reached is what was read just before (Options.OutageTTL): the token of an
// account (User.stored), who is disabled (Engine.checkUser), which hosts an integration allows (Engine.provider).

// lastTokens is of how many selectors the token is remembered at least.
const lastTokens = 10_000

// forgetTokens drops what is remembered of a user of whom something has changed. Refreshes are no events, so that what
// they find is remembered while they are under way.
func (e *Engine) forgetTokens(ev kernel.Event) {
	if ev.User != "" && EventKind(ev.Kind) != EventUsed {
		e.last.Forget(ev.User)
	}
}

// bridges reports whether what was read at a time may be used in place of what err kept from being read now.
func (e *Engine) bridges(err error, read time.Time) bool {
	if !errors.Is(err, storage.ErrUnavailable) {
		return false
	}
	age := e.now().Sub(read)
	return age >= 0 && age < e.opts.OutageTTL
}

// recall returns the token that a selector led to when it was read last, if it is good still, or the one that this
// process got in its place and could not store yet.
func (u *User) recall(sel Selector) (tokenRecord, bool) {
	last, ok := u.e.last.Recall(u.id, sel)
	if !ok {
		return last, false
	}
	if v, ok := u.e.unsaved.Load(flightKey(u.id, last.ID)); ok {
		k := v.(unsaved)
		if ahead := *k.of; last.still(&k.spent) && ahead.take(&k, u.e.by) {
			last = ahead.tokenRecord
		}
	}
	return last, last.live(u.e.now())
}
