package core

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// The refresh protocol, whole, once it is decided that a credential needs a refresh:
//
//  1. A lease keeps other processes from doing the same. It saves calls, and refresh tokens that may be spent once only;
//     nothing below believes in it.
//  2. The record is read again: somebody else may have been first.
//  3. An intent is written, if the lease is still held: which refresh token is about to be spent, in which attempt.
//  4. The provider is asked.
//  5. Its answer is committed on the revision of the intent. Where somebody changed the record in between, its tokens
//     decide: still those that the refresh began with, and the answer is written over the newer revision; others, and
//     they are the winner's, which are taken instead of ours. Only a new refresh token is never lost: it goes to where the
//     spent one still stands.
//  6. The lease is released.
//
// Who dies between 1 and 3 leaves a lease that runs out. Between 3 and 5 the intent is left too, and whoever comes next
// knows that the refresh token may be spent: it is tried all the same, because often it is not, or the provider has a
// grace window. An answer that says it is dead then means that the new one was lost: FailureIndeterminate.

const (
	patience   = 2 * time.Second // how long callers wait for the store to take an answer
	quick      = 2 * time.Second // an answer that is lost sooner is asked for once more at once
	maxBackoff = 5 * time.Minute
)

// attempt is the protocol from reading to writing. What was seen says which token is no longer good enough.
func (e *Engine) attempt(ctx context.Context, user string, seen *tokenRecord, why trigger) (credentialRecord, error) {
	var held *lease.Lease
	defer func() { e.letGo(ctx, user, seen.ID, held) }()
	var hindered hindered
	defer func() { hindered.end(ctx, e, telemetry.WaitAdopted) }() // whatever the other process made of the credential
	for wait := 10 * time.Millisecond; ; {
		record, rev, err := e.credential(ctx, user, seen.ID)
		if err == nil {
			err = record.usable()
		} else if !errors.Is(err, ErrNotFound) { // who keeps the lease cannot reach the store either
			e.leases.Forget("refresh", user, seen.ID)
		}
		if err != nil {
			return record, err
		}
		if k, ok := e.kept(user, &record); ok {
			ahead := record
			if ahead.take(&k, e.by) && !ahead.still(seen) && ahead.live(e.now()) { // persist sees to the store
				return ahead, ahead.usable()
			}
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
		left := e.pause(user, &record.tokenRecord, now)
		switch {
		case e.quarantined:
			return record, fmt.Errorf("credential %s needs a refresh: %w; see Options.TakeOver", record.ID, ErrQuarantined)
		case record.RefreshToken.IsZero():
			err := e.ended(ctx, user, &record, rev, "there is no refresh token")
			if conflicted(err) {
				continue
			}
			return record, err
		case left > 0:
			return record, record.heldUp(left)
		}
		if record.Intent != nil && record.Intent.Ended { // without a lease: this may go on for as long as the token is good
			if p, err := e.provider(ctx, record.Integration); err == nil && p.OAuth2 != nil {
				if err := p.putOff(&record, why, now); err != nil {
					return record, err
				}
			}
		}
		if held == nil {
			if held, err = e.leases.Acquire(ctx, "refresh", user, record.ID); err != nil {
				hindered.end(ctx, e, telemetry.WaitError)
				return record, fmt.Errorf("refresh credential %s: %w", record.ID, err)
			}
			if held == nil && e.ending.Load() { // Close waits for this
				return record, ErrClosed
			}
			if held == nil { // the credential tells when the other one is done
				hindered.begin()
				if err := pause(ctx, wait/2+rand.N(wait)); err != nil {
					hindered.end(ctx, e, telemetry.WaitTimeout)
					return record, record.busy(err)
				}
				wait = min(wait*3/2, 250*time.Millisecond)
			} else {
				hindered.end(ctx, e, telemetry.WaitAcquired)
			}
			continue
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
		if err := p.putOff(&record, why, now); err != nil {
			if lost := record.Intent; !lost.Ended { // whoever began it is gone
				e.writeLost(ctx, user, &record, rev)
			}
			return record, err
		}
		record.intend(e.boot, p, now)
		tx := e.db.Begin(ctx)
		rev = e.tables.credentials.Put(tx, &record, rev, user, record.ID)
		if err = held.Check(tx); err == nil {
			err = e.kernel.Apply(ctx, tx)
		}
		switch {
		case conflicted(err) && !errors.Is(held.Renew(ctx), lease.ErrLost):
			continue
		case conflicted(err), errors.Is(err, lease.ErrLost): // we stood still for so long that it is somebody else's by now
			held = nil
			continue
		case err != nil:
			return record, fmt.Errorf("refresh credential %s: %w", record.ID, err)
		}
		return e.carryOut(ctx, user, held, &record, rev, p, endpoint, why)
	}
}

// carryOut is the protocol from the intent on, which stands at rev. How long it took to get here cuts nothing short.
func (e *Engine) carryOut(
	ctx context.Context, user string, held *lease.Lease, record *credentialRecord, rev storage.Rev, p *provider,
	endpoint *oauth.Endpoint, why trigger,
) (credentialRecord, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*e.exchangeTime()+2*patience)
	defer cancel()
	defer held.Keep(ctx)()
	began := time.Now()
	answer, err := e.spend(ctx, endpoint, p, record)
	if err != nil {
		err = p.failure("refresh", err)
	} else {
		err = p.sameAccount(answer, record)
	}
	e.asked(ctx, p, why, began, err)
	if err != nil {
		return e.refreshFailed(ctx, user, record, p, err)
	}
	return e.write(ctx, user, record, rev, unsaved{of: record, spent: record.tokenRecord, answer: answer, at: e.now(), p: p})
}

// letGo ends the lease of an attempt, unless its answer is not stored yet: then whoever stores it ends the lease.
func (e *Engine) letGo(ctx context.Context, user, id string, held *lease.Lease) {
	if held == nil {
		return
	}
	if _, kept := e.unsaved.Load(flightKey(user, id)); kept {
		e.persist(ctx, user, id, held)
		return
	}
	if err := held.Release(ctx); err != nil {
		e.log.WarnContext(ctx, "a refresh is done, but its lease could not be released and has to run out", "credential", id, "error", err)
	}
}

// intend notes in a record what is about to be spent. What was left by an attempt before with the same refresh token says
// that it may be spent already.
func (r *credentialRecord) intend(boot string, p *provider, now time.Time) {
	since := millis(0)
	if r.spent() && p.loses() {
		since = cmp.Or(r.Intent.Since, r.Intent.Started)
	}
	r.Attempt++
	r.Intent = &intentRecord{
		Attempt: r.Attempt, Fingerprint: fingerprint(r.RefreshToken), Started: toMillis(now), Boot: boot, Since: since,
	}
}

// spent reports whether the refresh token may have been spent by an attempt before, whose outcome nobody knows.
func (r *credentialRecord) spent() bool {
	return r.Intent != nil && bytes.Equal(r.Intent.Fingerprint, fingerprint(r.RefreshToken))
}

func fingerprint(token crypto.Secret) []byte { return digest("refresh token", token.Reveal()) }

// spendsOnce reports whether a refresh token is known to be dead once it was spent, and perhaps all that stems from it.
func (p *provider) spendsOnce() bool {
	return p.OAuth2.Refresh.Rotation == RotationSingleUse && p.OAuth2.Refresh.Grace == 0
}

// loses reports whether an answer that is lost may take with it the only refresh token that is still good.
func (p *provider) loses() bool {
	return p.OAuth2.Refresh.Rotation != RotationNever && p.OAuth2.Refresh.Rotation != RotationReusable
}

// putOff is the error of a refresh that could end what is still good, because the answer to the one before was lost. A
// token that the provider refuses is not.
func (p *provider) putOff(r *credentialRecord, why trigger, now time.Time) error {
	if !r.spent() || !p.spendsOnce() || why == triggerUnauthorized || !r.live(now) {
		return nil
	}
	failed := &ProviderError{
		Integration: p.Name, Op: "refresh", Class: FailureIndeterminate,
		Reason: "the answer to a refresh before was lost; it is tried again when the token has ended",
	}
	if r.ValidUntil != 0 {
		failed.RetryAfter = r.ValidUntil.time().Sub(now)
	}
	return failed
}

// writeLost notes in a credential that nobody waits any more for the answer to its refresh. What fails is done by the
// next one.
func (e *Engine) writeLost(ctx context.Context, user string, record *credentialRecord, rev storage.Rev) {
	ended := *record.Intent
	ended.Ended, ended.Since = true, cmp.Or(ended.Since, ended.Started)
	lost := *record
	lost.Intent, lost.LastFailure, lost.Updated = &ended, FailureIndeterminate, toMillis(e.now())
	lost.Failures++
	tx := e.db.Begin(ctx)
	e.tables.credentials.Put(tx, &lost, rev, user, record.ID)
	if err := e.kernel.Apply(ctx, tx); err == nil {
		e.log.WarnContext(ctx, "the answer to a refresh was lost; it is tried again when the token has ended",
			"credential", record.ID, "integration", record.Integration)
	}
}

// spend gives the refresh token of a record to the provider. A lost answer is asked for once more, if that was quick and
// can do no harm; where the refresh token is dead, the one before is tried while the provider may still take it.
func (e *Engine) spend(
	ctx context.Context, endpoint *oauth.Endpoint, p *provider, record *credentialRecord,
) (*oauth.Answer, error) {
	once := func(token crypto.Secret) (*oauth.Answer, *oauth.Error, error) {
		ctx, cancel := context.WithTimeout(ctx, e.exchangeTime())
		defer cancel()
		answer, err := endpoint.Refresh(ctx, token)
		var refused *oauth.Error
		errors.As(err, &refused)
		return answer, refused, err
	}
	began := time.Now()
	answer, refused, err := once(record.RefreshToken)
	lost := refused != nil && refused.Class == oauth.Indeterminate && !timedOut(err)
	if lost && time.Since(began) < quick && (!p.spendsOnce() || !record.live(e.now())) {
		if pause(ctx, 500*time.Millisecond) == nil {
			answer, refused, err = once(record.RefreshToken)
		}
		if refused != nil && refused.Class != oauth.Indeterminate && p.loses() { // of the second; what became of the first, nobody knows
			record.Intent.Since = cmp.Or(record.Intent.Since, record.Intent.Started)
		}
	}
	previous := record.PreviousRefreshToken
	if refused != nil && refused.Class == oauth.Permanent && !previous.IsZero() && e.now().Before(record.PreviousUntil.time()) {
		again, dead, failed := once(previous)
		switch {
		case failed == nil:
			if again.RefreshToken.IsZero() { // it goes on with this one, not with the dead one
				again.RefreshToken = previous
			}
			return again, nil
		case dead != nil && dead.Class != oauth.Permanent: // it may be good: it is too soon to give up
			return nil, failed
		}
	}
	return answer, err
}

// timedOut reports whether a provider was given all the time there is.
func timedOut(err error) bool {
	var transport *egress.Error
	return errors.As(err, &transport) && transport.Kind == egress.Timeout
}

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

// write stores an answer in the credential as it was read at rev, or as it is by then. The answer may be the only live
// token of the account: where the store does not take it in time, it is given to the callers all the same and kept.
func (e *Engine) write(ctx context.Context, user string, current *credentialRecord, rev storage.Rev, k unsaved) (credentialRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key := flightKey(user, current.ID)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		record := *current
		if !record.take(&k, e.by) {
			if record.holdsTokens() {
				e.unsaved.Delete(key)
			} else { // given back meanwhile
				e.revokeAnswer(ctx, user, &k)
			}
			return record, record.usable()
		}
		tx := e.db.Begin(ctx)
		e.schedule(tx, user, &record, k.p)
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
				e.revokeAnswer(ctx, user, &k)
				return record, unread
			case unread == nil:
				current, rev = &newer, at
				continue
			}
		}
		if pause(ctx, wait) != nil {
			if k.err = err; ctx.Err() != nil && errors.Is(err, ctx.Err()) { // of our own, which means nothing to a caller
				k.err = fmt.Errorf("%w: no answer within %v", storage.ErrUnavailable, patience)
			}
			if _, told := e.unsaved.Swap(key, k); told {
				return record, record.usable()
			}
			e.log.ErrorContext(ctx, "a refreshed token could not be stored yet and lives in memory",
				"credential", record.ID, "integration", record.Integration, "error", k.err)
			return record, record.usable()
		}
	}
}

// refreshFailed writes down what a failed refresh means. It is believed only when the refresh token that failed is still
// the one that is stored, and nobody got an access token with it meanwhile; otherwise the winner's token is taken.
func (e *Engine) refreshFailed(ctx context.Context, user string, spent *credentialRecord, p *provider, cause error) (credentialRecord, error) {
	var failed *ProviderError
	if !errors.As(cause, &failed) {
		return *spent, cause
	}
	for {
		record, rev, err := e.credential(ctx, user, spent.ID)
		if err != nil {
			return record, err
		}
		if !record.RefreshToken.Equal(spent.RefreshToken) || !record.still(&spent.tokenRecord) {
			return record, record.usable()
		}
		told := record.FailureCode == CodeOtherAccount
		record.failed(failed, spent.Intent, e.by, e.now())
		tx := e.db.Begin(ctx)
		e.schedule(tx, user, &record, p)
		next := e.tables.credentials.Put(tx, &record, rev, user, record.ID)
		switch {
		case record.Status == StatusInvalid:
			e.tellRefresh(tx, EventInvalidated, user, &record, next, cmp.Or(failed.Code, string(failed.Class)))
		case failed.Code == CodeOtherAccount && !told:
			e.tellRefresh(tx, EventRefreshRefused, user, &record, next, failed.Code)
		}
		switch err := e.kernel.Commit(ctx, tx); {
		case conflicted(err):
			continue
		case err != nil:
			e.log.ErrorContext(ctx, "a failed refresh could not be written down", "credential", record.ID, "error", err)
		}
		e.log.WarnContext(ctx, "a token could not be refreshed", "credential", record.ID, "integration", record.Integration,
			"class", record.LastFailure, "failures", record.Failures, "error", failed)
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
	e.schedule(tx, user, record, nil)
	next := e.tables.credentials.Put(tx, record, rev, user, record.ID)
	e.tellRefresh(tx, EventInvalidated, user, record, next, "no_refresh_token")
	if err := e.kernel.Commit(ctx, tx); conflicted(err) {
		return err
	} else if err != nil {
		e.log.ErrorContext(ctx, "an ended credential could not be marked", "credential", record.ID, "error", err)
	}
	return fmt.Errorf("credential %s: %w: %s", record.ID, ErrReconnect, why)
}

// tellRefresh adds to tx what came of a refresh.
func (e *Engine) tellRefresh(tx *sealed.Tx, kind EventKind, user string, record *credentialRecord, rev storage.Rev, result string) {
	ev := kernel.Event{
		Kind: string(kind), Actor: string(ActorEngine), User: user, Integration: record.Integration, Credential: record.ID,
		Revision: uint64(rev), Cause: "refresh", Result: result,
	}
	if record.LastFailure == FailureIndeterminate {
		ev.Details = map[string]string{"lost": "refresh_token"}
	}
	e.kernel.Emit(tx, ev)
}

// backoff grows from one second to maxBackoff.
func backoff(failures int) time.Duration {
	if failures > 9 {
		return maxBackoff
	}
	return min(time.Second<<max(failures-1, 0), maxBackoff)
}
