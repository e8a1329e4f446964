package permission_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/polycred/polycred/core/permission"
)

// checkError says whether an error is one that may be shown: of our type, short, on one line.
func checkError(t testing.TB, err error) {
	t.Helper()
	var typed *permission.Error
	if !errors.As(err, &typed) || typed.Problem == "" {
		t.Fatalf("error %v is a %T, want *permission.Error with a Problem", err, err)
	}
	if text := err.Error(); len(text) > 4096 || strings.ContainsFunc(text, unicode.IsControl) {
		t.Fatalf("error of %d bytes: %q, want a short one without control characters", len(text), text)
	}
}

// FuzzParse parses anything as a claim and as a policy: it never panics, what it accepts it can write, and both ways to
// parse agree.
func FuzzParse(f *testing.F) {
	for _, tt := range decisions {
		f.Add(tt.claim)
	}
	for _, tt := range badClaims {
		f.Add(tt.claim)
	}
	f.Add(policyText)
	f.Fuzz(func(t *testing.T, claim string) {
		if policy, err := permission.ParsePolicy([]byte(claim)); err != nil {
			checkError(t, err)
		} else {
			checkPolicy(t, policy)
		}
		set, err := permission.ParseJSON([]byte(claim))
		fromText, textErr := permission.Parse(claim)
		if err != nil {
			checkError(t, err)
			if textErr == nil {
				t.Fatalf("Parse accepts what ParseJSON does not: %v", err)
			}
			return
		}
		if len(set.AppendJSON(nil)) > len(claim) {
			t.Fatalf("canonical form %s is longer than the claim %s", set.AppendJSON(nil), claim)
		}
		if textErr == nil && string(fromText.AppendJSON(nil)) != string(set.AppendJSON(nil)) {
			t.Fatalf("Parse = %s, ParseJSON = %s", fromText.AppendJSON(nil), set.AppendJSON(nil))
		}
		checkCanonical(t, set)
		var decoded any
		if err := json.Unmarshal([]byte(claim), &decoded); err != nil {
			t.Fatalf("ParseJSON accepts what is not JSON: %v", err)
		}
		fromAny, err := permission.Parse(decoded)
		if err != nil || string(fromAny.AppendJSON(nil)) != string(set.AppendJSON(nil)) {
			t.Fatalf("Parse(%v) = %s, %v, want %s", decoded, fromAny.AppendJSON(nil), err, set.AppendJSON(nil))
		}
	})
}

// checkPolicy writes a policy, reads it again, and fills both with claims that it asks for.
func checkPolicy(t testing.TB, policy *permission.Policy) {
	t.Helper()
	again, err := permission.ParsePolicy(policy.AppendJSON(nil))
	if err != nil {
		t.Fatalf("ParsePolicy of the canonical form %s = %v", policy.AppendJSON(nil), err)
	}
	if string(again.AppendJSON(nil)) != string(policy.AppendJSON(nil)) || !reflect.DeepEqual(again.Claims(), policy.Claims()) {
		t.Fatalf("policy after a round trip = %s, want %s", again.AppendJSON(nil), policy.AppendJSON(nil))
	}
	claims := map[string]any{}
	for _, name := range policy.Claims() {
		claims[name] = two
	}
	set, err := policy.Fill(claims)
	if err != nil {
		checkError(t, err)
		return
	}
	checkCanonical(t, set)
}

// FuzzNarrow narrows documents at random: nothing is allowed that was not before.
func FuzzNarrow(f *testing.F) {
	for seed := range uint64(32) {
		f.Add(seed, seed%4 > 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, person bool) {
		who := ""
		if person {
			who = "ada"
		}
		r := rand.New(rand.NewPCG(seed, 2))
		checkNarrow(t, r, who)
		checkSet(t, randomObject(r, ""), who)
	})
}

// FuzzFill gives a policy any value: the structure stays, and the value reaches no more than the scopes that it fills.
func FuzzFill(f *testing.F) {
	for _, tt := range attacks {
		if value, ok := tt.value.(string); ok {
			f.Add(value)
		}
	}
	for _, value := range []string{"work", one, "slack", "a b", "é"} {
		f.Add(value)
	}
	policy, err := permission.ParsePolicy([]byte(
		`{"integration:mail":{"credential:ext:{{claims.x}}":["proxy"],"credential:ext:team-{{claims.x}}":{"configuration:ext:{{claims.x}}":["event"]}}}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		set, err := policy.Fill(map[string]any{"x": value})
		if err != nil {
			checkError(t, err)
			return
		}
		set = set.For(value)
		checkCanonical(t, set)
		for _, target := range everyTarget {
			for _, p := range everyPermission {
				its := target.ExternalID == value && p == permission.Proxy ||
					target.ExternalID == "team-"+value && target.Configuration == value && p == permission.Event
				if set.Allows(p, target) && !(its && target.Integration == "mail") {
					t.Fatalf("Fill(%q) allows %s for %+v: %v", value, p, target, set.Explain(p, target))
				}
			}
		}
	})
}
