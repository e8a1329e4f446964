package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
// somebody changed the record in between, its tokens decide: still those that the refresh began with, and the answer is
// written over the newer revision; others, and they are the winner's, which are taken instead of ours. Only a new refresh
// token is never lost: it goes to where the spent one still stands.

const (
	previousGrace = 10 * time.Minute // how long the refresh token before the current one is kept
	forceInterval = time.Minute      // a 401 sooner after a refresh than this is passed on
	maxBackoff    = 5 * time.Minute
	patience      = 2 * time.Second // how long callers wait for the store to take an answer
)

// flown is what came of a refresh, and the token that it began with.
type flown struct{ seen, record tokenRecord }

// refresh returns the credential with a new token, or why there is none. The refresh under way that it joins may have
// begun before the record was read that was seen, when another account stood there: that one's result is not believed.
// Those after it read what is there now, and are, unless they found nothing but what was seen.
func (e *Engine) refresh(ctx context.Context, user string, seen *tokenRecord) (tokenRecord, error) {
	for first := true; ; first = false {
		select {
		case r := <-e.flight(ctx, user, seen):
			f, ok := r.Val.(flown) // save brings none
			if ok && (f.seen.still(seen) || !first && (r.Err != nil || !f.record.still(seen))) {
				return f.record, r.Err
			}
		case <-ctx.Done():
			return tokenRecord{}, ctx.Err()
		}
	}
}

// still reports whether the token is the one that was seen. The time counts too: some providers answer with the same
// access token for longer.
func (r *tokenRecord) still(seen *tokenRecord) bool {
	return r.AccessToken.Equal(seen.AccessToken) && r.Refreshed == seen.Refreshed
}

// flightKey names a credential among the refreshes under way. No user id holds a NUL.
func flightKey(user, id string) string { return user + "\x00" + id }

// flight begins a refresh, or joins the one under way. Nobody has to read the result.
func (e *Engine) flight(ctx context.Context, user string, record *tokenRecord) <-chan singleflight.Result {
	seen := *record
	return e.refreshes.DoChan(flightKey(user, seen.ID), func() (any, error) {
		done, err := e.begin()
		if err != nil {
			return flown{seen: seen}, err
		}
		defer done()
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.exchangeTime())
		defer cancel()
		refreshed, err := e.refreshOnce(detached, user, &seen)
		return flown{seen, refreshed.tokenRecord}, err
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
			record, err = e.write(ctx, user, &record, rev, k)
			if better := !record.still(seen); err != nil || better && record.live(e.now()) {
				return record, err
			} else if better {
				seen = &record.tokenRecord
			}
			// The kept token is no longer good enough either. Its refresh token is spent only once it is stored.
			if k, ok := e.unsaved.Load(flightKey(user, record.ID)); ok {
				return record, fmt.Errorf("credential %s: its refreshed token could not be stored: %w", record.ID, k.(unsaved).err)
			}
			continue
		}
		if !record.still(seen) { // somebody else was first
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
		p, err := e.freshProvider(ctx, record.Integration) // the account may be newer than what is in the cache
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
		if err := e.kernel.Apply(ctx, tx); conflicted(err) {
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

// refreshed commits what the provider answered at a time to the refresh token of spent.
func (e *Engine) refreshed(ctx context.Context, user string, spent *credentialRecord, rev storage.Rev, answer *oauth.Answer, now time.Time) (credentialRecord, error) {
	return e.write(ctx, user, spent, rev, unsaved{spent: spent.tokenRecord, answer: answer, at: now})
}

// write stores an answer in the credential as it was read at rev, or as it is by then. The answer may be the only live
// token of the account: where the store does not take it in time, it is given to the callers all the same and kept.
func (e *Engine) write(ctx context.Context, user string, current *credentialRecord, rev storage.Rev, k unsaved) (credentialRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key := flightKey(user, current.ID)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		record := *current
		if !record.take(&k) {
			e.unsaved.Delete(key)
			return record, record.usable()
		}
		tx := e.db.Begin(ctx)
		e.tables.credentials.Put(tx, &record, rev, user, record.ID)
		err := e.kernel.Apply(ctx, tx)
		if err == nil {
			e.unsaved.Delete(key)
			return record, record.usable()
		}
		if conflicted(err) {
			newer, at, unread := e.credential(ctx, user, record.ID)
			switch {
			case errors.Is(unread, ErrNotFound): // disconnected meanwhile
				e.unsaved.Delete(key)
				return record, unread
			case unread == nil:
				current, rev = &newer, at
				continue
			}
		}
		if pause(ctx, wait) != nil {
			k.err = err
			e.unsaved.Store(key, k)
			e.log.ErrorContext(ctx, "a refreshed token could not be stored yet and lives in memory",
				"credential", record.ID, "integration", record.Integration, "error", err)
			return record, record.usable()
		}
	}
}

// take writes into a credential what it still needs of an answer, and reports whether that is anything. Who has got newer
// tokens meanwhile is right: perhaps a reconnect, with other scopes. But it may have left the refresh token that the
// answer has replaced.
func (r *credentialRecord) take(k *unsaved) bool {
	next := k.answer.RefreshToken
	switch {
	case !r.RefreshToken.Equal(k.spent.RefreshToken):
		return false
	case r.still(&k.spent):
		r.renew(k.answer, k.at)
	case next.IsZero() || next.Equal(r.RefreshToken):
		return false
	case r.Status == StatusInvalid: // because of the spent one
		r.renew(k.answer, k.at)
	default:
		r.rotate(next, k.at)
	}
	return true
}

// rotate puts a refresh token in the place of the one before.
func (r *credentialRecord) rotate(next crypto.Secret, now time.Time) {
	r.PreviousRefreshToken, r.PreviousUntil = r.RefreshToken, toMillis(now.Add(previousGrace))
	r.RefreshToken, r.Updated = next, max(r.Updated, toMillis(now))
}

// renew writes a refreshed token into a credential. Whatever a refresh that ran beside this one made of its status: the
// authorisation is good.
func (r *credentialRecord) renew(answer *oauth.Answer, now time.Time) {
	if next := answer.RefreshToken; !next.IsZero() && !next.Equal(r.RefreshToken) {
		r.rotate(next, now)
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
		if !record.RefreshToken.Equal(spent.RefreshToken) || !record.still(&spent.tokenRecord) {
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
