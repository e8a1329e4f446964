package core

import (
	"context"
	"fmt"
	"time"

	"github.com/polycred/polycred/core/internal/telemetry"
	"golang.org/x/sync/singleflight"
)

// Who wants a refresh. Within a process one refresh of a credential runs at a time, on a context of its own: nobody who
// waits can cancel it for the others. What it does stands in attempt.go.

// trigger is why a refresh began.
type trigger string

const (
	triggerCaller       trigger = "caller"       // somebody wants the token, now or soon
	triggerAhead        trigger = "ahead"        // it will end soon, or its refresh token will of idleness
	triggerUnauthorized trigger = "unauthorized" // the provider refused the token
)

const (
	forceInterval = time.Minute     // a 401 sooner after a refresh than this is passed on, unless the provider has an interval of its own
	doubt         = 2 * time.Second // how long a caller waits for a refresh of a token that is good by our clock
	mostSkew      = 10 * time.Minute
)

// flown is what came of a refresh, and the token that it began with.
type flown struct{ seen, record tokenRecord }

// refresh returns the credential with a new token, or why there is none. The refresh under way that it joins may have
// begun before the record was read that was seen, when another account stood there: that one's result is not believed.
// Those after it read what is there now, and are, unless they found nothing but what was seen.
func (e *Engine) refresh(ctx context.Context, user string, seen *tokenRecord, why trigger) (tokenRecord, error) {
	for first := true; ; first = false {
		select {
		case r := <-e.flight(ctx, user, seen, why):
			f := r.Val.(flown)
			if f.seen.still(seen) || !first && (r.Err != nil || !f.record.still(seen)) {
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
func (e *Engine) flight(ctx context.Context, user string, record *tokenRecord, why trigger) <-chan singleflight.Result {
	seen := *record
	return e.refreshes.DoChan(flightKey(user, seen.ID), func() (any, error) {
		done, err := e.begin()
		if err != nil {
			return flown{seen: seen}, err
		}
		defer done()
		// Long enough to see another process's lease run out, and the one after that; asking has a time of its own.
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*e.opts.LeaseTTL+2*e.exchangeTime())
		defer cancel()
		detached, span := e.telemetry.Start(detached, telemetry.SpanRefresh, seen.Integration, seen.ID)
		defer span.End()
		span.Trigger(telemetry.Trigger(why))
		refreshed, err := e.attempt(detached, user, &seen, why)
		span.Result(resultOf(err))
		return flown{seen, refreshed.tokenRecord}, err
	})
}

// refreshBehind refreshes without anybody waiting; what goes wrong is in the log and in the credential.
func (e *Engine) refreshBehind(ctx context.Context, user string, seen *tokenRecord) {
	if e.quarantined || seen.RefreshToken.IsZero() || e.pause(user, seen, e.now()) > 0 {
		return
	}
	key := flightKey(user, seen.ID)
	if _, busy := e.behind.LoadOrStore(key, nil); busy { // each that joined would be remembered until the provider answers
		return
	}
	flight := e.flight(ctx, user, seen, triggerCaller)
	go func() {
		<-flight
		e.behind.Delete(key)
	}()
}

// forceRefresh is for a 401: the provider ended a token that looked good. It reports whether there is another one now.
func (e *Engine) forceRefresh(ctx context.Context, user string, seen *tokenRecord, p *provider) (tokenRecord, bool) {
	if e.quarantined || seen.RefreshToken.IsZero() || !e.mayForce(user, seen, p, e.now()) {
		return tokenRecord{}, false
	}
	record, err := e.refresh(ctx, user, seen, triggerUnauthorized)
	return record, err == nil && !record.AccessToken.Equal(seen.AccessToken)
}

// mayForce reports whether a token is old enough to be refreshed although it looks good. How old one is that another
// process obtained, only that process's clock tells; so it must be older than clocks differ, or have been watched.
func (e *Engine) mayForce(user string, seen *tokenRecord, p *provider, now time.Time) bool {
	interval := forceInterval
	if p.OAuth2 != nil && p.OAuth2.Refresh.MinInterval > 0 {
		interval = time.Duration(p.OAuth2.Refresh.MinInterval)
	}
	age := now.Sub(seen.Refreshed.time())
	if !e.foreign(seen) {
		return age < 0 || age >= interval // below 0 the clock went back
	}
	return age >= interval+mostSkew || e.watched.Still([]string{"forced", user, seen.ID}, uint64(seen.Refreshed), now) >= interval
}

// replaced is for a 403: some providers end the old token with the refresh and then refuse it like this. It asks for no
// refresh, but waits for one that is under way, and reports whether there is another token now than the one seen.
func (e *Engine) replaced(ctx context.Context, user string, seen *tokenRecord) (tokenRecord, bool) {
	var record tokenRecord
	var err error
	if seen.due(e.now(), e.skew(seen)) && !e.quarantined && !seen.RefreshToken.IsZero() { // then one is under way, or was just now
		record, err = e.refresh(ctx, user, seen, triggerCaller)
	} else if record, err = e.token(ctx, user, seen.ID); err == nil {
		err = record.usable()
	}
	return record, err == nil && !record.AccessToken.Equal(seen.AccessToken)
}

// foreign reports whether the times of a token are by a clock that need not be ours.
func (e *Engine) foreign(r *tokenRecord) bool { return r.By != e.by && !e.exclusive }

// skew is by how much the times of a token may differ from our clock. Nobody can use a token for long whose whole life is
// no longer than that.
func (e *Engine) skew(r *tokenRecord) time.Duration {
	if !e.foreign(r) {
		return 0
	}
	return min(mostSkew, time.Duration(r.ValidUntil-r.Refreshed)*time.Millisecond/3) // whole from half an hour on
}

// pause returns how long it is until the next attempt to refresh may be made, after one failed: 0 or less: now. A pause
// that another clock set lasts as long here as there, from when it was seen.
func (e *Engine) pause(user string, r *tokenRecord, now time.Time) time.Duration {
	if r.NextAttempt == 0 {
		return 0
	}
	left, length := time.Duration(r.NextAttempt-toMillis(now))*time.Millisecond, time.Duration(r.Wait)*time.Millisecond
	switch own := r.PausedBy == e.by || e.exclusive; {
	case left < -mostSkew, own && left <= length:
		return left
	case own: // our clock went back
		return 0
	}
	// Who sees it late does not wait for all of it again: clocks differ by so much and no more.
	return min(length-e.watched.Still([]string{"pause", user, r.ID}, uint64(r.NextAttempt), now), left+mostSkew)
}

// heldUp is the error of a refresh whose pause is not over.
func (r *credentialRecord) heldUp(left time.Duration) error {
	return &ProviderError{
		Integration: r.Integration, Op: "refresh", Class: r.LastFailure,
		Reason:     "the last refresh failed; the next attempt is at " + r.NextAttempt.time().Format(time.RFC3339),
		RetryAfter: left,
	}
}

// busy is the error of a refresh for which another process keeps the lease.
func (r *credentialRecord) busy(err error) error {
	return &ProviderError{
		Integration: r.Integration, Op: "refresh", Class: FailureTransient,
		Reason: fmt.Sprintf("another process has been refreshing it for too long: %v", err), RetryAfter: time.Second,
	}
}
