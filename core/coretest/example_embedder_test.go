package coretest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// What follows is how a program that embeds polycred tests itself. docs/testing.md quotes it; a test compares the two.

// app is the program under test: it asks the provider's API for something, as the account that it is told.
type app struct {
	engine *core.Engine
	api    string
}

func (a *app) sync(ctx context.Context, user, account string) error {
	client, err := a.engine.User(user).Client(ctx, core.Selector{Integration: "demoCalendar", Credential: account})
	if err != nil {
		return err
	}
	resp, err := client.Get(a.api + "/me")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answered %s", resp.Status)
	}
	return nil
}

// world is the program with all that it needs: an engine in memory, a provider, and one clock for both.
type world struct {
	app
	provider *coretest.OAuthServer
	clock    *coretest.Clock
}

func newWorld(t *testing.T) *world {
	t.Helper()
	clock := coretest.NewClock(time.Time{})
	provider, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	engine := coretest.NewEngine(t, &core.Options{
		CallbackURL:  "http://127.0.0.1:8080/callback",
		PrivateHosts: []string{provider.Host()}, // it is on loopback, and speaks plain http
		Now:          clock.Now,
	})
	if _, err := engine.CreateIntegration(t.Context(), provider.Integration("demoCalendar")); err != nil {
		t.Fatal(err)
	}
	return &world{app{engine, provider.APIURL()}, provider, clock}
}

// connect does what the person does: sign in at the provider as login, consent, and come back.
func (w *world) connect(t *testing.T, user, login string, in core.ConnectInput) core.Credential {
	t.Helper()
	in.Integration, in.Browser = "demoCalendar", "the id of the login session"
	session, err := w.engine.User(user).Connect(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	w.provider.SignIn(login)
	page, err := coretest.NewBrowser().OpenUntil(t.Context(), session.URL, "http://127.0.0.1:8080/callback")
	if err != nil {
		t.Fatal(err)
	}
	back, err := url.Parse(page.URL)
	if err != nil {
		t.Fatal(err)
	}
	result, err := w.engine.Callback(t.Context(), core.CallbackInput{
		Integration: in.Integration, Values: back.Query(), Browser: in.Browser,
	})
	if err != nil {
		t.Fatal(err)
	}
	return result.Credential
}

// Two accounts of one user: the program acts through the one that it names, and through none when it names none.
func TestEmbedder_TwoAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect(t, "acme", "ada", core.ConnectInput{ExternalID: "work"})
	w.connect(t, "acme", "bob", core.ConnectInput{ExternalID: "private", AllowMultiple: true})

	if err := w.sync(t.Context(), "acme", "work"); err != nil {
		t.Errorf("sync(work) = %v, want nil", err)
	}
	if err := w.sync(t.Context(), "acme", ""); !errors.Is(err, core.ErrAmbiguous) {
		t.Errorf("sync() = %v, want %v", err, core.ErrAmbiguous)
	}
}

// Tokens of the provider live an hour. Two hours pass in no time, and the next call refreshes.
func TestEmbedder_TokenExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect(t, "acme", "ada", core.ConnectInput{ExternalID: "work"})

	w.clock.Advance(2 * time.Hour)
	if err := w.sync(t.Context(), "acme", "work"); err != nil {
		t.Errorf("sync = %v, want nil", err)
	}
	if got := w.provider.Calls(); got.Refresh != 1 || got.API != 1 {
		t.Errorf("calls = %+v, want one refresh and one request", got)
	}
}

// The provider rotates refresh tokens, and its answer is lost on the way, also when it is asked once more at once. The call
// fails; a moment later the refresh is tried again, and the provider still takes the spent token for a minute, as many do.
func TestEmbedder_LostReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect(t, "acme", "ada", core.ConnectInput{ExternalID: "work"})
	w.provider.Set(func(sw *coretest.Switches) {
		sw.Rotate, sw.GraceWindow = true, time.Minute
		sw.Refresh = coretest.Fault{LostReply: true, Times: 2}
	})

	w.clock.Advance(2 * time.Hour)
	var failed *core.ProviderError
	if err := w.sync(t.Context(), "acme", "work"); !errors.As(err, &failed) || failed.Op != "refresh" {
		t.Fatalf("sync = %v, want a ProviderError of the refresh", err)
	}
	w.clock.Advance(failed.RetryAfter + time.Second)
	if err := w.sync(t.Context(), "acme", "work"); err != nil {
		t.Errorf("sync, after the pause = %v, want nil", err)
	}
}

// The API refuses a token that looked good. The program sees nothing of it: one refresh, and the request once more.
func TestEmbedder_UnauthorizedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect(t, "acme", "ada", core.ConnectInput{ExternalID: "work"})
	w.clock.Advance(2 * time.Minute)
	w.provider.Set(func(sw *coretest.Switches) { sw.Unauthorized = 1 })

	if err := w.sync(t.Context(), "acme", "work"); err != nil {
		t.Errorf("sync = %v, want nil", err)
	}
	if got := w.provider.Calls(); got.Refresh != 1 || got.API != 2 {
		t.Errorf("calls = %+v, want one refresh and two requests", got)
	}
}

// The person removes the application in the provider's own settings: the account has to be connected again, and every
// other one goes on working.
func TestEmbedder_Revoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	work := w.connect(t, "acme", "ada", core.ConnectInput{ExternalID: "work"})
	w.connect(t, "acme", "bob", core.ConnectInput{ExternalID: "private", AllowMultiple: true})

	w.provider.Revoke("ada")
	w.clock.Advance(2 * time.Hour)
	err := w.sync(t.Context(), "acme", "work")
	if !errors.Is(err, core.ErrReconnect) {
		t.Fatalf("sync(work) = %v, want %v", err, core.ErrReconnect)
	}
	if got, want := core.Message(err), "The authorisation of this account has ended. Connect the account again."; got != want {
		t.Errorf("what the person reads = %q, want %q", got, want)
	}
	if err := w.sync(t.Context(), "acme", "private"); err != nil {
		t.Errorf("sync(private) = %v, want nil", err)
	}
	again := w.connect(t, "acme", "ada", core.ConnectInput{Into: "work"})
	if again.ID != work.ID || again.Status != core.StatusValid {
		t.Errorf("connected again: %s, %s, want %s, %s", again.ID, again.Status, work.ID, core.StatusValid)
	}
}

// Events are stored with their cause. Step numbers them, as Engine.Run does in the program, and Subscribe gives them.
func TestEmbedder_Events(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect(t, "acme", "ada", core.ConnectInput{ExternalID: "work"})
	sel := core.Selector{Integration: "demoCalendar", Credential: "work"}
	if err := w.engine.User("acme").As("ada").Disconnect(t.Context(), sel); err != nil {
		t.Fatal(err)
	}

	if err := coretest.Step(w.engine); err != nil {
		t.Fatal(err)
	}
	last, err := w.engine.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for event, err := range w.engine.Subscribe(t.Context(), 0) { // 0: from the oldest; it would wait for more
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s by %s %s", event.Kind, event.Actor.Type, event.Actor.Person))
		if event.Number == last {
			break
		}
	}
	want := []string{
		"integration.created by operator ", "credential.connected by user ", "credential.disconnected by user ada",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events = %q, want %q", got, want)
	}
}
