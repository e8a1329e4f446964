package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/core/permission"
	"github.com/polycred/polycred/core/usertoken"
)

// Authenticate verifies a user token, a JWT that the application signed for its user or that a TokenIssuer did, and returns a
// handle that can do no more than the token says: package usertoken has the rules of tokens, package permission those of what
// they may do. A token that says nothing about permissions may do everything with the accounts of its user, but take their
// tokens out. Hand such a handle to whatever serves a request, and it cannot forget a check.
//
// The handle acts for the token's person, and what is done with it is told under the token's id. It stays what it is when the
// token expires: make one for each request.
//
// Errors: usertoken.ErrToken for a token that is not accepted, whose text says why; usertoken.ErrExpired is one of them;
// ErrPermission for permissions that are malformed; ErrDisabled for a user who is; usertoken.ErrUnavailable when its issuer
// cannot be asked for its keys.
func (e *Engine) Authenticate(ctx context.Context, token string) (*User, error) {
	u, err := e.authenticate(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	return u, nil
}

// Authenticated reports whether this engine has verified a token within the last 5 seconds, so that Authenticate takes next to
// no work for it; whether it is still good, only that says. It does no I/O.
func (e *Engine) Authenticated(token string) bool { return e.door.Remembers(token) }

func (e *Engine) authenticate(ctx context.Context, token string) (*User, error) {
	if err := e.usable(); err != nil {
		return nil, err
	}
	visitor, err := e.door.Judge(ctx, token)
	if wrong := (*permission.Error)(nil); errors.As(err, &wrong) && !errors.Is(err, usertoken.ErrToken) {
		return nil, fmt.Errorf("%w: %v", ErrPermission, err)
	}
	if err != nil {
		return nil, err
	}
	if err := e.checkUser(ctx, visitor.User); err != nil {
		return nil, err
	}
	narrowed := authorityOf(visitor.Permissions)
	narrowed.uses = visitor.Everything
	return &User{e: e, id: visitor.User, person: visitor.Person, tokenID: visitor.TokenID, authority: narrowed}, nil
}

// Authorize returns the account that sel names, or the one to use when it names none, if the handle may do with it what p is:
// for what is done with an account outside of this package. ErrPermission is its answer only for an account that the handle
// may see. Errors: those of User.Credential, ErrPermission.
func (u *User) Authorize(ctx context.Context, p permission.Permission, sel Selector) (Credential, error) {
	record, err := u.find(ctx, sel)
	if err == nil && u.authority != nil && !u.authority.grants(p, record.subject()) {
		err = fmt.Errorf("credential %s: %w", record.ID, ErrPermission)
	}
	if err != nil {
		return Credential{}, fmt.Errorf("use %s: %w", sel, err)
	}
	return record.public(u.id), nil
}

// May reports whether there could be anything of an integration, of any when integration is empty, that the handle may do p
// with: a first check, before anything is read.
func (u *User) May(p permission.Permission, integration string) bool {
	return u.authority == nil || u.authority.any(p, integration)
}

// authorityOf returns what a handle with these permissions may do.
func authorityOf(set *permission.Set) *authority {
	return &authority{raw: func() []byte { return set.AppendJSON(nil) }, may: func(a action, s *subject) bool {
		t := permission.Target{
			Level: permission.LevelCredential, Integration: s.integration, Credential: s.credential, ExternalID: s.externalID,
			Owner: s.owner, Configuration: s.configuration,
		}
		switch a {
		case actRead: // also for the sake of one configuration of it
			return set.Reaches(permission.CredentialRead, t)
		case actReadConfiguration, actWriteConfiguration:
			t.Level = permission.LevelConfiguration
		default:
			t.Configuration = ""
		}
		p, ok := permissionFor[a]
		return ok && set.Allows(p, t)
	}, user: set.Allows(permission.UserWrite, permission.Target{Level: permission.LevelUser}), any: set.Any,
		grants: func(p permission.Permission, s *subject) bool {
			return set.Allows(p, permission.Target{
				Level: permission.LevelCredential, Integration: s.integration, Credential: s.credential, ExternalID: s.externalID, Owner: s.owner,
			})
		}}
}

// permissionFor is what an action takes.
var permissionFor = map[action]permission.Permission{
	actWrite: permission.CredentialWrite, actUse: permission.Proxy, actToken: permission.CredentialToken,
	actReadConfiguration: permission.ConfigurationRead, actWriteConfiguration: permission.ConfigurationWrite,
}

// decodeAuthority reads what a connect session keeps of a handle's permissions.
func decodeAuthority(raw []byte, person string) (*authority, error) {
	set, err := permission.ParseJSON(raw)
	if err != nil {
		return nil, err
	}
	return authorityOf(set.For(person)), nil
}
