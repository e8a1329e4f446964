package coretest

import (
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authorize is GET /authorize: it consents at once for the account that is signed in, and redirects back to the
// client (RFC 6749 §4.1.1).
func (s *OAuthServer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	pkce := s.switches.PKCE
	account, signedIn := s.consentingLocked(q.Get("login_hint"))
	s.mu.Unlock()

	challenge := q.Get("code_challenge")
	var refusal *oauthError
	switch {
	case !single(q):
		refusal = &oauthError{"invalid_request", "a parameter is there more than once"}
	case q.Get("response_type") != "code":
		refusal = &oauthError{"unsupported_response_type", "response_type must be code"}
	case q.Get("state") == "":
		refusal = &oauthError{"invalid_request", "state is missing"}
	case pkce == PKCERefused && (q.Has("code_challenge") || q.Has("code_challenge_method")):
		refusal = &oauthError{"invalid_request", "unknown parameter code_challenge"}
	case pkce == PKCERefused || pkce == PKCEIgnored:
		challenge = ""
	case challenge == "":
		refusal = &oauthError{"invalid_request", "code_challenge is missing"}
	case q.Get("code_challenge_method") != "S256":
		refusal = &oauthError{"invalid_request", "code_challenge_method must be S256"}
	case !isChallenge(challenge):
		refusal = &oauthError{"invalid_request", "code_challenge is not a SHA-256 in base64url"}
	}
	if refusal == nil && !signedIn {
		refusal = &oauthError{"login_required", "nobody is signed in, or login_hint names nobody"}
	}
	if refusal != nil {
		s.refuseAuthorization(w, r, refusal)
		return
	}
	if !s.validClient(w, q) {
		return
	}

	s.mu.Lock()
	code := s.grants.issueCode(&grant{
		login:       account.Login,
		scope:       q.Get("scope"),
		nonce:       q.Get("nonce"),
		redirectURI: q.Get("redirect_uri"),
		challenge:   challenge,
	}, s.opts.Now())
	s.mu.Unlock()
	s.redirectBack(w, r, url.Values{"code": {code}})
}

// refuseAuthorization tells the client, by a redirect, why there is no code. A client or redirect URI that is not
// valid gets a page instead: an error must not redirect to a stranger (RFC 6749 §4.1.2.1).
func (s *OAuthServer) refuseAuthorization(w http.ResponseWriter, r *http.Request, e *oauthError) {
	if !s.validClient(w, r.URL.Query()) {
		return
	}
	s.redirectBack(w, r, url.Values{"error": {e.Code}, "error_description": {e.Description}})
}

// validClient reports whether client_id and redirect_uri are good; otherwise it has answered the request.
func (s *OAuthServer) validClient(w http.ResponseWriter, q url.Values) bool {
	switch {
	case len(q["client_id"]) != 1 || q.Get("client_id") != s.opts.ClientID:
		http.Error(w, "unknown client_id", http.StatusBadRequest)
	case len(q["redirect_uri"]) != 1 || !s.validRedirect(q.Get("redirect_uri")):
		http.Error(w, "redirect_uri is not registered", http.StatusBadRequest)
	default:
		return true
	}
	return false
}

func (s *OAuthServer) validRedirect(uri string) bool {
	if len(s.opts.RedirectURIs) > 0 {
		return slices.Contains(s.opts.RedirectURIs, uri)
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Contains(uri, "#") {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// redirectBack sends the browser back to the client, with state, iss and what the switches add.
func (s *OAuthServer) redirectBack(w http.ResponseWriter, r *http.Request, answer url.Values) {
	sw := s.Switches()
	q := r.URL.Query()
	if q.Has("state") {
		answer.Set("state", q.Get("state"))
	}
	switch {
	case sw.WrongIssuer != "":
		answer.Set("iss", sw.WrongIssuer)
	case !sw.OmitIssuer:
		answer.Set("iss", s.Issuer()) // RFC 9207
	}
	for k, v := range sw.ExtraCallbackParams {
		answer.Set(k, v)
	}
	u, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		http.Error(w, "redirect_uri is not a URL", http.StatusBadRequest)
		return
	}
	// The parameters that the client's own URI has stay as they are.
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += answer.Encode()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// single reports whether no parameter is there twice (RFC 6749 §3.1).
func single(v url.Values) bool {
	for _, values := range v {
		if len(values) > 1 {
			return false
		}
	}
	return true
}

// isChallenge reports whether s can be a code challenge of the method S256.
func isChallenge(s string) bool {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}
