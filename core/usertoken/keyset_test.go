package usertoken_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/polycred/polycred/core/usertoken"
)

const audience = "our-app"

// issuer is an identity provider on loopback.
type issuer struct {
	clock *clock
	name  string
	url   string
	sets  *usertoken.KeySets
	asked atomic.Int32

	mu      sync.Mutex // guards handler
	handler http.HandlerFunc
}

func startIssuer(tb testing.TB, clock *clock) *issuer {
	tb.Helper()
	i := &issuer{clock: clock}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		handler := i.handler
		i.mu.Unlock()
		handler(w, r)
	}))
	tb.Cleanup(server.Close)
	i.name, i.url = server.URL+"/", server.URL+"/keys?key=canary"
	i.sets = i.newSets(tb, 0)
	return i
}

func (i *issuer) newSets(tb testing.TB, timeout time.Duration) *usertoken.KeySets {
	tb.Helper()
	sets, err := usertoken.NewKeySets(http.DefaultTransport, &usertoken.KeySetsOptions{
		PlainHTTP: []string{strings.Trim(strings.TrimPrefix(i.name, "http:"), "/")}, Now: i.clock.Now, Timeout: timeout,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return sets
}

func (i *issuer) serve(handler http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handler = handler
}

func (i *issuer) publish(keys ...map[string]any) {
	i.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwks(keys...)) })
}

func (i *issuer) fail() {
	i.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
}

// verifier trusts the issuer, and has a signing key of its own, rsaKey.
func (i *issuer) verifier(tb testing.TB, change func(*usertoken.Options)) *usertoken.Verifier {
	tb.Helper()
	o := usertoken.Options{
		Issuers: []usertoken.Issuer{{Issuer: i.name, Audiences: []string{audience, "our-api"}, KeysURL: i.url}},
		KeySets: i.sets, Now: i.clock.Now, Keys: live(rsaKey()),
	}
	if change != nil {
		change(&o)
	}
	return newVerifier(tb, o)
}

// sign makes a token of the issuer, with changes.
func (i *issuer) sign(tb testing.TB, key crypto.Signer, kid string, changes map[string]any) string {
	tb.Helper()
	claims := with(map[string]any{"iss": i.name, "aud": audience})
	for name, value := range changes {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	head := map[string]any{}
	if kid != "" {
		head["kid"] = kid
	}
	return sign(tb, methodOf(key), key, head, claims)
}

func methodOf(key crypto.Signer) jwt.SigningMethod {
	switch key.(type) {
	case *rsa.PrivateKey:
		return jwt.SigningMethodRS256
	case *ecdsa.PrivateKey:
		return jwt.SigningMethodES256
	case ed25519.PrivateKey:
		return jwt.SigningMethodEdDSA
	}
	return nil
}

// TestSecurity12_Issuer shows that an issuer's tokens get in, and those of its other customers do not.
func TestSecurity12_Issuer(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, newClock())
	i.publish(jwk("rsa", otherRSAKey().Public(), map[string]any{"alg": "RS256", "use": "sig"}),
		jwk("ec", ecKey().Public(), nil), jwk("ed", edKey().Public(), map[string]any{"key_ops": []string{"verify"}}))
	v := i.verifier(t, nil)
	type claims = map[string]any
	tests := []struct {
		name   string
		key    crypto.Signer
		kid    string
		claims claims
		reason string // empty: accepted
	}{
		{"RS256", otherRSAKey(), "rsa", nil, ""},
		{"ES256", ecKey(), "ec", nil, ""},
		{"EdDSA", edKey(), "ed", nil, ""},
		{"without kid", edKey(), "", nil, ""},
		{"several audiences", edKey(), "ed", claims{"aud": []string{"userinfo", "our-api"}}, ""},
		{"without iat", edKey(), "ed", claims{"iat": nil}, ""},

		{"another customer", edKey(), "ed", claims{"aud": "their-app"}, "aud"},
		{"no aud", edKey(), "ed", claims{"aud": nil}, "aud"},
		{"empty aud", edKey(), "ed", claims{"aud": []string{}}, "aud"},
		{"aud that begins the same", edKey(), "ed", claims{"aud": audience + "2"}, "aud"},
		{"aud under a host", edKey(), "ed", claims{"aud": "x/" + audience}, "aud"},
		{"aud of the project", edKey(), "ed", claims{"aud": "x/" + project}, "aud"},
		{"aud in capitals", edKey(), "ed", claims{"aud": strings.ToUpper(audience)}, "aud"},
		{"another iss", edKey(), "ed", claims{"iss": "https://elsewhere.example/"}, "does not name project"},
		{"another iss, aud of the project", edKey(), "ed", claims{"iss": "https://elsewhere.example/", "aud": project}, "no live EdDSA"},
		{"another iss, aud of the project, RSA", otherRSAKey(), "rsa", claims{"iss": i.name + "x", "aud": project}, "signed it"},
		{"no iss, no aud", otherRSAKey(), "rsa", claims{"iss": nil, "aud": nil}, "signed it"},
		{"iss without its slash", otherRSAKey(), "rsa", claims{"iss": strings.TrimSuffix(i.name, "/"), "aud": nil}, "signed it"},
		{"the project's key in the issuer's name", rsaKey(), "rsa", nil, "signed it"},
		{"the project's key without kid", rsaKey(), "", nil, "signed it"},
		{"kid of another key", edKey(), "ec", nil, "no EdDSA key"},
		{"id instead of sub", edKey(), "ed", claims{"sub": nil, "id": "u"}, "no sub"},
		{"logout token", edKey(), "ed", claims{"events": claims{}}, "events"},
		{"too long", edKey(), "ed", claims{"exp": start.Add(25 * time.Hour).Unix()}, "lives longer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			token := i.sign(t, test.key, test.kid, test.claims)
			if test.reason != "" {
				reject(t, v, token, usertoken.ErrToken, test.reason)
				return
			}
			c := accept(t, v, token)
			if c.Issuer != i.name || test.kid != "" && c.Key != test.kid {
				t.Errorf("Issuer, Key = %q, %q, want %q, %q", c.Issuer, c.Key, i.name, test.kid)
			}
		})
	}
}

func TestSecurity12_PinnedAlgorithms(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, newClock())
	i.publish(jwk("ec", ecKey().Public(), nil), jwk("ed", edKey().Public(), nil))
	v := i.verifier(t, func(o *usertoken.Options) { o.Issuers[0].Algorithms = []string{"ES256"} })
	accept(t, v, i.sign(t, ecKey(), "ec", nil))
	reject(t, v, i.sign(t, edKey(), "ed", nil), usertoken.ErrToken, "does not sign with EdDSA")
}

// TestSecurity12_NothingFetched shows that tokens which are no good in any case do not have keys fetched.
func TestSecurity12_NothingFetched(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, newClock())
	i.publish(jwk("ed", edKey().Public(), nil))
	v := i.verifier(t, nil)
	for _, changes := range []map[string]any{
		{"aud": "other"}, {"exp": start.Unix()}, {"sub": nil}, {"iss": "https://elsewhere.example"},
	} {
		reject(t, v, i.sign(t, edKey(), "ed", changes), usertoken.ErrToken, "")
	}
	if n := i.asked.Load(); n != 0 {
		t.Errorf("the issuer was asked %d times, want none", n)
	}
}

// TestPublishedKeys shows which keys of a set count.
func TestPublishedKeys(t *testing.T) {
	t.Parallel()
	type change = map[string]any
	small, err := smallRSA()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		key    crypto.Signer
		change change
		ok     bool
	}{
		{"plain", ecKey(), nil, true},
		{"without kid", ecKey(), change{"kid": ""}, true},
		{"with x5u that leads nowhere", ecKey(), change{"x5u": "http://127.0.0.1:1/", "x5t": "x", "x5c": []string{"!"}}, true},
		{"unknown members", ecKey(), change{"whatever": change{"a": 1}}, true},
		{"for encryption", ecKey(), change{"use": "enc"}, false},
		{"for wrapping", ecKey(), change{"key_ops": []string{"wrapKey"}}, false},
		{"for another algorithm", otherRSAKey(), change{"alg": "PS256"}, false},
		{"HMAC with the point", ecKey(), change{"kty": "oct", "k": "AAAA"}, false},
		{"private half published", ecKey(), change{"d": "AAAA"}, false},
		{"another curve", ecKey(), change{"crv": "P-384"}, false},
		{"not on the curve", ecKey(), change{"y": "AAAA"}, false},
		{"short RSA", small, nil, false},
		{"RSA without exponent", otherRSAKey(), change{"e": "AQ"}, false},
		{"RSA with an exponent of 80 bits", otherRSAKey(), change{"e": "AQAAAAAAAAEAAQ"}, false},
		{"kid a number", ecKey(), change{"kid": 1}, false},
		{"Ed25519 of 31 bytes", edKey(), change{"x": strings.Repeat("A", 41)}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			i := startIssuer(t, newClock())
			// The other key is there so that a broken one does not lose the whole set.
			i.publish(jwk("it", test.key.Public(), test.change), jwk("other", newEd().Public(), nil))
			token := i.sign(t, test.key, "it", nil)
			if test.ok {
				accept(t, i.verifier(t, nil), token)
			} else {
				reject(t, i.verifier(t, nil), token, usertoken.ErrToken, "key")
			}
		})
	}
}

// TestRotation: a new key is found by its kid, an old one is good until the set is fetched again.
func TestRotation(t *testing.T) {
	t.Parallel()
	clock := newClock()
	i := startIssuer(t, clock)
	i.publish(jwk("one", edKey().Public(), nil))
	v := i.verifier(t, func(o *usertoken.Options) { o.Remember = -1 })
	one, two := i.sign(t, edKey(), "one", nil), i.sign(t, ecKey(), "two", nil)
	accept(t, v, one)
	i.publish(jwk("two", ecKey().Public(), nil))

	reject(t, v, two, usertoken.ErrToken, "kid") // asked just before
	asks := func(want int32) {
		t.Helper()
		if n := i.asked.Load(); n != want {
			t.Fatalf("the issuer was asked %d times, want %d", n, want)
		}
	}
	asks(1)
	clock.Advance(30*time.Second - 1)
	reject(t, v, two, usertoken.ErrToken, "kid")
	accept(t, v, one)
	asks(1)
	clock.Advance(1)
	accept(t, v, one)
	asks(1)
	accept(t, v, two)
	asks(2)
	reject(t, v, one, usertoken.ErrToken, "kid")

	// Another Verifier goes on with the same set.
	accept(t, i.verifier(t, nil), two)
	asks(2)
	// A withdrawn key is good for ten minutes.
	i.publish()
	clock.Advance(10*time.Minute - 1)
	accept(t, v, two)
	asks(2)
	clock.Advance(1)
	reject(t, v, two, usertoken.ErrToken, "kid")
	asks(3)
}

// TestSecurity28_UnknownKid: whoever sends tokens with made-up kids does not have the issuer asked for each.
func TestSecurity28_UnknownKid(t *testing.T) {
	t.Parallel()
	clock := newClock()
	i := startIssuer(t, clock)
	i.publish(jwk("one", edKey().Public(), nil))
	v := i.verifier(t, nil)
	for n := range 120 { // a minute
		kid := strings.Repeat("x", n+1)
		reject(t, v, i.sign(t, newEd(), kid, nil), usertoken.ErrToken, "kid")
		clock.Advance(500 * time.Millisecond)
	}
	if n := i.asked.Load(); n != 2 {
		t.Errorf("the issuer was asked %d times within a minute, want 2", n)
	}
}

func TestOneRequest(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, newClock())
	const callers = 64
	arrived := make(chan struct{}, callers)
	i.serve(func(w http.ResponseWriter, _ *http.Request) {
		for range callers { // all are on their way before anybody gets an answer
			<-arrived
		}
		_, _ = w.Write(jwks(jwk("one", edKey().Public(), nil)))
	})
	v := i.verifier(t, nil)
	token := i.sign(t, edKey(), "one", nil)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			arrived <- struct{}{}
			if _, err := v.Verify(context.Background(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times, want once", n)
	}
}

// TestCallerLeaves: the request goes on for the others when the caller that caused it gives up.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, newClock())
	entered, answer := make(chan struct{}), make(chan struct{})
	i.serve(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-answer
		_, _ = w.Write(jwks(jwk("one", edKey().Public(), nil)))
	})
	v := i.verifier(t, nil)
	token := i.sign(t, edKey(), "one", nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-entered
		cancel()
	}()
	if _, err := v.Verify(ctx, token); !errors.Is(err, usertoken.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("Verify = %v, want ErrUnavailable and Canceled", err)
	}
	close(answer)
	accept(t, v, token)
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times, want once", n)
	}
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	good := jwks(jwk("one", edKey().Public(), nil))
	tests := []struct {
		name    string
		handler http.HandlerFunc
		reason  string
	}{
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				_, _ = w.Write(good)
				return
			}
			http.Redirect(w, r, "/moved", http.StatusFound)
		}, "redirects are not followed"},
		{"error", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, string(good), http.StatusInternalServerError)
		}, "status 500"},
		{"huge", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(good, strings.Repeat(" ", 256<<10)...))
		}, "more than 256 KiB"},
		{"too many keys", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat("{},", 100) + `{}]}`))
		}, "101 keys"},
		{"no set", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"key":[]}`)) }, "not a JWK set"},
		{"HTML", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "not a JWK set"},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer within"},
		{"slow body", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(good[:10])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "no answer within"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			i := startIssuer(t, clock)
			i.serve(test.handler)
			if strings.HasPrefix(test.name, "slow") {
				i.sets = i.newSets(t, 50*time.Millisecond)
			}
			v := i.verifier(t, nil)
			token := i.sign(t, edKey(), "one", nil)
			reject(t, v, token, usertoken.ErrUnavailable, test.reason)
			_, err := v.Verify(context.Background(), token)
			if n := i.asked.Load(); n != 1 || !errors.Is(err, usertoken.ErrUnavailable) || errors.Is(err, usertoken.ErrToken) {
				t.Errorf("asked %d times, Verify = %v, want once and ErrUnavailable alone", n, err)
			}
			if strings.Contains(err.Error(), "canary") { // security 27
				t.Errorf("the error holds the URL: %v", err)
			}
			if strings.HasPrefix(test.name, "slow") {
				return // on a busy machine a good answer is no faster than that
			}
			i.publish(jwk("one", edKey().Public(), nil))
			clock.Advance(5 * time.Second)
			accept(t, v, token)
		})
	}
}

// TestTransportErrors: what wraps a URL is taken out of it.
func TestTransportErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("refused: a private address")
	sets, err := usertoken.NewKeySets(roundTrip(func(r *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Get", URL: r.URL.String(), Err: cause}
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, usertoken.Options{Now: newClock().Now, KeySets: sets, Issuers: []usertoken.Issuer{
		{Issuer: "https://id.example", Audiences: []string{audience}, KeysURL: "https://id.example/?key=canary"},
	}})
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), nil, with(map[string]any{"iss": "https://id.example", "aud": audience}))
	_, err = v.Verify(context.Background(), token)
	if !errors.Is(err, usertoken.ErrUnavailable) || !errors.Is(err, cause) || strings.Contains(err.Error(), "canary") {
		t.Errorf("Verify = %v, want ErrUnavailable with its cause and without the URL", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestStale: a set that cannot be fetched again is good for an hour, and not longer.
func TestStale(t *testing.T) {
	t.Parallel()
	clock := newClock()
	i := startIssuer(t, clock)
	i.publish(jwk("one", edKey().Public(), nil))
	v := i.verifier(t, func(o *usertoken.Options) { o.Remember = -1 })
	token := i.sign(t, edKey(), "one", map[string]any{"exp": start.Add(3 * time.Hour).Unix()})
	accept(t, v, token)
	i.fail()
	clock.Advance(10 * time.Minute)
	accept(t, v, token)
	accept(t, v, token)
	if n := i.asked.Load(); n != 2 {
		t.Fatalf("the issuer was asked %d times, want twice", n)
	}
	// A kid that nobody knows while nobody can be asked is no fault of the token.
	reject(t, v, i.sign(t, ecKey(), "two", nil), usertoken.ErrUnavailable, "status 502")
	clock.Advance(50*time.Minute - 1)
	accept(t, v, token)
	clock.Advance(1)
	reject(t, v, token, usertoken.ErrUnavailable, "status 502")
	i.publish(jwk("one", edKey().Public(), nil))
	clock.Advance(5 * time.Second)
	accept(t, v, token)
	clock.Advance(-24 * time.Hour) // set back: how old the set is cannot be told
	asked := i.asked.Load()
	_, _ = v.Verify(context.Background(), i.sign(t, edKey(), "one", map[string]any{"iat": nil, "exp": start.Unix()}))
	if n := i.asked.Load(); n != asked+1 {
		t.Errorf("after the clock was set back the issuer was asked %d times, want once", n-asked)
	}
}

// TestOldSetDuringRequest: one caller waits for a set that is due, the others go on with the old one.
func TestOldSetDuringRequest(t *testing.T) {
	t.Parallel()
	clock := newClock()
	i := startIssuer(t, clock)
	i.publish(jwk("one", edKey().Public(), nil))
	v := i.verifier(t, func(o *usertoken.Options) { o.Remember = -1 })
	token := i.sign(t, edKey(), "one", nil)
	accept(t, v, token)
	entered, answer, done := make(chan struct{}), make(chan struct{}), make(chan error)
	i.serve(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-answer
		_, _ = w.Write(jwks(jwk("two", ecKey().Public(), nil)))
	})
	clock.Advance(11 * time.Minute)
	go func() {
		_, err := v.Verify(context.Background(), token)
		done <- err
	}()
	<-entered
	accept(t, v, token)
	close(answer)
	if err := <-done; !errors.Is(err, usertoken.ErrToken) {
		t.Errorf("who waited got %v, want ErrToken under the new set", err)
	}
}

func TestNewKeySets(t *testing.T) {
	t.Parallel()
	if _, err := usertoken.NewKeySets(nil, nil); err == nil {
		t.Error("NewKeySets(nil) succeeded")
	}
	if _, err := usertoken.NewKeySets(http.DefaultTransport, &usertoken.KeySetsOptions{Timeout: time.Hour}); err == nil {
		t.Error("NewKeySets with a timeout of an hour succeeded")
	}
}
