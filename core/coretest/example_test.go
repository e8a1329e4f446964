package coretest_test

import (
	"context"
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
		Switches: coretest.Switches{Rotate: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	srv.AddAccount(coretest.Account{Subject: "ada", Name: "Ada Lovelace"})

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

func ExampleOAuthServer_Set() {
	srv, err := coretest.NewOAuthServer(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	// The provider rotates refresh tokens, and its next answer to a refresh is lost on the way.
	srv.Set(func(sw *coretest.Switches) {
		sw.Rotate = true
		sw.Refresh = coretest.Fault{LostReply: true, Times: 1}
	})
	fmt.Println(srv.Switches().Refresh.LostReply)
	// Output: true
}
