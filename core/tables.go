package core

import (
	"time"

	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/job"
	"github.com/polycred/polycred/core/internal/revocation"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/sealed"
)

// tables are the kernel's part of the store. Tags, names and the numbers of fields are forever; adding a field makes a
// new format, because a program that does not know it would drop it.
type tables struct {
	credentials   *sealed.Table[credentialRecord]    // user, credential id
	tokens        *sealed.View[tokenRecord]          // the same records
	sessions      *sealed.Table[sessionRecord]       // digest of the state
	boots         *sealed.Table[bootRecord]          // one
	integrations  *sealed.Table[integrationRecord]   // name
	clientSecrets *sealed.Table[clientSecretsRecord] // integration name
	rosters       *sealed.Table[rosterRecord]        // user, integration
	claims        *sealed.Table[claimRecord]         // user, integration, look-up token of the provider account
	externalIDs   *sealed.Table[externalIDRecord]    // user, integration, look-up token of the external id

	configurations   *sealed.Table[configurationRecord]   // user, credential id, configuration id
	configurationIDs *sealed.Table[configurationIDRecord] // user, integration, look-up token of the external id, credential id
	passwords        *sealed.Table[passwordRecord]        // user, credential id, configuration id
	redirects        *sealed.Table[redirectRecord]        // user, integration, digest of a redirect URL

	users       *sealed.Table[userRecord]        // user
	switches    *sealed.Table[switchesRecord]    // one
	revocations *sealed.Table[revocation.Record] // id
	jobs        *sealed.Table[jobRecord]         // kind, user or integration
	access      access.Tables                    // signing keys, token issuers, policies

	byUser        *sealed.Index // user, integration, credential id
	byIntegration *sealed.Index // integration, credential id, user
	expiries      *sealed.Index // when a session expires (sortable), digest of the state
	byConfig      *sealed.Index // user, configuration id, credential id; not of default configurations
	grants        *sealed.Index // look-up token of client id and provider account, user, credential id
	disabledUsers *sealed.Index // user
	waiting       *sealed.Index // user, when a session expires (sortable), digest of the state; until it has an outcome
	polled        *sealed.Index // user, digest of person and polling key, when it began (newest first), digest of the state

	refreshes *due.Queue // user, credential id
	revokes   *due.Queue // id of a revocation
}

func newTables(db *sealed.DB, now func() time.Time) tables {
	credentials := sealed.NewTable[credentialRecord](db, sealed.Spec{Tag: 'c', Name: "credential", Plane: sealed.Tokens, Format: 3})
	return tables{
		credentials:   credentials,
		tokens:        sealed.NewView[tokenRecord](credentials),
		sessions:      sealed.NewTable[sessionRecord](db, sealed.Spec{Tag: 's', Name: "session", Plane: sealed.Tokens, Format: 3}),
		boots:         sealed.NewTable[bootRecord](db, sealed.Spec{Tag: 'b', Name: "boot", Plane: sealed.Tokens, Format: 1}),
		integrations:  sealed.NewTable[integrationRecord](db, sealed.Spec{Tag: 'i', Name: "integration", Plane: sealed.Policy, Format: 3}),
		clientSecrets: sealed.NewTable[clientSecretsRecord](db, sealed.Spec{Tag: 'j', Name: "client secret", Plane: sealed.Policy, Format: 1}),
		rosters:       sealed.NewTable[rosterRecord](db, sealed.Spec{Tag: 'r', Name: "roster", Plane: sealed.Policy, Format: 1}),
		claims:        sealed.NewTable[claimRecord](db, sealed.Spec{Tag: 'a', Name: "claim", Plane: sealed.Policy, Format: 1}),
		externalIDs:   sealed.NewTable[externalIDRecord](db, sealed.Spec{Tag: 'x', Name: "external id", Plane: sealed.Policy, Format: 1}),

		configurations:   sealed.NewTable[configurationRecord](db, sealed.Spec{Tag: 'g', Name: "configuration", Plane: sealed.Policy, Format: 1}),
		configurationIDs: sealed.NewTable[configurationIDRecord](db, sealed.Spec{Tag: 'y', Name: "configuration external id", Plane: sealed.Policy, Format: 1}),
		passwords:        sealed.NewTable[passwordRecord](db, sealed.Spec{Tag: 'w', Name: "password", Plane: sealed.Tokens, Format: 1}),
		redirects:        sealed.NewTable[redirectRecord](db, sealed.Spec{Tag: 't', Name: "redirect", Plane: sealed.Tokens, Format: 1}),

		users:       sealed.NewTable[userRecord](db, sealed.Spec{Tag: '1', Name: "user", Plane: sealed.Policy, Format: 2}),
		switches:    sealed.NewTable[switchesRecord](db, sealed.Spec{Tag: '2', Name: "switches", Plane: sealed.Policy, Format: 1}),
		revocations: revocation.NewTable(db),
		jobs:        job.NewTable[reportRecord](db),
		access:      access.NewTables(db),

		byUser:        sealed.NewIndex(db, 'u', "credentials by user"),
		byIntegration: sealed.NewIndex(db, 'n', "credentials by integration"),
		expiries:      sealed.NewIndex(db, 'e', "sessions by expiry"),
		byConfig:      sealed.NewIndex(db, 'f', "configurations by id"),
		grants:        sealed.NewIndex(db, 'z', "credentials by grant"),
		disabledUsers: sealed.NewIndex(db, '3', "disabled users"),
		waiting:       sealed.NewIndex(db, '+', "sessions that wait"),
		polled:        sealed.NewIndex(db, '=', "sessions by polling key"),

		refreshes: due.New(db, due.Spec{Entries: 'd', Mark: '4', Name: "refresh", Now: now}),
		revokes:   revocation.NewQueue(db, now),
	}
}

// integrationRecord is an integration as it is stored; its secrets lie in a record of their own.
type integrationRecord struct {
	Integration Integration `cbor:"1,keyasint"`
	Created     millis      `cbor:"2,keyasint"`
	Updated     millis      `cbor:"3,keyasint"`
	Deleting    bool        `cbor:"4,keyasint,omitempty"` // no more connects: it is about to go
}

// clientSecretsRecord holds the live client secrets, the one to use first in front.
type clientSecretsRecord struct {
	Secrets []crypto.Secret `cbor:"1,keyasint"`
	Updated millis          `cbor:"2,keyasint"`
}

// rosterRecord is changed by every connect and disconnect of a user's accounts of one integration, so that "is there
// another account" has one answer.
type rosterRecord struct {
	Count int `cbor:"1,keyasint"` // credentials, whatever their status
}

// claimRecord says which credentials stand for a provider account: one, or several where the integration allows it.
type claimRecord struct {
	Credentials []string `cbor:"1,keyasint"`
}

// externalIDRecord says which credential an external id means.
type externalIDRecord struct {
	Credential string `cbor:"1,keyasint"`
}

// redirectRecord says which connect session comes back to a redirect URL of the application: the newest.
type redirectRecord struct {
	Session string `cbor:"1,keyasint"` // its key
}

// bootRecord says where the store was when it was last opened to act, and by which boot of the program.
type bootRecord struct {
	Boot        string `cbor:"1,keyasint"`
	Place       string `cbor:"2,keyasint"`
	Started     millis `cbor:"3,keyasint"`
	Quarantined bool   `cbor:"4,keyasint,omitempty"` // set on a store that was made from another one
}

// userRecord is there for every connected user that has, or had, an account or metadata: each connect checks it, so that what is
// said here holds for all of them.
type userRecord struct {
	Created  millis `cbor:"1,keyasint"`
	Disabled bool   `cbor:"2,keyasint,omitempty"`
	Deleting bool   `cbor:"3,keyasint,omitempty"` // no more connects: everything of theirs is about to go

	Meta map[string]any `cbor:"4,keyasint,omitempty"` // since format 2
}

// switchesRecord changes whenever a user is disabled or enabled, so that every process notices.
type switchesRecord struct {
	Version uint64 `cbor:"1,keyasint"`
}
