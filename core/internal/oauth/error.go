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
)

// Error says why there is no token. Its text holds nothing that the provider wrote but Code, which is one of a known few.
type Error struct {
	Class      Class
	Status     int
	Code       string        // "" unless the provider sent one that is known, see CleanCode
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

// badClient is invalid_client (RFC 6749 §5.2) and what GitHub and Slack say in its place, with status 200.
var badClient = []string{"invalid_client", "incorrect_client_credentials", "bad_client_secret", "invalid_client_id"}

// knownCodes are the codes that are repeated in errors.
var knownCodes = []string{
	// RFC 6749 §4.1.2.1 and §5.2
	"invalid_request", "unauthorized_client", "access_denied", "unsupported_response_type", "invalid_scope", "server_error",
	"temporarily_unavailable", "invalid_client", "invalid_grant", "unsupported_grant_type",
	// OpenID Connect Core §3.1.2.6
	"interaction_required", "login_required", "account_selection_required", "consent_required", "invalid_request_uri",
	"invalid_request_object", "request_not_supported", "request_uri_not_supported", "registration_not_supported",
	// RFC 6750 §3.1, RFC 7009 §2.2.1, RFC 8628 §3.5, RFC 8707 §2
	"invalid_token", "insufficient_scope", "unsupported_token_type", "authorization_pending", "slow_down", "expired_token",
	"invalid_target",
	// GitHub, Slack, Google, Salesforce
	"incorrect_client_credentials", "redirect_uri_mismatch", "bad_verification_code", "unverified_user_email",
	"application_suspended", "bad_refresh_token", "invalid_refresh_token", "token_revoked", "token_expired", "invalid_code",
	"code_already_used", "bad_client_secret", "invalid_client_id", "bad_redirect_uri", "invalid_auth", "account_inactive",
	"rate_limited", "ratelimited", "admin_policy_enforced", "org_internal", "deleted_client", "inactive_user", "inactive_org",
}

// CleanCode lets a known error code through and nothing else: whoever answers, or sends a browser to us, can write
// anything there, a token too.
func CleanCode(code string) string {
	if slices.Contains(knownCodes, code) {
		return code
	}
	return ""
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

// classify names the class of an answer that is no token: by its code where it has one (RFC 6749 §5.2), else by status.
func classify(status int, code string) Class {
	if slices.Contains(badClient, code) {
		return Rejected
	}
	switch code {
	case "invalid_grant", "bad_refresh_token", "token_revoked", "invalid_refresh_token",
		"bad_verification_code", "invalid_code", "code_already_used":
		return Permanent
	case "unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request":
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
