package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
	"golang.org/x/sync/singleflight"
)

// The refresh protocol, whole. Within a process one refresh of a credential runs at a time, on a context of its own:
// nobody who waits can cancel it for the others. Before the provider is asked, an intent is written: which refresh token
// is about to be spent, in which attempt. What the provider answered is committed on the revision of that intent; where
// somebody changed the record in between, the refresh token decides: still the one that was spent, and the answer is
// written over the newer revision; another one, and the winner's token is taken instead of ours.

const (
	previousGrace = 10 * time.Minute // how long the refresh token before the current one is kept
	forceInterval = time.Minute      // a 401 sooner after a refresh than this is passed on
	maxBackoff    = 5 * time.Minute
	patience      = 2 * time.Second // how long callers wait for the store to take an answer
)

// refresh returns the credential with a new token, or why there is none.
func (e *Engine) refresh(ctx context.Context, user string, seen *tokenRecord) (tokenRecord, error) {
	select {
	case r := <-e.flight(ctx, user, seen):
		return r.Val.(tokenRecord), r.Err
	case <-ctx.Done():
		return tokenRecord{}, ctx.Err()
	}
}

// flightKey names a credential among the refreshes under way. No user id holds a NUL.
func flightKey(user, id string) string { return user + "\x00" + id }

// flight begins a refresh, or joins the one under way. Nobody has to read the result.
func (e *Engine) flight(ctx context.Context, user string, record *tokenRecord) <-chan singleflight.Result {
	seen := *record
	return e.refreshes.DoChan(flightKey(user, seen.ID), func() (any, error) {
		done, err := e.begin()
		if err != nil {
			return tokenRecord{}, err
		}
		defer done()
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.exchangeTime())
		defer cancel()
		refreshed, err := e.refreshOnce(detached, user, &seen)
		return refreshed.tokenRecord, err
	})
}

// refreshBehind refreshes without anybody waiting; what goes wrong is in the log and in the credential.
func (e *Engine) refreshBehind(ctx context.Context, user string, seen *tokenRecord) {
	if e.quarantined || seen.RefreshToken.IsZero() || seen.waits(e.now()) {
		return
	}
	key := flightKey(user, seen.ID)
	if _, busy := e.behind.LoadOrStore(key, nil); busy { // each that joined would be remembered until the provider answers
		return
	}
	flight := e.flight(ctx, user, seen)
	go func() {
		<-flight
		e.behind.Delete(key)
	}()
}

// forceRefresh is for a 401: the provider ended a token that looked good. It reports whether there is another one now.
func (e *Engine) forceRefresh(ctx context.Context, user string, seen *tokenRecord) (tokenRecord, bool) {
	age := e.now().Sub(seen.Refreshed.time())
	if e.quarantined || seen.RefreshToken.IsZero() || (age >= 0 && age < forceInterval) { // below 0 the clock went back
		return tokenRecord{}, false
	}
	record, err := e.refresh(ctx, user, seen)
	return record, err == nil && !record.AccessToken.Equal(seen.AccessToken)
}

// replaced is for a 403: some providers end the old token with the refresh and then refuse it like this. It asks for no
// refresh, but waits for one that is under way, and reports whether there is another token now than the one seen.
func (e *Engine) replaced(ctx context.Context, user string, seen *tokenRecord) (tokenRecord, bool) {
	var record tokenRecord
	var err error
	if seen.due(e.now()) && !e.quarantined && !seen.RefreshToken.IsZero() { // then one is under way, or was just now
		record, err = e.refresh(ctx, user, seen)
	} else if record, err = e.token(ctx, user, seen.ID); err == nil {
		err = record.usable()
	}
	return record, err == nil && !record.AccessToken.Equal(seen.AccessToken)
}

// refreshOnce is the protocol from reading to writing. What was seen says which token is no longer good enough.
func (e *Engine) refreshOnce(ctx context.Context, user string, seen *tokenRecord) (credentialRecord, error) {
	for {
		record, rev, err := e.credential(ctx, user, seen.ID)
		if err != nil {
			return record, err
		}
		if err := record.usable(); err != nil {
			return record, err
		}
		if k, ok := e.kept(user, &record); ok {
			if record, err = e.refreshed(ctx, user, &record, rev, k.answer, k.at); err != nil || record.live(e.now()) {
				return record, err
			}
			// The kept token has ended too. Its refresh token is spent only once it is stored.
			if k, still := e.kept(user, &record); still {
				return record, fmt.Errorf("credential %s: its refreshed token could not be stored: %w", record.ID, k.err)
			}
			seen = &record.tokenRecord
			continue
		}
		// Somebody else was first. The time counts too: some providers answer with the same access token for longer.
		if !record.AccessToken.Equal(seen.AccessToken) || record.Refreshed != seen.Refreshed {
			return record, nil
		}
		now := e.now()
		switch {
		case e.quarantined:
			return record, fmt.Errorf("credential %s needs a refresh: %w; see Options.TakeOver", record.ID, ErrQuarantined)
		case record.RefreshToken.IsZero():
			err := e.ended(ctx, user, &record, rev, "there is no refresh token")
			if conflicted(err) {
				continue
			}
			return record, err
		case record.waits(now):
			return record, &ProviderError{
				Integration: record.Integration, Op: "refresh", Class: record.LastFailure,
				Reason:     "the last refresh failed; the next attempt is at " + record.NextAttempt.time().Format(time.RFC3339),
				RetryAfter: record.NextAttempt.time().Sub(now),
			}
		}
		p, err := e.provider(ctx, record.Integration)
		if err != nil {
			return record, err
		}
		if p.OAuth2 == nil {
			return record, p.problem("refresh", FailureTransient, "the integration has no OAuth any more")
		}
		endpoint, err := e.refreshEndpoint(ctx, p, &record)
		if err != nil { // the integration is not complete; the account is as good as before
			return record, err
		}

		record.Attempt++
		record.Intent = &intentRecord{
			Attempt: record.Attempt, Fingerprint: fingerprint(record.RefreshToken), Started: toMillis(now), Boot: e.boot,
		}
		tx := e.db.Begin(ctx)
		rev = e.tables.credentials.Put(tx, &record, rev, user, record.ID)
		if err := tx.Commit(ctx); conflicted(err) {
			continue
		} else if err != nil {
			return record, fmt.Errorf("refresh credential %s: %w", record.ID, err)
		}
		answer, err := endpoint.Refresh(ctx, record.RefreshToken)
		if err != nil {
			return e.refreshFailed(ctx, user, &record, rev, p.failure("refresh", err))
		}
		return e.refreshed(ctx, user, &record, rev, answer, e.now())
	}
}

func fingerprint(token crypto.Secret) []byte { return digest("refresh token", token.Reveal()) }

// refreshEndpoint is where the tokens of an account are refreshed.
func (e *Engine) refreshEndpoint(ctx context.Context, p *provider, record *credentialRecord) (*oauth.Endpoint, error) {
	tokenURL, err := p.tokenURL(record.Variables)
	if err != nil {
		return nil, err
	}
	if record.ClientID != p.OAuth2.ClientID {
		// A refresh token is bound to the client it was given to (RFC 6749 §6); spending it as another one would end the
		// account although nothing is wrong with it.
		return nil, &ProviderError{
			Integration: p.Name, Op: "refresh", Class: FailureTransient, setup: true,
			Reason: "the integration's client id is another than the account was connected with: set it back, or have the account reconnected",
		}
	}
	return e.tokenEndpoint(ctx, p, "refresh", tokenURL)
}

// tokenURL is where the tokens of an account come from: the host that the provider named when it was connected, where
// the integration lists one.
func (p *provider) tokenURL(vars map[string]string) (string, error) {
	u, err := p.token.Expand(vars)
	if err != nil {
		return "", valueError(err)
	}
	for _, sent := range p.SentHosts {
		if origin := vars[sent.Field]; sent.TokenHost && origin != "" {
			base, err := url.Parse(origin)
			if err != nil {
				return "", err
			}
			u.Scheme, u.Host = base.Scheme, base.Host
		}
	}
	return u.String(), nil
}

// refreshed commits what the provider answered at a time. It may be the only live token of the account: where the store
// does not take it in time, it is given to the callers all the same and kept (see unsaved).
func (e *Engine) refreshed(ctx context.Context, user string, spent *credentialRecord, rev storage.Rev, answer *oauth.Answer, now time.Time) (credentialRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key, record := flightKey(user, spent.ID), *spent
	record.renew(answer, now)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		tx := e.db.Begin(ctx)
		e.tables.credentials.Put(tx, &record, rev, user, record.ID)
		err := tx.Commit(ctx)
		if err == nil {
			e.unsaved.Delete(key)
			return record, nil
		}
		if conflicted(err) || errors.Is(err, storage.ErrUnknownOutcome) {
			current, newer, unread := e.credential(ctx, user, spent.ID)
			switch {
			case errors.Is(unread, ErrNotFound): // disconnected meanwhile
				return record, unread
			case unread == nil && !current.RefreshToken.Equal(spent.RefreshToken):
				return current, current.usable()
			case unread == nil:
				record, rev = current, newer
				record.renew(answer, now)
				if conflicted(err) {
					continue
				}
			}
		}
		if pause(ctx, wait) != nil {
			e.unsaved.Store(key, unsaved{spent.RefreshToken, answer, now, err})
			e.log.ErrorContext(ctx, "a refreshed token could not be stored yet and lives in memory",
				"credential", spent.ID, "integration", spent.Integration, "error", err)
			return record, nil
		}
	}
}

// renew writes a refreshed token into a credential. Whatever a refresh that ran beside this one made of its status: the
// authorisation is good.
func (r *credentialRecord) renew(answer *oauth.Answer, now time.Time) {
	if next := answer.RefreshToken; !next.IsZero() && !next.Equal(r.RefreshToken) {
		r.PreviousRefreshToken, r.PreviousUntil = r.RefreshToken, toMillis(now.Add(previousGrace))
		r.RefreshToken = next
	}
	r.AccessToken, r.Refreshed, r.ValidUntil, r.Updated = answer.AccessToken, toMillis(now), 0, toMillis(now)
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
	r.Intent, r.Failures, r.LastFailure, r.NextAttempt = nil, 0, FailureNone, 0
}

// refreshFailed writes down what a failed refresh means. It is believed only when the refresh token that failed is still
// the one that is stored, and nobody got an access token with it meanwhile; otherwise the winner's token is taken.
func (e *Engine) refreshFailed(ctx context.Context, user string, spent *credentialRecord, rev storage.Rev, cause error) (credentialRecord, error) {
	var failed *ProviderError
	if !errors.As(cause, &failed) {
		return *spent, cause
	}
	for {
		record, current, err := e.credential(ctx, user, spent.ID)
		if err != nil {
			return record, err
		}
		if !record.RefreshToken.Equal(spent.RefreshToken) || !record.AccessToken.Equal(spent.AccessToken) {
			return record, record.usable()
		}
		now := e.now()
		record.Failures++
		record.LastFailure, record.Updated = failed.Class, toMillis(now)
		if failed.Class == FailurePermanent {
			record.Status = StatusInvalid
		}
		if failed.Class != FailureIndeterminate {
			record.Intent = nil
		}
		record.NextAttempt = toMillis(now.Add(max(backoff(record.Failures), failed.RetryAfter)))
		tx := e.db.Begin(ctx)
		next := e.tables.credentials.Put(tx, &record, current, user, record.ID)
		if record.Status == StatusInvalid {
			e.tellInvalidated(tx, user, &record, next, cmp.Or(failed.Code, string(failed.Class)))
		}
		switch err := e.kernel.Commit(ctx, tx); {
		case conflicted(err):
			continue
		case err != nil:
			e.log.ErrorContext(ctx, "a failed refresh could not be written down", "credential", record.ID, "error", err)
		}
		e.log.WarnContext(ctx, "a token could not be refreshed", "credential", record.ID, "integration", record.Integration,
			"class", failed.Class, "failures", record.Failures, "error", failed)
		if record.Status == StatusInvalid {
			return record, fmt.Errorf("credential %s: %w (%v)", record.ID, ErrReconnect, failed)
		}
		return record, failed
	}
}

// ended marks a credential whose token ran out and cannot be refreshed. A conflict is returned as it is: somebody may
// have just connected the account again.
func (e *Engine) ended(ctx context.Context, user string, record *credentialRecord, rev storage.Rev, why string) error {
	record.Status, record.LastFailure, record.Updated = StatusInvalid, FailurePermanent, toMillis(e.now())
	tx := e.db.Begin(ctx)
	next := e.tables.credentials.Put(tx, record, rev, user, record.ID)
	e.tellInvalidated(tx, user, record, next, "no_refresh_token")
	if err := e.kernel.Commit(ctx, tx); conflicted(err) {
		return err
	} else if err != nil {
		e.log.ErrorContext(ctx, "an ended credential could not be marked", "credential", record.ID, "error", err)
	}
	return fmt.Errorf("credential %s: %w: %s", record.ID, ErrReconnect, why)
}

// tellInvalidated adds to tx that a credential has lost its authorisation.
func (e *Engine) tellInvalidated(tx *sealed.Tx, user string, record *credentialRecord, rev storage.Rev, result string) {
	e.kernel.Emit(tx, kernel.Event{
		Kind: string(EventInvalidated), Actor: string(ActorEngine), User: user, Integration: record.Integration, Credential: record.ID,
		Revision: uint64(rev), Cause: "refresh", Result: result,
	})
}

// backoff grows from one second to maxBackoff.
func backoff(failures int) time.Duration {
	if failures > 9 {
		return maxBackoff
	}
	return min(time.Second<<max(failures-1, 0), maxBackoff)
}
