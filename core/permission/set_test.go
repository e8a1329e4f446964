package permission_test

import (
	"testing"

	"github.com/polycred/polycred/core/permission"
)

// Two accounts, as targets name them.
const (
	one = "019a3c1e-7f00-7000-8000-000000000001"
	two = "019a3c1e-7f00-7000-8000-000000000002"
)

func user() permission.Target { return permission.Target{Level: permission.LevelUser} }

func integration(name string) permission.Target {
	return permission.Target{Level: permission.LevelIntegration, Integration: name}
}

// account is a credential; id "" is one to be created.
func account(integration, id, externalID, owner string) permission.Target {
	return permission.Target{
		Level: permission.LevelCredential, Integration: integration, Credential: id, ExternalID: externalID, Owner: owner,
	}
}

func configuration(of permission.Target, externalID string) permission.Target {
	of.Level, of.Configuration = permission.LevelConfiguration, externalID
	return of
}

func parse(t testing.TB, claim string) *permission.Set {
	t.Helper()
	set, err := permission.ParseJSON([]byte(claim))
	if err != nil {
		t.Fatalf("ParseJSON(%s) = %v", claim, err)
	}
	return set
}

// slack returns an account of slack that has an external id and that ada owns.
func slack(id string) permission.Target { return account("slack", id, "work", "ada") }

const exactlyOne = `{"integration:sharepoint":{"credential:` + one + `":true}}`

// specific has a scope of every form for the same account, each with another permission.
const specific = `{"integration:slack":{"credential:*":["proxy"],"credential:owner":["event"],"credential:ext:work":["workflow"],` +
	`"credential:` + one + `":["sync"]}}`

const (
	byOwner  = `{"integration:*":{"credential:owner":true}}`
	override = `{"integration:*":["proxy","event"],"integration:slack":["credential:read"]}`
	onlyOne  = `{"integration:*":true,"integration:slack":{"credential:` + one + `":["proxy"]}}`
	teams    = `{"integration:drive":{"credential:` + one + `":{"configuration:*":["configuration:read"],"configuration:ext:Team A":true}}}`
	oneTeam  = `{"integration:drive":{"credential:*":{"configuration:ext:Team A":true}}}`
	shadow   = `{"integration:*":{"credential:ext:work":["proxy"]},"integration:slack":{"credential:` + one + `":true}}`
	connect  = `{"integration:sharepoint":{"credential:*":["credential:write"]}}`
	label    = `{"integration:slack":{"credential:ext:work":["credential:write"]}}`
)

// Every case asks once; scope is the one that decides.
var decisions = []struct {
	name   string
	claim  string
	person string
	p      permission.Permission
	t      permission.Target
	want   bool
	scope  string
}{
	{"true at all integrations, an account", `{"integration:*":true}`, "", permission.Proxy, slack(one), true, "integration:*"},
	{"true at all integrations, an integration", `{"integration:*":true}`, "", permission.ActionKit, integration("slack"), true, "integration:*"},
	{"true at all integrations, a configuration", `{"integration:*":true}`, "", permission.ConfigurationWrite, configuration(slack(one), ""), true, "integration:*"},
	{"true at all integrations, a new account", `{"integration:*":true}`, "", permission.CredentialWrite, account("slack", "", "", ""), true, "integration:*"},
	{"true at all integrations, the user", `{"integration:*":true}`, "", permission.UserWrite, user(), true, "integration:*"},
	{"true does not give tokens out", `{"integration:*":true}`, "", permission.CredentialToken, slack(one), false, "integration:*"},
	{"nor does true at one account", exactlyOne, "", permission.CredentialToken, account("sharepoint", one, "", ""), false, "integration:sharepoint > credential:" + one},
	{"a token that is named", `{"integration:*":["credential:token"]}`, "", permission.CredentialToken, slack(one), true, "integration:*"},
	{"a token that is named, nothing else", `{"integration:*":["credential:token"]}`, "", permission.CredentialRead, slack(one), false, "integration:*"},
	{"an empty claim", `{}`, "", permission.CredentialRead, slack(one), false, ""},
	{"an empty claim, the user", `{}`, "", permission.UserWrite, user(), false, ""},

	{"exactly one account", exactlyOne, "", permission.Proxy, account("sharepoint", one, "", ""), true, "integration:sharepoint > credential:" + one},
	{"exactly one account, another one", exactlyOne, "", permission.Proxy, account("sharepoint", two, "", ""), false, "integration:sharepoint"},
	{"exactly one account, another integration", exactlyOne, "", permission.Proxy, account("slack", one, "", ""), false, ""},
	{"exactly one account, a new one", exactlyOne, "", permission.CredentialWrite, account("sharepoint", "", "", ""), false, "integration:sharepoint"},
	{"exactly one account, its configuration", exactlyOne, "", permission.ConfigurationRead, configuration(account("sharepoint", one, "", ""), "x"), true, "integration:sharepoint > credential:" + one},
	{"exactly one account, its integration", exactlyOne, "", permission.Event, integration("sharepoint"), false, "integration:sharepoint"},
	{"exactly one account, upper case in the claim", `{"integration:slack":{"credential:019A3C1E-7F00-7000-8000-000000000001":true}}`, "", permission.Proxy, slack(one), true, "integration:slack > credential:" + one},

	{"connect only, a new account", connect, "", permission.CredentialWrite, account("sharepoint", "", "", ""), true, "integration:sharepoint > credential:*"},
	{"connect only, reading it", connect, "", permission.CredentialRead, account("sharepoint", one, "", ""), false, "integration:sharepoint > credential:*"},
	{"connect only, elsewhere", connect, "", permission.CredentialWrite, account("slack", "", "", ""), false, ""},

	{"a named integration replaces: what it names", override, "", permission.CredentialRead, slack(one), true, "integration:slack"},
	{"a named integration replaces: what the broad one names", override, "", permission.Proxy, slack(one), false, "integration:slack"},
	{"a named integration replaces: another integration", override, "", permission.Proxy, account("mail", one, "", ""), true, "integration:*"},
	{"a named integration replaces: names are whole", override, "", permission.Proxy, account("slack2", one, "", ""), true, "integration:*"},
	{"a named integration replaces: case counts", override, "", permission.Proxy, account("Slack", one, "", ""), true, "integration:*"},
	{"a named integration replaces with one account", onlyOne, "", permission.Proxy, slack(one), true, "integration:slack > credential:" + one},
	{"and with nothing else of that account", onlyOne, "", permission.Event, slack(one), false, "integration:slack > credential:" + one},
	{"and with no other account", onlyOne, "", permission.Proxy, slack(two), false, "integration:slack"},
	{"and with nothing at the integration", onlyOne, "", permission.Proxy, integration("slack"), false, "integration:slack"},
	{"and leaves the user alone", onlyOne, "", permission.UserWrite, user(), true, "integration:*"},
	{"narrower scopes of the broad integration do not reach in", shadow, "", permission.Proxy, account("slack", two, "work", ""), false, "integration:slack"},
	{"they do elsewhere", shadow, "", permission.Proxy, account("mail", two, "work", ""), true, "integration:* > credential:ext:work"},

	{"a denied integration", `{"integration:*":true,"integration:slack":false}`, "", permission.Proxy, slack(one), false, "integration:slack"},
	{"a denied integration, by a list", `{"integration:*":true,"integration:slack":[]}`, "", permission.CredentialRead, slack(one), false, "integration:slack"},
	{"a denied integration, by an empty object", `{"integration:*":true,"integration:slack":{}}`, "", permission.CredentialRead, slack(one), false, "integration:slack"},
	{"a denied integration, another one", `{"integration:*":true,"integration:slack":false}`, "", permission.Proxy, account("mail", one, "", ""), true, "integration:*"},
	{"a denied account", `{"integration:*":{"credential:*":true,"credential:` + one + `":false}}`, "", permission.Proxy, slack(one), false, "integration:* > credential:" + one},
	{"a denied account, another one", `{"integration:*":{"credential:*":true,"credential:` + one + `":false}}`, "", permission.Proxy, slack(two), true, "integration:* > credential:*"},
	{"all denied but one", `{"integration:slack":{"credential:*":false,"credential:` + one + `":true}}`, "", permission.Proxy, slack(one), true, "integration:slack > credential:" + one},

	{"the UUID comes first", specific, "ada", permission.Sync, slack(one), true, "integration:slack > credential:" + one},
	{"the UUID replaces the external id", specific, "ada", permission.Workflow, slack(one), false, "integration:slack > credential:" + one},
	{"the external id comes second", specific, "ada", permission.Workflow, slack(two), true, "integration:slack > credential:ext:work"},
	{"the external id replaces the owner", specific, "ada", permission.Event, slack(two), false, "integration:slack > credential:ext:work"},
	{"the owner comes third", specific, "ada", permission.Event, account("slack", two, "home", "ada"), true, "integration:slack > credential:owner"},
	{"the owner replaces all", specific, "ada", permission.Proxy, account("slack", two, "", "ada"), false, "integration:slack > credential:owner"},
	{"all comes last", specific, "ada", permission.Proxy, account("slack", two, "home", "bob"), true, "integration:slack > credential:*"},
	{"all, for somebody else", specific, "bob", permission.Proxy, account("slack", two, "", "ada"), true, "integration:slack > credential:*"},
	{"a new account is found by its external id", specific, "ada", permission.Workflow, account("slack", "", "work", "ada"), true, "integration:slack > credential:ext:work"},

	{"the owner", byOwner, "ada", permission.Proxy, account("mail", one, "", "ada"), true, "integration:* > credential:owner"},
	{"the owner, no token", byOwner, "ada", permission.CredentialToken, account("mail", one, "", "ada"), false, "integration:* > credential:owner"},
	{"somebody else's", byOwner, "ada", permission.CredentialRead, account("mail", one, "", "bob"), false, "integration:*"},
	{"nobody's", byOwner, "ada", permission.CredentialRead, account("mail", one, "", ""), false, "integration:*"},
	{"nobody's, by nobody", byOwner, "", permission.CredentialRead, account("mail", one, "", ""), false, "integration:*"},
	{"somebody's, by nobody", byOwner, "", permission.CredentialRead, account("mail", one, "", "ada"), false, "integration:*"},
	{"the owner's configuration", byOwner, "ada", permission.ConfigurationWrite, configuration(account("mail", one, "", "ada"), "x"), true, "integration:* > credential:owner"},
	{"the owner connects", byOwner, "ada", permission.CredentialWrite, account("mail", "", "", "ada"), true, "integration:* > credential:owner"},
	{"the owner connects with an external id", byOwner, "ada", permission.CredentialWrite, account("mail", "", "work", "ada"), true, "integration:* > credential:owner"},
	{"the owner connects for somebody else", byOwner, "ada", permission.CredentialWrite, account("mail", "", "", "bob"), false, "integration:*"},
	{"the owner does not connect without write", `{"integration:*":{"credential:owner":["credential:read"]}}`, "ada", permission.CredentialWrite, account("mail", "", "", "ada"), false, "integration:* > credential:owner"},
	{"nobody connects as owner", byOwner, "", permission.CredentialWrite, account("mail", "", "", ""), false, "integration:*"},
	{"case counts in a person", byOwner, "Ada", permission.Proxy, account("mail", one, "", "ada"), false, "integration:*"},

	{"an external id", label, "", permission.CredentialWrite, account("slack", one, "work", ""), true, "integration:slack > credential:ext:work"},
	{"an external id, a new account", label, "", permission.CredentialWrite, account("slack", "", "work", ""), true, "integration:slack > credential:ext:work"},
	{"an external id, a new account with another", label, "", permission.CredentialWrite, account("slack", "", "home", ""), false, "integration:slack"},
	{"an external id, a new account without", label, "", permission.CredentialWrite, account("slack", "", "", ""), false, "integration:slack"},
	{"an external id, case counts", label, "", permission.CredentialWrite, account("slack", one, "Work", ""), false, "integration:slack"},
	{"an external id like a UUID is none", `{"integration:slack":{"credential:ext:` + one + `":true}}`, "", permission.Proxy, account("slack", one, "", ""), false, "integration:slack"},
	{"a UUID is no external id", `{"integration:slack":{"credential:` + one + `":true}}`, "", permission.Proxy, account("slack", two, one, ""), false, "integration:slack"},
	{"an external id like a scope", `{"integration:slack":{"credential:ext:a > credential:*":true}}`, "", permission.Proxy, account("slack", two, "a > credential:*", ""), true, `integration:slack > "credential:ext:a > credential:*"`},
	{"an external id called owner", `{"integration:slack":{"credential:ext:owner":true}}`, "ada", permission.Proxy, account("slack", two, "", "ada"), false, "integration:slack"},

	{"a configuration by its external id", teams, "", permission.Event, configuration(account("drive", one, "", ""), "Team A"), true, "integration:drive > credential:" + one + " > configuration:ext:Team A"},
	{"another configuration", teams, "", permission.Event, configuration(account("drive", one, "", ""), "Team B"), false, "integration:drive > credential:" + one + " > configuration:*"},
	{"the default configuration", teams, "", permission.ConfigurationRead, configuration(account("drive", one, "", ""), ""), true, "integration:drive > credential:" + one + " > configuration:*"},
	{"the account of configurations", teams, "", permission.CredentialRead, account("drive", one, "", ""), false, "integration:drive > credential:" + one},
	{"a configuration of another account", teams, "", permission.Event, configuration(account("drive", two, "", ""), "Team A"), false, "integration:drive"},
	{"one configuration only, another one", oneTeam, "", permission.ConfigurationRead, configuration(account("drive", one, "", ""), "Team B"), false, "integration:drive > credential:*"},
	{"one configuration only, the default one", oneTeam, "", permission.ConfigurationRead, configuration(account("drive", one, "", ""), ""), false, "integration:drive > credential:*"},
	{"a denied configuration", `{"integration:drive":{"credential:*":{"configuration:*":true,"configuration:ext:x":false}}}`, "", permission.Sync, configuration(account("drive", one, "", ""), "x"), false, "integration:drive > credential:* > configuration:ext:x"},
	{"an account replaces the configurations of all", `{"integration:drive":{"credential:*":{"configuration:*":true},"credential:` + one + `":["proxy"]}}`, "", permission.Event, configuration(account("drive", one, "", ""), "x"), false, "integration:drive > credential:" + one},

	{"the user by name", `{"integration:*":["user:write"]}`, "", permission.UserWrite, user(), true, "integration:*"},
	{"the user, not named", `{"integration:*":["proxy"]}`, "", permission.UserWrite, user(), false, "integration:*"},
	{"the user, beside a named integration", `{"integration:slack":true}`, "", permission.UserWrite, user(), false, ""},
	{"the user, narrower scopes", byOwner, "ada", permission.UserWrite, user(), false, "integration:*"},
	{"the user is not an account", `{"integration:*":true}`, "", permission.UserWrite, slack(one), false, ""},
	{"proxy is not for the user", `{"integration:*":true}`, "", permission.Proxy, user(), false, ""},
	{"a configuration is not connected", `{"integration:*":true}`, "", permission.CredentialWrite, configuration(slack(one), ""), false, ""},
	{"a configuration has no token", `{"integration:*":["credential:token"]}`, "", permission.CredentialToken, configuration(slack(one), ""), false, ""},

	{"a synonym", `{"integration:*":["workflow:trigger"]}`, "", permission.Workflow, slack(one), true, "integration:*"},
	{"a synonym is no permission of its own", `{"integration:*":["workflow:trigger"]}`, "", "workflow:trigger", slack(one), false, ""},
	{"an unknown permission", `{"integration:*":true}`, "", "credential:*", slack(one), false, ""},
	{"no permission", `{"integration:*":true}`, "", "", slack(one), false, ""},
	{"a claim that is a text", `"{\"integration:*\":{\"credential:*\":[\"credential:write\"]}}"`, "", permission.CredentialWrite, slack(one), true, "integration:* > credential:*"},
	{"a custom integration", `{"integration:custom.acme":["proxy"]}`, "", permission.Proxy, account("custom.acme", one, "", ""), true, "integration:custom.acme"},
	{"an integration called owner", `{"integration:owner":["proxy"]}`, "ada", permission.Proxy, account("slack", one, "", "ada"), false, ""},

	{"a target without a level", `{"integration:*":true}`, "", permission.Proxy, permission.Target{Integration: "slack"}, false, ""},
	{"a target of an unknown level", `{"integration:*":true}`, "", permission.Proxy, permission.Target{Level: 9, Integration: "slack"}, false, ""},
	{"a target without an integration", `{"integration:*":true}`, "", permission.Proxy, account("", one, "", ""), false, ""},
	{"a target whose UUID is not canonical", `{"integration:*":true}`, "", permission.Proxy, account("slack", "019A3C1E-7F00-7000-8000-000000000001", "", ""), false, ""},
}

func TestSet_Allows(t *testing.T) {
	t.Parallel()
	if len(decisions) < 60 {
		t.Errorf("the table has %d cases, want at least 60", len(decisions))
	}
	seen := map[string]bool{}
	for _, tt := range decisions {
		if seen[tt.name] {
			t.Errorf("two cases are called %q", tt.name)
		}
		seen[tt.name] = true
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set := parse(t, tt.claim).For(tt.person)
			if got := set.Allows(tt.p, tt.t); got != tt.want {
				t.Errorf("Allows(%s, %+v) = %t, want %t", tt.p, tt.t, got, tt.want)
			}
			why := set.Explain(tt.p, tt.t)
			if why.Allowed != tt.want || why.Scope != tt.scope || why.Reason == "" {
				t.Errorf("Explain(%s, %+v) = %+v, want Allowed %t, Scope %q and a Reason", tt.p, tt.t, why, tt.want, tt.scope)
			}
			if tt.want && !set.Any(tt.p, tt.t.Integration) {
				t.Errorf("Any(%s, %q) = false, want true: %+v is allowed", tt.p, tt.t.Integration, tt.t)
			}
		})
	}
}

// Without a claim a token may do everything but take tokens out; without a Set, nothing.
func TestAll(t *testing.T) {
	t.Parallel()
	var none *permission.Set
	for _, p := range everyPermission {
		target := slack(one)
		if p == permission.UserWrite {
			target = user()
		}
		want := p != permission.CredentialToken
		if got := permission.All().Allows(p, target); got != want {
			t.Errorf("All().Allows(%s) = %t, want %t", p, got, want)
		}
		for name, set := range map[string]*permission.Set{"nil": none, "zero": {}, "nil for ada": none.For("ada"), "zero for ada": (&permission.Set{}).For("ada")} {
			if set.Allows(p, target) || set.Any(p, "") || set.Any(p, "slack") || set.Explain(p, target).Allowed {
				t.Errorf("a %s Set allows %s, want nothing", name, p)
			}
		}
	}
	if got := string(permission.All().AppendJSON(nil)); got != `{"integration:*":true}` {
		t.Errorf("All() = %s, want true at integration:*", got)
	}
	if got := string(none.AppendJSON(nil)); got != `{}` {
		t.Errorf("a nil Set = %s, want {}", got)
	}
}

// A Set for a person is another one: the first stays as it is.
func TestSet_For(t *testing.T) {
	t.Parallel()
	set := parse(t, byOwner)
	ada, bob := set.For("ada"), set.For("ada").For("bob")
	target := account("mail", one, "", "ada")
	for name, tt := range map[string]struct {
		set  *permission.Set
		want bool
	}{"nobody": {set, false}, "ada": {ada, true}, "bob": {bob, false}, "nobody again": {ada.For(""), false}} {
		if got := tt.set.Allows(permission.Proxy, target); got != tt.want {
			t.Errorf("Allows for %s = %t, want %t", name, got, tt.want)
		}
		if got := tt.set.Any(permission.Proxy, "mail"); got != (name == "ada" || name == "bob") {
			t.Errorf("Any for %s = %t", name, got)
		}
	}
}

func TestSet_Reaches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		claim  string
		person string
		p      permission.Permission
		t      permission.Target
		want   bool
	}{
		{"the account of a configuration", oneTeam, "", permission.CredentialRead, account("drive", one, "", ""), true},
		{"no write of that account", oneTeam, "", permission.CredentialWrite, account("drive", one, "", ""), false},
		{"an account without a scope", teams, "", permission.CredentialRead, account("drive", two, "", ""), false},
		{"an account that inherits", override, "", permission.CredentialRead, slack(one), true},
		{"an account that is denied", `{"integration:*":{"credential:*":true,"credential:` + one + `":false}}`, "", permission.CredentialRead, slack(one), false},
		{"its integration", `{"integration:*":{"credential:*":true,"credential:` + one + `":false}}`, "", permission.CredentialRead, integration("slack"), true},
		{"a denied integration", `{"integration:*":true,"integration:slack":false}`, "", permission.Proxy, integration("slack"), false},
		{"a configuration", oneTeam, "", permission.Event, configuration(account("drive", one, "", ""), "Team A"), true},
		{"another configuration", oneTeam, "", permission.Event, configuration(account("drive", one, "", ""), "Team B"), false},
		{"an owner's integration", byOwner, "ada", permission.Proxy, integration("mail"), true},
		{"an owner's integration, nobody", byOwner, "", permission.Proxy, integration("mail"), false},
		{"the user", `{"integration:*":["user:write"]}`, "", permission.UserWrite, user(), true},
		{"the user at an integration", `{"integration:*":["user:write"]}`, "", permission.UserWrite, integration("slack"), false},
		{"a token", `{"integration:*":true}`, "", permission.CredentialToken, user(), false},
		{"an unknown permission", `{"integration:*":true}`, "", "x", user(), false},
		{"a target without a level", `{"integration:*":true}`, "", permission.Proxy, permission.Target{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := parse(t, tt.claim).For(tt.person).Reaches(tt.p, tt.t); got != tt.want {
				t.Errorf("Reaches(%s, %+v) = %t, want %t", tt.p, tt.t, got, tt.want)
			}
		})
	}
}

func TestSet_Explain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		claim  string
		person string
		p      permission.Permission
		t      permission.Target
		want   string
	}{
		{"true", byOwner, "ada", permission.Proxy, account("mail", one, "", "ada"),
			"allowed by integration:* > credential:owner: it grants everything but credential:token"},
		{"a name", label, "", permission.CredentialWrite, account("slack", "", "work", ""),
			"allowed by integration:slack > credential:ext:work: it names credential:write"},
		{"an inherited name", override, "", permission.Proxy, account("mail", one, "", ""),
			"allowed by integration:*: it names proxy, and the credential inherits that"},
		{"an inherited true", exactlyOne, "", permission.Event, configuration(account("sharepoint", one, "", ""), "x"),
			"allowed by integration:sharepoint > credential:" + one + ": it grants everything but credential:token, and the configuration inherits that"},
		{"the user", `{"integration:*":["user:write"]}`, "", permission.UserWrite, user(), "allowed by integration:*: it names user:write"},
		{"no scope", exactlyOne, "", permission.Proxy, slack(one), "denied: no scope matches, and what no scope matches is denied"},
		{"no narrower scope", exactlyOne, "", permission.Proxy, account("sharepoint", two, "", ""),
			"denied by integration:sharepoint: it holds narrower scopes only, and none of them matches"},
		{"no person", byOwner, "", permission.Proxy, account("mail", one, "", "ada"),
			"denied by integration:*: it holds narrower scopes only, and none of them matches; credential:owner matches nothing, since no person is known"},
		{"the scope itself", exactlyOne, "", permission.Proxy, integration("sharepoint"),
			"denied by integration:sharepoint: it holds narrower scopes only, and grants nothing to the integration itself"},
		{"the user of narrower scopes", byOwner, "ada", permission.UserWrite, user(),
			"denied by integration:*: it holds narrower scopes only, and grants nothing to the user itself"},
		{"a token", `{"integration:*":true}`, "", permission.CredentialToken, slack(one),
			"denied by integration:*: it grants everything but credential:token, which must be named"},
		{"other names", `{"integration:*":["proxy","credential:read"]}`, "", permission.Event, slack(one),
			"denied by integration:*: it names only credential:read, proxy"},
		{"denied, and replaced", `{"integration:*":true,"integration:slack":false}`, "", permission.Proxy, slack(one),
			"denied by integration:slack: it denies everything; it replaces integration:*, where this would be allowed"},
		{"replaced inside", specific, "ada", permission.Proxy, slack(one),
			"denied by integration:slack > credential:" + one + ": it names only sync; it replaces integration:slack > credential:*, where this would be allowed"},
		{"replaced further out", onlyOne, "", permission.Event, slack(two),
			"denied by integration:slack: it holds narrower scopes only, and none of them matches; it replaces integration:*, where this would be allowed"},
		{"an unknown permission", `{"integration:*":true}`, "", "a\x1b[31m" + "b", slack(one), `denied: there is no permission "a\x1b[31mb"`},
		{"no level", `{"integration:*":true}`, "", permission.Proxy, permission.Target{}, "denied: the target has no level"},
		{"no integration", `{"integration:*":true}`, "", permission.Proxy, integration(""), "denied: the target names no integration"},
		{"no canonical UUID", `{"integration:*":true}`, "", permission.Proxy, account("slack", "1", "", ""),
			"denied: the target's credential is not a UUID in canonical form"},
		{"the wrong level", `{"integration:*":true}`, "", permission.UserWrite, slack(one),
			"denied: user:write means nothing for a target at the level credential"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := parse(t, tt.claim).For(tt.person).Explain(tt.p, tt.t).String(); got != tt.want {
				t.Errorf("Explain =\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// The check of every use allocates nothing.
func TestSet_AllowsAllocates(t *testing.T) { // not parallel: it counts allocations
	set := parse(t, specific).For("ada")
	targets := []permission.Target{user(), integration("slack"), slack(one), slack(two), slack(""), configuration(slack(two), "x"), account("mail", one, "", "")}
	for _, target := range targets {
		got := testing.AllocsPerRun(100, func() {
			for _, p := range everyPermission {
				set.Allows(p, target)
				set.Any(p, target.Integration)
				set.Reaches(p, target)
			}
		})
		if got != 0 {
			t.Errorf("Allows, Any and Reaches(%+v) allocate %v times, want 0", target, got)
		}
	}
}

func BenchmarkSet_Allows(b *testing.B) {
	b.ReportAllocs()
	set := parse(b, specific).For("ada")
	target := configuration(slack(two), "x")
	for b.Loop() {
		set.Allows(permission.Proxy, target)
	}
}

func BenchmarkParseJSON(b *testing.B) {
	b.ReportAllocs()
	claim := []byte(specific)
	for b.Loop() {
		if _, err := permission.ParseJSON(claim); err != nil {
			b.Fatal(err)
		}
	}
}
