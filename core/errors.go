package core

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/core/internal/egress"
)

// What a caller branches on, with errors.Is. Every error of this package wraps at most one of them, but for
// ErrMisconfigured, which comes together with ErrProvider; the text around it says which thing is concerned and what to
// do. No error text ever contains a token, a secret, or anything that a provider wrote but a known error code. [Message]
// turns any of them into words for the person at the screen.
var (
	// ErrInvalid: the input is malformed; see InputError. Nothing was changed.
	ErrInvalid = errors.New("invalid input")
	// ErrNotFound: no such integration, account or configuration, or none that the handle may see; no password is set.
	ErrNotFound = errors.New("not found")
	// ErrExists: an integration of that name exists already.
	ErrExists = errors.New("already exists")
	// ErrConflict: the record was changed since it was read, or another account was connected in place of the one that a
	// request was sent as. Read it again and repeat the change.
	ErrConflict = errors.New("changed by somebody else in the meantime")
	// ErrInUse: the integration still has credentials.
	ErrInUse = errors.New("still in use")
	// ErrDeleting: the integration, or the user, is being deleted. Wait until that is done, or call the deletion again.
	ErrDeleting = errors.New("being deleted")

	// ErrAlreadyConnected: the user has an account of the integration and did not ask for another (rule 1).
	ErrAlreadyConnected = errors.New("already connected")
	// ErrAmbiguous: several accounts fit and none was named; see AmbiguousError.
	ErrAmbiguous = errors.New("several accounts fit")
	// ErrAccountMismatch: another account answered than the one to be reconnected (rule 3).
	ErrAccountMismatch = errors.New("another account answered")
	// ErrAccountConnected: this provider account is connected already and the integration refuses it twice (rule 4).
	ErrAccountConnected = errors.New("this account is connected already")
	// ErrExternalID: the external id is taken, or the account has another one (rules 4 and 5).
	ErrExternalID = errors.New("external id conflict")
	// ErrHiddenConflict: something that the handle may not see stands in the way. It does not say what (rule 9).
	ErrHiddenConflict = errors.New("conflicts with something that is not visible")
	// ErrPermission: the handle may not do that.
	ErrPermission = errors.New("not permitted")
	// ErrTooMany: there are as many as there may be: 32 configurations beside the default one of an account, or 256
	// credentials of one provider account (SameAccountAllow). Remove one first.
	ErrTooMany = errors.New("too many")

	// ErrSession: the connect session is unknown, belongs elsewhere, or was spent without outcome. Start again.
	ErrSession = errors.New("no such connect session")
	// ErrSessionExpired: the connect session was not finished in time. Start again.
	ErrSessionExpired = errors.New("connect session expired")
	// ErrBrowser: the connect session was begun in another browser, or not begun yet.
	ErrBrowser = errors.New("connect session belongs to another browser")
	// ErrUnfinished: the connect session has no outcome yet. Ask again later.
	ErrUnfinished = errors.New("connect session is not finished yet")
	// ErrDenied: the person, or the provider on their behalf, refused.
	ErrDenied = errors.New("access was denied")

	// ErrNotConnected: the user has no account of the integration, or none that the handle may see.
	ErrNotConnected = errors.New("not connected")
	// ErrReconnect: the account's authorisation is no longer good; the person has to connect it again.
	ErrReconnect = errors.New("needs to be reconnected")
	// ErrDisabled: the account, or its user, is switched off. Only the program can switch it on again.
	ErrDisabled = errors.New("is disabled")
	// ErrPending: the account is not completely set up.
	ErrPending = errors.New("not completely set up")
	// ErrKeyRejected: the provider does not accept the API key.
	ErrKeyRejected = errors.New("key was rejected")
	// ErrProvider: the provider could not be asked, or its answer cannot be used; see ProviderError.
	ErrProvider = errors.New("provider failed")
	// ErrMisconfigured: the provider fails because the integration is not declared as the provider needs it. Trying again
	// does not help; the operator has to correct it.
	ErrMisconfigured = errors.New("integration is not declared correctly")
	// ErrHostNotAllowed: the integration does not list the host of a request.
	ErrHostNotAllowed = errors.New("host is not allowed")

	// ErrQuarantined: the store is a copy, or was moved to another disk or machine; nothing is refreshed or
	// revoked until Options.TakeOver confirms that the other one is gone.
	ErrQuarantined = errors.New("store is quarantined")
	// ErrKEKInStore: the key-encryption key lies in the store's directory, where a backup would take both.
	ErrKEKInStore = errors.New("key-encryption key lies inside the store")
	// ErrNoTokens: the engine was opened without KEKs.Tokens and cannot act as a user.
	ErrNoTokens = errors.New("opened without the tokens key")
	// ErrCursor: the event log does not go on from there.
	ErrCursor = errors.New("no such place in the event log")
	// ErrClosed: the engine was closed.
	ErrClosed = errors.New("engine is closed")
)

// InputError says which input is malformed, and why. It wraps ErrInvalid.
type InputError struct {
	Field  string // like "externalId", as JSON names it where it is part of a document; nested ones with dots
	Reason string // what is wrong and what to do
}

func (e *InputError) Error() string { return fmt.Sprintf("%v: %s %s", ErrInvalid, e.Field, e.Reason) }

// Unwrap returns ErrInvalid.
func (e *InputError) Unwrap() error { return ErrInvalid }

func invalid(field, reason string) error { return &InputError{Field: field, Reason: reason} }

// wrongInput turns an error of package input into an InputError.
func wrongInput(err error) error {
	var wrong *input.Error
	if errors.As(err, &wrong) {
		return invalid(wrong.Field, wrong.Reason)
	}
	return err
}

// AmbiguousError says that nothing was chosen because several accounts fit. It wraps ErrAmbiguous.
type AmbiguousError struct {
	Integration string
	Candidates  []Credential // the first of those that the caller may see, oldest first; at most 20
}

func (e *AmbiguousError) Error() string {
	names := make([]string, len(e.Candidates))
	for i, c := range e.Candidates {
		names[i] = c.ID
		if c.ExternalID != "" {
			names[i] += fmt.Sprintf(" (external id %q)", c.ExternalID)
		}
	}
	return fmt.Sprintf("%s: %v, name one by its id or external id: %s", e.Integration, ErrAmbiguous, strings.Join(names, ", "))
}

// Unwrap returns ErrAmbiguous.
func (e *AmbiguousError) Unwrap() error { return ErrAmbiguous }

// FailureClass says what a failed call to a provider means for what comes next.
type FailureClass string

// The classes.
const (
	FailureNone          FailureClass = ""
	FailurePermanent     FailureClass = "permanent"     // repeating it can never succeed
	FailureTransient     FailureClass = "transient"     // worth repeating later
	FailureRateLimited   FailureClass = "rate_limited"  // worth repeating when the provider says so
	FailureIndeterminate FailureClass = "indeterminate" // it is unknown whether the provider acted
)

// The codes of failures that are polycred's own words, in Credential.FailureCode, ProviderError.Code and events.
const (
	CodeOtherAccount = "other_account" // a refresh answered for another account; its answer was thrown away
	CodeRevoked      = "revoked"       // Engine.RevokeCredentials ended the authorisation
)

// ProviderError says that a provider could not be asked, or that its answer cannot be used. It wraps ErrProvider and
// never holds what the provider wrote, but for a code that RFC 6749 §5.2 or the like defines, or that the integration
// declares (OAuth2.Errors).
type ProviderError struct {
	Integration string
	Op          string // what was asked for: "authorize", "exchange", "refresh", "identity", "test", "request"
	Class       FailureClass
	Status      int    // of the HTTP answer; 0 where there was none
	Code        string // like "invalid_grant"; empty where there was none
	Reason      string // our words
	// RetryAfter is how long to wait: what the provider asked, or what is left of our own pause; 0 when unknown.
	RetryAfter time.Duration

	err   error // of the transport, clean of URLs and bodies; nil when the provider answered
	setup bool  // wraps ErrMisconfigured
}

func (e *ProviderError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v at %s: %s", e.Integration, ErrProvider, e.Op, e.Reason)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (status %d", e.Status)
		if e.Code != "" {
			fmt.Fprintf(&b, ", %s", e.Code)
		}
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns ErrProvider, ErrMisconfigured where that is the cause, and, where no answer came, why: errors.Is finds
// context.Canceled and the like.
func (e *ProviderError) Unwrap() []error {
	errs := []error{ErrProvider}
	if e.setup {
		errs = append(errs, ErrMisconfigured)
	}
	if e.err != nil {
		errs = append(errs, e.err)
	}
	return errs
}

// blocked reports whether a call was refused on our side: no answer will ever come.
func blocked(err error) bool {
	var transport *egress.Error
	return errors.As(err, &transport) && transport.Kind == egress.Blocked
}
