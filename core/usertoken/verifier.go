package usertoken

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

const (
	maxToken   = 16 << 10
	maxKeys    = 20 // of a project, and of an issuer that are tried for one token
	maxIssuers = 20
)

// Options of a Verifier.
type Options struct {
	// Project is the UUID of the project, which aud has to name where a signing key of the project signed; required.
	Project string
	// Keys are the live signing keys of the project, 20 at most; empty means none.
	Keys []Key
	// Issuers are the identity providers whose tokens are accepted, 20 at most; empty means none.
	Issuers []Issuer
	// KeySets fetch the keys of Issuers; nil is allowed where there are none.
	KeySets *KeySets

	// MaxLifetime is the longest that a token may live, from iat, or from now where it has none, to exp. 0 means 24
	// hours, which fits the defaults of common identity providers; a project that sends links which are good for a week
	// needs 7 days. A year is the most.
	MaxLifetime time.Duration
	// Leeway is how far iat and nbf may lie in the future, for clocks that go before ours; exp has none. 0 means one
	// minute, 10 minutes is the most; negative means no leeway.
	Leeway time.Duration
	// Remember is how many verified tokens are remembered for 5 seconds each, so that a client's next call costs a
	// digest; those over 4 KiB are not. 0 means 10,000, a million is the most; negative means none.
	Remember int
	// Now is the clock; nil means time.Now. It is called concurrently.
	Now func() time.Time
}

// Verifier verifies user tokens of one project. It is immutable but for what it remembers, and may be used concurrently.
// One without keys and issuers refuses every token. Whoever lets a project change its keys has to notice within 5 seconds
// and make a new Verifier (security 13).
type Verifier struct {
	opts    Options
	keys    []candidate
	issuers map[string]*trusted
	seen    *memory // nil: nothing is remembered
}

// candidate is a key that may have signed a token.
type candidate struct {
	id     string // what Claims.Key says
	kid    string // what a token calls it by; empty: nothing
	method jwt.SigningMethod
	public crypto.PublicKey
}

// New returns a Verifier. Errors say which field of the options is wrong. It asks nobody: the keys of issuers are fetched
// when a token needs them.
func New(options Options) (*Verifier, error) {
	v := &Verifier{opts: options, issuers: make(map[string]*trusted, len(options.Issuers))}
	o := &v.opts
	o.MaxLifetime = cmp.Or(o.MaxLifetime, 24*time.Hour)
	o.Leeway = max(0, cmp.Or(o.Leeway, time.Minute))
	o.Remember = cmp.Or(o.Remember, 10_000)
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case !isUUID(o.Project):
		return nil, errors.New("project is not a UUID")
	case len(o.Keys) > maxKeys:
		return nil, fmt.Errorf("keys: there are %d, at most %d are allowed: leave out those that are revoked", len(o.Keys), maxKeys)
	case len(o.Issuers) > maxIssuers:
		return nil, fmt.Errorf("issuers: there are %d, at most %d are allowed", len(o.Issuers), maxIssuers)
	case o.MaxLifetime < time.Second || o.MaxLifetime > 366*24*time.Hour:
		return nil, errors.New("maxLifetime must be between a second and a year, or 0 for 24 hours")
	case o.Leeway > 10*time.Minute:
		return nil, errors.New("leeway must be at most 10 minutes, or 0 for one")
	case o.Remember > 1_000_000:
		return nil, errors.New("remember must be at most a million, or 0 for 10,000")
	}
	for i, key := range o.Keys {
		if err := v.addKey(key); err != nil {
			return nil, fmt.Errorf("keys.%d: %w", i, err)
		}
	}
	for i, issuer := range o.Issuers {
		t, err := trust(issuer, o.KeySets)
		if err == nil && v.issuers[issuer.Issuer] != nil {
			err = errors.New("its issuer is configured already: put all audiences into one")
		}
		if err != nil {
			return nil, fmt.Errorf("issuers.%d: %w", i, err)
		}
		v.issuers[issuer.Issuer] = t
	}
	if o.Remember > 0 {
		v.seen = newMemory(o.Remember)
	}
	return v, nil
}

func (v *Verifier) addKey(key Key) error {
	id, err := KeyID(key.Public)
	if err != nil {
		return err
	}
	id = cmp.Or(key.ID, id)
	if !isID(id) {
		return fmt.Errorf("its id is not a text of 1 to %d bytes without NUL", maxID)
	}
	for _, other := range v.keys {
		if other.id == id {
			return errors.New("another key has its id already")
		}
	}
	method, err := algorithm(key.Public)
	v.keys = append(v.keys, candidate{id: id, kid: id, method: method, public: key.Public})
	return err
}

// Remembers reports whether a token was verified within the last 5 seconds and is remembered. It does no I/O, and says nothing
// about whether Verify would still accept it.
func (v *Verifier) Remembers(token string) bool {
	return v.seen.get(sha256.Sum256([]byte(token)), v.opts.Now()) != nil
}

// Verify returns what a token says, if it is one for this project and valid now. It may fetch the keys of the token's
// issuer, and waits for that no longer than ctx. Errors are ErrToken, of which ErrExpired is one, and ErrUnavailable, which
// wraps the error of ctx where that ended first.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	if len(token) > maxToken {
		return nil, refuse("it has %d bytes, at most %d are allowed", len(token), maxToken)
	}
	now := v.opts.Now()
	sum := sha256.Sum256([]byte(token))
	if c := v.seen.get(sum, now); c != nil {
		if err := c.checkTime(now, v.opts.Leeway); err != nil {
			return nil, err
		}
		return c.copy(), nil
	}
	c, err := v.verify(ctx, token, now)
	if err != nil {
		return nil, err
	}
	if len(token) <= maxRemembered {
		v.seen.put(sum, c, now) // from before the keys were looked at (security 13)
	}
	return c.copy(), nil
}

// verify does it. The signature comes last, so that a token that would be refused anyhow neither has keys fetched nor
// costs arithmetic.
func (v *Verifier) verify(ctx context.Context, token string, now time.Time) (*Claims, error) {
	p, err := split(token)
	if err != nil {
		return nil, err
	}
	var issuer *trusted
	if name, ok := p.claims["iss"].(string); ok {
		issuer = v.issuers[name]
	}
	c, err := readClaims(p.claims, issuer == nil)
	if err == nil {
		err = c.checkTime(now, v.opts.Leeway)
	}
	if err == nil {
		err = c.checkLifetime(now, v.opts.MaxLifetime)
	}
	if err != nil {
		return nil, err
	}
	var keys []candidate
	if issuer == nil {
		if err = c.checkProject(v.opts.Project); err == nil {
			keys, err = v.projectKeys(p.header)
		}
	} else if err = issuer.checkClaims(c); err == nil {
		keys, err = issuer.keys(ctx, p.header)
	}
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if p.header.method.Verify(p.signed, p.signature, key.public) == nil {
			c.Key = key.id
			if c.ID == "" {
				sum := sha256.Sum256([]byte(p.signed))
				c.ID = hex.EncodeToString(sum[:8])
			}
			return c, nil
		}
	}
	if issuer == nil {
		return nil, refuse("no live signing key of project %s signed it, and no issuer that is configured is its iss", v.opts.Project)
	}
	return nil, refuse("no key of its issuer signed it")
}

// projectKeys returns the signing keys that may have signed a token. kid is a hint: applications write their own.
func (v *Verifier) projectKeys(h header) ([]candidate, error) {
	found := match(v.keys, h.method, h.kid)
	if len(found) == 0 {
		found = match(v.keys, h.method, "")
	}
	if len(found) == 0 {
		return nil, refuse("project %s has no live %s signing key, and no issuer that is configured is its iss", v.opts.Project, h.method.Alg())
	}
	return found, nil
}

// match returns the keys for a method that are called kid; with an empty one, all for that method.
func match(keys []candidate, method jwt.SigningMethod, kid string) []candidate {
	return pick(keys, func(c *candidate) bool { return c.method == method && (kid == "" || c.kid == kid) })
}

// unnamed returns the keys for a method that have no kid.
func unnamed(keys []candidate, method jwt.SigningMethod) []candidate {
	return pick(keys, func(c *candidate) bool { return c.method == method && c.kid == "" })
}

func pick(keys []candidate, fits func(*candidate) bool) []candidate {
	var found []candidate
	for i := range keys {
		if fits(&keys[i]) && len(found) < maxKeys {
			found = append(found, keys[i])
		}
	}
	return found
}

// parts are a token that was taken apart, and nothing of it verified.
type parts struct {
	header    header
	claims    map[string]any
	signed    string // what the signature is over
	signature []byte
}

// header is what counts of a token's header.
type header struct {
	method jwt.SigningMethod
	kid    string // empty: none
}

// split takes a token in compact form (RFC 7515 §7.1) apart. The parser of the library does not do: it takes the last of
// two claims of one name, and makes different broken texts the same.
func split(token string) (*parts, error) {
	const malformed = "it is not a signed JWT: three parts in base64url, with dots between them"
	// The decoder passes over line breaks.
	if strings.Count(token, ".") != 2 || strings.ContainsAny(token, "\r\n") {
		return nil, refuse(malformed)
	}
	dot := strings.LastIndexByte(token, '.')
	p := &parts{signed: token[:dot]}
	head, body, _ := strings.Cut(p.signed, ".")
	var decoded [3][]byte
	for i, part := range []string{head, body, token[dot+1:]} {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return nil, refuse(malformed)
		}
	}
	p.signature = decoded[2]
	fields, err := decodeObject(decoded[0])
	if err != nil {
		return nil, refuse("its header %w", err)
	}
	if p.header, err = readHeader(fields); err != nil {
		return nil, err
	}
	if p.claims, err = decodeObject(decoded[1]); err != nil {
		return nil, refuse("its payload %w", err)
	}
	return p, nil
}

// readHeader refuses headers that ask for something else than a plain signature.
func readHeader(fields map[string]any) (h header, err error) {
	name, _ := fields["alg"].(string)
	if h.method = methods[name]; h.method == nil {
		return h, refuse("its alg is none of RS256, ES256 and EdDSA")
	}
	if _, ok := fields["crit"]; ok {
		return h, refuse("its header has crit, and no extension is understood")
	}
	if typ, ok := fields["typ"]; ok {
		text, _ := typ.(string)
		// RFC 7515 §4.1.9: "application/" is left out where nothing else has a slash. RFC 9068 §4 is at+jwt.
		switch strings.TrimPrefix(strings.ToLower(text), "application/") {
		case "jwt", "at+jwt":
		default:
			return h, refuse("its typ is neither JWT nor at+jwt: it is another kind of token")
		}
	}
	if kid, ok := fields["kid"]; ok {
		if h.kid, ok = kid.(string); !ok || len(h.kid) > maxID {
			return h, refuse("its kid is not a text of at most %d bytes", maxID)
		}
	}
	return h, nil
}

// isUUID reports whether text is a UUID in its usual form (RFC 9562 §4).
func isUUID(text string) bool { return len(text) == 36 && uuid.Validate(text) == nil }

// clip quotes a text of a token's header for an error.
func clip(text string) string {
	const most = 64
	if len(text) > most {
		return strconv.QuoteToASCII(text[:most]) + "…"
	}
	return strconv.QuoteToASCII(text)
}
