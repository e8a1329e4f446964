// Package core keeps many accounts per user: the users of an application connect accounts of theirs at other companies,
// several of one integration if they like, and the application acts through exactly the one it names.
//
// An [Engine] is one project on a store. An [Integration] is a provider as it is set up there: OAuth 2.0 or API keys. A
// connected [User], named by the application's own id, has any number of accounts; each is a [Credential] that keeps its
// id for life. Its tokens are encrypted in the store and come out as a [Token], an oauth2.TokenSource, or an HTTP client
// that acts as that account and nothing else.
//
//	kek, err := crypto.OpenKEK("app.kek")                 // made once, with crypto.CreateKEK, before the store
//	store, err := badger.Open("app.store", nil)           // or memory.New() in tests
//	engine, err := core.Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{
//		CallbackURL: "https://app.example.com/callback",
//	})
//	go engine.Run(ctx)
//
//	// Once; afterwards it is there, and creating it again is ErrExists.
//	_, err = engine.CreateIntegration(ctx, core.Integration{
//		Name: "googleCalendar",
//		OAuth2: &core.OAuth2{
//			ClientID: "…", ClientSecret: crypto.NewSecret("…"), Scopes: []string{"openid", "email", "…"},
//			AuthorizationURL: "https://accounts.google.com/o/oauth2/v2/auth", TokenURL: "https://oauth2.googleapis.com/token",
//		},
//		Identity: core.Identity{
//			Source: core.IdentityURL, URL: "https://openidconnect.googleapis.com/v1/userinfo",
//			SubjectPath: "sub", DisplayPath: "email",
//		},
//		AllowedHosts: []string{"www.googleapis.com"},
//	})
//
//	// A person wants to connect an account. Send their browser to session.URL …
//	session, err := engine.User("acme").Connect(ctx, core.ConnectInput{
//		Integration: "googleCalendar", AllowMultiple: true, ExternalID: "work", Browser: loginSessionID,
//	})
//	// … and when the provider sends it back to CallbackURL/googleCalendar:
//	result, err := engine.Callback(ctx, core.CallbackInput{
//		Integration: "googleCalendar", Values: r.URL.Query(), Browser: loginSessionID,
//	})
//
//	// Act as that account, by its id or external id.
//	client, err := engine.User("acme").Client(ctx, core.Selector{Integration: "googleCalendar", Credential: "work"})
//
// # The rules
//
//  1. Connecting without AllowMultiple is refused while an account is connected. If exactly one is connected and its
//     authorisation has ended, it is reconnected in place; several such accounts are ErrAmbiguous.
//  2. With AllowMultiple an account is added; nothing that exists changes.
//  3. Connecting Into an account authorises it anew: same id, same external id. Another provider account answering is
//     refused, unless the integration says OtherAccountReplace. Rules 3 and 4 need Integration.Identity: without it nobody
//     knows whose authorisation came.
//  4. The same provider account again updates its credential in place, unless the integration says otherwise. Another
//     external id than the stored one is ErrExternalID.
//  5. An external id is the application's own name for an account, unique for user and integration.
//  6. A selector names an account by id, external id, or "ext:" and external id, within one user's accounts.
//  7. When no account is named and several could be meant, nothing is chosen: ErrAmbiguous, unless Options.Unselected says
//     otherwise.
//  8. Disconnecting removes one account and leaves every other one working.
//
// # Promises
//
// What is stored under one user is never found through another. A token is refreshed once for all callers of an engine.
// Errors and log lines contain no secrets, and nothing that a provider wrote but error codes that an RFC or the provider
// defines. Requests go only to hosts that an integration names, and to private addresses only where Options.PrivateHosts
// lists them.
//
// A clock is passed in as Options.Now, so that tests move time by hand; package coretest has that clock, and an OAuth
// provider to test against.
package core
