package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/polycred/polycred/core/internal/endpoint"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/crypto"
)

// Client returns an HTTP client that acts as exactly the account that sel names, which it resolves now. Each request is
// sent with a valid token, which replaces whatever authorisation the request has, and goes only to hosts that the
// integration lists (Integration.AllowedHosts).
//
// A 401 makes it refresh the token, at most once a minute (or Integration.OAuth2.Refresh.MinInterval), and repeat the
// request, if its body can be read again (http.Request.GetBody); otherwise the 401 is returned. So is one within 10 minutes
// more of a refresh by another process, whose clock may differ, until the 401s have gone on for that minute. A 403 repeats
// the request once if the token was replaced under it, because some providers end the old token before they answer a
// refresh.
//
// Redirects are followed on the same host; one that leads elsewhere is returned as it is, so that no token follows it; the
// Transport alone, in another http.Client, refuses to follow it. The body of a response is the caller's to bound and to
// close.
//
// Another account may be connected into the credential meanwhile (OtherAccountReplace); one without known identity counts
// as another. What was sent as the account before is never sent again as the new one: a request is not repeated, so that
// its 401 or 403 is returned, and its redirect is not followed, which is ErrConflict. Later requests go out as the new
// account.
//
// Errors of Client are those of User.Credential, and ErrPermission. Errors of its requests wrap ErrHostNotAllowed, those
// of User.Token, a ProviderError, or ErrConflict; http.Client puts the request's own URL around them, to which nothing
// secret was added.
func (u *User) Client(ctx context.Context, sel Selector) (*http.Client, error) {
	record, err := u.find(ctx, sel)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", sel, err)
	}
	if err := u.allow(actUse, &record); err != nil {
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
	record, p, err := t.prepare(req)
	if err != nil {
		return nil, unsent(req, err)
	}
	t.u.used(req.Context(), record.Integration, record.ID, "client")
	t.u.e.telemetry.Issued(req.Context(), record.Integration, telemetry.UseClient)
	return t.u.exchange(t.u.e.out, req, &record, p)
}

// unsent is why a request was not sent. Its body is closed then too, as http.RoundTripper promises; once it is sent, that is
// for who sends it.
func unsent(req *http.Request, err error) error {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return err
}

// exchange sends a request as an account, and once more where the provider refused a token that could be replaced: then
// record becomes the one with the new token.
func (u *User) exchange(out http.RoundTripper, req *http.Request, record *tokenRecord, p *provider) (*http.Response, error) {
	ctx, e := req.Context(), u.e
	resp, err := e.send(out, p, req, req.Body, record)
	if err != nil || p.OAuth2 == nil {
		return resp, err
	}
	var renewed tokenRecord
	var ok bool
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		renewed, ok = e.forceRefresh(ctx, u.id, record, p)
	case http.StatusForbidden: // no reason to refresh, but the token may have been replaced under the request
		renewed, ok = e.replaced(ctx, u.id, record)
	}
	if !ok || renewed.Generation != record.Generation { // what began as one account does not go on as another
		return resp, nil
	}
	if p, err = e.providerOf(ctx, &renewed); err != nil || p.OAuth2 == nil || p.allows(req, renewed.Variables) != nil {
		return resp, nil //nolint:nilerr // connected anew in between, at other hosts; the first answer counts then
	}
	body := req.Body
	if body != nil && body != http.NoBody {
		if req.GetBody == nil {
			return resp, nil // the body cannot be sent again; the next request has the new token
		}
		if body, err = req.GetBody(); err != nil {
			return resp, nil //nolint:nilerr // the first answer counts then
		}
	}
	_ = resp.Body.Close() // not read to its end, which only the provider knows
	*record = renewed
	return e.send(out, p, req, body, record)
}

// prepare returns the token and the integration to send a request with, if it may be sent.
func (t *transport) prepare(req *http.Request) (tokenRecord, *provider, error) {
	record, err := t.u.stored(req.Context(), t.sel, actUse)
	if err != nil {
		return record, nil, err
	}
	return t.u.ready(req, record)
}

// ready returns a token that is good, in place of one that was read, and the integration to send a request with, if it may
// be sent.
func (u *User) ready(req *http.Request, record tokenRecord) (tokenRecord, *provider, error) {
	p, err := u.e.providerOf(req.Context(), &record)
	if err == nil {
		err = p.allows(req, record.Variables)
	}
	if err != nil {
		return record, nil, err
	}
	fresh, err := u.freshen(req.Context(), record)
	if err != nil {
		return fresh, nil, err
	}
	if !fresh.still(&record) || fresh.Generation != record.Generation { // the account may have been connected anew, at other hosts
		if p, err = u.e.providerOf(req.Context(), &fresh); err == nil {
			err = p.allows(req, fresh.Variables)
		}
	}
	record = fresh
	if err == nil && req.Response != nil && req.Response.Request != nil {
		begun, ok := req.Response.Request.Context().Value(generationKey{}).(uint64)
		if ok && begun != record.Generation {
			err = fmt.Errorf("request with an account of %s: %w: another account was connected before the redirect", p.Name, ErrConflict)
		}
	}
	return record, p, err
}

// generationKey is under which the request of a redirect says as which account it was sent (tokenRecord.Generation).
type generationKey struct{}

// providerOf returns the integration of an account as it was when the account got its token, or newer: the one in the
// cache may be another of the same name, which was deleted before the account was connected.
func (e *Engine) providerOf(ctx context.Context, record *tokenRecord) (*provider, error) {
	p, err := e.provider(ctx, record.Integration)
	if err == nil && toMillis(p.loaded) <= record.Refreshed {
		return e.freshProvider(ctx, record.Integration)
	}
	return p, err
}

// send sends a copy of req with the account's authorisation. The response names req itself as its request, so that
// nobody finds the token there.
func (e *Engine) send(via http.RoundTripper, p *provider, req *http.Request, body io.ReadCloser, record *tokenRecord) (*http.Response, error) {
	ctx, span := e.telemetry.Start(req.Context(), telemetry.SpanRequest, p.Name, record.ID)
	defer span.End()
	span.Method(req.Method)
	out := req.Clone(ctx)
	out.Body = body
	if out.Header == nil {
		out.Header = http.Header{}
	}
	p.inject(out, record.AccessToken)
	p.setHeaders(out.Header, record.Variables)
	resp, err := via.RoundTrip(out)
	if err != nil {
		span.Result(string(FailureTransient))
		return nil, &ProviderError{Integration: p.Name, Op: "request", Class: FailureTransient, Reason: err.Error(), err: err, setup: blocked(err)}
	}
	span.Answered(resp.StatusCode)
	resp.Request = req
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		resp.Request = req.WithContext(context.WithValue(req.Context(), generationKey{}, record.Generation))
	}
	if k := p.APIKey; k != nil && k.In == KeyQuery { // servers that redirect repeat the query, and errors repeat URLs
		if at, err := url.Parse(resp.Header.Get("Location")); err == nil && at.RawQuery != "" {
			at.RawQuery = dropQuery(at.RawQuery, k.Name)
			resp.Header.Set("Location", at.String())
		}
		dropRepeated(resp.Header, record.AccessToken)
	}
	return resp, nil
}

// dropRepeated takes away the headers of an answer that repeat an API key, as those do that name pages of the same list.
func dropRepeated(h http.Header, key crypto.Secret) {
	if len(key.Reveal()) < 6 { // what is so short stands anywhere
		return
	}
	for name, values := range h {
		for _, value := range values {
			if strings.Contains(value, key.Reveal()) || strings.Contains(value, url.QueryEscape(key.Reveal())) {
				delete(h, name)
				break
			}
		}
	}
}

// allows says whether a request may carry a token of this integration.
func (p *provider) allows(req *http.Request, vars map[string]string) error {
	if err := p.hosts.Check(req.URL, vars); err != nil {
		var refused *endpoint.Error
		if errors.As(err, &refused) {
			return fmt.Errorf("request with an account of %s: %w: %s %s", p.Name, ErrHostNotAllowed, refused.Host, refused.Problem)
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

// inject sets the account's authorisation and removes any other, also one under a name in unusual case, which net/http
// would send beside ours.
func (p *provider) inject(req *http.Request, token crypto.Secret) {
	name, value := "Authorization", "Bearer "+token.Reveal()
	switch k := p.APIKey; {
	case k == nil || k.In == "" || k.In == KeyBearer:
	case k.In == KeyHeader:
		name, value = k.Name, k.Prefix+token.Reveal()
	default:
		u := *req.URL
		u.RawQuery = setQuery(u.RawQuery, k.Name, token.Reveal())
		req.URL, name = &u, ""
	}
	for other := range req.Header {
		if strings.EqualFold(other, "Authorization") || strings.EqualFold(other, name) {
			delete(req.Header, other)
		}
	}
	if name != "" {
		req.Header.Set(name, value)
	}
}

// setQuery sets one parameter of a query and leaves every other one as it is written.
func setQuery(query, name, value string) string {
	set := url.QueryEscape(name) + "=" + url.QueryEscape(value)
	if query = dropQuery(query, name); query == "" {
		return set
	}
	return query + "&" + set
}

// dropQuery removes one parameter of a query.
func dropQuery(query, name string) string {
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		raw, _, _ := strings.Cut(part, "=")
		if got, err := url.QueryUnescape(raw); part != "" && (err != nil || got != name) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}
