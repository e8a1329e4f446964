package permission

import "slices"

// Policy is a document of permissions that an operator declares and tokens name. It has the form of a claim, and in the id
// of a scope there may stand one template, {{claims.<name>}}, for a claim of the token:
//
//	{"integration:*": {"credential:owner": true, "credential:ext:team-{{claims.team}}": ["credential:read", "proxy"]}}
//
// The name is that of one claim, whole: dots belong to it, and do not lead into an object. Templates stand nowhere else, so
// no claim can grant a permission.
//
// A Policy is immutable, and its methods may be called concurrently. A nil *Policy and the zero Policy allow nothing.
type Policy struct {
	root   *node
	claims []string
}

// ParsePolicy parses a policy from its JSON and checks everything that does not depend on the token. Errors are *Error.
func ParsePolicy(document []byte) (*Policy, error) {
	root, err := readJSON(document, &builder{policy: true})
	if err != nil {
		return nil, err
	}
	p := &Policy{root: root}
	root.names(&p.claims)
	slices.Sort(p.claims)
	p.claims = slices.Compact(p.claims)
	return p, nil
}

// names collects the claims that the templates below n name.
func (n *node) names(claims *[]string) {
	for i := range n.children {
		if c := &n.children[i]; c.claim != "" {
			*claims = append(*claims, c.claim)
		}
		n.children[i].names(claims)
	}
}

// Claims returns the names of the claims that Fill needs, sorted, each once. The caller owns the slice.
func (p *Policy) Claims() []string {
	if p == nil {
		return nil
	}
	return slices.Clone(p.claims)
}

// Fill returns the permissions of a token with these claims, which must be those of a verified token. It fills in values,
// never structure: a value becomes the id of a scope whose kind the policy has fixed.
//
// It is an *Error when a claim is missing, is not a text, is empty, "*", another keyword ("owner", "true", "false",
// "null", in any case of letters), begins like a scope, or cannot be the id that it stands for; when two scopes are the
// same once they are filled; and when the result is too large. A token whose policy cannot be filled must be refused. The
// Set has no person yet; see For.
func (p *Policy) Fill(claims map[string]any) (*Set, error) {
	if p == nil || p.root == nil {
		return &Set{}, nil
	}
	b := &builder{policy: true}
	root := &node{scope: p.root.scope, nested: true}
	if err := b.fill(root, p.root, "", claims); err != nil {
		return nil, err
	}
	if len(p.claims) > 0 && len(root.appendJSON(nil)) > maxSize {
		return nil, b.fail("", "there are more than %d KiB once it is filled", maxSize>>10)
	}
	return &Set{root: root}, nil
}

// fill makes the narrower scopes of n from those of a policy.
func (b *builder) fill(n, from *node, path string, claims map[string]any) *Error {
	n.children = make([]node, len(from.children))
	for i := range from.children {
		c, template := &n.children[i], &from.children[i]
		inner := join(path, show(template.String()))
		filled, problem := template.scope.fill(claims)
		if problem != "" {
			return b.fail(inner, "%s", problem)
		}
		c.scope, c.own, c.nested = filled, template.own, template.nested
		if err := b.fill(c, template, inner, claims); err != nil {
			return err
		}
	}
	if n.arrange() != nil { // the scope that stands twice shows the value of a claim
		return b.fail(path, "two scopes there are the same once they are filled")
	}
	return nil
}

// AppendJSON appends the policy to b in canonical form and returns the result, like that of a Set. Policies that mean the
// same have the same canonical form.
func (p *Policy) AppendJSON(b []byte) []byte {
	if p == nil || p.root == nil {
		return append(b, "{}"...)
	}
	return p.root.appendJSON(b)
}

// MarshalJSON returns what AppendJSON does; the error is always nil.
func (p *Policy) MarshalJSON() ([]byte, error) { return p.AppendJSON(nil), nil }
