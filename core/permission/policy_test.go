package permission_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/permission"
)

const policyText = `{"integration:{{claims.app}}":{"credential:{{claims.account}}":true,"credential:owner":true,` +
	`"credential:ext:team-{{claims.team}}":{"configuration:ext:{{claims.team}}":["event"],"configuration:*":false}},"integration:*":["credential:read"]}`

func parsePolicy(t testing.TB, document string) *permission.Policy {
	t.Helper()
	policy, err := permission.ParsePolicy([]byte(document))
	if err != nil {
		t.Fatalf("ParsePolicy(%s) = %v", document, err)
	}
	return policy
}

func TestPolicy_Fill(t *testing.T) {
	t.Parallel()
	good := map[string]any{"app": "custom.acme", "account": strings.ToUpper(one), "team": "Red Team", "other": 1}
	for _, tt := range []struct {
		name, policy string
		claims       map[string]any
		want         string
	}{
		{"all forms", policyText, good,
			`{"integration:*":["credential:read"],"integration:custom.acme":{"credential:owner":true,` +
				`"credential:ext:team-Red Team":{"configuration:*":[],"configuration:ext:Red Team":["event"]},"credential:` + one + `":true}}`},
		{"no template", byOwner, nil, byOwner},
		{"nothing", `{}`, good, `{}`},
		{"a claim with a long name", `{"integration:*":{"credential:ext:{{claims.https://acme.example/team}}":true}}`,
			map[string]any{"https://acme.example/team": "x"}, `{"integration:*":{"credential:ext:x":true}}`},
		{"a name with dots is one name", `{"integration:*":{"credential:ext:{{claims.a.b}}":true}}`,
			map[string]any{"a": map[string]any{"b": "wrong"}, "a.b": "right"}, `{"integration:*":{"credential:ext:right":true}}`},
		{"part of a name", `{"integration:custom.{{claims.app}}-1":true}`, map[string]any{"app": "acme"}, `{"integration:custom.acme-1":true}`},
		{"a value like a UUID stays an external id", `{"integration:*":{"credential:ext:{{claims.x}}":true}}`,
			map[string]any{"x": one}, `{"integration:*":{"credential:ext:` + one + `":true}}`},
		{"a value like JSON stays an id", `{"integration:*":{"credential:ext:{{claims.x}}":["proxy"]}}`,
			map[string]any{"x": `a":true,"credential:*`}, `{"integration:*":{"credential:ext:a\":true,\"credential:*":["proxy"]}}`},
		{"the same claim twice", `{"integration:*":{"credential:ext:{{claims.x}}":true,"credential:ext:a-{{claims.x}}":true}}`,
			map[string]any{"x": "y"}, `{"integration:*":{"credential:ext:a-y":true,"credential:ext:y":true}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policy := parsePolicy(t, tt.policy)
			claims := maps.Clone(tt.claims)
			for range 2 { // filling changes neither
				set, err := policy.Fill(claims)
				if err != nil || string(set.AppendJSON(nil)) != tt.want {
					t.Errorf("Fill =\n%s, %v, want\n%s", set.AppendJSON(nil), err, tt.want)
				}
				if diff := cmp.Diff(tt.claims, claims); diff != "" {
					t.Errorf("Fill changes its claims (-before +after):\n%s", diff)
				}
			}
		})
	}
}

// A filled policy decides like the claim it stands for; its UUID is one, and what is like one is not.
func TestPolicy_FillAllows(t *testing.T) {
	t.Parallel()
	policy := parsePolicy(t, `{"integration:slack":{"credential:ext:{{claims.x}}":true}}`)
	set, err := policy.Fill(map[string]any{"x": one})
	if err != nil {
		t.Fatal(err)
	}
	if set.Allows(permission.Proxy, account("slack", one, "", "")) {
		t.Error("a claim with the UUID of somebody's account reaches it through credential:ext:")
	}
	if !set.Allows(permission.Proxy, account("slack", two, one, "")) {
		t.Error("a claim with an external id like a UUID does not reach its account")
	}
}

const byTeam = `{"integration:*":{"credential:ext:{{claims.x}}":true}}`

// What somebody who controls a claim may try.
var attacks = []struct {
	name    string
	policy  string
	value   any // of the claim x
	path    string
	problem string
}{
	{"empty", byTeam, "", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it is empty"},
	{"null", byTeam, nil, "integration:* > credential:ext:{{claims.x}}", "the claim x must be a text, not null"},
	{"true", byTeam, true, "integration:* > credential:ext:{{claims.x}}", "the claim x must be a text, not true or false"},
	{"a number", byTeam, 1.0, "integration:* > credential:ext:{{claims.x}}", "the claim x must be a text, not a number"},
	{"a list", byTeam, []any{"a"}, "integration:* > credential:ext:{{claims.x}}", "the claim x must be a text, not a list"},
	{"an object", byTeam, map[string]any{"a": "b"}, "integration:* > credential:ext:{{claims.x}}", "the claim x must be a text, not an object"},
	{"a Stringer", byTeam, json.RawMessage(`"a"`), "integration:* > credential:ext:{{claims.x}}", "the claim x must be a text, not something that JSON does not have"},
	{"a star", byTeam, "*", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"a star in an external id", `{"integration:*":{"credential:ext:team-{{claims.x}}":true}}`, "*", "integration:* > credential:ext:team-{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"owner", byTeam, "owner", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"True", byTeam, "True", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"false as a text", byTeam, "false", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"null as a text", byTeam, "null", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"ext", byTeam, "ext:a", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it begins like a scope"},
	{"EXT", byTeam, "EXT:a", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it begins like a scope"},
	{"a scope", byTeam, "credential:*", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it begins like a scope"},
	{"an integration scope", byTeam, "integration:*", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it begins like a scope"},
	{"a blank before", byTeam, " a", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it begins or ends with a blank"},
	{"a star behind a blank", byTeam, " *", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: it begins or ends with a blank"},
	{"a NUL", byTeam, "a\x00b", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: the external id contains a control character"},
	{"not UTF-8", byTeam, "\xff", "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: the external id is not valid text"},
	{"a template again", byTeam, "{{claims.admin}}", "integration:* > credential:ext:{{claims.x}}", `the claim x cannot be filled in: the external id contains "{{" or "}}", which only policies do`},
	{"too long", byTeam, strings.Repeat("a", 256), "integration:* > credential:ext:{{claims.x}}", "the claim x cannot be filled in: the external id has more than 255 bytes"},
	{"too long together", `{"integration:*":{"credential:ext:team-{{claims.x}}":true}}`, strings.Repeat("a", 251), "integration:* > credential:ext:team-{{claims.x}}", "the claim x cannot be filled in: the external id has more than 255 bytes"},
	{"half a prefix", `{"integration:*":{"credential:ext:ext{{claims.x}}":true}}`, ":a", "integration:* > credential:ext:ext{{claims.x}}", `the claim x cannot be filled in: the external id begins with "ext:" twice`},

	{"all integrations", `{"integration:{{claims.x}}":true}`, "*", "integration:{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"a glob of integrations", `{"integration:{{claims.x}}":true}`, "sl*", "integration:{{claims.x}}", "the claim x cannot be filled in: " + nameRule},
	{"an integration with more", `{"integration:{{claims.x}}":true}`, `slack":true,"integration:mail`, "integration:{{claims.x}}", "the claim x cannot be filled in: " + nameRule},
	{"dots", `{"integration:{{claims.x}}":true}`, "..", "integration:{{claims.x}}", "the claim x cannot be filled in: " + nameRule},

	{"all accounts", `{"integration:*":{"credential:{{claims.x}}":true}}`, "*", "integration:* > credential:{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"the owner's accounts", `{"integration:*":{"credential:{{claims.x}}":true}}`, "owner", "integration:* > credential:{{claims.x}}", "the claim x cannot be filled in: it is a keyword"},
	{"an account by external id", `{"integration:*":{"credential:{{claims.x}}":true}}`, "ext:work", "integration:* > credential:{{claims.x}}", "the claim x cannot be filled in: it begins like a scope"},
	{"an account that is no UUID", `{"integration:*":{"credential:{{claims.x}}":true}}`, "work", "integration:* > credential:{{claims.x}}", "the claim x cannot be filled in: it is not a UUID"},

	{"an integration that stands there", `{"integration:{{claims.x}}":true,"integration:admin":false}`, "admin", "", "two scopes there are the same once they are filled"},
	{"an external id that stands there", `{"integration:*":{"credential:ext:{{claims.x}}":true,"credential:ext:admin":false}}`, "admin", "integration:*", "two scopes there are the same once they are filled"},
	{"an account that stands there, in another case", `{"integration:*":{"credential:{{claims.x}}":true,"credential:` + one + `":false}}`, strings.ToUpper(one), "integration:*", "two scopes there are the same once they are filled"},
	{"a configuration that stands there", `{"integration:*":{"credential:*":{"configuration:ext:a{{claims.x}}":true,"configuration:ext:aa":false}}}`, "a", "integration:* > credential:*", "two scopes there are the same once they are filled"},
}

func TestPolicy_FillRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range attacks {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := parsePolicy(t, tt.policy).Fill(map[string]any{"x": tt.value})
			if set != nil {
				t.Errorf("Fill = %s beside an error, want nil", set.AppendJSON(nil))
			}
			wantError(t, "Fill", err, "policy", tt.path, tt.problem)
		})
	}
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		for _, claims := range []map[string]any{nil, {"X": "a"}, {"y": "a"}} {
			_, err := parsePolicy(t, byTeam).Fill(claims)
			wantError(t, "Fill", err, "policy", "integration:* > credential:ext:{{claims.x}}", "the token has no claim x")
		}
	})
	t.Run("two claims that meet", func(t *testing.T) {
		t.Parallel()
		policy := parsePolicy(t, `{"integration:{{claims.a}}":true,"integration:{{claims.b}}":false}`)
		_, err := policy.Fill(map[string]any{"a": "slack", "b": "slack"})
		wantError(t, "Fill", err, "policy", "", "two scopes there are the same once they are filled")
	})
	t.Run("too large once filled", func(t *testing.T) {
		t.Parallel()
		scopes := map[string]any{}
		for i := range 100 {
			scopes[fmt.Sprintf("credential:ext:%d-{{claims.x}}", i)] = true
		}
		policy := parsePolicy(t, pretty(map[string]any{"integration:*": scopes}))
		_, err := policy.Fill(map[string]any{"x": strings.Repeat("a", 200)})
		wantError(t, "Fill", err, "policy", "", "there are more than 16 KiB once it is filled")
	})
}

func TestParsePolicy_Refused(t *testing.T) {
	t.Parallel()
	const syntax = "a template is {{claims.<name>}}, with the name of a claim of 1 to 128 letters, digits, '.', ':', '/', '-' and '_'"
	inCredential := func(key string) string { return pretty(map[string]any{"integration:*": map[string]any{key: true}}) }
	for _, tt := range []struct{ name, policy, path, problem string }{
		{"null", `null`, "", "there must be an object of scopes, or a text that holds one in JSON, not null"},
		{"a mistake as in a claim", `{"integration:slack":["user:write"]}`, "integration:slack", "user:write is accepted at integration:* only"},
		{"blanks in a template", inCredential("credential:ext:{{ claims.x }}"), "integration:* > credential:ext:{{ claims.x }}", syntax},
		{"no claims in a template", inCredential("credential:ext:{{x}}"), "integration:* > credential:ext:{{x}}", syntax},
		{"no name in a template", inCredential("credential:ext:{{claims.}}"), "integration:* > credential:ext:{{claims.}}", syntax},
		{"no end of a template", inCredential("credential:ext:{{claims.x"), "integration:* > credential:ext:{{claims.x", syntax},
		{"a function in a template", inCredential("credential:ext:{{claims.x | upper}}"), "integration:* > credential:ext:{{claims.x | upper}}", syntax},
		{"a template in a template", inCredential("credential:ext:{{claims.{{claims.x}}}}"), "integration:* > credential:ext:{{claims.{{claims.x}}}}", syntax},
		{"a long name", inCredential("credential:ext:{{claims." + strings.Repeat("x", 129) + "}}"), "integration:* > credential:ext:{{claims." + strings.Repeat("x", 40) + "…", syntax},
		{"two templates", inCredential("credential:ext:{{claims.x}}-{{claims.y}}"), "integration:* > credential:ext:{{claims.x}}-{{claims.y}}", "a scope has one template at most"},
		{"an end too many", inCredential("credential:ext:{{claims.x}}}}"), "integration:* > credential:ext:{{claims.x}}}}", "a scope has one template at most"},
		{"an end before", inCredential("credential:ext:}}{{claims.x}}"), "integration:* > credential:ext:}}{{claims.x}}", "a scope has one template at most"},
		{"an end alone", inCredential("credential:ext:x}}"), "integration:* > credential:ext:x}}", `the external id contains "{{" or "}}", which only policies do`},
		{"part of a UUID", inCredential("credential:019a3c1e-{{claims.x}}"), "integration:* > credential:019a3c1e-{{claims.x}}", "a template stands for the whole UUID"},
		{"a blank around", inCredential("credential:ext: {{claims.x}}"), "integration:* > credential:ext: {{claims.x}}", "the external id begins or ends with a blank"},
		{"a blank behind", inCredential("credential:ext:{{claims.x}} "), "integration:* > credential:ext:{{claims.x}} ", "the external id begins or ends with a blank"},
		{"ext twice", inCredential("credential:ext:ext:{{claims.x}}"), "integration:* > credential:ext:ext:{{claims.x}}", `the external id begins with "ext:" twice`},
		{"a control character", inCredential("credential:ext:\x7f{{claims.x}}"), `integration:* > "credential:ext:\x7f{{claims.x}}"`, "the external id contains a control character"},
		{"no room", inCredential("credential:ext:" + strings.Repeat("a", 255) + "{{claims.x}}"), "integration:* > credential:ext:" + strings.Repeat("a", 49) + "…", "the external id has more than 255 bytes"},
		{"no name around", `{"integration:my app {{claims.x}}":true}`, "integration:my app {{claims.x}}", nameRule},
		{"no room in a name", `{"integration:` + strings.Repeat("a", 64) + `{{claims.x}}":true}`, "integration:" + strings.Repeat("a", 52) + "…", nameRule},
		{"a template as a scope", `{"{{claims.x}}":true}`, "{{claims.x}}", integrationScopes},
		{"a template in a word", `{"integration:*":{"credential:owner{{claims.x}}":true}}`, "integration:* > credential:owner{{claims.x}}", "a template stands for the whole UUID"},
		{"a template as the kind of an id", `{"integration:*":{"credential:{{claims.x}}:a":true}}`, "integration:* > credential:{{claims.x}}:a", "a template stands for the whole UUID"},
		{"a template as a permission", `{"integration:*":["{{claims.x}}"]}`, "integration:*", "a permission is not filled in: templates stand in the ids of scopes only"},
		{"a template as a value", `{"integration:*":"{{claims.x}}"}`, "integration:*", "a scope wants true, false, a list of permissions or an object of narrower scopes, not a text"},
		{"the same template twice", `{"integration:{{claims.x}}":true,"integration:{{claims.x}}":false}`, "integration:{{claims.x}}", "the scope stands there twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policy, err := permission.ParsePolicy([]byte(tt.policy))
			if policy != nil {
				t.Errorf("ParsePolicy = %s beside an error, want nil", policy.AppendJSON(nil))
			}
			wantError(t, "ParsePolicy", err, "policy", tt.path, tt.problem)
		})
	}
}

func TestPolicy_Claims(t *testing.T) {
	t.Parallel()
	policy := parsePolicy(t, policyText)
	want := []string{"account", "app", "team"}
	got := policy.Claims()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Claims (-want +got):\n%s", diff)
	}
	got[0] = "changed"
	if diff := cmp.Diff(want, policy.Claims()); diff != "" {
		t.Errorf("Claims after a change of what it returned (-want +got):\n%s", diff)
	}
	if got := parsePolicy(t, byOwner).Claims(); len(got) != 0 {
		t.Errorf("Claims of a policy without templates = %v, want none", got)
	}
}

// Policies that mean the same have the same canonical form.
func TestPolicy_AppendJSON(t *testing.T) {
	t.Parallel()
	const want = `{"integration:*":["credential:read"],"integration:{{claims.app}}":{"credential:owner":true,` +
		`"credential:ext:team-{{claims.team}}":{"configuration:*":[],"configuration:ext:{{claims.team}}":["event"]},"credential:{{claims.account}}":true}}`
	policy := parsePolicy(t, policyText)
	if got := string(policy.AppendJSON(nil)); got != want {
		t.Errorf("AppendJSON =\n%s, want\n%s", got, want)
	}
	if got, err := json.Marshal(policy); err != nil || string(got) != want {
		t.Errorf("json.Marshal =\n%s, %v, want\n%s", got, err, want)
	}
	checkPolicy(t, policy)
}

// Without a policy nothing is allowed.
func TestPolicy_Nil(t *testing.T) {
	t.Parallel()
	var none *permission.Policy
	for name, policy := range map[string]*permission.Policy{"nil": none, "zero": {}} {
		set, err := policy.Fill(nil)
		if err != nil || set.Any(permission.CredentialRead, "") || string(policy.AppendJSON(nil)) != "{}" || policy.Claims() != nil {
			t.Errorf("a %s Policy fills to %s, %v, want nothing", name, set.AppendJSON(nil), err)
		}
	}
}
