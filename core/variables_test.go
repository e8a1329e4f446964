package core_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
)

// An account that is authorised anew stays at its own site: only a new one is sent to the default's.
func TestVariablesOfReconnects(t *testing.T) {
	t.Parallel()
	p := newPeer(t, http.NotFound)
	w := newPeerWorld(t, nil, p)
	in := w.join(p, func(in *core.Integration) {
		in.Variables = map[string]core.Variable{"site": {Default: "login"}}
		in.OAuth2.AuthorizationURL = "https://{site}.example.com/authorize"
	})
	site := func(in core.ConnectInput) (string, core.CallbackInput, error) {
		t.Helper()
		in.Integration, in.Browser = "peer", "b"
		session, err := w.engine.User("u").Connect(t.Context(), in)
		if err != nil {
			return "", core.CallbackInput{}, w.note(err)
		}
		at, err := url.Parse(session.URL)
		if err != nil {
			t.Fatal(err)
		}
		return at.Host, core.CallbackInput{Integration: "peer", Browser: "b", Values: url.Values{"state": {at.Query().Get("state")}, "code": {"a"}}}, nil
	}
	wantSite := func(what, want string, in core.ConnectInput) core.CallbackInput {
		t.Helper()
		got, callback, err := site(in)
		if err != nil || got != want {
			t.Errorf("%s: Connect() goes to %s, %v, want %s", what, got, err, want)
		}
		return callback
	}
	given := func(value string) map[string]string { return map[string]string{"site": value} }

	wantSite("a new account", "login.example.com", core.ConnectInput{})
	result, err := w.finish(wantSite("a new account with a site", "test.example.com", core.ConnectInput{Variables: given("test")}))
	if err != nil {
		t.Fatal(err)
	}
	id := result.Credential.ID
	again, err := w.finish(wantSite("into", "test.example.com", core.ConnectInput{Into: id}))
	if err != nil || again.Credential.ID != id {
		t.Errorf("Callback() into it = %+v, %v, want %s", again, err, id)
	}
	wantSite("into, a second time", "test.example.com", core.ConnectInput{Into: id})
	wantSite("into with a site", "other.example.com", core.ConnectInput{Into: id, Variables: given("other")})
	wantSite("an account beside it", "login.example.com", core.ConnectInput{AllowMultiple: true})

	p.set(func() {
		p.refresh = func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = rw.Write([]byte(`{"error":"invalid_grant"}`))
			return true
		}
	})
	w.clock.Advance(24 * time.Hour)
	_, err = w.engine.User("u").Token(t.Context(), core.Selector{Credential: id})
	w.wantErr("a refresh that is refused", err, core.ErrReconnect)
	wantSite("the one that ended, reconnected in place", "test.example.com", core.ConnectInput{})

	// A value that the integration does not accept any more is said, and not replaced by another site's.
	if in, err = w.engine.Integration(t.Context(), in.Name); err != nil {
		t.Fatal(err)
	}
	in.Variables["site"] = core.Variable{Pattern: "login|eu", Default: "login"}
	if _, err = w.engine.UpdateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	_, _, err = site(core.ConnectInput{Into: id})
	w.wantInput("into with a kept value that does not match", err, "variables.site")
	wantSite("into with one that does", "eu.example.com", core.ConnectInput{Into: id, Variables: given("eu")})
}

func TestVariablesOfKeys(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, func(in *core.Integration) {
		in.APIKey.TestURL = in.APIKey.TestURL[:len(in.APIKey.TestURL)-len("me")] + "{who}"
		in.Variables = map[string]core.Variable{"who": {Default: "nobody"}}
	})
	_, err := w.putKey("u", "ada", core.KeyInput{})
	w.wantErr("the default, at which nothing is", err, core.ErrProvider)
	ada, err := w.putKey("u", "ada", core.KeyInput{Variables: map[string]string{"who": "me"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.putKey("u", "ada", core.KeyInput{Into: ada.ID, Key: crypto.NewSecret("canary-key-ada")})
	if err != nil || again.ID != ada.ID {
		t.Errorf("AddKey() into it without variables = %+v, %v, want its own kept", again, err)
	}
}

// A variable that came after an account was connected has its default there.
func TestVariableAddedLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	path := pathOf(t, w.provider.TokenURL())
	w.change(func(in *core.Integration) {
		in.Variables = map[string]core.Variable{"path": {Default: path[1:]}}
		in.OAuth2.TokenURL = w.provider.URL() + "/{path}"
	})
	w.clock.Advance(2 * time.Hour)
	w.mustToken("u", ada.ID)
	w.wantRefreshes("at the default", 1)
}
