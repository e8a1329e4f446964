package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// passwordRecord holds the settings of type password of one configuration. It lies under the tokens key, and the
// configuration does not: who may declare integrations reads no password. It changes only together with the
// configuration, whose revision stands for both.
type passwordRecord struct {
	Secrets map[string]crypto.Secret `cbor:"1,keyasint"`
}

// Password returns a value of an input of type password: field is "settings." or "setup." and the input's id, as
// InputErrors name it. A setting is that of the configuration that sel names, a setup value that of the account; when sel
// names neither, they are the default configuration and the only account there is, whatever its status. It is for the
// program alone: no page, API or event ever shows it. That it was read is an event.
//
// Errors: InputError, also for a field that is no input of type password, ErrNotFound, also when none is set,
// ErrNotConnected, AmbiguousError, ErrPermission.
func (u *User) Password(ctx context.Context, sel Selector, field string) (crypto.Secret, error) {
	secret, err := u.password(ctx, sel, field)
	if err != nil {
		return crypto.Secret{}, fmt.Errorf("password %s of %s: %w", clip(field), sel, err)
	}
	return secret, nil
}

func (u *User) password(ctx context.Context, sel Selector, field string) (crypto.Secret, error) {
	var none crypto.Secret
	c, err := u.configured(ctx, sel, actReadConfiguration)
	if err != nil {
		return none, err
	}
	var secrets map[string]crypto.Secret
	inputs := c.p.Settings
	group, id, _ := strings.Cut(field, ".")
	switch group {
	case "settings":
		if secrets, _, err = u.e.passwords(ctx, u.id, c.credential.ID, &c.record); err != nil {
			return none, err
		}
	case "setup":
		secrets, inputs = c.credential.SetupSecrets, c.p.Setup
	default:
		return none, invalid("field", `must be "settings." or "setup." and the id of an input`)
	}
	if err := u.allow(actToken, &c.credential); err != nil { // as secret as a token, and read like one
		return none, err
	}
	declared := false
	for i := range inputs {
		declared = declared || inputs[i].ID == id && inputs[i].Type == input.Password
	}
	secret, set := secrets[id]
	switch {
	case !declared:
		return none, invalid(group+"."+clip(id), "is no input of type password")
	case !set:
		return none, fmt.Errorf("none is set: %w", ErrNotFound)
	}
	tx := u.e.db.Begin(ctx)
	u.tellConfiguration(tx, EventPasswordRead, &c.credential, &c.record, 0, map[string]string{"input": field})
	return secret, u.e.kernel.Commit(ctx, tx)
}

// passwords reads those of a configuration.
func (e *Engine) passwords(ctx context.Context, user, credential string, r *configurationRecord) (map[string]crypto.Secret, storage.Rev, error) {
	if len(r.Passwords) == 0 {
		return nil, 0, nil
	}
	record, rev, err := e.tables.passwords.Get(ctx, user, credential, r.ID)
	if errors.Is(err, storage.ErrNotFound) { // the configuration was read before they went
		err = nil
	}
	return record.Secrets, rev, err
}

// putPasswords adds to tx that a configuration, which is about to be put itself, has these passwords and no others.
func (e *Engine) putPasswords(tx *sealed.Tx, user, credential string, r *configurationRecord, secrets map[string]crypto.Secret, rev storage.Rev) {
	r.Passwords = slices.Sorted(maps.Keys(secrets))
	switch {
	case len(secrets) > 0:
		e.tables.passwords.Put(tx, &passwordRecord{Secrets: secrets}, rev, user, credential, r.ID)
	case rev != 0:
		e.tables.passwords.Delete(tx, rev, user, credential, r.ID)
	}
}

// marks stand for the passwords that are set, where only that matters.
func (r *configurationRecord) marks() map[string]crypto.Secret {
	marks := make(map[string]crypto.Secret, len(r.Passwords))
	for _, id := range r.Passwords {
		marks[id] = crypto.NewSecret("set")
	}
	return marks
}
