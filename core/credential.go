package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/crypto"
)

// Status says whether a credential can be used.
type Status string

// The statuses.
const (
	StatusValid   Status = "VALID"   // usable
	StatusInvalid Status = "INVALID" // its authorisation has ended; the person has to connect it again
	StatusPending Status = "PENDING" // not completely set up; never used before it is
)

// Credential is one authorised account of one connected user at one integration. It holds no token: those come from
// User.Token, and requests with them go through User.Client.
type Credential struct {
	ID          string `json:"id"` // a UUID; ids sort by the time they were made
	User        string `json:"user"`
	Integration string `json:"integration"`
	// ExternalID is the application's own name for the account, unique for user and integration; may be empty.
	ExternalID string `json:"externalId,omitempty"`
	// Label is what people call it; empty means Account.Display. It changes with User.Rename and identifies nothing.
	Label string `json:"label,omitempty"`
	// Owner is the person who connected it, when the connected user is an organisation; may be empty. It never changes.
	Owner   string          `json:"owner,omitempty"`
	Status  Status          `json:"status"`
	Account ProviderAccount `json:"account"`
	Scopes  []string        `json:"scopes,omitempty"` // as granted

	Created    time.Time `json:"dateCreated"`
	Updated    time.Time `json:"dateUpdated"`             // of anything
	Refreshed  time.Time `json:"dateRefreshed,omitzero"`  // when the token was last obtained; of an API key, when it was connected
	ValidUntil time.Time `json:"dateValidUntil,omitzero"` // of the token; zero when it has no known end

	// Disabled says that it was switched off, see User.Disable. That changes nothing about Status.
	Disabled bool `json:"disabled,omitempty"`
	// Refreshing says that a refresh of it was begun and has not ended; after a crash in one, until the next one.
	Refreshing bool `json:"isRefreshing"`
	// RefreshFailures counts failed refreshes since the last good one. LastFailure is the class of the last: of an INVALID
	// account, why it is that, where "indeterminate" says that the answer to a refresh was lost, and with it the account's
	// new refresh token. FailureCode is the provider's code, such as "invalid_grant", or one of ours: CodeRevoked,
	// CodeOtherAccount. NextAttempt is when a refresh may be tried again; zero: at any time. What to do about each:
	// docs/runbook.md.
	RefreshFailures int          `json:"refreshFailureCount"`
	LastFailure     FailureClass `json:"lastFailure,omitempty"`
	FailureCode     string       `json:"failureCode,omitempty"`
	NextAttempt     time.Time    `json:"dateNextAttempt,omitzero"`

	// Missing are the inputs of Integration.Setup whose values keep it PENDING; see User.Setup.
	Missing []string `json:"missing,omitempty"`
}

// ProviderAccount is an account's identity at its provider. It is known when Subject is not empty; an unknown identity
// equals nothing, not even another unknown one.
type ProviderAccount struct {
	Issuer  string `json:"issuer,omitempty"`  // of the OpenID provider, or the host that answered for the identity
	Tenant  string `json:"tenant,omitempty"`  // workspace, organisation; empty where there is none
	Subject string `json:"subject,omitempty"` // the unchanging id
	Display string `json:"display,omitempty"` // what people call it; no part of the identity
}

// Known reports whether the identity is known.
func (a ProviderAccount) Known() bool { return a.Subject != "" }

// Same reports whether both are known and the same account.
func (a ProviderAccount) Same(b ProviderAccount) bool {
	return a.Known() && a.Issuer == b.Issuer && a.Tenant == b.Tenant && a.Subject == b.Subject
}

// tokenRecord is the part of a credential that every use of it reads: its token, and whether it is good. It can be read
// by itself, which is cheaper.
type tokenRecord struct {
	ID          string            `cbor:"1,keyasint"`
	Integration string            `cbor:"2,keyasint"`
	Status      Status            `cbor:"5,keyasint"`
	Variables   map[string]string `cbor:"8,keyasint,omitempty"` // also the hosts that the provider sent

	AccessToken  crypto.Secret `cbor:"20,keyasint"` // or the API key
	TokenType    string        `cbor:"21,keyasint,omitempty"`
	Refreshed    millis        `cbor:"22,keyasint,omitempty"`
	ValidUntil   millis        `cbor:"23,keyasint,omitempty"` // 0: no known end
	RefreshToken crypto.Secret `cbor:"24,keyasint"`
	NextAttempt  millis        `cbor:"34,keyasint,omitempty"` // of a refresh, after one failed
	Generation   uint64        `cbor:"35,keyasint,omitempty"` // of the account: a reconnect by one not known to be the same raises it

	// Since format 3.
	By       uint64 `cbor:"36,keyasint,omitempty"` // who obtained the token: see Engine.by; by its clock are the times above
	Disabled bool   `cbor:"37,keyasint,omitempty"`
	Wait     millis `cbor:"38,keyasint,omitempty"` // the length of the pause that ends at NextAttempt
	PausedBy uint64 `cbor:"39,keyasint,omitempty"` // who began that pause
}

// credentialRecord is a credential as it is stored.
type credentialRecord struct {
	tokenRecord
	ExternalID string        `cbor:"3,keyasint,omitempty"`
	Owner      string        `cbor:"4,keyasint,omitempty"`
	Account    accountRecord `cbor:"6,keyasint"`
	Scopes     []string      `cbor:"7,keyasint,omitempty"`
	Created    millis        `cbor:"9,keyasint"`
	Updated    millis        `cbor:"10,keyasint"`
	ClientID   string        `cbor:"12,keyasint,omitempty"` // the OAuth client that the grant was given to
	Label      string        `cbor:"13,keyasint,omitempty"` // since format 2, as are the values of Setup

	// The refresh token before this one is kept while the provider may still accept it.
	PreviousRefreshToken crypto.Secret `cbor:"25,keyasint"`
	PreviousUntil        millis        `cbor:"26,keyasint,omitempty"`

	Attempt     uint64        `cbor:"30,keyasint,omitempty"` // refreshes begun, ever
	Intent      *intentRecord `cbor:"31,keyasint,omitempty"` // a refresh under way
	Failures    int           `cbor:"32,keyasint,omitempty"`
	LastFailure FailureClass  `cbor:"33,keyasint,omitempty"`
	FailureCode string        `cbor:"27,keyasint,omitempty"` // since format 3, as is Due
	Due         due.Minute    `cbor:"28,keyasint,omitempty"` // where its entry in the due queue stands; 0: it has none
	Identified  uint64        `cbor:"29,keyasint,omitempty"` // how its account was recognised: see Identity.fingerprint

	Setup        map[string]any           `cbor:"40,keyasint,omitempty"`
	SetupSecrets map[string]crypto.Secret `cbor:"41,keyasint,omitempty"`
	Missing      []string                 `cbor:"42,keyasint,omitempty"` // while it is pending
	Incomplete   bool                     `cbor:"43,keyasint,omitempty"` // INVALID, and was PENDING before; since format 3
}

// intentRecord says, before a provider is asked, what is about to be spent.
type intentRecord struct {
	Attempt     uint64 `cbor:"1,keyasint"`
	Fingerprint []byte `cbor:"2,keyasint"` // digest of the refresh token
	Started     millis `cbor:"3,keyasint"`
	Boot        string `cbor:"4,keyasint"`
	// Since is when the first refresh with this refresh token began whose outcome nobody knows; 0: there is none. Since
	// format 3, as is Ended.
	Since millis `cbor:"5,keyasint,omitempty"`
	Ended bool   `cbor:"6,keyasint,omitempty"` // nobody waits for its answer any more
}

type accountRecord struct {
	Issuer  string `cbor:"1,keyasint,omitempty"`
	Tenant  string `cbor:"2,keyasint,omitempty"`
	Subject string `cbor:"3,keyasint,omitempty"`
	Display string `cbor:"4,keyasint,omitempty"`
}

func (r *credentialRecord) public(user string) Credential {
	return Credential{
		ID: r.ID, User: user, Integration: r.Integration, ExternalID: r.ExternalID, Owner: r.Owner,
		Status: r.Status, Account: ProviderAccount(r.Account), Scopes: r.Scopes,
		Created: r.Created.time(), Updated: r.Updated.time(), Refreshed: r.Refreshed.time(), ValidUntil: r.ValidUntil.time(),
		Disabled: r.Disabled, Refreshing: r.Intent != nil && !r.Intent.Ended,
		RefreshFailures: r.Failures, LastFailure: r.LastFailure, FailureCode: r.FailureCode, NextAttempt: r.NextAttempt.time(),
		Label: r.Label, Missing: slices.Clone(r.Missing),
	}
}

// usable reports why the credential cannot be used, if so.
func (r *tokenRecord) usable() error {
	if r.Disabled {
		return fmt.Errorf("credential %s: %w", r.ID, ErrDisabled)
	}
	switch r.Status {
	case StatusValid:
		return nil
	case StatusPending:
		return fmt.Errorf("credential %s: %w: CompleteSetup takes what is missing", r.ID, ErrPending)
	default:
		return fmt.Errorf("credential %s: %w", r.ID, ErrReconnect)
	}
}

// millis is a time as it is stored: milliseconds since 1970 UTC, 0 for none.
type millis int64

func toMillis(t time.Time) millis {
	if t.IsZero() {
		return 0
	}
	return millis(t.UnixMilli())
}

func (m millis) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}
