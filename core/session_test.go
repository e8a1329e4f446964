package core_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// session begins to connect, and fails the test when that fails.
func (w *world) session(user string, in core.ConnectInput) *core.ConnectSession {
	w.Helper()
	if in.Integration == "" {
		in.Integration = calendar
	}
	session, err := w.engine.User(user).Connect(w.Context(), in)
	if err != nil {
		w.Fatalf("Connect(%+v): %v", in, err)
	}
	return session
}

// params are the parameters of the authorization request that a session begins with.
func (w *world) params(session *core.ConnectSession) url.Values {
	w.Helper()
	u, err := url.Parse(session.URL)
	if err != nil || session.URL == "" {
		w.Fatalf("session URL = %q, %v", session.URL, err)
	}
	return u.Query()
}

// mustBegin is begin for what has to work.
func (w *world) mustBegin(user, login string, in core.ConnectInput) core.CallbackInput {
	w.Helper()
	callback, err := w.begin(user, login, in)
	if err != nil {
		w.Fatal(err)
	}
	return callback
}

// wantInput fails the test unless err is an InputError about a field.
func (w *world) wantInput(what string, err error, field string) {
	w.Helper()
	var input *core.InputError
	if !errors.As(w.note(err), &input) || !errors.Is(err, core.ErrInvalid) || input.Field != field {
		w.Errorf("%s: error %v, want an InputError about %s", what, err, field)
	}
}

// items are all keys and values of the store.
func (w *world) items() []storage.Item {
	w.Helper()
	var items []storage.Item
	for r := (storage.Range{}); ; {
		page, err := w.store.Scan(context.Background(), r)
		if err != nil {
			w.Fatal(err)
		}
		if items = append(items, page.Items...); page.Next == nil {
			return items
		}
		r.After = page.Next
	}
}

// wantSealed fails the test when one of the texts stands in the store, as it is or in its raw form.
func (w *world) wantSealed(texts map[string]string) {
	w.Helper()
	for what, text := range texts {
		if text == "" {
			w.Errorf("%s is empty: there is nothing to look for", what)
			continue
		}
		forms := [][]byte{[]byte(text)}
		if raw, err := base64.RawURLEncoding.DecodeString(text); err == nil && len(raw) >= 16 {
			forms = append(forms, raw)
		}
		for _, item := range w.items() {
			for _, form := range forms {
				if bytes.Contains(item.Key, form) || bytes.Contains(item.Value, form) {
					w.Errorf("%s stands in the store in the clear, under key %q", what, item.Key)
				}
			}
		}
	}
}

// extraProvider starts one more provider beside the world's, on a clock of its own.
func extraProvider(t *testing.T, o coretest.OAuthServerOptions) *coretest.OAuthServer {
	t.Helper()
	if o.Now == nil {
		o.Now = coretest.NewClock(time.Time{}).Now
	}
	provider, err := coretest.NewOAuthServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	provider.AddAccount(coretest.Account{Subject: "ada", Name: "ada@example.com"})
	return provider
}

// reach lets the engine call providers.
func reach(providers ...*coretest.OAuthServer) func(*core.Options) {
	return func(o *core.Options) {
		for _, p := range providers {
			o.PrivateHosts = append(o.PrivateHosts, p.Host())
		}
	}
}

func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.create(func(in *core.Integration) {
		in.Name, in.OAuth2, in.Identity = "keys", nil, core.Identity{}
		in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
	})
	before := len(w.items())
	for _, tt := range []struct {
		name, user string
		in         core.ConnectInput
		field      string // of an InputError
		want       error  // otherwise
	}{
		{name: "unknown integration", user: "u", in: core.ConnectInput{Integration: "nobody"}, want: core.ErrNotFound},
		{name: "no integration", user: "u", field: "integration"},
		{name: "integration with a slash", user: "u", in: core.ConnectInput{Integration: "a/b"}, field: "integration"},
		{name: "long integration", user: "u", in: core.ConnectInput{Integration: strings.Repeat("a", 65)}, field: "integration"},
		{name: "integration with keys", user: "u", in: core.ConnectInput{Integration: "keys"}, field: "integration"},
		{name: "no user", in: core.ConnectInput{Integration: calendar}, field: "user"},
		{name: "long user", user: strings.Repeat("u", 256), in: core.ConnectInput{Integration: calendar}, field: "user"},
		{name: "user with NUL", user: "a\x00b", in: core.ConnectInput{Integration: calendar}, field: "user"},
		{name: "user not in UTF-8", user: "a\xff", in: core.ConnectInput{Integration: calendar}, field: "user"},
		{name: "unknown variable", user: "u", in: core.ConnectInput{Integration: calendar, Variables: map[string]string{"x": "y"}}, field: "variables.x"},
		{name: "unknown into", user: "u", in: core.ConnectInput{Integration: calendar, Into: "nobody"}, want: core.ErrNotFound},
		{name: "into and external id", user: "u", in: core.ConnectInput{Integration: calendar, Into: "a", ExternalID: "b"}, field: "externalId"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			session, err := w.engine.User(tt.user).Connect(t.Context(), tt.in)
			if session != nil {
				t.Errorf("Connect() = %+v, want no session", session)
			}
			if tt.field != "" {
				w.wantInput("Connect", err, tt.field)
			} else {
				w.wantErr("Connect", err, tt.want)
			}
		})
	}
	if after := len(w.items()); after != before {
		t.Errorf("the store has %d items, want %d as before", after, before)
	}
	for _, user := range []string{strings.Repeat("u", 255), "a/b c", "ü"} {
		w.session(user, core.ConnectInput{})
	}

	t.Run("without CallbackURL", func(t *testing.T) {
		w := newWorld(t, nil, func(o *core.Options) { o.CallbackURL = "" })
		_, err := w.engine.User("u").Connect(t.Context(), core.ConnectInput{Integration: calendar})
		w.wantInput("Connect", err, "callbackUrl")
	})
	t.Run("closed", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		session := w.session("u", core.ConnectInput{})
		if err := w.engine.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := w.engine.User("u").Connect(t.Context(), core.ConnectInput{Integration: calendar})
		w.wantErr("Connect", err, core.ErrClosed)
		_, err = w.engine.BeginConnect(t.Context(), session.Handle, "b")
		w.wantErr("BeginConnect", err, core.ErrClosed)
		_, err = w.engine.Callback(t.Context(), core.CallbackInput{Integration: calendar, Values: url.Values{"state": {"x"}}})
		w.wantErr("Callback", err, core.ErrClosed)
	})
}

func TestConnectAuthorizationRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) {
		in.OAuth2.AuthorizationParams = map[string]string{"access_type": "offline", "prompt": "consent"}
		in.OAuth2.AddAccountParams = map[string]string{"prompt": "select_account", "add": "1"}
	})
	session := w.session("u", core.ConnectInput{Browser: "b"})
	if !strings.HasPrefix(session.URL, w.provider.AuthorizationURL()+"?") {
		t.Errorf("URL = %s, want it at %s", session.URL, w.provider.AuthorizationURL())
	}
	if want := w.clock.Now().Add(15 * time.Minute); !session.Expires.Equal(want) {
		t.Errorf("Expires = %v, want %v", session.Expires, want)
	}
	q := w.params(session)
	for name, want := range map[string]string{
		"response_type": "code", "client_id": w.provider.ClientID(), "redirect_uri": callbackURL + "/" + calendar,
		"scope": "openid calendar", "code_challenge_method": "S256", "access_type": "offline", "prompt": "consent", "add": "", "client_secret": "",
	} {
		if q.Get(name) != want || len(q[name]) > 1 {
			t.Errorf("parameter %s = %q, want %q", name, q[name], want)
		}
	}
	if n := len(q["code_challenge"]); n != 1 || len(q.Get("code_challenge")) != 43 {
		t.Errorf("code_challenge = %q, want one of 43 characters", q["code_challenge"])
	}
	if q.Get("nonce") == "" {
		t.Error("nonce is empty, want one: the scopes have openid")
	}

	adding := w.params(w.session("u", core.ConnectInput{Browser: "b", AllowMultiple: true}))
	if adding.Get("add") != "1" || adding.Get("prompt") != "select_account" || adding.Get("access_type") != "offline" {
		t.Errorf("parameters when an account may be added = %v, want AddAccountParams over AuthorizationParams", adding)
	}
	first := w.mustConnect("u", "ada", core.ConnectInput{})
	into := w.params(w.session("u", core.ConnectInput{Browser: "b", AllowMultiple: true, Into: first.ID}))
	if into.Has("add") || into.Get("prompt") != "consent" {
		t.Errorf("parameters when an account is reconnected = %v, want no AddAccountParams", into)
	}

	w.change(func(in *core.Integration) { in.OAuth2.Scopes, in.OAuth2.ScopeSeparator = []string{"a", "b", "c"}, "," })
	q = w.params(w.session("v", core.ConnectInput{Browser: "b"}))
	if q.Get("scope") != "a,b,c" || q.Has("nonce") {
		t.Errorf("parameters = %v, want scope a,b,c and no nonce", q)
	}
	w.change(func(in *core.Integration) { in.OAuth2.Scopes = nil })
	if q = w.params(w.session("v", core.ConnectInput{Browser: "b"})); q.Has("scope") {
		t.Errorf("scope = %q, want none", q["scope"])
	}
}

func TestConnectSessionsAreUnique(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	seen := map[string]string{}
	for range 64 {
		session := w.session("u", core.ConnectInput{Browser: "b"})
		q := w.params(session)
		for what, value := range map[string]string{
			"id": session.ID, "handle": session.Handle, "state": q.Get("state"), "nonce": q.Get("nonce"), "code_challenge": q.Get("code_challenge"),
		} {
			if other, twice := seen[value]; twice {
				t.Fatalf("%s = %q, which was a %s before", what, value, other)
			}
			seen[value] = what
			if raw, err := base64.RawURLEncoding.DecodeString(value); what != "id" && (err != nil || len(raw) < 16) {
				t.Errorf("%s = %q: %d bytes, %v, want at least 128 bits", what, value, len(raw), err)
			}
		}
	}
}

func TestBeginConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	session := w.session("u", core.ConnectInput{ReturnURL: "https://app.example.com/done"})
	if session.URL != "" {
		t.Errorf("URL without a browser = %s, want none", session.URL)
	}
	_, err := w.engine.BeginConnect(t.Context(), session.Handle, "")
	w.wantInput("beginning without browser", err, "browser")
	for _, unknown := range []string{"", "x", session.ID, session.Handle + "x", strings.Repeat("x", 1<<20)} {
		_, err := w.engine.BeginConnect(t.Context(), unknown, "b")
		w.wantErr("beginning with an unknown handle", err, core.ErrSession)
	}

	begun, err := w.engine.BeginConnect(t.Context(), session.Handle, "b")
	if err != nil {
		t.Fatal(err)
	}
	if begun.ID != session.ID || begun.Handle != session.Handle || !begun.Expires.Equal(session.Expires) || begun.URL == "" {
		t.Errorf("BeginConnect() = %+v, want %+v with a URL", begun, session)
	}
	again, err := w.engine.BeginConnect(t.Context(), session.Handle, "b")
	if err != nil || again.URL != begun.URL {
		t.Errorf("BeginConnect by the same browser = %+v, %v, want the same URL", again, err)
	}
	_, err = w.engine.BeginConnect(t.Context(), session.Handle, "c")
	w.wantErr("beginning in another browser", err, core.ErrBrowser)

	result, err := w.engine.Callback(t.Context(), w.consent(begun, "ada", calendar, "b"))
	if err != nil || result.User != "u" || result.ReturnURL != "https://app.example.com/done" || result.Credential.Account.Subject != "ada" {
		t.Errorf("Callback() = %+v, %v", result, err)
	}
	_, err = w.engine.BeginConnect(t.Context(), session.Handle, "b")
	w.wantErr("beginning a finished session", err, core.ErrSession)
	_, err = w.engine.BeginConnect(t.Context(), session.Handle, "c")
	w.wantErr("beginning a finished session in another browser", err, core.ErrBrowser)

	t.Run("a session that was bound at once", func(t *testing.T) {
		session := w.session("v", core.ConnectInput{Browser: "b"})
		if begun, err := w.engine.BeginConnect(t.Context(), session.Handle, "b"); err != nil || begun.URL != session.URL {
			t.Errorf("BeginConnect by the same browser = %+v, %v, want %s", begun, err, session.URL)
		}
		_, err := w.engine.BeginConnect(t.Context(), session.Handle, "c")
		w.wantErr("beginning in another browser", err, core.ErrBrowser)
	})
	t.Run("expired", func(t *testing.T) {
		w := newWorld(t, nil, func(o *core.Options) { o.ConnectTTL = time.Minute })
		unbound, bound := w.session("u", core.ConnectInput{}), w.session("u", core.ConnectInput{Browser: "b"})
		w.clock.Advance(time.Minute - time.Nanosecond)
		if _, err := w.engine.BeginConnect(t.Context(), bound.Handle, "b"); err != nil {
			t.Errorf("BeginConnect at the last moment: %v", err)
		}
		w.clock.Advance(time.Millisecond)
		for _, session := range []*core.ConnectSession{unbound, bound} {
			_, err := w.engine.BeginConnect(t.Context(), session.Handle, "b")
			w.wantErr("beginning too late", err, core.ErrSessionExpired)
		}
	})
	t.Run("by many browsers at once", func(t *testing.T) {
		session := w.session("v", core.ConnectInput{})
		urls := make(chan string, 32)
		for i := range 32 {
			go func() {
				begun, err := w.engine.BeginConnect(context.WithoutCancel(t.Context()), session.Handle, "browser "+strconv.Itoa(i))
				if err != nil {
					w.wantErr("beginning second", err, core.ErrBrowser)
					urls <- ""
					return
				}
				urls <- begun.URL
			}()
		}
		won := 0
		for range 32 {
			if <-urls != "" {
				won++
			}
		}
		if won != 1 {
			t.Errorf("%d browsers got the URL, want 1", won)
		}
	})
	t.Run("the integration has keys now", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		session := w.session("u", core.ConnectInput{})
		callback := w.mustBegin("u", "ada", core.ConnectInput{})
		w.change(func(in *core.Integration) {
			in.OAuth2, in.Identity = nil, core.Identity{}
			in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
		})
		_, err := w.engine.BeginConnect(t.Context(), session.Handle, "b")
		w.wantErr("beginning", err, core.ErrSession)
		_, err = w.engine.Callback(t.Context(), callback)
		w.wantErr("finishing", err, core.ErrSession)
	})
	t.Run("the integration is gone", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		session := w.session("u", core.ConnectInput{})
		callback := w.mustBegin("u", "ada", core.ConnectInput{})
		if err := w.engine.DeleteIntegration(t.Context(), calendar); err != nil {
			t.Fatal(err)
		}
		_, err := w.engine.BeginConnect(t.Context(), session.Handle, "b")
		w.wantErr("beginning", err, core.ErrNotFound)
		_, err = w.engine.Callback(t.Context(), callback)
		w.wantErr("finishing", err, core.ErrNotFound)
		if got := w.provider.Calls().Exchange; got != 0 {
			t.Errorf("%d codes were spent, want 0", got)
		}
	})
}

// A reader of the store learns nothing with which a session could be taken over.
func TestSessionsAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	const browser = "browser-of-the-person-0123456789abcdef"
	session := w.session("u", core.ConnectInput{Browser: browser, ExternalID: "the-label-of-the-account"})
	q := w.params(session)
	secrets := map[string]string{
		"the handle": session.Handle, "the state": q.Get("state"), "the nonce": q.Get("nonce"), "the browser": browser,
		"the client secret": clientSecret, "the external id": "the-label-of-the-account",
	}
	w.wantSealed(secrets)

	result, err := w.engine.Callback(t.Context(), w.consent(session, "ada", calendar, browser))
	if err != nil {
		t.Fatal(err)
	}
	request, _ := w.provider.Last(coretest.EndpointExchange)
	token, err := w.engine.User("u").Token(t.Context(), core.Selector{Credential: result.Credential.ID})
	if err != nil {
		t.Fatal(err)
	}
	secrets["the verifier"], secrets["the code"] = request.Form.Get("code_verifier"), request.Form.Get("code")
	secrets["the access token"], secrets["the account"] = token.Value.Reveal(), result.Credential.Account.Display
	w.wantSealed(secrets)
	sum := sha256.Sum256([]byte(q.Get("state")))
	w.wantSealed(map[string]string{"the plain digest of the state": base64.RawURLEncoding.EncodeToString(sum[:])})
}

// sessionTags begin the keys of sessions and of what leads to them.
const sessionTags = "se"

// sessionItems are the items of the store that belong to connect sessions.
func (w *world) sessionItems() []storage.Item {
	w.Helper()
	return slices.DeleteFunc(w.items(), func(item storage.Item) bool { return !strings.ContainsRune(sessionTags, rune(item.Key[0])) })
}

// watchedStore tells how many keys of connect sessions each batch deletes.
type watchedStore struct {
	storage.Store
	deleted chan int
}

func (s watchedStore) Apply(ctx context.Context, b storage.Batch) error {
	err := s.Store.Apply(ctx, b)
	deleted := 0
	for _, d := range b.Deletes {
		if strings.ContainsRune(sessionTags, rune(d.Key[0])) {
			deleted++
		}
	}
	if err == nil && deleted > 0 {
		s.deleted <- deleted
	}
	return err
}

func TestRunSweepsSessions(t *testing.T) {
	t.Parallel()
	store := watchedStore{memory.New(), make(chan int, 1000)}
	w := newWorld(t, store, func(o *core.Options) { o.OpenSessions = 1000 })
	before := len(w.sessionItems())
	const n = 150 // more than one batch
	for i := range n {
		w.session("u", core.ConnectInput{Browser: "b" + strconv.Itoa(i%2)})
	}
	done := w.mustBegin("v", "ada", core.ConnectInput{})
	result, err := w.engine.Callback(t.Context(), done)
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(15*time.Minute + time.Second)
	late := w.mustBegin("u", "ada", core.ConnectInput{})

	// Expired long enough ago: their outcome can be asked for during an hour.
	w.clock.Advance(time.Hour - time.Second)
	if again, err := w.engine.Callback(t.Context(), done); err != nil || !again.Replayed || again.Credential.ID != result.Credential.ID {
		t.Errorf("Callback an hour after expiry = %+v, %v, want the outcome", again, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.engine.Run(ctx) }()
	for swept := 0; swept < 2*(n+1); { // the session, and its place in the order of expiry
		select {
		case deleted := <-store.deleted:
			swept += deleted
		case err := <-ended:
			t.Fatalf("Run ended: %v", err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil when its context ends", err)
	}
	_, err = w.engine.Callback(t.Context(), done)
	w.wantErr("a session that was swept", err, core.ErrSession)
	_, err = w.engine.Callback(t.Context(), late)
	w.wantErr("a session that expired later", err, core.ErrSessionExpired)
	if err := w.engine.User("v").Disconnect(t.Context(), core.Selector{Credential: result.Credential.ID}); err != nil {
		t.Fatal(err)
	}
	if got := len(w.sessionItems()); got != before+2 {
		t.Errorf("the store has %d items, want %d: as before, and the later session", got, before+2)
	}

	if err := w.engine.Close(); err != nil {
		t.Fatal(err)
	}
	w.wantErr("Run of a closed engine", w.engine.Run(t.Context()), core.ErrClosed)
}

// What a person gives for a variable is held to its pattern when the session begins, wherever the variable is used.
func TestConnectVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.create(func(in *core.Integration) {
		in.Name = "desk"
		in.Variables = map[string]core.Variable{"subdomain": {}, "region": {Pattern: "eu|us"}, "api": {}}
		in.OAuth2.AuthorizationURL = "https://{subdomain}.example.com/{region}/authorize"
		in.OAuth2.TokenURL = "https://{subdomain}.example.com/token"
		in.OAuth2.Issuer = ""
		in.AllowedHosts = []string{"{api}.example.com"}
	})
	session := w.session("u", core.ConnectInput{Integration: "desk", Browser: "b", Variables: map[string]string{"subdomain": "Acme", "region": "eu", "api": "data"}})
	if !strings.HasPrefix(session.URL, "https://acme.example.com/eu/authorize?") {
		t.Errorf("URL = %s, want it expanded", session.URL)
	}
	for _, tt := range []struct {
		name  string
		vars  map[string]string
		field string
	}{
		{"none", nil, "variables.subdomain"},
		{"one is missing", map[string]string{"subdomain": "acme"}, "variables.region"},
		{"one is empty", map[string]string{"subdomain": "", "region": "eu"}, "variables.subdomain"},
		{"another pattern", map[string]string{"subdomain": "acme", "region": "de"}, "variables.region"},
		{"part of a pattern", map[string]string{"subdomain": "acme", "region": "eux"}, "variables.region"},
		{"one that only hosts use", map[string]string{"subdomain": "acme", "region": "eu", "api": "evil.com#"}, "variables.api"},
		{"one that only hosts use, not in UTF-8", map[string]string{"subdomain": "acme", "region": "eu", "api": "a\xff"}, "variables.api"},
		{"unknown", map[string]string{"subdomain": "acme", "region": "eu", "tenant": "x"}, "variables.tenant"},
		{"other case", map[string]string{"Subdomain": "acme", "region": "eu"}, "variables.Subdomain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.engine.User("u").Connect(t.Context(), core.ConnectInput{Integration: "desk", Browser: "b", Variables: tt.vars})
			w.wantInput("Connect", err, tt.field)
		})
	}

	t.Run("for a key", func(t *testing.T) {
		w.create(func(in *core.Integration) {
			in.Name, in.OAuth2, in.Identity = "deskKeys", nil, core.Identity{}
			in.Variables = map[string]core.Variable{"api": {}}
			in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
			in.AllowedHosts = []string{"{api}.example.com"}
		})
		w.provider.AddKey("canary-key", "ada")
		_, err := w.engine.User("u").AddKey(t.Context(), core.KeyInput{
			Integration: "deskKeys", Key: crypto.NewSecret("canary-key"), Variables: map[string]string{"api": "a/b"},
		})
		w.wantInput("AddKey", err, "variables.api")
	})
}
