package usertoken_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/polycred/polycred/core/usertoken"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	v := verifier(t, otherRSAKey(), rsaKey(), ecKey(), edKey())
	tests := []struct {
		name   string
		method jwt.SigningMethod
		key    crypto.Signer
		head   map[string]any
	}{
		{"RS256", jwt.SigningMethodRS256, rsaKey(), nil},
		{"the other RS256 key", jwt.SigningMethodRS256, otherRSAKey(), nil},
		{"ES256", jwt.SigningMethodES256, ecKey(), nil},
		{"EdDSA", jwt.SigningMethodEdDSA, edKey(), nil},
		{"typ in small letters", jwt.SigningMethodEdDSA, edKey(), map[string]any{"typ": "jwt"}},
		{"access token", jwt.SigningMethodEdDSA, edKey(), map[string]any{"typ": "application/at+jwt"}},
		{"a kid of the application's own", jwt.SigningMethodRS256, rsaKey(), map[string]any{"kid": "signing-2026"}},
		{"empty kid", jwt.SigningMethodRS256, rsaKey(), map[string]any{"kid": ""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := accept(t, v, sign(t, test.method, test.key, test.head, with(nil)))
			id, err := usertoken.KeyID(test.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			if c.Subject != "org 1/a" || c.Key != id {
				t.Errorf("Subject, Key = %q, %q, want %q, %q", c.Subject, c.Key, "org 1/a", id)
			}
		})
	}
}

// TestSecurity12_Attacks are tokens under the project's own keys that must not pass.
func TestSecurity12_Attacks(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(jwks(jwk("evil", newEd().Public(), nil)))
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		if n := asked.Load(); n != 0 {
			t.Errorf("a URL in a header was asked %d times", n)
		}
	})

	v := verifier(t, rsaKey(), ecKey(), edKey())
	der, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	rsaID, err := usertoken.KeyID(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	ed, evil := edKey(), newEd()
	good := sign(t, jwt.SigningMethodEdDSA, ed, nil, with(nil))
	bad := sign(t, jwt.SigningMethodEdDSA, ed, nil, with(map[string]any{"sub": "other"}))
	head := func(name string, value any) string {
		return sign(t, jwt.SigningMethodEdDSA, evil, map[string]any{name: value}, with(nil))
	}
	const eddsa = `{"alg":"EdDSA"}`
	tests := []struct{ name, token, reason string }{
		{"alg none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, with(nil)), "alg"},
		{"alg None", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, map[string]any{"alg": "None"}, with(nil)), "alg"},
		{"alg EdDSA without signature", good[:strings.LastIndexByte(good, '.')+1], "signed it"},
		{"alg missing", signRaw(t, ed, `{}`, `{}`), "alg"},
		{"alg a list", signRaw(t, ed, `{"alg":["EdDSA"]}`, `{}`), "alg"},
		{"HS256 under the PEM", sign(t, jwt.SigningMethodHS256, public, nil, with(nil)), "alg"},
		{"HS256 under the key's bytes", sign(t, jwt.SigningMethodHS256, der, nil, with(nil)), "alg"},
		{"PS256", sign(t, jwt.SigningMethodPS256, rsaKey(), nil, with(nil)), "alg"},
		{"RS512", sign(t, jwt.SigningMethodRS512, rsaKey(), nil, with(nil)), "alg"},
		{"RS256 said of EdDSA", sign(t, jwt.SigningMethodEdDSA, ed, map[string]any{"alg": "RS256"}, with(nil)), "signed it"},
		{"another key", sign(t, jwt.SigningMethodRS256, otherRSAKey(), nil, with(nil)), "signed it"},
		{"another key with the kid of a live one", sign(t, jwt.SigningMethodRS256, otherRSAKey(), map[string]any{"kid": rsaID}, with(nil)), "signed it"},
		{"kid of a key of another type", sign(t, jwt.SigningMethodEdDSA, evil, map[string]any{"kid": rsaID}, with(nil)), "signed it"},
		{"kid a number", head("kid", 1), "kid"},
		{"kid too long", head("kid", strings.Repeat("k", 256)), "kid"},
		{"jku", head("jku", server.URL), "signed it"},
		{"x5u", head("x5u", server.URL), "signed it"},
		{"jwk", head("jwk", jwk("", evil.Public(), nil)), "signed it"},
		{"x5c", head("x5c", []string{"MIIB"}), "signed it"},
		{"iss a URL", sign(t, jwt.SigningMethodEdDSA, evil, nil, with(map[string]any{"iss": server.URL})), "signed it"},
		{"crit", sign(t, jwt.SigningMethodEdDSA, ed, map[string]any{"crit": []string{"exp"}}, with(nil)), "crit"},
		{"crit empty", sign(t, jwt.SigningMethodEdDSA, ed, map[string]any{"crit": []string{}}, with(nil)), "crit"},
		{"crit null", sign(t, jwt.SigningMethodEdDSA, ed, map[string]any{"crit": nil}, with(nil)), "crit"},
		{"typ of a logout token", sign(t, jwt.SigningMethodEdDSA, ed, map[string]any{"typ": "logout+jwt"}, with(nil)), "typ"},
		{"typ a number", sign(t, jwt.SigningMethodEdDSA, ed, map[string]any{"typ": 1}, with(nil)), "typ"},
		{"oversize", sign(t, jwt.SigningMethodEdDSA, ed, nil, with(map[string]any{"x": strings.Repeat("x", 16<<10)})), "bytes"},
		{"claims of another token", good[:strings.IndexByte(good, '.')] + bad[strings.IndexByte(bad, '.'):strings.LastIndexByte(bad, '.')] + good[strings.LastIndexByte(good, '.'):], "signed it"},

		{"empty", "", "three parts"},
		{"two parts", "a.b", "three parts"},
		{"four parts", good + ".x", "three parts"},
		{"encrypted", "a.b.c.d.e", "three parts"},
		{"padded", good + "=", "three parts"},
		{"line break in the signature", good + "\n", "three parts"},
		{"blank before", " " + good, "three parts"},
		{"scheme before", "Bearer " + good, "three parts"},
		{"not base64url", strings.Replace(good, ".", ".+", 1), "three parts"},
		{"header null", signRaw(t, ed, `null`, `{}`), "header"},
		{"header a list", signRaw(t, ed, `["EdDSA"]`, `{}`), "header"},
		{"header and more", signRaw(t, ed, eddsa+`{}`, `{}`), "header"},
		{"alg twice", signRaw(t, ed, `{"alg":"none","alg":"EdDSA"}`, `{}`), "header names something twice"},
		{"payload null", signRaw(t, ed, eddsa, `null`), "payload"},
		{"payload empty", signRaw(t, ed, eddsa, ``), "payload"},
		{"sub twice", signRaw(t, ed, eddsa, `{"sub":"a","sub":"b","exp":1767229200}`), "payload names something twice"},
		{"sub twice, once escaped", signRaw(t, ed, eddsa, `{"sub":"a","\u0073ub":"b","exp":1767229200}`), "payload names something twice"},
		{"twice further down", signRaw(t, ed, eddsa, `{"sub":"a","exp":1767229200,"x":[{"y":1,"y":2}]}`), "payload names something twice"},
		{"deep", signRaw(t, ed, eddsa, `{"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`), "deep"},
		{"sub broken UTF-8", signRaw(t, ed, eddsa, "{\"sub\":\"a\xff\",\"exp\":1767229200}"), "UTF-8"},
		{"sub half a character", signRaw(t, ed, eddsa, `{"sub":"a\ud800","exp":1767229200}`), "UTF-8"},
		{"sub the other half", signRaw(t, ed, eddsa, `{"sub":"\\\udc00\ud800","exp":1767229200}`), "UTF-8"},
		{"sub two first halves", signRaw(t, ed, eddsa, `{"sub":"\ud800\ud800","exp":1767229200}`), "UTF-8"},
		{"sub a half before a letter", signRaw(t, ed, eddsa, `{"sub":"\ud800abcdefgh","exp":1767229200}`), "UTF-8"},
		{"number that is none", signRaw(t, ed, eddsa, `{"sub":"a","exp":1e999}`), "payload"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reject(t, v, test.token, usertoken.ErrToken, test.reason)
		})
	}
}

// TestWholeCharacters proves that the search for half characters lets whole ones pass.
func TestWholeCharacters(t *testing.T) {
	t.Parallel()
	v := verifier(t, edKey())
	for text, want := range map[string]string{
		`\ud83d\ude00`: "😀", `a\\ud800`: `a\ud800`, `\"\u00e4\n\ud83d\ude00\\`: "\"ä\n😀\\", `\ufffd`: "\ufffd",
	} {
		c := accept(t, v, signRaw(t, edKey(), `{"alg":"EdDSA"}`, `{"sub":"`+text+`","exp":1767229200}`))
		if c.Subject != want {
			t.Errorf("sub %s = %q, want %q", text, c.Subject, want)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	sets, err := usertoken.NewKeySets(http.DefaultTransport, nil)
	if err != nil {
		t.Fatal(err)
	}
	issuer := func(change func(*usertoken.Issuer)) usertoken.Options {
		i := usertoken.Issuer{Issuer: "https://id.example", Audiences: []string{"app"}, KeysURL: "https://id.example/keys"}
		change(&i)
		return usertoken.Options{Project: project, Issuers: []usertoken.Issuer{i}, KeySets: sets}
	}
	ed := live(edKey())
	tests := []struct {
		name string
		o    usertoken.Options
		want string // part of the error; empty: none
	}{
		{"nothing but a project", usertoken.Options{Project: project}, ""},
		{"no project", usertoken.Options{}, "project"},
		{"project in braces", usertoken.Options{Project: "{" + project + "}"}, "project"},
		{"empty key", usertoken.Options{Project: project, Keys: make([]usertoken.Key, 1)}, "keys.0"},
		{"private key", usertoken.Options{Project: project, Keys: []usertoken.Key{{Public: edKey()}}}, "keys.0"},
		{"key twice", usertoken.Options{Project: project, Keys: append(ed, ed...)}, "keys.1: another key"},
		{"too many keys", usertoken.Options{Project: project, Keys: make([]usertoken.Key, 21)}, "21"},
		{"id of a key", usertoken.Options{Project: project, Keys: []usertoken.Key{{ID: "\x00", Public: edKey().Public()}}}, "keys.0: its id"},
		{"lifetime", usertoken.Options{Project: project, MaxLifetime: -1}, "maxLifetime"},
		{"lifetime of years", usertoken.Options{Project: project, MaxLifetime: 1e5 * time.Hour}, "maxLifetime"},
		{"leeway", usertoken.Options{Project: project, Leeway: time.Hour}, "leeway"},
		{"remember", usertoken.Options{Project: project, Remember: 1e7}, "remember"},
		{"issuer", issuer(func(*usertoken.Issuer) {}), ""},
		{"issuer without name", issuer(func(i *usertoken.Issuer) { i.Issuer = "" }), "issuers.0: its issuer"},
		{"issuer without audience", issuer(func(i *usertoken.Issuer) { i.Audiences = nil }), "audience"},
		{"issuer with an empty audience", issuer(func(i *usertoken.Issuer) { i.Audiences = []string{"a", ""} }), "audience"},
		{"keys over http", issuer(func(i *usertoken.Issuer) { i.KeysURL = "http://id.example/keys" }), "plain http"},
		{"keys from a file", issuer(func(i *usertoken.Issuer) { i.KeysURL = "file:///etc/passwd" }), "https"},
		{"keys from nowhere", issuer(func(i *usertoken.Issuer) { i.KeysURL = "" }), "https"},
		{"keys with a password", issuer(func(i *usertoken.Issuer) { i.KeysURL = "https://a:b@id.example/" }), "without user"},
		{"HMAC", issuer(func(i *usertoken.Issuer) { i.Algorithms = []string{"HS256"} }), "no algorithm"},
		{"issuer twice", usertoken.Options{Project: project, KeySets: sets, Issuers: append(
			issuer(func(*usertoken.Issuer) {}).Issuers, issuer(func(*usertoken.Issuer) {}).Issuers...)}, "issuers.1: its issuer is configured already"},
		{"issuer without key sets", usertoken.Options{Project: project, Issuers: issuer(func(*usertoken.Issuer) {}).Issuers}, "KeySets"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := usertoken.New(test.o)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("New = %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestNoKeys(t *testing.T) {
	t.Parallel()
	reject(t, verifier(t), sign(t, jwt.SigningMethodEdDSA, edKey(), nil, with(nil)), usertoken.ErrToken, "no live EdDSA signing key")
}

// TestSecurity13_RemovedKey shows that what was verified under a key does not outlive it.
func TestSecurity13_RemovedKey(t *testing.T) {
	t.Parallel()
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), nil, with(nil))
	accept(t, verifier(t, edKey(), ecKey()), token)
	reject(t, verifier(t, ecKey()), token, usertoken.ErrToken, "no live EdDSA")
	reject(t, verifier(t, newEd()), token, usertoken.ErrToken, "signed it")
}

// TestSecurity13_Remembered shows that a remembered verification is used for 5 seconds, and never past exp.
func TestSecurity13_Remembered(t *testing.T) {
	t.Parallel()
	clock := newClock()
	i := startIssuer(t, clock)
	i.publish(jwk("one", edKey().Public(), nil))
	v := i.verifier(t, nil)
	token := i.sign(t, edKey(), "one", map[string]any{"exp": start.Add(14 * time.Minute).Unix()})
	// What is remembered shows by a key that is gone: the set is due after ten minutes, and read only by what is not.
	clock.Advance(time.Second)
	accept(t, v, token)
	i.publish(jwk("two", ecKey().Public(), nil))
	clock.Advance(10*time.Minute - 2*time.Second)
	accept(t, v, token) // verified anew, under a set that is nearly due
	clock.Advance(4999 * time.Millisecond)
	accept(t, v, token)
	if n := i.asked.Load(); n != 1 {
		t.Fatalf("the set was asked for %d times, want 1: the verification was not remembered", n)
	}
	clock.Advance(time.Millisecond)
	reject(t, v, token, usertoken.ErrToken, "kid")

	clock = newClock()
	v = newVerifier(t, usertoken.Options{Keys: live(edKey()), Now: clock.Now})
	token = sign(t, jwt.SigningMethodEdDSA, edKey(), nil, with(map[string]any{"exp": start.Add(2 * time.Second).Unix()}))
	accept(t, v, token)
	clock.Advance(2*time.Second - 1)
	accept(t, v, token)
	clock.Advance(1)
	reject(t, v, token, usertoken.ErrExpired, "expired")
	clock.Advance(-time.Hour) // set back: iat and what is remembered lie in the future
	reject(t, v, token, usertoken.ErrToken, "iat")
}

// TestSecurity13_Lifetime shows the bound of a project on how long its tokens live.
func TestSecurity13_Lifetime(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) int64 { return start.Add(d).Unix() }
	tests := []struct {
		name   string
		max    time.Duration
		claims map[string]any
		reason string // empty: accepted
	}{
		{"a day", 0, map[string]any{"exp": in(24 * time.Hour)}, ""},
		{"a second more", 0, map[string]any{"exp": in(24*time.Hour + time.Second)}, "lives longer than 24h"},
		{"a day, begun before", 0, map[string]any{"iat": in(-time.Hour), "exp": in(23*time.Hour + time.Second)}, "lives longer"},
		{"a day without iat", 0, map[string]any{"iat": nil, "exp": in(24 * time.Hour)}, ""},
		{"more without iat", 0, map[string]any{"iat": nil, "exp": in(24*time.Hour + time.Second)}, "lives longer"},
		{"a week where that is allowed", 7 * 24 * time.Hour, map[string]any{"exp": in(7 * 24 * time.Hour)}, ""},
		{"an hour where less is allowed", time.Minute, nil, "lives longer than 1m0s"},
		{"for ever", 0, map[string]any{"exp": 253402300799}, "lives longer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := newVerifier(t, usertoken.Options{Keys: live(edKey()), Now: newClock().Now, MaxLifetime: test.max})
			token := sign(t, jwt.SigningMethodEdDSA, edKey(), nil, with(test.claims))
			if test.reason == "" {
				accept(t, v, token)
				return
			}
			reject(t, v, token, usertoken.ErrToken, test.reason)
		})
	}
}

// TestRememberedIsTheCallersOwn shows that what a caller does to its claims is not what the next one gets.
func TestRememberedIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	for _, size := range []int{-1, 1, 2, 0} {
		v := newVerifier(t, usertoken.Options{Keys: live(edKey()), Now: newClock().Now, Remember: size})
		for round := range 3 {
			for _, sub := range []string{"a", "b", "c", "d"} {
				token := signRaw(t, edKey(), `{"alg":"EdDSA"}`, `{"sub":"`+sub+`","exp":1767229200}`)
				c, err := v.Verify(context.Background(), token)
				if err != nil || c.Subject != sub {
					t.Fatalf("remember %d, round %d: Verify = %v, %v, want %s", size, round, c, err, sub)
				}
				c.Subject = "x"
			}
		}
	}
}
