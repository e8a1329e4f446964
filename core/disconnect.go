package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Disconnect removes the account that sel names, whatever its status, when sel names none the only one there is, with its
// configurations. Every other account goes on working. Where the integration has a RevocationURL, its tokens are revoked at
// the provider: not by this call, which does not wait for the provider, but by Run in the minutes that follow, again and
// again for three days if need be. How that ends is EventRevoked. Nothing is revoked that would end another account: see
// RevocationScope.
//
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError, ErrPermission.
func (u *User) Disconnect(ctx context.Context, sel Selector) error {
	id, err := u.pick(ctx, sel)
	if err == nil {
		err = u.disconnect(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("disconnect %s: %w", sel, err)
	}
	return nil
}

func (u *User) disconnect(ctx context.Context, id string) error {
	_, err := u.change(ctx, id, func(tx *sealed.Tx, record *credentialRecord, rev storage.Rev) error {
		return u.remove(ctx, tx, record, rev)
	})
	if errors.Is(err, errGone) { // by this very call, as far as anybody can tell
		return nil
	}
	return err
}

// remove adds to tx that a credential goes, and all that hangs on it.
func (u *User) remove(ctx context.Context, tx *sealed.Tx, record *credentialRecord, rev storage.Rev) error {
	e := u.e
	e.tables.credentials.Delete(tx, rev, u.id, record.ID)
	e.tables.refreshes.Move(tx, record.Due, 0, u.id, record.ID)
	if err := e.queueRevocation(ctx, tx, u.id, record); err != nil {
		return err
	}
	e.tables.byUser.Unmark(tx, u.id, record.Integration, record.ID)
	e.tables.byIntegration.Unmark(tx, record.Integration, record.ID, u.id)
	if err := e.dropClaims(ctx, tx, u.id, record); err != nil {
		return err
	}
	if err := e.moveGrant(ctx, tx, u.id, record, nil); err != nil {
		return err
	}
	if err := e.dropExternalID(ctx, tx, u.id, record); err != nil {
		return err
	}
	// A configuration that is created at the same time changes the record of the default one, which decides.
	configurations, err := e.configurationRows(ctx, u.id, record)
	if err != nil {
		return err
	}
	if err := e.dropConfigurations(ctx, tx, u.id, record, configurations...); err != nil {
		return err
	}
	roster, rosterRev, err := e.tables.rosters.Get(ctx, u.id, record.Integration)
	switch {
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return err
	case roster.Count > 1:
		roster.Count--
		e.tables.rosters.Put(tx, &roster, rosterRev, u.id, record.Integration)
	case rosterRev != 0:
		e.tables.rosters.Delete(tx, rosterRev, u.id, record.Integration)
	}
	if err := e.kernel.Disconnected(ctx, tx, record.hooked(u.id)); err != nil {
		return err
	}
	details := map[string]string{"externalId": record.ExternalID, "owner": record.Owner}
	shared, err := e.grantShared(ctx, u.id, record)
	if err != nil {
		return err
	}
	if shared {
		details["grant"] = "shared"
	}
	u.tell(tx, EventDisconnected, "request", record, rev+1, details)
	return nil
}
