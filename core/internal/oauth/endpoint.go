package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/crypto"
)

// Auth says how the client proves itself (RFC 6749 §2.3.1).
type Auth string

// The ways.
const (
	Basic Auth = "basic"
	Body  Auth = "body"
	None  Auth = "none"
)

// Endpoint is a token endpoint and the client that asks it. It may be used concurrently.
type Endpoint struct {
	URL      string
	ClientID string
	Secrets  []crypto.Secret // live client secrets: the next is tried when the provider rejects the one before
	Auth     Auth
	Params   map[string]string // added to every request
	JSON     bool              // requests carry a JSON object in place of a form
	// TokenPath leads to the object that holds the tokens of an answer; empty means its top.
	TokenPath string
	// Codes are the endpoint's own error codes.
	Codes Codes
	Do    func(context.Context, *http.Request) (*egress.Response, error)
	Now   func() time.Time
}

// Exchange spends an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5; an empty verifier is not sent).
// Errors are *Error.
func (e *Endpoint) Exchange(ctx context.Context, code, redirectURI string, verifier crypto.Secret) (*Answer, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}}
	if !verifier.IsZero() {
		form.Set("code_verifier", verifier.Reveal())
	}
	return e.ask(ctx, form, false)
}

// Refresh spends a refresh token (RFC 6749 §6). Errors are *Error.
func (e *Endpoint) Refresh(ctx context.Context, token crypto.Secret) (*Answer, error) {
	return e.ask(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.Reveal()}}, true)
}

func (e *Endpoint) ask(ctx context.Context, form url.Values, refresh bool) (answer *Answer, err error) {
	failed := e.inTurn(func(secret crypto.Secret) (failed *Error) {
		answer, failed = e.post(ctx, form, secret, refresh)
		return failed
	})
	if failed != nil {
		return nil, failed
	}
	return answer, nil
}

// inTurn tries each client secret until one is not rejected. A rejected client has spent nothing, so asking again is safe.
func (e *Endpoint) inTurn(try func(secret crypto.Secret) *Error) (failed *Error) {
	secrets := e.Secrets
	if e.Auth == None || len(secrets) == 0 {
		secrets = []crypto.Secret{{}}
	}
	for _, secret := range secrets {
		if failed = try(secret); failed == nil || !failed.ClientRejected() {
			break
		}
	}
	return failed
}

func (e *Endpoint) post(ctx context.Context, form url.Values, secret crypto.Secret, refresh bool) (*Answer, *Error) {
	body := url.Values{}
	for name, value := range e.Params {
		body.Set(name, value)
	}
	for name, values := range form {
		body[name] = values
	}
	resp, failed := e.send(ctx, body, secret)
	if failed != nil {
		return nil, failed
	}
	return e.parse(resp.Status, resp.Header, resp.Body, refresh)
}

// send posts parameters, and with them how the client proves itself.
func (e *Endpoint) send(ctx context.Context, body url.Values, secret crypto.Secret) (*egress.Response, *Error) {
	if e.Auth != Basic {
		body.Set("client_id", e.ClientID)
		if e.Auth == Body {
			body.Set("client_secret", secret.Reveal())
		}
	}
	content, contentType := e.encode(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, strings.NewReader(content))
	if err != nil {
		return nil, &Error{Class: Rejected, Reason: "the URL cannot be called"}
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	if e.Auth == Basic {
		// Both halves are form-encoded first (RFC 6749 §2.3.1).
		req.SetBasicAuth(url.QueryEscape(e.ClientID), url.QueryEscape(secret.Reveal()))
	}
	// net/http repeats a POST by itself only where nothing of it was written, so what is spent once is sent once.
	resp, err := e.Do(ctx, req)
	if err != nil {
		return nil, lost(err)
	}
	return resp, nil
}

// encode writes the parameters of a request, each of which has one value.
func (e *Endpoint) encode(params url.Values) (content, contentType string) {
	if !e.JSON {
		return params.Encode(), "application/x-www-form-urlencoded"
	}
	object := make(map[string]string, len(params))
	for name := range params {
		object[name] = params.Get(name)
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // never: strings can always be encoded
	}
	return string(text), "application/json"
}

// lost tells a request that surely never reached the provider from one that may have.
func lost(err error) *Error {
	var transport *egress.Error
	if errors.As(err, &transport) && !transport.Sent {
		return &Error{Class: Transient, Reason: "the provider could not be reached", Err: err}
	}
	return &Error{Class: Indeterminate, Reason: "the provider's answer was lost", Err: err}
}
