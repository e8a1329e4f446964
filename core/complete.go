package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// CompleteInput is what came in at a page of the application, ConnectInput.RedirectURL.
type CompleteInput struct {
	Integration string
	Code        string // the parameter "code" of that page
	RedirectURL string // the page, as ConnectInput had it
	// Values are the other parameters of the page: "state" and "iss" are checked when they are there, and hosts that the
	// provider sends are taken from them. Pass them all. Without "state" nothing but PKCE tells that the code was meant for
	// this session, so it is needed where the integration has neither that nor an id_token with a nonce, and for an
	// "error"; a provider that ignores PKCE is not noticed, and somebody could then have their own account connected here.
	Values url.Values
}

// CompleteConnect finishes the newest connect session that this user, and person where there is one, began for the
// integration and redirect URL, with the code that came in there. The code is spent with that session's own verifier, so
// one that belongs to any other session is refused by the provider. Doing it twice gives the same outcome.
//
// Where the provider may begin an installation by itself (Integration.ProviderInitiated), a code without a session is
// spent too, as one for this user; nothing then proves that this person asked for it.
//
// Errors: those of Callback; ErrSession when no session waits there.
func (u *User) CompleteConnect(ctx context.Context, in CompleteInput) (*ConnectResult, error) {
	result, err := u.completeConnect(ctx, in)
	if err != nil {
		return result, fmt.Errorf("complete connecting %s: %w", clip(in.Integration), err)
	}
	return result, nil
}

func (u *User) completeConnect(ctx context.Context, in CompleteInput) (*ConnectResult, error) {
	e := u.e
	if err := u.check(); err != nil {
		return nil, err
	}
	if err := checkName(in.Integration); err != nil {
		return nil, err
	}
	switch {
	case in.Code == "" && in.Values.Get("error") == "":
		return nil, invalid("code", "is missing: pass the parameter code of the page")
	case len(in.Code) > maxParam:
		return nil, invalid("code", fmt.Sprintf("has more than %d bytes", maxParam))
	case !slices.Contains(e.opts.RedirectURLs, in.RedirectURL):
		return nil, invalid("redirectUrl", "is none of Options.RedirectURLs")
	}
	if err := checkValues(in.Values); err != nil {
		return nil, err
	}
	done, err := e.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	key, err := u.redirected(ctx, in)
	if err != nil {
		return nil, err
	}
	p, err := e.provider(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	nonced := p.OAuth2 != nil && slices.Contains(p.OAuth2.Scopes, "openid")
	state := in.Values.Get("state")
	if state != "" && sessionKey(state) != key {
		return nil, fmt.Errorf("%w: a newer one for the same page took its place", ErrSession)
	}
	values := url.Values{}
	for name, v := range in.Values {
		values[name] = slices.Clone(v)
	}
	values.Set("code", in.Code)
	result, err := e.conclude(ctx, key, values, func(r *sessionRecord) error {
		switch {
		case !r.Redirect || r.User != u.id || r.Integration != in.Integration || r.RedirectURI != in.RedirectURL || !u.began(r):
			return fmt.Errorf("%w: it belongs elsewhere", ErrSession)
		case state == "" && !r.ProviderInitiated && (in.Code == "" || r.Verifier.IsZero() && !nonced):
			return invalid("values.state", "is missing, without which nothing tells that the answer was meant for this session")
		}
		return nil
	})
	if err == nil {
		err = u.onlySeen(ctx, result)
	}
	return result, err
}

// onlySeen takes from a result an account that the handle may not see: another one of the user began the session.
func (u *User) onlySeen(ctx context.Context, result *ConnectResult) error {
	record, _, err := u.record(ctx, result.Credential.ID)
	if err != nil {
		result.Credential = Credential{}
		return err
	}
	result.Credential = record.public(u.id)
	return nil
}

// redirected returns the key of the session that a page of the application finishes; one is made where the provider may
// begin by itself.
func (u *User) redirected(ctx context.Context, in CompleteInput) (string, error) {
	e := u.e
	where := sessionRecord{User: u.id, Owner: u.person, Integration: in.Integration, RedirectURI: in.RedirectURL}
	record, _, err := e.tables.redirects.Get(ctx, where.redirectKey()...)
	var waiting sessionRecord
	if err == nil {
		waiting, _, err = e.session(ctx, record.Session)
	}
	open := err == nil && waiting.Phase == sessionOpen
	switch {
	case open && e.now().Before(waiting.Expires.time()):
		return record.Session, nil
	case err == nil && bytes.Equal(waiting.Spent, digest("code", in.Code)): // it tells its outcome again
		return record.Session, nil
	case err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, ErrSession):
		return "", err
	}
	p, err := e.freshProvider(ctx, in.Integration)
	switch {
	case err != nil:
		return "", err
	case open && !p.ProviderInitiated:
		return record.Session, nil // which says that it expired
	case !p.ProviderInitiated || p.OAuth2 == nil || in.Values.Has("state"): // a state would be of a session of ours
		return "", fmt.Errorf("%w: none of this user waits at that page; start again", ErrSession)
	}
	session, err := u.newSession(ctx, p, ConnectInput{Integration: in.Integration, RedirectURL: in.RedirectURL, AllowMultiple: true})
	if err != nil {
		return "", err
	}
	session.Phase, session.Verifier = sessionOpen, crypto.Secret{} // the provider knows of no challenge
	session.ProviderInitiated = true
	// Named by its code: the same installation that comes in twice at once is one session. No state or handle leads to it.
	key := string(digest("installation", strings.Join([]string{u.id, in.Integration, in.RedirectURL, in.Code}, "\x00")))
	err = e.putSession(ctx, session, key)
	if e.tables.sessions.Conflicted(err, key) {
		err = nil
	}
	return key, err
}

// ConnectOutcome returns what came of a connect session of this user, by its handle: for a page that waits for another
// window. Asking changes nothing.
// A result with User and ReturnURL stands beside the error of a session that failed, or has no outcome yet; not beside
// others, which say nothing of the session.
// Errors: ErrUnfinished while it has no outcome, ErrSession for an unknown session or another user's, ErrSessionExpired;
// else as Callback gave it.
func (u *User) ConnectOutcome(ctx context.Context, handle string) (*ConnectResult, error) {
	result, err := u.connectOutcome(ctx, handle)
	if err != nil {
		return result, fmt.Errorf("outcome of a connect session: %w", err)
	}
	return result, nil
}

func (u *User) connectOutcome(ctx context.Context, handle string) (*ConnectResult, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	record, _, err := u.e.session(ctx, sessionKey(stateOf(handle)))
	switch {
	case err != nil:
		return nil, err
	case record.User != u.id: // as if it were unknown (security 11)
		return nil, errNoSession
	}
	return u.outcomeOf(ctx, &record)
}

// outcomeOf tells what came of a session of the user.
func (u *User) outcomeOf(ctx context.Context, record *sessionRecord) (*ConnectResult, error) {
	result := &ConnectResult{User: record.User, ReturnURL: record.ReturnURL, Began: record.Created.time(), Replayed: true}
	switch {
	case record.Phase == sessionDone:
		if !u.began(record) { // the text of an error may name what only the other handle sees
			record.Text = record.Code
		}
		err := u.e.replay(ctx, record, result)
		if err == nil {
			err = u.onlySeen(ctx, result)
		}
		if err != nil && record.Code == "" && !errors.Is(err, ErrNotFound) { // it went well, and cannot be told right now
			return nil, err
		}
		return result, err
	case record.Phase != sessionExchanging && !u.e.now().Before(record.Expires.time()):
		return result, ErrSessionExpired
	default:
		return result, ErrUnfinished
	}
}
