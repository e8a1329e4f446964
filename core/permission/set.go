package permission

// Set is what a token may do: the permissions of a claim or of a filled policy, and the person they are for. It is
// immutable, and its methods may be called concurrently. A nil *Set and the zero Set allow nothing.
type Set struct {
	root   *node
	person string
}

// Target is what something is done to. Fields that are broader than its Level must be set as well: a configuration is one
// of a credential, which is one of an integration. Nothing is allowed for a Target that is malformed.
type Target struct {
	// Level is what the target is.
	Level Level
	// Integration is the name of the integration. It is empty only at LevelUser.
	Integration string
	// Credential is the credential's UUID in canonical form; empty for one that is about to be created.
	Credential string
	// ExternalID is the credential's external id, as it is stored or will be; empty when it has none.
	ExternalID string
	// Owner is the person who connected the credential, or is about to; empty when nobody is known to have.
	Owner string
	// Configuration is the external id of the configuration, at LevelConfiguration; empty when it has none, as the default
	// one of a credential.
	Configuration string
}

var whole = func() *Set {
	all := node{scope: scope{level: LevelIntegration}}
	all.own = all.everything()
	all.arrange()
	root := node{scope: scope{level: LevelUser}, nested: true, children: []node{all}}
	root.arrange()
	return &Set{root: &root}
}()

// All returns the permissions of a token that has no claim and names no policy: everything of its user but
// credential:token. It equals the claim {"integration:*": true}.
func All() *Set { return whole }

// For returns a Set with the same permissions for a person, who is the one that credential:owner means. An empty person
// owns nothing. For of a nil Set is nil.
func (s *Set) For(person string) *Set {
	if s == nil {
		return nil
	}
	return &Set{root: s.root, person: person}
}

// Allows reports whether p is allowed for t. It allocates nothing.
func (s *Set) Allows(p Permission, t Target) bool {
	bit := p.bit() & t.Level.applicable()
	if bit == 0 || t.problem() != "" {
		return false
	}
	path, n := s.decide(&t)
	return n > 0 && path[n-1].own&bit != 0
}

// Any reports whether there could be any target in an integration, any at all when integration is empty, for which p is
// allowed. It is the first check, before anything is read; only Allows is an answer.
func (s *Set) Any(p Permission, integration string) bool {
	if integration == "" {
		return s.Reaches(p, Target{Level: LevelUser})
	}
	return s.Reaches(p, Target{Level: LevelIntegration, Integration: integration})
}

// Reaches reports whether there could be any target at t or below it for which p is allowed: at a credential, that itself
// or one of its configurations. With CredentialRead it says whether an account must be shown, be it only for one of its
// configurations.
func (s *Set) Reaches(p Permission, t Target) bool {
	bit := p.bit()
	if s == nil || s.root == nil || bit == 0 || t.problem() != "" {
		return false
	}
	at := s.root
	if t.Level != LevelUser {
		path, n := s.decide(&t)
		if n == 0 {
			return false
		}
		if at = path[n-1]; at.level < t.Level && at.nested { // none of its scopes matches
			return false
		}
		bit &= t.Level.applicable()
	}
	if s.person != "" {
		return at.reachOwned&bit != 0
	}
	return at.reach&bit != 0
}

// decide returns the scopes that are taken for a well-formed target, from the integration down to the one that decides.
func (s *Set) decide(t *Target) (path [3]*node, n int) {
	if s == nil || s.root == nil {
		return path, 0
	}
	if t.Level == LevelUser { // what concerns the user hangs on integration:*
		if path[0] = s.root.child(byAll, ""); path[0] != nil {
			n = 1
		}
		return path, n
	}
	for at := s.root; at.level < t.Level; n++ {
		if at = at.narrower(t, s.person); at == nil {
			break
		}
		path[n] = at
	}
	return path, n
}

// problem says why nothing can be allowed for the target, whatever the Set.
func (t *Target) problem() string {
	switch {
	case t.Level < LevelUser || t.Level > LevelConfiguration:
		return "the target has no level"
	case t.Level == LevelUser:
		return ""
	case t.Integration == "":
		return "the target names no integration"
	case t.Level == LevelIntegration:
		return ""
	case t.Credential != "" && !isUUID(t.Credential):
		return "the target's credential is not a UUID in canonical form"
	}
	return ""
}

// AppendJSON appends the permissions to b in canonical form and returns the result: no blanks, scopes from broad to
// specific and then by their bytes, permissions by their own names, true where that says it all, [] for what is denied.
// ParseJSON of it gives an equal Set, and equal Sets give the same bytes. The person is not part of it.
func (s *Set) AppendJSON(b []byte) []byte {
	if s == nil || s.root == nil {
		return append(b, "{}"...)
	}
	return s.root.appendJSON(b)
}

// MarshalJSON returns what AppendJSON does; the error is always nil.
func (s *Set) MarshalJSON() ([]byte, error) { return s.AppendJSON(nil), nil }
