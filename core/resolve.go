package core

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

// Resolve returns what an integration comes to with the facts of its Provider, for operators to look at. Its client
// secret is left out. in is not changed, and what is returned shares nothing with it that could be.
// Errors: those of Engine.CreateIntegration, but for what depends on the engine's Options.
func Resolve(in Integration) (Integration, error) {
	p, err := newProvider(in)
	if err != nil {
		return Integration{}, err
	}
	out := p.Integration
	if out.OAuth2 != nil {
		o := *out.OAuth2
		o.ClientSecret = crypto.Secret{}
		o.Scopes = slices.Clone(o.Scopes)
		o.AuthorizationParams, o.AddAccountParams = maps.Clone(o.AuthorizationParams), maps.Clone(o.AddAccountParams)
		o.TokenParams = maps.Clone(o.TokenParams)
		o.Errors.Permanent, o.Errors.Transient = slices.Clone(o.Errors.Permanent), slices.Clone(o.Errors.Transient)
		o.Errors.RateLimited = slices.Clone(o.Errors.RateLimited)
		out.OAuth2 = &o
	}
	if out.APIKey != nil {
		k := *out.APIKey
		out.APIKey = &k
	}
	out.Variables, out.AllowedHosts = maps.Clone(out.Variables), slices.Clone(out.AllowedHosts)
	out.Headers, out.SentHosts = maps.Clone(out.Headers), slices.Clone(out.SentHosts)
	for i := range out.SentHosts {
		out.SentHosts[i].Hosts = slices.Clone(out.SentHosts[i].Hosts)
	}
	out.Settings, out.Setup = input.Clone(out.Settings), input.Clone(out.Setup)
	return out, nil
}

// resolve fills in what an integration leaves to its catalog entry. It writes to nothing that in refers to.
func resolve(in Integration) (Integration, error) {
	if in.Provider == "" {
		return in, nil
	}
	facts, ok := catalog.Lookup(in.Provider)
	switch {
	case !ok:
		return in, invalid("provider", "is none of the catalog: "+strings.Join(catalog.Names(), ", "))
	case in.APIKey != nil:
		return in, invalid("provider", "describes OAuth: leave it empty beside apiKey")
	case in.OAuth2 == nil:
		return in, invalid("oauth2", "is empty: give at least the client id")
	}
	in.DisplayName = cmp.Or(in.DisplayName, facts.DisplayName)
	in.OAuth2 = resolveOAuth2(*in.OAuth2, &facts)
	in.Identity = resolveIdentity(in.Identity, facts.Identity)
	in.AllowedHosts = given(in.AllowedHosts, facts.AllowedHosts)
	in.Variables = resolveVariables(in.Variables, facts.Variables)
	if len(in.SentHosts) == 0 {
		for _, s := range facts.SentHosts {
			in.SentHosts = append(in.SentHosts, SentHost{
				Field: s.Field, In: SentIn(s.In), Hosts: s.Hosts, TokenHost: s.TokenHost, Optional: s.Optional,
			})
		}
	}
	return in, nil
}

func resolveOAuth2(o OAuth2, facts *catalog.Provider) *OAuth2 {
	o.ClientAuth = cmp.Or(o.ClientAuth, ClientAuth(facts.ClientAuth))
	o.AuthorizationURL = cmp.Or(o.AuthorizationURL, facts.AuthorizationURL)
	o.TokenURL = cmp.Or(o.TokenURL, facts.TokenURL)
	o.Issuer = cmp.Or(o.Issuer, facts.Issuer)
	o.ScopeSeparator = cmp.Or(o.ScopeSeparator, facts.ScopeSeparator)
	o.PKCE = cmp.Or(o.PKCE, PKCE(facts.PKCE))
	o.TokenEncoding = cmp.Or(o.TokenEncoding, TokenEncoding(facts.TokenEncoding))
	o.TokenPath = cmp.Or(o.TokenPath, facts.TokenPath)
	o.ScopeParam = cmp.Or(o.ScopeParam, facts.ScopeParam)
	o.NonceOptional = o.NonceOptional || facts.NonceOptional
	o.TenantParam = cmp.Or(o.TenantParam, facts.TenantParam)
	o.TokensPerUser = cmp.Or(o.TokensPerUser, facts.Limits.TokensPerUser)

	if o.RevocationURL == "" || facts.Revoke.Style != catalog.RevokeNone { // "none" says that there is no URL, not how one is called
		o.Revocation.Style = cmp.Or(o.Revocation.Style, RevocationStyle(facts.Revoke.Style))
		o.Revocation.Scope = cmp.Or(o.Revocation.Scope, RevocationScope(facts.Revoke.Scope))
	}
	o.RevocationURL = cmp.Or(o.RevocationURL, facts.Revoke.URL)
	o.Refresh = RefreshTokens{
		Rotation:    cmp.Or(o.Refresh.Rotation, rotation(facts.Refresh)),
		Grace:       cmp.Or(o.Refresh.Grace, facts.Refresh.Grace),
		IdleTTL:     cmp.Or(o.Refresh.IdleTTL, facts.Refresh.IdleTTL),
		MaxTTL:      cmp.Or(o.Refresh.MaxTTL, facts.Refresh.MaxTTL),
		MinInterval: cmp.Or(o.Refresh.MinInterval, facts.Refresh.MinInterval),
	}
	o.Errors = TokenErrors{
		Permanent:         given(o.Errors.Permanent, facts.Errors.Permanent),
		Transient:         given(o.Errors.Transient, facts.Errors.Transient),
		RateLimited:       given(o.Errors.RateLimited, facts.Errors.RateLimited),
		CodePath:          cmp.Or(o.Errors.CodePath, facts.Errors.CodePath),
		OKStatusErrorPath: cmp.Or(o.Errors.OKStatusErrorPath, facts.Errors.OKStatusErrorPath),
	}

	scopes := slices.Clone(facts.Scopes)
	for _, scope := range o.Scopes {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	o.Scopes = scopes
	o.AuthorizationParams = mergeParams(o.AuthorizationParams, facts.AuthorizationParams)
	o.AddAccountParams = mergeParams(o.AddAccountParams, facts.AddAccountParams)
	o.TokenParams = mergeParams(o.TokenParams, facts.TokenParams)
	return &o
}

func rotation(r catalog.Refresh) Rotation {
	switch {
	case r.SingleUse:
		return RotationSingleUse
	case r.Rotates:
		return RotationReusable
	default:
		return RotationNever
	}
}

// resolveIdentity fills in the paths only where they lead through the same answer.
func resolveIdentity(id Identity, facts catalog.Identity) Identity {
	if id.Source != "" && id.Source != IdentitySource(facts.Source) {
		return id
	}
	return Identity{
		Source:         IdentitySource(facts.Source),
		URL:            cmp.Or(id.URL, facts.URL),
		SubjectPath:    cmp.Or(id.SubjectPath, facts.SubjectPath),
		TenantPath:     cmp.Or(id.TenantPath, facts.TenantPath),
		DisplayPath:    cmp.Or(id.DisplayPath, facts.DisplayPath),
		TenantOptional: id.TenantOptional,
	}
}

// resolveVariables merges by name, and each variable field by field.
func resolveVariables(vars map[string]Variable, facts map[string]catalog.Variable) map[string]Variable {
	merged := maps.Clone(vars)
	for name, fact := range facts {
		if merged == nil {
			merged = make(map[string]Variable, len(facts))
		}
		v := merged[name]
		v.Pattern, v.Default = cmp.Or(v.Pattern, fact.Pattern), cmp.Or(v.Default, fact.Default)
		merged[name] = v
	}
	return merged
}

// mergeParams lays own over facts; an empty value of own removes the fact.
func mergeParams(own, facts map[string]string) map[string]string {
	merged := maps.Clone(facts)
	if merged == nil {
		merged = make(map[string]string, len(own))
	}
	for name, value := range own {
		if value == "" {
			delete(merged, name)
		} else {
			merged[name] = value
		}
	}
	return merged
}

// given returns a list of the integration's own, or that of its entry.
func given(own, facts []string) []string {
	if len(own) > 0 {
		return own
	}
	return facts
}
