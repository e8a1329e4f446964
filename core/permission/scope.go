package permission

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Level is what a Target is. The zero Level is none, and nothing is allowed there.
type Level uint8

// The levels, from broad to specific.
const (
	LevelUser          Level = iota + 1 // the connected user itself; only user:write is about it
	LevelIntegration                    // an integration as a whole
	LevelCredential                     // one account, or one that is about to be created
	LevelConfiguration                  // one configuration of an account
)

// String returns the level in one word, as reasons name it.
func (l Level) String() string {
	switch l {
	case LevelUser:
		return "user"
	case LevelIntegration:
		return "integration"
	case LevelCredential:
		return "credential"
	case LevelConfiguration:
		return "configuration"
	}
	return "unknown"
}

// applicable are the permissions that mean something for a target of that level.
func (l Level) applicable() grants {
	switch l {
	case LevelUser:
		return grantUserWrite
	case LevelIntegration, LevelCredential:
		return allGrants &^ grantUserWrite
	case LevelConfiguration:
		return allGrants &^ (grantUserWrite | grantCredentialWrite | grantCredentialToken)
	}
	return 0
}

// form says how a scope selects, from broad to specific.
type form uint8

const (
	byAll form = iota
	byOwner
	byExternalID
	byID // the name of an integration, the UUID of a credential
)

const (
	externalPrefix = "ext:"
	ownerWord      = "owner"
	maxName        = 64  // bytes of an integration's name
	maxExternalID  = 255 // bytes of an external id
	uuidLength     = 36
)

// scope is a parsed key of a claim. In a policy, what a claim fills in stands between id and suffix.
type scope struct {
	level  Level
	form   form
	id     string // in canonical form; empty for byAll and byOwner
	claim  string // the name of the claim to fill in; empty when there is none, as always in a Set
	suffix string
}

// prefix returns what stands before the id.
func (s *scope) prefix() string {
	if s.form == byExternalID {
		return s.level.String() + ":" + externalPrefix
	}
	return s.level.String() + ":"
}

// String returns the scope as a claim has it.
func (s *scope) String() string {
	switch {
	case s.form == byAll:
		return s.prefix() + "*"
	case s.form == byOwner:
		return s.prefix() + ownerWord
	case s.claim != "":
		return s.prefix() + s.id + templateStart + s.claim + templateEnd + s.suffix
	}
	return s.prefix() + s.id
}

// compare orders the scopes inside one scope from broad to specific; it is 0 only for the same scope.
func (s *scope) compare(other *scope) int {
	return cmp.Or(
		cmp.Compare(s.form, other.form), cmp.Compare(s.id, other.id),
		cmp.Compare(s.claim, other.claim), cmp.Compare(s.suffix, other.suffix),
	)
}

// accepts are the permissions that a list may name there.
func (s *scope) accepts() grants {
	if s.level == LevelIntegration && s.form == byAll {
		return allGrants
	}
	return s.level.applicable()
}

// everything is what true grants there.
func (s *scope) everything() grants { return s.accepts() &^ grantCredentialToken }

// wanted says which scopes there are, by the level of the scope.
var wanted = map[Level]string{
	LevelIntegration:   "integration:* and integration:<name>",
	LevelCredential:    "credential:*, credential:owner, credential:ext:<id> and credential:<uuid>",
	LevelConfiguration: "configuration:* and configuration:ext:<id>",
}

// places says where scopes of a level stand.
var places = map[Level]string{
	LevelIntegration:   "an integration scope stands at the top, not inside another scope",
	LevelCredential:    "a credential scope stands inside an integration scope, like integration:*",
	LevelConfiguration: "a configuration scope stands inside a credential scope, like credential:*",
}

// parseScope reads a key where scopes of one level stand, or says what is wrong with it. Templates are for policies.
func parseScope(key string, level Level, templates bool) (s scope, problem string) {
	word, rest, _ := strings.Cut(key, ":")
	switch word {
	case LevelIntegration.String():
		s.level = LevelIntegration
	case LevelCredential.String():
		s.level = LevelCredential
	case LevelConfiguration.String():
		s.level = LevelConfiguration
	}
	switch {
	case s.level == 0 || len(word) == len(key):
		return s, "unknown scope: here stand " + wanted[level]
	case s.level != level:
		return s, places[s.level]
	}
	external, isExternal := strings.CutPrefix(rest, externalPrefix)
	switch {
	case rest == "*":
		return s, ""
	case rest == ownerWord && level == LevelCredential:
		s.form = byOwner
		return s, ""
	case level == LevelIntegration:
		s.form, s.id = byID, rest
	case isExternal:
		s.form, s.id = byExternalID, external
	case level == LevelCredential:
		s.form, s.id = byID, rest
	default:
		return s, "unknown scope: here stand " + wanted[level]
	}
	if templates && strings.Contains(s.id, "{{") {
		return s, s.cutTemplate()
	}
	return s, s.clean()
}

// clean brings the id into canonical form, or says what is wrong with it.
func (s *scope) clean() (problem string) {
	if s.form == byExternalID {
		return checkExternalID(s.id)
	}
	if s.level == LevelIntegration {
		return checkName(s.id)
	}
	if s.id = strings.ToLower(s.id); !isUUID(s.id) {
		return "unknown scope: here stand " + wanted[LevelCredential]
	}
	return ""
}

func checkName(name string) (problem string) {
	if name == "" || len(name) > maxName || strings.Trim(name, ".") == "" || !isNameText(name) {
		return fmt.Sprintf("the name of an integration has 1 to %d letters, digits, '.', '-' and '_', and not only dots", maxName)
	}
	return ""
}

func isNameText(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// checkExternalID refuses what the external id of an account or configuration cannot be, since it would never match, and
// what looks as if it meant more than one.
func checkExternalID(id string) (problem string) {
	switch {
	case id == "":
		return "the external id is empty"
	case len(id) > maxExternalID:
		return fmt.Sprintf("the external id has more than %d bytes", maxExternalID)
	case id == "*":
		return `"*" is not an external id: leave out "ext:" to mean all`
	case strings.TrimSpace(id) != id:
		return "the external id begins or ends with a blank"
	case strings.HasPrefix(id, externalPrefix):
		return `the external id begins with "ext:" twice`
	}
	return checkExternalText(id)
}

// checkExternalText checks the characters of an external id, or of a part of one.
func checkExternalText(text string) (problem string) {
	switch {
	case !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError):
		return "the external id is not valid text"
	case strings.ContainsFunc(text, unicode.IsControl):
		return "the external id contains a control character"
	case strings.Contains(text, "{{") || strings.Contains(text, "}}"):
		return `the external id contains "{{" or "}}", which only policies do`
	}
	return ""
}

// isUUID reports whether s is a UUID in canonical form: 36 characters, lower case.
func isUUID(s string) bool {
	if len(s) != uuidLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') {
			return false
		} else if !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
