package oauth

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Class says what a failed token request means.
type Class string

// The classes.
const (
	Permanent     Class = "permanent"     // the grant is gone: repeating can never succeed
	Rejected      Class = "rejected"      // the client is: its id, secret or configuration is wrong
	Transient     Class = "transient"     // worth repeating later
	RateLimited   Class = "rate_limited"  // worth repeating after RetryAfter
	Indeterminate Class = "indeterminate" // the request may have been carried out and its answer lost
)

// Error says why there is no token. Its text holds nothing that the provider wrote but Code, which is checked to be of
// the form that RFC 6749 §5.2 gives error codes.
type Error struct {
	Class      Class
	Status     int
	Code       string        // "" unless the provider sent one
	Reason     string        // our words
	RetryAfter time.Duration // 0 when the provider said nothing
	Err        error         // of the transport, which is clean of URLs and bodies
}

func (e *Error) Error() string {
	text := e.Reason
	if e.Status != 0 {
		text += fmt.Sprintf(" (status %d)", e.Status)
	}
	if e.Code != "" {
		text += ": " + e.Code
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the error of the transport, if that was the cause.
func (e *Error) Unwrap() error { return e.Err }

// CleanCode lets an error code through when it looks like one, so that a body is never mistaken for it.
func CleanCode(code string) string {
	if len(code) > 64 {
		return ""
	}
	for _, r := range code {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-.", r)) {
			return ""
		}
	}
	return code
}

// classify names the class of an answer that is no token: by its code where it has one (RFC 6749 §5.2), else by status.
func classify(status int, code string) Class {
	switch code {
	case "invalid_grant", "bad_refresh_token", "token_revoked", "invalid_refresh_token":
		return Permanent
	case "invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request":
		return Rejected
	case "temporarily_unavailable", "server_error":
		return Transient
	case "slow_down", "rate_limited", "ratelimited":
		return RateLimited
	}
	switch {
	case status == http.StatusTooManyRequests:
		return RateLimited
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Rejected
	default:
		return Transient
	}
}

// retryAfter reads both forms of the header (RFC 9110 §10.2.3), at most a day.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if text == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(min(seconds, 86400)) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), 24*time.Hour)
}
