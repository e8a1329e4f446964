package coretest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/coretest"
	"golang.org/x/oauth2"
)

// sendJSON posts an object.
func sendJSON(t *testing.T, url string, object any, header ...string) answer {
	t.Helper()
	body, err := json.Marshal(object)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(string(body)))
	if err != nil {
		t.Fatalf("NewRequest: %v", err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("POST %s: %v", url, err)
	}
	defer resp.Body.Close()
	var m json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil && resp.ContentLength != 0 {
		t.Fatalf("decode: %v", err)
	}
	return answer{resp.StatusCode, resp.Header, string(m)}
}

// Notion takes JSON at its token and revocation endpoints.
func TestTokenRequests(t *testing.T) {
	t.Parallel()
	tests := []struct {
		takes      coretest.TokenRequests
		form, json bool
	}{
		{"", true, false},
		{coretest.TokenRequestsForm, true, false},
		{coretest.TokenRequestsJSON, false, true},
		{coretest.TokenRequestsAny, true, true},
	}
	for _, tt := range tests {
		t.Run(string(tt.takes), func(t *testing.T) {
			t.Parallel()
			s := start(t, nil)
			refresh := s.connect(t).RefreshToken
			s.Set(func(sw *coretest.Switches) { sw.TokenRequests = tt.takes })
			auth := []string{"Authorization", basic(s.ClientID(), s.ClientSecret())}
			check := func(what string, a answer, ok bool) {
				t.Helper()
				if (a.status == http.StatusOK) != ok || !ok && a.json(t)["error"] != "invalid_request" {
					t.Errorf("%s = %d %s, want it taken: %v", what, a.status, a.body, ok)
				}
			}
			check("refresh by form", mustSend(t, http.MethodPost, s.TokenURL(), url.Values{
				"grant_type": {"refresh_token"}, "refresh_token": {refresh},
			}, auth...), tt.form)
			check("refresh by JSON", sendJSON(t, s.TokenURL(), map[string]any{
				"grant_type": "refresh_token", "refresh_token": refresh, "external_account": map[string]any{"key": 1},
			}, auth...), tt.json)
			if got := s.Calls().Refresh; got != 2 {
				t.Errorf("Calls().Refresh = %d, want 2, by the body's grant_type", got)
			}
			last, _ := s.Last(coretest.EndpointRefresh)
			if last.Form.Get("refresh_token") == "" || last.Form.Get("external_account") != `{"key":1}` {
				t.Errorf("Last(refresh).Form = %v, want the fields of the JSON", last.Form)
			}
			check("revocation by form",
				mustSend(t, http.MethodPost, s.RevocationURL(), url.Values{"token": {"x"}}, auth...), tt.form)
			check("revocation by JSON",
				sendJSON(t, s.RevocationURL(), map[string]string{"token": refresh}, auth...), tt.json)
			s.Set(func(sw *coretest.Switches) { sw.TokenRequests = "" })
			if _, err := s.refresh(t.Context(), refresh); (err != nil) != tt.json {
				t.Errorf("refresh after a revocation by JSON: %v, want it revoked: %v", err, tt.json)
			}
			s.Set(func(sw *coretest.Switches) { sw.TokenRequests = tt.takes })
			check("a list", sendJSON(t, s.TokenURL(), []int{1}, auth...), false)
		})
	}
}

// A client may authenticate in the JSON body too.
func TestTokenRequestsClientInBody(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.TokenRequests = coretest.TokenRequestsJSON })
	verifier := oauth2.GenerateVerifier()
	body := map[string]string{
		"grant_type": "authorization_code", "code": s.consent(t, verifier).Get("code"), "redirect_uri": callback,
		"code_verifier": verifier, "client_id": s.ClientID(), "client_secret": "wrong",
	}
	if a := sendJSON(t, s.TokenURL(), body); a.status != http.StatusUnauthorized {
		t.Errorf("exchange with a wrong secret = %d %s, want 401", a.status, a.body)
	}
	body["client_secret"] = s.ClientSecret()
	a := sendJSON(t, s.TokenURL(), body)
	token, _ := a.json(t)["access_token"].(string)
	s.wantLive(t, token, true)
}

// Slack nests the user's tokens when a code is exchanged, and only then.
func TestNestTokens(t *testing.T) {
	t.Parallel()
	extra := map[string]any{
		"ok": true, "team": map[string]any{"id": "T1"}, "authed_user": map[string]any{"id": "U1", "token_type": nil},
	}
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Switches = coretest.Switches{NestTokensAtExchange: "authed_user", ExtraTokenFields: extra}
	})
	var got struct {
		OK   bool `json:"ok"`
		Team struct {
			ID string `json:"id"`
		} `json:"team"`
		AuthedUser  map[string]any `json:"authed_user"`
		AccessToken string         `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(s.exchange(t).body), &got); err != nil {
		t.Fatalf("decode: %v", err)
	}
	user := got.AuthedUser
	if !got.OK || got.Team.ID != "T1" || got.AccessToken != "" || user["id"] != "U1" || user["expires_in"] != 3600.0 {
		t.Errorf("exchange = %+v, want the tokens in authed_user, with id beside them", got)
	}
	if _, ok := user["token_type"]; ok {
		t.Errorf("authed_user = %v, want no token_type", user)
	}
	s.wantLive(t, user["access_token"].(string), true)
	if diff := cmp.Diff(map[string]any{"id": "U1", "token_type": nil}, extra["authed_user"]); diff != "" {
		t.Errorf("the switches were written to (-want +got):\n%s", diff)
	}

	next := s.mustRefresh(t, user["refresh_token"].(string))
	s.wantLive(t, next.AccessToken, true) // it stands at the top
	s.Set(func(sw *coretest.Switches) { sw.NestTokensAtRefresh = "data.tokens" })
	m := mustSend(t, http.MethodPost, s.TokenURL(), url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {next.RefreshToken},
	}, "Authorization", basic(s.ClientID(), s.ClientSecret())).json(t)
	tokens := m["data"].(map[string]any)["tokens"].(map[string]any)
	s.wantLive(t, tokens["access_token"].(string), true)

	_, err := s.refresh(t.Context(), "rt-unknown")
	wantCode(t, err, "invalid_grant") // errors are never nested
}

// HubSpot, Slack and Zoho each say in their own way that a refresh token is dead.
func TestTokenErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		give coretest.Garbage
	}{
		{"HubSpot", coretest.Garbage{Status: 400, ContentType: "application/json", Body: `{"status":"BAD_REFRESH_TOKEN"}`}},
		{"Slack", coretest.Garbage{ContentType: "application/json", Body: `{"ok":false,"error":"invalid_refresh_token"}`}},
		{"Zoho", coretest.Garbage{ContentType: "application/json", Body: `{"error":"invalid_code"}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(o *coretest.OAuthServerOptions) {
				o.Switches.TokenErrors = map[string]coretest.Garbage{"invalid_grant": tt.give}
				o.Switches.OKWithError = true // for the other codes
			})
			tok := s.connect(t)
			refresh := func() answer {
				return mustSend(t, http.MethodPost, s.TokenURL(), url.Values{
					"grant_type": {"refresh_token"}, "refresh_token": {tok.RefreshToken},
				}, "Authorization", basic(s.ClientID(), s.ClientSecret()))
			}
			if a := refresh(); a.status != http.StatusOK || a.json(t)["access_token"] == nil {
				t.Errorf("refresh = %d %s, want a token", a.status, a.body)
			}
			s.Revoke("ada")
			want := max(tt.give.Status, http.StatusOK)
			if a := refresh(); a.status != want || a.body != tt.give.Body {
				t.Errorf("refresh of a dead token = %d %s, want %d %s", a.status, a.body, want, tt.give.Body)
			}
			s.Set(func(sw *coretest.Switches) { sw.Refresh.Error = "invalid_grant" })
			if a := refresh(); a.body != tt.give.Body {
				t.Errorf("refresh with a fault of that code = %s, want %s", a.body, tt.give.Body)
			}
			a := mustSend(t, http.MethodPost, s.TokenURL(), url.Values{"grant_type": {"authorization_code"}})
			if a.status != http.StatusOK || a.json(t)["error"] != "invalid_client" {
				t.Errorf("another error = %d %s, want invalid_client as usual", a.status, a.body)
			}
		})
	}
}

// Google asks for nothing but the token.
func TestRevokeWithoutClient(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.RevokeWithoutClient = true })
	one, two := s.connect(t), s.connect(t)
	form := func(token string) url.Values { return url.Values{"token": {token}} }
	if a := mustSend(t, http.MethodPost, s.RevocationURL(), form(one.RefreshToken)); a.status != http.StatusOK {
		t.Errorf("revoke = %d %s, want 200", a.status, a.body)
	}
	s.wantLive(t, one.AccessToken, false)
	s.wantLive(t, two.AccessToken, true)
	a := mustSend(t, http.MethodPost, s.RevocationURL(), form(two.RefreshToken), "Authorization", basic("other", "wrong"))
	if a.status != http.StatusOK {
		t.Errorf("revoke with a stranger's credentials = %d %s, want 200", a.status, a.body)
	}
	s.wantLive(t, two.AccessToken, false)
	if a := mustSend(t, http.MethodPost, s.RevocationURL(), url.Values{}); a.status != http.StatusBadRequest {
		t.Errorf("revoke without a token = %d, want 400", a.status)
	}
}

// Google, Salesforce and Zoho let an account hold so many refresh tokens.
func TestMaxRefreshTokens(t *testing.T) {
	t.Parallel()
	for _, rotate := range []bool{false, true} {
		s := start(t, func(o *coretest.OAuthServerOptions) {
			o.Switches = coretest.Switches{Rotate: rotate, MaxRefreshTokens: 2}
		})
		s.SignIn("bob")
		bob := s.connect(t)
		s.SignIn("ada")
		first := s.connect(t)
		second := s.connect(t)
		first = s.mustRefresh(t, first.RefreshToken) // being used makes it no younger
		third := s.connect(t)
		_, err := s.refresh(t.Context(), first.RefreshToken)
		wantCode(t, err, "invalid_grant")
		s.wantLive(t, first.AccessToken, true)
		second = s.mustRefresh(t, second.RefreshToken)
		s.mustRefresh(t, bob.RefreshToken)

		// One that is revoked makes room.
		mustSend(t, http.MethodPost, s.RevocationURL(), url.Values{"token": {third.RefreshToken}},
			"Authorization", basic(s.ClientID(), s.ClientSecret()))
		fourth := s.connect(t)
		s.mustRefresh(t, second.RefreshToken)
		s.mustRefresh(t, fourth.RefreshToken)
	}
}

// Salesforce says in the token answer where its API is, Zoho already in the redirect. Either may be a lie.
func TestSteeringFields(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.Set(func(sw *coretest.Switches) {
		sw.ExtraTokenFields = map[string]any{"instance_url": "https://evil.example", "api_domain": s.URL()}
		sw.ExtraCallbackParams = map[string]string{"accounts-server": "https://evil.example", "location": "eu"}
	})
	q := s.consent(t, oauth2.GenerateVerifier())
	if q.Get("accounts-server") != "https://evil.example" || q.Get("location") != "eu" || q.Get("code") == "" {
		t.Errorf("redirect = %v, want accounts-server and location beside the code", q)
	}
	tok := s.connect(t)
	if tok.Extra("instance_url") != "https://evil.example" || tok.Extra("api_domain") != s.URL() {
		t.Errorf("token answer has instance_url %v and api_domain %v", tok.Extra("instance_url"), tok.Extra("api_domain"))
	}
	if tok = s.mustRefresh(t, tok.RefreshToken); tok.Extra("instance_url") != "https://evil.example" {
		t.Errorf("refresh has instance_url %v, want it there too", tok.Extra("instance_url"))
	}
	s.Set(func(sw *coretest.Switches) { sw.Authorize.Error = "access_denied" })
	if got := s.consent(t, oauth2.GenerateVerifier()).Get("accounts-server"); got == "" {
		t.Error("a refusal lacks the extra parameters")
	}
}
