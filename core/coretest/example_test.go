package coretest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"time"

	"github.com/polycred/polycred/core/coretest"
	"golang.org/x/oauth2"
)

// An account consents, its token expires, and a refresh brings the next one.
func ExampleOAuthServer() {
	ctx := context.Background()
	clock := coretest.NewClock(time.Time{})
	srv, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{
		Now:      clock.Now,
		Accounts: []coretest.Account{{Subject: "ada", Name: "Ada Lovelace"}},
		Switches: coretest.Switches{Rotate: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	conf := oauth2.Config{
		ClientID:     srv.ClientID(),
		ClientSecret: srv.ClientSecret(),
		RedirectURL:  "http://127.0.0.1:8080/callback",
		Endpoint:     oauth2.Endpoint{AuthURL: srv.AuthorizationURL(), TokenURL: srv.TokenURL()},
	}
	verifier := oauth2.GenerateVerifier()
	begin := conf.AuthCodeURL("some-state", oauth2.S256ChallengeOption(verifier))
	page, err := coretest.NewBrowser().OpenUntil(ctx, begin, conf.RedirectURL)
	if err != nil {
		log.Fatal(err)
	}
	back, err := url.Parse(page.URL)
	if err != nil {
		log.Fatal(err)
	}
	tok, err := conf.Exchange(ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("state:", back.Query().Get("state"))

	clock.Advance(2 * time.Hour)
	next, err := conf.TokenSource(ctx, &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("rotated:", next.RefreshToken != tok.RefreshToken)
	fmt.Printf("calls: %+v\n", srv.Calls())
	// Output:
	// state: some-state
	// rotated: true
	// calls: {Authorize:1 Exchange:1 Refresh:1 UserInfo:0 Revoke:0 API:0 Waiting:0}
}

// The provider rotates refresh tokens, and its answer to a refresh is lost on the way: the token that the client still
// holds is spent.
func ExampleOAuthServer_Set() {
	ctx := context.Background()
	srv, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{
		Accounts: []coretest.Account{{Subject: "ada"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	conf, tok := connect(ctx, srv)

	srv.Set(func(sw *coretest.Switches) {
		sw.Rotate = true
		sw.Refresh = coretest.Fault{LostReply: true, Times: 1}
	})
	for range 2 {
		_, err := conf.TokenSource(ctx, &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) {
			fmt.Println("refused:", refused.ErrorCode)
		} else {
			fmt.Println("answered:", err == nil)
		}
	}
	fmt.Println("refreshes:", srv.Calls().Refresh)
	// Output:
	// answered: false
	// refused: invalid_grant
	// refreshes: 2
}

// The server keeps a refresh waiting until the test lets go, so the test decides what happens meanwhile.
func ExampleOAuthServer_WaitForCalls() {
	ctx := context.Background()
	srv, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{
		Accounts: []coretest.Account{{Subject: "ada"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	conf, tok := connect(ctx, srv)

	srv.Set(func(sw *coretest.Switches) { sw.Refresh.Hold = true })
	outcome := make(chan error)
	go func() {
		_, err := conf.TokenSource(ctx, &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
		outcome <- err
	}()
	if err := srv.WaitForCalls(ctx, func(c coretest.Calls) bool { return c.Waiting == 1 }); err != nil {
		log.Fatal(err)
	}
	srv.Revoke("ada") // the person removes the application while the refresh is under way
	srv.Set(func(sw *coretest.Switches) { sw.Refresh.Hold = false })

	var refused *oauth2.RetrieveError
	if errors.As(<-outcome, &refused) {
		fmt.Println(refused.ErrorCode)
	}
	// Output: invalid_grant
}

// connect lets whoever is signed in consent, and exchanges the code.
func connect(ctx context.Context, srv *coretest.OAuthServer) (*oauth2.Config, *oauth2.Token) {
	conf := &oauth2.Config{
		ClientID:     srv.ClientID(),
		ClientSecret: srv.ClientSecret(),
		RedirectURL:  "http://127.0.0.1:8080/callback",
		Endpoint: oauth2.Endpoint{
			AuthURL: srv.AuthorizationURL(), TokenURL: srv.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader,
		},
	}
	verifier := oauth2.GenerateVerifier()
	page, err := coretest.NewBrowser().OpenUntil(ctx,
		conf.AuthCodeURL("some-state", oauth2.S256ChallengeOption(verifier)), conf.RedirectURL)
	if err != nil {
		log.Fatal(err)
	}
	back, err := url.Parse(page.URL)
	if err != nil {
		log.Fatal(err)
	}
	tok, err := conf.Exchange(ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		log.Fatal(err)
	}
	return conf, tok
}

// The clock moves only by hand, and whoever is given its Now lives by it.
func ExampleClock() {
	clock := coretest.NewClock(time.Time{})
	fmt.Println(clock.Now())
	clock.Advance(90 * time.Minute)
	fmt.Println(clock.Now())
	// Output:
	// 2026-01-01 00:00:00 +0000 UTC
	// 2026-01-01 01:30:00 +0000 UTC
}

// A browser follows redirects, and stops in front of an address that nobody serves in this test.
func ExampleBrowser() {
	ctx := context.Background()
	srv, err := coretest.NewOAuthServer(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	const callback = "http://127.0.0.1:1/callback"
	browser := coretest.NewBrowser()
	page, err := browser.OpenUntil(ctx, srv.APIURL()+"/redirect?to="+url.QueryEscape(callback+"?code=c-1"), callback)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stopped at", page.URL)

	page, err = browser.Open(ctx, srv.APIURL()+"/status/418")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("answered", page.Status)
	// Output:
	// stopped at http://127.0.0.1:1/callback?code=c-1
	// answered 418
}
