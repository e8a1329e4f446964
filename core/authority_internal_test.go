package core

import (
	"errors"
	"sync"
)

// Action is what a narrowed handle may or may not do.
type Action = action

// The actions, for tests outside the package.
const (
	ActRead               = actRead
	ActWrite              = actWrite
	ActUse                = actUse
	ActToken              = actToken
	ActReadConfiguration  = actReadConfiguration
	ActWriteConfiguration = actWriteConfiguration
)

// Thing is what an action is done to.
type Thing struct{ Integration, Credential, ExternalID, Owner, Configuration string }

// May is what a narrowed handle may do.
type May func(a Action, to Thing) bool

// NamedPolicies are authorities by name, standing for those of user tokens: a handle and the sessions that it begins keep the
// name, and may what it means at the moment. A name that means nothing cannot be decoded.
type NamedPolicies struct {
	mu    sync.Mutex // guards named
	named map[string]May
}

// NamedPolicies makes the engine read the authority of connect sessions from the policies that it returns.
func (e *Engine) NamedPolicies() *NamedPolicies {
	p := &NamedPolicies{named: map[string]May{}}
	e.authorities = p.decode
	return p
}

var errUndecodable = errors.New("no such policy")

func (p *NamedPolicies) decode(raw []byte, _ string) (*authority, error) {
	if _, ok := p.of(string(raw)); !ok {
		return nil, errUndecodable
	}
	return p.authority(string(raw)), nil
}

func (p *NamedPolicies) of(name string) (May, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	may, ok := p.named[name]
	return may, ok
}

func (p *NamedPolicies) authority(name string) *authority {
	return &authority{raw: func() []byte { return []byte(name) }, may: func(a action, s *subject) bool {
		may, ok := p.of(name)
		return ok && may(a, Thing{s.integration, s.credential, s.externalID, s.owner, s.configuration})
	}}
}

// Set says what a name means from now on; nil: nothing.
func (p *NamedPolicies) Set(name string, may May) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.named[name] = may; may == nil {
		delete(p.named, name)
	}
}

// Narrow returns what a user token with that policy would give: a handle of the same user and person.
func (p *NamedPolicies) Narrow(u *User, name, tokenID string) *User {
	narrow := *u
	narrow.authority, narrow.tokenID = p.authority(name), tokenID
	return &narrow
}
