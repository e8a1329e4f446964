package revocation

import (
	"net/url"
	"slices"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/sealed"
)

// Tags, names and the numbers of fields are forever; adding a field makes a new format.

// NewTable returns the table of records in db. It panics when its tag is taken.
func NewTable(db *sealed.DB) *sealed.Table[Record] { // key: id
	return sealed.NewTable[Record](db, sealed.Spec{Tag: 'q', Name: "revocation", Plane: sealed.Tokens, Format: 1})
}

// NewQueue returns the queue of what is due in db. It panics when one of its tags is taken.
func NewQueue(db *sealed.DB, now func() time.Time) *due.Queue { // key: id
	return due.New(db, due.Spec{Entries: '5', Mark: '6', Name: "revoke", Now: now})
}

// Record is a grant that the provider is to be told to end. Times are milliseconds since 1970 UTC, 0 for none. Attempts
// and what follows it, but for tokens and Endpoint, are the Revoker's.
type Record struct {
	ID          string            `cbor:"1,keyasint"`
	User        string            `cbor:"2,keyasint"`
	Credential  string            `cbor:"3,keyasint"`
	Integration string            `cbor:"4,keyasint"`
	ClientID    string            `cbor:"5,keyasint"` // that the grant was given to
	Account     Account           `cbor:"6,keyasint"` // whose grant it is, without Display
	Variables   map[string]string `cbor:"7,keyasint,omitempty"`
	Created     int64             `cbor:"8,keyasint"`

	Attempts    int        `cbor:"10,keyasint,omitempty"` // begun
	LastFailure string     `cbor:"11,keyasint,omitempty"` // its class
	FailureCode string     `cbor:"12,keyasint,omitempty"`
	Due         due.Minute `cbor:"13,keyasint"` // where its entry in the due queue stands

	AccessToken  crypto.Secret `cbor:"20,keyasint"`
	ValidUntil   int64         `cbor:"21,keyasint,omitempty"`
	RefreshToken crypto.Secret `cbor:"22,keyasint"`           // empty once it is known to be dead
	RefreshEnded bool          `cbor:"23,keyasint,omitempty"` // the provider has ended the refresh token

	Endpoint Endpoint `cbor:"30,keyasint"` // as it was when the record was made
}

// Account is an account at a provider, as package core has it.
type Account struct {
	Issuer  string `cbor:"1,keyasint,omitempty"`
	Tenant  string `cbor:"2,keyasint,omitempty"`
	Subject string `cbor:"3,keyasint,omitempty"`
	Display string `cbor:"4,keyasint,omitempty"`
}

// Endpoint is where and how the tokens of one account are given back. An empty text is what OAuth has by default.
type Endpoint struct {
	URL        string          `cbor:"1,keyasint"`           // expanded
	Style      string          `cbor:"2,keyasint,omitempty"` // as oauth.Style
	Scope      string          `cbor:"3,keyasint,omitempty"` // ScopeGrant: the provider ends the whole grant
	ClientAuth string          `cbor:"4,keyasint,omitempty"` // as oauth.Auth
	Encoding   string          `cbor:"5,keyasint,omitempty"` // EncodingJSON: of requests, else a form
	Errors     Codes           `cbor:"6,keyasint,omitempty"`
	Secrets    []crypto.Secret `cbor:"7,keyasint,omitempty"` // of the client, the one to use first in front

	// Where a live access token comes from, for styles that need one. Expanded; empty: from nowhere.
	TokenURL    string            `cbor:"10,keyasint,omitempty"`
	TokenParams map[string]string `cbor:"11,keyasint,omitempty"`
	TokenPath   string            `cbor:"12,keyasint,omitempty"`
}

// Words of an Endpoint.
const (
	ScopeGrant   = "grant"
	EncodingJSON = "json"
)

// Codes are oauth.Codes as they are stored.
type Codes struct {
	Permanent   []string `cbor:"1,keyasint,omitempty"`
	Transient   []string `cbor:"2,keyasint,omitempty"`
	RateLimited []string `cbor:"3,keyasint,omitempty"`
	Path        string   `cbor:"4,keyasint,omitempty"`
	OKPath      string   `cbor:"5,keyasint,omitempty"`
}

// merged returns where to revoke the tokens of a record that was made for before: as the integration says now, if that is
// at the same hosts, else as it was said then.
func merged(before, now *Endpoint) *Endpoint {
	if now == nil || origin(now.URL) != origin(before.URL) || origin(now.TokenURL) != origin(before.TokenURL) {
		return before
	}
	both := *now
	for _, secret := range before.Secrets { // last: it may be dead, or the only one that the provider knows yet
		if !slices.ContainsFunc(both.Secrets, secret.Equal) {
			both.Secrets = append(slices.Clip(both.Secrets), secret)
		}
	}
	return &both
}

// origin is scheme, host and port of a URL of ours.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
