package oidcpeer_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// Both halves of the client's credentials need every escape that RFC 6749 §2.3.1 asks for.
const (
	clientID     = "web client:1"
	clientSecret = "it's a 100% secret + /&ü"
	publicClient = "native"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // op logs each request there
	os.Exit(m.Run())
}

// peer is the OpenID provider, and what was seen at its door.
type peer struct {
	oidc.DiscoveryConfiguration
	ada, bob *storage.User
	server   *httptest.Server

	mu        sync.Mutex // guards the fields below
	asked     url.Values // the last authorization request
	calls     []call     // of the token endpoint
	onRefresh func()     // called before a refresh is passed on
}

// call is one request to the token endpoint, and its answer.
type call struct {
	basic  bool // the client came in the Authorization header
	form   url.Values
	status int
	answer map[string]any
}

func (c call) grant() string { return c.form.Get("grant_type") }

func (c call) text(field string) string {
	text, _ := c.answer[field].(string)
	return text
}

// newPeer starts a provider that knows a client with a secret, and one without.
func newPeer(t *testing.T, redirectURI string) *peer {
	t.Helper()
	p := &peer{server: httptest.NewUnstartedServer(nil)}
	t.Cleanup(p.server.Close)
	issuer := "http://" + p.server.Listener.Addr().String()
	users := storage.NewUserStore(issuer)
	p.ada, p.bob = users.GetUserByID("id1"), users.GetUserByID("id2")
	store := storage.NewStorageWithClients(users, map[string]*storage.Client{
		clientID:     storage.WebClient(clientID, clientSecret, redirectURI),
		publicClient: storage.NativeClient(publicClient, redirectURI),
	})
	p.server.Config.Handler = p.watch(exampleop.SetupServer(issuer, store, nil, false))
	p.server.Start()

	resp, err := http.Get(issuer + oidc.DiscoveryEndpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p.DiscoveryConfiguration); err != nil {
		t.Fatal(err)
	}
	return p
}

// watch notes what arrives at the authorization and token endpoints.
func (p *peer) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch "http://" + r.Host + r.URL.Path {
		case p.AuthorizationEndpoint:
			p.mu.Lock()
			p.asked = r.URL.Query()
			p.mu.Unlock()
		case p.TokenEndpoint:
			p.token(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (p *peer) token(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var c call
	_, _, c.basic = r.BasicAuth()
	c.form, _ = url.ParseQuery(string(body)) // what is no form has no grant either
	p.mu.Lock()
	wait := p.onRefresh
	p.mu.Unlock()
	if c.grant() == "refresh_token" && wait != nil {
		wait()
	}
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	c.status = answer.Code
	_ = json.Unmarshal(answer.Body.Bytes(), &c.answer) // what is no JSON has no fields
	p.mu.Lock()
	p.calls = append(p.calls, c)
	p.mu.Unlock()
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// grants returns the calls of a grant so far, the oldest first.
func (p *peer) grants(grant string) []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.calls), func(c call) bool { return c.grant() != grant })
}

func (p *peer) exchanges() []call { return p.grants("authorization_code") }
func (p *peer) refreshes() []call { return p.grants("refresh_token") }

// lastAuthorization returns the parameters of the last authorization request.
func (p *peer) lastAuthorization() url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// holdRefreshes keeps refreshes waiting before the provider sees them, until release is called; seen receives one value
// for each that has arrived.
func (p *peer) holdRefreshes(t *testing.T) (seen <-chan struct{}, release func()) {
	arrived, open := make(chan struct{}, 64), make(chan struct{})
	release = sync.OnceFunc(func() { close(open) })
	t.Cleanup(release)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onRefresh = func() {
		arrived <- struct{}{}
		<-open
	}
	return arrived, release
}

// post sends a form to the provider as the client, without polycred.
func (p *peer) post(t *testing.T, endpoint string, form url.Values) (status int, code string) {
	t.Helper()
	form.Set("client_id", clientID)
	form.Set("client_secret", clientSecret)
	resp, err := http.PostForm(endpoint, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Error string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return resp.StatusCode, answer.Error
}

// revoke ends a refresh token (RFC 7009).
func (p *peer) revoke(t *testing.T, refreshToken string) {
	t.Helper()
	status, code := p.post(t, p.RevocationEndpoint, url.Values{"token": {refreshToken}, "token_type_hint": {"refresh_token"}})
	if status != http.StatusOK {
		t.Fatalf("revoke = %d %s, want 200", status, code)
	}
}
