package coretest_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/coretest"
)

func TestAPIKey(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.AddKey("key-1", "ada")
	tests := []struct {
		name, query string
		header      []string
		want        int
	}{
		{"bearer", "", []string{"Authorization", "bearer key-1"}, 200},
		{"header", "", []string{"X-API-Key", "key-1"}, 200},
		{"query", "?api_key=key-1", nil, 200},
		{"nothing", "", nil, 401},
		{"unknown", "?api_key=key-2", []string{"X-API-Key", "key-2", "Authorization", "Bearer key-2"}, 401},
		{"basic", "", []string{"Authorization", "Basic key-1"}, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := mustSend(t, http.MethodGet, s.APIURL()+"/me"+tt.query, nil, tt.header...)
			if a.status != tt.want {
				t.Errorf("GET /api/me = %d %s, want %d", a.status, a.body, tt.want)
			}
			if m := a.json(t); tt.want == 200 && m["subject"] != "ada" || tt.want == 401 && m["error"] == nil {
				t.Errorf("GET /api/me = %v", m)
			}
		})
	}
}

func TestUnauthorized(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tok := s.connect(t)
	s.Set(func(sw *coretest.Switches) { sw.Unauthorized = 1 })
	s.wantLive(t, "at-unknown", false) // does not count
	s.wantLive(t, tok.AccessToken, false)
	s.wantLive(t, tok.AccessToken, true)
	s.Set(func(sw *coretest.Switches) { sw.Unauthorized = -1 })
	for range 3 {
		s.wantLive(t, tok.AccessToken, false)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const path = "/api/echo/a//b/..%2f../%2e%2e/c"
	a := mustSend(t, http.MethodPost, s.URL()+path+"?x=%31&x=2", url.Values{"form": {"1"}},
		"Authorization", "Bearer anything", "X-Test", "yes")
	m := a.json(t)
	header, _ := m["header"].(map[string]any)
	got := []any{m["method"], m["host"], m["path"], m["query"], m["body"], header["Authorization"], header["X-Test"]}
	want := []any{"POST", s.Host(), path, "x=%31&x=2", "form=1", []any{"Bearer anything"}, []any{"yes"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("echo (-want +got):\n%s", diff)
	}
	if m := mustSend(t, http.MethodGet, s.APIURL()+"/echo", nil).json(t); m["path"] != "/api/echo" {
		t.Errorf("echo = %v, want path /api/echo", m)
	}
}

func TestRedirectAndStatus(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	a := mustSend(t, http.MethodGet, s.APIURL()+"/redirect?to="+url.QueryEscape("https://example.com/a?b"), nil)
	if a.status != 302 || a.header.Get("Location") != "https://example.com/a?b" {
		t.Errorf("redirect = %d %q, want 302 to https://example.com/a?b", a.status, a.header.Get("Location"))
	}
	for path, want := range map[string]int{
		"/redirect?to=/x&status=307": 307, "/redirect?to=/x&status=200": 400, "/redirect": 400,
		"/status/204": 204, "/status/304": 304, "/status/418": 418, "/status/503": 503,
		"/status/100": 400, "/status/x": 400, "/nothing": 404, "": 404,
	} {
		if a := mustSend(t, http.MethodGet, s.APIURL()+path, nil); a.status != want {
			t.Errorf("GET /api%s = %d, want %d", path, a.status, want)
		}
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	if _, ok := s.Last(coretest.EndpointAPI); ok || s.LastAuthorization() != nil {
		t.Error("Last and LastAuthorization of a new server tell of a request")
	}
	mustSend(t, http.MethodPut, s.APIURL()+"/status/200?a=b", url.Values{"c": {"d"}}, "X-Test", "yes")
	r, ok := s.Last(coretest.EndpointAPI)
	if !ok || r.Method != http.MethodPut || r.URL != "/api/status/200?a=b" || r.Header.Get("X-Test") != "yes" {
		t.Errorf("Last = %+v, %v", r, ok)
	}
	if diff := cmp.Diff(url.Values{"a": {"b"}, "c": {"d"}}, r.Form); diff != "" {
		t.Errorf("Last form (-want +got):\n%s", diff)
	}
	r.Form.Set("a", "changed")
	r.Header.Set("X-Test", "changed")
	if r, _ := s.Last(coretest.EndpointAPI); r.Form.Get("a") != "b" || r.Header.Get("X-Test") != "yes" {
		t.Error("Last shares its maps with the server")
	}
}
