package revocation

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// What is asked of a provider, by style.

// traced is revoke, told.
func (a *attempt) traced(ctx context.Context) (shared bool, err error) {
	ctx, span := a.c.Telemetry.Start(ctx, telemetry.SpanRevoke, a.r.Integration, a.r.Credential)
	defer span.End()
	shared, err = a.revoke(ctx)
	switch class := classOf(err); {
	case err == nil:
		span.Result(telemetry.ResultOK)
		a.c.Telemetry.Revoked(ctx, a.r.Integration, telemetry.RevocationOK)
	case class != "":
		span.Result(string(class))
	default:
		span.Result(a.c.Code(err))
	}
	return shared, err
}

// revoke asks the provider. Shared says that another account was connected in the middle, and nothing more may be asked.
// Errors: *oauth.Error, of one of the classes that say what comes next; and those of the store.
func (a *attempt) revoke(ctx context.Context) (shared bool, err error) {
	at, style := a.at, oauth.Style(a.at.Style)
	if style != oauth.Bearer && at.ClientAuth != string(oauth.None) && len(at.Secrets) == 0 {
		return false, &oauth.Error{
			Class:  oauth.Transient,
			Reason: "the integration has no client secret for the client that the account was connected with: set it back",
		}
	}
	endpoint := a.endpoint(at.URL)
	if style == oauth.Bearer || style == oauth.Delete {
		return false, failure(a.revokeLive(ctx, endpoint, style))
	}
	shared, err = a.revokeBoth(ctx, endpoint)
	return shared, failure(err)
}

// endpoint returns the endpoint for requests to raw, one of its URLs.
func (a *attempt) endpoint(raw string) *oauth.Endpoint {
	at, auth := a.at, oauth.Basic
	if at.ClientAuth != "" {
		auth = oauth.Auth(at.ClientAuth)
	}
	return &oauth.Endpoint{
		URL: raw, ClientID: a.r.ClientID, Secrets: at.Secrets, Auth: auth, Params: at.TokenParams, JSON: at.Encoding == EncodingJSON,
		TokenPath: strings.TrimPrefix(at.TokenPath, "."), Codes: oauth.Codes(at.Errors), Do: a.c.Do, Now: a.c.now,
	}
}

// revokeBoth ends the refresh token, and then the access token if it is still live: a provider need not end it with the
// refresh token (RFC 7009 §2.1).
func (a *attempt) revokeBoth(ctx context.Context, endpoint *oauth.Endpoint) (shared bool, err error) {
	r := &a.r
	var refused error
	if !r.RefreshToken.IsZero() {
		err := endpoint.Revoke(ctx, oauth.RFC7009, r.RefreshToken, oauth.HintRefresh)
		switch {
		case classOf(err) == oauth.Permanent: // the access token is worth a try
			refused = err
		case err != nil && classOf(err) != oauth.Gone:
			return false, err
		default:
			r.RefreshToken, r.RefreshEnded = crypto.Secret{}, true // not asked for again if the access token fails
		}
		if r.AccessToken.IsZero() || !a.live() {
			return false, refused
		}
		if shared, err := a.shared(ctx); shared || err != nil {
			return shared, err
		}
	}
	if r.AccessToken.IsZero() {
		return false, refused
	}
	switch err := endpoint.Revoke(ctx, oauth.RFC7009, r.AccessToken, oauth.HintAccess); classOf(err) {
	case "", oauth.Gone:
		return false, refused
	case oauth.Permanent: // many providers end refresh tokens only (RFC 7009 §2)
		if r.RefreshEnded {
			a.left = string(oauth.HintAccess)
			return false, nil
		}
		return false, err
	default:
		return false, err
	}
}

// revokeLive ends an access token where the provider takes only one that is live. Where it has ended, a new one is got
// first, with the refresh token, to be thrown away.
func (a *attempt) revokeLive(ctx context.Context, endpoint *oauth.Endpoint, style oauth.Style) error {
	r := &a.r
	renewed := false
	if r.AccessToken.IsZero() || !a.live() {
		var err error
		if renewed, err = a.renew(ctx); err != nil {
			return err
		}
	}
	for {
		if r.AccessToken.IsZero() { // and its refresh token is dead
			return nil
		}
		err := endpoint.Revoke(ctx, style, r.AccessToken, oauth.HintAccess)
		switch {
		case classOf(err) != oauth.Gone:
			return err
		case renewed: // that one cannot be dead yet
			return err
		}
		if renewed, err = a.renew(ctx); !renewed || err != nil {
			return err
		}
	}
}

// renew gets a live access token, if that is possible. The record is stored with it: the refresh token may be spent.
func (a *attempt) renew(ctx context.Context) (bool, error) {
	r := &a.r
	if r.RefreshToken.IsZero() || a.at.TokenURL == "" {
		return false, nil
	}
	answer, err := a.endpoint(a.at.TokenURL).Refresh(ctx, r.RefreshToken)
	switch {
	case classOf(err) == oauth.Permanent:
		r.RefreshToken = crypto.Secret{}
		return false, nil
	case err != nil:
		return false, err
	}
	r.AccessToken, r.ValidUntil = answer.AccessToken, 0
	if answer.Lifetime > 0 {
		r.ValidUntil = a.c.now().Add(answer.Lifetime).UnixMilli()
	}
	if !answer.RefreshToken.IsZero() {
		r.RefreshToken = answer.RefreshToken
	}
	err = a.write(ctx, func(tx *sealed.Tx) storage.Rev { return a.put(tx, r.Due) })
	if err != nil { // what is held here is good for now
		a.c.Kernel.Log().WarnContext(ctx, "a token that was got to be revoked could not be stored", "credential", r.Credential, "error", err)
	}
	return true, nil
}

// live reports whether the access token may still be good.
func (a *attempt) live() bool {
	return a.r.ValidUntil == 0 || a.c.now().Before(time.UnixMilli(a.r.ValidUntil))
}

// classOf returns the class of an error of package oauth, "" of another one and of nil.
func classOf(err error) oauth.Class {
	var failed *oauth.Error
	if errors.As(err, &failed) {
		return failed.Class
	}
	return ""
}

// failure gives an error of package oauth one of the classes that say what comes next. What an operator can correct is
// worth trying again; so is a token that cannot be dead.
func failure(err error) error {
	var failed *oauth.Error
	if !errors.As(err, &failed) {
		return err
	}
	if failed.Class == oauth.Rejected || failed.Class == oauth.Gone {
		again := *failed
		again.Class = oauth.Transient
		return &again
	}
	return err
}
