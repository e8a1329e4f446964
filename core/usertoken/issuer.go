package usertoken

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// methods are the signing methods that there are. There is no other way from a name in a header to a method: the
// registry of the library knows HMAC and none.
var methods = map[string]jwt.SigningMethod{
	jwt.SigningMethodRS256.Alg(): jwt.SigningMethodRS256,
	jwt.SigningMethodES256.Alg(): jwt.SigningMethodES256,
	jwt.SigningMethodEdDSA.Alg(): jwt.SigningMethodEdDSA,
}

// Issuer is an identity provider whose tokens are accepted as user tokens. Everything in it is configuration: nothing
// comes from a token, and no metadata is looked up.
//
// For Firebase the issuer is "https://securetoken.google.com/" and the Firebase project, which is the audience too, and
// the keys lie at https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com. For Auth0 it
// is "https://", the domain and "/"; the audience is the client id for ID tokens, the API's identifier for access tokens;
// the keys lie under the issuer at .well-known/jwks.json.
type Issuer struct {
	// Issuer is what iss says, compared byte by byte; 1 to 255 bytes. A slash at the end counts.
	Issuer string
	// Audiences are what aud may say, compared byte by byte; at least one. One of them has to stand in the token: it is
	// what keeps out the tokens that the same provider signs for its other customers.
	Audiences []string
	// KeysURL is where its JWK set lies, an https URL; see KeySetsOptions.PlainHTTP.
	KeysURL string
	// Algorithms are those that it signs with, of RS256, ES256 and EdDSA; empty means all three.
	Algorithms []string
}

// trusted is an Issuer that was checked, with its keys.
type trusted struct {
	Issuer
	set *keySet
}

// trust checks an issuer.
func trust(issuer Issuer, sets *KeySets) (*trusted, error) {
	t := &trusted{Issuer: issuer}
	t.Audiences = slices.Clone(t.Audiences)
	t.Algorithms = slices.Clone(t.Algorithms)
	switch {
	case !isID(t.Issuer.Issuer):
		return nil, fmt.Errorf("its issuer is not a text of 1 to %d bytes", maxID)
	case len(t.Audiences) == 0 || slices.Contains(t.Audiences, ""):
		return nil, errors.New("it needs an audience, and none may be empty: without one it would let in the issuer's other customers")
	case sets == nil:
		return nil, errors.New("its keys have to come from somewhere: pass KeySets")
	}
	for _, name := range t.Algorithms {
		if methods[name] == nil {
			return nil, fmt.Errorf("%q is no algorithm: use RS256, ES256 or EdDSA", name)
		}
	}
	var err error
	t.set, err = sets.open(t.KeysURL)
	return t, err
}

// checkClaims refuses what a trusted issuer did not make for this project.
func (t *trusted) checkClaims(c *Claims) error {
	if !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(t.Audiences, a) }) {
		return refuse("its aud names none of the audiences that are configured for its issuer")
	}
	// A logout token has the issuer, the audience and the subject of an ID token (OpenID Connect Back-Channel Logout
	// §2.4), and older issuers give it no typ. What has events is a security event (RFC 8417 §2.2), whoever it is about.
	if _, ok := c.All["events"]; ok {
		return refuse("it is a security event token: it has events")
	}
	return nil
}

// keys returns the keys that may have signed a token.
func (t *trusted) keys(ctx context.Context, h header) ([]candidate, error) {
	if len(t.Algorithms) > 0 && !slices.Contains(t.Algorithms, h.method.Alg()) {
		return nil, refuse("its issuer does not sign with %s", h.method.Alg())
	}
	keys, err := t.set.find(ctx, h)
	if err != nil && !errors.Is(err, ErrToken) {
		err = fmt.Errorf("%w: %s: %w", ErrUnavailable, t.Issuer.Issuer, err)
	}
	return keys, err
}

// checkKeysURL refuses URLs that keys must not come from.
func checkKeysURL(raw string, plain []string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New("its keys URL is not an https URL")
	case u.User != nil || u.Fragment != "":
		return errors.New("its keys URL must be without user and fragment")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errors.New("its keys URL is not an https URL")
	}
	host := u.Host
	if u.Port() == "" {
		host = strings.TrimSuffix(host, ":") + ":80"
	}
	if !slices.ContainsFunc(plain, func(p string) bool { return strings.EqualFold(p, host) }) {
		return errors.New("its keys URL is plain http, over which anybody on the way could put in a key: use https")
	}
	return nil
}
