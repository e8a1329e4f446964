package core

import (
	"context"
	"errors"

	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// What is asked of a provider, by style.

// revoke asks the provider. Shared says that another account was connected in the middle, and nothing more may be asked.
// Errors: ProviderError, and those of the store.
func (v *revocation) revoke(ctx context.Context) (shared bool, err error) {
	at := v.at
	if at.Style != RevocationBearer && at.ClientAuth != ClientAuthNone && len(at.Secrets) == 0 {
		return false, &ProviderError{
			Integration: v.r.Integration, Op: "revoke", Class: FailureTransient, setup: true,
			Reason: "the integration has no client secret for the client that the account was connected with: set it back",
		}
	}
	endpoint := at.ask(v.e, at.URL, v.r.ClientID)
	if at.Style == RevocationBearer || at.Style == RevocationDelete {
		return false, v.failure(v.revokeLive(ctx, endpoint, oauth.Style(at.Style)))
	}
	shared, err = v.revokeBoth(ctx, endpoint)
	return shared, v.failure(err)
}

// revokeBoth ends the refresh token, and then the access token if it is still live: a provider need not end it with the
// refresh token (RFC 7009 §2.1).
func (v *revocation) revokeBoth(ctx context.Context, endpoint *oauth.Endpoint) (shared bool, err error) {
	r := &v.r
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
		if r.AccessToken.IsZero() || !v.live() {
			return false, refused
		}
		if shared, err := v.shared(ctx); shared || err != nil {
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
			v.left = string(oauth.HintAccess)
			return false, nil
		}
		return false, err
	default:
		return false, err
	}
}

// revokeLive ends an access token where the provider takes only one that is live. Where it has ended, a new one is got
// first, with the refresh token, to be thrown away.
func (v *revocation) revokeLive(ctx context.Context, endpoint *oauth.Endpoint, style oauth.Style) error {
	r := &v.r
	renewed := false
	if r.AccessToken.IsZero() || !v.live() {
		var err error
		if renewed, err = v.renew(ctx); err != nil {
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
		if renewed, err = v.renew(ctx); !renewed || err != nil {
			return err
		}
	}
}

// renew gets a live access token, if that is possible. The record is stored with it: the refresh token may be spent.
func (v *revocation) renew(ctx context.Context) (bool, error) {
	r := &v.r
	if r.RefreshToken.IsZero() || v.at.TokenURL == "" {
		return false, nil
	}
	answer, err := v.at.ask(v.e, v.at.TokenURL, r.ClientID).Refresh(ctx, r.RefreshToken)
	switch {
	case classOf(err) == oauth.Permanent:
		r.RefreshToken = crypto.Secret{}
		return false, nil
	case err != nil:
		return false, err
	}
	r.AccessToken, r.ValidUntil = answer.AccessToken, 0
	if answer.Lifetime > 0 {
		r.ValidUntil = toMillis(v.e.now().Add(answer.Lifetime))
	}
	if !answer.RefreshToken.IsZero() {
		r.RefreshToken = answer.RefreshToken
	}
	err = v.write(ctx, func(tx *sealed.Tx) storage.Rev { return v.put(tx, v.r.Due) })
	if err != nil { // what is held here is good for now
		v.e.log.WarnContext(ctx, "a token that was got to be revoked could not be stored", "credential", r.Credential, "error", err)
	}
	return true, nil
}

// live reports whether the access token may still be good.
func (v *revocation) live() bool {
	return v.r.ValidUntil == 0 || v.e.now().Before(v.r.ValidUntil.time())
}

// classOf returns the class of an error of package oauth, "" of another one and of nil.
func classOf(err error) oauth.Class {
	var failed *oauth.Error
	if errors.As(err, &failed) {
		return failed.Class
	}
	return ""
}

// failure turns an error of package oauth into a ProviderError. What an operator can correct is worth trying again.
func (v *revocation) failure(err error) error {
	var f *oauth.Error
	if !errors.As(err, &f) {
		return err
	}
	class := FailureClass(f.Class)
	if f.Class == oauth.Rejected || f.Class == oauth.Gone {
		class = FailureTransient
	}
	reason := f.Reason
	if f.Err != nil {
		reason += ": " + f.Err.Error()
	}
	return &ProviderError{
		Integration: v.r.Integration, Op: "revoke", Class: class, Status: f.Status, Code: f.Code, Reason: reason,
		RetryAfter: f.RetryAfter, err: f.Err, setup: f.Class == oauth.Rejected || blocked(f.Err),
	}
}
