package usertoken_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/usertoken"
)

// FuzzVerify: whatever the token, Verify does not panic, and accepts nothing but what was signed.
func FuzzVerify(f *testing.F) {
	v := verifier(f, edKey(), rsaKey(), ecKey())
	signed := map[string]bool{}
	for _, key := range []crypto.Signer{edKey(), rsaKey(), ecKey()} {
		token := sign(f, methodOf(key), key, map[string]any{"kid": "k"}, with(map[string]any{"aud": project}))
		signed[token] = true
		f.Add(token)
		f.Add(strings.Replace(token, ".", "..", 1))
		f.Add(token[:len(token)-1])
	}
	f.Add(sign(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, with(nil)))
	f.Add(signRaw(f, newEd(), `{"alg":"EdDSA","crit":[]}`, `{"sub":"\ud800"}`))
	f.Add(signRaw(f, newEd(), `{"alg":"EdDSA","alg":1}`, `{"exp":1e999}`))
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(context.Background(), token)
		switch {
		case err == nil && (!signed[token] || c.Subject != "org 1/a"):
			t.Errorf("Verify(%q) = %+v: nobody signed that", token, c)
		case err != nil && !errors.Is(err, usertoken.ErrToken):
			t.Errorf("Verify(%q) = %v, want ErrToken", token, err)
		case err != nil && c != nil:
			t.Errorf("Verify(%q) = %+v beside %v", token, c, err)
		}
	})
}

// FuzzClaims: a payload that was signed, so that everything behind the signature is reached. What is accepted has a user
// of the right form.
func FuzzClaims(f *testing.F) {
	v := newVerifier(f, usertoken.Options{Keys: live(edKey()), Now: newClock().Now, Remember: -1})
	f.Add(`{"sub":"u","exp":1767229200,"aud":["x/` + project + `"],"urn:polycred:permissions":{"integration:*":true}}`)
	f.Add(`{"id":"u\ud83d\ude00","exp":1767229200.5,"nbf":0,"iat":1767225600,"jti":"a"}`)
	f.Add(`{"sub":"u","exp":1e999,"x":[[[{}]]]}`)
	f.Fuzz(func(t *testing.T, payload string) {
		c, err := v.Verify(context.Background(), signRaw(t, edKey(), `{"alg":"EdDSA"}`, payload))
		if err == nil && (c.Subject == "" || len(c.Subject) > 255 || c.ID == "" || !c.Expires.After(start)) {
			t.Errorf("claims of %q = %+v", payload, c)
		}
	})
}

// FuzzKeySet: whatever an issuer publishes, reading it does not panic: that happens in a goroutine of its own.
func FuzzKeySet(f *testing.F) {
	for _, key := range []crypto.Signer{edKey(), rsaKey(), ecKey()} {
		f.Add(jwks(jwk("k", key.Public(), map[string]any{"use": "sig"}), jwk("", key.Public(), map[string]any{"d": "AA"})))
	}
	f.Add(jwks())
	f.Add([]byte(`{"keys":[null,1,{"kty":"oct","k":"AA"},{"kty":"OKP","crv":"X25519","x":"AA"},{"kty":"RSA","n":"AA","e":"AA"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if n, err := usertoken.ParseKeySet(body); n < 0 || n > 100 || err != nil && n != 0 {
			t.Errorf("ParseKeySet(%q) = %d, %v", body, n, err)
		}
	})
}

// FuzzDecodeObject: what is decoded is what encoding/json decodes.
func FuzzDecodeObject(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":[1,"\ud83d\ude00",{"b":null}],"c":-0.5e3}`, `{"a":1,"a":2}`, `[]`, `{"a":"\\ud800"}`, `{} {}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := usertoken.DecodeObject(data)
		if err != nil {
			return
		}
		var want map[string]any
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("DecodeObject(%q) succeeded, encoding/json says %v", data, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("DecodeObject(%q) (-encoding/json +got):\n%s", data, diff)
		}
	})
}
