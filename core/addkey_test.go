package core_test

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

const keys = "keys"

// keyWorld is a world whose provider also has API keys, as integration keys; ada's is canary-key-ada.
func keyWorld(t *testing.T, change func(*core.Integration)) *world {
	t.Helper()
	w := newWorld(t, nil, nil)
	w.create(func(in *core.Integration) {
		in.Name, in.OAuth2 = keys, nil
		in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
		in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject", TenantPath: "tenant", DisplayPath: "account", TenantOptional: true}
		if change != nil {
			change(in)
		}
	})
	for _, login := range []string{"ada", "bob", "cyd"} {
		w.provider.AddKey("canary-key-"+login, login)
	}
	return w
}

// putKey connects with a login's key.
func (w *world) putKey(user, login string, in core.KeyInput) (core.Credential, error) {
	w.Helper()
	if in.Integration == "" {
		in.Integration = keys
	}
	if in.Key.IsZero() {
		in.Key = crypto.NewSecret("canary-key-" + login)
	}
	credential, err := w.engine.User(user).AddKey(w.Context(), in)
	return credential, w.note(err)
}

// keyed are a user's accounts with keys.
func (w *world) keyed(user string) []core.Credential {
	w.Helper()
	page, err := w.engine.User(user).Credentials(w.Context(), core.ListInput{Integration: keys})
	if err != nil {
		w.Fatal(err)
	}
	return page.Credentials
}

func TestAddKeyPlacements(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		key  core.APIKey
		want func(coretest.Request) string // where the key has to be
	}{
		{"default", core.APIKey{}, func(r coretest.Request) string {
			return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		}},
		{"bearer", core.APIKey{In: core.KeyBearer}, func(r coretest.Request) string {
			return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		}},
		{"header", core.APIKey{In: core.KeyHeader, Name: "X-API-Key"}, func(r coretest.Request) string { return r.Header.Get("X-Api-Key") }},
		{"header with prefix", core.APIKey{In: core.KeyHeader, Name: "authorization", Prefix: "bearer "}, func(r coretest.Request) string {
			return strings.TrimPrefix(r.Header.Get("Authorization"), "bearer ")
		}},
		{"query", core.APIKey{In: core.KeyQuery, Name: "api_key"}, func(r coretest.Request) string { return r.Form.Get("api_key") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := keyWorld(t, func(in *core.Integration) {
				tt.key.TestURL = in.APIKey.TestURL
				in.APIKey = &tt.key
			})
			const key = "canary-key &=+%/#é"
			plain := strings.TrimSuffix(key, "é") // only ASCII can go into a header
			w.provider.AddKey(plain, "ada")
			got, err := w.putKey("u", "ada", core.KeyInput{Key: crypto.NewSecret(" \n" + plain + "\t"), ExternalID: "work"})
			if err != nil {
				t.Fatal(err)
			}
			want := core.ProviderAccount{Issuer: w.provider.Host(), Subject: "ada", Display: "ada@example.com"}
			if got.Account != want || got.Status != core.StatusValid || got.ExternalID != "work" || got.User != "u" || got.Integration != keys || !got.ValidUntil.IsZero() {
				t.Errorf("AddKey() = %+v, want a valid credential of %+v without end", got, want)
			}
			request, _ := w.provider.Last(coretest.EndpointAPI)
			if tt.want(request) != plain || request.Method != http.MethodGet {
				t.Errorf("the test call was %s %s with %v, want the key in its place", request.Method, request.URL, request.Header)
			}
			if inURL := strings.Contains(request.URL, "canary"); inURL != (tt.key.In == core.KeyQuery) {
				t.Errorf("the key is in the URL: %v", inURL)
			}
			if (request.Header.Get("Authorization") != "") != (tt.key.In != core.KeyQuery && tt.key.Name != "X-API-Key") {
				t.Errorf("Authorization = %q", request.Header.Get("Authorization"))
			}
			token, err := w.engine.User("u").Token(t.Context(), core.Selector{Integration: keys, Credential: "work"})
			if err != nil || token.Value.Reveal() != plain || !token.ValidUntil.IsZero() {
				t.Errorf("Token() = %+v, %v, want the key", token, err)
			}
			w.wantSealed(map[string]string{"the key": plain, "the label": "ext:work", "the account": "ada@example.com"})

			// Rejected, at each place.
			_, err = w.putKey("v", "nobody", core.KeyInput{})
			w.wantErr("an unknown key", err, core.ErrKeyRejected)
		})
	}
}

func TestAddKeyRefuses(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, nil)
	before, items := w.provider.Calls().API, len(w.items())
	for _, tt := range []struct {
		name, user string
		in         core.KeyInput
		field      string
		want       error
	}{
		{name: "empty", user: "u", in: core.KeyInput{Key: crypto.NewSecret("")}, field: "key"},
		{name: "only spaces", user: "u", in: core.KeyInput{Key: crypto.NewSecret(" \n\t ")}, field: "key"},
		{name: "too long", user: "u", in: core.KeyInput{Key: crypto.NewSecret(strings.Repeat("canary-", 5000))}, field: "key"},
		{name: "newline", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canary\r\nX-Evil: 1")}, field: "key"},
		{name: "NUL", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canary\x00")}, field: "key"},
		{name: "umlaut", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canäry")}, field: "key"},
		{name: "not in UTF-8", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canary\xff")}, field: "key"},
		{name: "DEL", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canary\x7f")}, field: "key"},
		{name: "soft hyphen", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canary\u00ad")}, field: "key"},
		{name: "no user", in: core.KeyInput{Key: crypto.NewSecret("canary")}, field: "user"},
		{name: "unknown integration", user: "u", in: core.KeyInput{Integration: "nobody", Key: crypto.NewSecret("canary")}, want: core.ErrNotFound},
		{name: "integration with OAuth", user: "u", in: core.KeyInput{Integration: calendar, Key: crypto.NewSecret("canary")}, field: "integration"},
		{name: "unknown variable", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canary"), Variables: map[string]string{"x": "y"}}, field: "variables.x"},
		{name: "into and external id", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canary"), Into: "a", ExternalID: "b"}, field: "externalId"},
		{name: "into nobody", user: "u", in: core.KeyInput{Key: crypto.NewSecret("canary"), Into: "a"}, want: core.ErrNotFound},
	} {
		if tt.in.Integration == "" {
			tt.in.Integration = keys
		}
		got, err := w.engine.User(tt.user).AddKey(t.Context(), tt.in)
		if tt.field != "" {
			w.wantInput(tt.name, err, tt.field)
		} else {
			w.wantErr(tt.name, err, tt.want)
		}
		if got.ID != "" {
			t.Errorf("%s: credential = %+v, want none", tt.name, got)
		}
	}
	if got := w.provider.Calls().API; got != before {
		t.Errorf("the provider was asked %d times, want not once", got-before)
	}
	if got := len(w.items()); got != items {
		t.Errorf("the store has %d items, want %d as before", got, items)
	}
	if err := w.engine.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := w.putKey("u", "ada", core.KeyInput{})
	w.wantErr("a closed engine", err, core.ErrClosed)
}

func TestAddKeyProviderAnswers(t *testing.T) {
	t.Parallel()
	elsewhere := extraProvider(t, coretest.OAuthServerOptions{})
	w := keyWorld(t, nil)
	plain := w.create(func(in *core.Integration) { // whose accounts are not recognised
		in.Name, in.OAuth2, in.Identity = "plain", nil, core.Identity{}
		in.APIKey = &core.APIKey{In: core.KeyQuery, Name: "api_key", TestURL: w.provider.APIURL() + "/me"}
	}).Name
	transient, permanent := core.FailureTransient, core.FailurePermanent
	for i, tt := range []struct {
		name     string
		fault    coretest.Fault
		rejected bool
		want     core.ProviderError
		accepted bool // where no identity is needed
	}{
		{name: "401", fault: jsonAnswer(401, "canary"), rejected: true},
		{name: "403", fault: jsonAnswer(403, `{"error":"canary"}`), rejected: true},
		{name: "400", fault: jsonAnswer(400, `canary`), want: core.ProviderError{Class: permanent, Status: 400}},
		{name: "404", fault: jsonAnswer(404, ``), want: core.ProviderError{Class: permanent, Status: 404}},
		{name: "429", fault: jsonAnswer(429, ``), want: core.ProviderError{Class: core.FailureRateLimited, Status: 429}},
		{name: "500", fault: jsonAnswer(500, `canary`), want: core.ProviderError{Class: transient, Status: 500}},
		{name: "redirect", fault: coretest.Fault{Garbage: &coretest.Garbage{Status: 302, Header: map[string]string{"Location": elsewhere.APIURL() + "/me?canary"}}}, want: core.ProviderError{Class: transient, Status: 302}},
		{name: "huge", fault: coretest.Fault{Garbage: &coretest.Garbage{Body: "canary", Size: 2 << 20}}, want: core.ProviderError{Class: transient}},
		{name: "cut", fault: coretest.Fault{Garbage: &coretest.Garbage{Header: map[string]string{"Content-Length": "100"}, Body: "canary"}}, want: core.ProviderError{Class: transient}},
		{name: "HTML", fault: coretest.Fault{Garbage: &coretest.Garbage{Body: "<b>canary"}}, want: core.ProviderError{Class: transient, Status: 200}, accepted: true},
		{name: "empty", fault: jsonAnswer(200, ``), want: core.ProviderError{Class: transient, Status: 200}, accepted: true},
		{name: "204", fault: jsonAnswer(204, ``), want: core.ProviderError{Class: transient, Status: 204}, accepted: true},
		{name: "list", fault: jsonAnswer(200, `["canary"]`), want: core.ProviderError{Class: transient, Status: 200}, accepted: true},
		{name: "no subject", fault: jsonAnswer(200, `{"account":"canary"}`), want: core.ProviderError{Op: "identity", Class: permanent}, accepted: true},
	} {
		user := "u" + strconv.Itoa(i)
		w.provider.Set(func(sw *coretest.Switches) { sw.API = tt.fault })
		_, err := w.putKey(user, "ada", core.KeyInput{})
		_, plainErr := w.putKey(user, "ada", core.KeyInput{Integration: plain})
		w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{} })
		if tt.rejected {
			w.wantErr(tt.name, err, core.ErrKeyRejected)
			w.wantErr(tt.name, plainErr, core.ErrKeyRejected)
			if got, want := core.Message(err), core.Message(core.ErrKeyRejected); got != want {
				t.Errorf("%s: Message() = %q, want %q", tt.name, got, want)
			}
		} else {
			var failed *core.ProviderError
			op := "test"
			if tt.want.Op != "" {
				op = tt.want.Op
			}
			if !errors.As(err, &failed) || failed.Op != op || failed.Class != tt.want.Class || failed.Status != tt.want.Status || failed.Code != "" {
				t.Errorf("%s: error %v, want op %s, class %s, status %d", tt.name, err, op, tt.want.Class, tt.want.Status)
			}
			if tt.accepted != (plainErr == nil) {
				t.Errorf("%s, where no identity is needed: error %v, want accepted: %v", tt.name, plainErr, tt.accepted)
			}
		}
		if got := w.keyed(user); len(got) != 0 {
			t.Errorf("%s: accounts = %v, want none", tt.name, got)
		}
		if _, err := w.putKey(user, "ada", core.KeyInput{}); err != nil {
			t.Errorf("%s: afterwards: %v", tt.name, err)
		}
	}
	if got := elsewhere.Calls(); got != (coretest.Calls{}) {
		t.Errorf("the other provider got %+v, want nothing", got)
	}

	t.Run("unreachable", func(t *testing.T) {
		w := keyWorld(t, func(in *core.Integration) { in.APIKey.In, in.APIKey.Name = core.KeyQuery, "api_key" })
		w.provider.Close()
		_, err := w.putKey("u", "ada", core.KeyInput{})
		w.wantErr("a provider that is down", err, core.ErrProvider)
	})
	t.Run("a host that is private", func(t *testing.T) {
		w := keyWorld(t, func(in *core.Integration) {
			in.APIKey = &core.APIKey{In: core.KeyQuery, Name: "k", TestURL: "https://127.0.0.1:1/me"}
		})
		_, err := w.putKey("u", "ada", core.KeyInput{})
		w.wantErr("a private host", err, core.ErrProvider)
	})
}

func TestAddKeyIdentityFromURL(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, func(in *core.Integration) {
		in.Identity = core.Identity{Source: core.IdentityURL, URL: strings.TrimSuffix(in.APIKey.TestURL, "/me") + "/me", SubjectPath: "subject"}
		in.APIKey.TestURL = strings.TrimSuffix(in.APIKey.TestURL, "/me") + "/echo"
	})
	before := w.provider.Calls().API
	got, err := w.putKey("u", "ada", core.KeyInput{})
	if err != nil || got.Account.Subject != "ada" {
		t.Errorf("AddKey() = %+v, %v, want ada's", got, err)
	}
	if calls := w.provider.Calls().API - before; calls != 2 {
		t.Errorf("the provider was asked %d times, want 2: test and identity", calls)
	}
	// The test call accepts anything; who it is says the other.
	_, err = w.putKey("v", "nobody", core.KeyInput{})
	var failed *core.ProviderError
	if !errors.As(err, &failed) || failed.Op != "identity" || failed.Status != 401 || len(w.keyed("v")) != 0 {
		t.Errorf("AddKey of a stranger = %v, want a ProviderError of the identity", err)
	}
}

func TestAddKeyRules(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, nil)
	first, err := w.putKey("u", "ada", core.KeyInput{ExternalID: " ext:work "})
	if err != nil || first.ExternalID != "work" {
		t.Fatalf("AddKey() = %+v, %v", first, err)
	}
	before := w.provider.Calls().API
	_, err = w.putKey("u", "bob", core.KeyInput{})
	w.wantErr("rule 1", err, core.ErrAlreadyConnected)
	_, err = w.putKey("u", "bob", core.KeyInput{AllowMultiple: true, ExternalID: "work"})
	w.wantErr("rule 5", err, core.ErrExternalID)
	if got := w.provider.Calls().API; got != before {
		t.Errorf("the provider was asked %d times about keys that the rules refuse, want not once", got-before)
	}
	second, err := w.putKey("u", "bob", core.KeyInput{AllowMultiple: true})
	if err != nil || second.ID == first.ID {
		t.Fatalf("rule 2: %+v, %v, want another credential", second, err)
	}

	// Rule 3: a new key of the same account, and one of another account.
	w.provider.AddKey("canary-key-ada-2", "ada")
	into, err := w.putKey("u", "", core.KeyInput{Into: "work", Key: crypto.NewSecret("canary-key-ada-2")})
	if err != nil || into.ID != first.ID || into.ExternalID != "work" {
		t.Errorf("rule 3 = %+v, %v, want %s in place", into, err, first.ID)
	}
	token, err := w.engine.User("u").Token(t.Context(), core.Selector{Credential: first.ID})
	if err != nil || token.Value.Reveal() != "canary-key-ada-2" {
		t.Errorf("Token() = %v, want the new key", err)
	}
	for _, login := range []string{"bob", "cyd"} {
		_, err = w.putKey("u", login, core.KeyInput{Into: first.ID})
		w.wantErr("rule 3 with the key of "+login, err, core.ErrAccountMismatch)
	}
	_, err = w.putKey("v", "ada", core.KeyInput{Into: first.ID})
	w.wantErr("into another user's credential", err, core.ErrNotFound)

	// Rule 4: the same account again.
	again, err := w.putKey("u", "ada", core.KeyInput{AllowMultiple: true})
	if err != nil || again.ID != first.ID {
		t.Errorf("rule 4 = %+v, %v, want %s", again, err, first.ID)
	}
	_, err = w.putKey("u", "ada", core.KeyInput{AllowMultiple: true, ExternalID: "home"})
	w.wantErr("rule 4 with another label", err, core.ErrExternalID)
	if got := w.keyed("u"); len(got) != 2 {
		t.Errorf("accounts = %v, want two", got)
	}
	in, err := w.engine.Integration(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	in.SameAccount = core.SameAccountReject
	if _, err := w.engine.UpdateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	_, err = w.putKey("u", "ada", core.KeyInput{AllowMultiple: true})
	w.wantErr("rule 4, reject", err, core.ErrAccountConnected)

	t.Run("claimed once by 64 at once", func(t *testing.T) {
		w := keyWorld(t, nil)
		ids := w.race(64, func(int) (core.Credential, error) { return w.putKey("u", "ada", core.KeyInput{AllowMultiple: true}) })
		if len(ids) != 1 || len(w.keyed("u")) != 1 {
			t.Errorf("64 keys of one account made %d credentials, %d are listed, want 1", len(ids), len(w.keyed("u")))
		}
	})
	t.Run("one of 64 accounts wins", func(t *testing.T) { // rule 1 at the commit
		w := keyWorld(t, nil)
		for i := range 64 {
			w.provider.AddKey("canary-key-"+strconv.Itoa(i), strconv.Itoa(i))
		}
		ids := w.race(64, func(i int) (core.Credential, error) { return w.putKey("u", strconv.Itoa(i), core.KeyInput{}) })
		if len(ids) != 1 || len(w.keyed("u")) != 1 {
			t.Errorf("64 accounts at once made %d credentials, %d are listed, want 1", len(ids), len(w.keyed("u")))
		}
	})
}
