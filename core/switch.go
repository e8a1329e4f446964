package core

import (
	"context"
	"fmt"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Disable switches the account that sel names off, whatever its status, when sel names none the only one there is:
// until Enable it is not used and not refreshed, which is ErrDisabled, and it is never the one that is chosen where
// none is named. It still counts as connected, can be renamed, set up and disconnected, and one that is connected
// anew stays disabled. It takes effect at once, in every process; requests that are under way are not ended. One that
// is disabled already stays so.
//
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError; ErrPermission for a handle that came from a user
// token: switching is for the program.
func (u *User) Disable(ctx context.Context, sel Selector) error {
	if err := u.turn(ctx, sel, true); err != nil {
		return fmt.Errorf("disable %s: %w", sel, err)
	}
	return nil
}

// Enable ends what Disable began; that its user is disabled is another switch (Engine.EnableUser). One that is not
// disabled stays as it is. Errors: those of Disable.
func (u *User) Enable(ctx context.Context, sel Selector) error {
	if err := u.turn(ctx, sel, false); err != nil {
		return fmt.Errorf("enable %s: %w", sel, err)
	}
	return nil
}

func (u *User) turn(ctx context.Context, sel Selector, off bool) error {
	if u.authority != nil {
		return ErrPermission
	}
	id, err := u.pick(ctx, sel)
	if err != nil {
		return err
	}
	_, err = u.change(ctx, id, func(tx *sealed.Tx, record *credentialRecord, rev storage.Rev) error {
		if record.Disabled == off {
			return errUnchanged
		}
		kind := EventDisabled
		var p *provider // disabling takes it off the schedule, whatever the integration says
		if !off {
			kind = EventEnabled
			var err error
			if p, err = u.e.provider(ctx, record.Integration); err != nil {
				return err
			}
		}
		record.Disabled, record.Updated = off, toMillis(u.e.now())
		u.e.schedule(tx, u.id, record, p)
		next := u.e.tables.credentials.Put(tx, record, rev, u.id, record.ID)
		u.tell(tx, kind, "request", record, next, nil)
		return nil
	})
	return err
}
