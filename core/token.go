package core

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/polycred/polycred/core/internal/telemetry"
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
// that, is refreshed behind the call; one that has ended is refreshed first, once for all callers, in whichever goroutine
// or process they are.
//
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError, ErrReconnect for an account whose authorisation has
// ended, ErrPending, ErrDisabled for an account or a user that is, ProviderError when a refresh failed for now,
// ErrQuarantined when one is needed; ErrPermission.
func (u *User) Token(ctx context.Context, sel Selector) (Token, error) {
	record, err := u.fresh(ctx, sel)
	if err != nil {
		return Token{}, fmt.Errorf("token of %s: %w", sel, err)
	}
	u.used(ctx, record.Integration, record.ID, "token")
	u.e.telemetry.Issued(ctx, record.Integration, telemetry.UseToken)
	return record.token(), nil
}

func (r *tokenRecord) token() Token {
	return Token{Credential: r.ID, Value: r.AccessToken, Type: r.TokenType, ValidUntil: r.ValidUntil.time()}
}

// PickerToken returns a valid token of the account that sel names for a file picker of the provider, which runs in the user's
// browser: to whoever may send requests as the account (permission proxy) where Integration.PickerTokens allows that, and
// else to those who may take its token out, as Token does. That it left is an event (EventUsed, cause "picker").
// Errors: those of Token.
func (u *User) PickerToken(ctx context.Context, sel Selector) (Token, error) {
	record, err := u.pickerToken(ctx, sel)
	if err != nil {
		return Token{}, fmt.Errorf("picker token of %s: %w", sel, err)
	}
	u.used(ctx, record.Integration, record.ID, "picker")
	u.e.telemetry.Issued(ctx, record.Integration, telemetry.UseToken)
	return record.token(), nil
}

func (u *User) pickerToken(ctx context.Context, sel Selector) (tokenRecord, error) {
	whole, err := u.find(ctx, sel)
	if err != nil {
		return tokenRecord{}, err
	}
	p, err := u.e.provider(ctx, whole.Integration)
	if err != nil {
		return tokenRecord{}, err
	}
	a := actToken
	if p.PickerTokens {
		a = actUse
	}
	record, err := u.stored(ctx, Selector{Credential: whole.ID}, a)
	if err != nil {
		return record, err
	}
	return u.freshen(ctx, record)
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

// stored returns the token of the account that sel names, as it is, if the handle may do that with it; while the store
// cannot be reached, as it was.
func (u *User) stored(ctx context.Context, sel Selector, a action) (tokenRecord, error) {
	if err := u.e.checkUser(ctx, u.id); err != nil {
		return tokenRecord{}, err
	}
	if u.e == nil || u.e.last == nil || u.authority != nil {
		return u.read(ctx, sel, a)
	}
	mark := u.e.last.Begin(u.id)
	record, err := u.read(ctx, sel, a)
	if err == nil {
		u.e.last.Keep(u.id, sel, record, mark)
	} else if errors.Is(err, storage.ErrUnavailable) {
		if last, ok := u.recall(sel); ok {
			return last, nil
		}
	}
	return record, err
}

// read is stored where the store is asked.
func (u *User) read(ctx context.Context, sel Selector, a action) (tokenRecord, error) {
	if u.unbounded(a) && sel.Configuration == "" {
		if id, ok := canonicalUUID(strings.TrimSpace(sel.Credential)); ok { // the usual way: one read of the store
			if err := u.check(); err != nil {
				return tokenRecord{}, err
			}
			return u.tokenOf(ctx, sel, id)
		}
	}
	if !u.unbounded(a) || sel.byName() { // both need the whole record
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
	return u.tokenOf(ctx, sel, id)
}

// tokenOf reads the token of the account that sel was found to name.
func (u *User) tokenOf(ctx context.Context, sel Selector, id string) (tokenRecord, error) {
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

// freshen returns a token that can be used in place of one that was read. One that is due is refreshed behind the call;
// one that has ended, first. One that another process obtained may have ended although our clock says otherwise: it is
// refreshed first too, if that can be done within a moment.
func (u *User) freshen(ctx context.Context, record tokenRecord) (tokenRecord, error) {
	if err := record.usable(); err != nil {
		return record, err
	}
	e, now := u.e, u.e.now()
	skew := e.skew(&record)
	if !record.due(now, skew) {
		return record, nil
	}
	seen := record // a copy of its own: on the usual path above nothing of the record goes to the heap
	switch {
	case record.live(now.Add(skew)), record.live(now) && record.RefreshToken.IsZero():
		e.refreshBehind(ctx, u.id, &seen)
		return record, nil
	case !record.live(now):
		return e.refresh(ctx, u.id, &seen, triggerCaller)
	}
	short, cancel := context.WithTimeout(ctx, doubt)
	defer cancel()
	fresh, err := e.refresh(short, u.id, &seen, triggerCaller)
	for _, ended := range []error{ErrReconnect, ErrDisabled, ErrPending, ErrNotFound, ErrClosed} {
		if err == nil || errors.Is(err, ended) {
			return fresh, err
		}
	}
	return record, ctx.Err()
}

// due reports whether it is time to refresh: less is left than margin, or than clocks may differ. A token without a
// known end is never due; only a 401 tells.
func (r *tokenRecord) due(now time.Time, skew time.Duration) bool {
	if r.ValidUntil == 0 {
		return false
	}
	leeway := clockLeeway
	if skew > 0 {
		leeway += mostSkew
	}
	if r.Refreshed-toMillis(now) > millis(leeway/time.Millisecond) { // the clock went back: nobody knows the end
		return true
	}
	return r.ValidUntil-toMillis(now) < max(r.margin(), millis(skew/time.Millisecond*11/10))
}

// margin is how long before its end a token is refreshed: min(max(5 minutes, 20 %), 50 %) of the lifetime, give or take a
// tenth, so that accounts that were connected together do not all refresh together.
func (r *tokenRecord) margin() millis {
	lifetime := r.ValidUntil - r.Refreshed
	margin := min(max(millis(5*time.Minute/time.Millisecond), lifetime/5), lifetime/2)
	return margin + margin*millis(r.jitter())/1000
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
