package core

import (
	"time"

	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

// Integration is one provider as it is declared in a project. Exactly one of OAuth2 and APIKey is set: it is the auth
// scheme. It can be read from JSON, with the client secret in it; it is written without one, and encoding/json fails on
// an Integration that still holds a secret.
type Integration struct {
	// Name is what it is called everywhere: "googleCalendar", "custom.acme". 1 to 64 bytes of letters, digits, '.', '-'
	// and '_'. It never changes.
	Name string `json:"name" cbor:"1,keyasint"`
	// DisplayName is what people read; empty means the catalog's, or else Name.
	DisplayName string `json:"displayName,omitempty" cbor:"2,keyasint,omitempty"`

	// Provider is the name of an entry of package catalog, whose facts fill in what is left empty here: an OAuth
	// integration then needs no more than ClientID, ClientSecret and Scopes. Field by field, what is given wins: maps are
	// merged by key, where an empty value removes the entry's; lists take the place of the entry's, but for Scopes, which
	// come on top of the entry's; an Identity.Source of another kind leaves the entry's Identity aside. Facts are looked up
	// whenever the integration is used, and are not stored: a later version of this module may know better. Resolve tells
	// what an integration comes to. Empty means that everything stands here.
	Provider string `json:"provider,omitempty" cbor:"11,keyasint,omitempty"`

	// OAuth2 or APIKey is the auth scheme: how accounts are connected, and what requests carry.
	OAuth2 *OAuth2 `json:"oauth2,omitempty" cbor:"3,keyasint,omitempty"`
	APIKey *APIKey `json:"apiKey,omitempty" cbor:"4,keyasint,omitempty"`

	// Identity says how the provider account behind an authorisation is recognised. The zero value means that it is not:
	// such accounts count as unknown, and unknown equals nothing. The same account connected twice is then two
	// credentials, and a reconnect cannot tell whether another account answers. Set it wherever the provider allows. The
	// answer to a refresh is held to it too, as far as it says whose it is: one for another account is thrown away
	// (EventRefreshRefused).
	Identity Identity `json:"identity,omitzero" cbor:"5,keyasint,omitempty"`

	// AllowedHosts are the hosts that requests with an account of this integration may go to (User.Client):
	// "api.example.com", "*.example.com" (one label), "{subdomain}.example.com", "{instance_url}", each with ":port" where
	// it is not 443. Plain http needs "http://" here ("http://127.0.0.1:9000") and the exact host and port in
	// Options.PrivateHosts. Empty means none.
	AllowedHosts []string `json:"allowedHosts,omitempty" cbor:"6,keyasint,omitempty"`

	// APIURL is where requests go that name a path only, as those of the Proxy API: "https://api.example.com/v1",
	// "{instance_url}/services". It may contain variables in host and path, and its host has to be one of AllowedHosts. Empty
	// means the first of AllowedHosts that stands for one host whatever the account is, if there is one.
	APIURL string `json:"apiUrl,omitempty" cbor:"15,keyasint,omitempty"`
	// Headers are set in every request with an account of this integration: "Notion-Version": "2022-06-28". Values may contain
	// variables in braces. A header that polycred itself sets or takes away cannot be named.
	Headers map[string]string `json:"headers,omitempty" cbor:"16,keyasint,omitempty"`
	// PickerTokens gives the account's access token to the user's browser where a provider's file picker asks for it
	// (getIntegrationAccount with includeAccountAuth, security 16): a token that may use an account this way can then do
	// whatever the access token can. False gives none.
	PickerTokens bool `json:"pickerTokens,omitempty" cbor:"17,keyasint,omitempty"`

	// Variables are the names that URLs and hosts may contain in braces, and what their values must look like. A person
	// gives them when connecting (ConnectInput.Variables).
	Variables map[string]Variable `json:"variables,omitempty" cbor:"7,keyasint,omitempty"`

	// SentHosts are hosts that the provider itself tells: fields of its answers that become variables.
	SentHosts []SentHost `json:"sentHosts,omitempty" cbor:"8,keyasint,omitempty"`

	// SameAccount says what happens when a provider account that is connected already is connected again (rule 4).
	SameAccount SameAccount `json:"sameAccount,omitempty" cbor:"9,keyasint,omitempty"`
	// OtherAccount says what happens when another provider account answers than the one to be reconnected (rule 3).
	OtherAccount OtherAccount `json:"otherAccount,omitempty" cbor:"10,keyasint,omitempty"`

	// ProviderInitiated accepts installations that the provider begins by itself, from its own directory of applications
	// (User.CompleteConnect): no verifier, nonce or session binds them to the person. False refuses them.
	ProviderInitiated bool `json:"providerInitiated,omitempty" cbor:"14,keyasint,omitempty"`

	// Settings are what a person sets for each configuration of an account; see User.UpdateConfiguration. Package core/input
	// has the rules and limits of both kinds of inputs.
	Settings []input.Input `json:"settings,omitempty" cbor:"12,keyasint,omitempty"`
	// Setup are what a person has to say once an account is authorised, before it can be used: the account is PENDING until
	// each required one has a value; see User.CompleteSetup.
	Setup []input.Input `json:"setup,omitempty" cbor:"13,keyasint,omitempty"`

	Created time.Time `json:"dateCreated,omitzero" cbor:"-"` // set by polycred
	Updated time.Time `json:"dateUpdated,omitzero" cbor:"-"` // set by polycred
	// Revision is the state that was read; UpdateIntegration refuses any other than the stored one. Set by polycred.
	Revision uint64 `json:"revision,omitempty" cbor:"-"`
}

// OAuth2 is the authorization code grant (RFC 6749 §4.1) with PKCE S256 (RFC 7636).
type OAuth2 struct {
	// ClientID is what the provider gave the application when it was registered there.
	ClientID string `json:"clientId" cbor:"1,keyasint"`
	// ClientSecret is written together with the integration and never read back: it is empty in what polycred returns.
	// Later ones are set with Engine.SetClientSecret.
	ClientSecret crypto.Secret `json:"clientSecret,omitzero" cbor:"-"`
	// ClientAuth says how the client proves itself at the token endpoint.
	ClientAuth ClientAuth `json:"clientAuth,omitempty" cbor:"2,keyasint,omitempty"`

	// AuthorizationURL and TokenURL are needed unless Integration.Provider knows them. They are https (plain http only for
	// Options.PrivateHosts), and may contain variables in host and path, but no query: that is what AuthorizationParams are
	// for.
	AuthorizationURL string `json:"authorizationUrl,omitempty" cbor:"3,keyasint"`
	TokenURL         string `json:"tokenUrl,omitempty" cbor:"4,keyasint"`
	// RevocationURL is where the tokens of an account are revoked once it is disconnected, in the way that Revocation says;
	// empty means nowhere. {client_id} in it stands for the client that the account was connected with, unless Variables have
	// a variable of that name. Nobody waits for it: see User.Disconnect.
	RevocationURL string `json:"revocationUrl,omitempty" cbor:"5,keyasint,omitempty"`

	// Issuer is the provider's issuer identifier. When it is set, an "iss" on the callback (RFC 9207) and in an id_token
	// must equal it, and accounts are recognised under it; under the host that told them where that differs between them.
	Issuer string `json:"issuer,omitempty" cbor:"6,keyasint,omitempty"`
	// RequireIssuer refuses a callback without "iss". Set it for providers whose metadata says
	// authorization_response_iss_parameter_supported (RFC 9207 §3).
	RequireIssuer bool `json:"requireIssuer,omitempty" cbor:"7,keyasint,omitempty"`

	// Scopes are asked for in every authorization request (RFC 6749 §3.3). Which were granted stands in Credential.Scopes.
	Scopes []string `json:"scopes,omitempty" cbor:"8,keyasint,omitempty"`
	// ScopeSeparator stands between scopes; empty means a space.
	ScopeSeparator string `json:"scopeSeparator,omitempty" cbor:"9,keyasint,omitempty"`

	// AuthorizationParams are added to every authorization request, AddAccountParams to those that may add another
	// account ("prompt": "select_account"), TokenParams to every token request. The parameters of the protocol itself
	// cannot be set here.
	AuthorizationParams map[string]string `json:"authorizationParams,omitempty" cbor:"10,keyasint,omitempty"`
	AddAccountParams    map[string]string `json:"addAccountParams,omitempty" cbor:"11,keyasint,omitempty"`
	TokenParams         map[string]string `json:"tokenParams,omitempty" cbor:"12,keyasint,omitempty"`

	// PKCE is sent unless it is "refused", for providers that break on it; then an OpenID Connect nonce is sent instead.
	PKCE PKCE `json:"pkce,omitempty" cbor:"13,keyasint,omitempty"`

	// TokenEncoding is what token requests look like; empty means TokenForm.
	TokenEncoding TokenEncoding `json:"tokenEncoding,omitempty" cbor:"14,keyasint,omitempty"`
	// TokenPath leads to the object of a token answer that holds the tokens, names with dots between: "authed_user". Empty
	// or "." means the top of the answer. The answer to a refresh may hold them at its top all the same.
	TokenPath string `json:"tokenPath,omitempty" cbor:"15,keyasint,omitempty"`
	// ScopeParam is the parameter of authorization requests that carries Scopes; empty means "scope".
	ScopeParam string `json:"scopeParam,omitempty" cbor:"16,keyasint,omitempty"`

	// TenantParam is the parameter of the callback that names the tenant of the account: "realmId". It is required then, and
	// where Identity.TenantPath leads to a tenant too, both must be the same. By itself it proves nothing: the browser
	// delivered it, and whoever sits there can name another tenant than the one the token is for. So it must not route what
	// comes from a tenant (webhooks), nor decide what an account may see, unless TenantPath confirms it.
	TenantParam string `json:"tenantParam,omitempty" cbor:"17,keyasint,omitempty"`

	// Revocation says how tokens are revoked, and what that ends.
	Revocation Revocation `json:"revocation,omitzero" cbor:"18,keyasint,omitempty"`
	// Refresh is how the provider's refresh tokens behave: what a lost answer may have ended, how long a spent one is of
	// use, and when one is used that would die of idleness.
	Refresh RefreshTokens `json:"refresh,omitzero" cbor:"19,keyasint,omitempty"`
	// Errors are the token endpoint's own error codes.
	Errors TokenErrors `json:"errors,omitzero" cbor:"20,keyasint,omitempty"`
	// NonceOptional accepts an id_token without the nonce that was sent with a request for the scope openid, from providers
	// that do not repeat it (against OpenID Connect Core §3.1.3.7). PKCE alone binds the answer to the session then; where
	// that is refused, the nonce is needed all the same.
	NonceOptional bool `json:"nonceOptional,omitempty" cbor:"22,keyasint,omitempty"`
	// TokensPerUser is how many refresh tokens one account may have at one client before the oldest dies; 0 means that no
	// limit is known. It is kept for those who read it; nothing goes by it.
	TokensPerUser int `json:"tokensPerUser,omitempty" cbor:"21,keyasint,omitempty"`
}

// Revocation says how tokens are given back to a provider.
type Revocation struct {
	Style RevocationStyle `json:"style,omitempty" cbor:"1,keyasint,omitempty"`
	Scope RevocationScope `json:"scope,omitempty" cbor:"2,keyasint,omitempty"`
}

// RefreshTokens is how refresh tokens behave. Say nothing of what is not known: a Rotation that is wrong can cost
// accounts.
type RefreshTokens struct {
	// Rotation decides what is done when the answer to a refresh was lost: a refresh token that is RotationSingleUse, without
	// Grace, is spent again only once the access token has ended; any other soon.
	Rotation Rotation `json:"rotation,omitempty" cbor:"1,keyasint,omitempty"`
	// Grace is how long a spent one still works, and is kept; 0: RotationSingleUse: not at all, else unknown.
	Grace catalog.Duration `json:"grace,omitempty" cbor:"2,keyasint,omitempty"`
	// IdleTTL is how long one lives without use; 0: unknown, or without end. Run uses one each day, or twice in that time if
	// that is more often.
	IdleTTL catalog.Duration `json:"idleTtl,omitempty" cbor:"3,keyasint,omitempty"`
	// MaxTTL is how long one lives at most; 0: unknown, or without end. It is kept for those who read it; nothing goes by it.
	MaxTTL catalog.Duration `json:"maxTtl,omitempty" cbor:"4,keyasint,omitempty"`
	// MinInterval is how long after a refresh of an account a 401 is passed on, and leads to no other; 0: a minute.
	MinInterval catalog.Duration `json:"minInterval,omitempty" cbor:"5,keyasint,omitempty"`
}

// TokenErrors are error codes of a token endpoint beyond those of RFC 6749 §5.2, and what they mean. A code is 1 to 64
// letters, digits, '.', '-', '_' and single spaces; only codes that are listed here, or known anyway, are ever repeated in
// errors.
type TokenErrors struct {
	// Permanent codes end the account's authorisation when a refresh gets one.
	Permanent   []string `json:"permanent,omitempty" cbor:"1,keyasint,omitempty"`
	Transient   []string `json:"transient,omitempty" cbor:"2,keyasint,omitempty"`   // worth repeating later
	RateLimited []string `json:"rateLimited,omitempty" cbor:"3,keyasint,omitempty"` // worth repeating when the provider says so
	// CodePath is where an error answer holds its code; empty means "error".
	CodePath string `json:"codePath,omitempty" cbor:"4,keyasint,omitempty"`
	// OKStatusErrorPath is where an answer with status 200 may hold a code, which makes it an error; "error" always does.
	OKStatusErrorPath string `json:"okStatusErrorPath,omitempty" cbor:"5,keyasint,omitempty"`
}

// APIKey is a key that the person copies from the provider's pages.
type APIKey struct {
	// In says where requests carry the key; Name is the header or query parameter, and stays empty for bearer.
	In   KeyPlace `json:"in,omitempty" cbor:"1,keyasint,omitempty"`
	Name string   `json:"name,omitempty" cbor:"2,keyasint,omitempty"`
	// Prefix stands before the key in a header, with its space: "Token ".
	Prefix string `json:"prefix,omitempty" cbor:"3,keyasint,omitempty"`
	// TestURL is called with GET and the key before the key is stored: 2xx accepts it, 401 and 403 reject it. It may
	// contain variables. Its JSON answer serves Identity.
	TestURL string `json:"testUrl" cbor:"4,keyasint"`
}

// ClientAuth says how the client proves itself at the token endpoint (RFC 6749 §2.3.1).
type ClientAuth string

// The ways; empty means ClientAuthBasic.
const (
	ClientAuthBasic ClientAuth = "basic" // Authorization header
	ClientAuthBody  ClientAuth = "body"  // client_id and client_secret in the form
	ClientAuthNone  ClientAuth = "none"  // a public client: client_id only
)

// PKCE says whether a proof key is sent (RFC 7636, always S256).
type PKCE string

// The ways; empty means PKCERequired.
const (
	PKCERequired PKCE = "required" // sent, also where the provider ignores it
	PKCERefused  PKCE = "refused"  // the provider breaks on it: a nonce is sent instead, and a client secret is needed
)

// TokenEncoding says what token requests look like.
type TokenEncoding string

// The encodings; empty means TokenForm.
const (
	TokenForm TokenEncoding = "form" // application/x-www-form-urlencoded (RFC 6749 §4.1.3)
	TokenJSON TokenEncoding = "json" // a JSON object of the same parameters
)

// RevocationStyle says what a revocation looks like.
type RevocationStyle string

// The styles; empty means RevocationForm.
const (
	RevocationForm   RevocationStyle = "rfc7009" // POST of the token with the client's authentication, encoded as token requests are
	RevocationBearer RevocationStyle = "bearer"  // POST with the token in the Authorization header
	RevocationDelete RevocationStyle = "delete"  // DELETE with the client's Basic authentication and {"access_token": …}
	RevocationNone   RevocationStyle = "none"    // never, whatever RevocationURL says
)

// RevocationScope says what a revocation ends.
type RevocationScope string

// The scopes; empty means RevokesToken. With RevokesGrant nothing is revoked while another credential, of whatever user and
// integration, stands for the same provider account at the same client: the last one to go is. That takes Identity: an
// account that is not recognised shares its grant with nobody, as far as polycred can tell.
const (
	RevokesToken RevocationScope = "token" // the token and those that stem from it
	RevokesGrant RevocationScope = "grant" // everything that the account granted to the client
)

// Rotation says whether a refresh answers with a new refresh token.
type Rotation string

// The ways; empty means that it is unknown.
const (
	RotationNever     Rotation = "never"      // the same refresh token works again and again
	RotationReusable  Rotation = "reusable"   // a new one comes, and the one before stays good
	RotationSingleUse Rotation = "single_use" // a new one comes, and the one before is dead after Grace
)

// KeyPlace says where a request carries an API key.
type KeyPlace string

// The places; empty means KeyBearer.
const (
	KeyBearer KeyPlace = "bearer" // Authorization: Bearer KEY (RFC 6750 §2.1)
	KeyHeader KeyPlace = "header" // a header of its own
	KeyQuery  KeyPlace = "query"  // a query parameter
)

// Identity says where the provider account stands in an answer. Paths name fields of JSON objects with dots between:
// "authed_user.id".
type Identity struct {
	Source IdentitySource `json:"source,omitempty" cbor:"1,keyasint,omitempty"`
	// URL is called with the new token for IdentityURL; it may contain variables.
	URL string `json:"url,omitempty" cbor:"2,keyasint,omitempty"`
	// SubjectPath is the account's unchanging id, TenantPath the workspace or organisation it belongs to (may be empty),
	// DisplayPath what people call it (may be empty).
	SubjectPath string `json:"subjectPath,omitempty" cbor:"3,keyasint,omitempty"`
	TenantPath  string `json:"tenantPath,omitempty" cbor:"4,keyasint,omitempty"`
	DisplayPath string `json:"displayPath,omitempty" cbor:"5,keyasint,omitempty"`
	// TenantOptional accepts an answer without anything at TenantPath as an account that belongs to no tenant, for
	// providers that have such accounts beside others. False refuses it: if the field were only lost, the accounts of one
	// subject in all tenants would become one.
	TenantOptional bool `json:"tenantOptional,omitempty" cbor:"6,keyasint,omitempty"`
}

// IdentitySource says which answer Identity's paths lead through.
type IdentitySource string

// The sources; empty means that accounts are not recognised.
const (
	IdentityURL IdentitySource = "url" // of a GET to Identity.URL: userinfo, or any "who am I"
	// IdentityIDToken: of the claims of the id_token (OpenID Connect Core §2), which needs the scope openid. Without
	// OAuth2.Issuer the account is recognised under the token's own issuer.
	IdentityIDToken IdentitySource = "id_token"
	IdentityToken   IdentitySource = "token" // the answer of the token endpoint
	IdentityTest    IdentitySource = "test"  // the answer of APIKey.TestURL
)

// Variable is a name that URLs of an integration contain in braces. Values are never allowed to contain anything but
// letters, digits, '.', '-' and '_', whatever Pattern says, so that a host cannot be steered.
type Variable struct {
	// Pattern is a regular expression that the whole value must match; empty means one DNS label.
	Pattern string `json:"pattern,omitempty" cbor:"1,keyasint,omitempty"`
	// CustomerDomains permits the variable directly under a domain in which the provider gives its customers names, when
	// the public suffix list names that domain: "{shop}.myshopify.com".
	CustomerDomains bool `json:"customerDomains,omitempty" cbor:"2,keyasint,omitempty"`
	// Default is the value of accounts for which none is given when they are connected, and of those that were connected
	// before there was such a variable; empty means that one has to be given.
	Default string `json:"default,omitempty" cbor:"3,keyasint,omitempty"`
}

// SentHost is a host that the provider tells in an answer, like Salesforce's instance_url. It becomes a variable of its
// name that stands for scheme and host together: "{instance_url}/services/data".
type SentHost struct {
	Field string `json:"field" cbor:"1,keyasint"` // the name of the field, and of the variable
	In    SentIn `json:"in" cbor:"2,keyasint"`
	// Hosts are believed: exact, or "*.example.com" for any depth. An account whose host is taken off the list is sent
	// nowhere until it is connected again.
	Hosts []string `json:"hosts" cbor:"3,keyasint"`
	// TokenHost sends the token request to this host instead of TokenURL's. Only for SentInCallback; Hosts must be exact.
	TokenHost bool `json:"tokenHost,omitempty" cbor:"4,keyasint,omitempty"`
	// Optional accepts answers without the field; templates that need it then fail.
	Optional bool `json:"optional,omitempty" cbor:"5,keyasint,omitempty"`
}

// SentIn says which answer carries a SentHost.
type SentIn string

// The answers.
const (
	SentInCallback SentIn = "callback" // the query of the redirect back to us
	SentInToken    SentIn = "token"    // the answer of the token endpoint
)

// SameAccount says what happens when a provider account is connected a second time.
type SameAccount string

// The choices; empty means SameAccountUpdate.
const (
	SameAccountUpdate SameAccount = "update" // its credential is updated in place and returned
	SameAccountReject SameAccount = "reject" // ErrAccountConnected
	SameAccountAllow  SameAccount = "allow"  // a further credential of the same account; 256 at most, then ErrTooMany
)

// OtherAccount says what happens when another provider account answers on a reconnect.
type OtherAccount string

// The choices; empty means OtherAccountRefuse.
const (
	OtherAccountRefuse  OtherAccount = "refuse"  // ErrAccountMismatch
	OtherAccountReplace OtherAccount = "replace" // the credential now stands for the other account
)
