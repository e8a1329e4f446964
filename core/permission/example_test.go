package permission_test

import (
	"fmt"

	"github.com/polycred/polycred/core/permission"
)

// A member of an organisation uses the accounts that they connected, sees those of the team, and gets no other.
func Example() {
	set, err := permission.ParseJSON([]byte(`{
		"integration:*": {
			"credential:owner":    true,
			"credential:ext:team": ["credential:read", "proxy"]
		}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	set = set.For("ada")

	own := permission.Target{
		Level: permission.LevelCredential, Integration: "slack", Credential: "019a3c1e-7f00-7000-8000-000000000001", Owner: "ada",
	}
	shared, fresh := own, own
	shared.Owner, shared.ExternalID = "bob", "team"
	fresh.Credential = "" // it is about to be connected

	fmt.Println(set.Allows(permission.Workflow, own), set.Allows(permission.Workflow, shared), set.Allows(permission.CredentialWrite, fresh))
	fmt.Println(set.Explain(permission.Workflow, shared))
	fmt.Println(set.Explain(permission.CredentialToken, own))
	// Output:
	// true false true
	// denied by integration:* > credential:ext:team: it names only credential:read, proxy
	// denied by integration:* > credential:owner: it grants everything but credential:token, which must be named
}

// A mistake is an error that says where it is and what is accepted.
func ExampleParse() {
	_, err := permission.Parse(map[string]any{
		"integration:slack": map[string]any{"credential:work": true},
	})
	fmt.Println(err)
	// Output:
	// permissions at integration:slack > credential:work: unknown scope: here stand credential:*, credential:owner, credential:ext:<id> and credential:<uuid>
}

// A policy is declared once, and filled with the claims of each token that names it.
func ExamplePolicy() {
	policy, err := permission.ParsePolicy([]byte(`{"integration:*": {"credential:ext:team-{{claims.team}}": ["proxy"]}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(policy.Claims())
	for _, team := range []any{"red", "*"} {
		set, err := policy.Fill(map[string]any{"team": team})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(string(set.AppendJSON(nil)))
	}
	// Output:
	// [team]
	// {"integration:*":{"credential:ext:team-red":["proxy"]}}
	// policy at integration:* > credential:ext:team-{{claims.team}}: the claim team cannot be filled in: it is a keyword
}
