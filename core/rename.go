package core

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// RenameInput says what an account is called from now on. Nil leaves it as it is; empty takes it away.
type RenameInput struct {
	Label      *string // what people call it; as in ConnectInput
	ExternalID *string // the application's name for it; as in ConnectInput
}

// Rename changes what the account that sel names is called, whatever its status, when sel names none the only one there
// is, and returns it. An external id can be given, changed and taken away; who selects by the old one gets ErrNotFound from
// then on.
//
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError, ErrExternalID when another account of the user at the
// integration has that external id, ErrHiddenConflict, ErrPermission.
func (u *User) Rename(ctx context.Context, sel Selector, in RenameInput) (Credential, error) {
	record, err := u.rename(ctx, sel, in)
	if err != nil {
		return Credential{}, fmt.Errorf("rename %s: %w", sel, err)
	}
	return record.public(u.id), nil
}

func (u *User) rename(ctx context.Context, sel Selector, in RenameInput) (credentialRecord, error) {
	var none credentialRecord
	var label, externalID string
	var err error
	if in.Label != nil {
		if label, err = cleanLabel(*in.Label); err != nil {
			return none, err
		}
	}
	if in.ExternalID != nil && *in.ExternalID != "" {
		if externalID, err = cleanExternalID(*in.ExternalID); err != nil {
			return none, err
		}
	}
	id, err := u.pick(ctx, sel)
	if err != nil {
		return none, err
	}
	return u.change(ctx, id, func(tx *sealed.Tx, record *credentialRecord, rev storage.Rev) error {
		var changed []string
		details := map[string]string{}
		if in.Label != nil && label != record.Label {
			record.Label, details["label"] = label, label
			changed = append(changed, "label")
		}
		if in.ExternalID != nil && externalID != record.ExternalID {
			details["externalId"], details["previousExternalId"] = externalID, record.ExternalID
			changed = append(changed, "externalId")
			if err := u.moveExternalID(ctx, tx, record, externalID); err != nil {
				return err
			}
		}
		if len(changed) == 0 {
			return errUnchanged
		}
		details["changed"] = strings.Join(changed, ",")
		if err := u.allow(actWrite, record); err != nil { // under its new name too
			return err
		}
		record.Updated = toMillis(u.e.now())
		next := u.e.tables.credentials.Put(tx, record, rev, u.id, record.ID)
		u.tell(tx, EventRenamed, "request", record, next, details)
		return nil
	})
}

// moveExternalID adds to tx that a credential has another external id; empty: none.
func (u *User) moveExternalID(ctx context.Context, tx *sealed.Tx, record *credentialRecord, externalID string) error {
	if err := u.e.dropExternalID(ctx, tx, u.id, record); err != nil {
		return err
	}
	record.ExternalID = ""
	if externalID == "" {
		return nil
	}
	return u.setExternalID(ctx, tx, externalID, record)
}

// setExternalID gives a credential without one an external id, unless it is taken.
func (u *User) setExternalID(ctx context.Context, tx *sealed.Tx, externalID string, record *credentialRecord) error {
	holder, rows, err := u.e.externalHolder(ctx, u.id, record.Integration, externalID)
	if err != nil {
		return err
	}
	if holder != nil && holder.ID != record.ID {
		return u.taken(holder)
	}
	for _, row := range rows {
		u.e.tables.externalIDs.Put(tx, &externalIDRecord{Credential: record.ID}, row.Rev, row.Key...)
	}
	record.ExternalID = externalID
	return nil
}

// taken says that an external id means another account, if the handle may know that.
func (u *User) taken(holder *credentialRecord) error {
	if !u.sees(holder) {
		return hidden(holder.Integration)
	}
	return fmt.Errorf("%w: %q is another account of this user; connect into %q instead, or choose another", ErrExternalID, holder.ExternalID, externalPrefix+holder.ExternalID)
}

// dropExternalID adds to tx that a credential's external id is free.
func (e *Engine) dropExternalID(ctx context.Context, tx *sealed.Tx, user string, record *credentialRecord) error {
	if record.ExternalID == "" {
		return nil
	}
	rows, err := e.externalRows(ctx, user, record.Integration, record.ExternalID)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Rev != 0 && row.Value.Credential == record.ID {
			e.tables.externalIDs.Delete(tx, row.Rev, row.Key...)
		}
	}
	return nil
}

// externalRows reads what says whose an external id is, under each live key of the index.
func (e *Engine) externalRows(ctx context.Context, user, integration, externalID string) ([]sealed.Row[externalIDRecord], error) {
	tokens, err := e.db.Lookup(ctx, "external id", user, integration, externalID)
	if err != nil {
		return nil, err
	}
	keys := make([][]string, len(tokens))
	for i, token := range tokens {
		keys[i] = []string{user, integration, token}
	}
	return e.tables.externalIDs.GetMany(ctx, keys)
}

// externalHolder returns the credential that an external id means, nil when it is free, with externalRows. A row is
// believed only where the credential says the same: one under a key of the index that not every process knew yet may be
// out of date.
func (e *Engine) externalHolder(ctx context.Context, user, integration, externalID string) (*credentialRecord, []sealed.Row[externalIDRecord], error) {
	rows, err := e.externalRows(ctx, user, integration, externalID)
	if err != nil {
		return nil, nil, err
	}
	read := map[string]bool{}
	for _, row := range rows {
		id := row.Value.Credential
		if row.Rev == 0 || read[id] {
			continue
		}
		read[id] = true
		record, _, err := e.tables.credentials.Get(ctx, user, id)
		switch {
		case err == nil && record.Integration == integration && record.ExternalID == externalID:
			return &record, rows, nil
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return nil, nil, err
		}
	}
	return nil, rows, nil
}
