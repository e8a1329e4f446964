package core

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/polycred/polycred/core/internal/telemetry"
)

// Upstream is the API of a provider as one account, for one request: what a proxy needs of User.Client, with a single read of
// the store. It is for the request that it was made for, and not for concurrent use.
type Upstream struct {
	u      *User
	record tokenRecord
	p      *provider
}

// Upstream returns the API of the account that sel names, whatever is due of its token: that comes with the request.
// Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError, ErrReconnect, ErrPending, ErrDisabled, ErrPermission.
func (u *User) Upstream(ctx context.Context, sel Selector) (*Upstream, error) {
	up, err := u.upstream(ctx, sel)
	if err != nil {
		return nil, fmt.Errorf("request as %s: %w", sel, err)
	}
	return up, nil
}

func (u *User) upstream(ctx context.Context, sel Selector) (*Upstream, error) {
	record, err := u.stored(ctx, sel, actUse)
	if err == nil {
		err = record.usable()
	}
	if err != nil {
		return nil, err
	}
	p, err := u.e.providerOf(ctx, &record)
	if err != nil {
		return nil, err
	}
	return &Upstream{u: u, record: record, p: p}, nil
}

// Credential returns the id of the account, and Integration the name of its integration.
func (up *Upstream) Credential() string { return up.record.ID }

// Integration returns the name of the account's integration.
func (up *Upstream) Integration() string { return up.record.Integration }

// BaseURL returns where paths of the provider's API begin for this account (Integration.APIURL), a URL of the caller's own.
// Errors: InputError where the integration does not say, or the account lacks a variable that it needs.
func (up *Upstream) BaseURL() (*url.URL, error) {
	if up.p.api == nil {
		return nil, invalid("apiUrl", "is not set for integration "+up.p.Name+": name a whole URL")
	}
	base, err := up.p.api.Expand(up.record.Variables)
	if err != nil {
		return nil, valueError(err)
	}
	return base, nil
}

// RoundTrip sends the request as the account, as User.Client does: only to hosts that the integration allows, with its token
// set, and refreshed where it has to be. The context of the request bounds how long it waits for an answer. Redirects are
// returned, not followed; a request that follows one names the answer that redirects (http.Request.Response), and goes only to
// the same host, as the same account. Errors: ErrHostNotAllowed, ProviderError, ErrConflict, ErrReconnect and the others of
// User.Token.
func (up *Upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	record, p, err := up.u.ready(req, up.record)
	if err != nil {
		return nil, unsent(req, err)
	}
	if req.Response == nil {
		up.u.used(req.Context(), record.Integration, record.ID, "proxy")
		up.u.e.telemetry.Issued(req.Context(), record.Integration, telemetry.UseProxy)
	}
	resp, err := up.u.exchange(up.u.e.out.Patient(), req, &record, p)
	up.record = record
	return resp, err
}
