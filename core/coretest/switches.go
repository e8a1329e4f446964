package coretest

import (
	"maps"
	"net/http"
	"time"
)

// Switches are how an [OAuthServer] behaves where providers differ, and how it fails. The zero value is a provider
// that does not rotate refresh tokens and has no faults. They may be changed at any time, by [OAuthServer.Set].
//
// As JSON the names are those of the fields beginning in lower case, and durations are strings such as "1m30s".
// Decoding into Switches changes only what the JSON names, also inside a [Fault] and for single keys of a map; null
// puts a fault or a map back to nothing. It fails on unknown names, and then changes nothing.
type Switches struct {
	// Rotate issues a new refresh token at each refresh; the one presented is spent. Without it a refresh answers
	// with the refresh token that was presented.
	Rotate bool `json:"rotate"`

	// ReuseRevokes makes a spent refresh token that is presented again end the whole grant: every refresh and access
	// token that stems from the same consent. Without it the request is refused, and nothing else happens.
	ReuseRevokes bool `json:"reuseRevokes"`

	// GraceWindow is how long a spent refresh token still works, and earns another new one; 0 means not at all.
	GraceWindow time.Duration `json:"graceWindow"`

	// OmitRefreshTokenAtExchange grants no refresh token for a code.
	OmitRefreshTokenAtExchange bool `json:"omitRefreshTokenAtExchange"`

	// OmitRefreshTokenAtRefresh leaves the refresh token out of the answer to a refresh; the presented one stays
	// good, also with Rotate.
	OmitRefreshTokenAtRefresh bool `json:"omitRefreshTokenAtRefresh"`

	// MaxRefreshTokens is how many refresh tokens an account may hold, one for each of its consents: a further one
	// makes the oldest die silently. Access tokens live on. It is looked at when a code is exchanged; 0: no limit.
	MaxRefreshTokens int `json:"maxRefreshTokens"`

	// TokenRequests is what the token and the revocation endpoint take as the body of a request; empty means
	// [TokenRequestsForm].
	TokenRequests TokenRequests `json:"tokenRequests"`

	// ExpiresIn is how token answers tell the lifetime; empty means [ExpiresInNumber].
	ExpiresIn ExpiresIn `json:"expiresIn"`

	// NestTokensAtExchange and NestTokensAtRefresh put the server's own fields of a token answer into an object at
	// that path, a name or names with dots between, such as authed_user; empty: they stand at the top.
	NestTokensAtExchange string `json:"nestTokensAtExchange"`
	NestTokensAtRefresh  string `json:"nestTokensAtRefresh"`

	// ExtraTokenFields are added to every successful token answer, in place of the server's own field of the same
	// name; a nil value leaves the field out. So {"access_token": nil} is an answer without a token. What is added
	// to nested tokens is given as an object too: {"ok": true, "authed_user": {"id": "U1"}}.
	ExtraTokenFields map[string]any `json:"extraTokenFields"`

	// ExtraCallbackParams are added to every redirect back to the client, in place of a parameter of the same name.
	ExtraCallbackParams map[string]string `json:"extraCallbackParams"`

	// ExtraClaims are added to every ID token, in place of the server's own claim of the same name; a nil value
	// leaves the claim out.
	ExtraClaims map[string]any `json:"extraClaims"`

	// FormEncoded sends the answers of the token endpoint, errors too, as application/x-www-form-urlencoded.
	FormEncoded bool `json:"formEncoded"`

	// OKWithError sends the errors of the token endpoint with status 200.
	OKWithError bool `json:"okWithError"`

	// TokenErrors are other forms of the errors of the token endpoint: one whose OAuth error code is a key of the map
	// is answered by the value, as it stands. So a provider that does not say invalid_grant says what it does say
	// whenever a refresh token is really dead. It goes before OKWithError and FormEncoded.
	TokenErrors map[string]Garbage `json:"tokenErrors"`

	// WrongIssuer is the issuer that redirects (parameter iss) and ID tokens name; empty means the server's own.
	WrongIssuer string `json:"wrongIssuer"`

	// OmitIssuer leaves the parameter iss out of redirects, as providers without RFC 9207 do.
	OmitIssuer bool `json:"omitIssuer"`

	// PKCE is what the server makes of PKCE; empty means [PKCERequired].
	PKCE PKCE `json:"pkce"`

	// RevokeGrant makes the revocation of any one token end everything the account has granted to the client.
	// Without it, revoking a refresh token ends the grant it stems from, and revoking an access token only itself.
	RevokeGrant bool `json:"revokeGrant"`

	// RevokeWithoutClient lets the revocation endpoint take a token from anybody: the client need not authenticate,
	// and what it shows of its credentials is not looked at.
	RevokeWithoutClient bool `json:"revokeWithoutClient"`

	// RevokeRequests is what a request to the revocation endpoint looks like; empty means [RevokeRequestsForm].
	RevokeRequests RevokeRequests `json:"revokeRequests"`

	// Unauthorized is how many more API requests are answered by 401 although their token or key is live; negative
	// means all.
	Unauthorized int `json:"unauthorized"`

	// Authorize, Exchange, Refresh, UserInfo, Revoke and API are what goes wrong at one endpoint; zero: nothing.
	// Exchange is the token endpoint with a code, and with any grant type that is not refresh_token.
	Authorize Fault `json:"authorize"`
	Exchange  Fault `json:"exchange"`
	Refresh   Fault `json:"refresh"`
	UserInfo  Fault `json:"userInfo"`
	Revoke    Fault `json:"revoke"`
	API       Fault `json:"api"`
}

// ExpiresIn is the form of the field expires_in of token answers: one of the constants below, or any other text,
// which is then sent as it stands and must be valid JSON, such as -1, 1e3 or "soon" in its quotes.
type ExpiresIn string

// The usual forms of expires_in.
const (
	ExpiresInNumber ExpiresIn = "number" // seconds as a JSON number
	ExpiresInString ExpiresIn = "string" // seconds as a JSON string
	ExpiresInAbsent ExpiresIn = "absent" // no field at all
)

// TokenRequests is what the token and the revocation endpoint take as the body of a request. What they do not take is
// an invalid_request.
type TokenRequests string

// What the body of a token request may be. A JSON object has the parameters as its fields.
const (
	TokenRequestsForm TokenRequests = "form" // a form, as RFC 6749 has it
	TokenRequestsJSON TokenRequests = "json" // an object of type application/json
	TokenRequestsAny  TokenRequests = "any"  // either
)

// RevokeRequests is what a request to the revocation endpoint looks like. Other than by RFC 7009, only a live access token
// can be revoked by the latter two: a dead one is answered by 401 or 404.
type RevokeRequests string

// What revocation requests may be.
const (
	RevokeRequestsForm   RevokeRequests = "form"   // POST of the token, as RFC 7009 has it, in the form of TokenRequests
	RevokeRequestsBearer RevokeRequests = "bearer" // POST with an access token as a bearer token, and no client
	// RevokeRequestsDelete is DELETE with the client's Basic authentication and an object {"access_token"}, also at
	// /revoke/ and the client's id.
	RevokeRequestsDelete RevokeRequests = "delete"
)

func (r RevokeRequests) form() bool { return r == "" || r == RevokeRequestsForm }

// method is the one that the revocation endpoint takes.
func (r RevokeRequests) method() string {
	if r == RevokeRequestsDelete {
		return http.MethodDelete
	}
	return http.MethodPost
}

// PKCE is what a provider makes of PKCE (RFC 7636). The method plain is refused unless PKCE is ignored.
type PKCE string

// What a provider may make of PKCE.
const (
	PKCERequired PKCE = "required" // S256 or nothing
	PKCEIgnored  PKCE = "ignored"  // neither demanded nor verified
	PKCERefused  PKCE = "refused"  // a code_challenge or code_verifier is an invalid request
)

// Set changes the switches: change is called with a copy of the present ones, which then takes their place. It must
// not call the server.
func (s *OAuthServer) Set(change func(*Switches)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sw := s.switches.clone()
	change(&sw)
	s.switches = sw.clone()
	close(s.switched)
	s.switched = make(chan struct{})
}

// Switches are the present switches: a copy.
func (s *OAuthServer) Switches() Switches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.switches.clone()
}

// fault is the fault of one endpoint; nil if it has none.
func (sw *Switches) fault(e Endpoint) *Fault {
	switch e {
	case EndpointAuthorize:
		return &sw.Authorize
	case EndpointExchange:
		return &sw.Exchange
	case EndpointRefresh:
		return &sw.Refresh
	case EndpointUserInfo:
		return &sw.UserInfo
	case EndpointRevoke:
		return &sw.Revoke
	case EndpointAPI:
		return &sw.API
	}
	return nil
}

// clone returns a copy that shares no map or pointer with sw, except what lies inside the values of the maps.
func (sw Switches) clone() Switches {
	sw.ExtraTokenFields = maps.Clone(sw.ExtraTokenFields)
	sw.ExtraCallbackParams = maps.Clone(sw.ExtraCallbackParams)
	sw.ExtraClaims = maps.Clone(sw.ExtraClaims)
	sw.TokenErrors = maps.Clone(sw.TokenErrors)
	for code, g := range sw.TokenErrors {
		sw.TokenErrors[code] = g.clone()
	}
	for _, e := range endpoints {
		f := sw.fault(e)
		if f.Garbage != nil {
			g := f.Garbage.clone()
			f.Garbage = &g
		}
	}
	return sw
}
