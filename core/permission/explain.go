package permission

import "fmt"

// Explanation says why something is or is not allowed: for logs, operators and tests. It shows scopes of the claim, so it
// is not for callers who may not know what others may do.
type Explanation struct {
	// Allowed is what Allows says.
	Allowed bool
	// Scope is the scope that decided, with those around it: "integration:slack > credential:owner". It is empty when no
	// scope matches.
	Scope string
	// Reason says what is so there, as the rest of a sentence about the scope.
	Reason string
}

// String returns all of it in one line: "allowed by integration:slack > credential:owner: it names proxy".
func (e Explanation) String() string {
	verdict := "denied"
	if e.Allowed {
		verdict = "allowed"
	}
	if e.Scope != "" {
		verdict += " by " + e.Scope
	}
	return verdict + ": " + e.Reason
}

// Explain answers as Allows does, and says why.
func (s *Set) Explain(p Permission, t Target) Explanation {
	bit := p.bit()
	switch {
	case bit == 0:
		return Explanation{Reason: "there is no permission " + clip(string(p))}
	case t.problem() != "":
		return Explanation{Reason: t.problem()}
	case bit&t.Level.applicable() == 0:
		return Explanation{Reason: fmt.Sprintf("%s means nothing for a target at the level %s", p, t.Level)}
	}
	path, n := s.decide(&t)
	if n == 0 {
		return Explanation{Reason: "no scope matches, and what no scope matches is denied"}
	}
	e := Explanation{}
	for _, taken := range path[:n] {
		e.Scope = join(e.Scope, show(taken.String()))
	}
	last := path[n-1]
	e.Allowed = last.own&bit != 0
	if e.Allowed {
		e.Reason = last.grant(p, t.Level)
		return e
	}
	e.Reason = last.denial(p, &t, s.person)
	if broader := s.replaced(bit, &t, path[:n]); broader != "" {
		e.Reason += "; it replaces " + broader + ", where this would be allowed"
	}
	return e
}

// grant says how a scope grants p to a target of that level.
func (n *node) grant(p Permission, level Level) string {
	reason := "it names " + string(p)
	if n.own == n.everything() {
		reason = "it grants everything but credential:token"
	}
	if level > n.level {
		reason += ", and the " + level.String() + " inherits that"
	}
	return reason
}

// denial says why a scope, which decides, does not grant p.
func (n *node) denial(p Permission, t *Target, person string) string {
	switch {
	case n.nested && n.level >= t.Level:
		return fmt.Sprintf("it holds narrower scopes only, and grants nothing to the %s itself", t.Level)
	case n.nested && n.level == LevelIntegration && person == "" && n.child(byOwner, "") != nil:
		return "it holds narrower scopes only, and none of them matches; credential:owner matches nothing, since no person is known"
	case n.nested:
		return "it holds narrower scopes only, and none of them matches"
	case n.own == 0:
		return "it denies everything"
	case n.own == n.everything() && p == CredentialToken:
		return "it grants everything but credential:token, which must be named"
	}
	return "it names only " + n.own.list()
}

// replaced returns a broader scope that matches the target too, would allow it, and is not looked at because of one of the
// scopes that were taken; "" when there is none. Its path is as long as it needs to be to tell it from that one.
func (s *Set) replaced(bit grants, t *Target, path []*node) string {
	if t.Level == LevelUser {
		return ""
	}
	at, around := s.root, ""
	for _, taken := range path {
		for f := taken.form; f > byAll; {
			f--
			broader := at.match(f, t, s.person)
			if broader == nil {
				continue
			}
			scope := join(around, show(broader.String()))
			for broader.level < t.Level {
				next := broader.narrower(t, s.person)
				if next == nil {
					break
				}
				broader = next
			}
			if broader.own&bit != 0 {
				return scope
			}
		}
		at, around = taken, join(around, show(taken.String()))
	}
	return ""
}
