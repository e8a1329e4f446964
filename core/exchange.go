package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/crypto"
)

// authorized turns the provider's answer into a grant: issuer check, code exchange, identity.
func (e *Engine) authorized(ctx context.Context, by *User, record *sessionRecord, values url.Values) (*grant, error) {
	p, err := e.freshProvider(ctx, record.Integration)
	if err != nil {
		return nil, err
	}
	if !p.stillOf(record) {
		return nil, fmt.Errorf("%w: the integration was changed; start again", ErrSession)
	}
	if err := p.checkIssuer(values); err != nil {
		return nil, err
	}
	if code := values.Get("error"); code != "" {
		return nil, p.refusal(code)
	}
	g := &grant{wish: record.wish(by), variables: cloneMap(record.Variables), clientID: record.ClientID}
	tokenURL, err := p.callbackHosts(values, record.TokenURL, g.variables)
	if err != nil {
		return nil, err
	}
	endpoint, err := e.tokenEndpoint(ctx, p, "exchange", tokenURL)
	if err != nil {
		return nil, err
	}
	answer, err := traced(ctx, e, telemetry.SpanExchange, p.Name, func(ctx context.Context) (*oauth.Answer, error) {
		answer, err := endpoint.Exchange(ctx, values.Get("code"), record.RedirectURI, record.Verifier)
		if err != nil {
			err = p.failure("exchange", err)
		}
		return answer, err
	})
	if err != nil {
		return nil, err
	}
	if err := p.tokenHosts(answer, g.variables); err != nil {
		return nil, err
	}
	g.account, err = traced(ctx, e, telemetry.SpanIdentify, p.Name, func(ctx context.Context) (ProviderAccount, error) {
		return e.identify(ctx, p, answer, record, values, tokenURL, g.variables)
	})
	if err != nil {
		return nil, err
	}
	g.access, g.refresh, g.tokenType, g.lifetime = answer.AccessToken, answer.RefreshToken, answer.TokenType, answer.Lifetime
	if g.scopes = answer.Scopes; g.scopes == nil {
		g.scopes = p.OAuth2.Scopes
	}
	return g, nil
}

// stillOf reports whether an integration has the client and token endpoint that a session began with: a secret that was
// set since for another provider must not be sent to the one before.
func (p *provider) stillOf(record *sessionRecord) bool {
	if p.OAuth2 == nil || p.OAuth2.ClientID != record.ClientID {
		return false
	}
	u, err := p.token.Expand(record.Variables)
	return err == nil && u.String() == record.TokenURL
}

// checkIssuer stops a mix-up of authorization servers (RFC 9207 §2.4).
func (p *provider) checkIssuer(values url.Values) error {
	iss := values.Get("iss")
	switch {
	case p.OAuth2.Issuer == "" || iss == p.OAuth2.Issuer:
		return nil
	case iss == "" && !p.OAuth2.RequireIssuer:
		return nil
	}
	return p.problem("authorize", FailurePermanent, "the answer names another issuer than this integration's")
}

// refusal is the error that an authorization server redirected with (RFC 6749 §4.1.2.1).
func (p *provider) refusal(code string) error {
	if code == "access_denied" {
		return fmt.Errorf("%s: %w", p.Name, ErrDenied)
	}
	class := FailurePermanent
	if code == "server_error" || code == "temporarily_unavailable" {
		class = FailureTransient
	}
	return &ProviderError{Integration: p.Name, Op: "authorize", Class: class, Code: oauth.CleanCode(code), Reason: "the provider refused"}
}

// callbackHosts takes the hosts that the provider sent with the browser, and returns the token URL: the session's, but
// for a host that the integration lists by name (security 3).
func (p *provider) callbackHosts(values url.Values, tokenURL string, vars map[string]string) (string, error) {
	for _, sent := range p.SentHosts {
		if sent.In != SentInCallback {
			continue
		}
		raw := values.Get(sent.Field)
		if raw == "" && sent.Optional {
			continue
		}
		origin, err := p.sentHosts[sent.Field].Parse(raw)
		if err != nil {
			return "", p.problem("authorize", FailurePermanent, "the provider sent no "+sent.Field+" that the integration lists")
		}
		vars[sent.Field] = origin
		if sent.TokenHost {
			u, err := url.Parse(tokenURL)
			if err != nil {
				return "", err
			}
			tokenURL = origin + u.EscapedPath()
		}
	}
	return tokenURL, nil
}

// tokenURL is where the tokens of an account come from: the host that the provider named when it was connected, where
// the integration lists it. One that was taken off the list gets no secret any more (security 3).
func (p *provider) tokenURL(vars map[string]string) (string, error) {
	u, err := p.token.Expand(vars)
	if err != nil {
		return "", valueError(err)
	}
	for _, sent := range p.SentHosts {
		kept := vars[sent.Field]
		if !sent.TokenHost || kept == "" {
			continue
		}
		origin, err := p.sentHosts[sent.Field].Parse(kept)
		if err != nil {
			return "", &ProviderError{
				Integration: p.Name, Op: "refresh", Class: FailureTransient, setup: true,
				Reason: "the host that the account's tokens come from (" + sent.Field + ") is not listed any more: list it again, or have the account reconnected",
			}
		}
		base, err := url.Parse(origin)
		if err != nil {
			return "", err
		}
		u.Scheme, u.Host = base.Scheme, base.Host
	}
	return u.String(), nil
}

// tokenHosts takes the hosts that the provider sent with the token.
func (p *provider) tokenHosts(answer *oauth.Answer, vars map[string]string) error {
	for _, sent := range p.SentHosts {
		if sent.In != SentInToken {
			continue
		}
		raw := oauth.Field(answer.Fields, sent.Field)
		if raw == "" && sent.Optional {
			continue
		}
		origin, err := p.sentHosts[sent.Field].Parse(raw)
		if err != nil {
			return p.problem("exchange", FailurePermanent, "the provider sent no "+sent.Field+" that the integration lists")
		}
		vars[sent.Field] = origin
	}
	return nil
}

// tokenEndpoint returns the token endpoint of an integration with its live client secrets.
func (e *Engine) tokenEndpoint(ctx context.Context, p *provider, op, tokenURL string) (*oauth.Endpoint, error) {
	secrets, err := e.clientSecrets(ctx, p, op)
	if err != nil {
		return nil, err
	}
	auth := oauth.Basic
	if p.OAuth2.ClientAuth != "" {
		auth = oauth.Auth(p.OAuth2.ClientAuth)
	}
	return &oauth.Endpoint{
		URL: tokenURL, ClientID: p.OAuth2.ClientID, Secrets: secrets, Auth: auth, Params: p.OAuth2.TokenParams,
		JSON: p.OAuth2.TokenEncoding == TokenJSON, TokenPath: strings.TrimPrefix(p.OAuth2.TokenPath, "."),
		Codes: p.OAuth2.Errors.codes(), Do: e.out.Do, Now: e.now,
	}, nil
}

func (c *TokenErrors) codes() oauth.Codes {
	return oauth.Codes{
		Permanent: c.Permanent, Transient: c.Transient, RateLimited: c.RateLimited, Path: c.CodePath, OKPath: c.OKStatusErrorPath,
	}
}

// clientSecrets returns the live client secrets of an integration, none for a public client.
func (e *Engine) clientSecrets(ctx context.Context, p *provider, op string) ([]crypto.Secret, error) {
	public := p.OAuth2.ClientAuth == ClientAuthNone
	var secrets []crypto.Secret
	if !public {
		var err error
		if secrets, _, err = e.secrets(ctx, p.Name); err != nil {
			return nil, err
		}
	}
	// Read after the secrets: they may have been set since, together with another client or endpoint. The refresh token
	// of a public client is no less of a secret.
	now, err := e.freshProvider(ctx, p.Name)
	switch {
	case err != nil: // it was deleted in between
		return nil, err
	case !now.sameEndpoint(p):
		return nil, p.problem(op, FailureTransient, "the integration was changed at the same time; try again")
	case public || len(secrets) > 0:
		return secrets, nil
	}
	return nil, p.problem(op, FailurePermanent, "the integration has no client secret: call SetClientSecret")
}

// sameEndpoint reports whether two states of an integration prove themselves as the same client at the same hosts.
func (p *provider) sameEndpoint(other *provider) bool {
	return p.OAuth2 != nil && p.OAuth2.ClientID == other.OAuth2.ClientID && p.OAuth2.ClientAuth == other.OAuth2.ClientAuth &&
		p.token.String() == other.token.String() && maps.Equal(p.Variables, other.Variables) &&
		slices.EqualFunc(p.SentHosts, other.SentHosts, func(a, b SentHost) bool {
			return a.Field == b.Field && a.TokenHost == b.TokenHost && (!a.TokenHost || slices.Equal(a.Hosts, b.Hosts))
		})
}

// problem is a ProviderError without a status. A permanent one is for the operator: trying again does not help.
func (p *provider) problem(op string, class FailureClass, reason string) error {
	return &ProviderError{Integration: p.Name, Op: op, Class: class, Reason: reason, setup: class == FailurePermanent}
}

// failure turns an error of the token endpoint into a ProviderError.
func (p *provider) failure(op string, err error) error {
	var f *oauth.Error
	if !errors.As(err, &f) {
		return err
	}
	class := FailureClass(f.Class)
	if f.Class == oauth.Rejected { // our own configuration: the accounts are as good as before
		class = FailureTransient
	}
	reason := f.Reason
	if f.ClientRejected() {
		reason = "the provider rejects the client id or secret of the integration"
	}
	if f.Err != nil {
		reason += ": " + f.Err.Error()
	}
	return &ProviderError{
		Integration: p.Name, Op: op, Class: class, Status: f.Status, Code: f.Code, Reason: reason, RetryAfter: f.RetryAfter, err: f.Err,
		setup: f.Class == oauth.Rejected || blocked(f.Err),
	}
}
