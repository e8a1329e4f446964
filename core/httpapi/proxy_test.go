package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/crypto"
)

const rawAPI = "custom.raw" // an integration whose API a test serves itself

// proxied is a house with one account at an API that a test serves, below /api/v2.
type proxied struct {
	*house
	token, account string
	upstream       *httptest.Server
	asked          atomic.Int64
}

func newProxied(t *testing.T, serve http.HandlerFunc, change func(*httpapi.Options)) *proxied {
	t.Helper()
	p := &proxied{}
	p.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		serve(w, r)
	}))
	t.Cleanup(p.upstream.Close)
	p.house = newHouse(t, func(o *core.Options, h *httpapi.Options) {
		o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(p.upstream.URL, "http://"))
		if change != nil {
			change(h)
		}
	})
	in := p.keyed()
	in.Name, in.APIURL, in.AllowedHosts = rawAPI, p.upstream.URL+"/api/v2", []string{p.upstream.URL}
	in.Headers = map[string]string{"X-Api-Version": "7"}
	if _, err := p.engine.CreateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	c, err := p.engine.User("acme").AddKey(t.Context(), core.KeyInput{Integration: rawAPI, Key: crypto.NewSecret("key-ada")})
	if err != nil {
		t.Fatal(err)
	}
	p.account, p.token = c.ID, p.house.token("acme", nil)
	return p
}

// base is the path of the Proxy API for the integration.
func (p *proxied) base() string { return "/projects/" + p.engine.Project() + "/sdk/proxy/" + rawAPI }

// speak sends a request as it is written, line by line, and returns the answer.
func (p *proxied) speak(method, target string, header ...string) answer {
	p.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.server.URL, "http://"))
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n%s\r\n", method, target, p.token,
		strings.Join(append(header, ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, body}
}

// What of a path reaches the provider, byte by byte.
func TestProxyPaths(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) { got.Store(r.RequestURI) }, nil)
	full := p.upstream.URL
	for _, test := range []struct{ name, target, header, want string }{
		{"empty", "", "", "/api/v2"},
		{"slash", "/", "", "/api/v2/"},
		{"plain", "/a/b", "", "/api/v2/a/b"},
		{"query", "/a?x=1&y=%2F", "", "/api/v2/a?x=1&y=%2F"},
		{"empty query", "/a?", "", "/api/v2/a"},
		{"trailing slash", "/a/", "", "/api/v2/a/"},
		{"double slash", "/a//b", "", "/api/v2/a//b"},
		{"double slash first", "//h.example.com/b", "", "/api/v2//h.example.com/b"},
		{"escaped slash", "/a%2Fb/c", "", "/api/v2/a%2Fb/c"},
		{"escaped slash beside what should be escaped", "/a%2Fb|c", "", "/api/v2/a%2Fb%7Cc"},
		{"escaped percent", "/100%25", "", "/api/v2/100%25"},
		{"parameters", "/a;b=1/c", "", "/api/v2/a;b=1/c"},
		{"one dot", "/./a", "", "/api/v2/./a"},
		{"unicode", "/%C3%A9/\u00e9", "", "/api/v2/%C3%A9/%C3%A9"},
		{"at sign", "/@h.example.com/x", "", "/api/v2/@h.example.com/x"},
		{"whole URL", "/" + full + "/x/y?z=1", "", "/x/y?z=1"},
		{"whole URL, escaped", "/" + url.QueryEscape(full+"/x%2Fy?z=1") + "?w=2", "", "/x%2Fy?z=1&w=2"},
		{"whole URL, capitals", "/" + strings.Replace(full, "http", "HTTP", 1) + "/x", "", "/x"},
		{"header path", "", "a/b?c=d", "/api/v2/a/b?c=d"},
		{"header path with slash", "/", "/a%2Fb#c", "/api/v2/a%2Fb"},
		{"header goes first", "/other?q=1", "/a", "/api/v2/a?q=1"},
		{"header URL", "", full + "/x?y=1#frag", "/x?y=1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got.Store("")
			var header []string
			if test.header != "" {
				header = []string{"X-Paragon-Proxy-Url: " + test.header}
			}
			if a := p.speak(http.MethodGet, p.base()+test.target, header...); a.Status != http.StatusOK || got.Load() != test.want {
				t.Errorf("%s reached the provider as %q, want %q (%d %s)", test.target, got.Load(), test.want, a.Status, a.Body)
			}
		})
	}
}

// Nothing is sent anywhere but to the hosts of the integration, below its API where a path was given.
func TestSecurity19_ProxyTargets(t *testing.T) {
	t.Parallel()
	p := newProxied(t, func(http.ResponseWriter, *http.Request) {}, nil)
	host := strings.TrimPrefix(p.upstream.URL, "http://")
	for _, test := range []struct{ target, header, code string }{
		{"/https://evil.example.com/x", "", "host_not_allowed"},
		{"/https%3A%2F%2Fevil.example.com%2Fx", "", "host_not_allowed"},
		{"", "https://evil.example.com/x", "host_not_allowed"},
		{"/https://" + host + "/x", "", "host_not_allowed"}, // the scheme counts
		{"/http://user:pw@" + host + "/x", "", "host_not_allowed"},
		{"", "http://" + host + "@evil.example.com/", "host_not_allowed"},
		{"", "http://127.0.0.1:1/", "host_not_allowed"},
		{"", "http://169.254.169.254/latest/meta-data", "host_not_allowed"},
		{"/../x", "", "host_not_allowed"},
		{"/a/%2e%2e/x", "", "host_not_allowed"},
		{"/a/..%2Fx", "", "host_not_allowed"},
		{"/%252e%252e/x", "", "host_not_allowed"},
		{"/..;/x", "", "host_not_allowed"},
		{"/a%5C..%5Cx", "", "host_not_allowed"},
		{"/a\\b", "", "invalid"},
		{"", "a\\b", "invalid"},
		{"", "/../x", "host_not_allowed"},
		{"/https:/" + host + "/x", "", "invalid"},
		{"", "http:" + host, "invalid"},
		{"/" + strings.Repeat("a", 9<<10), "", "invalid"},
	} {
		var header []string
		if test.header != "" {
			header = []string{"X-Paragon-Proxy-Url: " + test.header}
		}
		if a := p.speak(http.MethodGet, p.base()+test.target, header...); a.Status != http.StatusBadRequest || a.json(t)["code"] != test.code {
			t.Errorf("%.60s %s = %d %s, want 400 %s", test.target, test.header, a.Status, a.Body, test.code)
		}
	}
	for _, test := range []struct {
		method, header string
		status         int
	}{
		{http.MethodTrace, "", 405},
		{http.MethodConnect, "", 405},
		{http.MethodGet, "Upgrade: websocket", 400},
		{http.MethodGet, "X-Paragon-Proxy-Url: a\r\nX-Paragon-Proxy-Url: b", 400},
	} {
		header := []string{}
		if test.header != "" {
			header = append(header, test.header)
		}
		if a := p.speak(test.method, p.base()+"/x", header...); a.Status != test.status {
			t.Errorf("%s %s = %d %s, want %d", test.method, test.header, a.Status, a.Body, test.status)
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// A private address that the program has not listed is not dialled, whatever the integration says.
func TestSecurity18_ProxyAddresses(t *testing.T) {
	t.Parallel()
	p := newProxied(t, func(http.ResponseWriter, *http.Request) {}, nil)
	in := p.keyed()
	in.Name, in.AllowedHosts = "custom.inside", []string{"https://127.0.0.2:9"}
	if _, err := p.engine.CreateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := p.engine.User("acme").AddKey(t.Context(), core.KeyInput{Integration: in.Name, Key: crypto.NewSecret("key-bob")}); err != nil {
		t.Fatal(err)
	}
	a := p.do(p.token, http.MethodGet, "{P}/proxy/custom.inside/x", "")
	if a.Status != http.StatusBadGateway || a.json(t)["code"] != "misconfigured" {
		t.Errorf("GET = %d %s, want 502 misconfigured", a.Status, a.Body)
	}
}

// Which headers reach the provider.
func TestProxyRequestHeaders(t *testing.T) {
	t.Parallel()
	var got http.Header
	p := newProxied(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }, nil)
	for _, raw := range []bool{false, true} {
		header := []string{
			"Cookie: a=b", "X-Paragon-Credential: " + p.account, "X-Paragon-SDK-Version: 2.4.0", "X-Polycred-Anything: 1", "Origin: https://app.example.com",
			"Referer: https://app.example.com/", "Sec-Fetch-Mode: cors", "X-Forwarded-For: 1.2.3.4", "Via: x", "Forwarded: for=1.2.3.4", "Te: trailers",
			"X-Hop: 1", "X-Api-Version: 1", "X-Own: kept", "Accept-Language: de", "If-None-Match: \"e\"", "Accept-Encoding: br", "Expect: 100-continue",
		}
		header[0] += "\r\nConnection: X-Hop"
		if raw {
			header = append(header, "X-Paragon-Use-Raw-Response: 1")
		}
		if a := p.speak(http.MethodGet, p.base()+"/x", header...); a.Status != http.StatusOK {
			t.Fatalf("GET = %d %s", a.Status, a.Body)
		}
		encoding := "gzip"
		if raw {
			encoding = "br"
		}
		for name, want := range map[string]string{
			"Authorization": "Bearer key-ada", "X-Own": "kept", "X-Api-Version": "7", "Accept-Language": "de", "If-None-Match": `"e"`, "Accept-Encoding": encoding,
		} {
			if values := got[name]; len(values) != 1 || values[0] != want {
				t.Errorf("%s = %q, want %q once", name, values, want)
			}
			delete(got, name)
		}
		if len(got) != 0 {
			t.Errorf("these came too: %v", got)
		}
	}
}

// Nothing that a provider answers acts on our origin, and it is told from what we say.
func TestSecurity20_ProxyAnswers(t *testing.T) {
	t.Parallel()
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, name := range []string{
			"Set-Cookie", "Clear-Site-Data", "Alt-Svc", "Service-Worker-Allowed", "WWW-Authenticate", "Refresh", "Strict-Transport-Security",
			"Content-Security-Policy-Report-Only", "Access-Control-Allow-Credentials", "Report-To", "X-Accel-Redirect", "X-Sendfile", "X-Hop", "Expires",
			"Cross-Origin-Opener-Policy", "X-Polycred-Credential-Used", "X-Request-Id", "Proxy-Authenticate",
		} {
			h.Set(name, "theirs")
		}
		h.Set("Connection", "X-Hop")
		h.Set("Access-Control-Allow-Origin", "https://evil.example.com")
		h.Set("Content-Security-Policy", "default-src *")
		h.Set("Cache-Control", "public, max-age=60")
		h.Set("X-Own", "kept")
		h.Set("ETag", `"e"`)
		h.Set("Link", "<next>; rel=next")
		h.Set("Content-Type", "application/json")
		if r.URL.Path == "/api/v2/401" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":{"message":"no such scope"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"a":1}`)
	}, nil)
	for _, test := range []struct{ path, raw, body string }{
		{"/200", "0", `{"output":{"a":1}}`}, {"/200", "1", `{"a":1}`}, {"/401", "1", `{"error":{"message":"no such scope"}}`}, {"/401", "0", ""},
	} {
		a := p.speak(http.MethodGet, p.base()+test.path, "X-Paragon-Use-Raw-Response: "+test.raw)
		status := strings.TrimPrefix(test.path, "/")
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox", "Access-Control-Allow-Origin": "*", "Cache-Control": "no-store",
			"X-Own": "kept", "Etag": `"e"`, "Link": "<next>; rel=next", "X-Polycred-Upstream-Status": status, "X-Polycred-Credential-Used": p.account,
		} {
			if got := a.Header[name]; len(got) != 1 || got[0] != want {
				t.Errorf("%s raw %s: %s = %q, want %q", test.path, test.raw, name, got, want)
			}
		}
		for name, values := range a.Header {
			for _, value := range values {
				if value == "theirs" || strings.Contains(value, "evil") {
					t.Errorf("%s raw %s: %s = %q passed", test.path, test.raw, name, values)
				}
			}
		}
		if test.body != "" && string(a.Body) != test.body {
			t.Errorf("%s raw %s = %s, want %s", test.path, test.raw, a.Body, test.body)
		}
		if test.body == "" {
			body := a.json(t)
			meta, _ := body["meta"].(map[string]any)
			if a.Status != 401 || meta["isIntegrationError"] != true || body["code"] != "upstream" || body["message"] != "no such scope" || body["output"] == nil {
				t.Errorf("401 = %d %s", a.Status, a.Body)
			}
		}
	}
	if a := p.do("bad", http.MethodGet, "{P}/proxy/"+rawAPI+"/200", ""); a.Status != 401 || a.Header.Get("X-Polycred-Upstream-Status") != "" || a.json(t)["code"] != "token" {
		t.Errorf("a bad token = %d %s %v, want our own 401", a.Status, a.Body, a.Header)
	}
}

// Redirects are followed on the same host, and never relayed in a form that clients follow.
func TestProxyRedirects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen = append(seen, r.Method+" "+r.URL.Path+" "+string(body)+" "+r.Header.Get("Authorization"))
		mu.Unlock()
		if to := r.URL.Query().Get("to"); to != "" {
			w.Header().Set("Location", to)
			status := http.StatusFound
			if r.URL.Query().Has("keep") {
				status = http.StatusTemporaryRedirect
			}
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{}`)
	}, nil)
	for _, test := range []struct {
		name, query, body string
		status            int
		location          string
		last              string
	}{
		{"same host", "to=/there", "", 200, "", "GET /there  Bearer key-ada"},
		{"303 makes it a GET", "to=/there", "b", 200, "", "GET /there  Bearer key-ada"},
		{"307 keeps the body", "keep&to=/there", "b", 200, "", "POST /there b Bearer key-ada"},
		{"too large to keep", "keep&to=/there", strings.Repeat("b", 70<<10), 307, p.upstream.URL + "/there", ""},
		{"another host", "to=https://evil.example.com/x", "", 302, "https://evil.example.com/x", ""},
		{"our own routes", "keep&to=" + url.QueryEscape(p.url("{P}/me")), "", 307, p.url("{P}/me"), ""},
		{"upwards", "to=/a/%252e%252e/b", "", 400, "", ""},
		{"a loop", "to=" + url.QueryEscape("/api/v2/x?to=/api/v2/x"), "", 200, "", "GET /api/v2/x  Bearer key-ada"},
	} {
		mu.Lock()
		seen = nil
		mu.Unlock()
		method := http.MethodGet
		if test.body != "" {
			method = http.MethodPost
		}
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		req, err := http.NewRequestWithContext(t.Context(), method, p.url("{P}/proxy/"+rawAPI+"/x?"+test.query), strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+p.token)
		a := p.send(client, req)
		if a.Status != test.status || a.Header.Get("X-Polycred-Location") != test.location || a.Header.Get("Location") != "" {
			t.Errorf("%s = %d %v %s", test.name, a.Status, a.Header, a.Body)
		}
		mu.Lock()
		if test.last != "" && seen[len(seen)-1] != test.last {
			t.Errorf("%s: last came %q, want %q", test.name, seen[len(seen)-1], test.last)
		}
		mu.Unlock()
	}
}

// Which answers are wrapped, and how.
func TestProxyWrapping(t *testing.T) {
	t.Parallel()
	large := `{"a":"` + strings.Repeat("x", 3000) + `"}`
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header()["Content-Type"] = nil
		if q.Get("type") != "" {
			w.Header().Set("Content-Type", q.Get("type"))
		}
		var status int
		_, _ = fmt.Sscan(q.Get("status"), &status)
		w.WriteHeader(max(status, 200))
		if q.Has("flush") {
			_ = http.NewResponseController(w).Flush()
		}
		body := q.Get("body")
		if body == "large" {
			body = large
		}
		_, _ = io.WriteString(w, body)
	}, func(o *httpapi.Options) { o.ProxyWrap = 2000 })
	const js = "application/json"
	for _, test := range []struct {
		name, typ, status, body string
		want                    string
	}{
		{"object", js, "", `{"a":1}`, `{"output":{"a":1}}`},
		{"number", js + "; charset=utf-8", "", ` 7 `, `{"output": 7 }`},
		{"vendor's", "application/vnd.api+json", "", `[]`, `{"output":[]}`},
		{"empty", js, "", ``, ``},
		{"no content", js, "204", ``, ``},
		{"a part", js, "206", `{}`, `{}`},
		{"no JSON", js, "", `)]}'x`, `)]}'x`},
		{"broken off", js, "", `{"a":`, `{"a":`},
		{"text", "text/plain", "", `{}`, `{}`},
		{"large", js, "", "large", `{"output":` + large + `}`},
		{"large refusal", js, "422", "large", large},
		{"binary refusal", "image/png", "404", "\x89PNG\xff", "\x89PNG\xff"},
	} {
		for _, flush := range []string{"", "&flush"} {
			query := url.Values{"type": {test.typ}, "status": {test.status}, "body": {test.body}}.Encode() + flush
			a := p.do(p.token, http.MethodGet, "{P}/proxy/"+rawAPI+"/x?"+query, "")
			if string(a.Body) != test.want {
				t.Errorf("%s%s = %d %.200s, want %.200s", test.name, flush, a.Status, a.Body, test.want)
			}
		}
	}
	for _, test := range []struct{ typ, body, message string }{
		{"text/html", "<h1>Down</h1>", "The provider refused the request."}, {"", "", "The provider refused the request."}, {js, `{"error":"no"}`, "no"},
	} {
		query := url.Values{"type": {test.typ}, "status": {"503"}, "body": {test.body}}.Encode()
		a := p.do(p.token, http.MethodGet, "{P}/proxy/"+rawAPI+"/x?"+query, "")
		if got := a.json(t); a.Status != 503 || got["message"] != test.message || got["code"] != "upstream" {
			t.Errorf("refusal %q = %d %s", test.body, a.Status, a.Body)
		}
	}
	head := p.speak(http.MethodHead, p.base()+"/x?type=text/plain&body=abc")
	if head.Status != 200 || head.Header.Get("Content-Length") != "3" {
		t.Errorf("HEAD = %d %v", head.Status, head.Header)
	}
}

// What the SDK calls "auto" becomes what the body is.
func TestProxyContentType(t *testing.T) {
	t.Parallel()
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, "%s %d", r.Header.Get("Content-Type"), n)
	}, nil)
	for body, want := range map[string]string{
		"": " 0", `{"a":1}`: "application/json 7", "hello": "text/plain; charset=utf-8 5", "\x89PNG\r\n\x1a\n": "image/png 8",
		"[" + strings.Repeat("1,", 40<<10) + "1]": "application/json 81923",
	} {
		if a := p.do(p.token, http.MethodPost, "{P}/proxy/"+rawAPI+"/x", body, "Content-Type", "auto"); string(a.Body) != want {
			t.Errorf("%.20s came as %q, want %q", body, a.Body, want)
		}
	}
}

// A provider's Retry-After is passed on, and kept.
func TestProxyRetryAfter(t *testing.T) {
	t.Parallel()
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v2/limited" {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}, nil)
	get := func(path string) answer { return p.do(p.token, http.MethodGet, "{P}/proxy/"+rawAPI+path, "") }
	if a := get("/limited"); a.Status != 429 || a.Header.Get("Retry-After") != "7" || a.Header.Get("X-Polycred-Upstream-Status") != "429" {
		t.Errorf("the provider's 429 = %d %v", a.Status, a.Header)
	}
	if a := get("/limited"); a.Status != 429 || a.Header.Get("Retry-After") != "7" || a.Header.Get("X-Polycred-Upstream-Status") != "" {
		t.Errorf("the next one = %d %v, want our own 429", a.Status, a.Header)
	}
	if a := get("/other"); a.Status != 200 {
		t.Errorf("another path = %d", a.Status)
	}
	p.clock.Advance(8 * time.Second)
	before := p.asked.Load()
	if a := get("/limited"); a.Header.Get("X-Polycred-Upstream-Status") != "429" || p.asked.Load() != before+1 {
		t.Errorf("after the pause = %d %v, want the provider to be asked", a.Status, a.Header)
	}
}
