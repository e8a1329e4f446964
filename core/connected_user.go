package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// ConnectedUser is what is known of a connected user, beside their accounts.
type ConnectedUser struct {
	ID string `json:"id"`
	// Created is when their first account was connected, or metadata of them stored, or when they were first disabled; zero where that was before
	// polycred kept it.
	Created time.Time `json:"dateCreated,omitzero"`
	// Disabled says that none of their accounts is used, refreshed or connected; see Engine.DisableUser.
	Disabled bool `json:"disabled,omitempty"`
	// Deleting says that Engine.DeleteUser began to remove them and did not get to its end yet.
	Deleting bool `json:"deleting,omitempty"`
	// Meta is what the application, and the user's browser, have stored of them: see User.UpdateMeta.
	Meta map[string]any `json:"meta"`
}

// ConnectedUser returns what is known of a user. Errors: InputError, ErrNotFound for one that has, and had, no account
// and no metadata and was never disabled, or was deleted.
func (e *Engine) ConnectedUser(ctx context.Context, user string) (ConnectedUser, error) {
	record, err := e.connectedUser(ctx, user)
	if err != nil {
		return ConnectedUser{}, fmt.Errorf("connected user %s: %w", clip(user), err)
	}
	return ConnectedUser{
		ID: user, Created: record.Created.time(), Disabled: record.Disabled, Deleting: record.Deleting, Meta: shownMeta(record.Meta),
	}, nil
}

func (e *Engine) connectedUser(ctx context.Context, user string) (userRecord, error) {
	if err := e.checkOperator(user); err != nil {
		return userRecord{}, err
	}
	record, rev, err := e.user(ctx, user)
	if err == nil && rev == 0 {
		err = e.anyAccount(ctx, user)
	}
	return record, err
}

// anyAccount returns ErrNotFound unless the user has an account: those that were connected before there were records of
// users have no such record.
func (e *Engine) anyAccount(ctx context.Context, user string) error {
	accounts, _, err := e.tables.credentials.Keys(ctx, []string{user}, nil, 1)
	if err == nil && len(accounts) == 0 {
		err = ErrNotFound
	}
	return err
}

// checkOperator checks what is asked about a user, without acting as them.
func (e *Engine) checkOperator(user string) error {
	if e.ending.Load() {
		return ErrClosed
	}
	return checkID("user", user)
}

// user reads the record of a user; revision 0 says that there is none.
func (e *Engine) user(ctx context.Context, user string) (userRecord, storage.Rev, error) {
	record, rev, err := e.tables.users.Get(ctx, user)
	if errors.Is(err, storage.ErrNotFound) {
		return record, 0, nil
	}
	return record, rev, err
}

// may reports why a user may not connect an account, if so.
func (r *userRecord) may(user string) error {
	switch {
	case r.Deleting:
		return fmt.Errorf("user %s: %w", clip(user), ErrDeleting)
	case r.Disabled:
		return fmt.Errorf("user %s: %w", clip(user), ErrDisabled)
	}
	return nil
}

// mayConnect reports why a user may not connect an account now, if so.
func (e *Engine) mayConnect(ctx context.Context, user string) error {
	record, _, err := e.user(ctx, user)
	if err == nil {
		err = record.may(user)
	}
	return err
}

// joinUser adds to tx, which grants a wish, that the user is there and may connect.
func (e *Engine) joinUser(ctx context.Context, tx *sealed.Tx, w *wish) error {
	record, rev, err := e.user(ctx, w.user)
	switch {
	case err != nil:
		return err
	case rev == 0 && w.known: // what was asked for before the deletion does not make the user anew
		return fmt.Errorf("user %s: %w", clip(w.user), ErrDeleting)
	case rev == 0: // the first account: of several at once one makes the record, and the others begin again
		e.tables.users.Put(tx, &userRecord{Created: toMillis(e.now())}, 0, w.user)
		return nil
	}
	e.tables.users.Check(tx, rev, w.user)
	return record.may(w.user)
}

// DisableUser switches a user off: until EnableUser none of their accounts is used, refreshed or connected, which is
// ErrDisabled. Listing, renaming and disconnecting accounts stay possible, and nothing else about them changes. In this
// process it takes effect at once, in every other one within 5 seconds. A user without any account can be disabled too,
// and one that is disabled already stays so. Errors: InputError.
func (e *Engine) DisableUser(ctx context.Context, user string) error {
	if err := e.switchUser(ctx, user, true); err != nil {
		return fmt.Errorf("disable user %s: %w", clip(user), err)
	}
	return nil
}

// EnableUser ends what DisableUser began; accounts that were disabled one by one stay so. One that is not disabled,
// or not there, is no error. Errors: InputError.
func (e *Engine) EnableUser(ctx context.Context, user string) error {
	if err := e.switchUser(ctx, user, false); err != nil {
		return fmt.Errorf("enable user %s: %w", clip(user), err)
	}
	return nil
}

func (e *Engine) switchUser(ctx context.Context, user string, off bool) error {
	if err := e.checkOperator(user); err != nil {
		return err
	}
	defer e.forgetDisabled() // also after an error: it may have come too late
	for try := 0; ; try++ {
		record, rev, err := e.user(ctx, user)
		if err != nil || record.Disabled == off {
			return err
		}
		if rev == 0 {
			record.Created = toMillis(e.now())
		}
		record.Disabled = off
		tx := e.db.Begin(ctx)
		e.tables.users.Put(tx, &record, rev, user)
		if err := e.markDisabled(ctx, tx, user, off); err != nil {
			return err
		}
		kind := EventUserEnabled
		if off {
			kind = EventUserDisabled
		}
		e.tellUser(tx, kind, user, nil)
		if err := e.kernel.Commit(ctx, tx); !conflicted(err) {
			return err
		}
		if err := again(ctx, try); err != nil {
			return err
		}
	}
}

// markDisabled adds to tx that a user is, or is not, among those who are disabled, so that every process notices.
func (e *Engine) markDisabled(ctx context.Context, tx *sealed.Tx, user string, off bool) error {
	if off {
		e.tables.disabledUsers.Mark(tx, user)
	} else {
		e.tables.disabledUsers.Unmark(tx, user)
	}
	switches, rev, err := e.tables.switches.Get(ctx)
	var corrupt *sealed.CorruptError
	switch {
	case errors.As(err, &corrupt): // it says nothing but that it changed
		rows, _, err := e.tables.switches.Keys(ctx, nil, nil, 1)
		if err != nil || len(rows) == 0 {
			return err
		}
		rev = rows[0].Rev
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return err
	}
	switches.Version++
	e.tables.switches.Put(tx, &switches, rev)
	return nil
}

// tellUser adds to tx what an operator did to a user.
func (e *Engine) tellUser(tx *sealed.Tx, kind EventKind, user string, details map[string]string) {
	e.kernel.Emit(tx, kernel.Event{
		Kind: string(kind), Actor: string(ActorOperator), User: user, Cause: "request", Result: resultOK, Details: details,
	})
}
