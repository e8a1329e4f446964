package coretest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/coretest"
	"golang.org/x/oauth2"
)

func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	verifier := oauth2.GenerateVerifier()
	q := s.consent(t, verifier, oauth2.SetAuthURLParam("nonce", "n-1"))
	if q.Get("state") != "state-1" || q.Get("iss") != s.Issuer() || !strings.HasPrefix(q.Get("code"), "code-") {
		t.Errorf("redirect = %v, want state-1, iss %s and a code", q, s.Issuer())
	}
	if got := s.LastAuthorization().Get("nonce"); got != "n-1" {
		t.Errorf("LastAuthorization nonce = %q, want n-1", got)
	}

	tok, err := s.conf.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatalf("Exchange: %v", err)
	}
	if !strings.HasPrefix(tok.AccessToken, "at-") || !strings.HasPrefix(tok.RefreshToken, "rt-") {
		t.Errorf("tokens begin with %.3s and %.3s, want at- and rt-", tok.AccessToken, tok.RefreshToken)
	}
	if tok.ExpiresIn != 3600 || tok.TokenType != "Bearer" || tok.Extra("scope") != "openid read" {
		t.Errorf("token = %d %q %q, want 3600 Bearer and the scope", tok.ExpiresIn, tok.TokenType, tok.Extra("scope"))
	}

	a := mustSend(t, http.MethodGet, s.UserInfoURL(), nil, "Authorization", "Bearer "+tok.AccessToken)
	want := map[string]any{"sub": "ada", "name": "Ada Lovelace", "email": "ada@example.com", "tenant": "engine"}
	if diff := cmp.Diff(want, a.json(t)); diff != "" {
		t.Errorf("userinfo (-want +got):\n%s", diff)
	}
	want = map[string]any{"account": "Ada Lovelace", "subject": "ada", "tenant": "engine"}
	if diff := cmp.Diff(want, s.me(t, tok.AccessToken).json(t)); diff != "" {
		t.Errorf("/api/me (-want +got):\n%s", diff)
	}

	claims := s.verifyIDToken(t, tok)
	want = map[string]any{
		"sub": "ada", "name": "Ada Lovelace", "email": "ada@example.com", "tenant": "engine",
		"iss": s.Issuer(), "aud": s.ClientID(), "nonce": "n-1",
		"iat": float64(s.clock.Now().Unix()), "exp": float64(s.clock.Now().Add(time.Hour).Unix()),
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("ID token (-want +got):\n%s", diff)
	}

	if diff := cmp.Diff(coretest.Calls{Authorize: 1, Exchange: 1, UserInfo: 1, API: 1}, s.Calls()); diff != "" {
		t.Errorf("Calls (-want +got):\n%s", diff)
	}
	s.clock.Advance(time.Hour)
	s.wantLive(t, tok.AccessToken, false)
	if a := mustSend(t, http.MethodGet, s.UserInfoURL(), nil, "Authorization", "Bearer "+tok.AccessToken); a.status != 401 {
		t.Errorf("userinfo with an expired token = %d, want 401", a.status)
	}
}

// verifyIDToken checks the signature under the published key and returns the claims.
func (s *setup) verifyIDToken(t *testing.T, tok *oauth2.Token) map[string]any {
	t.Helper()
	raw, _ := tok.Extra("id_token").(string)
	key := mustSend(t, http.MethodGet, s.JWKSURL(), nil).json(t)["keys"].([]any)[0].(map[string]any)
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		b, err := base64.RawURLEncoding.DecodeString(key[name].(string))
		if err != nil {
			t.Fatalf("decode %s: %v", name, err)
		}
		point = append(point, b...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatalf("parse published key: %v", err)
	}
	parsed, err := jwt.Parse(raw, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithTimeFunc(s.clock.Now))
	if err != nil {
		t.Fatalf("parse ID token %q: %v", raw, err)
	}
	if parsed.Header["kid"] != key["kid"] {
		t.Errorf("kid = %v, want %v", parsed.Header["kid"], key["kid"])
	}
	return parsed.Claims.(jwt.MapClaims)
}

func TestAuthorizeRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	challenge := oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())
	tests := []struct {
		name   string
		change func(url.Values)
		want   string // OAuth error in the redirect; empty: a page with status 400
	}{
		{"good", func(url.Values) {}, "none"},
		{"response type", func(q url.Values) { q.Set("response_type", "token") }, "unsupported_response_type"},
		{"no state", func(q url.Values) { q.Del("state") }, "invalid_request"},
		{"state twice", func(q url.Values) { q.Add("state", "b") }, "invalid_request"},
		{"no challenge", func(q url.Values) { q.Del("code_challenge") }, "invalid_request"},
		{"plain", func(q url.Values) { q.Set("code_challenge_method", "plain") }, "invalid_request"},
		{"no method", func(q url.Values) { q.Del("code_challenge_method") }, "invalid_request"},
		{"challenge not a hash", func(q url.Values) { q.Set("code_challenge", "abc") }, "invalid_request"},
		{"unknown hint", func(q url.Values) { q.Set("login_hint", "nobody") }, "login_required"},
		{"hint by address", func(q url.Values) { q.Set("login_hint", "ada@example.com") }, "none"},
		{"client", func(q url.Values) { q.Set("client_id", "other") }, ""},
		{"no client", func(q url.Values) { q.Del("client_id") }, ""},
		{"redirect off loopback", func(q url.Values) { q.Set("redirect_uri", "http://example.com/") }, ""},
		{"redirect named like loopback", func(q url.Values) { q.Set("redirect_uri", "http://127.0.0.1.example.com/") }, ""},
		{"redirect with user", func(q url.Values) { q.Set("redirect_uri", "http://a@127.0.0.1/") }, ""},
		{"redirect with fragment", func(q url.Values) { q.Set("redirect_uri", callback+"#a") }, ""},
		{"redirect to a script", func(q url.Values) { q.Set("redirect_uri", "javascript:alert(1)") }, ""},
		{"no redirect", func(q url.Values) { q.Del("redirect_uri") }, ""},
		{"redirect twice", func(q url.Values) { q.Add("redirect_uri", callback) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := url.Values{
				"response_type": {"code"}, "client_id": {s.ClientID()}, "redirect_uri": {callback}, "state": {"a"},
				"code_challenge": {challenge}, "code_challenge_method": {"S256"},
			}
			tt.change(q)
			a := mustSend(t, http.MethodGet, s.AuthorizationURL()+"?"+q.Encode(), nil)
			if tt.want == "" {
				if a.status != http.StatusBadRequest || a.header.Get("Location") != "" {
					t.Fatalf("authorize = %d to %q, want a page with 400", a.status, a.header.Get("Location"))
				}
				return
			}
			u, err := url.Parse(a.header.Get("Location"))
			if err != nil || a.status != http.StatusSeeOther {
				t.Fatalf("authorize = %d %q %v, want a redirect", a.status, a.header, err)
			}
			got := u.Query().Get("error")
			if got == "" && u.Query().Get("code") != "" {
				got = "none"
			}
			if got != tt.want || u.Query().Get("state") != q.Get("state") {
				t.Errorf("redirect = %v, want error %q and the state", u, tt.want)
			}
		})
	}
}

func TestRedirectURIs(t *testing.T) {
	t.Parallel()
	const registered = "https://app.example.com/callback?a=b"
	s := start(t, func(o *coretest.OAuthServerOptions) { o.RedirectURIs = []string{registered} })
	verifier := oauth2.GenerateVerifier()
	for uri, want := range map[string]int{registered: 303, registered + "/x": 400, callback: 400} {
		s.conf.RedirectURL = uri
		a := mustSend(t, http.MethodGet, s.conf.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), nil)
		if a.status != want {
			t.Errorf("authorize with redirect_uri %s = %d, want %d", uri, a.status, want)
		}
		if to := a.header.Get("Location"); want == 303 && !strings.HasPrefix(to, registered+"&code=") {
			t.Errorf("redirect to %q, want the URI with its own parameter first", to)
		}
	}
}

func TestWhoConsents(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.AddAccount(coretest.Account{Login: "bob@two", Subject: "bob", Tenant: "two"})
	s.SignIn("grace")
	subject := func(opts ...oauth2.AuthCodeOption) string {
		t.Helper()
		verifier := oauth2.GenerateVerifier()
		q := s.consent(t, verifier, opts...)
		if q.Has("error") {
			return q.Get("error")
		}
		tok, err := s.conf.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatalf("Exchange: %v", err)
		}
		m := s.me(t, tok.AccessToken).json(t)
		return m["account"].(string) + "/" + m["tenant"].(string)
	}
	if got := subject(); got != "grace/" {
		t.Errorf("account after SignIn = %q, want grace/", got)
	}
	if got := subject(oauth2.SetAuthURLParam("login_hint", "bob@two")); got != "bob/two" {
		t.Errorf("account with login_hint = %q, want bob/two", got)
	}
	s.DenyNext()
	if got := subject(); got != "access_denied" {
		t.Errorf("after DenyNext = %q, want access_denied", got)
	}
	if got := subject(); got != "grace/" {
		t.Errorf("second time after DenyNext = %q, want grace/", got)
	}
	s.SignIn("")
	if got := subject(); got != "login_required" {
		t.Errorf("with nobody signed in = %q, want login_required", got)
	}
}

func TestExchangeRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tests := []struct {
		name   string
		change func(form url.Values, header *[]string)
		want   string
	}{
		{"good, in the body", func(url.Values, *[]string) {}, ""},
		{"wrong verifier", func(f url.Values, _ *[]string) { f.Set("code_verifier", oauth2.GenerateVerifier()) }, "invalid_grant"},
		{"no verifier", func(f url.Values, _ *[]string) { f.Del("code_verifier") }, "invalid_grant"},
		{"wrong redirect", func(f url.Values, _ *[]string) { f.Set("redirect_uri", callback+"/") }, "invalid_grant"},
		{"unknown code", func(f url.Values, _ *[]string) { f.Set("code", "code-x") }, "invalid_grant"},
		{"no code", func(f url.Values, _ *[]string) { f.Del("code") }, "invalid_request"},
		{"parameter twice", func(f url.Values, _ *[]string) { f.Add("code", "b") }, "invalid_request"},
		{"no grant type", func(f url.Values, _ *[]string) { f.Del("grant_type") }, "invalid_request"},
		{"other grant type", func(f url.Values, _ *[]string) { f.Set("grant_type", "password") }, "unsupported_grant_type"},
		{"wrong secret", func(f url.Values, _ *[]string) { f.Set("client_secret", "x") }, "invalid_client"},
		{"no secret", func(f url.Values, _ *[]string) { f.Del("client_secret") }, "invalid_client"},
		{"other client", func(f url.Values, _ *[]string) { f.Set("client_id", "x") }, "invalid_client"},
		{"two ways", func(_ url.Values, h *[]string) { *h = []string{"Authorization", basic("a b", "c:d")} }, "invalid_request"},
		{"wrong secret, Basic", func(f url.Values, h *[]string) {
			f.Del("client_secret")
			*h = []string{"Authorization", basic(s.ClientID(), "x")}
		}, "invalid_client"},
		{"not Basic", func(f url.Values, h *[]string) {
			f.Del("client_secret")
			*h = []string{"Authorization", "Bearer x"}
		}, "invalid_client"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			verifier := oauth2.GenerateVerifier()
			form := url.Values{
				"grant_type": {"authorization_code"}, "code": {s.consent(t, verifier).Get("code")},
				"redirect_uri": {callback}, "code_verifier": {verifier},
				"client_id": {s.ClientID()}, "client_secret": {s.ClientSecret()},
			}
			var header []string
			tt.change(form, &header)
			a := mustSend(t, http.MethodPost, s.TokenURL(), form, header...)
			got, _ := a.json(t)["error"].(string)
			want := http.StatusBadRequest
			switch tt.want {
			case "":
				want = http.StatusOK
			case "invalid_client":
				want = http.StatusUnauthorized
				if len(header) > 0 && a.header.Get("WWW-Authenticate") == "" {
					t.Error("no WWW-Authenticate")
				}
			}
			if got != tt.want || a.status != want || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("token = %d %s, want %d %q", a.status, a.body, want, tt.want)
			}
		})
	}
}

// basic is client authentication as RFC 6749 §2.3.1 has it.
func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

func TestClientWithSpecialCharacters(t *testing.T) {
	t.Parallel()
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		s := start(t, func(o *coretest.OAuthServerOptions) { o.ClientID, o.ClientSecret = "id:+ %41ö", "s:+/ %42&=" })
		s.conf.Endpoint.AuthStyle = style
		s.wantLive(t, s.connect(t).AccessToken, true)
		r, ok := s.Last(coretest.EndpointExchange)
		if inHeader := r.Header.Get("Authorization") != ""; !ok || inHeader != (style == oauth2.AuthStyleInHeader) {
			t.Errorf("Last = %v, want credentials in the header only with style %d", r, style)
		}
	}
}

func TestCodeIsUsedOnce(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	verifier := oauth2.GenerateVerifier()
	code := s.consent(t, verifier).Get("code")
	tok, err := s.conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatalf("Exchange: %v", err)
	}
	s.wantLive(t, tok.AccessToken, true)
	_, err = s.conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_grant")
	s.wantLive(t, tok.AccessToken, false)
	_, err = s.refresh(t.Context(), tok.RefreshToken)
	wantCode(t, err, "invalid_grant")
}

func TestCodeExpires(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for after, want := range map[time.Duration]string{59 * time.Second: "", time.Minute: "invalid_grant"} {
		verifier := oauth2.GenerateVerifier()
		code := s.consent(t, verifier).Get("code")
		s.clock.Advance(after)
		_, err := s.conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
		if want != "" {
			wantCode(t, err, want)
		} else if err != nil {
			t.Errorf("Exchange after %v: %v", after, err)
		}
	}
}

func TestConcurrentExchange(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	verifier := oauth2.GenerateVerifier()
	code := s.consent(t, verifier).Get("code")
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := s.conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier)); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || s.Calls().Exchange != 16 {
		t.Errorf("%d of %d exchanges won, want 1 of 16", won.Load(), s.Calls().Exchange)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		m := mustSend(t, http.MethodGet, s.Issuer()+path, nil).json(t)
		if m["issuer"] != s.Issuer() || m["token_endpoint"] != s.TokenURL() || m["jwks_uri"] != s.JWKSURL() {
			t.Errorf("%s = %v", path, m)
		}
	}
	if a := mustSend(t, http.MethodGet, s.URL()+"/nothing", nil); a.status != http.StatusNotFound {
		t.Errorf("GET /nothing = %d, want 404", a.status)
	}
	if a := mustSend(t, http.MethodGet, s.TokenURL(), nil); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET /token = %d, want 405", a.status)
	}
}
