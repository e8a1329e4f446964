package coretest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/coretest"
	"golang.org/x/oauth2"
)

// exchange consents and posts the code by hand, for answers that oauth2 does not show.
func (s *setup) exchange(t *testing.T) answer {
	t.Helper()
	verifier := oauth2.GenerateVerifier()
	return mustSend(t, http.MethodPost, s.TokenURL(), url.Values{
		"grant_type": {"authorization_code"}, "code": {s.consent(t, verifier).Get("code")},
		"redirect_uri": {callback}, "code_verifier": {verifier},
	}, "Authorization", basic(s.ClientID(), s.ClientSecret()))
}

func TestExpiresIn(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) { o.TokenLifetime = 90 * time.Second })
	tests := []struct {
		form coretest.ExpiresIn
		want string // of the field, as JSON
	}{
		{"", "90"},
		{coretest.ExpiresInNumber, "90"},
		{coretest.ExpiresInString, `"90"`},
		{coretest.ExpiresInAbsent, ""},
		{"-1", "-1"},
		{"1e3", "1e3"},
		{`"soon"`, `"soon"`},
		{"null", "null"},
	}
	for _, tt := range tests {
		s.Set(func(sw *coretest.Switches) { sw.ExpiresIn = tt.form })
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(s.exchange(t).body), &m); err != nil {
			t.Fatalf("decode: %v", err)
		}
		if got := string(m["expires_in"]); got != tt.want {
			t.Errorf("expires_in with form %q = %s, want %s", tt.form, got, tt.want)
		}
	}
	s.Set(func(sw *coretest.Switches) { sw.ExpiresIn = "soon" })
	if a := s.exchange(t); a.status != http.StatusInternalServerError {
		t.Errorf("token with a form that is no JSON = %d, want 500", a.status)
	}
}

func TestErrorForms(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	_, err := s.refresh(t.Context(), "rt-unknown")
	wantCode(t, err, "invalid_grant")

	s.Set(func(sw *coretest.Switches) { sw.OKWithError = true })
	_, err = s.refresh(t.Context(), "rt-unknown")
	wantCode(t, err, "invalid_grant")
	a := mustSend(t, http.MethodPost, s.TokenURL(), url.Values{"grant_type": {"refresh_token"}})
	if a.status != http.StatusOK || a.json(t)["error"] != "invalid_client" {
		t.Errorf("refused = %d %s, want 200 invalid_client", a.status, a.body)
	}

	s.Set(func(sw *coretest.Switches) { sw.FormEncoded = true })
	a = mustSend(t, http.MethodPost, s.TokenURL(), url.Values{"grant_type": {"refresh_token"}})
	form, err := url.ParseQuery(a.body)
	if err != nil || form.Get("error") != "invalid_client" {
		t.Errorf("form encoded error = %s", a.body)
	}
}

func TestFormEncoded(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Switches.FormEncoded = true
		o.Switches.ExtraTokenFields = map[string]any{"data": map[string]any{"id": 1}}
	})
	tok := s.connect(t)
	s.wantLive(t, tok.AccessToken, true)
	if tok.Extra("data") != `{"id":1}` || !tok.Expiry.After(time.Now()) {
		t.Errorf("token = %+v with data %v, want an expiry and the data as JSON", tok, tok.Extra("data"))
	}
	a := s.exchange(t)
	if got := a.header.Get("Content-Type"); got != "application/x-www-form-urlencoded" {
		t.Errorf("Content-Type = %q", got)
	}
}

func TestExtraFields(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Switches = coretest.Switches{
			ExtraTokenFields:    map[string]any{"instance_url": "https://evil.example", "token_type": nil},
			ExtraCallbackParams: map[string]string{"accounts-server": "https://accounts.example", "state": "other"},
			ExtraClaims:         map[string]any{"nonce": "other", "email": nil},
		}
	})
	q := s.consent(t, oauth2.GenerateVerifier())
	if q.Get("accounts-server") != "https://accounts.example" || q.Get("state") != "other" {
		t.Errorf("redirect = %v, want the extra parameters", q)
	}
	m := s.exchange(t).json(t)
	if _, ok := m["token_type"]; ok || m["instance_url"] != "https://evil.example" {
		t.Errorf("token = %v, want instance_url and no token_type", m)
	}
	claims := s.verifyIDToken(t, s.connect(t))
	if _, ok := claims["email"]; ok || claims["nonce"] != "other" {
		t.Errorf("claims = %v, want another nonce and no email", claims)
	}

	s.Set(func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"access_token": nil} })
	if m := s.exchange(t).json(t); m["access_token"] != nil || m["refresh_token"] == nil {
		t.Errorf("token = %v, want no access token", m)
	}
}

func TestIssuer(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.WrongIssuer = "https://other.example" })
	if got := s.consent(t, oauth2.GenerateVerifier()).Get("iss"); got != "https://other.example" {
		t.Errorf("iss = %q, want the wrong one", got)
	}
	if got := s.verifyIDToken(t, s.connect(t))["iss"]; got != "https://other.example" {
		t.Errorf("ID token iss = %q, want the wrong one", got)
	}
	s.Set(func(sw *coretest.Switches) { sw.WrongIssuer, sw.OmitIssuer = "", true })
	if q := s.consent(t, oauth2.GenerateVerifier()); q.Has("iss") {
		t.Errorf("redirect = %v, want no iss", q)
	}
}

func TestPKCE(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.PKCE = coretest.PKCERefused })
	verifier := oauth2.GenerateVerifier()
	if q := s.consent(t, verifier); q.Get("error") != "invalid_request" {
		t.Errorf("redirect with a challenge = %v, want invalid_request", q)
	}
	code := s.consent(t, "").Get("code")
	_, err := s.conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_request")
	if _, err := s.conf.Exchange(t.Context(), code); err != nil {
		t.Errorf("Exchange without a verifier: %v", err)
	}

	s.Set(func(sw *coretest.Switches) { sw.PKCE = coretest.PKCEIgnored })
	if _, err := s.conf.Exchange(t.Context(), s.consent(t, verifier).Get("code")); err != nil {
		t.Errorf("Exchange without the verifier, PKCE ignored: %v", err)
	}
	if _, err := s.conf.Exchange(t.Context(), s.consent(t, "").Get("code"), oauth2.VerifierOption(verifier)); err != nil {
		t.Errorf("Exchange with a verifier only, PKCE ignored: %v", err)
	}
}

func TestSwitchesAreCopies(t *testing.T) {
	t.Parallel()
	extra := map[string]any{"a": 1}
	garbage := &coretest.Garbage{Header: map[string]string{"a": "b"}}
	errs := map[string]coretest.Garbage{"invalid_grant": {Status: 403, Header: map[string]string{"a": "b"}}}
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Switches = coretest.Switches{
			ExtraTokenFields: extra, API: coretest.Fault{Garbage: garbage}, TokenErrors: errs,
		}
	})
	want := s.Switches()
	extra["a"], garbage.Status, garbage.Header["a"] = 2, 500, "c"
	errs["invalid_grant"].Header["a"], errs["x"] = "c", coretest.Garbage{}
	got := s.Switches()
	got.TokenErrors["invalid_grant"].Header["d"] = "e"
	got.ExtraTokenFields["b"], got.API.Garbage.Body = 3, "x"
	s.Set(func(sw *coretest.Switches) { got = *sw })
	got.ExtraTokenFields["c"] = 4
	if diff := cmp.Diff(want, s.Switches()); diff != "" {
		t.Errorf("switches were changed from outside (-want +got):\n%s", diff)
	}
}

func TestSwitchesJSON(t *testing.T) {
	t.Parallel()
	full := coretest.Switches{
		Rotate: true, GraceWindow: 90 * time.Second, ExpiresIn: "absent", PKCE: coretest.PKCEIgnored,
		ExtraTokenFields: map[string]any{"a": "b"}, Unauthorized: 2,
		TokenRequests: coretest.TokenRequestsJSON, NestTokensAtExchange: "authed_user", MaxRefreshTokens: 5,
		TokenErrors: map[string]coretest.Garbage{"invalid_grant": {Status: 403, Body: "{}"}},
		Refresh: coretest.Fault{
			Times: 1, WorkFirst: true, Slow: 1500 * time.Millisecond, Hang: true,
			Garbage: &coretest.Garbage{Status: 500, Size: 7, Header: map[string]string{"Retry-After": "1"}},
		},
	}
	b, err := json.Marshal(full)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	for _, part := range []string{`"graceWindow":"1m30s"`, `"slow":"1.5s"`, `"workFirst":true`, `"userInfo":{`} {
		if !strings.Contains(string(b), part) {
			t.Errorf("Marshal = %s, want %s in it", b, part)
		}
	}
	var back coretest.Switches
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("Unmarshal: %v", err)
	}
	if diff := cmp.Diff(full, back); diff != "" {
		t.Errorf("there and back (-want +got):\n%s", diff)
	}

	// What is not named stays, at both levels.
	before := back.ExtraTokenFields
	if err := json.Unmarshal([]byte(`{"rotate":false,"refresh":{"hang":false,"garbage":{"status":503}},
		"extraTokenFields":{"c":1}}`), &back); err != nil {
		t.Fatalf("Unmarshal: %v", err)
	}
	want := full
	want.Rotate, want.Refresh.Hang = false, false
	want.ExtraTokenFields = map[string]any{"a": "b", "c": 1.0}
	want.Refresh.Garbage = &coretest.Garbage{Status: 503, Size: 7, Header: map[string]string{"Retry-After": "1"}}
	if diff := cmp.Diff(want, back); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"refresh":null,"extraTokenFields":null}`), &back); err != nil {
		t.Fatalf("Unmarshal: %v", err)
	}
	want.Refresh, want.ExtraTokenFields = coretest.Fault{}, nil
	if diff := cmp.Diff(want, back); diff != "" {
		t.Errorf("emptied by null (-want +got):\n%s", diff)
	}
	if len(before) != 1 {
		t.Errorf("Unmarshal changed a map it was not given: %v", before)
	}

	for _, bad := range []string{
		`{"rotat":true}`, `{"api":{"hangs":true}}`, `{"api":{"garbage":{"x":1}}}`, `{"graceWindow":"soon"}`,
		`{"graceWindow":5}`, `[]`, `{"pkce":"S256"}`, `{"tokenRequests":"xml"}`, `{"revokeRequests":"put"}`, `{"rotate":true,"expiresIn":"soon"}`,
		`{"tokenErrors":{"invalid_grant":{"code":400}}}`,
	} {
		was := back
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("Unmarshal(%s) = nil, want an error", bad)
		}
		if diff := cmp.Diff(was, back); diff != "" {
			t.Errorf("Unmarshal(%s) changed the switches:\n%s", bad, diff)
		}
	}
}
