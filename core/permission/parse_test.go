package permission_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core/permission"
)

const (
	integrationScopes   = "unknown scope: here stand integration:* and integration:<name>"
	credentialScopes    = "unknown scope: here stand credential:*, credential:owner, credential:ext:<id> and credential:<uuid>"
	configurationScopes = "unknown scope: here stand configuration:* and configuration:ext:<id>"
	nameRule            = "the name of an integration has 1 to 64 letters, digits, '.', '-' and '_', and not only dots"
)

var badClaims = []struct {
	name, claim   string
	path, problem string
}{
	{"nothing", ``, "", "there must be an object of scopes, or a text that holds one in JSON, not an empty text"},
	{"blanks", " \n", "", "there must be an object of scopes, or a text that holds one in JSON, not an empty text"},
	{"null", `null`, "", "there must be an object of scopes, or a text that holds one in JSON, not null"},
	{"true", `true`, "", "there must be an object of scopes, or a text that holds one in JSON, not true or false"},
	{"a list", `["proxy"]`, "", "there must be an object of scopes, or a text that holds one in JSON, not a list"},
	{"a number", `1`, "", "there must be an object of scopes, or a text that holds one in JSON, not a number"},
	{"an empty text", `""`, "", "there must be an object of scopes, or a text that holds one in JSON, not an empty text"},
	{"a text that is no JSON", `"integration:*"`, "", "the document is not valid JSON"},
	{"a text in a text", `"\"{}\""`, "", "there must be an object of scopes, or a text that holds one in JSON, not a text"},
	{"no JSON", `{"integration:*":true`, "", "the document is not valid JSON"},
	{"two documents", `{"integration:*":true}{}`, "", "the document is not valid JSON"},
	{"a comma too many", `{"integration:*":true,}`, "", "the document is not valid JSON"},
	{"not UTF-8", "{\"integration:\xff\":true}", "", "the document is not valid UTF-8"},
	{"nested too deep", strings.Repeat(`{"integration:*":`, 12) + `true` + strings.Repeat(`}`, 12), "", "the document is nested too deep"},
	{"nested far too deep", strings.Repeat(`[`, 16000), "", "the document is not valid JSON"},
	{"too large", `{"integration:*":true` + strings.Repeat(" ", 16<<10) + `}`, "", "there are more than 16 KiB"},
	{"too large as a text", `"{\"integration:*\":true` + strings.Repeat(" ", 16<<10) + `}"`, "", "there are more than 16 KiB"},

	{"an empty scope", `{"":true}`, `""`, integrationScopes},
	{"no scope", `{"*":true}`, "*", integrationScopes},
	{"a word", `{"integration":true}`, "integration", integrationScopes},
	{"a permission as a scope", `{"user:write":true}`, "user:write", integrationScopes},
	{"another case", `{"Integration:*":true}`, "Integration:*", integrationScopes},
	{"a blank before", `{" integration:*":true}`, " integration:*", integrationScopes},
	{"control characters", `{"\u001b[31m\u0000":true}`, `"\x1b[31m\x00"`, integrationScopes},
	{"a long scope", `{"` + strings.Repeat("é", 100) + `":true}`, strings.Repeat("é", 32) + "…", integrationScopes},
	{"no name", `{"integration:":true}`, "integration:", nameRule},
	{"a name with a blank", `{"integration:my app":true}`, "integration:my app", nameRule},
	{"a name with a star", `{"integration:sla*":true}`, "integration:sla*", nameRule},
	{"a name of dots", `{"integration:..":true}`, "integration:..", nameRule},
	{"a long name", `{"integration:` + strings.Repeat("a", 65) + `":true}`, "integration:" + strings.Repeat("a", 52) + "…", nameRule},
	{"a template in a claim, as a name", `{"integration:{{claims.x}}":true}`, "integration:{{claims.x}}", nameRule},

	{"a credential at the top", `{"credential:*":true}`, "credential:*", "a credential scope stands inside an integration scope, like integration:*"},
	{"an owner at the top", `{"credential:owner":true}`, "credential:owner", "a credential scope stands inside an integration scope, like integration:*"},
	{"a configuration at the top", `{"configuration:*":true}`, "configuration:*", "a configuration scope stands inside a credential scope, like credential:*"},
	{"a configuration in an integration", `{"integration:*":{"configuration:*":true}}`, "integration:* > configuration:*", "a configuration scope stands inside a credential scope, like credential:*"},
	{"an integration in an integration", `{"integration:*":{"integration:slack":true}}`, "integration:* > integration:slack", "an integration scope stands at the top, not inside another scope"},
	{"an integration in a credential", `{"integration:*":{"credential:*":{"integration:slack":true}}}`, "integration:* > credential:* > integration:slack", "an integration scope stands at the top, not inside another scope"},
	{"a credential in a credential", `{"integration:*":{"credential:*":{"credential:owner":true}}}`, "integration:* > credential:* > credential:owner", "a credential scope stands inside an integration scope, like integration:*"},
	{"a configuration in a configuration", `{"integration:*":{"credential:*":{"configuration:*":{"configuration:*":true}}}}`, "integration:* > credential:* > configuration:*", "a configuration scope wants true, false or a list of permissions, not an object"},
	{"an empty object in a configuration", `{"integration:*":{"credential:*":{"configuration:*":{}}}}`, "integration:* > credential:* > configuration:*", "a configuration scope wants true, false or a list of permissions, not an object"},

	{"no credential", `{"integration:*":{"credential:":true}}`, "integration:* > credential:", credentialScopes},
	{"a credential that is no UUID", `{"integration:*":{"credential:work":true}}`, "integration:* > credential:work", credentialScopes},
	{"a UUID in another form", `{"integration:*":{"credential:019a3c1e7f0070008000000000000001":true}}`, "integration:* > credential:019a3c1e7f0070008000000000000001", credentialScopes},
	{"an owner by name", `{"integration:*":{"credential:owner:ada":true}}`, "integration:* > credential:owner:ada", credentialScopes},
	{"a configuration by UUID", `{"integration:*":{"credential:*":{"configuration:` + one + `":true}}}`, "integration:* > credential:* > configuration:" + one, configurationScopes},
	{"a configuration's owner", `{"integration:*":{"credential:*":{"configuration:owner":true}}}`, "integration:* > credential:* > configuration:owner", configurationScopes},
	{"no external id", `{"integration:*":{"credential:ext:":true}}`, "integration:* > credential:ext:", "the external id is empty"},
	{"a star as external id", `{"integration:*":{"credential:ext:*":true}}`, "integration:* > credential:ext:*", `"*" is not an external id: leave out "ext:" to mean all`},
	{"ext twice", `{"integration:*":{"credential:ext:ext:a":true}}`, "integration:* > credential:ext:ext:a", `the external id begins with "ext:" twice`},
	{"a blank after", `{"integration:*":{"credential:ext:a ":true}}`, "integration:* > credential:ext:a ", "the external id begins or ends with a blank"},
	{"a line break", `{"integration:*":{"credential:ext:a\nb":true}}`, `integration:* > "credential:ext:a\nb"`, "the external id contains a control character"},
	{"half a character", `{"integration:*":{"credential:ext:\ud800":true}}`, `integration:* > "credential:ext:�"`, "the external id is not valid text"},
	{"a long external id", `{"integration:*":{"credential:ext:` + strings.Repeat("a", 256) + `":true}}`, "integration:* > credential:ext:" + strings.Repeat("a", 49) + "…", "the external id has more than 255 bytes"},
	{"a template in a claim", `{"integration:*":{"credential:ext:{{claims.team}}":true}}`, "integration:* > credential:ext:{{claims.team}}", `the external id contains "{{" or "}}", which only policies do`},
	{"a configuration's blank", `{"integration:*":{"credential:*":{"configuration:ext: a":true}}}`, "integration:* > credential:* > configuration:ext: a", "the external id begins or ends with a blank"},

	{"a scope twice", `{"integration:*":true,"integration:slack":true,"integration:*":false}`, "integration:*", "the scope stands there twice"},
	{"a scope twice, written otherwise", `{"integration:slack":true,"integration:sl\u0061ck":false}`, "integration:slack", "the scope stands there twice"},
	{"an account twice, in another case", `{"integration:*":{"credential:` + one + `":true,"credential:` + strings.ToUpper(one) + `":false}}`, "integration:* > credential:" + one, "the scope stands there twice"},

	{"null at a scope", `{"integration:*":null}`, "integration:*", "a scope wants true, false, a list of permissions or an object of narrower scopes, not null"},
	{"a text at a scope", `{"integration:*":"proxy"}`, "integration:*", "a scope wants true, false, a list of permissions or an object of narrower scopes, not a text"},
	{"a number at a scope", `{"integration:*":1}`, "integration:*", "a scope wants true, false, a list of permissions or an object of narrower scopes, not a number"},
	{"null at a configuration", `{"integration:*":{"credential:*":{"configuration:*":null}}}`, "integration:* > credential:* > configuration:*", "a configuration scope wants true, false or a list of permissions, not null"},

	{"an unknown permission", `{"integration:*":["proxie"]}`, "integration:*", "unknown permission proxie: here are accepted credential:read, credential:write, credential:token, configuration:read, configuration:write, user:write, proxy, event, workflow, actionkit, sync"},
	{"an unknown permission at an integration", `{"integration:slack":["*"]}`, "integration:slack", "unknown permission *: here are accepted credential:read, credential:write, credential:token, configuration:read, configuration:write, proxy, event, workflow, actionkit, sync"},
	{"an unknown permission at a configuration", `{"integration:*":{"credential:*":{"configuration:*":[""]}}}`, "integration:* > credential:* > configuration:*", `unknown permission "": here are accepted credential:read, configuration:read, configuration:write, proxy, event, workflow, actionkit, sync`},
	{"a permission in another case", `{"integration:slack":{"credential:owner":["Proxy"]}}`, "integration:slack > credential:owner", "unknown permission Proxy: here are accepted credential:read, credential:write, credential:token, configuration:read, configuration:write, proxy, event, workflow, actionkit, sync"},
	{"a permission that is no text", `{"integration:*":[true]}`, "integration:*", "a permission is a text, not true or false"},
	{"null as a permission", `{"integration:*":["proxy",null]}`, "integration:*", "a permission is a text, not null"},
	{"a list of lists", `{"integration:*":[["proxy"]]}`, "integration:*", "a permission is a text, not a list"},
	{"an object in a list", `{"integration:*":[{"credential:*":true}]}`, "integration:*", "a permission is a text, not an object"},
	{"a long list", `{"integration:*":[` + strings.Repeat(`"proxy",`, 64) + `"proxy"]}`, "integration:*", "the list has more than 64 entries"},
	{"user:write at an integration", `{"integration:slack":["user:write"]}`, "integration:slack", "user:write is accepted at integration:* only"},
	{"user:write at a credential", `{"integration:*":{"credential:*":["user:write"]}}`, "integration:* > credential:*", "user:write is accepted at integration:* only"},
	{"user:write at a configuration", `{"integration:*":{"credential:*":{"configuration:*":["user:write"]}}}`, "integration:* > credential:* > configuration:*", "user:write is accepted at integration:* only"},
	{"a token at a configuration", `{"integration:*":{"credential:*":{"configuration:*":["credential:token"]}}}`, "integration:* > credential:* > configuration:*", "credential:token means nothing for a configuration: here are accepted credential:read, configuration:read, configuration:write, proxy, event, workflow, actionkit, sync"},
	{"a connect at a configuration", `{"integration:*":{"credential:*":{"configuration:*":["credential:write"]}}}`, "integration:* > credential:* > configuration:*", "credential:write means nothing for a configuration: here are accepted credential:read, configuration:read, configuration:write, proxy, event, workflow, actionkit, sync"},
}

// wantError compares an error with the one that was expected, and its text with what it is made of.
func wantError(t *testing.T, call string, err error, kind, path, problem string) {
	t.Helper()
	var got *permission.Error
	if !errors.As(err, &got) {
		t.Errorf("%s = %v, want *permission.Error: %s", call, err, problem)
		return
	}
	if diff := cmp.Diff(&permission.Error{Path: path, Problem: problem}, got, cmpopts.IgnoreUnexported(permission.Error{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", call, diff)
	}
	text := kind + ": " + problem
	if path != "" {
		text = kind + " at " + path + ": " + problem
	}
	if err.Error() != text {
		t.Errorf("%s says %q, want %q", call, err, text)
	}
}

func TestParseJSON_Refused(t *testing.T) {
	t.Parallel()
	for _, tt := range badClaims {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := permission.ParseJSON([]byte(tt.claim))
			if set != nil {
				t.Errorf("ParseJSON = %s beside an error, want nil", set.AppendJSON(nil))
			}
			wantError(t, "ParseJSON", err, "permissions", tt.path, tt.problem)
		})
	}
}

// A claim that was decoded before is refused for the same reasons.
func TestParse_Refused(t *testing.T) {
	t.Parallel()
	many := map[string]any{}
	for i := range 1001 {
		many[fmt.Sprintf("integration:i%d", i)] = true
	}
	nested := map[string]any{}
	for i := range 900 {
		nested[fmt.Sprintf("credential:ext:%d", i)] = true
	}
	loop := map[string]any{}
	loop["integration:*"] = loop
	for _, tt := range []struct {
		name          string
		claim         any
		path, problem string
	}{
		{"nil", nil, "", "there must be an object of scopes, or a text that holds one in JSON, not null"},
		{"a nil map", map[string]any(nil), "", "there must be an object of scopes, or a text that holds one in JSON, not null"},
		{"a number", 1.0, "", "there must be an object of scopes, or a text that holds one in JSON, not a number"},
		{"a list", []any{"proxy"}, "", "there must be an object of scopes, or a text that holds one in JSON, not a list"},
		{"another type", struct{}{}, "", "there must be an object of scopes, or a text that holds one in JSON, not something that JSON does not have"},
		{"an empty text", "", "", "there must be an object of scopes, or a text that holds one in JSON, not an empty text"},
		{"a text in a text", `"{}"`, "", "there must be an object of scopes, or a text that holds one in JSON, not a text"},
		{"a scope twice in a text", `{"integration:*":true,"integration:*":true}`, "integration:*", "the scope stands there twice"},
		{"a nil map at a scope", map[string]any{"integration:*": map[string]any(nil)}, "integration:*", "a scope wants true, false, a list of permissions or an object of narrower scopes, not null"},
		{"a typed list", map[string]any{"integration:*": []string{"proxy"}}, "integration:*", "a scope wants true, false, a list of permissions or an object of narrower scopes, not something that JSON does not have"},
		{"not UTF-8", map[string]any{"integration:*": map[string]any{"credential:ext:\xff": true}}, `integration:* > "credential:ext:\xff"`, "the external id is not valid text"},
		{"a permission not UTF-8", map[string]any{"integration:slack": []any{"\xff"}}, "integration:slack", `unknown permission "\xff": here are accepted credential:read, credential:write, credential:token, configuration:read, configuration:write, proxy, event, workflow, actionkit, sync`},
		{"a map in itself", loop, "integration:* > integration:*", "an integration scope stands at the top, not inside another scope"},
		{"the first of two mistakes", map[string]any{"z": 1, "b": 1, "a": 1}, "a", integrationScopes},
		{"1,001 scopes", many, "", "there are more than 1000 scopes"},
		{"1,001 scopes in all", map[string]any{"integration:a": nested, "integration:b": nested}, "integration:b", "there are more than 1000 scopes"},
		{"more than 16 KiB", map[string]any{"integration:a": nested}, "", "there are more than 16 KiB"},
		{"a text of more than 16 KiB", "{" + strings.Repeat(" ", 16<<10) + "}", "", "there are more than 16 KiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := permission.Parse(tt.claim)
			if set != nil {
				t.Errorf("Parse = %s beside an error, want nil", set.AppendJSON(nil))
			}
			wantError(t, "Parse", err, "permissions", tt.path, tt.problem)
		})
	}
}

// The canonical form: what it is for ever, since sessions hold it.
func TestSet_AppendJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, claim, want string }{
		{"nothing", ` { } `, `{}`},
		{"true", `{"integration:*" : true}`, `{"integration:*":true}`},
		{"a text", `"{\"integration:*\":true}"`, `{"integration:*":true}`},
		{"a text after blanks", ` "{\"integration:*\":true}"`, `{"integration:*":true}`},
		{"denied", `{"integration:a":false,"integration:b":[],"integration:c":{}}`, `{"integration:a":[],"integration:b":[],"integration:c":[]}`},
		{"from broad to specific", `{"integration:z":true,"integration:B":true,"integration:a":true,"integration:*":false}`,
			`{"integration:*":[],"integration:B":true,"integration:a":true,"integration:z":true}`},
		{"credentials", `{"integration:*":{"credential:` + strings.ToUpper(one) + `":true,"credential:ext:b":true,"credential:owner":true,"credential:ext:a":true,"credential:*":true}}`,
			`{"integration:*":{"credential:*":true,"credential:owner":true,"credential:ext:a":true,"credential:ext:b":true,"credential:` + one + `":true}}`},
		{"configurations", `{"integration:*":{"credential:*":{"configuration:ext:Team A":["sync"],"configuration:*":false}}}`,
			`{"integration:*":{"credential:*":{"configuration:*":[],"configuration:ext:Team A":["sync"]}}}`},
		{"the order of permissions", `{"integration:*":["sync","proxy","user:write","credential:token","proxy","credential:read"]}`,
			`{"integration:*":["credential:read","credential:token","user:write","proxy","sync"]}`},
		{"synonyms", `{"integration:a":["proxy:request"],"integration:b":["proxy_api"],"integration:c":["event:send"],"integration:d":["app_event"],"integration:e":["workflow:run"],"integration:f":["workflow:trigger","workflow"],"integration:g":["actionkit:run"],"integration:h":["managed_sync"]}`,
			`{"integration:a":["proxy"],"integration:b":["proxy"],"integration:c":["event"],"integration:d":["event"],"integration:e":["workflow"],"integration:f":["workflow"],"integration:g":["actionkit"],"integration:h":["sync"]}`},
		{"a list that says true", `{"integration:a":["credential:read","credential:write","configuration:read","configuration:write","proxy","event","workflow","actionkit","sync"]}`, `{"integration:a":true}`},
		{"a list that says true for the user", `{"integration:*":["credential:read","credential:write","configuration:read","configuration:write","proxy","event","workflow","actionkit","sync","user:write"]}`, `{"integration:*":true}`},
		{"all but the user is not true", `{"integration:*":["credential:read","credential:write","configuration:read","configuration:write","proxy","event","workflow","actionkit","sync"]}`,
			`{"integration:*":["credential:read","credential:write","configuration:read","configuration:write","proxy","event","workflow","actionkit","sync"]}`},
		{"true and the token", `{"integration:a":["credential:token","credential:read","credential:write","configuration:read","configuration:write","proxy","event","workflow","actionkit","sync"]}`,
			`{"integration:a":["credential:read","credential:write","credential:token","configuration:read","configuration:write","proxy","event","workflow","actionkit","sync"]}`},
		{"escapes", `{"integration:*":{"credential:ext:\"\\\/<\u00e9>":true}}`, `{"integration:*":{"credential:ext:\"\\/<é>":true}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set := parse(t, tt.claim)
			if got := string(set.AppendJSON([]byte("x"))); got != "x"+tt.want {
				t.Errorf("AppendJSON =\n%s, want\nx%s", got, tt.want)
			}
			checkCanonical(t, set)
			marshalled, err := json.Marshal(set)
			if err != nil {
				t.Fatal(err)
			}
			again, err := permission.ParseJSON(marshalled)
			if err != nil || string(again.AppendJSON(nil)) != tt.want {
				t.Errorf("ParseJSON(%s) = %s, %v, want the same", marshalled, again.AppendJSON(nil), err)
			}
		})
	}
}

// A parsed claim keeps nothing of what it was given.
func TestParse_Keeps(t *testing.T) {
	t.Parallel()
	list, inner := []any{"proxy"}, map[string]any{}
	inner["credential:*"] = list
	claim := map[string]any{"integration:slack": inner}
	set := parseMap(t, claim)
	list[0], inner["credential:owner"], claim["integration:*"] = "event", true, true
	if got, want := string(set.AppendJSON(nil)), `{"integration:slack":{"credential:*":["proxy"]}}`; got != want {
		t.Errorf("after a change of what was parsed the Set is %s, want %s", got, want)
	}
}
