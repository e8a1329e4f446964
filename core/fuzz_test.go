package core_test

import (
	"errors"
	"log/slog"
	"net/url"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
)

// fuzzEngine is an engine with one integration and a session that waits for its callback.
func fuzzEngine(f *testing.F) *core.Engine {
	f.Helper()
	engine := coretest.NewEngine(f, &core.Options{
		CallbackURL: "https://app.example.com/callback", Logger: slog.New(slog.DiscardHandler),
	})
	if _, err := engine.CreateIntegration(f.Context(), plainIntegration()); err != nil {
		f.Fatal(err)
	}
	_, err := engine.User("u").Connect(f.Context(), core.ConnectInput{Integration: "acme", Browser: "b"})
	if err != nil {
		f.Fatal(err)
	}
	return engine
}

// FuzzCallback sends whatever a browser may send: without the state, nothing is accepted and nothing is asked.
func FuzzCallback(f *testing.F) {
	engine := fuzzEngine(f)
	f.Add("state=x&code=y", "acme", "b")
	f.Add("state=x&state=y", "acme", "b")
	f.Add("error=access_denied&state=%00", "..", "")
	f.Add("%zz", "acme", "b")
	f.Fuzz(func(t *testing.T, query, integration, browser string) {
		values, _ := url.ParseQuery(query)
		result, err := engine.Callback(t.Context(), core.CallbackInput{Integration: integration, Values: values, Browser: browser})
		if result != nil || (!errors.Is(err, core.ErrSession) && !errors.Is(err, core.ErrInvalid)) {
			t.Errorf("Callback(%q) = %+v, %v, want nothing and %v or %v", query, result, err, core.ErrSession, core.ErrInvalid)
		}
		if _, err := engine.BeginConnect(t.Context(), query, browser); !errors.Is(err, core.ErrSession) && !errors.Is(err, core.ErrInvalid) {
			t.Errorf("BeginConnect(%q) = %v, want %v or %v", query, err, core.ErrSession, core.ErrInvalid)
		}
	})
}

// FuzzSelector names users, integrations, accounts and pages in any bytes: where nobody connected anything, nothing is
// found, and whatever is malformed says so.
func FuzzSelector(f *testing.F) {
	engine := fuzzEngine(f)
	f.Add("u", "acme", "work", "")
	f.Add("u", "acme", "ext:01a203eb-3384-7e3b-82c8-3fdb75c2d558", "x")
	f.Add("u", "", "01A203EB-3384-7E3B-82C8-3FDB75C2D558", "01a203eb-3384-7e3b-82c8-3fdb75c2d558")
	f.Add("\xff", "a/b", "ext:", "")
	f.Add("a\x00b", "acme", "\x00", "{01a203eb-3384-7e3b-82c8-3fdb75c2d558}")
	f.Fuzz(func(t *testing.T, user, integration, credential, after string) {
		u, sel := engine.User(user), core.Selector{Integration: integration, Credential: credential}
		for what, call := range map[string]func() error{
			"Token":      func() error { _, err := u.Token(t.Context(), sel); return err },
			"Client":     func() error { _, err := u.Client(t.Context(), sel); return err },
			"Disconnect": func() error { return u.Disconnect(t.Context(), sel) },
			"Into": func() error {
				_, err := u.Connect(t.Context(), core.ConnectInput{Integration: "acme", Into: credential + "?"})
				return err
			},
		} {
			err := call()
			if !errors.Is(err, core.ErrInvalid) && !errors.Is(err, core.ErrNotFound) && !errors.Is(err, core.ErrNotConnected) {
				t.Errorf("%s of %q at %q = %v, want a typed error", what, user, sel, err)
			}
			if errors.Is(err, storage.ErrInvalid) || errors.Is(err, storage.ErrTooLarge) {
				t.Errorf("%s of %q at %q = %v, want the input to be refused before the store is asked", what, user, sel, err)
			}
		}
		page, err := u.Credentials(t.Context(), core.ListInput{Integration: integration, After: after})
		if len(page.Credentials) > 0 || (err != nil && !errors.Is(err, core.ErrInvalid) && !errors.Is(err, core.ErrNotFound)) {
			t.Errorf("Credentials(%q, %q, %q) = %v, %v, want nothing, or a typed error", user, integration, after, page, err)
		}
	})
}
