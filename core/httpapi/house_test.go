package httpapi_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

const (
	calendar  = "googleCalendar"
	keys      = "custom.keys" // an integration with API keys
	appOrigin = "https://app.example.com"
)

// house is an application that serves the HTTP API: a provider, an engine in memory, a server on loopback, and a signing key.
// Every line that is logged is searched for secrets when the test ends.
type house struct {
	testing.TB
	clock    *coretest.Clock
	provider *coretest.OAuthServer
	engine   *core.Engine
	server   *httptest.Server
	key      ed25519.PrivateKey
	store    storage.Store
	keks     crypto.KEKs
	opts     core.Options
	http     httpapi.Options
	handler  http.Handler

	flows atomic.Int64 // that were begun

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// newHouse starts one; change may alter the options of both.
func newHouse(t testing.TB, change func(*core.Options, *httpapi.Options)) *house {
	t.Helper()
	h := &house{TB: t, clock: coretest.NewClock(time.Time{}), store: &applies{Store: memory.New()}}
	var err error
	h.provider, err = coretest.NewOAuthServer(&coretest.OAuthServerOptions{Now: h.clock.Now, ClientSecret: "canary-client-secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.provider.Close)
	for _, login := range []string{"ada", "bob", "cyd"} {
		h.provider.AddAccount(coretest.Account{Subject: login, Name: login + "@example.com"})
		h.provider.AddKey("key-"+login, login)
	}
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	h.keks = crypto.KEKs{Tokens: kek, Policy: kek}
	h.open(change)
	return h
}

// neighbour starts another project in the store of a house.
func (h *house) neighbour(change func(*core.Options, *httpapi.Options)) *house {
	h.Helper()
	n := &house{TB: h.TB, clock: h.clock, store: h.store, provider: h.provider, keks: h.keks}
	n.open(func(o *core.Options, p *httpapi.Options) {
		o.Project = "01900000-0000-7000-8000-0000000000aa"
		if change != nil {
			change(o, p)
		}
	})
	return n
}

// open opens the engine and serves it.
func (h *house) open(change func(*core.Options, *httpapi.Options)) {
	h.Helper()
	t := h.TB
	var err error
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.handler.ServeHTTP(w, r) }))
	t.Cleanup(h.server.Close)
	h.opts = core.Options{
		CallbackURL: h.server.URL + "/callback", PrivateHosts: []string{h.provider.Host()}, Now: h.clock.Now,
		RedirectURLs: []string{h.server.URL + "/app/connected"}, Logger: slog.New(slog.NewTextHandler(h, nil)),
	}
	h.http = httpapi.Options{
		PublicURL: h.server.URL, Application: "Zeppelin", AllowedOrigins: []string{appOrigin}, Logger: slog.New(slog.NewTextHandler(h, nil)),
	}
	if change != nil {
		change(&h.opts, &h.http)
	}
	if h.engine, err = core.Open(t.Context(), h.store, h.keks, &h.opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.engine.Close() })
	for _, in := range []core.Integration{h.provider.Integration(calendar), h.keyed()} {
		if _, err := h.engine.CreateIntegration(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	h.key = h.newKey()
	if h.handler, err = httpapi.New(h.engine, &h.http); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.searchSecrets)
}

// keyed is an integration with API keys.
func (h *house) keyed() core.Integration {
	return core.Integration{
		Name: keys, DisplayName: "Keys", APIKey: &core.APIKey{TestURL: h.provider.APIURL() + "/me"},
		Identity:     core.Identity{Source: core.IdentityTest, SubjectPath: "subject", DisplayPath: "account"},
		AllowedHosts: []string{h.provider.URL()},
	}
}

// newKey adds a signing key.
func (h *house) newKey() ed25519.PrivateKey {
	h.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		h.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		h.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if _, err := h.engine.AddSigningKey(h.Context(), core.SigningKeyInput{PublicKey: string(text)}); err != nil {
		h.Fatal(err)
	}
	return private
}

// token signs a user token; change may alter it.
func (h *house) token(user string, change func(*usertoken.MintInput)) string {
	h.Helper()
	in := usertoken.MintInput{Project: h.engine.Project(), User: user, Lifetime: time.Hour, Now: h.clock.Now()}
	if change != nil {
		change(&in)
	}
	token, err := usertoken.Mint(h.key, in)
	if err != nil {
		h.Fatal(err)
	}
	return token
}

// may makes a token that may do what a claim says.
func may(claim any) func(*usertoken.MintInput) {
	return func(in *usertoken.MintInput) { in.Permissions = claim }
}

// answer is what came back.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// json decodes the body.
func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatalf("the body is no JSON object: %v: %.200s", err, a.Body)
	}
	return v
}

// do sends a request with a token. Path is below the server, {P} in it the project's path. Header is pairs.
func (h *house) do(token, method, path, body string, header ...string) answer {
	h.Helper()
	req, err := http.NewRequestWithContext(h.Context(), method, h.url(path), strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return h.send(http.DefaultClient, req)
}

// direct is do without a network: when it returns, all that the request does is done.
func (h *house) direct(token, method, path, body string, header ...string) answer {
	return h.serve(h.soon(), token, method, path, body, header...)
}

func (h *house) serve(ctx context.Context, token, method, path, body string, header ...string) answer {
	req := httptest.NewRequestWithContext(ctx, method, strings.TrimPrefix(h.url(path), h.server.URL), strings.NewReader(body))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, req)
	return answer{w.Code, w.Result().Header, w.Body.Bytes()}
}

func (h *house) url(path string) string {
	return h.server.URL + strings.ReplaceAll(path, "{P}", "/projects/"+h.engine.Project()+"/sdk")
}

func (h *house) send(client *http.Client, req *http.Request) answer {
	h.Helper()
	resp, err := client.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, raw}
}

// want sends a request and fails the test unless the status is what is wanted.
func (h *house) want(status int, token, method, path, body string, header ...string) answer {
	h.Helper()
	got := h.do(token, method, path, body, header...)
	if got.Status != status {
		h.Fatalf("%s %s = %d %s, want %d", method, path, got.Status, got.Body, status)
	}
	return got
}

// window is the browser of a person: it keeps cookies, follows no redirect by itself, and comes from a page of the
// application.
type window struct {
	*house
	client  *http.Client
	referer string
}

func (h *house) window() *window {
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.Fatal(err)
	}
	return &window{h, &http.Client{
		Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, appOrigin + "/settings"}
}

// get opens a page.
func (w *window) get(address string) answer {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, address, nil)
	if err != nil {
		w.Fatal(err)
	}
	if w.referer != "" {
		req.Header.Set("Referer", w.referer)
	}
	req.Header.Set("Sec-Fetch-Mode", "navigate") // as browsers say
	req.Header.Set("Sec-Fetch-Dest", "document")
	return w.send(w.client, req)
}

// buildOAuth is row 6.
func (h *house) buildOAuth(token, integration, key, installOptions string) answer {
	q := url.Values{
		"action": {integration}, "integrationId": {h.engine.IntegrationID(integration)}, "oauthMetaKeyId": {key}, "userToken": {token},
		"installOptions": {installOptions}, "originForPostMessage": {appOrigin},
	}
	return h.do(token, http.MethodGet, "/v2{P}/actions/build-oauth?"+q.Encode(), "")
}

// nonce is row 5.
func (w *window) nonce(token, integration string) answer {
	q := url.Values{
		"action": {integration}, "integrationId": {w.engine.IntegrationID(integration)}, "originForPostMessage": {appOrigin},
		"userToken": {token},
	}
	return w.get(w.url("{P}/actions/oauth-nonce?" + q.Encode()))
}

// consent goes from the hop to the provider and back, signs in there as login, and returns what the callback shows.
func (w *window) consent(hop, login string) answer {
	w.Helper()
	left := w.get(hop)
	if left.Status != http.StatusSeeOther {
		return left
	}
	w.referer = ""
	page, err := coretest.NewBrowser().OpenUntil(w.Context(), left.Header.Get("Location")+"&login_hint="+url.QueryEscape(login), w.opts.CallbackURL)
	if err != nil {
		w.Fatal(err)
	}
	return w.get(page.URL)
}

// install connects an account of the calendar as the SDK does, and returns its id.
func (h *house) install(token, login, installOptions string) string {
	h.Helper()
	return h.installAt(token, calendar, login, installOptions)
}

func (h *house) installAt(token, integration, login, installOptions string) string {
	h.Helper()
	key := fmt.Sprintf("poll-%s-%d", login, h.flows.Add(1))
	built := h.buildOAuth(token, integration, key, installOptions)
	if built.Status != http.StatusOK {
		h.Fatalf("build-oauth = %d %s", built.Status, built.Body)
	}
	w := h.window()
	if page := w.nonce(token, integration); page.Status != http.StatusOK {
		h.Fatalf("oauth-nonce = %d %s", page.Status, page.Body)
	}
	if done := w.consent(built.json(h)["redirectUrl"].(string), login); done.Status != http.StatusOK {
		h.Fatalf("callback = %d %s", done.Status, done.Body)
	}
	id, _ := h.want(http.StatusOK, token, http.MethodGet, "{P}/actions/session-id/"+key, "").json(h)["connectCredentialId"].(string)
	h.want(http.StatusOK, token, http.MethodGet, "{P}/credentials/"+id, "")
	h.want(http.StatusNoContent, token, http.MethodDelete, "{P}/actions/session-id/"+key, "")
	return id
}

// Write takes log lines.
func (h *house) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

// searchSecrets is security 27: no line of the log holds a token, a code, a state or a handle.
func (h *house) searchSecrets() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for line := range strings.Lines(h.text.String()) {
		for _, canary := range []string{"eyJ", "at-", "rt-", "code-", "canary", "userToken", "state="} {
			if i := strings.Index(line, canary); i >= 0 && (i == 0 || !isLetter(line[i-1])) {
				h.Errorf("%q stands in a line of the log: %s", canary, line)
			}
		}
	}
}

func isLetter(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || b == '_' || '0' <= b && b <= '9'
}

// context with a deadline for what must not hang.
func (h *house) soon() context.Context {
	ctx, cancel := context.WithTimeout(h.Context(), 20*time.Second)
	h.Cleanup(cancel)
	return ctx
}
