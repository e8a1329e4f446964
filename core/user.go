package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

var errEntry = errors.New("an index entry of another form")

// User is the handle of one connected user: everything that is done for that user's accounts goes through it, and it
// can do no more than whoever asked for it may. Engine.User gives one with all rights. A User holds no resources, may be
// kept, and may be used concurrently.
type User struct {
	e         *Engine
	id        string
	person    string     // who acts for the user; may be empty
	tokenID   string     // of the user token that was shown; may be empty
	authority *authority // nil: everything
	stolen    bool       // somebody tried to act as another person than the token says
}

// ID returns the connected user's id.
func (u *User) ID() string { return u.id }

// Person returns who acts for the user, see As; empty where nobody is named.
func (u *User) Person() string { return u.person }

// TokenID returns the id of the user token that the handle came from; empty where it came from Engine.User.
func (u *User) TokenID() string { return u.tokenID }

// As returns a handle of the same user that acts for a person, and may do the same. The person becomes the Owner of the
// accounts that are connected with it, and stands in the events of all that it does: use it where the connected user is
// an organisation. Ids of persons look like those of users: valid UTF-8 without NUL, 1 to 255 bytes; a malformed one,
// also the empty one, comes out of the handle's methods as an InputError, and a handle that came from a user token, which
// names its person, gives one that may do nothing (ErrPermission).
func (u *User) As(person string) *User {
	as := *u
	as.stolen = u.tokenID != "" || u.authority != nil
	if as.person = person; person == "" {
		as.person = nobody // refused by check: an empty person is nobody
	}
	return &as
}

func (u *User) check() error {
	if u.e == nil {
		return invalid("user", "belongs to no engine: it comes from Engine.User")
	}
	if err := u.e.usable(); err != nil {
		return err
	}
	if u.stolen {
		return fmt.Errorf("act as another person: %w", ErrPermission)
	}
	if err := checkID("user", u.id); err != nil || u.person == "" {
		return err
	}
	return checkID("person", u.person)
}

// ListInput selects credentials.
type ListInput struct {
	Integration string // empty: of all integrations
	After       string // CredentialPage.Next of the page before; empty: from the oldest
	Limit       int    // at most 1,000; 0: 100
}

// CredentialPage is one page of credentials, oldest first: those that the handle may see. Next is passed on as
// ListInput.After; empty means the end. A page may hold fewer than Limit, also none, before the end.
type CredentialPage struct {
	Credentials []Credential
	Next        string
}

// Credentials lists the user's accounts. Its cost follows the size of the page, not the number of users or credentials
// in the store. Errors: InputError, ErrNotFound for an integration that does not exist.
func (u *User) Credentials(ctx context.Context, in ListInput) (CredentialPage, error) {
	page, err := u.visible(ctx, in)
	if err != nil {
		return CredentialPage{}, fmt.Errorf("list credentials: %w", err)
	}
	return page, nil
}

// visible is credentials for any handle. The id of an account that a narrowed one may not see is no cursor for it: its
// pages end with one that it sees, or at the end.
func (u *User) visible(ctx context.Context, in ListInput) (CredentialPage, error) {
	page, err := u.credentials(ctx, in)
	limit := cmp.Or(in.Limit, 100)
	for in.Limit = 1000; err == nil && u.authority != nil && page.Next != "" && len(page.Credentials) < limit; {
		in.After = page.Next
		before := page.Credentials
		page, err = u.credentials(ctx, in)
		page.Credentials = append(before, page.Credentials...)
	}
	if err == nil && u.authority != nil && (page.Next != "" || len(page.Credentials) > limit) {
		page.Credentials = page.Credentials[:limit]
		page.Next = page.Credentials[limit-1].ID
	}
	return page, err
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
			if u.sees(&rows[i].Value) {
				page.Credentials = append(page.Credentials, rows[i].Value.public(u.id))
			}
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
		if u.sees(&records[i]) {
			page.Credentials = append(page.Credentials, records[i].public(u.id))
		}
	}
	page.Next = next
	return page, nil
}

// Credential returns the account that sel names, whatever its status; when sel names none, the one that could be used.
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError; ErrReconnect, ErrPending or ErrDisabled when sel names none and no
// account is usable.
func (u *User) Credential(ctx context.Context, sel Selector) (Credential, error) {
	record, err := u.find(ctx, sel)
	if err != nil {
		return Credential{}, fmt.Errorf("credential of %s: %w", sel, err)
	}
	return record.public(u.id), nil
}

// credential reads one credential of a user.
func (e *Engine) credential(ctx context.Context, user, id string) (credentialRecord, storage.Rev, error) {
	record, rev, err := e.tables.credentials.Get(ctx, user, id)
	if errors.Is(err, storage.ErrNotFound) {
		return record, 0, fmt.Errorf("credential %s: %w", clip(id), ErrNotFound)
	}
	return record, rev, err
}

// record reads one credential that the handle may see.
func (u *User) record(ctx context.Context, id string) (credentialRecord, storage.Rev, error) {
	record, rev, err := u.e.credential(ctx, u.id, id)
	if err == nil && !u.sees(&record) {
		return credentialRecord{}, 0, fmt.Errorf("credential %s: %w", clip(id), ErrNotFound)
	}
	return record, rev, err
}

// errUnchanged ends a change that would change nothing.
var errUnchanged = errors.New("nothing to change")

// errGone says that a credential went while the store's answer to its change was lost.
var errGone = fmt.Errorf("%w any more", ErrNotFound)

// change has do add to a transaction what changes about a credential that the handle may write, commits it, and returns
// the credential as it is then. Where somebody else was first, do starts again on what is there.
func (u *User) change(ctx context.Context, id string, do func(tx *sealed.Tx, record *credentialRecord, rev storage.Rev) error) (credentialRecord, error) {
	var none credentialRecord
	lost := false
	for try := 0; ; try++ {
		record, rev, err := u.record(ctx, id)
		switch {
		case err == nil:
			err = u.allow(actWrite, &record)
		case lost && errors.Is(err, ErrNotFound):
			err = fmt.Errorf("credential %s: %w", id, errGone)
		}
		if err != nil {
			return none, err
		}
		tx := u.e.db.Begin(ctx)
		err = do(tx, &record, rev)
		switch {
		case errors.Is(err, errUnchanged):
			return record, nil
		case err != nil:
			return none, err
		}
		if err = u.e.kernel.Commit(ctx, tx); !conflicted(err) {
			return record, err
		}
		lost = lost || kernel.Lost(err)
		if err := again(ctx, try); err != nil {
			return none, err
		}
	}
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

// accounts walks all of the user's accounts of one integration that the handle may see, oldest first.
func (u *User) accounts(ctx context.Context, integration string) iter.Seq2[*credentialRecord, error] {
	return func(yield func(*credentialRecord, error) bool) {
		after := ""
		for size := 100; ; size = 1000 { // most users have few; the others are walked in few steps
			records, next, err := u.e.accountPage(ctx, u.id, integration, after, size)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range records {
				if u.sees(&records[i]) && !yield(&records[i], nil) {
					return
				}
			}
			if after = next; after == "" {
				return
			}
		}
	}
}
