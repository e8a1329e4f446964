package core_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

// Where the connected user is an organisation, each account belongs to the person who connected it, and events say who
// did what.
func ExampleUser_As() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	acme := engine.User("acme")

	connectAs(engine, acme.As("ada"), core.ConnectInput{ExternalID: "work"})
	provider.SignIn("2")
	connectAs(engine, acme.As("bob"), core.ConnectInput{ExternalID: "private", AllowMultiple: true})

	page, err := acme.Credentials(ctx, core.ListInput{Integration: "demoCalendar"})
	check(err)
	for _, c := range page.Credentials {
		fmt.Println(c.ExternalID, "was connected by", c.Owner)
	}
	// Output:
	// work was connected by ada
	// private was connected by bob
}

// What is nil stays, what is empty is taken away.
func ExampleUser_Rename() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()
	connect(engine, core.ConnectInput{ExternalID: "work"})

	label, name := "Team calendar", "team"
	sel := core.Selector{Integration: "demoCalendar", Credential: "work"}
	c, err := engine.User("acme").Rename(ctx, sel, core.RenameInput{Label: &label, ExternalID: &name})
	check(err)
	fmt.Println(c.ExternalID, c.Label, c.Account.Display)
	_, err = engine.User("acme").Credential(ctx, sel)
	fmt.Println("the old name:", errors.Is(err, core.ErrNotFound))
	// Output:
	// team Team calendar work@example.com
	// the old name: true
}

// An account whose integration has to know more than the authorisation is PENDING until that is said.
func ExampleUser_CompleteSetup() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	crm := provider.Integration("demoCRM")
	crm.Setup = []input.Input{{ID: "region", Type: input.Enum, Required: true, Options: []input.Option{{Value: "eu"}, {Value: "us"}}}}
	_, err := engine.CreateIntegration(ctx, crm)
	check(err)
	acme, sel := engine.User("acme"), core.Selector{Integration: "demoCRM"}

	c := connect(engine, core.ConnectInput{Integration: "demoCRM"})
	fmt.Println(c.Status, "missing:", c.Missing)
	_, err = acme.Client(ctx, sel)
	fmt.Println(core.Message(err))
	c, err = acme.CompleteSetup(ctx, sel, map[string]any{"region": "eu"})
	check(err)
	setup, err := acme.Setup(ctx, sel)
	check(err)
	fmt.Println(c.Status, setup.Values["region"])
	// Output:
	// PENDING missing: [region]
	// This account is not completely set up. Finish setting it up.
	// VALID eu
}

// files declares an integration whose accounts have settings.
func files(engine *core.Engine, provider *coretest.OAuthServer) {
	in := provider.Integration("demoFiles")
	in.Settings = []input.Input{
		{ID: "folder", Type: input.Text, Required: true},
		{ID: "days", Type: input.Number, Default: 7},
		{ID: "pin", Type: input.Password},
	}
	_, err := engine.CreateIntegration(context.Background(), in)
	check(err)
}

// Changes merge: what an update does not name stays, so of two at the same time none is lost.
func ExampleUser_UpdateConfiguration() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	files(engine, provider)
	connect(engine, core.ConnectInput{Integration: "demoFiles"})
	acme, sel := engine.User("acme"), core.Selector{Integration: "demoFiles"}

	for _, settings := range []map[string]any{{"folder": "inbox"}, {"days": 30, "pin": crypto.NewSecret("0000")}} {
		_, err := acme.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: settings})
		check(err)
	}
	c, err := acme.Configuration(ctx, sel)
	check(err)
	fmt.Println(c.Settings, "and set, but never shown:", c.Passwords)

	_, err = acme.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"days": "many"}})
	var input *core.InputError
	fmt.Println(errors.As(err, &input), input.Field, input.Reason)
	pin, err := acme.Password(ctx, sel, "settings.pin")
	check(err)
	fmt.Println(pin.Reveal())
	// Output:
	// map[days:30 folder:inbox] and set, but never shown: [pin]
	// true settings.days wants a number
	// 0000
}

// An account may have several configurations. Each names its account, so that a selector needs no more.
func ExampleUser_CreateConfiguration() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	files(engine, provider)
	acme := engine.User("acme")
	account := connect(engine, core.ConnectInput{Integration: "demoFiles", ExternalID: "work"})

	sel := core.Selector{Integration: "demoFiles", Credential: "work"}
	c, err := acme.CreateConfiguration(ctx, sel, core.ConfigurationInput{
		ExternalID: "invoices", Settings: map[string]any{"folder": "invoices"},
	})
	check(err)
	fmt.Println(c.ExternalID, c.Settings, c.Credential == account.ID)
	c, err = acme.Configuration(ctx, core.Selector{Integration: "demoFiles", Credential: "work", Configuration: "invoices"})
	check(err)
	fmt.Println(c.Settings["folder"])
	all, err := acme.Configurations(ctx, sel)
	check(err)
	for _, c := range all {
		fmt.Printf("default: %t, missing: %v\n", c.Default, c.Missing)
	}
	// Output:
	// invoices map[days:7 folder:invoices] true
	// invoices
	// default: true, missing: [folder]
	// default: false, missing: []
}
