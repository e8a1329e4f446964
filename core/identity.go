package core

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
)

// clockLeeway is how far apart a provider's clock and ours may be.
const clockLeeway = 2 * time.Minute

// identify finds out which provider account answered. An integration that does not say how leaves it unknown; one that
// does gets an error when the answer lacks it, so that an account is never stored under half an identity.
func (e *Engine) identify(ctx context.Context, p *provider, answer *oauth.Answer, session *sessionRecord, callback url.Values, tokenURL string, vars map[string]string) (ProviderAccount, error) {
	account, err := e.whose(ctx, p, answer, session, tokenURL, vars)
	if err != nil {
		return ProviderAccount{}, err
	}
	return p.inTenant(account, callback)
}

// whose is identify without what the browser brought.
func (e *Engine) whose(ctx context.Context, p *provider, answer *oauth.Answer, session *sessionRecord, tokenURL string, vars map[string]string) (ProviderAccount, error) {
	claims, err := p.idToken(answer.IDToken, session, e.now())
	if err != nil {
		return ProviderAccount{}, err
	}
	switch p.Integration.Identity.Source {
	case IdentityIDToken:
		if claims == nil {
			return ProviderAccount{}, p.problem("identity", FailurePermanent, "the provider sent no id_token: ask for the scope openid")
		}
		issuer, _ := claims["iss"].(string)
		return p.account(claims, issuer)
	case IdentityToken:
		return p.account(answer.Fields, hostOf(tokenURL))
	case IdentityURL:
		fields, host, err := e.whoAmI(ctx, p, answer.AccessToken, vars)
		if err != nil {
			return ProviderAccount{}, err
		}
		account, err := p.account(fields, host)
		// OpenID Connect Core §5.3.2: userinfo must be about the subject of the id_token.
		if err == nil && claims != nil && p.Integration.Identity.SubjectPath == "sub" && claims["sub"] != account.Subject {
			return ProviderAccount{}, p.problem("identity", FailurePermanent, "userinfo and id_token are about different accounts")
		}
		return account, err
	default:
		return ProviderAccount{}, nil
	}
}

// account reads an account out of the fields that identify it.
func (p *provider) account(fields map[string]any, host string) (ProviderAccount, error) {
	id := p.Integration.Identity
	account := ProviderAccount{Issuer: host, Subject: oauth.Field(fields, id.SubjectPath)}
	if p.OAuth2 != nil && p.OAuth2.Issuer != "" && !p.manyHosts() {
		account.Issuer = p.OAuth2.Issuer
	}
	if id.TenantPath != "" {
		account.Tenant = oauth.Field(fields, id.TenantPath)
	}
	var problem string
	switch {
	case account.Tenant != "" || id.TenantPath == "":
	case !absent(fields, id.TenantPath):
		problem = "is of a kind that no id has"
	case !id.TenantOptional && (p.OAuth2 == nil || p.OAuth2.TenantParam == ""): // with TenantParam the callback tells it
		problem = "is missing; see Identity.TenantOptional"
	}
	if id.DisplayPath != "" {
		account.Display = displayName(oauth.Field(fields, id.DisplayPath))
	}
	switch {
	case account.Subject == "":
		return account, p.problem("identity", FailurePermanent, fmt.Sprintf("the provider's answer has no %s to know the account by", id.SubjectPath))
	case problem != "": // all tenants would be one
		return account, p.problem("identity", FailurePermanent, fmt.Sprintf("the %s of the provider's answer, which tells the tenant of the account, %s", id.TenantPath, problem))
	case len(account.Subject) > 512 || len(account.Tenant) > 512:
		return account, p.problem("identity", FailurePermanent, "the provider's answer has an account id that is too long")
	}
	return account, nil
}

// absent reports whether there is nothing at a path: no field, null, or an empty text.
func absent(fields map[string]any, path string) bool {
	var v any = fields
	for name := range strings.SplitSeq(path, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			break
		}
		v = object[name]
	}
	return v == nil || v == ""
}

// inTenant adds the tenant that the callback names, which must be the one that the provider itself told, if it did.
func (p *provider) inTenant(account ProviderAccount, callback url.Values) (ProviderAccount, error) {
	param := p.OAuth2.TenantParam
	if param == "" {
		return account, nil
	}
	refuse := func(reason string) (ProviderAccount, error) {
		return ProviderAccount{}, p.problem("identity", FailurePermanent, reason)
	}
	values := callback[param]
	switch {
	case len(values) != 1 || values[0] == "":
		return refuse("the callback has no " + param + ", or several, to know the tenant by")
	case len(values[0]) > 512 || strings.ContainsFunc(values[0], func(r rune) bool { return r <= ' ' || r > '~' }):
		return refuse("the callback has a " + param + " that is no id")
	case account.Tenant != "" && account.Tenant != values[0]:
		return refuse("the callback names another tenant than the provider's answer")
	}
	account.Tenant = values[0]
	return account, nil
}

// manyHosts reports whether accounts are told by hosts that differ between them, within each of which alone a subject
// counts. An id_token names its issuer itself.
func (p *provider) manyHosts() bool {
	switch p.Integration.Identity.Source {
	case IdentityURL:
		return p.identity.VariableHost()
	case IdentityToken:
		return p.token.VariableHost() || slices.ContainsFunc(p.SentHosts, func(s SentHost) bool { return s.TokenHost })
	default:
		return false
	}
}

// displayName makes a provider's text fit to be shown: one line of at most 200 characters.
func displayName(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200])
	}
	return strings.TrimSpace(text)
}

// idToken checks an id_token and returns its claims, nil when there is none. It came from the token endpoint itself over
// TLS, which stands for its signature (OpenID Connect Core §3.1.3.7, point 6); all other checks are made.
func (p *provider) idToken(raw crypto.Secret, session *sessionRecord, now time.Time) (map[string]any, error) {
	needed := p.Integration.Identity.Source == IdentityIDToken || p.OAuth2.Issuer != "" || session.needsNonce()
	refuse := func(reason string) (map[string]any, error) {
		return nil, p.problem("identity", FailurePermanent, "the id_token "+reason)
	}
	switch {
	case raw.IsZero() && session.needsNonce() && slices.Contains(p.OAuth2.Scopes, "openid"):
		return refuse("is missing, whose nonce stands for PKCE") // security 5: never silently dropped
	case raw.IsZero() || !needed:
		return nil, nil
	}
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(raw.Reveal(), claims); err != nil {
		return refuse("cannot be read")
	}
	switch iss, err := claims.GetIssuer(); {
	case err != nil || iss == "": // a subject means nothing without one (security 10)
		return refuse("names no issuer")
	case p.OAuth2.Issuer != "" && iss != p.OAuth2.Issuer:
		return refuse("names another issuer than this integration's")
	}
	if aud, err := claims.GetAudience(); err != nil || !slices.Contains(aud, session.ClientID) {
		return refuse("is meant for another client")
	}
	if exp, err := claims.GetExpirationTime(); err != nil || exp == nil || now.After(exp.Add(clockLeeway)) {
		return refuse("has expired")
	}
	claim, sent := claims["nonce"]
	nonce, _ := claim.(string)
	// Point 11, with PKCE too: who takes a code from a request of their own, without nonce and challenge, gets an id_token
	// without one, and a provider that lets PKCE be dropped takes our verifier beside that code (RFC 9700 §4.8.2).
	expected := session.needsNonce() || session.sendsNonce(p) && !p.OAuth2.NonceOptional
	switch {
	case !sent && expected:
		return refuse("belongs to another session: it has no nonce, although one was sent; see OAuth2.NonceOptional")
	case sent && !crypto.NewSecret(nonce).Equal(session.Nonce):
		return refuse("belongs to another session")
	}
	return claims, nil
}

// whoAmI asks the provider whose token this is.
func (e *Engine) whoAmI(ctx context.Context, p *provider, token crypto.Secret, vars map[string]string) (fields map[string]any, host string, err error) {
	u, err := p.identity.Expand(vars)
	if err != nil {
		return nil, "", valueError(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", p.problem("identity", FailurePermanent, "the identity URL cannot be called")
	}
	p.inject(req, token)
	req.Header.Set("Accept", "application/json")
	fields, err = e.ask(ctx, p, "identity", req)
	return fields, u.Host, err
}

// ask makes a call with an account's authorisation and returns the JSON object that came back.
func (e *Engine) ask(ctx context.Context, p *provider, op string, req *http.Request) (map[string]any, error) {
	resp, err := e.out.Do(ctx, req)
	if err != nil {
		return nil, &ProviderError{Integration: p.Name, Op: op, Class: FailureTransient, Reason: err.Error(), err: err, setup: blocked(err)}
	}
	if resp.Status < 200 || resp.Status > 299 {
		failed := &ProviderError{Integration: p.Name, Op: op, Class: FailureTransient, Status: resp.Status, Reason: "the provider failed"}
		switch {
		case resp.Status == http.StatusTooManyRequests:
			failed.Class, failed.Reason = FailureRateLimited, "the provider asks to slow down"
		case resp.Status < 400:
			failed.Reason, failed.setup = "the provider redirects, which no call with a token follows; check the URL", true
		case resp.Status < 500:
			failed.Class, failed.Reason, failed.setup = FailurePermanent, "the provider refused; check the URL and the scopes", true
		}
		return nil, failed
	}
	fields, err := oauth.Object(resp.Body)
	if err != nil {
		return nil, &ProviderError{Integration: p.Name, Op: op, Class: FailureTransient, Status: resp.Status, Reason: "the provider's answer is no JSON object"}
	}
	return fields, nil
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
