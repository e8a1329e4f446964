package core

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/core/internal/endpoint"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/storage"
)

// provider is an integration made ready for use: with the facts of its catalog entry, checked, its URLs parsed. It is
// immutable.
type provider struct {
	Integration
	rev      storage.Rev
	deleting bool
	loaded   time.Time

	authorization, token, identity, test *endpoint.Template // nil where there is none
	revocation                           *endpoint.Template // the same; it may have the variable client_id
	api                                  *endpoint.Template // nil where paths lead nowhere
	headers                              []header
	values                               map[string]*endpoint.Template // by variable: to check its value by itself
	hosts                                *endpoint.Hosts
	sentHosts                            map[string]*endpoint.Sent // by field: the list of SentHosts, ready for use
}

// The parameters of the protocol itself (RFC 6749 §4.1.1 and §4.1.3, RFC 7636 §4.3 and §4.5).
var ownParams = []string{
	"response_type", "client_id", "client_secret", "redirect_uri", "scope", "state", "nonce", "code", "code_verifier",
	"code_challenge", "code_challenge_method", "grant_type", "refresh_token",
	"request", "request_uri", // RFC 9101: they would override all of these
}

// newProvider checks an integration; every problem is an InputError that names the field.
func newProvider(in Integration) (*provider, error) {
	if err := checkName(in.Name); err != nil {
		return nil, err
	}
	in, err := resolve(in)
	if err != nil {
		return nil, err
	}
	p := &provider{Integration: in}
	vars, err := p.variables()
	if err != nil {
		return nil, err
	}
	p.values = make(map[string]*endpoint.Template, len(in.Variables))
	for name := range in.Variables {
		if p.values[name], err = endpoint.Parse("https://value.invalid/{"+name+"}", vars); err != nil {
			return nil, invalid("variables."+clip(name), err.Error())
		}
		if v := in.Variables[name].Default; v != "" {
			if _, err := p.values[name].Expand(map[string]string{name: v}); err != nil {
				return nil, invalid("variables."+clip(name)+".default", "is no value that the variable may have")
			}
		}
	}
	switch {
	case (in.OAuth2 == nil) == (in.APIKey == nil):
		return nil, invalid("oauth2", "or apiKey has to be set, and only one of the two")
	case in.OAuth2 != nil:
		err = p.checkOAuth2(vars)
	default:
		err = p.checkAPIKey(vars)
	}
	if err != nil {
		return nil, err
	}
	if err := p.checkIdentity(vars); err != nil {
		return nil, err
	}
	if p.hosts, err = endpoint.ParseHosts(in.AllowedHosts, vars); err != nil {
		return nil, invalid("allowedHosts", err.Error())
	}
	if err := p.checkAPI(vars); err != nil {
		return nil, err
	}
	if p.Settings, err = input.Check("settings", in.Settings); err != nil {
		return nil, wrongInput(err)
	}
	if p.Setup, err = input.Check("setup", in.Setup); err != nil {
		return nil, wrongInput(err)
	}
	if !oneOf(in.SameAccount, "", SameAccountUpdate, SameAccountReject, SameAccountAllow) {
		return nil, invalid("sameAccount", `must be "update", "reject" or "allow"`)
	}
	if !oneOf(in.OtherAccount, "", OtherAccountRefuse, OtherAccountReplace) {
		return nil, invalid("otherAccount", `must be "refuse" or "replace"`)
	}
	return p, nil
}

// newProvider checks an integration that is to be stored in this engine's project. Plain http is for hosts that the
// engine may ask over it; the page that a browser is sent to is held to the same.
func (e *Engine) newProvider(in Integration) (*provider, error) {
	p, err := newProvider(in)
	if err != nil {
		return nil, err
	}
	for field, t := range map[string]*endpoint.Template{
		"oauth2.authorizationUrl": p.authorization, "oauth2.tokenUrl": p.token, "identity.url": p.identity, "apiKey.testUrl": p.test,
		"oauth2.revocationUrl": p.revocation, "apiUrl": p.api,
	} {
		if t == nil || !strings.HasPrefix(t.String(), "http:") || t == p.api && in.APIURL == "" { // one of AllowedHosts, as ever
			continue
		}
		var values map[string]string
		if t == p.revocation {
			values = p.withClientID(p.OAuth2.ClientID, nil)
		}
		if u, err := t.Expand(values); err != nil || !e.plain(u) {
			return nil, invalid(field, "must be https; plain http needs its host and port in Options.PrivateHosts")
		}
	}
	return p, nil
}

// plain reports whether a URL's host may be asked over plain http.
func (e *Engine) plain(u *url.URL) bool {
	host, err := endpoint.HostPort(u.Scheme, u.Host)
	return err == nil && slices.ContainsFunc(e.opts.PrivateHosts, func(listed string) bool {
		canonical, err := endpoint.HostPort("", listed)
		return err == nil && canonical == host
	})
}

func oneOf[T comparable](v T, choices ...T) bool { return slices.Contains(choices, v) }

// variables are the names that templates may use: those a person gives, and those the provider sends.
func (p *provider) variables() (map[string]endpoint.Variable, error) {
	vars := make(map[string]endpoint.Variable, len(p.Variables)+len(p.SentHosts))
	for name, v := range p.Variables {
		vars[name] = endpoint.Variable{Pattern: v.Pattern, Default: v.Default, PrivateSuffix: v.CustomerDomains}
	}
	p.sentHosts = make(map[string]*endpoint.Sent, len(p.SentHosts))
	for i, sent := range p.SentHosts {
		field := fmt.Sprintf("sentHosts.%d", i)
		if _, twice := vars[sent.Field]; twice || sent.Field == "" {
			return nil, invalid(field+".field", "is empty, or the name of another variable")
		}
		if !oneOf(sent.In, SentInCallback, SentInToken) {
			return nil, invalid(field+".in", `must be "callback" or "token"`)
		}
		if len(sent.Hosts) == 0 {
			return nil, invalid(field+".hosts", "is empty: list the hosts that are believed")
		}
		if sent.TokenHost && (sent.In != SentInCallback || p.OAuth2 == nil) {
			return nil, invalid(field+".tokenHost", "is only possible for a field of an OAuth callback")
		}
		list, err := endpoint.ParseSentHosts(sent.Hosts, sent.TokenHost)
		if err != nil {
			return nil, invalid(field+".hosts", err.Error())
		}
		p.sentHosts[sent.Field], vars[sent.Field] = list, endpoint.Variable{Origin: list}
	}
	return vars, nil
}

func (p *provider) checkOAuth2(vars map[string]endpoint.Variable) (err error) {
	o := p.OAuth2
	if o.ClientID == "" {
		return invalid("oauth2.clientId", "is empty: register an application at the provider")
	}
	if p.authorization, err = endpoint.Parse(o.AuthorizationURL, vars); err != nil {
		return invalid("oauth2.authorizationUrl", err.Error())
	}
	if p.token, err = endpoint.Parse(o.TokenURL, vars); err != nil {
		return invalid("oauth2.tokenUrl", err.Error())
	}
	for _, sent := range p.SentHosts { // known only after the code was spent, or after the token host was used
		for _, early := range append(p.authorization.Variables(), p.token.Variables()...) {
			if early == sent.Field {
				return invalid("oauth2.tokenUrl", fmt.Sprintf("uses {%s}, which the provider sends too late; see sentHosts.tokenHost", early))
			}
		}
	}
	if o.Issuer != "" {
		if u, err := url.Parse(o.Issuer); err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return invalid("oauth2.issuer", "must be a URL without query and fragment (RFC 8414 §2)")
		}
	} else if o.RequireIssuer {
		return invalid("oauth2.issuer", "is empty, but requireIssuer is set")
	}
	if !oneOf(o.ClientAuth, "", ClientAuthBasic, ClientAuthBody, ClientAuthNone) {
		return invalid("oauth2.clientAuth", `must be "basic", "body" or "none"`)
	}
	if !oneOf(o.PKCE, "", PKCERequired, PKCERefused) {
		return invalid("oauth2.pkce", `must be "required" or "refused"`)
	}
	if o.PKCE == PKCERefused && o.ClientAuth == ClientAuthNone {
		return invalid("oauth2.pkce", "can be refused only with a client secret: nothing else would protect the code")
	}
	for field, params := range map[string]map[string]string{
		"authorizationParams": o.AuthorizationParams, "addAccountParams": o.AddAccountParams, "tokenParams": o.TokenParams,
	} {
		for name := range params {
			if oneOf(name, ownParams...) {
				return invalid("oauth2."+field, fmt.Sprintf("sets %q, which polycred sets itself", name))
			}
		}
	}
	for _, scope := range o.Scopes {
		if scope == "" || strings.ContainsAny(scope, " \t\r\n\"\\") {
			return invalid("oauth2.scopes", "has an empty scope, or one with a space, quote or backslash (RFC 6749 §3.3)")
		}
	}
	if o.ScopeParam != "" && (!token(o.ScopeParam) || (o.ScopeParam != "scope" && oneOf(o.ScopeParam, ownParams...))) {
		return invalid("oauth2.scopeParam", "is no name of a parameter, or one that polycred sets itself")
	}
	if !oneOf(o.TokenEncoding, "", TokenForm, TokenJSON) {
		return invalid("oauth2.tokenEncoding", `must be "form" or "json"`)
	}
	if o.TokenPath != "" && o.TokenPath != "." && !oauth.ValidPath(o.TokenPath) {
		return invalid("oauth2.tokenPath", "is no path of field names with dots between")
	}
	switch {
	case o.TenantParam == "":
	case !token(o.TenantParam) || oneOf(o.TenantParam, "state", "code", "iss", "error"):
		return invalid("oauth2.tenantParam", "is no name of a parameter, or one that has another meaning")
	case p.Integration.Identity.Source == "":
		return invalid("oauth2.tenantParam", "needs an identity: a tenant alone is no account")
	}
	if err := o.Errors.check(); err != nil {
		return err
	}
	return p.checkRevocation(vars)
}

// check checks what decides about the life of accounts.
func (c *TokenErrors) check() error {
	seen := map[string]bool{}
	for field, codes := range map[string][]string{"permanent": c.Permanent, "transient": c.Transient, "rateLimited": c.RateLimited} {
		for _, code := range codes {
			if !oauth.ValidCode(code) {
				return invalid("oauth2.errors."+field, "has a code that is not 1 to 64 letters, digits, '.', '-', '_' and inner spaces")
			}
			if seen[code] {
				return invalid("oauth2.errors", fmt.Sprintf("lists %q twice", code))
			}
			seen[code] = true
		}
	}
	for field, path := range map[string]string{"codePath": c.CodePath, "okStatusErrorPath": c.OKStatusErrorPath} {
		if path != "" && !oauth.ValidPath(path) {
			return invalid("oauth2.errors."+field, "is no path of field names with dots between")
		}
	}
	return nil
}

// checkRevocation checks how tokens end, at our wish and by themselves.
func (p *provider) checkRevocation(vars map[string]endpoint.Variable) (err error) {
	o := p.OAuth2
	if o.RevocationURL != "" {
		vars = maps.Clone(vars)
		if _, declared := vars["client_id"]; !declared {
			vars["client_id"] = endpoint.Variable{Pattern: ".+"}
		}
		if p.revocation, err = endpoint.Parse(o.RevocationURL, vars); err != nil {
			return invalid("oauth2.revocationUrl", err.Error())
		}
	}
	switch r := o.Refresh; {
	case !oneOf(o.Revocation.Style, "", RevocationForm, RevocationBearer, RevocationDelete, RevocationNone):
		return invalid("oauth2.revocation.style", `must be "rfc7009", "bearer", "delete" or "none"`)
	case !oneOf(o.Revocation.Scope, "", RevokesToken, RevokesGrant):
		return invalid("oauth2.revocation.scope", `must be "token" or "grant"`)
	case !oneOf(r.Rotation, "", RotationNever, RotationReusable, RotationSingleUse):
		return invalid("oauth2.refresh.rotation", `must be "never", "reusable" or "single_use"`)
	case min(r.Grace, r.IdleTTL, r.MaxTTL, r.MinInterval) < 0:
		return invalid("oauth2.refresh", "has a negative duration")
	case o.TokensPerUser < 0:
		return invalid("oauth2.tokensPerUser", "is negative")
	}
	return nil
}

func (p *provider) checkAPIKey(vars map[string]endpoint.Variable) (err error) {
	k := p.APIKey
	switch k.In {
	case "", KeyBearer:
		if k.Name != "" || k.Prefix != "" {
			return invalid("apiKey.name", "and prefix must be empty for bearer: use in \"header\" to choose them")
		}
	case KeyHeader, KeyQuery:
		if !token(k.Name) {
			return invalid("apiKey.name", "is not the name of a header or query parameter")
		}
	default:
		return invalid("apiKey.in", `must be "bearer", "header" or "query"`)
	}
	if strings.ContainsFunc(k.Prefix, func(r rune) bool { return r < 0x20 || r > 0x7e }) || (k.Prefix != "" && k.In != KeyHeader) {
		return invalid("apiKey.prefix", "is only for headers, and plain text")
	}
	if p.test, err = endpoint.Parse(k.TestURL, vars); err != nil {
		return invalid("apiKey.testUrl", err.Error())
	}
	return nil
}

func (p *provider) checkIdentity(vars map[string]endpoint.Variable) (err error) {
	id := p.Integration.Identity
	choices := []IdentitySource{"", IdentityURL, IdentityIDToken, IdentityToken}
	if p.APIKey != nil {
		choices = []IdentitySource{"", IdentityURL, IdentityTest}
	}
	switch {
	case !oneOf(id.Source, choices...):
		return invalid("identity.source", fmt.Sprintf("must be one of %q for this auth scheme, or empty", choices[1:]))
	case id.Source == "" && id != (Identity{}):
		return invalid("identity.source", "is empty, but other fields of identity are set")
	case id.Source != "" && id.SubjectPath == "":
		return invalid("identity.subjectPath", "is empty: name the field that holds the account's id")
	case id.TenantOptional && id.TenantPath == "":
		return invalid("identity.tenantOptional", "is only for an identity with tenantPath")
	case id.Source == IdentityURL:
		if p.identity, err = endpoint.Parse(id.URL, vars); err != nil {
			return invalid("identity.url", err.Error())
		}
	case id.URL != "":
		return invalid("identity.url", `is only for source "url"`)
	}
	return nil
}

// token reports whether s is a token in the sense of RFC 9110 §5.6.2.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

// checkVariables returns the values that a person gave, when they are those that the integration's URLs need.
// Defaults stand in for those that are missing.
func (p *provider) checkVariables(given map[string]string) (map[string]string, error) {
	values := maps.Clone(given)
	for name, v := range p.Variables {
		if v.Default != "" && values[name] == "" {
			if values == nil {
				values = make(map[string]string, len(p.Variables))
			}
			values[name] = v.Default
		}
	}
	if err := p.checkGiven(values); err != nil {
		return nil, err
	}
	for _, t := range []*endpoint.Template{p.authorization, p.token, p.identity, p.test} {
		if t == nil || slices.ContainsFunc(t.Variables(), p.sent) {
			continue
		}
		if _, err := t.Expand(values); err != nil {
			return nil, valueError(err)
		}
	}
	return values, nil
}

// checkGiven checks each value by itself, also of a variable that only AllowedHosts use: what is stored is good.
func (p *provider) checkGiven(values map[string]string) error {
	for name := range values {
		value, known := p.values[name]
		if !known {
			return invalid("variables."+clip(name), "is not a variable of this integration")
		}
		var refused *endpoint.Error
		if _, err := value.Expand(values); errors.As(err, &refused) {
			return invalid("variables."+name, refused.Problem)
		}
	}
	return nil
}

// sent reports whether a variable is one that the provider sends.
func (p *provider) sent(name string) bool {
	return slices.ContainsFunc(p.SentHosts, func(s SentHost) bool { return s.Field == name })
}

// valueError turns a refused value into an InputError that names the variable, never the value.
func valueError(err error) error {
	var refused *endpoint.Error
	if errors.As(err, &refused) {
		return invalid("variables."+refused.Variable, refused.Problem)
	}
	return err
}

// clip makes what came from outside fit for an error text: short, on one line, and in valid UTF-8.
func clip(s string) string {
	s = strings.ToValidUTF8(short(s), "\uFFFD")
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		quoted := strconv.Quote(s)
		s = quoted[1 : len(quoted)-1]
	}
	return s
}

// short cuts what is long, between two characters.
func short(s string) string {
	if len(s) > maxName {
		return strings.ToValidUTF8(s[:maxName], "") + "…"
	}
	return s
}
