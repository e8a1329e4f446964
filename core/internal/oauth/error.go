package oauth

import (
	"fmt"
	"net/http"
	"slices"
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
	Gone          Class = "gone"          // of a revocation: the token was dead before
)

// Error says why there is no token. Its text holds nothing that the provider wrote but Code, which is one of a
// known few, or of those that the configuration declares.
type Error struct {
	Class      Class
	Status     int
	Code       string        // "" unless the provider sent one that is known or declared, see Codes
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

// ClientRejected reports whether the client id or secret was refused, so that another secret may be the right one.
func (e *Error) ClientRejected() bool {
	return e.Class == Rejected && (e.Status == http.StatusUnauthorized || slices.Contains(badClient, e.Code))
}

// cleanType lets a token type through when it looks like one (RFC 6749 §7.1).
func cleanType(name string) string {
	if len(name) > 64 {
		return ""
	}
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-.", r)) {
			return ""
		}
	}
	return name
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
