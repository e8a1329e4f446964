package oauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
)

// call is a request as it was sent.
type call struct {
	Method, URL, Auth, ContentType, Body string
}

// revocation is an endpoint that answers each request with the next answer, and keeps the requests.
func revocation(calls *[]call, answers ...*egress.Response) *oauth.Endpoint {
	return &oauth.Endpoint{
		URL: "https://example.com/revoke", ClientID: "the id", Auth: oauth.Basic, Params: map[string]string{"audience": "x"},
		Secrets: []crypto.Secret{crypto.NewSecret("canary+old"), crypto.NewSecret("canary+new")},
		Now:     func() time.Time { return start },
		Do: func(_ context.Context, req *http.Request) (*egress.Response, error) {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			*calls = append(*calls, call{
				req.Method, req.URL.String(), req.Header.Get("Authorization"), req.Header.Get("Content-Type"), string(body),
			})
			if len(answers) == 0 {
				return nil, errors.New("one request too many")
			}
			answer := answers[0]
			answers = answers[1:]
			return answer, nil
		},
	}
}

func respond(status int, body string) *egress.Response {
	return &egress.Response{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}
}

func basicAuth(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func TestRevokeRequests(t *testing.T) {
	t.Parallel()
	const u, form = "https://example.com/revoke", "application/x-www-form-urlencoded"
	params := url.Values{"token": {"rt"}, "token_type_hint": {"refresh_token"}}
	with := func(more ...string) string {
		v := url.Values{}
		for name, values := range params {
			v[name] = values
		}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		return v.Encode()
	}
	object := func(fields map[string]string) string {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, tt := range []struct {
		name   string
		style  oauth.Style
		change func(e *oauth.Endpoint)
		want   call
	}{
		{"basic", oauth.RFC7009, nil, call{http.MethodPost, u, basicAuth("the+id", "canary%2Bold"), form, with()}},
		{
			"body", oauth.RFC7009, func(e *oauth.Endpoint) { e.Auth = oauth.Body },
			call{http.MethodPost, u, "", form, with("client_id", "the id", "client_secret", "canary+old")},
		},
		{
			"public", oauth.RFC7009, func(e *oauth.Endpoint) { e.Auth = oauth.None },
			call{http.MethodPost, u, "", form, with("client_id", "the id")},
		},
		{
			"JSON", oauth.RFC7009, func(e *oauth.Endpoint) { e.JSON = true },
			call{http.MethodPost, u, basicAuth("the+id", "canary%2Bold"), "application/json", object(map[string]string{"token": "rt", "token_type_hint": "refresh_token"})},
		},
		{"bearer", oauth.Bearer, nil, call{http.MethodPost, u, "Bearer rt", "", ""}},
		{
			"delete", oauth.Delete, nil,
			call{http.MethodDelete, u, basicAuth("the id", "canary+old"), "application/json", object(map[string]string{"access_token": "rt"})},
		},
	} {
		var calls []call
		e := revocation(&calls, respond(200, ""))
		if tt.change != nil {
			tt.change(e)
		}
		if err := e.Revoke(t.Context(), tt.style, crypto.NewSecret("rt"), oauth.HintRefresh); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff([]call{tt.want}, calls); diff != "" {
			t.Errorf("%s: requests (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A secret that the provider rejects is followed by the next; a refusal of anything else is not.
func TestRevokeSecrets(t *testing.T) {
	t.Parallel()
	rejected, refused := respond(401, `{"error":"invalid_client"}`), respond(400, `{"error":"unsupported_token_type"}`)
	for _, tt := range []struct {
		name    string
		style   oauth.Style
		answers []*egress.Response
		want    oauth.Class // "": it was revoked
		calls   int
	}{
		{"the second is right", oauth.RFC7009, []*egress.Response{rejected, respond(200, "")}, "", 2},
		{"the second is right", oauth.Delete, []*egress.Response{respond(401, ""), respond(204, "")}, "", 2},
		{"none is right", oauth.RFC7009, []*egress.Response{rejected, rejected}, oauth.Rejected, 2},
		{"the token is not taken", oauth.RFC7009, []*egress.Response{refused}, oauth.Permanent, 1},
		{"no client is involved", oauth.Bearer, []*egress.Response{respond(401, "")}, oauth.Gone, 1},
	} {
		var calls []call
		err := revocation(&calls, tt.answers...).Revoke(t.Context(), tt.style, crypto.NewSecret("at"), oauth.HintAccess)
		class := oauth.Class("")
		if err != nil {
			class = failed(t, tt.name, err).Class
		}
		if class != tt.want || len(calls) != tt.calls {
			t.Errorf("%s %s: class %q after %d requests, want %q after %d", tt.style, tt.name, class, len(calls), tt.want, tt.calls)
		}
	}
}

func TestRevokeAnswers(t *testing.T) {
	t.Parallel()
	codes := oauth.Codes{
		Permanent: []string{"account_deleted", "unauthorized_client"}, Transient: []string{"invalid_auth", "hiccup"},
		RateLimited: []string{"Access Denied"}, Path: "code", OKPath: "error",
	}
	const none, gone, permanent, rejected = oauth.Class(""), oauth.Gone, oauth.Permanent, oauth.Rejected
	const transient, limited = oauth.Transient, oauth.RateLimited
	for _, tt := range []struct {
		status                int
		body                  string
		form, bearer, deleted oauth.Class
		code                  string
	}{
		{200, "", none, none, none, ""},
		{204, "", none, none, none, ""},
		{202, "<html>canary", none, none, none, ""},
		{200, `{"ok":true,"revoked":true}`, none, none, none, ""},
		{200, `{"ok":false,"error":"token_revoked"}`, gone, gone, gone, "token_revoked"},
		{200, `{"ok":false,"error":"canary"}`, transient, transient, transient, ""},
		{200, `{"ok":false,"error":"invalid_auth"}`, transient, transient, transient, "invalid_auth"}, // as declared
		{400, `{"error":"invalid_token"}`, gone, gone, gone, "invalid_token"},
		{400, `{"error":"invalid_grant"}`, gone, gone, gone, "invalid_grant"},
		{401, `{"error":"invalid_token"}`, gone, gone, gone, "invalid_token"},
		{400, `{"code":"account_deleted"}`, gone, gone, gone, "account_deleted"},
		{403, `{"code":"unauthorized_client"}`, rejected, rejected, rejected, "unauthorized_client"},
		{400, `{"code":"hiccup"}`, transient, transient, transient, "hiccup"},
		{400, `{"code":"Access Denied"}`, limited, limited, limited, "Access Denied"},
		{400, `{"error":"unsupported_token_type"}`, permanent, permanent, permanent, "unsupported_token_type"},
		{400, `{"error":"invalid_request"}`, permanent, permanent, permanent, "invalid_request"},
		{400, `{"error":"canary"}`, permanent, permanent, permanent, ""},
		{422, "canary", permanent, permanent, permanent, ""},
		{401, `{"error":"invalid_client"}`, rejected, rejected, rejected, "invalid_client"},
		{401, "canary", rejected, gone, rejected, ""},
		{403, "canary", rejected, rejected, rejected, ""},
		{404, "canary", rejected, rejected, gone, ""},
		{405, "", rejected, rejected, rejected, ""},
		{410, "", permanent, permanent, gone, ""},
		{302, "", rejected, rejected, rejected, ""},
		{408, "", transient, transient, transient, ""},
		{429, "", limited, limited, limited, ""},
		{500, "canary", transient, transient, transient, ""},
		{400, `{"error":"server_error"}`, transient, transient, transient, "server_error"},
		{400, `{"error":"slow_down"}`, limited, limited, limited, "slow_down"},
		{503, `{"error":"temporarily_unavailable"}`, transient, transient, transient, "temporarily_unavailable"},
	} {
		for style, want := range map[oauth.Style]oauth.Class{oauth.RFC7009: tt.form, oauth.Bearer: tt.bearer, oauth.Delete: tt.deleted} {
			var calls []call
			answer := respond(tt.status, tt.body)
			answer.Header.Set("Retry-After", "90")
			e := revocation(&calls, answer)
			e.Codes, e.Secrets = codes, e.Secrets[:1]
			err := e.Revoke(t.Context(), style, crypto.NewSecret("canary-token"), oauth.HintAccess)
			if want == none {
				if err != nil {
					t.Errorf("%s, %d %s: %v, want nil", style, tt.status, tt.body, err)
				}
				continue
			}
			f := failed(t, tt.body, err)
			if f.Class != want || f.Code != tt.code || f.Status != tt.status || f.RetryAfter != 90*time.Second {
				t.Errorf("%s, %d %s: %+v, want class %s and code %q", style, tt.status, tt.body, f, want, tt.code)
			}
		}
	}
}

func TestRevokeLost(t *testing.T) {
	t.Parallel()
	for _, style := range []oauth.Style{oauth.RFC7009, oauth.Bearer, oauth.Delete} {
		for sent, want := range map[bool]oauth.Class{true: oauth.Indeterminate, false: oauth.Transient} {
			e := revocation(&[]call{})
			e.Do = func(context.Context, *http.Request) (*egress.Response, error) {
				return nil, &egress.Error{Host: "example.com:443", Kind: egress.Unreachable, Sent: sent, Err: syscall.ECONNREFUSED}
			}
			err := e.Revoke(t.Context(), style, crypto.NewSecret("canary-token"), oauth.HintAccess)
			if f := failed(t, string(style), err); f.Class != want || !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s, sent %v: %+v, want class %s", style, sent, f, want)
			}
		}
		e := revocation(&[]call{})
		e.URL = "https://exa mple.com/canary"
		if f := failed(t, string(style), e.Revoke(t.Context(), style, crypto.NewSecret("x"), oauth.HintAccess)); f.Class != oauth.Rejected {
			t.Errorf("%s with a URL that is none: %+v, want class %s", style, f, oauth.Rejected)
		}
	}
}
