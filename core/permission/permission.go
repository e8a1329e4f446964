package permission

import "strings"

// Permission is one kind of thing that a token may do. Values other than these constants are never allowed.
type Permission string

// The permissions, as claims, policies and errors name them.
const (
	CredentialRead     Permission = "credential:read"     // see that an account exists, and what it is called
	CredentialWrite    Permission = "credential:write"    // connect, reconnect, rename, complete, disconnect
	CredentialToken    Permission = "credential:token"    // take the provider's token out; never granted by true
	ConfigurationRead  Permission = "configuration:read"  // see a configuration and its settings
	ConfigurationWrite Permission = "configuration:write" // create, change and delete configurations
	UserWrite          Permission = "user:write"          // change the metadata of the connected user
	Proxy              Permission = "proxy"               // send requests to the provider's API
	Event              Permission = "event"               // send app events
	Workflow           Permission = "workflow"            // run workflows
	ActionKit          Permission = "actionkit"           // run actions
	Sync               Permission = "sync"                // manage syncs and read what they bring
)

// permissions are all of them, in the order in which a canonical list names them; the position is the bit in grants.
var permissions = [...]Permission{
	CredentialRead, CredentialWrite, CredentialToken, ConfigurationRead, ConfigurationWrite, UserWrite,
	Proxy, Event, Workflow, ActionKit, Sync,
}

// synonyms are what others call a permission. None means less than what it stands for, so that it grants no more than was
// asked for, and none is shorter, so that the canonical form of a claim is never longer than the claim.
var synonyms = map[string]Permission{
	"proxy:request":    Proxy,
	"proxy_api":        Proxy,
	"event:send":       Event,
	"app_event":        Event,
	"workflow:run":     Workflow,
	"workflow:trigger": Workflow,
	"actionkit:run":    ActionKit,
	"managed_sync":     Sync,
}

// grants is a set of permissions, a bit for each.
type grants uint16

const (
	grantCredentialRead grants = 1 << iota
	grantCredentialWrite
	grantCredentialToken
	grantConfigurationRead
	grantConfigurationWrite
	grantUserWrite
	grantProxy
	grantEvent
	grantWorkflow
	grantActionKit
	grantSync

	allGrants = grantSync<<1 - 1
)

// bit returns the grant of one permission, 0 for what is none.
func (p Permission) bit() grants {
	switch p {
	case CredentialRead:
		return grantCredentialRead
	case CredentialWrite:
		return grantCredentialWrite
	case CredentialToken:
		return grantCredentialToken
	case ConfigurationRead:
		return grantConfigurationRead
	case ConfigurationWrite:
		return grantConfigurationWrite
	case UserWrite:
		return grantUserWrite
	case Proxy:
		return grantProxy
	case Event:
		return grantEvent
	case Workflow:
		return grantWorkflow
	case ActionKit:
		return grantActionKit
	case Sync:
		return grantSync
	}
	return 0
}

// named returns the permission that a claim names, by its own name or a synonym, or "".
func named(name string) Permission {
	if p, ok := synonyms[name]; ok {
		return p
	}
	if p := Permission(name); p.bit() != 0 {
		return p
	}
	return ""
}

// list returns the permissions in words: "credential:read, proxy".
func (g grants) list() string {
	var names []string
	for i, p := range permissions {
		if g&(1<<i) != 0 {
			names = append(names, string(p))
		}
	}
	return strings.Join(names, ", ")
}
