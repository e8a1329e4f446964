package usertoken_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/polycred/polycred/core/usertoken"
)

// The application mints a token for a member of an organisation; whoever has only the public half of its key verifies it.
func Example() {
	privatePEM, publicPEM := keyPair()
	private, err := usertoken.ParsePrivateKey(privatePEM)
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := usertoken.Mint(private, usertoken.MintInput{
		Project: "0192f0c1-2d3e-7a4b-8c5d-6e7f80910213", User: "acme", Person: "ada@acme.example",
		Lifetime:    10 * time.Minute,
		Permissions: map[string]any{"integration:slack": []string{"proxy"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	public, err := usertoken.ParsePublicKey(publicPEM)
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := usertoken.New(usertoken.Options{
		Project: "0192f0c1-2d3e-7a4b-8c5d-6e7f80910213",
		Keys:    []usertoken.Key{{ID: "2026-01", Public: public}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, err := verifier.Verify(context.Background(), token)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(claims.Subject, claims.Person, claims.Permissions, claims.Key)

	_, err = verifier.Verify(context.Background(), token[:len(token)-4])
	fmt.Println(errors.Is(err, usertoken.ErrToken)) // err says why, in words for a developer

	// Output:
	// acme ada@acme.example map[integration:slack:[proxy]] 2026-01
	// true
}

// Tokens of an identity provider are accepted as they are. Which addresses its keys may come from is up to the transport;
// pass one that dials no private ones.
func ExampleIssuer() {
	sets, err := usertoken.NewKeySets(http.DefaultTransport, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = usertoken.New(usertoken.Options{
		Project: "0192f0c1-2d3e-7a4b-8c5d-6e7f80910213",
		KeySets: sets, // lives on when the options change and another Verifier takes over
		Issuers: []usertoken.Issuer{{
			Issuer:     "https://securetoken.google.com/acme-prod",
			Audiences:  []string{"acme-prod"},
			KeysURL:    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com",
			Algorithms: []string{"RS256"},
		}, {
			Issuer:    "https://acme.eu.auth0.com/",
			Audiences: []string{"https://api.acme.example"},
			KeysURL:   "https://acme.eu.auth0.com/.well-known/jwks.json",
		}},
	})
	fmt.Println(err)
	// Output: <nil>
}

// keyPair is what "openssl genpkey -algorithm ed25519" and "openssl pkey -pubout" print.
func keyPair() (private, public string) {
	key := newEd()
	for _, half := range []struct {
		to   *string
		kind string
		der  func() ([]byte, error)
	}{
		{&private, "PRIVATE KEY", func() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(key) }},
		{&public, "PUBLIC KEY", func() ([]byte, error) { return x509.MarshalPKIXPublicKey(key.Public().(ed25519.PublicKey)) }},
	} {
		der, err := half.der()
		if err != nil {
			panic(err)
		}
		*half.to = string(pem.EncodeToMemory(&pem.Block{Type: half.kind, Bytes: der}))
	}
	return private, public
}
