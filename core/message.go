package core

import (
	"context"
	"errors"

	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage"
)

// outcome is one way for something to end that a person may see: its error, the code under which a connect session
// remembers it, and what the person reads.
type outcome struct {
	err     error
	code    string
	message string
}

// The order counts: the first that errors.Is finds wins. Codes are stored: they are forever.
var outcomes = []outcome{
	{usertoken.ErrUnavailable, "token_issuer", "The service that you sign in with cannot be reached. Try again in a minute."},
	{usertoken.ErrToken, "token", "You are not signed in, or not any more. Sign in again."},
	{ErrAlreadyConnected, "already_connected", "An account of this integration is already connected. Manage the connected account, or choose to add another one."},
	{ErrAmbiguous, "ambiguous", "Several connected accounts fit. Choose which one is meant."},
	{ErrAccountMismatch, "account_mismatch", "You signed in with another account than the one to reconnect. Try again and sign in with that one."},
	{ErrAccountConnected, "account_connected", "This account is connected already. Choose another account, or manage the connected one."},
	{ErrExternalID, "external_id", "The name by which the application knows an account is taken, or this account has another such name already. Choose another one, or leave it out."},
	{ErrHiddenConflict, "hidden_conflict", "This account cannot be connected here. Ask whoever manages the connected accounts."},
	{ErrPermission, "permission", "You are not allowed to do this. Ask whoever manages the connected accounts."},
	{ErrTooMany, "too_many", "There are too many of these already. Remove one first."},
	{ErrUnfinished, "unfinished", "Connecting is not finished yet. Finish it in the other window."},
	{ErrDenied, "denied", "Access was not granted. Start again and allow access to connect the account."},
	{ErrSessionExpired, "session_expired", "Connecting took too long. Start again."},
	{ErrBrowser, "browser", "This link was opened in another browser than the one that began. Start again in this browser."},
	{ErrSession, "session", "This attempt to connect cannot be finished. Start again."},
	{ErrKeyRejected, "key_rejected", "The provider does not accept this key. Check the key and try again."},
	{ErrDisabled, "disabled", "This account, or whoever it belongs to, is switched off. Ask whoever manages the connected accounts."},
	{ErrReconnect, "reconnect", "The authorisation of this account has ended. Connect the account again."},
	{ErrPending, "pending", "This account is not completely set up. Finish setting it up."},
	{ErrNotConnected, "not_connected", "No account of this integration is connected. Connect one first."},
	{ErrMisconfigured, "misconfigured", "The integration with this provider is not declared correctly. Tell the operator."},
	{ErrProvider, "provider", "The provider could not be reached or did not answer as expected. Start again in a few minutes."},
	{ErrHostNotAllowed, "host_not_allowed", "This address is not part of the integration. Ask the operator to allow it."},
	{ErrDeleting, "deleting", "What this belongs to is being removed. Ask the operator when it will be back."},
	{ErrInUse, "in_use", "Accounts are still connected. Disconnect them first."},
	{ErrExists, "exists", "Something of this name exists already. Choose another name."},
	{ErrConflict, "conflict", "Somebody else changed this at the same time. Look at it again and repeat the change."},
	{ErrNotFound, "not_found", "This does not exist, or not any more. Look at the list and choose again."},
	{ErrInvalid, "invalid", "The request is not valid. Check what was entered."},
	{ErrQuarantined, "quarantined", "This copy of the application's data is not active. Ask the operator to confirm the take-over."},
	{ErrKEKInStore, "kek_in_store", "The application's data lies together with its key and was not opened. Ask the operator to move the key elsewhere."},
	{ErrNoTokens, "no_tokens", "This part of the application cannot use connected accounts. Ask the operator where it can be done."},
	{ErrCursor, "cursor", "The history does not reach back that far. Begin again from the oldest entry."},
	{ErrClosed, "closed", "The application is shutting down. Try again in a minute."},
	{storage.ErrUnavailable, "unavailable", "The application's storage cannot be reached. Try again in a minute."},
	{storage.ErrFull, "full", "The application's storage is full. Ask the operator to make room."},
	{context.DeadlineExceeded, "timeout", "This took too long. Try again."},
}

const unknownMessage = "Something went wrong. Try again, and tell the operator if it happens again."

// Message returns what to tell the person at the screen about err: one sentence on what happened, one on what to do
// next. It never contains ids, names, or anything that a provider wrote; details belong in the log.
// Message(nil) is empty.
func Message(err error) string {
	if err == nil {
		return ""
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.message
		}
	}
	return unknownMessage
}

const codeInternal = "internal"

// Code returns the code of err: one word that stays the same, such as "ambiguous" or "not_found", which events, connect
// sessions and the HTTP API have too; "internal" for an error of no kind that is known, and "" for nil.
func Code(err error) string {
	if err == nil {
		return ""
	}
	return codeOf(err)
}

// codeOf returns the code under which a connect session remembers how it ended.
func codeOf(err error) string {
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.code
		}
	}
	return codeInternal
}

// remembered is the error of a session that ended before, told again.
type remembered struct {
	text string
	err  error
}

func (e *remembered) Error() string { return e.text }
func (e *remembered) Unwrap() error { return e.err }

func errorOf(code, text string) error {
	for _, o := range outcomes {
		if o.code == code && o.err == ErrMisconfigured { //nolint:errorlint // which of the list it is
			return &remembered{text, errors.Join(ErrProvider, ErrMisconfigured)}
		} else if o.code == code {
			return &remembered{text, o.err}
		}
	}
	return &remembered{text, ErrSession}
}
