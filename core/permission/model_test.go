package permission_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/polycred/polycred/core/permission"
)

var everyPermission = []permission.Permission{
	permission.CredentialRead, permission.CredentialWrite, permission.CredentialToken, permission.ConfigurationRead,
	permission.ConfigurationWrite, permission.UserWrite, permission.Proxy, permission.Event, permission.Workflow,
	permission.ActionKit, permission.Sync,
}

// What documents and targets are made of, so that they often meet. The last of each stands in no document.
var (
	names    = []string{"slack", "mail", "drive"}
	uuids    = []string{one, two, "019a3c1e-7f00-7000-8000-000000000003"}
	external = []string{"work", "home", "club"}
	people   = []string{"ada", "bob"}
)

// everyTarget is every target of these parts.
var everyTarget = func() []permission.Target {
	targets := []permission.Target{user()}
	for _, name := range names {
		targets = append(targets, integration(name))
		for _, id := range append([]string{""}, uuids...) {
			for _, ext := range append([]string{""}, external...) {
				for _, owner := range append([]string{""}, people...) {
					credential := account(name, id, ext, owner)
					targets = append(targets, credential)
					for _, config := range append([]string{""}, external...) {
						targets = append(targets, configuration(credential, config))
					}
				}
			}
		}
	}
	return targets
}()

// grantable are the permissions that a list at a scope may name.
func grantable(key string) []permission.Permission {
	return slices.DeleteFunc(slices.Clone(everyPermission), func(p permission.Permission) bool {
		switch p {
		case permission.UserWrite:
			return key != "integration:*"
		case permission.CredentialWrite, permission.CredentialToken:
			return strings.HasPrefix(key, "configuration:")
		}
		return false
	})
}

// keysInside are the scopes that documents have inside a scope; "" is the top.
func keysInside(key string) []string {
	switch {
	case key == "":
		return []string{"integration:*", "integration:slack", "integration:mail"}
	case strings.HasPrefix(key, "integration:"):
		return []string{"credential:*", "credential:owner", "credential:ext:work", "credential:ext:home", "credential:" + one, "credential:" + two}
	case strings.HasPrefix(key, "credential:"):
		return []string{"configuration:*", "configuration:ext:work", "configuration:ext:home"}
	}
	return nil
}

// randomObject makes a document, or the object at a scope.
func randomObject(r *rand.Rand, key string) map[string]any {
	object := map[string]any{}
	for _, inner := range keysInside(key) {
		if r.IntN(2) == 0 {
			object[inner] = randomValue(r, inner)
		}
	}
	return object
}

func randomValue(r *rand.Rand, key string) any {
	switch n := r.IntN(8); {
	case n == 0:
		return false
	case n == 1:
		return true
	case n < 5 && len(keysInside(key)) > 0:
		return randomObject(r, key)
	}
	list := []any{}
	for _, p := range grantable(key) {
		if r.IntN(3) == 0 {
			list = append(list, string(p))
		}
	}
	return list
}

// granted is what a value that is no object grants.
func granted(key string, value any) []permission.Permission {
	var all []permission.Permission
	switch value := value.(type) {
	case bool:
		if value {
			all = slices.DeleteFunc(grantable(key), func(p permission.Permission) bool { return p == permission.CredentialToken })
		}
	case []any:
		for _, p := range value {
			all = append(all, permission.Permission(p.(string)))
		}
	}
	return all
}

// model returns what is allowed for a target, as the text of the design says it, from the document itself: by the most
// specific scope that there is, level by level.
func model(document map[string]any, person string, t permission.Target) []permission.Permission {
	candidates := [][]string{{"integration:*"}}
	if t.Level >= permission.LevelIntegration {
		candidates = [][]string{{"integration:" + t.Integration, "integration:*"}}
	}
	if t.Level >= permission.LevelCredential {
		keys := []string{"credential:" + t.Credential, "credential:ext:" + t.ExternalID}
		if t.Owner == person && person != "" {
			keys = append(keys, "credential:owner")
		}
		candidates = append(candidates, append(keys, "credential:*"))
	}
	if t.Level >= permission.LevelConfiguration {
		candidates = append(candidates, []string{"configuration:ext:" + t.Configuration, "configuration:*"})
	}
	object := document
	for _, keys := range candidates {
		i := slices.IndexFunc(keys, func(key string) bool { _, ok := object[key]; return ok })
		if i < 0 {
			return nil
		}
		value := object[keys[i]]
		inner, isObject := value.(map[string]any)
		if !isObject {
			return slices.DeleteFunc(granted(keys[i], value), func(p permission.Permission) bool { return !meaningful(p, t.Level) })
		}
		object = inner
	}
	return nil
}

// meaningful reports whether there is something that p could allow at a level.
func meaningful(p permission.Permission, level permission.Level) bool {
	switch p {
	case permission.UserWrite:
		return level == permission.LevelUser
	case permission.CredentialWrite, permission.CredentialToken:
		return level == permission.LevelIntegration || level == permission.LevelCredential
	}
	return level != permission.LevelUser
}

// named reports whether a document names credential:token anywhere.
func named(document any) bool {
	switch document := document.(type) {
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(document)), named)
	case []any:
		return slices.Contains(document, any(string(permission.CredentialToken)))
	}
	return false
}

func parseMap(t testing.TB, document map[string]any) *permission.Set {
	t.Helper()
	set, err := permission.Parse(document)
	if err != nil {
		t.Fatalf("Parse(%v) = %v", document, err)
	}
	return set
}

// checkSet compares a Set with the model, with Explain, and with the coarse checks, for every target.
func checkSet(t testing.TB, document map[string]any, person string) {
	t.Helper()
	set := parseMap(t, document).For(person)
	tokens := named(document)
	type reach struct {
		p  permission.Permission
		in string            // an integration, "" for all
		at permission.Target // a credential
	}
	reached := map[reach]bool{}
	for i, target := range everyTarget {
		want := model(document, person, target)
		for _, p := range everyPermission {
			allowed := slices.Contains(want, p)
			if got := set.Allows(p, target); got != allowed {
				t.Fatalf("Allows(%s, %+v) of %s for %q = %t, want %t", p, target, pretty(document), person, got, allowed)
			}
			if (i+len(p))%8 == 0 { // Explain takes its time
				if why := set.Explain(p, target); why.Allowed != allowed || why.Reason == "" {
					t.Fatalf("Explain(%s, %+v) of %s for %q = %v, Allows = %t", p, target, pretty(document), person, why, allowed)
				}
			}
			if allowed && p == permission.CredentialToken && !tokens {
				t.Fatalf("%s is allowed for %+v, but %s does not name it", p, target, pretty(document))
			}
			if allowed {
				credential := target
				credential.Configuration, credential.Level = "", permission.LevelCredential
				reached[reach{p: p}], reached[reach{p: p, in: target.Integration}], reached[reach{p: p, at: credential}] = true, true, true
			}
		}
	}
	for _, p := range everyPermission {
		for _, name := range append([]string{""}, names...) {
			if got, want := set.Any(p, name), reached[reach{p: p, in: name}]; got != want {
				t.Fatalf("Any(%s, %q) of %s for %q = %t, want %t", p, name, pretty(document), person, got, want)
			}
		}
		for _, target := range everyTarget {
			if got, want := set.Reaches(p, target), reached[reach{p: p, at: target}]; target.Level == permission.LevelCredential && got != want {
				t.Fatalf("Reaches(%s, %+v) of %s for %q = %t, want %t", p, target, pretty(document), person, got, want)
			}
		}
	}
}

// Documents at random: Set, Explain, Any and Reaches say what the model does, and the canonical form says the same.
func TestSet_Model(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, 1))
		document := randomObject(r, "")
		for _, person := range []string{"", "ada"} {
			checkSet(t, document, person)
		}
		checkCanonical(t, parseMap(t, document))
	}
}

// checkCanonical parses the canonical form of a Set and compares.
func checkCanonical(t testing.TB, set *permission.Set) {
	t.Helper()
	canonical := set.AppendJSON(nil)
	if !json.Valid(canonical) {
		t.Fatalf("AppendJSON = %s, which is not JSON", canonical)
	}
	again, err := permission.ParseJSON(canonical)
	if err != nil {
		t.Fatalf("ParseJSON of the canonical form %s = %v", canonical, err)
	}
	if got := again.AppendJSON(nil); string(got) != string(canonical) {
		t.Fatalf("canonical form of the canonical form = %s, want %s", got, canonical)
	}
	set, again = set.For("ada"), again.For("ada")
	for i, target := range everyTarget {
		for _, p := range everyPermission {
			if got, want := again.Allows(p, target), set.Allows(p, target); got != want {
				t.Fatalf("after a round trip of %s: Allows(%s, %+v) = %t, want %t", canonical, p, target, got, want)
			}
		}
		p := everyPermission[i%len(everyPermission)]
		if got, want := again.Explain(p, target), set.Explain(p, target); got != want {
			t.Fatalf("after a round trip of %s: Explain(%s, %+v) = %v, want %v", canonical, p, target, got, want)
		}
	}
}

// narrow makes a document narrower in one place, or as it is where there is no place; it never changes what it is given.
// There are three ways: fewer permissions at a scope, narrower scopes in place of a list, and one more scope that takes
// over from those that matched its targets until now.
func narrow(r *rand.Rand, key string, object map[string]any) map[string]any {
	object = maps.Clone(object)
	if r.IntN(3) == 0 {
		takeOver(r, key, object)
		return object
	}
	keys := slices.Sorted(maps.Keys(object))
	if len(keys) == 0 {
		return object
	}
	inner := keys[r.IntN(len(keys))]
	if value, isObject := object[inner].(map[string]any); isObject {
		object[inner] = narrow(r, inner, value)
		return object
	}
	object[inner] = narrowLeaf(r, inner, granted(inner, object[inner]))
	return object
}

// narrowLeaf returns a value for a scope, which grants at most some permissions, itself or by narrower scopes.
func narrowLeaf(r *rand.Rand, key string, most []permission.Permission) any {
	if inside := keysInside(key); len(inside) > 0 && r.IntN(2) == 0 {
		object := map[string]any{}
		for _, inner := range inside {
			if r.IntN(2) == 0 {
				object[inner] = narrowLeaf(r, inner, most)
			}
		}
		return object
	}
	list := []any{}
	for _, p := range grantable(key) {
		if slices.Contains(most, p) && r.IntN(2) == 0 {
			list = append(list, string(p))
		}
	}
	return list
}

// takeOver adds a scope that grants at most what each of the broader ones that stand there does.
func takeOver(r *rand.Rand, key string, object map[string]any) {
	inside := keysInside(key) // from broad to specific, but those of external ids do not match together
	i := r.IntN(max(1, len(inside)))
	if i >= len(inside) {
		return
	}
	added := inside[i]
	if _, stands := object[added]; stands || strings.HasSuffix(added, ":*") {
		return
	}
	allowed := granted(inside[0], object[inside[0]]) // nothing where it is an object or absent
	for _, other := range inside[1:i] {
		sameForm := strings.Contains(other, ":ext:") && strings.Contains(added, ":ext:") || strings.HasPrefix(other, "integration:") ||
			strings.HasSuffix(other, one) && strings.HasSuffix(added, two)
		if value, stands := object[other]; stands && !sameForm {
			allowed = slices.DeleteFunc(allowed, func(p permission.Permission) bool { return !slices.Contains(granted(other, value), p) })
		}
	}
	object[added] = narrowLeaf(r, added, allowed)
}

// checkNarrow narrows a document several times, and nothing may be allowed that was not.
func checkNarrow(t testing.TB, r *rand.Rand, person string) {
	t.Helper()
	document := randomObject(r, "")
	before := parseMap(t, document).For(person)
	for range 5 {
		narrower := narrow(r, "", document)
		after := parseMap(t, narrower).For(person)
		for _, p := range everyPermission {
			for _, target := range everyTarget {
				if after.Allows(p, target) && !before.Allows(p, target) {
					t.Fatalf("narrowing widens: %s\nis narrowed to\n%s\nwhich allows %s for %+v: %v; before: %v",
						pretty(document), pretty(narrower), p, target, after.Explain(p, target), before.Explain(p, target))
				}
			}
			if after.Any(p, "") && !before.Any(p, "") {
				t.Fatalf("narrowing widens Any(%s): %s to %s", p, pretty(document), pretty(narrower))
			}
		}
		document, before = narrower, after
	}
	if !named(document) && before.Any(permission.CredentialToken, "") {
		t.Fatalf("%s reaches credential:token and does not name it", pretty(document))
	}
}

// Narrowing never widens, in as many documents as it takes to meet scopes of all forms side by side.
func TestSet_Narrow(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		checkNarrow(t, rand.New(rand.NewPCG(seed, 3)), "ada")
	}
}

func pretty(document any) string {
	text, err := json.Marshal(document)
	if err != nil {
		return fmt.Sprint(document)
	}
	return string(text)
}
