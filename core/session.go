package core

import "github.com/polycred/polycred/crypto"

// sessionPhase is how far a connect session is.
type sessionPhase uint8

const (
	sessionUnbound    sessionPhase = iota // no browser yet
	sessionOpen                           // bound; the person is at the provider
	sessionExchanging                     // the callback came; its code is being spent
	sessionDone                           // it has an outcome, good or bad
)

// sessionRecord is one attempt to connect an account. It is used up by one callback; what came of it stays until it is
// swept, so that the same browser can ask again.
type sessionRecord struct {
	ID          string            `cbor:"1,keyasint"`
	User        string            `cbor:"2,keyasint"`
	Integration string            `cbor:"3,keyasint"`
	Phase       sessionPhase      `cbor:"4,keyasint"`
	Browser     []byte            `cbor:"5,keyasint,omitempty"` // digest of what only that browser can present
	Created     millis            `cbor:"6,keyasint"`
	Expires     millis            `cbor:"7,keyasint"`
	Owner       string            `cbor:"8,keyasint,omitempty"`
	Variables   map[string]string `cbor:"9,keyasint,omitempty"`
	ReturnURL   string            `cbor:"10,keyasint,omitempty"`

	AllowMultiple bool   `cbor:"11,keyasint,omitempty"`
	Into          string `cbor:"12,keyasint,omitempty"`
	ExternalID    string `cbor:"13,keyasint,omitempty"`

	// What the code is spent with was fixed when the session began: nothing of it comes from the answer.
	Verifier    crypto.Secret `cbor:"20,keyasint"`
	Nonce       crypto.Secret `cbor:"21,keyasint"`
	TokenURL    string        `cbor:"22,keyasint"`
	RedirectURI string        `cbor:"23,keyasint"`
	ClientID    string        `cbor:"24,keyasint"`

	Exchanging millis `cbor:"30,keyasint,omitempty"` // since when
	Credential string `cbor:"31,keyasint,omitempty"` // the outcome: a credential, or
	Code       string `cbor:"32,keyasint,omitempty"` // the code of an error and
	Text       string `cbor:"33,keyasint,omitempty"` // its text
}
