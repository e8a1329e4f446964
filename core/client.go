package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/polycred/polycred/core/internal/endpoint"
	"github.com/polycred/polycred/crypto"
)

// Client returns an HTTP client that acts as exactly the account that sel names, which it resolves now. Each request is
// sent with a valid token, which replaces whatever authorisation the request has, and goes only to hosts that the
// integration lists (Integration.AllowedHosts). A 401 makes it refresh the token once and repeat the request, if its body
// can be read again. Redirects are followed on the same host; one that leads elsewhere is returned as it is, so that no
// token follows it. The body of a response is the caller's to bound and to close.
//
// Errors of Client are those of User.Credential. Errors of its requests wrap ErrHostNotAllowed, those of User.Token, or
// a ProviderError; http.Client puts the request's own URL around them, to which nothing secret was added.
func (u *User) Client(ctx context.Context, sel Selector) (*http.Client, error) {
	record, _, err := u.find(ctx, sel)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", sel, err)
	}
	return &http.Client{
		Transport: &transport{u: u, sel: Selector{Credential: record.ID}},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 10 || !sameOrigin(req, via[len(via)-1]) {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}, nil
}

// transport is the http.RoundTripper of one credential.
type transport struct {
	u   *User
	sel Selector
}

// RoundTrip sends one request as the credential.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.roundTrip(req)
	if err != nil && req.Body != nil {
		_ = req.Body.Close() // http.RoundTripper: also on errors
	}
	return resp, err
}

func (t *transport) roundTrip(req *http.Request) (*http.Response, error) {
	ctx, e := req.Context(), t.u.e
	record, err := t.u.fresh(ctx, t.sel)
	if err != nil {
		return nil, err
	}
	p, err := e.provider(ctx, record.Integration)
	if err != nil {
		return nil, err
	}
	if err := p.allows(req, record.Variables); err != nil {
		return nil, err
	}
	resp, err := e.send(p, req, req.Body, record.AccessToken)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || p.OAuth2 == nil {
		return resp, err
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return resp, nil // the body cannot be sent again
	}
	renewed, ok := e.forceRefresh(ctx, t.u.id, &record)
	if !ok {
		return resp, nil
	}
	var body io.ReadCloser
	if req.GetBody != nil {
		if body, err = req.GetBody(); err != nil {
			return resp, nil //nolint:nilerr // the 401 is the answer then
		}
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // lets the connection be used again
	_ = resp.Body.Close()
	return e.send(p, req, body, renewed.AccessToken)
}

// send sends a copy of req with the account's authorisation. The response names req itself as its request, so that
// nobody finds the token there.
func (e *Engine) send(p *provider, req *http.Request, body io.ReadCloser, token crypto.Secret) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Body = body
	p.inject(out, token)
	resp, err := e.out.RoundTrip(out)
	if err != nil {
		return nil, &ProviderError{Integration: p.Name, Op: "request", Class: FailureTransient, Reason: err.Error(), err: err}
	}
	resp.Request = req
	return resp, nil
}

// allows says whether a request may carry a token of this integration.
func (p *provider) allows(req *http.Request, vars map[string]string) error {
	if err := p.hosts.Check(req.URL, vars); err != nil {
		var refused *endpoint.Error
		if errors.As(err, &refused) {
			return fmt.Errorf("request with an account of %s: %w: %s", p.Name, ErrHostNotAllowed, refused)
		}
		return err
	}
	if req.Response != nil && req.Response.Request != nil && !sameOrigin(req, req.Response.Request) {
		return fmt.Errorf("request with an account of %s: %w: the provider redirects to another host", p.Name, ErrHostNotAllowed)
	}
	return nil
}

func sameOrigin(a, b *http.Request) bool {
	return a.URL.Scheme == b.URL.Scheme && strings.EqualFold(a.URL.Host, b.URL.Host)
}

// inject sets the account's authorisation and removes any other.
func (p *provider) inject(req *http.Request, token crypto.Secret) {
	req.Header.Del("Authorization")
	k := p.APIKey
	switch {
	case k == nil || k.In == "" || k.In == KeyBearer:
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
	case k.In == KeyHeader:
		req.Header.Set(k.Name, k.Prefix+token.Reveal())
	default:
		u := *req.URL
		q := u.Query()
		q.Set(k.Name, token.Reveal())
		u.RawQuery = q.Encode()
		req.URL = &u
	}
}
