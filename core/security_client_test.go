package core_test

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

func TestSecurity19_HeaderIsSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	client, want := w.client(ada.ID), []string{"Bearer " + w.mustToken("u", ada.ID).Value.Reveal()}
	for name, header := range map[string]http.Header{
		"none":         {},
		"another":      {"Authorization": {"Bearer canary-program"}},
		"two":          {"Authorization": {"Basic x", "Basic y"}},
		"unusual case": {"authorization": {"Bearer canary-program"}, "AUTHORIZATION": {"Basic x"}},
	} {
		req := w.request(http.MethodPut, "/echo/a%2Fb?z=1&a=2;3&flag&z=%2B", strings.NewReader("canary body"))
		req.Header = header.Clone()
		req.Header.Set("X-Own", "kept")
		before := req.Header.Clone()
		var got echo
		resp, err := w.do(client, req, &got)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !slices.Equal(got.Header["Authorization"], want) {
			t.Errorf("%s: the provider got %d values of Authorization, want the account's alone", name, len(got.Header["Authorization"]))
		}
		if got.Method != http.MethodPut || got.Path != "/api/echo/a%2Fb" || got.Query != "z=1&a=2;3&flag&z=%2B" || got.Body != "canary body" || got.Header.Get("X-Own") != "kept" {
			t.Errorf("%s: the provider got %+v, want the request as it was made", name, got)
		}
		if !maps.EqualFunc(req.Header, before, slices.Equal) {
			t.Errorf("%s: the program's own request was changed", name)
		}
		if resp.Request != req {
			t.Errorf("%s: the response names another request than the program's", name)
		}
	}
	// A request that no http.Client has prepared.
	bare := &http.Request{Method: http.MethodGet, URL: w.request(http.MethodGet, "/me", nil).URL}
	resp, err := client.Transport.RoundTrip(bare)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || bare.Header != nil {
		t.Errorf("a bare request: status %d, header %v, want %d and none", resp.StatusCode, bare.Header, http.StatusOK)
	}
}

func TestSecurity19_HostsOfClient(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a host that is not listed was called") }))
	defer other.Close()
	w := newWorld(t, nil, func(o *core.Options) { // what the host program permits is not what the integration lists
		o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(other.URL, "http://"))
	})
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	client := w.client(ada.ID)
	host := w.provider.Host()
	_, port, _ := strings.Cut(host, ":")
	before := w.provider.Calls().API
	for _, target := range []string{
		other.URL, "https://" + host + "/api/me", "http://127.0.0.1/api/me", "http://127.0.0.1:1/", "http://127.0.0.2:" + port + "/", "http://localhost:" + port + "/",
		"http://[::ffff:127.0.0.1]:" + port + "/", "http://127.1:" + port + "/", "http://2130706433:" + port + "/", "http://0x7f000001:" + port + "/",
		"http://user:canary@" + host + "/api/me", "http://user@" + host + "/api/me", "http://" + host + "@example.com/", "http://example.com/",
		"http://" + host + ".example.com/", "https://example.com:" + port, "ftp://" + host + "/", "ws://" + host + "/", "//" + host + "/", "http:" + host,
		"http://" + host + "/api/../x", "http://" + host + "/api/%2e%2e/x", "http://" + host + "/api/.%2E/x", "http://" + host + "/api/..%2fx", "http://" + host + "/api/%252e%252e/x",
		"http://" + host + `/api/a%5c..%5cx`, "http://" + host + "/api/..;x/y", "http://" + host + "/a%00b",
	} {
		u, err := url.Parse(target)
		if err != nil {
			continue // no program gets as far
		}
		body := newCloseSpy("canary")
		req := (&http.Request{Method: http.MethodPost, URL: u, Header: http.Header{}, Body: body}).WithContext(t.Context())
		resp, err := client.Transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("a request to %s succeeded", target)
			continue
		}
		w.wantErr(target, err, core.ErrHostNotAllowed)
		w.wantClosed(target, body)
	}
	// The URL is right, and the request wants to be led elsewhere.
	for name, change := range map[string]func(*http.Request){
		"Host":       func(r *http.Request) { r.Host = "example.com" },
		"Upgrade":    func(r *http.Request) { r.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}} },
		"upgrade":    func(r *http.Request) { r.Header["uPGRADE"] = []string{"h2c"} },
		"CONNECT":    func(r *http.Request) { r.Method = http.MethodConnect },
		"a newline":  func(r *http.Request) { r.Header["X"] = []string{"a\r\nAuthorization: b"} },
		"a bad name": func(r *http.Request) { r.Header["X: y\r\nZ"] = []string{"a"} },
		"opaque":     func(r *http.Request) { r.URL.Opaque = "//example.com/x" },
		"no slash":   func(r *http.Request) { r.URL.Path = "@example.com" },
		"no host":    func(r *http.Request) { r.URL.Host = "" },
		"no URL":     func(r *http.Request) { r.URL = nil },
	} {
		body := newCloseSpy("canary")
		req := w.request(http.MethodPost, "/me", body)
		change(req)
		resp, err := client.Transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(w.note(err), core.ErrHostNotAllowed) && !errors.Is(err, core.ErrProvider) {
			t.Errorf("%s: error %v, want %v or %v", name, err, core.ErrHostNotAllowed, core.ErrProvider)
		}
		w.wantClosed(name, body)
	}
	if got := w.provider.Calls().API; got != before {
		t.Errorf("calls of the API = %d, want %d", got, before)
	}
	if as, err := w.me(client); as != "ada@example.com" {
		t.Errorf("as = %q, %v, want ada", as, err)
	}
}

// Wildcards and variables. A name below .internal that is listed gets as far as the transport, which refuses it without
// asking a name server: that tells "listed" from "not listed" without a network.
func TestSecurity19_PatternsOfClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) {
		in.AllowedHosts = []string{w.provider.URL(), "*.wild.internal", "{shop}.shops.internal:8443"}
		in.Variables = map[string]core.Variable{"shop": {}}
	})
	ada := w.mustConnect("u", "ada", core.ConnectInput{Variables: map[string]string{"shop": "acme"}})
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true, Variables: map[string]string{"shop": "zeta"}})
	cyd := w.mustConnect("u", "cyd", core.ConnectInput{AllowMultiple: true})
	for _, tt := range []struct {
		credential core.Credential
		target     string
		listed     bool
	}{
		{ada, "https://a.wild.internal/x", true},
		{ada, "https://A.Wild.Internal:443/x", true},
		{ada, "https://wild.internal/x", false},
		{ada, "https://a.b.wild.internal/x", false},
		{ada, "https://awild.internal/x", false},
		{ada, "https://a.wild.internal:8443/x", false},
		{ada, "http://a.wild.internal/x", false},
		{ada, "https://.wild.internal/x", false},
		{ada, "https://acme.shops.internal:8443/x", true},
		{ada, "https://acme.shops.internal/x", false},
		{ada, "https://zeta.shops.internal:8443/x", false},
		{bob, "https://zeta.shops.internal:8443/x", true},
		{bob, "https://acme.shops.internal:8443/x", false},
		{cyd, "https://acme.shops.internal:8443/x", false},
		{cyd, "https://.shops.internal:8443/x", false},
		{cyd, "https://{shop}.shops.internal:8443/x", false},
	} {
		u, err := url.Parse(tt.target)
		if err != nil {
			continue
		}
		resp, err := w.client(tt.credential.ID).Do((&http.Request{Method: http.MethodGet, URL: u}).WithContext(t.Context()))
		if err == nil {
			_ = resp.Body.Close()
		}
		if refused := errors.Is(w.note(err), core.ErrHostNotAllowed); err == nil || refused == tt.listed {
			t.Errorf("%s at %s: error %v, want it listed = %t", tt.credential.Account.Display, tt.target, err, tt.listed)
		}
	}
}

func TestSecurity19_Redirects(t *testing.T) {
	t.Parallel()
	var stolen atomic.Int32
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	defer thief.Close()
	for _, listed := range []bool{true, false} {
		w := newWorld(t, nil, func(o *core.Options) {
			o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(thief.URL, "http://"))
		})
		w.change(func(in *core.Integration) {
			if listed {
				in.AllowedHosts = append(in.AllowedHosts, thief.URL)
			}
		})
		client := w.client(w.mustConnect("u", "ada", core.ConnectInput{}).ID)
		own := &http.Client{Transport: client.Transport}
		to := func(target string) string { return "/redirect?to=" + url.QueryEscape(target) }
		elsewhere := thief.URL + "/x"
		home := w.provider.APIURL() + "/me"

		for name, client := range map[string]*http.Client{"ours": client, "a program's own": own} {
			for _, target := range []string{home, "/api/me", w.provider.APIURL() + to(home)} {
				var me struct{ Account string }
				_, err := w.do(client, w.request(http.MethodGet, to(target), nil), &me)
				if err != nil || me.Account != "ada@example.com" {
					t.Errorf("%s: after a redirect on the same host as %q, %v, want ada", name, me.Account, err)
				}
			}
			var got echo
			req := w.request(http.MethodPost, to(w.provider.APIURL()+"/echo")+"&status=307", strings.NewReader("again"))
			if _, err := w.do(client, req, &got); err != nil || got.Body != "again" || got.Method != http.MethodPost {
				t.Errorf("%s: after a 307 the provider got %s %q, %v, want the same again", name, got.Method, got.Body, err)
			}
		}
		for _, status := range []string{"301", "302", "303", "307", "308"} {
			for _, target := range []string{elsewhere, w.provider.APIURL() + to(elsewhere)} {
				req := w.request(http.MethodGet, to(target)+"&status="+status, nil)
				resp, err := w.do(client, req, nil)
				if err != nil || resp.StatusCode/100 != 3 || resp.Header.Get("Location") != elsewhere {
					t.Errorf("a %s to another host = status %d, %v, want it as it is", status, resp.StatusCode, err)
				}
				_, err = w.do(own, req.Clone(t.Context()), nil)
				w.wantErr("a program's own client that follows a "+status, err, core.ErrHostNotAllowed)
			}
		}
	}
	if got := stolen.Load(); got != 0 {
		t.Errorf("requests at the other host = %d, want none", got)
	}
	t.Run("a key in the query", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		client := w.client(w.addKey(core.APIKey{In: core.KeyQuery, Name: "api_key"}, "canary-key", "ada"))
		var got echo
		if _, err := w.do(client, w.request(http.MethodGet, "/redirect?to=/api/echo/x", nil), &got); err != nil {
			t.Fatal(err)
		}
		if got.Query != "api_key=canary-key" || strings.Contains(got.Header.Get("Referer"), "canary") {
			t.Errorf("after a redirect the provider got query %q and Referer %q, want the key in the query alone", got.Query, got.Header.Get("Referer"))
		}
	})
	t.Run("a loop", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		client := w.client(w.mustConnect("u", "ada", core.ConnectInput{}).ID)
		w.provider.Set(func(sw *coretest.Switches) {
			sw.API = coretest.Fault{Garbage: &coretest.Garbage{Status: 302, Header: map[string]string{"Location": "/api/me"}}}
		})
		w.wantStatus("a loop", client, w.request(http.MethodGet, "/me", nil), http.StatusFound)
		if got := w.provider.Calls().API; got != 10 {
			t.Errorf("requests of a loop = %d, want 10", got)
		}
	})
}
