package coretest

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"mime"
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
	if refusal := cmp.Or(s.wellFormed(r), s.authenticate(r)); refusal != nil {
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

// wellFormed checks the body of a token or revocation request, not yet what it says.
func (s *OAuthServer) wellFormed(r *http.Request) *oauthError {
	takes := s.Switches().TokenRequests
	switch {
	case !isJSON(r) && takes == TokenRequestsJSON:
		return &oauthError{"invalid_request", "the body must be application/json"}
	case isJSON(r) && takes != TokenRequestsJSON && takes != TokenRequestsAny:
		return &oauthError{"invalid_request", "the body must be application/x-www-form-urlencoded"}
	case !single(r.PostForm):
		return &oauthError{"invalid_request", "a parameter is there more than once"}
	}
	return nil
}

// authenticate checks the client's credentials, which stand in the Authorization header or in the body, not in both
// (RFC 6749 §2.3).
func (s *OAuthServer) authenticate(r *http.Request) *oauthError {
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
	begun := s.grants.codes[form.Get("code")]
	if s.switches.PKCE != PKCEIgnored && begun != nil && begun.challenge == "" && verifier != "" {
		return nil, &oauthError{"invalid_grant", "the authorization request had no code_challenge"} // RFC 9700 §4.8.2
	}
	now := s.opts.Now()
	gr, refusal := s.grants.spendCode(form.Get("code"), form.Get("redirect_uri"), verifier, now)
	if refusal != nil {
		return nil, refusal
	}
	var refresh string
	if !s.switches.OmitRefreshTokenAtExchange {
		refresh = s.grants.issueRefresh(gr)
		s.grants.limit(gr, s.switches.MaxRefreshTokens)
	}
	fields, refusal := s.answerLocked(gr, gr.scope, refresh, gr.nonce, now)
	return s.dressLocked(fields, s.switches.NestTokensAtExchange), refusal
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
	fields, refusal := s.answerLocked(t.grant, scope, refresh, "", now)
	return s.dressLocked(fields, s.switches.NestTokensAtRefresh), refusal
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
	return fields, nil
}

// dressLocked puts the fields of an answer into an object at path, and adds those that the switches ask for.
func (s *OAuthServer) dressLocked(fields map[string]any, path string) map[string]any {
	if fields == nil {
		return nil
	}
	if path != "" {
		names := strings.Split(path, ".")
		for _, name := range slices.Backward(names) {
			fields = map[string]any{name: fields}
		}
	}
	overlay(fields, s.switches.ExtraTokenFields)
	return fields
}

// overlay puts the fields of extra over those of m; nil removes one, and an object goes over an object.
func overlay(m, extra map[string]any) {
	for k, v := range extra {
		inner, ok1 := m[k].(map[string]any)
		more, ok2 := v.(map[string]any)
		switch {
		case v == nil:
			delete(m, k)
		case ok1 && ok2:
			overlay(inner, more)
		default:
			m[k] = v
		}
	}
}

// isJSON reports whether the body of a request is said to be JSON.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// formOf returns the fields of a JSON object as the parameters of a form: texts as they are, anything else as JSON. It
// is empty for what is no object.
func formOf(body []byte) url.Values {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(body, &fields) // what is malformed is missing from the form
	form := make(url.Values, len(fields))
	for name, field := range fields {
		var text string
		if json.Unmarshal(field, &text) != nil {
			text = string(field)
		}
		form.Set(name, text)
	}
	return form
}
