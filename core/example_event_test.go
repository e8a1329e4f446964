package core_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// A consumer stores the number of the last event that it has dealt with, and goes on from there: it misses none, and sees
// none twice.
func ExampleEngine_Subscribe() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()
	connect(engine, core.ConnectInput{ExternalID: "work"})
	check(coretest.Step(engine)) // a program runs Engine.Run, which gives events their numbers

	var cursor uint64 // from the consumer's own store
	consume := func(n int) {
		for event, err := range engine.Subscribe(ctx, cursor) {
			check(err)
			fmt.Println(event.Number, event.Kind, event.Actor.Type, event.Result)
			cursor = event.Number
			if n--; n == 0 {
				break // else it waits for those to come, until ctx is done
			}
		}
	}
	consume(1)
	fmt.Println("the consumer starts again")
	consume(1)
	// Output:
	// 1 integration.created operator ok
	// the consumer starts again
	// 2 credential.connected user ok
}

// One account goes, with its event; every other one goes on working.
func ExampleUser_Disconnect() {
	ctx := context.Background()
	engine, provider, end := demo()
	defer end()
	acme := engine.User("acme")
	connect(engine, core.ConnectInput{ExternalID: "work"})
	provider.SignIn("2")
	connect(engine, core.ConnectInput{ExternalID: "private", AllowMultiple: true})
	check(coretest.Step(engine)) // a program runs Engine.Run
	before, err := engine.LastEvent(ctx)
	check(err)

	work := core.Selector{Integration: "demoCalendar", Credential: "work"}
	check(acme.As("ada").Disconnect(ctx, work))
	_, err = acme.Credential(ctx, work)
	fmt.Println("gone:", errors.Is(err, core.ErrNotFound))
	token, err := acme.Token(ctx, core.Selector{Integration: "demoCalendar"})
	check(err)
	fmt.Println("the other one works:", token.Type != "")

	check(coretest.Step(engine))
	for event, err := range engine.Subscribe(ctx, before) {
		check(err)
		fmt.Println(event.Kind, "by", event.Actor.Person, "of", event.User, event.Details)
		break
	}
	// Output:
	// gone: true
	// the other one works: true
	// credential.disconnected by ada of acme map[externalId:work]
}

// Where the provider sends the browser to a page of the application, that page passes the code on.
func ExampleUser_CompleteConnect() {
	ctx := context.Background()
	engine, _, end := demo()
	defer end()
	acme, page := engine.User("acme"), "http://localhost:8080/connected" // one of Options.RedirectURLs

	session, err := acme.Connect(ctx, core.ConnectInput{
		Integration: "demoCalendar", Browser: "id of the login session", RedirectURL: page,
	})
	check(err)
	_, err = acme.ConnectOutcome(ctx, session.Handle)
	fmt.Println("finished:", !errors.Is(err, core.ErrUnfinished))

	values := browse(session) // code, state and iss, as they came in at the page
	result, err := acme.CompleteConnect(ctx, core.CompleteInput{
		Integration: "demoCalendar", RedirectURL: page, Code: values.Get("code"), Values: values,
	})
	check(err)
	fmt.Println(result.Credential.Account.Display, result.Credential.Status)
	result, err = acme.ConnectOutcome(ctx, session.Handle) // for whoever waits in another window
	check(err)
	fmt.Println("the same:", result.Credential.Account.Display, result.Replayed)
	// Output:
	// finished: false
	// work@example.com VALID
	// the same: work@example.com true
}
