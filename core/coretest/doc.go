// Package coretest is what tests and demonstrations of polycred stand on: parties that really speak HTTP, on loopback,
// with a clock that a test moves by hand. A program that embeds polycred uses it in its own tests.
//
//   - [OAuthServer] is a small OAuth 2.0 and OpenID Connect provider with an API behind it. Who consents is said by
//     [OAuthServer.SignIn]; how it differs from other providers, and how it fails, by [Switches] and [Fault].
//   - [Browser] is what a person holds: cookies, and redirects that are followed.
//   - [Clock] is the time, for the engine and the server alike.
//
// Only [NewEngine] needs a testing.TB: an example program can use the server as its demo provider. Nothing here is
// meant to be reached from another machine, and nothing sleeps: a test that must know that a request is under way
// asks [OAuthServer.WaitForCalls], and one that must keep it there sets [Fault.Hold].
//
// An account is connected like this:
//
//	clock := coretest.NewClock(time.Time{})
//	srv, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{Now: clock.Now})
//	…
//	defer srv.Close()
//	srv.SignIn("ada")
//	page, err := coretest.NewBrowser().OpenUntil(ctx, authorizationURL, callbackURL)
//	…
//	// page.URL carries code, state and iss.
//
// And the provider's answer to the next refresh is lost, after it has rotated the refresh token, like this:
//
//	srv.Set(func(sw *coretest.Switches) {
//		sw.Rotate = true
//		sw.Refresh = coretest.Fault{LostReply: true, Times: 1}
//	})
//
// Codes, access tokens and refresh tokens begin with "code-", "at-" and "rt-". They are worth nothing, and easy to
// find where they must not be.
package coretest
