package usertoken

import (
	"strings"
	"time"
	"unicode/utf8"
)

// The claims that are ours, and one under a name that others gave it.
const (
	claimPerson           = "urn:polycred:person"
	claimPolicy           = "urn:polycred:policy"
	claimPermissions      = "urn:polycred:permissions"
	claimOtherPermissions = "urn:useparagon:connect:permissions"
)

const (
	maxID   = 255          // bytes of a user, a person, a policy, a key id, a token id
	maxTime = 253402300800 // the year 10000, in seconds since 1970
)

// Claims are what a verified token says. Maps and slices are shared with whoever else verifies the same token: do not
// write to them.
type Claims struct {
	// Subject is the connected user: sub, or id where a signing key of the project signed a token without sub. Valid
	// UTF-8 without NUL, 1 to 255 bytes.
	Subject string
	// Person is urn:polycred:person, of the same form; empty when the token has none.
	Person string
	// ID tells tokens apart where they are reported: jti, of the same form, or else 16 hexadecimal digits of a digest of
	// what was signed, which stays the same when somebody writes the signature in another way. Nothing keeps an
	// application from using one jti twice.
	ID string
	// Issuer is iss, empty when the token has none, and Audience is aud.
	Issuer   string
	Audience []string
	// IssuedAt is iat, zero when the token has none; Expires is exp, in whole seconds.
	IssuedAt, Expires time.Time
	// HasPermissions tells that the token has a claim about permissions, even if it grants nothing. Permissions is what
	// the claim holds, as it stands there: nothing of it was checked.
	HasPermissions bool
	Permissions    any
	// Policy is urn:polycred:policy, of the form of Subject; empty when the token has none.
	Policy string
	// All are all claims, as encoding/json decodes them into an any.
	All map[string]any
	// Key says which key signed the token: Key.ID, or the kid of an issuer's key, which is its KeyID where it has none.
	Key string

	notBefore time.Time // nbf
}

// readClaims reads what a token says, or refuses claims that have the wrong form. It looks neither at time nor at aud.
func readClaims(all map[string]any, idFallback bool) (*Claims, error) {
	c := &Claims{All: all}
	user := "sub"
	if _, ok := all["sub"]; !ok && idFallback {
		user = "id"
	}
	if _, ok := all[user]; !ok {
		return nil, refuse("it has no sub")
	}
	for _, text := range []struct {
		name string
		to   *string
	}{
		{user, &c.Subject}, {claimPerson, &c.Person}, {"jti", &c.ID}, {claimPolicy, &c.Policy}, {"iss", &c.Issuer},
	} {
		value, ok := all[text.name]
		if !ok {
			continue
		}
		if *text.to, ok = value.(string); !ok || !isID(*text.to) {
			return nil, refuse("its %s is not a text of 1 to %d bytes without NUL", text.name, maxID)
		}
	}
	for _, date := range []struct {
		name string
		to   *time.Time
	}{
		{"exp", &c.Expires}, {"iat", &c.IssuedAt}, {"nbf", &c.notBefore},
	} {
		value, ok := all[date.name]
		if !ok {
			continue
		}
		// The bound keeps what follows from overflowing; RFC 7519 §2 allows fractions.
		seconds, ok := value.(float64)
		if !ok || seconds < 0 || seconds >= maxTime {
			return nil, refuse("its %s is not a number of seconds since 1970", date.name)
		}
		*date.to = time.Unix(int64(seconds), 0)
	}
	if c.Expires.IsZero() {
		return nil, refuse("it has no exp")
	}
	if err := c.readAudience(); err != nil {
		return nil, err
	}
	return c, c.readPermissions()
}

func (c *Claims) readAudience() error {
	value, ok := c.All["aud"]
	if !ok {
		return nil
	}
	list, ok := value.([]any) // RFC 7519 §4.1.3: a list, or the one text by itself
	if !ok {
		list = []any{value}
	}
	c.Audience = make([]string, 0, len(list))
	for _, entry := range list {
		text, ok := entry.(string)
		if !ok {
			return refuse("its aud is neither a text nor a list of texts")
		}
		c.Audience = append(c.Audience, text)
	}
	return nil
}

func (c *Claims) readPermissions() error {
	ours, hasOurs := c.All[claimPermissions]
	other, hasOther := c.All[claimOtherPermissions]
	switch {
	case hasOurs && hasOther:
		return refuse("it has both %s and %s: leave one out", claimPermissions, claimOtherPermissions)
	case (hasOurs || hasOther) && c.Policy != "":
		return refuse("it has permissions beside %s: leave one out", claimPolicy)
	case hasOurs:
		c.Permissions = ours
	case hasOther:
		c.Permissions = other
	}
	c.HasPermissions = hasOurs || hasOther
	return nil
}

// checkTime refuses a token that is not valid at now. The leeway is for clocks that go before ours; a token that has
// expired has expired.
func (c *Claims) checkTime(now time.Time, leeway time.Duration) error {
	ahead := now.Add(leeway)
	switch {
	case !now.Before(c.Expires):
		return ErrExpired
	case ahead.Before(c.notBefore):
		return refuse("it is not valid yet (nbf)")
	case ahead.Before(c.IssuedAt):
		return refuse("it was issued in the future (iat): look at the clock of the machine that signs")
	}
	return nil
}

// checkLifetime refuses a token that lives longer than the project allows (security 13).
func (c *Claims) checkLifetime(now time.Time, longest time.Duration) error {
	from := c.IssuedAt
	if from.IsZero() {
		from = now
	}
	if c.Expires.Sub(from) > longest {
		return refuse("it lives longer than %s, the most that the project allows", longest)
	}
	return nil
}

// checkProject refuses a token under a signing key of the project that was made for something else. Clients write
// different hosts before the project, or no aud at all; where there is one it has to name the project, since whatever
// else the same key signs is no user token (RFC 8725 §3.9).
func (c *Claims) checkProject(project string) error {
	if _, ok := c.All["aud"]; !ok {
		return nil
	}
	for _, audience := range c.Audience {
		if strings.EqualFold(audience[strings.LastIndexByte(audience, '/')+1:], project) {
			return nil
		}
	}
	return refuse("its aud does not name project %s", project)
}

// copy returns claims whose fields are the caller's own.
func (c *Claims) copy() *Claims {
	own := *c
	return &own
}

// isID reports whether text has the form of a user's id.
func isID(text string) bool {
	return text != "" && len(text) <= maxID && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}
