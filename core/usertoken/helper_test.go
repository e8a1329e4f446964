package usertoken_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/polycred/polycred/core/usertoken"
)

const (
	project      = "0192f0c1-2d3e-7a4b-8c5d-6e7f80910213"
	otherProject = "0192f0c1-2d3e-7a4b-8c5d-6e7f80910214"
)

var start = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Keys are made once: RSA keys take long.
var (
	rsaKey      = sync.OnceValue(newRSA)
	otherRSAKey = sync.OnceValue(newRSA)
	ecKey       = sync.OnceValue(newEC)
	edKey       = sync.OnceValue(newEd)
)

func newRSA() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

func newEC() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newEd() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// clock moves only when a test moves it.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// with returns the claims of a good token, changed; a nil change takes a claim away.
func with(changes map[string]any) map[string]any {
	claims := map[string]any{"sub": "org 1/a", "iat": start.Unix(), "exp": start.Add(time.Hour).Unix()}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// sign signs claims with a header that may be wrong.
func sign(tb testing.TB, method jwt.SigningMethod, key any, head, claims map[string]any) string {
	tb.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	maps.Copy(token.Header, head)
	text, err := token.SignedString(key)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// signRaw signs header and payload as they are written.
func signRaw(tb testing.TB, key ed25519.PrivateKey, head, payload string) string {
	tb.Helper()
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(head)) + "." + enc.EncodeToString([]byte(payload))
	return text + "." + enc.EncodeToString(ed25519.Sign(key, []byte(text)))
}

// verifier is a Verifier of project with these signing keys, at start.
func verifier(tb testing.TB, keys ...crypto.Signer) *usertoken.Verifier {
	tb.Helper()
	return newVerifier(tb, usertoken.Options{Keys: live(keys...), Now: newClock().Now})
}

func newVerifier(tb testing.TB, o usertoken.Options) *usertoken.Verifier {
	tb.Helper()
	o.Project = project
	v, err := usertoken.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func live(keys ...crypto.Signer) []usertoken.Key {
	list := make([]usertoken.Key, 0, len(keys))
	for _, key := range keys {
		list = append(list, usertoken.Key{Public: key.Public()})
	}
	return list
}

// accept verifies a token that has to be good.
func accept(tb testing.TB, v *usertoken.Verifier, token string) *usertoken.Claims {
	tb.Helper()
	c, err := v.Verify(context.Background(), token)
	if err != nil {
		tb.Fatalf("Verify = %v, want claims", err)
	}
	return c
}

// reject verifies a token that has to be refused with want, for a reason that holds reason.
func reject(tb testing.TB, v *usertoken.Verifier, token string, want error, reason string) {
	tb.Helper()
	c, err := v.Verify(context.Background(), token)
	if c != nil || !errors.Is(err, want) || !strings.Contains(err.Error(), reason) {
		tb.Fatalf("Verify = %v, %v, want %v with %q", c, err, want, reason)
	}
	// security 27: no part of a token that says or proves anything
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 && strings.Contains(err.Error(), part) {
			tb.Errorf("the error holds a part of the token: %v", err)
		}
	}
	if strings.Contains(err.Error(), "org 1/a") {
		tb.Errorf("the error holds what a claim says: %v", err)
	}
}

// jwk is a public key as an issuer publishes it.
func jwk(kid string, public crypto.PublicKey, changes map[string]any) map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	var m map[string]any
	switch key := public.(type) {
	case *rsa.PublicKey:
		m = map[string]any{"kty": "RSA", "n": enc(key.N.Bytes()), "e": enc(big.NewInt(int64(key.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			panic(err)
		}
		m = map[string]any{"kty": "EC", "crv": "P-256", "x": enc(point[1:33]), "y": enc(point[33:])}
	case ed25519.PublicKey:
		m = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": enc(key)}
	}
	if kid != "" {
		m["kid"] = kid
	}
	maps.Copy(m, changes)
	return m
}

func jwks(keys ...map[string]any) []byte {
	if keys == nil {
		keys = []map[string]any{}
	}
	body, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return body
}

// smallRSA is a key that is too short; the program has to say that it wants one.
func smallRSA() (*rsa.PrivateKey, error) {
	return rsa.GenerateKey(rand.Reader, 1024)
}
