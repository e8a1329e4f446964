package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"golang.org/x/oauth2"
)

// Token is what acts as one account: an access token, or an API key.
type Token struct {
	Credential string        // the id of the account it acts as
	Value      crypto.Secret // Reveal only where it goes into a request
	Type       string        // as the provider called it: "Bearer"; empty for an API key
	ValidUntil time.Time     // zero when it has no known end
}

// Token returns a valid token of the account that sel names. Usually that is one read of the store. A token with less
// than a fifth of its lifetime left, or 5 minutes if that is longer but at most half of it, give or take a tenth of
// that, is refreshed behind the call; one that has ended is refreshed first, once for all callers of the engine.
//
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError, ErrReconnect for an account whose authorisation has
// ended, ErrPending, ProviderError when a refresh failed for now, ErrQuarantined when one is needed; ErrPermission.
func (u *User) Token(ctx context.Context, sel Selector) (Token, error) {
	record, err := u.fresh(ctx, sel)
	if err != nil {
		return Token{}, fmt.Errorf("token of %s: %w", sel, err)
	}
	u.used(ctx, record.Integration, record.ID, "token")
	return record.token(), nil
}

func (r *tokenRecord) token() Token {
	return Token{Credential: r.ID, Value: r.AccessToken, Type: r.TokenType, ValidUntil: r.ValidUntil.time()}
}

// TokenSource returns a source of tokens of exactly the account that sel names, for libraries that take one. It resolves
// sel now; each Token call then does what User.Token does, with ctx, and its result holds no refresh token. It keeps
// the token fresh itself, so do not put a cache before it: build a client as &http.Client{Transport:
// &oauth2.Transport{Source: source}}, not with oauth2.NewClient or oauth2.ReuseTokenSource, which keep a token beyond a
// disconnect. An expiry is by Options.Now, oauth2.Token.Valid goes by real time. It may be used concurrently.
// Errors: those of User.Credential, ErrPermission.
func (u *User) TokenSource(ctx context.Context, sel Selector) (oauth2.TokenSource, error) {
	record, err := u.find(ctx, sel)
	if err != nil {
		return nil, fmt.Errorf("token source of %s: %w", sel, err)
	}
	if err := u.allow(actToken, &record); err != nil {
		return nil, fmt.Errorf("token source of %s: %w", sel, err)
	}
	return tokenSource{ctx: ctx, u: u, sel: Selector{Credential: record.ID}}, nil
}

// tokenSource keeps a context because oauth2.TokenSource has no place to pass one.
type tokenSource struct {
	ctx context.Context
	u   *User
	sel Selector
}

func (s tokenSource) Token() (*oauth2.Token, error) {
	token, err := s.u.Token(s.ctx, s.sel)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token.Value.Reveal(), TokenType: token.Type, Expiry: token.ValidUntil}, nil
}

// fresh returns the token of the account that sel names, refreshed where it has ended.
func (u *User) fresh(ctx context.Context, sel Selector) (tokenRecord, error) {
	record, err := u.stored(ctx, sel, actToken)
	if err != nil {
		return record, err
	}
	return u.freshen(ctx, record)
}

// stored returns the token of the account that sel names, as it is, if the handle may do that with it.
func (u *User) stored(ctx context.Context, sel Selector, a action) (tokenRecord, error) {
	if u.authority != nil || sel.byName() { // both need the whole record
		whole, err := u.find(ctx, sel)
		if err == nil {
			err = u.allow(a, &whole)
		}
		if err != nil {
			return tokenRecord{}, err
		}
		return whole.tokenRecord, nil
	}
	id, _, err := u.locate(ctx, sel)
	if err != nil {
		return tokenRecord{}, err
	}
	record, err := u.e.token(ctx, u.id, id)
	if err == nil {
		err = sel.fits(id, record.Integration)
	}
	return record, err
}

// token reads the token of one credential of a user.
func (e *Engine) token(ctx context.Context, user, id string) (tokenRecord, error) {
	record, _, err := e.tables.tokens.Get(ctx, user, id)
	if errors.Is(err, storage.ErrNotFound) {
		return record, fmt.Errorf("credential %s: %w", clip(id), ErrNotFound)
	}
	return record, err
}

// freshen returns a token that can be used in place of one that was read.
func (u *User) freshen(ctx context.Context, record tokenRecord) (tokenRecord, error) {
	if err := record.usable(); err != nil {
		return record, err
	}
	now := u.e.now()
	if !record.due(now) {
		return record, nil
	}
	seen := record // a copy of its own: on the usual path above nothing of the record goes to the heap
	if record.live(now) {
		u.e.refreshBehind(ctx, u.id, &seen)
		return record, nil
	}
	return u.e.refresh(ctx, u.id, &seen)
}

// due reports whether it is time to refresh: less is left than min(max(5 minutes, 20 %), 50 %) of the lifetime, give or
// take a tenth, so that accounts that were connected together do not all refresh together. A token without a known end
// is never due; only a 401 tells.
func (r *tokenRecord) due(now time.Time) bool {
	if r.ValidUntil == 0 {
		return false
	}
	if r.Refreshed-toMillis(now) > millis(clockLeeway/time.Millisecond) { // the clock went back: nobody knows the end
		return true
	}
	lifetime := r.ValidUntil - r.Refreshed
	margin := min(max(millis(5*time.Minute/time.Millisecond), lifetime/5), lifetime/2)
	margin += margin * millis(r.jitter()) / 1000
	return r.ValidUntil-millis(now.UnixMilli()) < margin
}

// waits reports whether the next attempt to refresh is still to come. One further away than any backoff or Retry-After
// was set before the clock went back.
func (r *tokenRecord) waits(now time.Time) bool {
	wait := r.NextAttempt - millis(now.UnixMilli())
	return wait > 0 && wait <= millis(24*time.Hour/time.Millisecond)
}

// live reports whether the token can still be used, with a moment left for the request to arrive.
func (r *tokenRecord) live(now time.Time) bool {
	if r.ValidUntil == 0 {
		return true
	}
	moment := min(millis(10*time.Second/time.Millisecond), (r.ValidUntil-r.Refreshed)/10)
	return r.ValidUntil-millis(now.UnixMilli()) > moment
}

// jitter is between -100 and 100, by the random end of the id and the time of the last refresh.
func (r *tokenRecord) jitter() int {
	h := uint64(r.Refreshed)
	for i := max(len(r.ID)-12, 0); i < len(r.ID); i++ {
		h = (h ^ uint64(r.ID[i])) * 1099511628211 // FNV-1a
	}
	return int(h>>33%201) - 100
}
