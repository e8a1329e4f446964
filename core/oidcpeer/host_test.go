package oidcpeer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
	example "github.com/zitadel/oidc/v3/example/server/storage"
)

const (
	integration = "op"
	connected   = "acme-inc" // the connected user
	lifetime    = 5 * time.Minute
)

// host is a program that embeds polycred: a web server with two routes, an engine, and a provider.
type host struct {
	*peer
	engine   *core.Engine
	user     *core.User
	clock    *coretest.Clock
	web      *httptest.Server
	outcomes chan outcome // of the browser's last visit to one of the routes
}

type outcome struct {
	credential core.Credential
	err        error
}

// onEachStore runs a test once for each kind of store.
func onEachStore(t *testing.T, test func(t *testing.T, h *host)) {
	t.Parallel()
	stores := map[string]func(*testing.T) storage.Store{
		"memory": func(*testing.T) storage.Store { return memory.New() },
		"badger": func(t *testing.T) storage.Store {
			store, err := badger.Open(filepath.Join(t.TempDir(), "store"), nil)
			if err != nil {
				t.Fatal(err)
			}
			return store
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newHost(t, open(t)))
		})
	}
}

func newHost(t *testing.T, store storage.Store) *host {
	t.Helper()
	h := &host{clock: coretest.NewClock(time.Now()), outcomes: make(chan outcome, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /connect", h.connect)
	mux.HandleFunc("GET /callback/{integration}", h.callback)
	h.web = httptest.NewServer(mux)
	h.peer = newPeer(t, h.web.URL+"/callback/"+integration)

	kek, err := crypto.CreateKEK(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	h.engine, err = core.Open(t.Context(), store, crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{
		CallbackURL: h.web.URL + "/callback", PrivateHosts: []string{h.server.Listener.Addr().String()},
		Now: h.clock.Now, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.user = h.engine.User(connected)
	t.Cleanup(func() {
		h.web.Close()
		if err := h.engine.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		h.checkNoSecret(t, "the log", log.String())
	})
	return h
}

// connect sends the browser to the provider.
func (h *host) connect(w http.ResponseWriter, r *http.Request) {
	browser := rand.Text()
	http.SetCookie(w, &http.Cookie{Name: "browser", Value: browser, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	session, err := h.user.Connect(r.Context(), core.ConnectInput{
		Integration: integration, Browser: browser, AllowMultiple: r.FormValue("another") != "", Into: r.FormValue("into"),
	})
	if err != nil {
		h.outcomes <- outcome{err: err}
		return
	}
	http.Redirect(w, r, session.URL, http.StatusSeeOther)
}

// callback is where the provider sends the browser back to.
func (h *host) callback(_ http.ResponseWriter, r *http.Request) {
	var result *core.ConnectResult
	cookie, err := r.Cookie("browser")
	if err == nil {
		result, err = h.engine.Callback(r.Context(), core.CallbackInput{
			Integration: r.PathValue("integration"), Values: r.URL.Query(), Browser: cookie.Value,
		})
	}
	if err != nil {
		h.outcomes <- outcome{err: err}
		return
	}
	h.outcomes <- outcome{credential: result.Credential}
}

// The login form of the example server.
var (
	action = regexp.MustCompile(`<form method="POST" action="([^"]+)"`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)
)

// signIn is what a person does with the login form, in a browser of their own: they visit the host's page, are led to
// the provider, sign in there, and are led back.
func (h *host) signIn(t *testing.T, person *example.User, query string) (core.Credential, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	browser := coretest.NewBrowser()
	page, err := browser.Open(ctx, h.web.URL+"/connect?"+query)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case o := <-h.outcomes: // the host refused, or the provider sent the browser back at once
		return o.credential, o.err
	default:
	}
	form := action.FindSubmatch(page.Body)
	if form == nil {
		t.Fatalf("the browser is at %s, status %d, and sees no login form:\n%s", page.URL, page.Status, page.Body)
	}
	values := url.Values{"username": {person.Username}, "password": {person.Password}}
	for _, field := range hidden.FindAllSubmatch(page.Body, -1) {
		values.Set(string(field[1]), html.UnescapeString(string(field[2])))
	}
	target, err := url.Parse(page.URL)
	if err == nil {
		target, err = target.Parse(html.UnescapeString(string(form[1])))
	}
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := browser.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case o := <-h.outcomes:
		return o.credential, o.err
	default:
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		t.Fatalf("after the login the browser is at %s, status %d:\n%s", resp.Request.URL, resp.StatusCode, body)
		return core.Credential{}, nil
	}
}

// mustConnect is signIn where nothing may go wrong.
func (h *host) mustConnect(t *testing.T, person *example.User, query string) core.Credential {
	t.Helper()
	credential, err := h.signIn(t, person, query)
	if err != nil {
		t.Fatalf("connect %s: %v", person.Username, err)
	}
	return credential
}

// integration is the provider as its discovery document describes it, with accounts recognised by userinfo.
func (h *host) integration() core.Integration {
	return core.Integration{
		Name: integration,
		OAuth2: &core.OAuth2{
			ClientID:         clientID,
			ClientSecret:     crypto.NewSecret(clientSecret),
			AuthorizationURL: h.AuthorizationEndpoint,
			TokenURL:         h.TokenEndpoint,
			Issuer:           h.Issuer,
			Scopes:           []string{"openid", "profile", "email", "offline_access"},
		},
		Identity: core.Identity{
			Source: core.IdentityURL, URL: h.UserinfoEndpoint, SubjectPath: "sub", DisplayPath: "preferred_username",
		},
		AllowedHosts: []string{h.server.URL},
	}
}

// declare sets the provider up, as change leaves it.
func (h *host) declare(t *testing.T, change func(*core.Integration)) {
	t.Helper()
	in := h.integration()
	if change != nil {
		change(&in)
	}
	if _, err := h.engine.CreateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func selector(credential core.Credential) core.Selector {
	return core.Selector{Integration: integration, Credential: credential.ID}
}

// credential returns the account as it is stored now.
func (h *host) credential(t *testing.T, id string) core.Credential {
	t.Helper()
	credential, err := h.user.Credential(t.Context(), core.Selector{Credential: id})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// accounts returns all accounts of the user, the oldest first.
func (h *host) accounts(t *testing.T) []core.Credential {
	t.Helper()
	page, err := h.user.Credentials(t.Context(), core.ListInput{Integration: integration})
	if err != nil {
		t.Fatal(err)
	}
	return page.Credentials
}

// token returns the account's access token.
func (h *host) token(t *testing.T, credential core.Credential) string {
	t.Helper()
	token, err := h.user.Token(t.Context(), selector(credential))
	if err != nil {
		t.Fatal(err)
	}
	return token.Value.Reveal()
}

// whoAmI asks the provider's userinfo endpoint as one account, through its client.
func (h *host) whoAmI(ctx context.Context, credential core.Credential) (subject string, status int, err error) {
	client, err := h.user.Client(ctx, selector(credential))
	if err != nil {
		return "", 0, err
	}
	resp, err := client.Get(h.UserinfoEndpoint)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	var me struct{ Sub string }
	err = json.NewDecoder(resp.Body).Decode(&me)
	return me.Sub, resp.StatusCode, err
}

// checkIs fails unless the provider takes requests of an account for those of a person. Any goroutine may call it.
func (h *host) checkIs(t *testing.T, credential core.Credential, person *example.User) {
	t.Helper()
	subject, status, err := h.whoAmI(t.Context(), credential)
	if subject != person.ID || status != http.StatusOK || err != nil {
		t.Errorf("userinfo as credential %s = %q, status %d, %v, want %q, 200", credential.ID, subject, status, err, person.ID)
	}
}

// checkNoSecret fails when a text contains the client secret, or a token that the provider gave out.
func (h *host) checkNoSecret(t *testing.T, where, text string) {
	t.Helper()
	secrets := []string{clientSecret, url.QueryEscape(clientSecret), wrongSecret}
	for _, c := range append(h.exchanges(), h.refreshes()...) {
		secrets = append(secrets, c.form.Get("code"), c.form.Get("code_verifier"),
			c.text("access_token"), c.text("refresh_token"), c.text("id_token"))
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("%s contains %q:\n%s", where, secret, text)
		}
	}
}
