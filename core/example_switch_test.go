package core_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
)

// A customer who does not pay: nothing of theirs is used or refreshed, and nothing is lost.
func ExampleEngine_DisableUser() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()
	connect(engine, core.ConnectInput{})
	acme, calendar := engine.User("acme"), core.Selector{Integration: "demoCalendar"}

	check(engine.DisableUser(ctx, "acme"))
	_, err := acme.Token(ctx, calendar)
	fmt.Println("disabled:", errors.Is(err, core.ErrDisabled))
	fmt.Println(core.Message(err))
	account, err := acme.Credential(ctx, calendar)
	check(err)
	fmt.Println("it stays", account.Status)

	check(engine.EnableUser(ctx, "acme"))
	_, err = acme.Token(ctx, calendar)
	fmt.Println("enabled:", err == nil)
	// Output:
	// disabled: true
	// This account, or whoever it belongs to, is switched off. Ask whoever manages the connected accounts.
	// it stays VALID
	// enabled: true
}

// One account rests, and every other one works on.
func ExampleUser_Disable() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	acme := engine.User("acme")
	connect(engine, core.ConnectInput{ExternalID: "work"})
	provider.SignIn("2")
	connect(engine, core.ConnectInput{ExternalID: "private", AllowMultiple: true})

	check(acme.Disable(ctx, core.Selector{Integration: "demoCalendar", Credential: "work"}))
	for _, name := range []string{"work", "private"} {
		_, err := acme.Token(ctx, core.Selector{Integration: "demoCalendar", Credential: name})
		fmt.Println(name, "is disabled:", errors.Is(err, core.ErrDisabled))
	}
	// Output:
	// work is disabled: true
	// private is disabled: false
}

// A customer leaves. A dry run says what there is to do; deleting waits for no provider: Run has them revoke the tokens.
func ExampleEngine_DeleteUser() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()
	connect(engine, core.ConnectInput{})

	report, err := engine.DeleteUser(ctx, "acme", &core.DeleteUserOptions{DryRun: true})
	check(err)
	fmt.Println("would go:", report.Credentials, report.Integrations)
	report, err = engine.DeleteUser(ctx, "acme", &core.DeleteUserOptions{
		Progress: func(p core.Progress) { fmt.Println(p.Done, "of", p.Total) },
	})
	check(err)
	fmt.Println("gone:", report.Credentials, "to be revoked:", report.Queued)
	_, err = engine.ConnectedUser(ctx, "acme")
	fmt.Println("nobody knows them:", errors.Is(err, core.ErrNotFound))
	// Output:
	// would go: 1 map[demoCalendar:1]
	// 1 of 1
	// gone: 1 to be revoked: 1
	// nobody knows them: true
}

// A client secret leaked. Whoever holds it and a refresh token could go on, so all authorisations end; people connect
// their accounts again, and find them as they were.
func ExampleEngine_RevokeCredentials() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	before := connect(engine, core.ConnectInput{ExternalID: "work"})

	// The new secret, which the operator got from the provider, comes first; this provider keeps the one it had.
	check(engine.SetClientSecret(ctx, "demoCalendar", crypto.NewSecret(provider.ClientSecret())))
	report, err := engine.RevokeCredentials(ctx, "demoCalendar", nil)
	check(err)
	fmt.Println("ended:", report.Credentials, "to be revoked:", report.Queued)
	_, err = engine.User("acme").Token(ctx, core.Selector{Credential: before.ID})
	fmt.Println(core.Message(err))

	after := connect(engine, core.ConnectInput{Into: "work"})
	fmt.Println("the same:", after.ID == before.ID, after.ExternalID, after.Status)
	// Output:
	// ended: 1 to be revoked: 1
	// The authorisation of this account has ended. Connect the account again.
	// the same: true work VALID
}
