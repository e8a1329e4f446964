package core

import (
	"context"
	"fmt"
	"strings"

	"github.com/polycred/polycred/crypto"
)

// Password returns a value of an input of type password: field is "settings." or "setup." and the input's id, as
// InputErrors name it. It is for the program alone: no page, API or event ever shows it. That it was read is an event.
// Errors: those of User.Configuration, ErrNotFound when none is set, ErrPermission.
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
	secrets, inputs := c.record.Secrets, c.p.Settings
	group, input, _ := strings.Cut(field, ".")
	switch group {
	case "settings":
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
		declared = declared || inputs[i].ID == input && inputs[i].Type == InputPassword
	}
	secret, set := secrets[input]
	switch {
	case !declared:
		return none, invalid(group+"."+clip(input), "is no input of type password")
	case !set:
		return none, fmt.Errorf("its value: %w", ErrNotFound)
	}
	tx := u.e.db.Begin(ctx)
	u.tellConfiguration(tx, EventPasswordRead, &c.credential, &c.record, 0, map[string]string{"input": field})
	return secret, u.e.kernel.Commit(ctx, tx)
}
