package httpapi_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/crypto"
)

// Whatever a client writes: nothing panics, nothing is sent to another host, and a path stays below the API, however often it
// is decoded on the way.
func FuzzProxyTarget(f *testing.F) {
	var seen atomic.Pointer[string]
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen.Store(&r.RequestURI) }))
	f.Cleanup(upstream.Close)
	var strayed atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	f.Cleanup(other.Close)
	for _, add := range [][2]string{
		{"/a/b", ""}, {"", ""}, {"//x", ""}, {"/a%2Fb", ""}, {"/%2e%2e/x", ""}, {"/..;/x", ""}, {"/%252e%252e%252fx", ""}, {"/a|b%2Fc", ""}, {"/é", ""},
		{"/" + upstream.URL + "/x?y=1", ""}, {"/" + url.QueryEscape(upstream.URL+"/x"), ""}, {"", upstream.URL + "/x#y"}, {"", "a/b?c#d"},
		{"/" + other.URL + "/x", ""}, {"", other.URL}, {"", upstream.URL + "@" + strings.TrimPrefix(other.URL, "http://")}, {"/https:/x", ""}, {"", `\\x`},
	} {
		f.Add(add[0], add[1])
	}
	host := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	engine := newFuzzEngine(f, upstream.URL, []string{host(upstream), host(other)})
	token, err := usertoken.Mint(signingKey(f, engine), usertoken.MintInput{Project: engine.Project(), User: "acme"})
	if err != nil {
		f.Fatal(err)
	}
	handler, err := httpapi.New(engine, &httpapi.Options{PublicURL: "http://127.0.0.1:1", Rate: -1, FailureRate: -1, Logger: silent})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target, header string) {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(
			"GET /projects/" + engine.Project() + "/sdk/proxy/" + keys + target + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n")))
		if err != nil {
			return
		}
		req = req.WithContext(t.Context())
		if header != "" {
			req.Header.Set("X-Paragon-Proxy-Url", header)
		}
		seen.Store(nil)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		sent := seen.Load()
		if strayed.Load() != 0 {
			t.Fatal("a request reached another host")
		}
		if sent == nil {
			if w.Code < 400 {
				t.Fatalf("nothing was sent, and the answer is %d", w.Code)
			}
			return
		}
		asked := header
		if asked == "" {
			asked = strings.TrimPrefix(target, "/")
		}
		for range 3 { // a whole URL, perhaps escaped, goes where it says
			if strings.Contains(strings.ToLower(asked), "http://") {
				return
			}
			asked, _ = url.PathUnescape(asked)
		}
		got, _, _ := strings.Cut(*sent, "?")
		for range 3 {
			if clean := path.Clean(got); clean != "/api/v2" && !strings.HasPrefix(clean, "/api/v2/") {
				t.Fatalf("%q %q was sent as %q, out of the API", target, header, *sent)
			}
			if got, err = url.PathUnescape(got); err != nil {
				break
			}
		}
	})
}

// newFuzzEngine is an engine with one account of the integration keys, whose API lies below /api/v2 of a server.
func newFuzzEngine(f *testing.F, server string, private []string) *core.Engine {
	f.Helper()
	engine := coretest.NewEngine(f, &core.Options{PrivateHosts: private, Logger: silent})
	if _, err := engine.CreateIntegration(f.Context(), core.Integration{
		Name: keys, APIKey: &core.APIKey{TestURL: server + "/me"}, APIURL: server + "/api/v2", AllowedHosts: []string{server},
	}); err != nil {
		f.Fatal(err)
	}
	if _, err := engine.User("acme").AddKey(f.Context(), core.KeyInput{Integration: keys, Key: crypto.NewSecret("key")}); err != nil {
		f.Fatal(err)
	}
	return engine
}
