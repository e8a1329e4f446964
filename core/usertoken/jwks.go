package usertoken

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
)

// maxPublished is how many keys a JWK set may have.
const maxPublished = 100

// parseKeySet reads a JWK set (RFC 7517 §5). Keys that are not for checking signatures, or of a kind that is not ours,
// are passed over, as §5 asks; a set without any key is one whose keys were all withdrawn.
//
// The library does the decoding of single keys and nothing else. Its own client, and keyfunc on top of it, start a
// goroutine per URL, read bodies of any size, lose the whole set over one broken key, and look a kid up in the sets of
// all issuers at once.
func parseKeySet(body []byte) ([]candidate, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the answer is not a JWK set")
	}
	if len(set.Keys) > maxPublished {
		return nil, fmt.Errorf("the JWK set has %d keys, at most %d are allowed", len(set.Keys), maxPublished)
	}
	keys := make([]candidate, 0, len(set.Keys))
	for _, raw := range set.Keys {
		if key, ok := parsePublished(raw); ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// parsePublished reads one key of a set; ok tells whether it is one to check signatures with.
func parsePublished(raw json.RawMessage) (key candidate, ok bool) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &m); err != nil {
		return candidate{}, false
	}
	switch {
	case m.USE != "" && m.USE != jwkset.UseSig, // RFC 7517 §4.2
		len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify), // §4.3
		m.D != "", // whoever reads the set can sign with it
		len(m.KID) > maxID:
		return candidate{}, false
	}
	// Certificates say nothing that would count here, and a URL of one is not followed.
	m.X5C, m.X5U, m.X5T, m.X5TS256 = nil, "", "", ""
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return candidate{}, false
	}
	method, err := algorithm(jwk.Key())
	if err != nil || m.ALG != "" && m.ALG.String() != method.Alg() { // §4.4
		return candidate{}, false
	}
	key = candidate{id: m.KID, kid: m.KID, method: method, public: jwk.Key()}
	if key.id == "" {
		if key.id, err = KeyID(key.public); err != nil {
			return candidate{}, false
		}
	}
	return key, true
}
