package core

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

var errEntry = errors.New("an index entry of another form")

// User is the handle of one connected user: everything that is done for that user's accounts goes through it, and it
// can do no more than whoever asked for it may. Engine.User gives one with all rights. A User holds no resources, may be
// kept, and may be used concurrently.
type User struct {
	e      *Engine
	id     string
	person string // who acts for the user, when the user is an organisation
}

// ID returns the connected user's id.
func (u *User) ID() string { return u.id }

func (u *User) check() error {
	if u.e == nil {
		return invalid("user", "belongs to no engine: it comes from Engine.User")
	}
	if err := u.e.usable(); err != nil {
		return err
	}
	return checkUserID(u.id)
}

// ListInput selects credentials.
type ListInput struct {
	Integration string // empty: of all integrations
	After       string // CredentialPage.Next of the page before; empty: from the oldest
	Limit       int    // at most 1,000; 0: 100
}

// CredentialPage is one page of credentials, oldest first. Next is passed on as ListInput.After; empty means the end.
type CredentialPage struct {
	Credentials []Credential
	Next        string
}

// Credentials lists the user's accounts. Its cost follows the size of the page, not the number of users or credentials
// in the store. Errors: InputError, ErrNotFound for an integration that does not exist.
func (u *User) Credentials(ctx context.Context, in ListInput) (CredentialPage, error) {
	page, err := u.credentials(ctx, in)
	if err != nil {
		return CredentialPage{}, fmt.Errorf("list credentials: %w", err)
	}
	return page, nil
}

func (u *User) credentials(ctx context.Context, in ListInput) (CredentialPage, error) {
	var page CredentialPage
	if err := u.check(); err != nil {
		return page, err
	}
	limit, err := pageLimit(in.Limit)
	if err != nil {
		return page, err
	}
	if in.After != "" {
		var ok bool
		if in.After, ok = canonicalUUID(in.After); !ok {
			return page, invalid("after", "is not the Next of a page")
		}
	}
	if in.Integration == "" {
		var after []string
		if in.After != "" {
			after = []string{u.id, in.After}
		}
		rows, more, err := u.e.tables.credentials.List(ctx, []string{u.id}, after, limit)
		if err != nil {
			return page, err
		}
		for i := range rows {
			page.Credentials = append(page.Credentials, rows[i].Value.public(u.id))
		}
		if more {
			page.Next = rows[len(rows)-1].Value.ID
		}
		return page, nil
	}
	if err := checkName(in.Integration); err != nil {
		return page, err
	}
	records, next, err := u.e.accountPage(ctx, u.id, in.Integration, in.After, limit)
	if err == nil && len(records) == 0 && in.After == "" {
		_, err = u.e.provider(ctx, in.Integration) // unknown, and not merely without accounts
	}
	if err != nil {
		return page, err
	}
	for i := range records {
		page.Credentials = append(page.Credentials, records[i].public(u.id))
	}
	page.Next = next
	return page, nil
}

// Credential returns the account that sel names, whatever its status; when sel names none, the one that could be used.
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError; ErrReconnect or ErrPending when sel names none and no
// account is usable.
func (u *User) Credential(ctx context.Context, sel Selector) (Credential, error) {
	record, err := u.find(ctx, sel)
	if err != nil {
		return Credential{}, fmt.Errorf("credential of %s: %w", sel, err)
	}
	return record.public(u.id), nil
}

// Disconnect removes the account that sel names, whatever its status; without Credential in it the user must have
// exactly one account of the integration. Every other account goes on working. The provider is not told: polycred
// forgets the tokens and does not revoke them.
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError.
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
	e := u.e
	for {
		record, rev, err := e.credential(ctx, u.id, id)
		if err != nil {
			return err
		}
		w := wish{user: u.id, integration: record.Integration, externalID: record.ExternalID}
		tx := e.db.Begin(ctx)
		e.tables.credentials.Delete(tx, rev, u.id, id)
		e.tables.byUser.Unmark(tx, u.id, record.Integration, id)
		e.tables.byIntegration.Unmark(tx, record.Integration, id, u.id)
		if err := e.dropClaims(ctx, tx, &w, &record); err != nil {
			return err
		}
		if w.externalID != "" {
			_, rows, err := e.externalHolder(ctx, &w)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if row.Rev != 0 && row.Value.Credential == id {
					e.tables.externalIDs.Delete(tx, row.Rev, row.Key...)
				}
			}
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
		if err := tx.Commit(ctx); !conflicted(err) {
			return err
		}
	}
}

// credential reads one credential of a user.
func (e *Engine) credential(ctx context.Context, user, id string) (credentialRecord, storage.Rev, error) {
	record, rev, err := e.tables.credentials.Get(ctx, user, id)
	if errors.Is(err, storage.ErrNotFound) {
		return record, 0, fmt.Errorf("credential %s: %w", clip(id), ErrNotFound)
	}
	return record, rev, err
}

// accountPage reads a page of a user's accounts of one integration, oldest first: a scan of keys and one GetMany. Next is
// the id behind which the next page begins, "" at the end.
func (e *Engine) accountPage(ctx context.Context, user, integration, after string, limit int) (records []credentialRecord, next string, err error) {
	var behind []string
	if after != "" {
		behind = []string{user, integration, after}
	}
	entries, more, err := e.tables.byUser.Scan(ctx, []string{user, integration}, behind, limit)
	if err != nil {
		return nil, "", err
	}
	keys := make([][]string, len(entries))
	for i, entry := range entries {
		if len(entry) != 3 { // entries are not sealed
			return nil, "", &sealed.CorruptError{Table: "credentials by user", Key: entry, Err: errEntry}
		}
		keys[i] = []string{user, entry[2]}
	}
	rows, err := e.tables.credentials.GetMany(ctx, keys)
	if err != nil {
		return nil, "", err
	}
	for i := range rows {
		// Else it was disconnected in between; index entries are not sealed, so what they say is checked.
		if rows[i].Rev != 0 && rows[i].Value.Integration == integration {
			records = append(records, rows[i].Value)
		}
	}
	if more {
		next = entries[len(entries)-1][2]
	}
	return records, next, nil
}

// accounts walks all of a user's accounts of one integration, oldest first.
func (e *Engine) accounts(ctx context.Context, user, integration string) iter.Seq2[*credentialRecord, error] {
	return func(yield func(*credentialRecord, error) bool) {
		after := ""
		for {
			records, next, err := e.accountPage(ctx, user, integration, after, 100)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range records {
				if !yield(&records[i], nil) {
					return
				}
			}
			if after = next; after == "" {
				return
			}
		}
	}
}
