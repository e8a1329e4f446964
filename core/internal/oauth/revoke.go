package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/crypto"
)

// Style says what a revocation looks like.
type Style string

// The styles.
const (
	RFC7009 Style = "rfc7009" // POST of the token, the client authenticated as at the token endpoint
	Bearer  Style = "bearer"  // POST with the token in the Authorization header, and no client
	Delete  Style = "delete"  // DELETE with the client's Basic authentication and {"access_token": …}
)

// Hint says which kind of token it is (RFC 7009 §2.1). Bearer and Delete are for access tokens only.
type Hint string

// The kinds of tokens.
const (
	HintAccess  Hint = "access_token"
	HintRefresh Hint = "refresh_token"
)

// Revoke gives a token back at the endpoint, which is a revocation endpoint then; Params are not sent. Nil says that the
// provider took it, which by RFC 7009 §2.2 may also mean that it did not know it. Errors are *Error:
//
//   - Gone: the token is dead already. There is nothing more to do, unless the token only ran out and stands for a grant
//     that lives on.
//   - Permanent: the provider understood, and will never do it.
//   - Rejected: the client is refused, or there is no such endpoint.
//   - Transient, RateLimited and Indeterminate are worth repeating: a revocation that was carried out does no harm.
func (e *Endpoint) Revoke(ctx context.Context, style Style, token crypto.Secret, hint Hint) error {
	try := func(secret crypto.Secret) *Error {
		return e.revoke(ctx, style, token, hint, secret)
	}
	var failed *Error
	if style == Bearer {
		failed = try(crypto.Secret{})
	} else {
		failed = e.inTurn(try)
	}
	if failed != nil {
		return failed
	}
	return nil
}

func (e *Endpoint) revoke(ctx context.Context, style Style, token crypto.Secret, hint Hint, secret crypto.Secret) *Error {
	var resp *egress.Response
	var failed *Error
	switch style {
	case Bearer:
		resp, failed = e.call(ctx, http.MethodPost, "", func(h http.Header) { h.Set("Authorization", "Bearer "+token.Reveal()) })
	case Delete:
		body, err := json.Marshal(map[string]string{"access_token": token.Reveal()})
		if err != nil {
			panic(err) // never: strings can always be encoded
		}
		resp, failed = e.call(ctx, http.MethodDelete, string(body), func(h http.Header) {
			h.Set("Content-Type", "application/json")
			h.Set("Authorization", basic(e.ClientID, secret))
		})
	default:
		resp, failed = e.send(ctx, url.Values{"token": {token.Reveal()}, "token_type_hint": {string(hint)}}, secret)
	}
	if failed != nil {
		return failed
	}
	return e.revoked(style, resp)
}

// basic is HTTP's own authentication (RFC 7617), without the encoding that OAuth puts below it: the delete style is an
// API call, not a request of RFC 6749.
func basic(id string, secret crypto.Secret) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(id, secret.Reveal())
	return r.Header.Get("Authorization")
}

func (e *Endpoint) call(ctx context.Context, method, body string, dress func(http.Header)) (*egress.Response, *Error) {
	req, err := http.NewRequestWithContext(ctx, method, e.URL, strings.NewReader(body))
	if err != nil {
		return nil, &Error{Class: Rejected, Reason: "the URL cannot be called"}
	}
	req.Header.Set("Accept", "application/json")
	dress(req.Header)
	resp, err := e.Do(ctx, req)
	if err != nil {
		return nil, lost(err)
	}
	return resp, nil
}

// revoked reads the answer. Of one that says yes the body is ignored (RFC 7009 §2.2), unless it says no.
func (e *Endpoint) revoked(style Style, resp *egress.Response) *Error {
	fields := decode(resp.Header.Get("Content-Type"), resp.Body)
	ok := resp.Status >= 200 && resp.Status <= 299
	if ok && !e.failed(fields) {
		return nil
	}
	code := e.Codes.read(fields, ok)
	failed := &Error{
		Class: e.Codes.classifyRevocation(style, resp.Status, code), Status: resp.Status, Code: code,
		RetryAfter: retryAfter(resp.Header, e.Now()), Reason: "the provider refused",
	}
	if failed.Class == Gone {
		failed.Reason = "the provider says that the token is dead"
	}
	return failed
}

// deadCodes say that a token is not good any more, or never was. Against RFC 7009 §2.2, providers say so with an error.
var deadCodes = []string{
	"invalid_token", "invalid_grant", "token_revoked", "token_expired", "expired_token", "bad_refresh_token",
	"invalid_refresh_token", "invalid_auth", "account_inactive", "inactive_user", "inactive_org",
}

// classifyRevocation names the class of an answer to a revocation that is no yes.
func (c Codes) classifyRevocation(style Style, status int, code string) Class {
	client := slices.Contains(clientCodes, code) && code != "invalid_request"
	switch {
	case slices.Contains(c.Transient, code):
		return Transient
	case slices.Contains(c.RateLimited, code):
		return RateLimited
	case slices.Contains(c.Permanent, code) && !client, slices.Contains(deadCodes, code): // what was to be ended is dead
		return Gone
	case client:
		return Rejected
	}
	switch class := classify(status, code); {
	case class == RateLimited:
		return RateLimited
	case code == "temporarily_unavailable", code == "server_error":
		return Transient
	case code == "unsupported_token_type", code == "invalid_request": // RFC 7009 §2.2.1
		return Permanent
	case status == http.StatusUnauthorized && style == Bearer: // RFC 6750 §3.1; there is no client
		return Gone
	case (status == http.StatusNotFound || status == http.StatusGone) && style == Delete:
		return Gone
	case class == Rejected: // 401 and 403
		return Rejected
	}
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusMisdirectedRequest:
		return Transient
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status >= 300 && status <= 399:
		return Rejected // another URL may be the right one; a redirect is not followed
	case status >= 400 && status <= 499:
		return Permanent
	}
	return Transient
}
