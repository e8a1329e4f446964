package core

import (
	"bytes"
	"fmt"

	"github.com/polycred/polycred/core/permission"
)

// action is something that a handle does to an account.
type action uint8

const (
	actNone               action = iota
	actRead                      // know that it exists
	actWrite                     // connect, reconnect, rename, complete, disconnect it
	actUse                       // send requests as it
	actToken                     // take its token out
	actReadConfiguration         // know a configuration and its settings
	actWriteConfiguration        // change one
)

// subject is what an action is done to, as permissions speak of it. A credential that is about to be created has no id.
type subject struct {
	integration, credential, externalID, owner string
	configuration                              string // its external id; empty for the default one, and outside configurations
}

// authority narrows a User handle to what its token may. It lives on in the connect sessions that the handle begins: the
// account that answers is judged by it too (rule 9).
type authority struct {
	raw func() []byte // as a session keeps it
	may func(action, *subject) bool

	uses   bool                                                    // it may send requests as every account of the user
	user   bool                                                    // whether it may change what is stored of the connected user: User.UpdateMeta
	any    func(p permission.Permission, integration string) bool  // User.May
	grants func(p permission.Permission, credential *subject) bool // User.Authorize
}

// unbounded reports whether the handle may do that to every account, so that nothing of one has to be known first.
func (u *User) unbounded(a action) bool {
	return u.authority == nil || a == actUse && u.authority.uses
}

// may reports whether the handle may do that.
func (u *User) may(a action, s *subject) bool { return u.authority == nil || u.authority.may(a, s) }

// subject returns what permissions know of a credential.
func (r *credentialRecord) subject() *subject {
	return &subject{integration: r.Integration, credential: r.ID, externalID: r.ExternalID, owner: r.Owner}
}

// sees reports whether the credential exists for the handle.
func (u *User) sees(r *credentialRecord) bool {
	return u.authority == nil || u.authority.may(actRead, r.subject())
}

// allow returns ErrPermission when the handle may not do that to a credential that it sees.
func (u *User) allow(a action, r *credentialRecord) error {
	if u.authority == nil || u.authority.may(a, r.subject()) {
		return nil
	}
	return fmt.Errorf("credential %s: %w", r.ID, ErrPermission)
}

// allowNew returns ErrPermission when the handle may not connect a new account like that.
func (u *User) allowNew(integration, externalID string) error {
	s := subject{integration: integration, externalID: externalID, owner: u.person}
	if u.may(actWrite, &s) {
		return nil
	}
	return fmt.Errorf("a new account of %s: %w", integration, ErrPermission)
}

// hidden is the one error for everything that stands in the way of a connect and that the handle may not see: it says
// neither what it is nor where (security 9).
func hidden(integration string) error { return fmt.Errorf("%s: %w", integration, ErrHiddenConflict) }

// actor rebuilds the handle that began a connect session.
func (e *Engine) actor(r *sessionRecord) (*User, error) {
	u := &User{e: e, id: r.User, person: r.Owner, tokenID: r.TokenID}
	if len(r.Authority) == 0 {
		return u, nil
	}
	narrowed, err := e.authorities(r.Authority, r.Owner)
	if err != nil || narrowed == nil {
		return nil, fmt.Errorf("connect session %s: %w: %v", r.ID, ErrPermission, err)
	}
	u.authority = narrowed
	return u, nil
}

// began reports whether the handle may know all that the one did which began a session: a narrowed handle only where it
// is that one.
func (u *User) began(r *sessionRecord) bool {
	return u.authority == nil || u.person == r.Owner && bytes.Equal(u.authority.raw(), r.Authority)
}
