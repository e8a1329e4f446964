package core

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// maxParam is the most bytes that a parameter of a callback may have.
const maxParam = 8 << 10

// CallbackInput is what came in at the redirect URI.
type CallbackInput struct {
	Integration string     // the last element of the path
	Values      url.Values // the query, or the form of a POST
	Browser     string     // what ConnectInput.Browser or BeginConnect was given, as this browser presents it
}

// ConnectResult is what came of a connect session.
type ConnectResult struct {
	User       string
	Credential Credential // zero beside an error
	ReturnURL  string     // as ConnectInput had it
	Began      time.Time  // when the session was begun; zero where only Callback knows of it
	Replayed   bool       // the session was finished before; this is what came of it then
}

// Callback finishes a connect session: it checks that state, integration and browser belong together, spends the code,
// finds out which account answered, applies the rules and stores the credential, all or nothing.
//
// A session is good for one callback. The same browser coming again gets the stored outcome and nothing is exchanged:
// an error then has the text and the sentinel of the first time, but not its type; while the exchange runs it waits.
// Once the browser has matched, a result with User and ReturnURL stands beside the error too, so that the person can be
// led back.
//
// Errors: InputError; ErrSession for an unknown, foreign or lost session, ErrSessionExpired, ErrBrowser: nothing was
// changed. ErrDenied, ProviderError (with ErrMisconfigured where the operator has to act), and those of the rules:
// ErrAlreadyConnected, AmbiguousError, ErrAccountMismatch, ErrAccountConnected, ErrExternalID, ErrTooMany (see
// SameAccountAllow), ErrNotFound when the integration or the account to be reconnected is gone, ErrDeleting, ErrDisabled for
// a user who is, ErrSession when the integration was changed meanwhile, ErrPermission, ErrHiddenConflict: the session is
// used up, no account was changed.
func (e *Engine) Callback(ctx context.Context, in CallbackInput) (*ConnectResult, error) {
	result, err := e.callback(ctx, in)
	if err != nil {
		return result, fmt.Errorf("callback of %s: %w", clip(in.Integration), err)
	}
	return result, nil
}

func (e *Engine) callback(ctx context.Context, in CallbackInput) (*ConnectResult, error) {
	done, err := e.begin() // before anything is claimed: Close waits for the outcome
	if err != nil {
		return nil, err
	}
	defer done()
	if err := checkName(in.Integration); err != nil {
		return nil, err
	}
	if err := checkValues(in.Values); err != nil {
		return nil, err
	}
	state := in.Values.Get("state")
	if state == "" {
		return nil, invalid("state", "is missing: this is no answer to a connect session")
	}
	key := sessionKey(state)
	return e.conclude(ctx, key, in.Values, func(r *sessionRecord) error {
		switch {
		case r.Integration != in.Integration:
			return fmt.Errorf("%w: it belongs to another integration", ErrSession)
		case r.Redirect:
			return fmt.Errorf("%w: it ends at a page of the application, which calls CompleteConnect", ErrSession)
		case in.Browser == "":
			return fmt.Errorf("%w: CallbackInput.Browser is empty; did the cookie not arrive? It has to be SameSite=Lax and set on the callback's host", ErrBrowser)
		case r.Phase == sessionUnbound || !r.from(in.Browser):
			return ErrBrowser
		}
		return nil
	})
}

// checkValues checks the form of what a provider's redirect carries.
func checkValues(values url.Values) error {
	for name, given := range values {
		if len(given) > 1 && (name == "state" || name == "code" || name == "iss" || name == "error") {
			return invalid(name, "is there twice (RFC 6749 §3.1)")
		}
		for _, value := range given {
			if len(value) > maxParam {
				if !oneOf(name, "state", "code", "iss", "error") { // a name that is not ours is not repeated
					name = "values"
				}
				return invalid(name, fmt.Sprintf("has more than %d bytes", maxParam))
			}
		}
	}
	return nil
}

// conclude takes a session that fits to its outcome, once.
func (e *Engine) conclude(ctx context.Context, key string, values url.Values, fits func(*sessionRecord) error) (*ConnectResult, error) {
	for started := time.Now(); ; { // real time: the clock of Options may stand still while this waits
		record, rev, err := e.session(ctx, key)
		if err != nil {
			return nil, err
		}
		if err := fits(&record); err != nil {
			return nil, err
		}
		result := &ConnectResult{User: record.User, ReturnURL: record.ReturnURL}
		switch record.Phase {
		case sessionDone:
			result.Replayed = true
			return result, e.replay(ctx, &record, result)
		case sessionExchanging:
			if e.now().Sub(record.Exchanging.time()) > e.exchangeTime() || time.Since(started) > e.exchangeTime() {
				return result, fmt.Errorf("%w: it was spent without outcome; start again", ErrSession)
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return result, err
			}
			continue
		}
		if !e.now().Before(record.Expires.time()) {
			return result, ErrSessionExpired
		}
		if values.Get("code") == "" && values.Get("error") == "" {
			return result, invalid("code", "is missing: the provider sent neither a code nor an error")
		}
		record.Phase, record.Exchanging = sessionExchanging, toMillis(e.now())
		record.Spent = digest("code", values.Get("code"))
		tx := e.db.Begin(ctx)
		rev = e.tables.sessions.Put(tx, &record, rev, key)
		if err := e.kernel.Apply(ctx, tx); conflicted(err) {
			continue // the same browser came twice at once
		} else if err != nil {
			return result, err
		}
		told, span := e.telemetry.Start(ctx, telemetry.SpanCallback, record.Integration, "")
		defer span.End()
		err = e.finish(told, &record, rev, key, values, result)
		span.Credential(result.Credential.ID)
		span.Result(resultOf(err))
		e.telemetry.Connected(ctx, record.Integration, connectResult(err))
		return result, err
	}
}

// exchangeTime bounds what happens between claiming a session and its outcome: the token call for each client secret,
// the identity call, and the store.
func (e *Engine) exchangeTime() time.Duration { return 3*e.opts.ProviderTimeout + 10*time.Second }

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// from compares in constant time whether the session was begun in this browser.
func (r *sessionRecord) from(browser string) bool {
	return browser != "" && subtle.ConstantTimeCompare(r.Browser, digest("browser", browser)) == 1
}

// replay tells the outcome of a finished session again.
func (e *Engine) replay(ctx context.Context, record *sessionRecord, result *ConnectResult) error {
	if record.Code != "" {
		return errorOf(record.Code, record.Text)
	}
	by, err := e.actor(record) // it may see less by now
	if err != nil {
		return err
	}
	credential, _, err := by.record(ctx, record.Credential)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: it was disconnected since", err)
	}
	if err != nil {
		return err
	}
	result.Credential = credential.public(record.User)
	return nil
}

// finish does what a claimed session is for, and writes the outcome down whatever it is. It goes on when the browser
// has left: the code can be spent only once.
func (e *Engine) finish(ctx context.Context, record *sessionRecord, rev storage.Rev, key string, values url.Values, result *ConnectResult) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.exchangeTime())
	defer cancel()

	by, err := e.actor(record)
	if err == nil { // before the code is spent: nobody would give the token back
		err = e.mayConnect(ctx, record.User)
	}
	var g *grant
	if err == nil {
		g, err = e.authorized(ctx, by, record, values)
	}
	if err == nil {
		g.session = key
		var connected credentialRecord
		connected, err = e.commit(ctx, g, func(tx *sealed.Tx, credential string) {
			record.Credential = credential
			e.closeSession(tx, record, rev, key)
		})
		if err == nil {
			result.Credential = connected.public(record.User)
			return nil
		}
	}

	// What used the time up must not keep the outcome from being written.
	ctx, cancelWrite := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancelWrite()
	record.Credential, record.Code, record.Text = "", codeOf(err), err.Error()
	tx := e.db.Begin(ctx)
	e.closeSession(tx, record, rev, key)
	if by == nil {
		by = &User{e: e, id: record.User, person: record.Owner, tokenID: record.TokenID}
	}
	ev := by.event(EventConnectFailed, "connect", record.Integration, "", map[string]string{"session": record.ID})
	ev.Result = record.Code
	e.kernel.Emit(tx, ev)
	failed := e.kernel.Commit(ctx, tx)
	if conflicted(failed) { // the store lost its answer to our commit (storage.ErrUnknownOutcome), but had carried it out
		if stored, _, err := e.tables.sessions.Get(ctx, key); err == nil && stored.Phase == sessionDone {
			return e.replay(ctx, &stored, result)
		}
	}
	if failed != nil {
		e.log.ErrorContext(ctx, "the outcome of a connect session could not be stored", "session", record.ID, "error", failed)
	}
	e.log.InfoContext(ctx, "an account could not be connected", "integration", record.Integration, "session", record.ID, "error", err)
	return err
}
