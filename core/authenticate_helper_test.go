package core_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage"
)

// testKey returns one of a few keys to sign user tokens with, always the same ones.
func testKey(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))
}

// publicPEM is the public half of a key, as operators have it.
func publicPEM(key ed25519.PrivateKey) string {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// entrance is a gate whose handles come from user tokens, which testKey(0) signs.
type entrance struct {
	*gate
	key core.SigningKey
}

func newEntrance(t *testing.T, store storage.Store, change func(*core.Options)) *entrance {
	t.Helper()
	d := &entrance{gate: newTokenGate(t, store, change)}
	d.key = d.addKeyOf(d.engine, 0)
	return d
}

// addKeyOf has an engine accept what testKey(i) signs.
func (d *entrance) addKeyOf(e *core.Engine, i int) core.SigningKey {
	d.Helper()
	key, err := e.AddSigningKey(d.Context(), core.SigningKeyInput{PublicKey: publicPEM(testKey(i))})
	if err != nil {
		d.Fatal(err)
	}
	return key
}

// mint signs a token of user acme, unless in says another one, for the engine's project, now.
func (d *entrance) mint(in usertoken.MintInput) string {
	d.Helper()
	return d.mintWith(0, in)
}

func (d *entrance) mintWith(key int, in usertoken.MintInput) string {
	d.Helper()
	if in.User == "" {
		in.User = "acme"
	}
	if in.Project == "" {
		in.Project = d.engine.Project()
	}
	in.Now = d.clock.Now()
	token, err := usertoken.Mint(testKey(key), in)
	if err != nil {
		d.Fatal(err)
	}
	return token
}

// claims is what a token may do, beside which it says nothing.
func claims(permissions string) usertoken.MintInput {
	return usertoken.MintInput{Permissions: raw(permissions)}
}

// raw is JSON that is to stand in a token as it is.
type raw string

// MarshalJSON returns it.
func (r raw) MarshalJSON() ([]byte, error) { return []byte(r), nil }

// try authenticates at an engine; the token stands in no error.
func (d *entrance) try(e *core.Engine, token string) (*core.User, error) {
	d.Helper()
	u, err := e.Authenticate(d.Context(), token)
	if err != nil && (u != nil || token != "" && strings.Contains(err.Error(), token)) {
		d.Errorf("Authenticate() = %v beside %v, want no handle, and no token in the error", u, err)
	}
	return u, d.note(err)
}

// enter returns the handle of a token.
func (d *entrance) enter(in usertoken.MintInput) *core.User {
	d.Helper()
	u, err := d.try(d.engine, d.mint(in))
	if err != nil {
		d.Fatal(err)
	}
	return u
}

// refused fails the test unless a token is refused like that.
func (d *entrance) refused(what string, e *core.Engine, token string, want error) {
	d.Helper()
	_, err := d.try(e, token)
	d.wantErr("Authenticate("+what+")", err, want)
}
