package core_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"path/filepath"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
)

// demo opens an engine in memory with a demo provider as integration demoCalendar. A real program uses storage/badger,
// keeps its key in a file or a KMS, and names a real provider.
func demo() (engine *core.Engine, provider *coretest.OAuthServer, end func()) {
	provider, err := coretest.NewOAuthServer(nil)
	check(err)
	provider.AddAccount(coretest.Account{Subject: "1", Name: "work@example.com"})
	provider.AddAccount(coretest.Account{Subject: "2", Name: "private@example.com"})
	kek, err := crypto.NewKEK()
	check(err)
	engine, err = core.Open(context.Background(), memory.New(), crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{
		CallbackURL:  "http://localhost:8080/callback",
		RedirectURLs: []string{"http://localhost:8080/connected"},
		PrivateHosts: []string{provider.Host()},
	})
	check(err)
	_, err = engine.CreateIntegration(context.Background(), provider.Integration("demoCalendar"))
	check(err)
	return engine, provider, func() {
		check(engine.Close())
		provider.Close()
	}
}

// browse plays the person's browser: it goes to the provider, consents, and comes back to the program.
func browse(session *core.ConnectSession) url.Values {
	page, err := coretest.NewBrowser().OpenUntil(context.Background(), session.URL, "http://localhost:8080/")
	check(err)
	back, err := url.Parse(page.URL)
	check(err)
	return back.Query()
}

func connect(engine *core.Engine, in core.ConnectInput) core.Credential {
	return connectAs(engine, engine.User("acme"), in)
}

func connectAs(engine *core.Engine, user *core.User, in core.ConnectInput) core.Credential {
	in.Integration, in.Browser = cmp.Or(in.Integration, "demoCalendar"), "id of the login session"
	session, err := user.Connect(context.Background(), in)
	check(err)
	result, err := engine.Callback(context.Background(), core.CallbackInput{
		Integration: in.Integration, Values: browse(session), Browser: in.Browser,
	})
	check(err)
	return result.Credential
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A program opens its store and its key, and the engine on them. The key is made once, and lies outside the store.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example-")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	kek, err := crypto.CreateKEK(filepath.Join(dir, "app.kek")) // later: crypto.OpenKEK
	check(err)
	store, err := badger.Open(filepath.Join(dir, "app.store"), nil)
	check(err)
	engine, err := core.Open(context.Background(), store, crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{
		CallbackURL: "https://app.example.com/callback",
	})
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	background := make(chan error)
	go func() { background <- engine.Run(ctx) }()

	// … the program works, and then ends what it began, in this order.
	stop()
	fmt.Println(<-background, engine.Close(), store.Close())
	// Output: <nil> <nil> <nil>
}

// An integration is declared once; declaring it again is ErrExists, so that a program may do it at every start. What
// stands in the catalog about its provider need not be repeated.
func ExampleEngine_CreateIntegration() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()
	google := core.Integration{
		Name: "googleCalendar", Provider: "google",
		OAuth2: &core.OAuth2{
			ClientID: "id", ClientSecret: crypto.NewSecret("secret"),
			Scopes: []string{"https://www.googleapis.com/auth/calendar.readonly"},
		},
	}
	for range 2 {
		_, err := engine.CreateIntegration(ctx, google)
		fmt.Println(err == nil, errors.Is(err, core.ErrExists))
	}

	// A change names the revision that it is based on, and a client secret is replaced without a pause.
	in, err := engine.Integration(ctx, "googleCalendar")
	check(err)
	in.DisplayName = "Google Calendar"
	in, err = engine.UpdateIntegration(ctx, in)
	check(err)
	check(engine.SetClientSecret(ctx, in.Name, crypto.NewSecret("the new one"), crypto.NewSecret("secret")))
	fmt.Println(in.DisplayName)
	check(engine.DeleteIntegration(ctx, in.Name))
	// Output:
	// true false
	// false true
	// Google Calendar
}

// A person connects an account: the program sends the browser to the session's URL, and hands what comes back to
// Callback.
func ExampleUser_Connect() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()

	session, err := engine.User("acme").Connect(ctx, core.ConnectInput{
		Integration: "demoCalendar", ExternalID: "work", Browser: "id of the login session",
	})
	check(err)

	// … the browser goes to session.URL and comes back to http://localhost:8080/callback/demoCalendar?code=…
	result, err := engine.Callback(ctx, core.CallbackInput{
		Integration: "demoCalendar", Values: browse(session), Browser: "id of the login session",
	})
	check(err)
	fmt.Println(result.User, result.Credential.ExternalID, result.Credential.Account.Display, result.Credential.Status)
	// Output: acme work work@example.com VALID
}

// A handle lets one part of a program decide what is connected, and another, which sees the browser, begin.
func ExampleEngine_BeginConnect() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()

	session, err := engine.User("acme").Connect(ctx, core.ConnectInput{Integration: "demoCalendar"})
	check(err)
	fmt.Println("has a URL before it is begun:", session.URL != "")
	session, err = engine.BeginConnect(ctx, session.Handle, "a cookie of this browser")
	check(err)
	fmt.Println("has a URL afterwards:", session.URL != "")
	_, err = engine.BeginConnect(ctx, session.Handle, "a cookie of another browser")
	fmt.Println(core.Message(err))
	// Output:
	// has a URL before it is begun: false
	// has a URL afterwards: true
	// This link was opened in another browser than the one that began. Start again in this browser.
}

// The client acts as exactly one account.
func ExampleUser_Client() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	connect(engine, core.ConnectInput{ExternalID: "work"})
	provider.SignIn("2")
	connect(engine, core.ConnectInput{ExternalID: "private", AllowMultiple: true})

	for _, name := range []string{"work", "private"} {
		client, err := engine.User("acme").Client(ctx, core.Selector{Integration: "demoCalendar", Credential: name})
		check(err)
		resp, err := client.Get(provider.APIURL() + "/me")
		check(err)
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		check(errors.Join(err, resp.Body.Close()))
		fmt.Printf("%s: %s", name, body)
	}
	// Output:
	// work: {"account":"work@example.com","subject":"1","tenant":""}
	// private: {"account":"private@example.com","subject":"2","tenant":""}
}

// A call that names no account is answered only when there is no doubt which one is meant.
func ExampleUser_Token() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	acme, calendar := engine.User("acme"), core.Selector{Integration: "demoCalendar"}

	connect(engine, core.ConnectInput{ExternalID: "work"})
	token, err := acme.Token(ctx, calendar)
	fmt.Println(token.Value, token.Type, err)

	provider.SignIn("2")
	connect(engine, core.ConnectInput{ExternalID: "private", AllowMultiple: true})
	_, err = acme.Token(ctx, calendar)
	var ambiguous *core.AmbiguousError
	if errors.As(err, &ambiguous) {
		for _, candidate := range ambiguous.Candidates {
			fmt.Println("could be", candidate.ExternalID)
		}
	}
	// Output:
	// [secret] Bearer <nil>
	// could be work
	// could be private
}

// Libraries that take an oauth2.TokenSource get one that is bound to one account and keeps itself fresh.
func ExampleUser_TokenSource() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()
	connect(engine, core.ConnectInput{ExternalID: "work"})

	source, err := engine.User("acme").TokenSource(ctx, core.Selector{Integration: "demoCalendar", Credential: "work"})
	check(err)
	token, err := source.Token()
	check(err)
	fmt.Println(token.Type(), token.Valid(), token.RefreshToken == "")
	// Output: Bearer true true
}

// An account that is connected with a key is tried before it is stored.
func ExampleUser_AddKey() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	provider.AddKey("key-of-work", "1")
	_, err := engine.CreateIntegration(ctx, core.Integration{
		Name:     "demoMail",
		APIKey:   &core.APIKey{In: core.KeyHeader, Name: "X-API-Key", TestURL: provider.APIURL() + "/me"},
		Identity: core.Identity{Source: core.IdentityTest, SubjectPath: "subject", DisplayPath: "account"},
	})
	check(err)

	acme := engine.User("acme")
	_, err = acme.AddKey(ctx, core.KeyInput{Integration: "demoMail", Key: crypto.NewSecret("a typing error")})
	fmt.Println(core.Message(err))
	credential, err := acme.AddKey(ctx, core.KeyInput{Integration: "demoMail", Key: crypto.NewSecret("key-of-work")})
	check(err)
	fmt.Println(credential.Account.Display)
	// Output:
	// The provider does not accept this key. Check the key and try again.
	// work@example.com
}

func ExampleUser_Credentials() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	connect(engine, core.ConnectInput{ExternalID: "work"})
	provider.SignIn("2")
	connect(engine, core.ConnectInput{ExternalID: "private", AllowMultiple: true})

	list := core.ListInput{Integration: "demoCalendar", Limit: 1}
	for {
		page, err := engine.User("acme").Credentials(ctx, list)
		check(err)
		for _, c := range page.Credentials {
			fmt.Println(c.ExternalID, c.Account.Display, c.Status)
		}
		if list.After = page.Next; list.After == "" {
			break
		}
	}
	// Output:
	// work work@example.com VALID
	// private private@example.com VALID
}

// What a person reads is never the error itself.
func ExampleMessage() {
	engine, _, end := demo()
	defer end()
	_, err := engine.Callback(context.Background(), core.CallbackInput{
		Integration: "demoCalendar", Values: url.Values{"state": {"x"}, "code": {"y"}}, Browser: "z",
	})
	fmt.Println(core.Message(err))
	// Output: This attempt to connect cannot be finished. Start again.
}
