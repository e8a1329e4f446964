package permission

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Limits of a claim, a policy, and a policy that is filled.
const (
	maxSize   = 16 << 10 // bytes, of the JSON as it came and in canonical form
	maxScopes = 1000
	maxList   = 64 // entries of a list of permissions
)

// ParseJSON parses a claim from its JSON: an object, or a text that holds one. This is the way to parse what comes from
// outside, since it sees when a scope stands twice. The Set has no person yet; see For. Errors are *Error.
func ParseJSON(claim []byte) (*Set, error) {
	return setOf(readJSON(claim, &builder{}))
}

// Parse parses a claim from what encoding/json makes of it: a map[string]any, or a string that holds the claim in JSON. It
// keeps nothing of it. The Set has no person yet; see For. Errors are *Error, also for nil, which JSON calls null: a token
// without a claim is All.
func Parse(claim any) (*Set, error) {
	b := &builder{}
	switch claim := claim.(type) {
	case string:
		return setOf(readText(claim, b))
	case map[string]any:
		return setOf(b.root(claim))
	}
	return setOf(nil, &Error{Problem: wantsDocument + ", not " + kindOf(claim)})
}

// setOf makes the errors of this package those of its callers; a nil *Error in an error would not be nil.
func setOf(root *node, err *Error) (*Set, error) {
	if err != nil {
		return nil, err
	}
	return &Set{root: root}, nil
}

const (
	wantsDocument = "there must be an object of scopes, or a text that holds one in JSON"
	wantsValue    = "a scope wants true, false, a list of permissions or an object of narrower scopes"
	wantsLeaf     = "a configuration scope wants true, false or a list of permissions"
)

// builder makes nodes of a document.
type builder struct {
	policy bool
	scopes int
}

func (b *builder) fail(path, format string, args ...any) *Error {
	return &Error{Path: path, Problem: fmt.Sprintf(format, args...), policy: b.policy}
}

// root makes the tree of a whole document.
func (b *builder) root(document any) (*node, *Error) {
	members, ok, err := b.members("", document)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, b.fail("", wantsDocument+", not %s", kindOf(document))
	}
	root := &node{scope: scope{level: LevelUser}, nested: true}
	if err := b.nest(root, "", members); err != nil {
		return nil, err
	}
	if len(root.appendJSON(nil)) > maxSize { // of what came as a map, nothing else tells
		return nil, b.tooLarge()
	}
	return root, nil
}

func (b *builder) tooLarge() *Error {
	return b.fail("", "there are more than %d KiB", maxSize>>10)
}

// members returns the members of an object; ok is false when v is none.
func (b *builder) members(path string, v any) (members object, ok bool, err *Error) {
	length := 0
	switch v := v.(type) {
	case object:
		members, length = v, len(v)
	case map[string]any:
		if v == nil { // null, read into a map
			return nil, false, nil
		}
		length = len(v)
	default:
		return nil, false, nil
	}
	if b.scopes += length; b.scopes > maxScopes {
		return nil, true, b.fail(path, "there are more than %d scopes", maxScopes)
	}
	if m, isMap := v.(map[string]any); isMap {
		for key, value := range m {
			members = append(members, member{key, value})
		}
		slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) }) // the same error each time
	}
	return members, true, nil
}

// nest makes the narrower scopes of n.
func (b *builder) nest(n *node, path string, members object) *Error {
	n.children = make([]node, len(members))
	for i, m := range members {
		c := &n.children[i]
		s, problem := parseScope(m.key, n.level+1, b.policy)
		if problem != "" {
			return b.fail(join(path, clip(m.key)), "%s", problem)
		}
		c.scope = s
		if err := b.value(c, join(path, show(s.String())), m.value); err != nil {
			return err
		}
	}
	if twice := n.arrange(); twice != nil {
		return b.fail(join(path, show(twice.String())), "the scope stands there twice")
	}
	return nil
}

// value reads what stands at a scope.
func (b *builder) value(n *node, path string, v any) *Error {
	switch v := v.(type) {
	case bool:
		if v {
			n.own = n.everything()
		}
		n.arrange()
		return nil
	case []any:
		err := b.list(n, path, v)
		n.arrange()
		return err
	}
	if n.level == LevelConfiguration {
		return b.fail(path, wantsLeaf+", not %s", kindOf(v))
	}
	members, ok, err := b.members(path, v)
	switch {
	case err != nil:
		return err
	case !ok:
		return b.fail(path, wantsValue+", not %s", kindOf(v))
	}
	n.nested = len(members) > 0 // an empty object says what an empty list does
	return b.nest(n, path, members)
}

// list reads a list of permissions.
func (b *builder) list(n *node, path string, list []any) *Error {
	if len(list) > maxList {
		return b.fail(path, "the list has more than %d entries", maxList)
	}
	for _, entry := range list {
		name, ok := entry.(string)
		if !ok {
			return b.fail(path, "a permission is a text, not %s", kindOf(entry))
		}
		p := named(name)
		switch {
		case p == "" && b.policy && strings.Contains(name, "{{"):
			return b.fail(path, "a permission is not filled in: templates stand in the ids of scopes only")
		case p == "":
			return b.fail(path, "unknown permission %s: here are accepted %s", clip(name), n.accepts().list())
		case p.bit()&n.accepts() == 0 && p == UserWrite:
			return b.fail(path, "user:write is accepted at integration:* only")
		case p.bit()&n.accepts() == 0:
			return b.fail(path, "%s means nothing for a configuration: here are accepted %s", p, n.accepts().list())
		}
		n.own |= p.bit()
	}
	return nil
}

// kindOf says in words what a JSON value is.
func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case string:
		return "a text"
	case float64, json.Number:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		if v == nil {
			return "null"
		}
		return "an object"
	case object:
		return "an object"
	}
	return "something that JSON does not have"
}
