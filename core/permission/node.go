package permission

import "slices"

// node is a scope with what it grants. Nodes are not changed once their tree is built.
type node struct {
	scope
	own      grants // to the scope itself and, unless it is nested, to all below
	nested   bool   // it holds narrower scopes, perhaps none; own is 0 then
	children []node // sorted by scope.compare

	// What is allowed somewhere at or below the scope, as far as no person is needed, and for somebody who is the owner of
	// something.
	reach, reachOwned grants
}

// child returns the narrower scope of that form and id, or nil.
func (n *node) child(f form, id string) *node {
	low, high := 0, len(n.children)
	for low < high {
		middle := int(uint(low+high) >> 1)
		if c := &n.children[middle]; c.form < f || c.form == f && c.id < id {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low < len(n.children) && n.children[low].form == f && n.children[low].id == id {
		return &n.children[low]
	}
	return nil
}

// match returns the narrower scope of that form if it matches the target, or nil.
func (n *node) match(f form, t *Target, person string) *node {
	id := ""
	switch {
	case f == byAll:
	case f == byOwner && n.level == LevelIntegration && person != "" && t.Owner == person:
	case f == byOwner:
		return nil
	case f == byID && n.level == LevelUser:
		id = t.Integration
	case f == byID && n.level == LevelIntegration:
		id = t.Credential
	case f == byExternalID && n.level == LevelIntegration:
		id = t.ExternalID
	case f == byExternalID && n.level == LevelCredential:
		id = t.Configuration
	}
	if f >= byExternalID && id == "" { // the target has none, and no scope has an empty one
		return nil
	}
	return n.child(f, id)
}

// narrower returns the most specific of the narrower scopes that match the target, or nil.
func (n *node) narrower(t *Target, person string) *node {
	if len(n.children) == 0 {
		return nil
	}
	for f := byID; ; f-- {
		if c := n.match(f, t, person); c != nil || f == byAll {
			return c
		}
	}
}

// arrange sorts the narrower scopes and works out what is reached, or returns a scope that stands there twice. The
// children are arranged already.
func (n *node) arrange() (twice *scope) {
	slices.SortStableFunc(n.children, func(a, b node) int { return a.compare(&b.scope) })
	n.reach = n.own
	n.reachOwned = n.own
	for i := range n.children {
		c := &n.children[i]
		if i > 0 && c.compare(&n.children[i-1].scope) == 0 {
			return &c.scope
		}
		n.reachOwned |= c.reachOwned
		if c.form != byOwner {
			n.reach |= c.reach
		}
	}
	return nil
}

// appendJSON appends the value of the scope in canonical form.
func (n *node) appendJSON(b []byte) []byte {
	switch {
	case len(n.children) > 0 || n.level == LevelUser:
		b = append(b, '{')
		for i := range n.children {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, n.children[i].String()), ':')
			b = n.children[i].appendJSON(b)
		}
		return append(b, '}')
	case n.own != 0 && n.own == n.everything():
		return append(b, "true"...)
	}
	b = append(b, '[')
	first := true
	for i, p := range permissions {
		if n.own&(1<<i) == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendText(b, string(p))
	}
	return append(b, ']')
}

// appendText appends a text without control characters as JSON. A canonical form has no other escapes, so it is never
// longer than what it was parsed from.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
