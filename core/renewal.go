package core

import (
	"cmp"
	"encoding/binary"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
)

// What the end of a refresh makes of a credential.

const (
	unknownGrace  = 10 * time.Minute // how long the refresh token before the current one is kept where nothing is known of its grace
	reusableGrace = 24 * time.Hour   // and where it stays good
)

// take writes into a credential what it still needs of an answer, and reports whether that is anything. Who has got newer
// tokens meanwhile is right: perhaps a reconnect, with other scopes. But it may have left the refresh token that the
// answer has replaced.
func (r *credentialRecord) take(k *unsaved, by uint64) bool {
	next := k.answer.RefreshToken
	switch {
	case !r.RefreshToken.Equal(k.spent.RefreshToken):
		return false
	case r.still(&k.spent):
		r.renew(k, by)
	case next.IsZero() || next.Equal(r.RefreshToken):
		return false
	case r.Status == StatusInvalid: // because of the spent one
		r.renew(k, by)
	default:
		r.rotate(next, k)
	}
	return true
}

// rotate puts a refresh token in the place of the one before, which is kept while the provider may still take it.
func (r *credentialRecord) rotate(next crypto.Secret, k *unsaved) {
	r.PreviousRefreshToken, r.PreviousUntil = crypto.Secret{}, 0
	if grace := k.p.grace(); grace > 0 {
		r.PreviousRefreshToken, r.PreviousUntil = r.RefreshToken, toMillis(k.at.Add(grace))
	}
	r.RefreshToken, r.Updated = next, max(r.Updated, toMillis(k.at))
}

// grace is how long a spent refresh token may be of use.
func (p *provider) grace() time.Duration {
	if p == nil || p.OAuth2 == nil {
		return unknownGrace
	}
	switch facts := p.OAuth2.Refresh; {
	case facts.Grace > 0:
		return time.Duration(facts.Grace)
	case facts.Rotation == RotationSingleUse:
		return 0
	case facts.Rotation == RotationReusable:
		return reusableGrace
	default:
		return unknownGrace
	}
}

// renew writes a refreshed token into a credential. Whatever a refresh that ran beside this one made of its status: the
// authorisation is good.
func (r *credentialRecord) renew(k *unsaved, by uint64) {
	answer, now := k.answer, k.at
	if next := answer.RefreshToken; !next.IsZero() && !next.Equal(r.RefreshToken) {
		r.rotate(next, k)
	}
	r.AccessToken, r.Refreshed, r.ValidUntil, r.Updated = answer.AccessToken, toMillis(now), 0, toMillis(now)
	r.By = by
	if answer.TokenType != "" {
		r.TokenType = answer.TokenType
	}
	if answer.Lifetime > 0 {
		r.ValidUntil = toMillis(now.Add(answer.Lifetime))
	}
	if answer.Scopes != nil {
		r.Scopes = answer.Scopes
	}
	if r.Status != StatusPending { // connected anew beside the refresh; what it lacks it lacks still
		r.Status = StatusValid
	}
	r.settled()
}

// settled forgets failures and what was under way: the authorisation is known to be good.
func (r *credentialRecord) settled() {
	r.Intent, r.Failures, r.LastFailure, r.FailureCode = nil, 0, FailureNone, ""
	r.NextAttempt, r.Wait, r.PausedBy = 0, 0, 0
}

// failed writes a failure into a credential: its class decides. The intent is that of the attempt that failed.
func (r *credentialRecord) failed(failure *ProviderError, intent *intentRecord, by uint64, now time.Time) {
	r.Failures++
	r.LastFailure, r.FailureCode, r.Updated = failure.Class, failure.Code, toMillis(now)
	r.Intent = nil
	unknown := intent != nil && intent.Since != 0
	switch {
	case failure.Class == FailurePermanent:
		r.Status = StatusInvalid
		if unknown { // an answer was lost, and with it the refresh token that has replaced this one
			r.LastFailure = FailureIndeterminate
		}
	case intent != nil && (unknown || failure.Class == FailureIndeterminate):
		ended := *intent
		ended.Ended, ended.Since = true, cmp.Or(intent.Since, intent.Started)
		r.Intent = &ended
	}
	wait := max(backoff(r.Failures), failure.RetryAfter)
	r.NextAttempt, r.Wait, r.PausedBy = toMillis(now.Add(wait)), millis(wait/time.Millisecond), by
}

// sameAccount refuses the answer to a refresh that names another account than the one that was connected, where it names
// any (OpenID Connect Core §12.2). Nothing of it is stored.
func (p *provider) sameAccount(answer *oauth.Answer, r *credentialRecord) error {
	id := p.Integration.Identity
	var fields map[string]any
	switch {
	case r.Account.Subject == "" || r.Identified != id.fingerprint(): // it was identified in another way
		return nil
	case id.Source == IdentityToken:
		fields = answer.Fields
	case id.Source == IdentityIDToken, id.Source == IdentityURL && id.SubjectPath == "sub":
		claims := jwt.MapClaims{} // from the token endpoint itself, see idToken
		if _, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(answer.IDToken.Reveal(), claims); err == nil {
			fields = claims
		}
	}
	subject, tenant := oauth.Field(fields, id.SubjectPath), ""
	if id.TenantPath != "" && id.Source != IdentityURL {
		tenant = oauth.Field(fields, id.TenantPath)
	}
	if (subject == "" || subject == r.Account.Subject) && (tenant == "" || tenant == r.Account.Tenant) {
		return nil
	}
	return &ProviderError{
		Integration: p.Name, Op: "refresh", Class: FailureTransient, Code: CodeOtherAccount,
		Reason: "the provider answered for another account than the one that was connected; its answer was thrown away",
	}
}

// fingerprint tells one way to identify an account from another.
func (id Identity) fingerprint() uint64 {
	sum := digest("identity", strings.Join([]string{string(id.Source), id.SubjectPath, id.TenantPath}, "\x00"))
	return binary.BigEndian.Uint64(sum)
}
