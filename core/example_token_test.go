package core_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
)

// signing makes a key for user tokens: the application keeps it, and the engine gets to know its public half.
func signing(engine *core.Engine) ed25519.PrivateKey {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	der, err := x509.MarshalPKIXPublicKey(public)
	check(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	_, err = engine.AddSigningKey(context.Background(), core.SigningKeyInput{PublicKey: string(text), Label: "backend"})
	check(err)
	return private
}

// A request comes with a user token; what serves it holds a handle that can do no more than the token says.
func ExampleEngine_Authenticate() {
	engine, _, end := demo()
	defer end()
	key := signing(engine)
	connect(engine, core.ConnectInput{ExternalID: "work"})

	// The application, for its user acme.
	token, err := usertoken.Mint(key, usertoken.MintInput{
		Project: engine.Project(), User: "acme",
		Permissions: map[string]any{"integration:demoCalendar": []string{"credential:read", "proxy"}},
	})
	check(err)

	// Whoever serves the request.
	user, err := engine.Authenticate(context.Background(), token)
	check(err)
	page, err := user.Credentials(context.Background(), core.ListInput{})
	check(err)
	for _, account := range page.Credentials {
		fmt.Println(account.ExternalID, "of", account.User)
	}
	err = user.Disconnect(context.Background(), core.Selector{Credential: "work", Integration: "demoCalendar"})
	fmt.Println("may it disconnect?", !errors.Is(err, core.ErrPermission))
	// Output:
	// work of acme
	// may it disconnect? false
}

// A policy says once what tokens that name it may do: here everything with what their person connected, and reading what
// the team shares.
func ExampleEngine_SetPolicy() {
	engine, provider, end := demo()
	defer end()
	key := signing(engine)
	policy, err := engine.SetPolicy(context.Background(), core.Policy{
		Name:     "member",
		Document: []byte(`{"integration:*": {"credential:owner": true, "credential:ext:{{claims.team}}": ["credential:read"]}}`),
	})
	check(err)
	fmt.Printf("%s: %s\n", policy.Name, policy.Document)
	connect(engine, core.ConnectInput{ExternalID: "red"})
	provider.SignIn("2")
	connect(engine, core.ConnectInput{ExternalID: "blue", AllowMultiple: true})

	token, err := usertoken.Mint(key, usertoken.MintInput{
		Project: engine.Project(), User: "acme", Person: "pat", Policy: "member", Claims: map[string]any{"team": "red"},
	})
	check(err)
	user, err := engine.Authenticate(context.Background(), token)
	check(err)
	page, err := user.Credentials(context.Background(), core.ListInput{})
	check(err)
	for _, account := range page.Credentials {
		fmt.Println("sees", account.ExternalID)
	}
	// Output:
	// member: {"integration:*":{"credential:owner":true,"credential:ext:{{claims.team}}":["credential:read"]}}
	// sees red
}

// What an application shows of its user is kept beside the accounts. Changes merge.
func ExampleUser_UpdateMeta() {
	engine, _, end := demo()
	defer end()
	user := engine.User("acme")
	_, err := user.UpdateMeta(context.Background(), map[string]any{"Name": "Acme Inc.", "Email": "it@acme.example"})
	check(err)
	meta, err := user.UpdateMeta(context.Background(), map[string]any{"Email": nil, "Plan": "team"})
	check(err)
	fmt.Println(meta)
	// Output: map[Name:Acme Inc. Plan:team]
}
