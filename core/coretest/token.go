package coretest

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// token is POST /token (RFC 6749 §3.2): it authenticates the client and turns a code or a refresh token into tokens.
func (s *OAuthServer) token(w http.ResponseWriter, r *http.Request) {
	fields, refusal := s.issue(r)
	if refusal != nil {
		s.writeTokenError(w, r, refusal)
		return
	}
	w.Header().Set("Pragma", "no-cache")
	writeFields(w, http.StatusOK, fields, s.Switches().FormEncoded)
}

func (s *OAuthServer) issue(r *http.Request) (map[string]any, *oauthError) {
	if refusal := s.authenticate(r); refusal != nil {
		return nil, refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		return s.exchangeLocked(r.PostForm)
	case "refresh_token":
		return s.refreshLocked(r.PostForm)
	case "":
		return nil, &oauthError{"invalid_request", "grant_type is missing"}
	}
	return nil, &oauthError{"unsupported_grant_type", "grant_type must be authorization_code or refresh_token"}
}

// authenticate checks the form of a request and the client's credentials, which stand in the Authorization header or
// in the body, not in both (RFC 6749 §2.3).
func (s *OAuthServer) authenticate(r *http.Request) *oauthError {
	if !single(r.PostForm) {
		return &oauthError{"invalid_request", "a parameter is there more than once"}
	}
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if r.Header.Get("Authorization") != "" {
		if secret != "" {
			return &oauthError{"invalid_request", "the client authenticates in two ways"}
		}
		user, password, ok := r.BasicAuth()
		if !ok {
			return &oauthError{"invalid_client", "Authorization is not Basic"}
		}
		// §2.3.1: both are form-encoded before base64.
		var err1, err2 error
		user, err1 = url.QueryUnescape(user)
		secret, err2 = url.QueryUnescape(password)
		if err1 != nil || err2 != nil || id != "" && id != user {
			return &oauthError{"invalid_client", "the client's credentials are malformed"}
		}
		id = user
	}
	okID := subtle.ConstantTimeCompare([]byte(id), []byte(s.opts.ClientID))
	okSecret := subtle.ConstantTimeCompare([]byte(secret), []byte(s.opts.ClientSecret))
	if okID&okSecret != 1 {
		return &oauthError{"invalid_client", "unknown client, or wrong secret"}
	}
	return nil
}

func (s *OAuthServer) exchangeLocked(form url.Values) (map[string]any, *oauthError) {
	verifier := form.Get("code_verifier")
	switch {
	case s.switches.PKCE == PKCERefused && form.Has("code_verifier"):
		return nil, &oauthError{"invalid_request", "unknown parameter code_verifier"}
	case form.Get("code") == "":
		return nil, &oauthError{"invalid_request", "code is missing"}
	}
	now := s.opts.Now()
	gr, refusal := s.grants.spendCode(form.Get("code"), form.Get("redirect_uri"), verifier, now)
	if refusal != nil {
		return nil, refusal
	}
	var refresh string
	if !s.switches.OmitRefreshTokenAtExchange {
		refresh = s.grants.issueRefresh(gr)
	}
	return s.answerLocked(gr, gr.scope, refresh, gr.nonce, now)
}

func (s *OAuthServer) refreshLocked(form url.Values) (map[string]any, *oauthError) {
	presented := form.Get("refresh_token")
	if presented == "" {
		return nil, &oauthError{"invalid_request", "refresh_token is missing"}
	}
	now := s.opts.Now()
	t, refusal := s.grants.findRefresh(presented, &s.switches, now)
	if refusal != nil {
		return nil, refusal
	}
	scope := t.grant.scope
	if form.Get("scope") != "" {
		scope = form.Get("scope")
		if slices.ContainsFunc(strings.Fields(scope), func(word string) bool { return !t.grant.has(word) }) {
			return nil, &oauthError{"invalid_scope", "scope is wider than what was granted"}
		}
	}
	refresh := presented
	switch {
	case s.switches.OmitRefreshTokenAtRefresh:
		refresh = ""
	case s.switches.Rotate:
		refresh = s.grants.rotate(t, now)
	}
	return s.answerLocked(t.grant, scope, refresh, "", now)
}

// answerLocked issues an access token and makes the fields of the answer.
func (s *OAuthServer) answerLocked(
	gr *grant, scope, refresh, nonce string, now time.Time,
) (map[string]any, *oauthError) {
	expires := now.Add(s.opts.TokenLifetime)
	fields := map[string]any{
		"access_token": s.grants.issueAccess(gr, expires),
		"token_type":   "Bearer",
	}
	if scope != "" {
		fields["scope"] = scope
	}
	if refresh != "" {
		fields["refresh_token"] = refresh
	}
	seconds := int64(s.opts.TokenLifetime / time.Second)
	switch form := s.switches.ExpiresIn; form {
	case "", ExpiresInNumber:
		fields["expires_in"] = seconds
	case ExpiresInString:
		fields["expires_in"] = strconv.FormatInt(seconds, 10)
	case ExpiresInAbsent:
	default:
		fields["expires_in"] = json.RawMessage(form)
	}
	if gr.has("openid") {
		claims := s.accounts[gr.login].claims()
		claims["iss"] = s.Issuer()
		if s.switches.WrongIssuer != "" {
			claims["iss"] = s.switches.WrongIssuer
		}
		claims["aud"] = s.opts.ClientID
		claims["iat"] = now.Unix()
		claims["exp"] = expires.Unix()
		if nonce != "" {
			claims["nonce"] = nonce
		}
		overlay(claims, s.switches.ExtraClaims)
		token, err := s.signer.sign(claims)
		if err != nil {
			return nil, &oauthError{"server_error", "the ID token cannot be encoded"}
		}
		fields["id_token"] = token
	}
	overlay(fields, s.switches.ExtraTokenFields)
	return fields, nil
}

// overlay puts the fields of extra over those of m; nil removes one.
func overlay(m, extra map[string]any) {
	for k, v := range extra {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
}
