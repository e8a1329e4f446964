package core

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits of what callers name things.
const (
	maxUserID     = 255
	maxExternalID = 255
	maxName       = 64
	maxLabel      = 255
)

// newID returns a UUID with the time in front, laid out as a UUIDv7 (RFC 9562 §5.7): ids of one user sort by the time they were
// made. Its version says 4 all the same, because the public browser SDK (2.4.0) takes a text for a UUID only if its version is
// one of 0 to 5, and looks for an account of such an external id otherwise.
func newID() string {
	id := uuid.Must(uuid.NewV7()) // fails only when the system has no randomness
	id[6] = 4<<4 | id[6]&0x0f
	return id.String()
}

// newNonce returns 256 random bits as text that is safe in a URL: a state, a handle, a nonce.
func newNonce() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// digest hides a value that is only ever compared or looked up; the purpose keeps digests of equal values apart.
func digest(purpose, value string) []byte {
	sum := sha256.Sum256([]byte("polycred " + purpose + "\x00" + value))
	return sum[:]
}

// checkID checks the id of a user or a person, as field names it.
func checkID(field, id string) error {
	switch {
	case id == "" || id == nobody:
		return invalid(field, "is empty: pass the id under which your application knows the "+field)
	case len(id) > maxUserID:
		return invalid(field, fmt.Sprintf("has %d bytes, at most %d are allowed", len(id), maxUserID))
	case !utf8.ValidString(id):
		return invalid(field, "is not valid UTF-8")
	case strings.ContainsRune(id, 0):
		return invalid(field, "contains a NUL byte")
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return invalid("integration", "is empty: pass the name it was created under")
	case len(name) > maxName:
		return invalid("integration", fmt.Sprintf("has a name of %d bytes, at most %d are allowed", len(name), maxName))
	}
	if strings.Trim(name, ".") == "" { // a browser would resolve "." and ".." in the callback's path
		return invalid("integration", "has a name of nothing but dots")
	}
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(".-_", r)) {
			return invalid("integration", "has a name with other characters than letters, digits, '.', '-' and '_'")
		}
	}
	return nil
}

// nobody is a person that was given but is empty; no id is like it.
const nobody = "\x00"

// cleanLabel trims a label; it may be empty.
func cleanLabel(label string) (string, error) {
	label = strings.TrimSpace(label)
	switch {
	case len(label) > maxLabel:
		return "", invalid("label", fmt.Sprintf("has %d bytes, at most %d are allowed", len(label), maxLabel))
	case !utf8.ValidString(label):
		return "", invalid("label", "is not valid UTF-8")
	case strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", invalid("label", "has a line break or another character that cannot be shown")
	}
	return label, nil
}

const externalPrefix = "ext:"

// cleanExternalID trims an external id and cuts one leading "ext:" off. External ids are equal when their bytes are.
func cleanExternalID(id string) (string, error) {
	id = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(id), externalPrefix))
	switch {
	case strings.HasPrefix(id, externalPrefix): // as a selector it would mean another account
		return "", invalid("externalId", `begins with "ext:" twice`)
	case id == "":
		return "", invalid("externalId", "is empty: leave it out, or name the account")
	case len(id) > maxExternalID:
		return "", invalid("externalId", fmt.Sprintf("has %d bytes, at most %d are allowed", len(id), maxExternalID))
	case !utf8.ValidString(id):
		return "", invalid("externalId", "is not valid UTF-8")
	case strings.ContainsFunc(id, unicode.IsControl):
		return "", invalid("externalId", "contains a NUL byte, a line break or another control character")
	}
	return id, nil
}

// canonicalUUID returns the canonical form of a UUID in its 36-character form.
func canonicalUUID(s string) (string, bool) {
	if len(s) != 36 {
		return "", false
	}
	if isCanonical(s) {
		return s, true
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return "", false
	}
	return id.String(), true
}

// isCanonical reports whether s is a UUID in canonical form already, which is what nearly everybody passes.
func isCanonical(s string) bool {
	for i := range len(s) {
		c := s[i]
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') {
			return false
		} else if !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 36
}
