package catalog

import "fmt"

// Provider is what is known of one provider. URLs and hosts may contain variables in braces, as those of an integration.
type Provider struct {
	Name        string `json:"name"`        // as integrations refer to it
	DisplayName string `json:"displayName"` // what people read
	Docs        string `json:"docs"`        // the page of the provider that an operator starts from
	// Notes are what an operator should know, a sentence each.
	Notes []string `json:"notes,omitempty"`

	AuthorizationURL string `json:"authorizationUrl"`
	TokenURL         string `json:"tokenUrl"`
	// Issuer is the provider's issuer identifier (RFC 8414 §2); empty where it has none, or one for each tenant.
	Issuer        string        `json:"issuer,omitempty"`
	ClientAuth    ClientAuth    `json:"clientAuth"`
	PKCE          PKCE          `json:"pkce,omitempty"` // empty means PKCERequired
	TokenEncoding TokenEncoding `json:"tokenEncoding,omitempty"`
	// TokenPath leads to the object of a token answer that holds the tokens; empty means its top.
	TokenPath string `json:"tokenPath,omitempty"`
	// TenantParam is the parameter of the callback that names the tenant of an account.
	TenantParam string `json:"tenantParam,omitempty"`
	// NonceOptional: the id_token may lack the nonce that was sent (against OpenID Connect Core §3.1.3.7).
	NonceOptional bool `json:"nonceOptional,omitempty"`

	// Scopes are those that are needed for the identity of accounts and for refresh tokens; an integration's own come on top.
	Scopes []string `json:"scopes,omitempty"`
	// ScopeParam is the parameter that carries the scopes; empty means "scope".
	ScopeParam string `json:"scopeParam,omitempty"`
	// ScopeSeparator stands between scopes; empty means a space.
	ScopeSeparator string `json:"scopeSeparator,omitempty"`

	// AuthorizationParams are added to every authorization request, AddAccountParams to those that may add another account,
	// TokenParams to every token request.
	AuthorizationParams map[string]string `json:"authorizationParams,omitempty"`
	AddAccountParams    map[string]string `json:"addAccountParams,omitempty"`
	TokenParams         map[string]string `json:"tokenParams,omitempty"`

	Variables    map[string]Variable `json:"variables,omitempty"`
	SentHosts    []SentHost          `json:"sentHosts,omitempty"`
	AllowedHosts []string            `json:"allowedHosts"`

	Identity Identity `json:"identity"`
	Refresh  Refresh  `json:"refresh"`
	Revoke   Revoke   `json:"revoke"`
	Limits   Limits   `json:"limits,omitzero"`
	Errors   Errors   `json:"errors,omitzero"`

	// Deprecations are endpoints that the provider ends, so that an integration which names one can be warned.
	Deprecations []Deprecation `json:"deprecations,omitempty"`
	// Verified says which page of the provider the entry was compared with, and when. It is empty when nobody has done that:
	// then the entry rests on other sources, and is to be compared with the provider's documentation before it is relied
	// upon.
	Verified Verified `json:"verified"`
	// Unverified are the fields that rest on general knowledge, as paths in JSON: "refresh.grace". Where Verified is set,
	// they are also those that no page of the provider was seen to confirm.
	Unverified []string `json:"unverified,omitempty"`
}

// String names the provider and says how far its facts can be trusted.
func (p Provider) String() string {
	trust := "not verified"
	if p.Verified != (Verified{}) {
		trust = "verified " + p.Verified.Date
	}
	if n := len(p.Unverified); n > 0 {
		trust += fmt.Sprintf(", %d fields uncertain", n)
	}
	return p.Name + " (" + trust + ")"
}

// ClientAuth says how the client proves itself at the token endpoint (RFC 6749 §2.3.1).
type ClientAuth string

// The ways.
const (
	ClientAuthBasic ClientAuth = "basic" // Authorization header
	ClientAuthBody  ClientAuth = "body"  // client_id and client_secret in the request
)

// PKCE says whether a proof key is sent (RFC 7636).
type PKCE string

// The ways.
const (
	PKCERequired PKCE = "required" // sent, also where the provider ignores it
	PKCERefused  PKCE = "refused"  // the provider breaks on it
)

// TokenEncoding says what token requests look like.
type TokenEncoding string

// The encodings; empty means EncodingForm.
const (
	EncodingForm TokenEncoding = "form" // as RFC 6749 §4.1.3 has it
	EncodingJSON TokenEncoding = "json" // a JSON object
)

// Variable is a name in braces in URLs and hosts, for which a person gives the value.
type Variable struct {
	Pattern string `json:"pattern,omitempty"` // what the whole value must match; empty means one DNS label
	Default string `json:"default,omitempty"` // the value where none is given; empty means that one has to be
}

// SentHost is a host that the provider tells in an answer. It becomes a variable of the field's name.
type SentHost struct {
	Field     string   `json:"field"`
	In        SentIn   `json:"in"`
	Hosts     []string `json:"hosts"`               // which are believed
	TokenHost bool     `json:"tokenHost,omitempty"` // token requests go there
	Optional  bool     `json:"optional,omitempty"`  // it may be absent
}

// SentIn says which answer carries a SentHost.
type SentIn string

// The answers.
const (
	SentInCallback SentIn = "callback" // the query of the redirect back to us
	SentInToken    SentIn = "token"    // the answer of the token endpoint
)

// Identity says how the account behind an authorisation is recognised. Paths are names of JSON fields with dots between.
type Identity struct {
	Source      IdentitySource `json:"source"`
	URL         string         `json:"url,omitempty"` // for IdentityURL
	SubjectPath string         `json:"subjectPath"`
	TenantPath  string         `json:"tenantPath,omitempty"`
	DisplayPath string         `json:"displayPath,omitempty"`
}

// IdentitySource says which answer the paths lead through.
type IdentitySource string

// The sources.
const (
	IdentityURL     IdentitySource = "url"      // of a GET to Identity.URL
	IdentityIDToken IdentitySource = "id_token" // the claims of the id_token
	IdentityToken   IdentitySource = "token"    // the answer of the token endpoint
)

// Refresh is how refresh tokens behave.
type Refresh struct {
	// Rotates: a refresh answers with a new refresh token. SingleUse: the one before is dead then, after Grace.
	Rotates   bool `json:"rotates"`
	SingleUse bool `json:"singleUse"`
	// Grace is how long a spent refresh token still works; 0 means not at all, or unknown.
	Grace Duration `json:"grace,omitempty"`
	// IdleTTL is how long a refresh token lives without being used, MaxTTL how long with; 0 means without end, or unknown.
	IdleTTL Duration `json:"idleTtl,omitempty"`
	MaxTTL  Duration `json:"maxTtl,omitempty"`
	// MinInterval is how far apart two refreshes of one account must be; 0 means that there is no limit known.
	MinInterval Duration `json:"minInterval,omitempty"`
}

// Revoke is how tokens are given back.
type Revoke struct {
	Style RevokeStyle `json:"style"`
	// URL is called for that. The variable {client_id} stands for the client id of the integration.
	URL   string      `json:"url,omitempty"`
	Scope RevokeScope `json:"scope,omitempty"`
}

// RevokeStyle says what a revocation looks like.
type RevokeStyle string

// The styles.
const (
	RevokeNone   RevokeStyle = "none"    // there is no call for it, or none without a token in its URL
	RevokeForm   RevokeStyle = "rfc7009" // POST of the token with the client's authentication, encoded as token requests are
	RevokeBearer RevokeStyle = "bearer"  // POST with the token in the Authorization header
	RevokeDelete RevokeStyle = "delete"  // DELETE with the client's Basic authentication and {"access_token": …}
)

// RevokeScope says what a revocation ends.
type RevokeScope string

// The scopes.
const (
	RevokesToken RevokeScope = "token" // the token and those that stem from it
	RevokesGrant RevokeScope = "grant" // everything that the account granted to the client
)

// Limits are what a provider allows at most.
type Limits struct {
	// TokensPerUser is how many refresh tokens one account of the provider may have at one client: one more, and the oldest
	// dies without a word. 0 means that no limit is known.
	TokensPerUser int `json:"tokensPerUser,omitempty"`
}

// Errors are the error codes of a token endpoint beyond those of RFC 6749 §5.2.
type Errors struct {
	Permanent   []string `json:"permanent,omitempty"`   // of a refresh: the authorisation has ended
	Transient   []string `json:"transient,omitempty"`   // worth repeating
	RateLimited []string `json:"rateLimited,omitempty"` // worth repeating later
	// CodePath is where an error answer holds its code; empty means "error".
	CodePath string `json:"codePath,omitempty"`
	// OKStatusErrorPath is where an answer with status 200 holds a code that makes it an error; empty means that errors
	// come with a status of their own.
	OKStatusErrorPath string `json:"okStatusErrorPath,omitempty"`
}

// Deprecation is something that the provider ends.
type Deprecation struct {
	Date        string `json:"date"` // the day it ends, as 2006-01-02
	URL         string `json:"url"`  // what ends: an endpoint
	Replacement string `json:"replacement"`
}

// Verified says when an entry was compared with the provider's documentation; empty means never.
type Verified struct {
	Date      string `json:"date"` // as 2006-01-02
	SourceURL string `json:"sourceUrl"`
}
