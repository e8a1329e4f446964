package oauth_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
)

func TestCodes(t *testing.T) {
	t.Parallel()
	codes := oauth.Codes{
		Permanent: []string{"GONE", "unauthorized_client", "invalid_client"}, Transient: []string{"invalid_grant", "down"},
		RateLimited: []string{"Access Denied", "server_error"}, Path: "status", OKPath: "result.code",
	}
	for _, tt := range []struct {
		status            int
		body              string
		exchange, refresh oauth.Class // "": a token
		code              string
	}{
		{400, `{"status":"GONE"}`, oauth.Permanent, oauth.Permanent, "GONE"},
		{401, `{"status":"GONE"}`, oauth.Permanent, oauth.Permanent, "GONE"},
		{429, `{"status":"GONE"}`, oauth.Permanent, oauth.Permanent, "GONE"},
		{500, `{"error":"GONE"}`, oauth.Permanent, oauth.Permanent, "GONE"},
		{403, `{"error":"unauthorized_client"}`, oauth.Rejected, oauth.Permanent, "unauthorized_client"},
		{401, `{"error":"invalid_client"}`, oauth.Rejected, oauth.Permanent, "invalid_client"},
		{400, `{"error":"invalid_scope"}`, oauth.Rejected, oauth.Rejected, "invalid_scope"},
		{400, `{"error":"invalid_grant"}`, oauth.Transient, oauth.Transient, "invalid_grant"},
		{401, `{"error":"down"}`, oauth.Transient, oauth.Transient, "down"},
		{400, `{"error":"Access Denied"}`, oauth.RateLimited, oauth.RateLimited, "Access Denied"},
		{500, `{"error":"server_error"}`, oauth.RateLimited, oauth.RateLimited, "server_error"},
		{400, `{"status":"canary","error":"invalid_grant"}`, oauth.Transient, oauth.Transient, "invalid_grant"},
		{400, `{"status":"down","error":"GONE"}`, oauth.Transient, oauth.Transient, "down"},
		{400, `{"status":"canary","error":"canary"}`, oauth.Transient, oauth.Transient, ""},
		{403, `{"status":["GONE"]}`, oauth.Rejected, oauth.Rejected, ""},
		{400, `{"result":{"code":"GONE"}}`, oauth.Transient, oauth.Transient, ""},
		{200, `{"result":{"code":"GONE"},"access_token":"at"}`, oauth.Permanent, oauth.Permanent, "GONE"},
		{200, `{"result":{"code":"canary"},"access_token":"at"}`, oauth.Transient, oauth.Transient, ""},
		{200, `{"result":{"code":5}}`, oauth.Transient, oauth.Transient, ""},
		{200, `{"result":{"code":""},"access_token":"at"}`, "", "", ""},
		{200, `{"status":"GONE","access_token":"at"}`, "", "", ""}, // said of something else
		{200, `{"error":"GONE","access_token":"at"}`, oauth.Permanent, oauth.Permanent, "GONE"},
	} {
		e := answering(tt.status, "application/json", tt.body)
		e.Codes = codes
		_, err := e.exchange(t)
		_, refreshErr := e.Refresh(t.Context(), crypto.NewSecret("canary-rt"))
		for what, got := range map[string]struct {
			err  error
			want oauth.Class
		}{"exchange": {err, tt.exchange}, "refresh": {refreshErr, tt.refresh}} {
			if got.want == "" {
				if got.err != nil {
					t.Errorf("%s of %s: %v, want a token", what, tt.body, got.err)
				}
				continue
			}
			if f := failed(t, what+" of "+tt.body, got.err); f.Class != got.want || f.Code != tt.code {
				t.Errorf("%s of %d %s = %s %q, want %s %q", what, tt.status, tt.body, f.Class, f.Code, got.want, tt.code)
			}
		}
	}
	// A code that was declared permanent spares the other secrets; without that it is asked with each.
	e := answering(401, "application/json", `{"error":"invalid_client"}`)
	e.Codes, e.Secrets = codes, append(e.Secrets, crypto.NewSecret("second"))
	_, err := e.Refresh(t.Context(), crypto.NewSecret("rt"))
	if f := failed(t, "two secrets", err); f.ClientRejected() || len(e.requests) != 1 {
		t.Errorf("%+v after %d requests, want one", f, len(e.requests))
	}
}

func TestValidCodeAndPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"invalid_grant": true, "BAD_REFRESH_TOKEN": true, "Access Denied": true, "a.b-c": true, "7": true, strings.Repeat("a", 64): true,
		"": false, " ": false, " a": false, "a ": false, "a\n": false, "a\tb": false, `a"b`: false, "a/b": false, "ä": false, strings.Repeat("a", 65): false,
	} {
		if got := oauth.ValidCode(text); got != want {
			t.Errorf("ValidCode(%q) = %t, want %t", text, got, want)
		}
	}
	for text, want := range map[string]bool{
		"error": true, "error.code": true, "accounts-server": true, "a_b.c1": true, strings.Repeat("a", 256): true,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false, "a b": false, "a\n": false, "a[0]": false, strings.Repeat("a", 257): false,
	} {
		if got := oauth.ValidPath(text); got != want {
			t.Errorf("ValidPath(%q) = %t, want %t", text, got, want)
		}
	}
}

func TestJSONRequests(t *testing.T) {
	t.Parallel()
	var sent []map[string]string
	for _, auth := range []oauth.Auth{oauth.Basic, oauth.Body, oauth.None} {
		e := answering(200, "application/json", `{"access_token":"at"}`)
		answer := e.Do
		e.JSON, e.Auth, e.Params = true, auth, map[string]string{"extra": `a"b`, "grant_type": "evil"}
		e.Do = func(ctx context.Context, req *http.Request) (*egress.Response, error) {
			var fields map[string]string
			if err := json.NewDecoder(req.Body).Decode(&fields); err != nil || req.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: body %v, %v, Content-Type %q", auth, fields, err, req.Header.Get("Content-Type"))
			}
			if user, secret, ok := req.BasicAuth(); ok != (auth == oauth.Basic) || ok && (user != "id" || secret != "canary-secret") {
				t.Errorf("%s: Basic %s %t", auth, user, ok)
			}
			sent = append(sent, fields)
			return answer(ctx, req)
		}
		if _, err := e.Refresh(t.Context(), crypto.NewSecret("rt<&>")); err != nil {
			t.Error(err)
		}
	}
	for i, want := range []int{3, 5, 4} {
		got := sent[i]
		if len(got) != want || got["grant_type"] != "refresh_token" || got["refresh_token"] != "rt<&>" || got["extra"] != `a"b` {
			t.Errorf("request %d = %v, want %d fields", i, got, want)
		}
	}
}

func TestTokensFurtherIn(t *testing.T) {
	t.Parallel()
	const inner = `{"id_token":"outer","user":{"id":"U","token":{"access_token":"in","refresh_token":"rt-in","expires_in":60,"scope":"a,b","token_type":"user"}},"access_token":"top","refresh_token":"rt-top","scope":"c"}`
	e := answering(200, "application/json", inner)
	e.TokenPath = "user.token"
	for what, ask := range map[string]func() (*oauth.Answer, error){
		"exchange": func() (*oauth.Answer, error) { return e.exchange(t) },
		"refresh":  func() (*oauth.Answer, error) { return e.Refresh(t.Context(), crypto.NewSecret("rt")) },
	} {
		got, err := ask()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got.AccessToken.Reveal() != "in" || got.RefreshToken.Reveal() != "rt-in" || got.IDToken.Reveal() != "outer" || got.TokenType != "user" ||
			got.Lifetime.Seconds() != 60 || !slices.Equal(got.Scopes, []string{"a", "b"}) || oauth.Field(got.Fields, "user.id") != "U" {
			t.Errorf("%s = %+v, want the inner tokens and the whole answer", what, got)
		}
	}
	e = answering(200, "application/json", `{"access_token":"top","refresh_token":"rt-top","scope":"c"}`)
	e.TokenPath = "user.token"
	if _, err := e.exchange(t); err == nil {
		t.Error("an exchange without the inner tokens took those at the top")
	}
	if got, err := e.Refresh(t.Context(), crypto.NewSecret("rt")); err != nil || got.AccessToken.Reveal() != "top" || got.RefreshToken.Reveal() != "rt-top" {
		t.Errorf("a refresh that answers at the top = %+v, %v", got, err)
	}
}

func TestScopesAsList(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][]string{
		`"scopes":["a","b"]`: {"a", "b"}, `"scopes":"a b"`: {"a", "b"}, `"scope":"","scopes":["a"]`: {}, `"scope":"c","scopes":["a"]`: {"c"},
		`"scope":5,"scopes":["a"]`: {"a"}, `"scopes":{}`: nil,
	} {
		got, err := answering(200, "application/json", `{"access_token":"at",`+body+`}`).exchange(t)
		if err != nil || !slices.Equal(got.Scopes, want) || (got.Scopes == nil) != (want == nil) {
			t.Errorf("%s = %+v, %v, want %q", body, got, err, want)
		}
	}
}
