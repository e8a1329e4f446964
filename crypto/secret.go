package crypto

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// Secret is a string that must not be seen: a token, a client secret, an API key, a PKCE verifier.
//
// It prints a placeholder under every verb of fmt that prints a value and in every slog handler, and encoding/json,
// encoding/gob, encoding/xml and CBOR fail on it instead of writing or silently losing it. Only [Secret.Reveal] gives
// the text out. The zero value is the empty secret. Secrets are compared with [Secret.Equal]; == compares identity, not
// text. A Secret is immutable and may be used concurrently.
//
// It is an array of one pointer for two reasons: fmt cannot call methods of a field that is not exported and would
// print a string there, but it prints only the address of a nested pointer; and the codec of storage/sealed, which is
// told to pass over the marshalling methods, can reach the text, which it could not inside a struct.
type Secret [1]*secretText

type secretText string

const placeholder = "[secret]"

var errSecretEncoded = errors.New("a secret cannot be encoded: call Reveal where its text is really meant to leave")

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	t := secretText(text)
	return Secret{&t}
}

// Reveal returns the text. Whoever calls it answers for where the text goes.
func (s Secret) Reveal() string {
	if s[0] == nil {
		return ""
	}
	return string(*s[0])
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s[0] == nil || *s[0] == "" }

// Equal reports, in time that does not depend on the contents, whether both hold the same text.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String returns a placeholder.
func (s Secret) String() string { return placeholder }

// GoString returns a placeholder.
func (s Secret) GoString() string { return placeholder }

// Format writes a placeholder, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(placeholder)) }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(placeholder) }

// MarshalText always fails: a Secret is not written by general encoders.
func (s Secret) MarshalText() ([]byte, error) { return nil, errSecretEncoded }

// MarshalJSON always fails.
func (s Secret) MarshalJSON() ([]byte, error) { return nil, errSecretEncoded }

// MarshalBinary always fails; CBOR, gob and msgpack encoders ask for it.
func (s Secret) MarshalBinary() ([]byte, error) { return nil, errSecretEncoded }

// UnmarshalText takes the secret from a configuration document.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}
