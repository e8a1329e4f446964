// Package core keeps many accounts per user: the users of an application connect accounts of theirs at other companies,
// several of one integration if they like, and the application acts through exactly the one it names.
//
// An [Engine] is one project on a store. An [Integration] is a provider as it is declared there: OAuth 2.0 or API keys. A
// connected [User], named by the application's own id, has any number of accounts; each is a [Credential] that keeps its
// id for life. Its tokens are encrypted in the store and come out as a [Token], an oauth2.TokenSource, or an HTTP client
// that acts as that account and nothing else. In all that follows an account is such a credential; what it stands for at
// the provider is called the provider account, and has its identity in [ProviderAccount].
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
//		Name: "googleCalendar", Provider: "google", // whose facts are in package catalog
//		OAuth2: &core.OAuth2{
//			ClientID: "…", ClientSecret: crypto.NewSecret("…"),
//			Scopes: []string{"https://www.googleapis.com/auth/calendar.readonly"},
//		},
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
//  3. Connecting Into an account authorises it anew: same id, names and settings. Another provider account answering is
//     refused, unless the integration says OtherAccountReplace; if that account is connected already, always. Rules 3 and
//     4 need Integration.Identity: without it nobody knows whose authorisation came.
//  4. The same provider account again updates its credential in place, however many connect it at once, unless the
//     integration says otherwise. Another external id than the stored one is ErrExternalID.
//  5. An external id is the application's own name for an account, unique for user and integration, compared byte by byte.
//     Space around it and a leading "ext:" are cut off.
//  6. A selector names an account by id, external id, or "ext:" and external id, within one user's accounts.
//  7. When no account is named and several could be meant, nothing is chosen. What uses an account takes the only one that
//     is VALID; several are ErrAmbiguous, unless Options.Unselected says otherwise. What manages an account takes the only
//     one there is, whatever its status; several are ErrAmbiguous always.
//  8. Disconnecting removes one account and leaves every other one working. Its tokens are revoked at the provider, from a
//     queue, and nothing is revoked that another account still needs.
//  9. The rules act only on accounts that a handle may see and write, when connecting begins and again when the account
//     answers. What is not visible does not exist; where it stands in the way, that is ErrHiddenConflict, which says no more.
//  10. What is done is attributed: to an account, and to a person where [User.As] names one. Events say it.
//
// In rules 1 to 4 an account that is PENDING counts like a valid one; it is never used, so rule 7 does not take it where an
// account is to be used.
//
// # Setup, and settings
//
// Some accounts need more than an authorisation: Integration.Setup says what, and until [User.CompleteSetup] has given each
// required value the account is PENDING. [User.Rename] changes what an account is called, by people (Label) and by the
// application (ExternalID).
//
// Integration.Settings are what a person may set for an account. Each account has a default [Configuration] that holds their
// values, and may have more. An [input.Type] says what a value is; one that does not fit is an InputError that names its
// field. Changes merge, so that of two at the same time none is lost. Passwords are written, and never shown again: only
// [User.Password] reads one, which is an event.
//
// # Tokens
//
// Most tokens are given out as they are: one read of the store. One that has ended is refreshed first, one that will soon
// behind the call, and [Engine.Run] refreshes ahead of both, in every process, at most Options.RefreshLimit at a time for
// each integration. What a refresh that failed means for the next is its [FailureClass]; only a provider that says that the
// authorisation has ended makes the account INVALID. What a lost answer may have cost depends on the provider: Integration.OAuth2.Refresh says how its refresh tokens
// behave.
//
// A store that was copied or moved is quarantined: valid tokens are given out, and nothing is refreshed or revoked, until
// Options.TakeOver confirms that no other copy is in use.
//
// # Switching off, and taking away
//
// [User.Disable] and [Engine.DisableUser] switch an account or a user off, until Enable and EnableUser: nothing of theirs is
// used or refreshed, and nothing is lost. [User.Disconnect] removes an account, [Engine.DeleteUser] a user with everything
// of theirs. [Engine.RevokeCredentials] ends the authorisation of all accounts of an integration, which stay, to be
// connected again. None of these waits for a provider: Run revokes the tokens, for three days if need be, and EventRevoked
// tells how that ended.
//
// # Events
//
// What is done to an account, a configuration or an integration is an [Event], stored together with the change or not at all;
// so is an authorisation that ends. [Engine.Subscribe] gives them in one order, numbered without gaps: a consumer that
// stores the number of the last one misses none and sees none twice. The numbers are given by [Engine.Run]. Uses are
// summed up, one event a minute for each person or token and account; a use by nobody in particular, the program's own, is
// not told.
//
// # Health
//
// [Engine.Health] says how an engine and its store are, for a readiness check and for alerts. How one account is stands in its
// [Credential]: Status and Disabled say whether it can be used; Refreshing, RefreshFailures, LastFailure, FailureCode and
// NextAttempt how its refreshes go. While its token is good an account is VALID and works, whatever its refreshes do. The
// page docs/runbook.md says what each of these means and what to do about it, and explains each line of the log.
//
// # Handles
//
// [Engine.User] returns a handle that may do everything for one user. As gives it a person, who becomes the Owner of what is
// connected with it. [Engine.Authenticate] returns one that is narrowed to what a user token permits: a JWT that is signed
// with a key that [Engine.AddSigningKey] declared, or by an issuer that [Engine.SetTokenIssuer] did, and that may name a
// policy of [Engine.SetPolicy]. What such a handle may not see is ErrNotFound, what it may not do is ErrPermission, and both
// are judged before anything happens, in connect sessions once more when the account answers. What an operator ends, a key,
// an issuer, a policy or a user, is ended in this process at once and in every other within 5 seconds.
//
// # Promises
//
// What is stored under one user is never found through another. A token is refreshed once for all callers, in however many
// goroutines and processes on the store. What a refresh brought is not lost: where the store does not take it, it is kept
// in memory, given out, and stored later. Where the process dies before that, the account works on if the provider still
// takes the refresh token before; else it is INVALID, and says why (FailureIndeterminate). What was acknowledged, such as an
// account that was connected, is there after a crash.
//
// Errors and log lines contain no secrets, and nothing that a provider wrote but error codes that an RFC or the provider
// defines. Requests go only to hosts that an integration names, and to private addresses only where Options.PrivateHosts
// lists them.
//
// A clock is passed in as Options.Now, so that tests move time by hand; package coretest has that clock, and an OAuth
// provider to test against.
package core
