package usertoken

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// audienceHost stands before the project in aud. Verifiers of ours take any host there.
const audienceHost = "polycred"

// MintInput is what a minted token says.
type MintInput struct {
	// Project is the UUID of the project; required. aud is "polycred/" and the project.
	Project string
	// User is the connected user: valid UTF-8 without NUL, 1 to 255 bytes; required.
	User string
	// Person is the person behind a user who is an organisation, of the same form; empty means none.
	Person string
	// Lifetime is how long the token is valid, in whole seconds; 0 means one hour. The verifier has a bound of its own.
	Lifetime time.Duration
	// Permissions are the claim urn:polycred:permissions, whatever encodes to the JSON that is wanted; nil means no claim,
	// which grants everything of the user. What they mean is not checked.
	Permissions any
	// Policy is the name of a policy, of the form of User; empty means none. It does not go with Permissions.
	Policy string
	// Claims are further claims, for policies to refer to; they cannot be those that have a field here. A jti, an iss or
	// an nbf is taken from here; without a jti the token gets a random one.
	Claims map[string]any
	// KeyID is the kid; empty means the KeyID of the public half.
	KeyID string
	// Now is when it is issued; zero means now.
	Now time.Time
}

// reserved are the claims that MintInput has fields for.
var reserved = []string{"sub", "aud", "iat", "exp", claimPerson, claimPolicy, claimPermissions, claimOtherPermissions}

// Mint signs a user token, for hosts that have no JWT library at hand and for tests. The key is an *rsa.PrivateKey of 2048
// to 8192 bits, an *ecdsa.PrivateKey on P-256 or an ed25519.PrivateKey, like ParsePrivateKey returns it; it belongs on the
// application's server and nowhere else. It is an error when the key or the input is not what it should be, or when the
// token is larger than a Verifier takes; no error holds anything of the key.
func Mint(key crypto.Signer, input MintInput) (string, error) {
	var public crypto.PublicKey
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key != nil {
			public = key.Public()
		}
	case *ecdsa.PrivateKey:
		if key != nil {
			public = key.Public()
		}
	case ed25519.PrivateKey:
		if len(key) == ed25519.PrivateKeySize {
			public = key.Public()
		}
	}
	method, err := algorithm(public)
	if err != nil {
		return "", errors.New("mint user token: the key is not a private key that Mint can sign with")
	}
	id, err := KeyID(public)
	if err != nil {
		return "", fmt.Errorf("mint user token: %w", err)
	}
	claims, err := input.claims()
	if err != nil {
		return "", fmt.Errorf("mint user token: %w", err)
	}
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = cmp.Or(input.KeyID, id)
	signed, err := token.SignedString(key)
	switch {
	case err != nil:
		return "", fmt.Errorf("mint user token: %w", err)
	case len(input.KeyID) > maxID:
		return "", fmt.Errorf("mint user token: keyId has %d bytes, at most %d are allowed", len(input.KeyID), maxID)
	case len(signed) > maxToken:
		return "", fmt.Errorf("mint user token: it has %d bytes, at most %d are allowed", len(signed), maxToken)
	}
	return signed, nil
}

// claims returns what the token says.
func (in *MintInput) claims() (jwt.MapClaims, error) {
	lifetime := cmp.Or(in.Lifetime, time.Hour)
	now := in.Now
	if now.IsZero() {
		now = time.Now()
	}
	switch {
	case !isUUID(in.Project):
		return nil, errors.New("project is not a UUID")
	case !isID(in.User):
		return nil, fmt.Errorf("user is not a text of 1 to %d bytes without NUL", maxID)
	case in.Person != "" && !isID(in.Person):
		return nil, fmt.Errorf("person is not a text of 1 to %d bytes without NUL", maxID)
	case in.Policy != "" && !isID(in.Policy):
		return nil, fmt.Errorf("policy is not a text of 1 to %d bytes without NUL", maxID)
	case in.Policy != "" && in.Permissions != nil:
		return nil, errors.New("policy does not go with permissions")
	case lifetime < time.Second:
		return nil, errors.New("lifetime must be at least a second, or 0 for an hour")
	}
	for _, name := range reserved {
		if _, ok := in.Claims[name]; ok {
			return nil, fmt.Errorf("claims must not have %s: there is a field for it", name)
		}
	}
	claims := jwt.MapClaims{"jti": rand.Text()}
	maps.Copy(claims, in.Claims)
	claims["sub"], claims["aud"] = in.User, audienceHost+"/"+in.Project
	claims["iat"], claims["exp"] = now.Unix(), now.Unix()+int64(lifetime/time.Second)
	if in.Person != "" {
		claims[claimPerson] = in.Person
	}
	if in.Policy != "" {
		claims[claimPolicy] = in.Policy
	}
	if in.Permissions != nil {
		// A nil map in an any would become null, which reads like no claim and means the opposite.
		text, err := json.Marshal(in.Permissions)
		if err != nil || bytes.Equal(text, []byte("null")) {
			return nil, errors.New("permissions cannot be encoded: use nil for none, and an empty map for no permission at all")
		}
		claims[claimPermissions] = json.RawMessage(text)
	}
	return claims, nil
}
