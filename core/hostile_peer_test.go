package core_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// peer is a provider that answers as a test says: at /token with tokens named after the code, which refreshes keep, and
// elsewhere as api does. It remembers what it was sent.
type peer struct {
	*httptest.Server

	mu       sync.Mutex // guards what follows
	sent     []sentTo
	fields   map[string]string // by code: further fields of a token answer
	refresh  func(http.ResponseWriter, *http.Request) bool
	lifetime int
}

// sentTo is what a peer got.
type sentTo struct {
	path, authorization, query string
	form                       url.Values
}

func newPeer(t *testing.T, api http.HandlerFunc) *peer {
	t.Helper()
	p := &peer{fields: map[string]string{}, lifetime: 36000}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		code := r.PostForm.Get("code")
		if code == "" {
			code = strings.TrimPrefix(r.PostForm.Get("refresh_token"), "rt-")
		}
		p.mu.Lock()
		p.sent = append(p.sent, sentTo{r.URL.Path, r.Header.Get("Authorization"), r.URL.RawQuery, r.PostForm})
		fields, refresh, lifetime := p.fields[code], p.refresh, p.lifetime
		p.mu.Unlock()
		switch {
		case r.URL.Path != "/token":
			api(w, r)
		case r.PostForm.Get("grant_type") == "refresh_token" && refresh != nil && refresh(w, r):
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"access_token":"at-%s","refresh_token":"rt-%s","expires_in":%d%s}`, code, code, lifetime, fields)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// set changes how the peer answers.
func (p *peer) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *peer) host() string { return strings.TrimPrefix(p.URL, "http://") }

// got returns what was sent so far.
func (p *peer) got() []sentTo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent)
}

// wantNever fails the test when something was sent to the peer.
func (p *peer) wantNever(t *testing.T, what, secret string) {
	t.Helper()
	for _, sent := range p.got() {
		text := sent.authorization + " " + sent.query + " " + sent.form.Encode()
		if strings.Contains(text, secret) {
			t.Errorf("%s was sent %s at %s, want never", what, secret, sent.path)
		}
	}
}

// newPeerWorld is newWorld with an engine that may reach peers.
func newPeerWorld(t *testing.T, store storage.Store, peers ...*peer) *world {
	t.Helper()
	return newWorld(t, store, func(o *core.Options) {
		for _, p := range peers {
			o.PrivateHosts = append(o.PrivateHosts, p.host())
		}
	})
}

// join makes a peer an integration called peer.
func (w *world) join(p *peer, change func(*core.Integration)) core.Integration {
	w.Helper()
	return w.create(func(in *core.Integration) {
		*in = core.Integration{
			Name: "peer",
			OAuth2: &core.OAuth2{
				ClientID: "client", ClientAuth: core.ClientAuthNone, AuthorizationURL: p.URL + "/authorize", TokenURL: p.URL + "/token",
			},
			AllowedHosts: []string{p.URL},
		}
		if change != nil {
			change(in)
		}
	})
}

// beginPeer begins to connect at the peer and returns the callback with this code.
func (w *world) beginPeer(code string, in core.ConnectInput) core.CallbackInput {
	w.Helper()
	in.Integration, in.Browser = "peer", "b"
	session, err := w.engine.User("u").Connect(w.Context(), in)
	if err != nil {
		w.Fatal(w.note(err))
	}
	at, err := url.Parse(session.URL)
	if err != nil {
		w.Fatal(err)
	}
	return core.CallbackInput{
		Integration: "peer", Browser: "b", Values: url.Values{"state": {at.Query().Get("state")}, "code": {code}},
	}
}

// connectPeer connects an account whose tokens are named after the code.
func (w *world) connectPeer(code string, in core.ConnectInput) core.Credential {
	w.Helper()
	result, err := w.engine.Callback(w.Context(), w.beginPeer(code, in))
	if err != nil {
		w.Fatal(w.note(err))
	}
	return result.Credential
}

// twoHosts makes an integration of which each account has a host of its own: code a has that of a, code b that of b.
func (w *world) twoHosts(a, b *peer) {
	w.Helper()
	for code, at := range map[string]*peer{"a": a, "b": b} {
		a.set(func() { a.fields[code] = fmt.Sprintf(`,"instance_url":%q`, at.URL) })
	}
	w.join(a, func(in *core.Integration) {
		in.SentHosts = []core.SentHost{{Field: "instance_url", In: core.SentInToken, Hosts: []string{a.URL, b.URL}}}
		in.AllowedHosts = []string{"{instance_url}"}
	})
}

// A request that one account was meant to send is not sent again as the other one that took its place meanwhile.
func TestSecurity19_HostsAfterReconnect(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			arrived, answer := make(chan struct{}), make(chan struct{})
			var once sync.Once
			a := newPeer(t, func(rw http.ResponseWriter, _ *http.Request) {
				once.Do(func() {
					close(arrived)
					<-answer
				})
				rw.WriteHeader(status)
			})
			b := newPeer(t, http.NotFound)
			w := newPeerWorld(t, nil, a, b)
			w.twoHosts(a, b)
			id := w.connectPeer("a", core.ConnectInput{}).ID
			w.clock.Advance(5 * time.Minute)
			client := w.client(id)
			done := make(chan struct{})
			go func() {
				defer close(done)
				w.wantStatus("a request under which the account changed", client, w.request(http.MethodGet, a.URL+"/data", nil), status)
			}()
			<-arrived
			w.connectPeer("b", core.ConnectInput{Into: id})
			close(answer)
			<-done
			a.wantNever(t, "the host of the account before", "Bearer at-b")
			_, err := get(t, client, a.URL+"/data")
			w.wantErr("the next request", err, core.ErrHostNotAllowed)
		})
	}
}

// The same where the account changes while its token is refreshed for the request.
func TestSecurity19_HostsAfterRefresh(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan struct{}), make(chan struct{})
	a := newPeer(t, http.NotFound)
	a.set(func() {
		a.refresh = func(http.ResponseWriter, *http.Request) bool {
			close(arrived)
			<-answer
			return false
		}
	})
	b := newPeer(t, http.NotFound)
	w := newPeerWorld(t, nil, a, b)
	w.twoHosts(a, b)
	id := w.connectPeer("a", core.ConnectInput{}).ID
	w.clock.Advance(24 * time.Hour)
	client := w.client(id)
	failed := make(chan error, 1)
	go func() {
		_, err := w.do(client, w.request(http.MethodGet, a.URL+"/data", nil), nil)
		failed <- err
	}()
	<-arrived
	w.connectPeer("b", core.ConnectInput{Into: id})
	close(answer)
	w.wantErr("a request under whose refresh the account changed", <-failed, core.ErrHostNotAllowed)
	a.wantNever(t, "the host of the account before", "Bearer at-b")
}

// A new client secret, set together with a new token URL, is never sent to the token URL before it.
func TestSecurity23_NewSecretAtOldTokenURL(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T, store storage.Store) (w *world, old, renewed *peer, change func(*core.Engine)) {
		t.Helper()
		old, renewed = newPeer(t, http.NotFound), newPeer(t, http.NotFound)
		w = newPeerWorld(t, store, old, renewed)
		in := w.join(old, func(in *core.Integration) {
			in.OAuth2.ClientAuth, in.OAuth2.ClientSecret = core.ClientAuthBody, crypto.NewSecret("first-canary")
		})
		return w, old, renewed, func(engine *core.Engine) {
			in.OAuth2.TokenURL, in.OAuth2.ClientSecret = renewed.URL+"/token", crypto.NewSecret("second-canary")
			if _, err := engine.UpdateIntegration(t.Context(), in); err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("under a callback", func(t *testing.T) {
		t.Parallel()
		store := &readSpy{}
		store.Store = stores["memory"](t)
		w, old, _, change := setup(t, store)
		callback := w.beginPeer("a", core.ConnectInput{})
		store.before('j', func() { change(w.engine) }) // after the integration was read, before its secrets
		_, err := w.engine.Callback(t.Context(), callback)
		w.wantErr("a callback during the change", err, core.ErrProvider)
		old.wantNever(t, "the old token URL", "second-canary")
	})
	t.Run("under a cached integration", func(t *testing.T) {
		t.Parallel()
		w, old, renewed, change := setup(t, nil)
		operator := w.open()
		id := w.connectPeer("a", core.ConnectInput{}).ID
		w.clock.Advance(24 * time.Hour)
		client := w.client(id)
		_, err := w.do(client, w.request(http.MethodGet, "/echo", nil), nil) // has the engine know the integration
		w.wantErr("another host", err, core.ErrHostNotAllowed)
		change(operator)
		_, err = w.engine.User("u").Token(t.Context(), core.Selector{Credential: id})
		if err != nil {
			t.Errorf("a refresh after the change = %v, want it at the new token URL", w.note(err))
		}
		old.wantNever(t, "the old token URL", "second-canary")
		renewed.wantNever(t, "the new token URL", "first-canary")
	})
}

// A key in the query comes back neither in a redirect nor in an error nor with the response's request.
func TestSecurity27_KeyInQuery(t *testing.T) {
	t.Parallel()
	const key = "canary-key"
	api := http.NewServeMux()
	api.HandleFunc("/test", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("{}")) })
	api.HandleFunc("/cut/", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	api.HandleFunc("/fine/", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Link", "<"+r.URL.String()+`&page=2>; rel="next"`) // as lists do that have pages
		rw.Header().Set("Content-Location", "/fine/?api_key="+url.QueryEscape(key))
		_, _ = rw.Write([]byte("fine"))
	})
	api.HandleFunc("/away", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://other.example.com/?"+r.URL.RawQuery, http.StatusFound)
	})
	p := newPeer(t, api.ServeHTTP) // http.ServeMux redirects /fine?x=1 to /fine/?x=1, as most servers do
	w := newPeerWorld(t, nil, p)
	w.create(func(in *core.Integration) {
		*in = core.Integration{
			Name: "keyed", APIKey: &core.APIKey{In: core.KeyQuery, Name: "api_key", TestURL: p.URL + "/test"}, AllowedHosts: []string{p.URL},
		}
	})
	credential, err := w.engine.User("u").AddKey(t.Context(), core.KeyInput{Integration: "keyed", Key: crypto.NewSecret(key)})
	if err != nil {
		t.Fatal(w.note(err))
	}
	client := w.client(credential.ID)
	if _, err = w.do(client, w.request(http.MethodGet, p.URL+"/cut?x=1", nil), nil); err == nil {
		t.Error("a request that was cut off = no error, want one")
	}
	for path, want := range map[string]string{"/fine": p.URL + "/fine/?x=1", "/away": p.URL + "/away?x=1"} {
		resp, err := w.do(client, w.request(http.MethodGet, p.URL+path+"?x=1", nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(resp.Request.URL, resp.Request.Header, resp.Header)
		if strings.Contains(text, "canary") {
			t.Errorf("the response of %s holds the key, want none", path)
		}
		if got := resp.Request.URL.String(); got != want {
			t.Errorf("the request of the response of %s = %s, want %s", path, got, want)
		}
	}
	if sent := p.got(); sent[len(sent)-1].query != "x=1&api_key="+key {
		t.Error("the last request came without the key, want it with")
	}
}
