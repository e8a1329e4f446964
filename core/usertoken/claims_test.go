package usertoken_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core/usertoken"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, usertoken.Options{Keys: []usertoken.Key{{ID: "k", Public: edKey().Public()}}, Now: newClock().Now})
	all := map[string]any{
		"sub": "org", "id": "x", "jti": "j", "iss": "app", "aud": []any{"a/" + otherProject, "b/" + strings.ToUpper(project)},
		"iat": float64(start.Unix()), "exp": 1767229200.5, "nbf": float64(start.Unix()),
		"urn:polycred:person": "ada", "urn:useparagon:connect:permissions": map[string]any{}, "extra": []any{true, nil, 1.5},
	}
	want := &usertoken.Claims{
		Subject: "org", Person: "ada", ID: "j", Issuer: "app", Audience: []string{"a/" + otherProject, "b/" + strings.ToUpper(project)},
		IssuedAt: start, Expires: start.Add(time.Hour), HasPermissions: true, Permissions: map[string]any{}, All: all, Key: "k",
	}
	token := sign(t, jwt.SigningMethodEdDSA, edKey(), nil, all)
	for _, name := range []string{"verified", "remembered"} {
		if diff := cmp.Diff(want, accept(t, v, token), cmpopts.IgnoreUnexported(usertoken.Claims{})); diff != "" {
			t.Errorf("%s claims (-want +got):\n%s", name, diff)
		}
	}
}

// TestIDWithoutJTI shows that the id does not follow the signature, which whoever holds an ES256 token can write anew.
func TestIDWithoutJTI(t *testing.T) {
	t.Parallel()
	v := verifier(t, ecKey())
	first, second := sign(t, jwt.SigningMethodES256, ecKey(), nil, with(nil)), sign(t, jwt.SigningMethodES256, ecKey(), nil, with(nil))
	if first == second {
		t.Fatal("two signatures are the same: the test is blind")
	}
	a, b := accept(t, v, first).ID, accept(t, v, second).ID
	c := accept(t, v, sign(t, jwt.SigningMethodES256, ecKey(), nil, with(map[string]any{"sub": "other"}))).ID
	if len(a) != 16 || a != b || a == c {
		t.Errorf("ids = %q, %q, %q, want 16 digits, twice the same and then others", a, b, c)
	}
}

func TestSecurity12_Claims(t *testing.T) {
	t.Parallel()
	const ours, theirs, policy = "urn:polycred:permissions", "urn:useparagon:connect:permissions", "urn:polycred:policy"
	long := strings.Repeat("ä", 127) + "x" // 255 bytes
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	type claims = map[string]any
	tests := []struct {
		name   string
		claims claims
		reason string // empty: accepted
	}{
		{"id instead of sub", claims{"sub": nil, "id": "u"}, ""},
		{"id not a text", claims{"sub": nil, "id": 7}, "its id"},
		{"sub not a text beside id", claims{"sub": 7, "id": "u"}, "its sub"},
		{"sub empty beside id", claims{"sub": "", "id": "u"}, "its sub"},
		{"no sub", claims{"sub": nil}, "no sub"},
		{"sub of 255 bytes", claims{"sub": long}, ""},
		{"sub of 256 bytes", claims{"sub": long + "x"}, "its sub"},
		{"sub with NUL", claims{"sub": "a\x00b"}, "its sub"},
		{"person with NUL", claims{"urn:polycred:person": "\x00"}, "person"},
		{"person empty", claims{"urn:polycred:person": ""}, "person"},
		{"person a list", claims{"urn:polycred:person": []string{"a"}}, "person"},
		{"jti a number", claims{"jti": 1}, "jti"},
		{"iss a number", claims{"iss": 1}, "iss"},

		{"no exp", claims{"exp": nil}, "no exp"},
		{"exp a text", claims{"exp": "1767229200"}, "exp"},
		{"exp huge", claims{"exp": 1e300}, "exp"},
		{"exp negative", claims{"exp": -1}, "exp"},
		{"exp now", claims{"exp": start.Unix()}, "expired"},
		{"expired", claims{"exp": at(-time.Second)}, "expired"},
		{"expires within a second", claims{"exp": float64(start.Unix()) + 0.9}, "expired"},
		{"nbf within the leeway", claims{"nbf": at(time.Minute)}, ""},
		{"nbf beyond", claims{"nbf": at(time.Minute + time.Second)}, "nbf"},
		{"nbf a text", claims{"nbf": "0"}, "nbf"},
		{"nbf huge", claims{"nbf": 1e300}, "nbf"},
		{"iat within the leeway", claims{"iat": at(time.Minute)}, ""},
		{"iat beyond", claims{"iat": at(time.Minute + time.Second)}, "iat"},
		{"iat true", claims{"iat": true}, "iat"},

		{"aud of the project", claims{"aud": "useparagon.com/" + project}, ""},
		{"aud of another host", claims{"aud": "https://dashboard.example/x/" + project}, ""},
		{"aud the project itself", claims{"aud": project}, ""},
		{"aud of another project", claims{"aud": "useparagon.com/" + otherProject}, "does not name project"},
		{"aud another project itself", claims{"aud": otherProject}, "does not name project"},
		{"aud of both", claims{"aud": []string{otherProject, "x/" + project}}, ""},
		{"aud with the project before", claims{"aud": project + "/" + otherProject}, "does not name project"},
		{"aud with the project at its end", claims{"aud": "x" + project}, "does not name project"},
		{"aud of something else", claims{"aud": "https://api.acme.example"}, "does not name project"},
		{"aud empty", claims{"aud": ""}, "does not name project"},
		{"aud empty list", claims{"aud": []string{}}, "does not name project"},
		{"aud a number", claims{"aud": 1}, "aud"},
		{"aud with a number", claims{"aud": []any{project, 1}}, "aud"},

		{"permissions", claims{ours: true}, ""},
		{"permissions as text", claims{theirs: `{"integration:*":true}`}, ""},
		{"policy", claims{policy: "reader"}, ""},
		{"both permissions", claims{ours: true, theirs: true}, "both"},
		{"permissions beside a policy", claims{ours: true, policy: "reader"}, "beside"},
		{"empty permissions beside a policy", claims{theirs: claims{}, policy: "reader"}, "beside"},
		{"policy empty", claims{policy: ""}, "policy"},
		{"policy a list", claims{policy: []string{"reader"}}, "policy"},
	}
	v := verifier(t, edKey())
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			token := sign(t, jwt.SigningMethodEdDSA, edKey(), nil, with(test.claims))
			if test.reason == "" {
				accept(t, v, token)
				return
			}
			want := usertoken.ErrToken
			if test.reason == "expired" {
				want = usertoken.ErrExpired
			}
			reject(t, v, token, want, test.reason)
		})
	}
}

// TestNullClaims: null is not absence, which for permissions would mean everything.
func TestNullClaims(t *testing.T) {
	t.Parallel()
	v := verifier(t, edKey())
	payload := func(more string) string {
		return signRaw(t, edKey(), `{"alg":"EdDSA"}`, `{"exp":1767229200,`+more+`}`)
	}
	for _, name := range []string{"sub", "jti", "iss", "aud", "iat", "nbf", "urn:polycred:person", "urn:polycred:policy"} {
		more := `"` + name + `":null`
		if name != "sub" {
			more += `,"sub":"u"`
		}
		reject(t, v, payload(more), usertoken.ErrToken, name)
	}
	c := accept(t, v, payload(`"sub":"u","urn:polycred:permissions":null`))
	if !c.HasPermissions || c.Permissions != nil {
		t.Errorf("HasPermissions, Permissions = %t, %v, want true, nil", c.HasPermissions, c.Permissions)
	}
	reject(t, v, payload(`"sub":"u","urn:polycred:permissions":null,"urn:useparagon:connect:permissions":{}`), usertoken.ErrToken, "both")
	if c := accept(t, v, payload(`"sub":"u"`)); c.HasPermissions || c.Audience != nil || !c.IssuedAt.IsZero() {
		t.Errorf("claims without anything = %+v", c)
	}
}

func TestNoLeeway(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, usertoken.Options{Keys: live(edKey()), Now: newClock().Now, Leeway: -1})
	reject(t, v, sign(t, jwt.SigningMethodEdDSA, edKey(), nil, with(map[string]any{"nbf": start.Add(time.Second).Unix()})), usertoken.ErrToken, "nbf")
}
