package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
)

// The codes that the public SDK knows: it does not log the user out on them, whatever the status.
const (
	codePermission = "7210" // insufficient permission
	codeKey        = "7003" // the key of an account was not accepted
	codeProfile    = "0704" // the provider did not tell whose account it is
)

// Error is an answer that this package itself decides on.
type Error struct {
	Status  int
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Message }

// The answers that come from no other package.
var (
	errNoRoute     = &Error{http.StatusNotFound, "not_found", "There is no such address. Look at docs/http-api.md."}
	errNotFound    = &Error{http.StatusNotFound, "not_found", "This does not exist, or not any more. Look at the list and choose again."}
	errWrongMethod = &Error{http.StatusMethodNotAllowed, "method", "This address does not take this method. Look at docs/http-api.md."}
	errTooLarge    = &Error{http.StatusRequestEntityTooLarge, "too_large", "The request is too large."}
	errBody        = &Error{http.StatusBadRequest, "invalid", "The body is not the JSON that is expected here."}
	errNoToken     = &Error{http.StatusUnauthorized, "token", "You are not signed in: send a user token as Authorization: Bearer."}
)

func invalid(message string) error { return &Error{http.StatusBadRequest, "invalid", message} }

// failure is an error as it goes over the wire.
type failure struct {
	Message string         `json:"message"`
	Code    string         `json:"code"`
	Status  int            `json:"status"`
	Meta    map[string]any `json:"meta"`

	retry time.Duration
}

// statuses are those of errors, by core.Code; what is in no list of core is 500.
var statuses = map[string]int{
	"token": http.StatusUnauthorized, "permission": http.StatusForbidden,
	"invalid": http.StatusBadRequest, "host_not_allowed": http.StatusBadRequest,
	"not_found": http.StatusNotFound, "not_connected": http.StatusNotFound,

	"ambiguous": http.StatusConflict, "already_connected": http.StatusConflict, "account_mismatch": http.StatusConflict,
	"account_connected": http.StatusConflict, "external_id": http.StatusConflict, "hidden_conflict": http.StatusConflict,
	"too_many": http.StatusConflict, "in_use": http.StatusConflict, "exists": http.StatusConflict,
	"unfinished": http.StatusConflict, "disabled": http.StatusConflict, "reconnect": http.StatusConflict, "pending": http.StatusConflict,
	"deleting": http.StatusConflict, "conflict": http.StatusConflict,

	"denied": http.StatusUnprocessableEntity, "session_expired": http.StatusUnprocessableEntity, "browser": http.StatusUnprocessableEntity,
	"session": http.StatusUnprocessableEntity, "key_rejected": http.StatusUnprocessableEntity, "cursor": http.StatusUnprocessableEntity,

	"provider": http.StatusBadGateway, "misconfigured": http.StatusBadGateway,
	"token_issuer": http.StatusServiceUnavailable, "unavailable": http.StatusServiceUnavailable, "full": http.StatusServiceUnavailable,
	"quarantined": http.StatusServiceUnavailable, "kek_in_store": http.StatusServiceUnavailable, "no_tokens": http.StatusServiceUnavailable, "closed": http.StatusServiceUnavailable,
	"timeout": http.StatusGatewayTimeout,
}

// statusGone is the status of a request whose client is gone: nobody reads it but the log.
const statusGone = 499

// failureOf is the one place where an error becomes a status and a body.
func failureOf(err error, request string) failure {
	f := failure{Status: http.StatusInternalServerError, Code: "internal", Message: core.Message(err), Meta: map[string]any{"requestId": request}}
	var own *Error
	var limited *limitedError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &own):
		f.Status, f.Code, f.Message = own.Status, own.Code, own.Message
		return f
	case errors.As(err, &limited):
		f.Status, f.Code, f.Message, f.retry = http.StatusTooManyRequests, "rate_limited", limited.Error(), max(limited.wait, time.Second)
		return f
	case errors.As(err, &tooLarge):
		f.Status, f.Code, f.Message = errTooLarge.Status, errTooLarge.Code, errTooLarge.Message
		return f
	}
	f.Code = core.Code(err)
	if status, ok := statuses[f.Code]; ok {
		f.Status = status
	} else if errors.Is(err, context.Canceled) {
		f.Status, f.Code = statusGone, "canceled"
	}
	var input *core.InputError
	var ambiguous *core.AmbiguousError
	var provider *core.ProviderError
	switch {
	case errors.As(err, &input): // says which field, and what it takes
		f.Message = input.Field + " " + input.Reason + "."
		f.Meta["field"] = input.Field
	case errors.Is(err, usertoken.ErrToken): // for who mints tokens; it holds nothing of this one
		f.Meta["detail"] = strings.TrimPrefix(err.Error(), "authenticate: ")
	case errors.As(err, &ambiguous):
		f.Meta["candidates"] = candidates(ambiguous.Candidates)
	case errors.As(err, &provider):
		f.retry = provider.RetryAfter
		f.Meta["class"] = string(provider.Class)
		if provider.Class == core.FailureRateLimited {
			f.Status = http.StatusTooManyRequests
		}
	}
	f.inWordsOfSDK(provider)
	return f
}

// inWordsOfSDK puts a code that the public SDK knows in place of ours, which then stands in the meta data.
func (f *failure) inWordsOfSDK(provider *core.ProviderError) {
	code := ""
	switch {
	case f.Code == "permission":
		code = codePermission
	case f.Code == "key_rejected":
		code = codeKey
	case f.Code == "provider" && provider != nil && provider.Op == "identity":
		code = codeProfile
	}
	if code != "" {
		f.Meta["reason"], f.Code = f.Code, code
	}
}

// loggable is an error as the log may show it. Those of core hold no secret; what a host's own code returns may be wrapped
// in a *url.Error, whose URL often holds one (security 27).
func loggable(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		return errors.New(outer.Op + ": " + core.Code(outer.Err))
	}
	return err
}

// candidate is an account that could have been meant.
type candidate struct {
	ID          string      `json:"id"`
	ExternalID  string      `json:"externalId,omitempty"`
	Label       string      `json:"label,omitempty"`
	DisplayName string      `json:"displayName,omitempty"`
	Status      core.Status `json:"status"`
}

func candidates(all []core.Credential) []candidate {
	found := make([]candidate, len(all))
	for i, c := range all {
		found[i] = candidate{c.ID, c.ExternalID, c.Label, c.Account.Display, c.Status}
	}
	return found
}

// fail answers with an error, unless the answer has begun.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := failureOf(err, requestID(r))
	if f.Status >= 500 && !errors.Is(err, context.DeadlineExceeded) {
		a.log.ErrorContext(r.Context(), "a request could not be answered", "requestId", requestID(r), "code", f.Code, "error", loggable(err))
	}
	noteFailure(r, f.Code)
	f.header(w.Header())
	a.write(w, f.Status, f)
}

// header sets what goes with some statuses (RFC 9110 §15.5.2, RFC 6585 §4).
func (f *failure) header(h http.Header) {
	switch {
	case f.retry > 0:
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retry.Seconds()))))
	case f.Status == http.StatusTooManyRequests:
		h.Set("Retry-After", "1")
	case f.Status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	}
}

// write answers with JSON.
func (a *api) write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // nothing that is written here can be refused
		a.log.Error("an answer could not be encoded", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{}`)
	}
	h := w.Header()
	h.Del("Content-Length") // of what somebody else was about to answer
	h.Del("Content-Encoding")
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
