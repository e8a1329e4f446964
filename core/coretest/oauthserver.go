package coretest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// OAuthServerOptions are what a server is started with. Nil, and every zero field, means the default.
type OAuthServerOptions struct {
	// Now tells the time by which codes and tokens expire; nil means [time.Now]. Delays (see [Fault]) are real time.
	Now func() time.Time

	// ClientID and ClientSecret are those of the one client that is registered; empty means "demo-client" and
	// "demo-secret".
	ClientID, ClientSecret string

	// TokenLifetime is how long an access token and an ID token live; 0 means one hour.
	TokenLifetime time.Duration

	// RedirectURIs are the redirect URIs of the client, compared exactly. None means that every redirect to a
	// loopback address (localhost, 127.0.0.0/8, ::1) is accepted, whatever its port and path.
	RedirectURIs []string

	// Switches are how the server behaves at first; the zero value is a provider without faults.
	Switches Switches

	// Accounts are there from the start, and the first of them is signed in; none means that AddAccount or SignIn
	// must come before the first consent.
	Accounts []Account

	// Port is the port of 127.0.0.1 to listen on; 0 means a free one.
	Port int

	// Fallback answers the requests for every path that the server does not have, so that a test can add what its
	// provider has beside OAuth; nil means that they are not found. They are neither counted nor do they meet
	// faults, and Close waits for them.
	Fallback http.Handler
}

// OAuthServer is a small OAuth 2.0 and OpenID Connect provider with an API behind it, listening on a loopback port
// over plain HTTP. It grants consent at once, to the account that is signed in (see [OAuthServer.SignIn]), and keeps
// everything in memory.
//
// It is as strict as a good provider: PKCE with S256 is demanded, a code works once and for 60 seconds, clients
// authenticate, redirect URIs are compared. How it behaves beyond that, and how it fails, is set by [Switches].
//
// Codes, access tokens and refresh tokens are random strings that begin with "code-", "at-" and "rt-", so that a test
// can search logs and errors for them.
//
// All methods may be called concurrently. Close ends it.
type OAuthServer struct {
	opts     OAuthServerOptions // never changed once the server listens
	host     string             // of the listener, host:port
	signer   *signer
	http     *http.Server
	done     chan struct{} // closed by Close
	served   chan struct{} // closed when the accepting goroutine has ended
	handlers sync.WaitGroup

	// mu guards everything below.
	mu       sync.Mutex
	closed   bool
	accounts map[string]Account // by login
	keys     map[string]string  // API key to login
	signedIn string             // login, empty: nobody
	chosen   bool               // whether somebody has been signed in, or everybody out
	grants   grants
	switches Switches
	switched chan struct{} // closed and replaced when switches change
	reset    chan struct{} // closed and replaced by Reset
	calls    Calls
	last     map[Endpoint]Request
	counted  chan struct{} // closed and replaced when calls change
}

// NewOAuthServer starts a server on a port of 127.0.0.1; o may be nil. The caller closes it. It fails when the options
// make no sense or the port is taken.
func NewOAuthServer(o *OAuthServerOptions) (*OAuthServer, error) {
	var opts OAuthServerOptions
	if o != nil {
		opts = *o
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.ClientID = cmp.Or(opts.ClientID, "demo-client")
	opts.ClientSecret = cmp.Or(opts.ClientSecret, "demo-secret")
	opts.TokenLifetime = cmp.Or(opts.TokenLifetime, time.Hour)
	opts.RedirectURIs = slices.Clone(opts.RedirectURIs)
	opts.Accounts = slices.Clone(opts.Accounts)
	opts.Switches = opts.Switches.clone()
	if opts.TokenLifetime < 0 {
		return nil, fmt.Errorf("start OAuth server: token lifetime %v is negative", opts.TokenLifetime)
	}
	if opts.Port < 0 || opts.Port > math.MaxUint16 {
		return nil, fmt.Errorf("start OAuth server: there is no port %d", opts.Port)
	}
	for i, a := range opts.Accounts {
		if a.Login == "" && a.Subject == "" {
			return nil, fmt.Errorf("start OAuth server: account %d has neither a login nor a subject", i+1)
		}
	}

	signer, err := newSigner()
	if err != nil {
		return nil, fmt.Errorf("start OAuth server: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.Port)))
	if err != nil {
		return nil, fmt.Errorf("start OAuth server: %w", err)
	}
	s := &OAuthServer{
		opts:     opts,
		host:     l.Addr().String(),
		signer:   signer,
		done:     make(chan struct{}),
		served:   make(chan struct{}),
		switched: make(chan struct{}),
		reset:    make(chan struct{}),
		counted:  make(chan struct{}),
	}
	s.Reset()
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(l) // always ends with ErrServerClosed, by Close
	}()
	return s, nil
}

// Close ends the server: open connections are cut, also those of requests that hang, and Close returns when no
// goroutine of the server is left. A second Close does nothing more.
func (s *OAuthServer) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.mu.Unlock()

	_ = s.http.Close() // it can only fail to close a listener that nobody needs any more
	<-s.served
	s.handlers.Wait()
}

// Reset puts the server back to how it was started: its switches, and of the accounts those of the options. Codes,
// tokens, API keys, counts and recorded requests are forgotten, and requests that are kept waiting are cut. The address
// and the key that signs ID tokens stay. So several tests can follow each other on one server.
func (s *OAuthServer) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts, s.keys, s.grants = make(map[string]Account), make(map[string]string), newGrants()
	s.signedIn, s.chosen = "", false
	for _, a := range s.opts.Accounts {
		s.addFirstLocked(a)
	}
	s.switches = s.opts.Switches.clone()
	close(s.switched)
	s.switched = make(chan struct{})
	close(s.reset)
	s.reset = make(chan struct{})
	s.calls = Calls{Waiting: s.calls.Waiting} // which those that wait count down themselves
	s.last = make(map[Endpoint]Request)
	s.countedLocked()
}

// Host is the host and port the server listens on, such as 127.0.0.1:41234: what an engine's list of allowed private
// hosts must name.
func (s *OAuthServer) Host() string { return s.host }

// URL is the base of all addresses of the server, without a slash at its end.
func (s *OAuthServer) URL() string { return "http://" + s.host }

// Issuer is the issuer identifier of the server: the "iss" of ID tokens and redirects, under which the discovery
// documents lie.
func (s *OAuthServer) Issuer() string { return s.URL() }

// AuthorizationURL is where a browser is sent to consent.
func (s *OAuthServer) AuthorizationURL() string { return s.URL() + "/authorize" }

// TokenURL is where codes and refresh tokens are exchanged.
func (s *OAuthServer) TokenURL() string { return s.URL() + "/token" }

// UserInfoURL tells who an access token stands for: sub, and name, email and tenant as far as the account has them.
func (s *OAuthServer) UserInfoURL() string { return s.URL() + "/userinfo" }

// RevocationURL is where a client gives tokens back (RFC 7009, or as [Switches].RevokeRequests says).
func (s *OAuthServer) RevocationURL() string { return s.URL() + "/revoke" }

// JWKSURL is where the public key lies that verifies ID tokens.
func (s *OAuthServer) JWKSURL() string { return s.URL() + "/jwks" }

// APIURL is the base of the API behind the provider, without a slash at its end. Below it lie
//
//   - /me: {"account", "subject", "tenant"} of the caller, who shows an access token as a bearer token, or an API key
//     (see [OAuthServer.AddKey]) as a bearer token, in the header X-API-Key or in the query parameter api_key;
//     anything else is answered by 401
//   - /echo and everything below it: the request as it arrived, as JSON: {"method", "host", "path", "query",
//     "header", "body"}; path and query are as they were sent, undecoded
//   - /redirect?to=URL&status=302: a redirect to any place; the status may be left out
//   - /status/{code}: an answer with that status
func (s *OAuthServer) APIURL() string { return s.URL() + "/api" }

// ClientID is the id of the registered client.
func (s *OAuthServer) ClientID() string { return s.opts.ClientID }

// ClientSecret is the secret of the registered client.
func (s *OAuthServer) ClientSecret() string { return s.opts.ClientSecret }

// serve is the server's only handler. It routes by hand, because [http.ServeMux] would clean the paths that a test of
// a proxy wants to see unchanged.
func (s *OAuthServer) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.handlers.Done()

	path := r.URL.Path
	switch {
	case path == "/authorize":
		s.handle(w, r, EndpointAuthorize, s.authorize, http.MethodGet)
	case path == "/token":
		s.handle(w, r, "", s.token, http.MethodPost)
	case path == "/userinfo":
		s.handle(w, r, EndpointUserInfo, s.userInfo, http.MethodGet, http.MethodPost)
	case path == "/revoke", path == "/revoke/"+s.opts.ClientID:
		s.handle(w, r, EndpointRevoke, s.revoke, s.Switches().RevokeRequests.method())
	case path == "/api" || strings.HasPrefix(path, "/api/"):
		s.handle(w, r, EndpointAPI, s.api)
	case path == "/jwks":
		writeJSON(w, http.StatusOK, s.signer.jwks())
	case path == "/.well-known/openid-configuration", path == "/.well-known/oauth-authorization-server":
		writeJSON(w, http.StatusOK, s.metadata())
	case s.opts.Fallback != nil:
		s.opts.Fallback.ServeHTTP(w, r)
	default:
		writeJSON(w, http.StatusNotFound, map[string]any{"error": "not_found"})
	}
}

// enter reports whether the server is still open, and if so counts the caller's handler among those Close waits for.
func (s *OAuthServer) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}

// metadata is the discovery document (RFC 8414, OpenID Connect Discovery).
func (s *OAuthServer) metadata() map[string]any {
	return map[string]any{
		"issuer":                                         s.Issuer(),
		"authorization_endpoint":                         s.AuthorizationURL(),
		"token_endpoint":                                 s.TokenURL(),
		"userinfo_endpoint":                              s.UserInfoURL(),
		"revocation_endpoint":                            s.RevocationURL(),
		"jwks_uri":                                       s.JWKSURL(),
		"response_types_supported":                       []string{"code"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{s.signer.alg()},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "client_secret_post"},
		"authorization_response_iss_parameter_supported": true,
	}
}
