// Package coretest is what tests and demonstrations of polycred stand on: parties that really speak HTTP, on loopback,
// with a clock that a test moves by hand. A program that embeds polycred uses it in its own tests.
//
//   - [NewEngine] is an engine on a store in memory, closed when the test ends. [Step] does once what its Run does
//     in the background.
//   - [OAuthServer] is a small OAuth 2.0 and OpenID Connect provider with an API behind it. Who consents is said by
//     [OAuthServer.SignIn]; how it differs from other providers, and how it fails, by [Switches] and [Fault].
//     [OAuthServer.Integration] describes it to an engine.
//   - [Browser] is what a person holds: cookies, and redirects that are followed.
//   - [Clock] is the time, for the engine and the server alike.
//
// Only what takes a testing.TB needs a test: an example program can use the server as its demo provider, and a test in
// another language starts it as a program: see the command core/coretest/oauthserver. Nothing here is meant to be
// reached from another machine, and nothing sleeps: a test that must know that a request is under way asks
// [OAuthServer.WaitForCalls], and one that must keep it there sets [Fault.Hold].
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
//
// # What providers do, and the switch that plays it
//
// Names without more are fields of [Switches]. Refresh tokens:
//
//   - a refresh brings a new one: Rotate; and says nothing about it: OmitRefreshTokenAtRefresh
//   - a spent one that comes again revokes the chain: ReuseRevokes; or works a little longer: GraceWindow
//   - there is none: OmitRefreshTokenAtExchange
//   - only so many per account, the oldest dies silently: MaxRefreshTokens
//   - the person removed the application: [OAuthServer.Revoke]
//
// Token requests and answers:
//
//   - the request is JSON, not a form: TokenRequests
//   - expires_in is a text, is missing, or is nonsense: ExpiresIn
//   - the answer is a form: FormEncoded; the tokens stand inside an object of it: NestTokensAtExchange and
//     NestTokensAtRefresh
//   - an error has status 200: OKWithError; or another form and other words: TokenErrors
//   - PKCE is refused, or ignored: PKCE
//
// What an attacker would have the client believe:
//
//   - another issuer, or none, in redirects and ID tokens: WrongIssuer, OmitIssuer, ExtraClaims
//   - another host, in the token answer (instance_url, api_domain) or in the redirect (accounts-server):
//     ExtraTokenFields, ExtraCallbackParams
//
// What goes wrong at one endpoint, for some requests or all: the fields of [Fault] in Switches.Authorize, Exchange,
// Refresh, UserInfo, Revoke and API:
//
//   - slow, held until the test lets go, or never answered: Slow, Hold, Hang
//   - done, but the answer is lost: LostReply
//   - an OAuth error: Error; so consent is denied too, see [OAuthServer.DenyNext]
//   - an error page, too many bytes: Garbage; a limit: Garbage with status 429 and the header Retry-After
//
// Elsewhere:
//
//   - the API refuses a good token, once or always: Unauthorized
//   - revoking one token ends the whole grant: RevokeGrant; anybody may revoke: RevokeWithoutClient; it is no request of
//     RFC 7009: RevokeRequests
//   - an endpoint that only this provider has: [OAuthServerOptions].Fallback
package coretest
