package core_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/internal/telemetry/telemetrytest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

const (
	callbackURL  = "http://127.0.0.1:1/callback" // nobody serves it
	clientSecret = "canary-client-secret"
	calendar     = "googleCalendar"
)

// world is what most tests need: a provider, an engine that has it as an integration, and one clock for both. Every
// error that goes through its helpers and every log line is searched for secrets when the test ends.
type world struct {
	*testing.T
	clock    *coretest.Clock
	provider *coretest.OAuthServer
	store    storage.Store
	keks     crypto.KEKs
	opts     core.Options
	engine   *core.Engine
	told     telemetrytest.Recorder // metrics and traces

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// newWorld opens an engine on store (nil: in memory), with the provider as integration calendar.
func newWorld(t *testing.T, store storage.Store, change func(*core.Options)) *world {
	t.Helper()
	w := &world{T: t, clock: coretest.NewClock(time.Time{}), store: store}
	provider, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{Now: w.clock.Now, ClientSecret: clientSecret})
	if err != nil {
		t.Fatal(err)
	}
	w.provider = provider
	t.Cleanup(provider.Close)
	for _, login := range []string{"ada", "bob", "cyd"} {
		provider.AddAccount(coretest.Account{Subject: login, Name: login + "@example.com"})
	}
	if w.store == nil {
		w.store = memory.New()
	}
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	w.keks = crypto.KEKs{Tokens: kek, Policy: kek}
	w.opts = core.Options{
		CallbackURL: callbackURL, ReturnURLs: []string{"https://app.example.com/done"},
		PrivateHosts: []string{provider.Host()}, Now: w.clock.Now,
		Logger:        slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
		MeterProvider: &w.told, TracerProvider: &w.told,
	}
	if change != nil {
		change(&w.opts)
	}
	w.engine = w.open()
	t.Cleanup(w.searchSecrets)
	if _, err := w.engine.CreateIntegration(t.Context(), w.integration(nil)); err != nil {
		t.Fatal(err)
	}
	return w
}

// open opens another engine on the world's store and closes it when the test ends.
func (w *world) open() *core.Engine {
	w.Helper()
	engine, err := core.Open(w.Context(), w.store, w.keks, &w.opts)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = engine.Close() })
	return engine
}

// integration describes the provider; change may alter it.
func (w *world) integration(change func(*core.Integration)) core.Integration {
	in := core.Integration{
		Name: calendar,
		OAuth2: &core.OAuth2{
			ClientID: w.provider.ClientID(), ClientSecret: crypto.NewSecret(clientSecret),
			AuthorizationURL: w.provider.AuthorizationURL(), TokenURL: w.provider.TokenURL(), Issuer: w.provider.Issuer(),
			Scopes: []string{"openid", "calendar"},
		},
		Identity: core.Identity{
			Source: core.IdentityURL, URL: w.provider.UserInfoURL(), SubjectPath: "sub", DisplayPath: "name",
		},
		AllowedHosts: []string{w.provider.URL()},
	}
	if change != nil {
		change(&in)
	}
	return in
}

// create adds an integration and fails the test when that fails.
func (w *world) create(change func(*core.Integration)) core.Integration {
	w.Helper()
	in, err := w.engine.CreateIntegration(w.Context(), w.integration(change))
	if err != nil {
		w.Fatal(err)
	}
	return in
}

// change updates the integration calendar.
func (w *world) change(change func(*core.Integration)) {
	w.Helper()
	if err := w.tryChange(change); err != nil {
		w.Fatal(err)
	}
}

// tryChange is change for what may be refused.
func (w *world) tryChange(change func(*core.Integration)) error {
	w.Helper()
	in, err := w.engine.Integration(w.Context(), calendar)
	if err != nil {
		w.Fatal(err)
	}
	change(&in)
	_, err = w.engine.UpdateIntegration(w.Context(), in)
	return w.note(err)
}

// begin begins to connect, and has the provider's account consent: what it returns is the callback.
func (w *world) begin(user, login string, in core.ConnectInput) (core.CallbackInput, error) {
	w.Helper()
	if in.Integration == "" {
		in.Integration = calendar
	}
	if in.Browser == "" {
		in.Browser = "browser of " + user
	}
	session, err := w.engine.User(user).Connect(w.Context(), in)
	if err != nil {
		return core.CallbackInput{}, w.note(err)
	}
	return w.consent(session, login, in.Integration, in.Browser), nil
}

// consent goes to the provider and comes back as the browser does.
func (w *world) consent(session *core.ConnectSession, login, integration, browser string) core.CallbackInput {
	w.Helper()
	hint := "&login_hint=" + url.QueryEscape(login)
	page, err := coretest.NewBrowser().OpenUntil(w.Context(), session.URL+hint, callbackURL)
	if err != nil {
		w.Fatal(err)
	}
	at, err := url.Parse(page.URL)
	if err != nil || !strings.HasPrefix(page.URL, callbackURL+"/"+integration+"?") {
		w.Fatalf("the provider did not redirect to the callback of %s: %s", integration, page.URL)
	}
	return core.CallbackInput{Integration: integration, Values: at.Query(), Browser: browser}
}

// connect goes all the way.
func (w *world) connect(user, login string, in core.ConnectInput) (core.Credential, error) {
	w.Helper()
	callback, err := w.begin(user, login, in)
	if err != nil {
		return core.Credential{}, err
	}
	result, err := w.engine.Callback(w.Context(), callback)
	if err != nil {
		return core.Credential{}, w.note(err)
	}
	return result.Credential, nil
}

// mustConnect is connect for what has to work.
func (w *world) mustConnect(user, login string, in core.ConnectInput) core.Credential {
	w.Helper()
	credential, err := w.connect(user, login, in)
	if err != nil {
		w.Fatalf("connect %s: %v", login, err)
	}
	return credential
}

// list returns all accounts of a user at an integration.
func (w *world) list(user string) []core.Credential {
	w.Helper()
	page, err := w.engine.User(user).Credentials(w.Context(), core.ListInput{Integration: calendar, Limit: 1000})
	if errors.Is(err, core.ErrNotFound) { // the integration was deleted, which takes that it has no accounts
		return nil
	}
	if err != nil {
		w.Fatal(err)
	}
	return page.Credentials
}

// events gives all events behind a number that are there, after what is waiting has got its number.
func (w *world) events(after uint64) []core.Event {
	w.Helper()
	if err := coretest.Step(w.engine); err != nil {
		w.Fatal(err)
	}
	last, err := w.engine.LastEvent(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	var all []core.Event
	if after >= last {
		return nil
	}
	for ev, err := range w.engine.Subscribe(w.Context(), after) {
		if err != nil {
			w.Fatal(err)
		}
		_, _ = fmt.Fprintf(w, "%s\n%+v\n", ev, ev) // searched for secrets too
		if all = append(all, ev); ev.Number == last {
			break
		}
	}
	return all
}

// as asks the provider's API whose token a selector leads to.
func (w *world) as(user, credential string) (string, error) {
	w.Helper()
	token, err := w.engine.User(user).Token(w.Context(), core.Selector{Integration: calendar, Credential: credential})
	if err != nil {
		return "", w.note(err)
	}
	return w.whose(token.Value.Reveal()), nil
}

// whose asks the provider whose token this is; "" when it is dead.
func (w *world) whose(token string) string {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, w.provider.APIURL()+"/me", nil)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var me struct{ Account string }
	if err := json.NewDecoder(resp.Body).Decode(&me); err != nil {
		w.Fatal(err)
	}
	return me.Account
}

// note keeps the texts of an error and of all that it wraps, to be searched for secrets.
func (w *world) note(err error) error {
	if err == nil {
		return nil
	}
	_, _ = fmt.Fprintf(w, "%v\n%+v\n%#v\n%q\n%s\n", err, err, err, err, core.Message(err))
	switch wrapping := err.(type) { //nolint:errorlint // walks the chain itself
	case interface{ Unwrap() error }:
		_ = w.note(wrapping.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range wrapping.Unwrap() {
			_ = w.note(inner)
		}
	}
	return err
}

// Write takes log lines.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// searchSecrets is security 27: nothing that was logged, told to OpenTelemetry or returned as an error holds a secret. The
// provider's tokens and codes begin with what is searched for.
func (w *world) searchSecrets() {
	for line := range strings.Lines(w.told.Text()) {
		if canary := leaked(line); canary != "" {
			w.Errorf("%q stands in what was told to OpenTelemetry: %s", canary, line)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.text.String()) {
		if canary := leaked(line); canary != "" {
			w.Errorf("%q stands in what was logged or returned as an error: %s", canary, line)
		}
	}
}

// leaked returns how a secret in line begins, "" when there is none.
func leaked(line string) string {
	for _, canary := range []string{"at-", "rt-", "code-", "canary"} {
		for i := range line {
			if strings.HasPrefix(line[i:], canary) && (i == 0 || !isLetter(line[i-1])) {
				return canary
			}
		}
	}
	return ""
}

func isLetter(b byte) bool { return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' }

// wantErr fails the test unless err is what is wanted.
func (w *world) wantErr(what string, err, want error) {
	w.Helper()
	if !errors.Is(w.note(err), want) {
		w.Errorf("%s: error %v, want %v", what, err, want)
	}
}
