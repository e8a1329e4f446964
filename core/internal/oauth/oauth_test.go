package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// endpoint is one that always answers the same; it keeps the requests it was sent.
type endpoint struct {
	oauth.Endpoint
	requests []url.Values
}

func answering(status int, contentType, body string) *endpoint {
	return giving(&egress.Response{Status: status, Header: http.Header{"Content-Type": {contentType}}, Body: []byte(body)}, nil)
}

func giving(resp *egress.Response, err error) *endpoint {
	e := &endpoint{}
	e.Endpoint = oauth.Endpoint{
		URL: "https://example.com/token", ClientID: "id", Secrets: []crypto.Secret{crypto.NewSecret("canary-secret")}, Auth: oauth.Body,
		Now: func() time.Time { return start },
		Do: func(_ context.Context, req *http.Request) (*egress.Response, error) {
			if err := req.ParseForm(); err != nil {
				return nil, err
			}
			e.requests = append(e.requests, req.PostForm)
			return resp, err
		},
	}
	return e
}

func (e *endpoint) exchange(t *testing.T) (*oauth.Answer, error) {
	t.Helper()
	return e.Exchange(t.Context(), "canary-code", "https://app.example.com/callback", crypto.NewSecret("canary-verifier"))
}

// failed returns err as an *Error, whose texts hold no canary.
func failed(t *testing.T, what string, err error) *oauth.Error {
	t.Helper()
	var f *oauth.Error
	if !errors.As(err, &f) {
		t.Errorf("%s: error %v, want an *Error", what, err)
		return &oauth.Error{}
	}
	for _, text := range []string{f.Error(), fmt.Sprintf("%+v", f), fmt.Sprintf("%#v", *f)} {
		if strings.Contains(text, "canary") {
			t.Errorf("%s: a canary stands in %s", what, text)
		}
	}
	return f
}

func TestRequests(t *testing.T) {
	t.Parallel()
	e := answering(200, "application/json", `{"access_token":"at"}`)
	e.Params = map[string]string{"audience": "a b", "grant_type": "evil", "code": "evil", "client_id": "evil"}
	if _, err := e.exchange(t); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Refresh(t.Context(), crypto.NewSecret("rt")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Exchange(t.Context(), "c", "https://app.example.com/callback", crypto.Secret{}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []url.Values{
		{"grant_type": {"authorization_code"}, "code": {"canary-code"}, "redirect_uri": {"https://app.example.com/callback"}, "code_verifier": {"canary-verifier"}},
		{"grant_type": {"refresh_token"}, "refresh_token": {"rt"}, "code": {"evil"}},
		{"grant_type": {"authorization_code"}, "code": {"c"}, "redirect_uri": {"https://app.example.com/callback"}},
	} {
		want.Set("client_id", "id")
		want.Set("client_secret", "canary-secret")
		want.Set("audience", "a b")
		if got := e.requests[i].Encode(); got != want.Encode() {
			t.Errorf("request %d = %s, want %s", i, got, want.Encode())
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		code   string
		want   oauth.Class
		client bool // another secret is tried
	}{
		{400, "invalid_grant", oauth.Permanent, false},
		{401, "invalid_grant", oauth.Permanent, false},
		{200, "bad_refresh_token", oauth.Permanent, false},
		{200, "token_revoked", oauth.Permanent, false},
		{200, "bad_verification_code", oauth.Permanent, false},
		{401, "invalid_client", oauth.Rejected, true},
		{400, "invalid_client", oauth.Rejected, true},
		{200, "incorrect_client_credentials", oauth.Rejected, true},
		{200, "bad_client_secret", oauth.Rejected, true},
		{400, "unauthorized_client", oauth.Rejected, false},
		{400, "invalid_request", oauth.Rejected, false},
		{400, "invalid_scope", oauth.Rejected, false},
		{400, "unsupported_grant_type", oauth.Rejected, false},
		{503, "temporarily_unavailable", oauth.Transient, false},
		{400, "server_error", oauth.Transient, false},
		{400, "slow_down", oauth.RateLimited, false},
		{200, "ratelimited", oauth.RateLimited, false},
		{429, "", oauth.RateLimited, false},
		{429, "canary", oauth.RateLimited, false},
		{429, "invalid_grant", oauth.Permanent, false},
		{401, "", oauth.Rejected, true},
		{401, "canary", oauth.Rejected, true},
		{403, "", oauth.Rejected, false},
		{400, "", oauth.Transient, false},
		{404, "", oauth.Transient, false},
		{302, "", oauth.Transient, false},
		{500, "", oauth.Transient, false},
		{500, "canary", oauth.Transient, false},
		{400, "Invalid_Grant", oauth.Transient, false},
		{400, "invalid_grant canary", oauth.Transient, false},
	} {
		body := "canary"
		if tt.code != "" {
			body = fmt.Sprintf(`{"error":%q,"error_description":"canary"}`, tt.code)
		}
		e := answering(tt.status, "application/json", body)
		e.Secrets = append(e.Secrets, crypto.NewSecret("canary-second"), crypto.NewSecret("canary-third"))
		what := fmt.Sprintf("%d %s", tt.status, tt.code)
		_, err := e.exchange(t)
		f := failed(t, what, err)
		if f.Class != tt.want || f.Status != tt.status || f.ClientRejected() != tt.client || (f.Code != "" && f.Code != tt.code) {
			t.Errorf("%s = %+v, want class %s, client rejected %v", what, f, tt.want, tt.client)
		}
		if want := map[bool]int{false: 1, true: 3}[tt.client]; len(e.requests) != want {
			t.Errorf("%s: %d requests, want %d", what, len(e.requests), want)
		}
	}
}

func TestLost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want oauth.Class
	}{
		{&egress.Error{Host: "example.com:443", Kind: egress.Unreachable}, oauth.Transient},
		{&egress.Error{Host: "example.com:443", Kind: egress.Blocked}, oauth.Transient},
		{&egress.Error{Host: "example.com:443", Kind: egress.Timeout, Sent: true, Err: context.DeadlineExceeded}, oauth.Indeterminate},
		{&egress.Error{Host: "example.com:443", Kind: egress.TooLarge, Sent: true}, oauth.Indeterminate},
		{errors.New("anything"), oauth.Indeterminate},
	} {
		e := giving(nil, tt.err)
		e.Secrets = append(e.Secrets, crypto.NewSecret("second"))
		_, err := e.exchange(t)
		f := failed(t, tt.err.Error(), err)
		if f.Class != tt.want || !errors.Is(f, tt.err) || f.Status != 0 || len(e.requests) != 1 {
			t.Errorf("%v = %+v after %d requests, want class %s after one", tt.err, f, len(e.requests), tt.want)
		}
	}
	e := answering(200, "", "")
	e.URL = "https://canary\x00/"
	_, err := e.exchange(t)
	if f := failed(t, "a URL that is none", err); f.Class != oauth.Rejected || len(e.requests) != 0 {
		t.Errorf("a URL that is none = %+v", f)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		header string
		want   time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"120", 2 * time.Minute},
		{"-5", 0},
		{"86401", 24 * time.Hour},
		{"9223372036854775807", 24 * time.Hour},
		{"-9223372036854775808", 0},
		{"99999999999999999999999", 0},
		{"1.5", 0},
		{"soon", 0},
		{start.Add(time.Hour).Format(http.TimeFormat), time.Hour},
		{start.Add(-time.Hour).Format(http.TimeFormat), 0},
		{start.Add(1000 * time.Hour).Format(http.TimeFormat), 24 * time.Hour},
		{"Fri, 31 Dec 9999 23:59:59 GMT", 24 * time.Hour},
		{"Mon, 01 Jan 0001 00:00:00 GMT", 0},
	} {
		e := giving(&egress.Response{Status: 429, Header: http.Header{"Retry-After": {tt.header}}}, nil)
		_, err := e.exchange(t)
		if f := failed(t, tt.header, err); f.RetryAfter != tt.want {
			t.Errorf("Retry-After %q = %v, want %v", tt.header, f.RetryAfter, tt.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const (
		json = "application/json"
		form = "application/x-www-form-urlencoded"
	)
	long := strings.Repeat("x", 32<<10)
	for _, tt := range []struct {
		name, contentType, body string
		want                    oauth.Answer // only what is compared below
	}{
		{"minimal", json, `{"access_token":"at"}`, oauth.Answer{AccessToken: crypto.NewSecret("at")}},
		{"full", json, `{"access_token":"at","refresh_token":"rt","id_token":"it","token_type":"Bearer","expires_in":60,"scope":"a b"}`, oauth.Answer{
			AccessToken: crypto.NewSecret("at"), RefreshToken: crypto.NewSecret("rt"), IDToken: crypto.NewSecret("it"), TokenType: "Bearer", Lifetime: time.Minute, Scopes: []string{"a", "b"},
		}},
		{"form", form, `access_token=at&refresh_token=r%2Bt&token_type=bearer&expires_in=60&scope=a%2Cb`, oauth.Answer{
			AccessToken: crypto.NewSecret("at"), RefreshToken: crypto.NewSecret("r+t"), TokenType: "bearer", Lifetime: time.Minute, Scopes: []string{"a", "b"},
		}},
		{"form with charset", form + "; charset=utf-8", `access_token=at`, oauth.Answer{AccessToken: crypto.NewSecret("at")}},
		{"JSON as text", "text/plain", `{"access_token":"at"}`, oauth.Answer{AccessToken: crypto.NewSecret("at")}},
		{"JSON without type", "", ` {"access_token":"at"} `, oauth.Answer{AccessToken: crypto.NewSecret("at")}},
		{"longest token", json, `{"access_token":"` + long + `","refresh_token":"` + long + `"}`, oauth.Answer{AccessToken: crypto.NewSecret(long), RefreshToken: crypto.NewSecret(long)}},
		{"ok", json, `{"ok":true,"access_token":"at","error":""}`, oauth.Answer{AccessToken: crypto.NewSecret("at")}},
		{"error null", json, `{"access_token":"at","error":null}`, oauth.Answer{AccessToken: crypto.NewSecret("at")}},
		{"other kinds", json, `{"access_token":"at","refresh_token":5,"id_token":[],"token_type":{},"scope":false,"expires_in":{}}`, oauth.Answer{AccessToken: crypto.NewSecret("at")}},
		{"odd token type", json, `{"access_token":"at","token_type":"Bearer canary"}`, oauth.Answer{AccessToken: crypto.NewSecret("at")}},
	} {
		got, err := answering(200, tt.contentType, tt.body).exchange(t)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if !got.AccessToken.Equal(tt.want.AccessToken) || !got.RefreshToken.Equal(tt.want.RefreshToken) || !got.IDToken.Equal(tt.want.IDToken) ||
			got.TokenType != tt.want.TokenType || got.Lifetime != tt.want.Lifetime || !slices.Equal(got.Scopes, tt.want.Scopes) || (got.Scopes == nil) != (tt.want.Scopes == nil) {
			t.Errorf("%s = %+v, want %+v", tt.name, got, tt.want)
		}
	}
	for name, body := range map[string]string{
		"empty": "", "null": "null", "list": "[]", "no token": "{}", "number": `{"access_token":1}`, "newline": `{"access_token":"canary\n"}`, "umlaut": `{"access_token":"cänary"}`,
		"DEL": `{"access_token":"canary\u007f"}`, "long": `{"access_token":"` + long + `x"}`, "long refresh token": `{"access_token":"at","refresh_token":"` + long + `x"}`,
		"long scope": `{"access_token":"at","scope":"` + long + `x"}`, "not ok": `{"ok":false,"access_token":"at"}`, "truncated": `{"access_token":"canary"`, "HTML": "<html>canary</html>",
	} {
		_, err := answering(200, json, body).exchange(t)
		if f := failed(t, name, err); f.Class != oauth.Transient || f.Status != 200 || f.Code != "" {
			t.Errorf("%s = %+v, want a transient one without code", name, f)
		}
	}
}

func TestLifetime(t *testing.T) {
	t.Parallel()
	const decade = 10 * 365 * 24 * time.Hour
	for value, want := range map[string]time.Duration{
		"3600": time.Hour, `"3600"`: time.Hour, `" 60 "`: time.Minute, "1e3": 1000 * time.Second, "0.5": 500 * time.Millisecond, "59.999999999": 59999999999,
		"0": 0, "-0": 0, "-1": 0, "-1e300": 0, `""`: 0, `"soon"`: 0, `"60 s"`: 0, "null": 0, "true": 0, "{}": 0, "[60]": 0,
		`"NaN"`: 0, `"Inf"`: 0, `"+Inf"`: 0, `"infinity"`: 0, `"0x10"`: 0, `"1_000"`: 0, `"e"`: 0, `"--1"`: 0,
		"315360000": decade, "315360001": decade, "1e300": decade, "1e999": 0, "99999999999999999999": decade, "9223372036.854775807": decade,
	} {
		got, err := answering(200, "application/json", `{"access_token":"at","expires_in":`+value+`}`).exchange(t)
		if err != nil || got.Lifetime != want {
			t.Errorf("expires_in %s = %v, %v, want %v", value, got, err, want)
		}
	}
}

func TestSplitScopes(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]string{
		"": {}, " ": {}, ",": {}, "a": {"a"}, "a b": {"a", "b"}, "a,b": {"a", "b"}, " a ,, b ": {"a", "b"},
		"https://www.example.com/auth/a https://www.example.com/auth/b:read": {"https://www.example.com/auth/a", "https://www.example.com/auth/b:read"},
	} {
		if got := oauth.SplitScopes(list); got == nil || !slices.Equal(got, want) {
			t.Errorf("SplitScopes(%q) = %#v, want %q and not nil", list, got, want)
		}
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	fields, err := oauth.Object([]byte(`{"a":{"b":{"c":"deep"},"n":9007199254740993},"x":"text","a.b":"dotted","t":true,"z":null,"l":["x"],"":{"":"empty"},"f":1.50}`))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"x": "text", "a.b.c": "deep", "a.n": "9007199254740993", "f": "1.50", ".": "empty",
		"a": "", "a.b": "", "a.b.c.d": "", "x.y": "", "t": "", "z": "", "l": "", "l.0": "", "nobody": "", "": "", "a..b": "", "a.b.": "", "A.n": "",
	} {
		if got := oauth.Field(fields, path); got != want {
			t.Errorf("Field(%q) = %q, want %q", path, got, want)
		}
	}
	if got := oauth.Field(nil, "x"); got != "" {
		t.Errorf("Field of nothing = %q, want none", got)
	}
}

func TestCleanCode(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"invalid_grant", "access_denied", "login_required", "bad_verification_code"} {
		if got := oauth.CleanCode(code); got != code {
			t.Errorf("CleanCode(%q) = %q", code, got)
		}
	}
	for _, code := range []string{"", "canary", "at-0123456789", "eyJhbGciOi.eyJzdWIi.x", "invalid_grant ", "Invalid_grant", "invalid_grant\n", "0123456789abcdef", strings.Repeat("a", 1<<20)} {
		if got := oauth.CleanCode(code); got != "" {
			t.Errorf("CleanCode(%.40q) = %q, want nothing", code, got)
		}
	}
}
