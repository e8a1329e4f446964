package oauth

import (
	"net/http"
	"slices"
	"strings"
)

// Codes are the error codes of one endpoint beyond those of RFC 6749 §5.2: what they mean, and where they stand. They
// come from a configuration, never from an answer; only these and the known few are repeated in errors.
type Codes struct {
	// Permanent codes say that what was to be spent is dead. One that speaks of the client by RFC 6749 §5.2, such as
	// unauthorized_client, says so only of a refresh token.
	Permanent   []string
	Transient   []string
	RateLimited []string

	Path   string // where an error answer holds its code, names with dots between; empty means "error"
	OKPath string // the same of an answer with status 200: a text there makes it an error; empty means "error"
}

// read returns the code of an answer that is an error, "" where it has none that may be repeated. Where two stand in an
// answer, the one at the declared place counts.
func (c Codes) read(fields map[string]any, ok bool) string {
	path := c.Path
	if ok {
		path = c.OKPath
	}
	for _, place := range []string{path, "error"} {
		if place == "" {
			continue
		}
		if code := c.clean(Field(fields, place)); code != "" {
			return code
		}
	}
	return ""
}

// clean is CleanCode with the codes that were declared.
func (c Codes) clean(code string) string {
	for _, declared := range [][]string{c.Permanent, c.Transient, c.RateLimited} {
		if slices.Contains(declared, code) {
			return code
		}
	}
	return CleanCode(code)
}

// classify names the class of an answer that is no token.
func (c Codes) classify(status int, code string, refresh bool) Class {
	switch {
	case code == "":
	case slices.Contains(c.Permanent, code) && (refresh || !slices.Contains(clientCodes, code)):
		return Permanent
	case slices.Contains(c.Transient, code):
		return Transient
	case slices.Contains(c.RateLimited, code):
		return RateLimited
	}
	return classify(status, code)
}

// ValidCode reports whether text can be the code of an error: 1 to 64 letters, digits, '.', '-' and '_', and spaces
// between them, as in Zoho's "Access Denied".
func ValidCode(text string) bool {
	return text != "" && len(text) <= 64 && strings.TrimSpace(text) == text && !strings.ContainsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-. ", r))
	})
}

// ValidPath reports whether text can lead to a field: names of letters, digits, '-' and '_' with dots between.
func ValidPath(text string) bool {
	if text == "" || len(text) > 256 {
		return false
	}
	for name := range strings.SplitSeq(text, ".") {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
		}) {
			return false
		}
	}
	return true
}

// badClient is invalid_client (RFC 6749 §5.2) and what GitHub and Slack say in its place, with status 200.
var badClient = []string{"invalid_client", "incorrect_client_credentials", "bad_client_secret", "invalid_client_id"}

// clientCodes speak of the client or of its request, not of what it wants to spend (RFC 6749 §5.2).
var clientCodes = slices.Concat(badClient, []string{"unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request"})

// knownCodes are the codes that are repeated in errors, whatever the endpoint.
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

// classify names the class of an answer that is no token: by its code where it has one (RFC 6749 §5.2), else by status.
func classify(status int, code string) Class {
	if slices.Contains(clientCodes, code) {
		return Rejected
	}
	switch code {
	case "invalid_grant", "bad_refresh_token", "token_revoked", "invalid_refresh_token",
		"bad_verification_code", "invalid_code", "code_already_used":
		return Permanent
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
