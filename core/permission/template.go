package permission

import (
	"fmt"
	"strings"
	"unicode"
)

const (
	templateStart = "{{claims."
	templateEnd   = "}}"
	maxClaimName  = 128
)

// cutTemplate takes the template out of an id and checks all that does not depend on the claim. There is at most one, so
// that no two values of claims can be moved against each other to give the same id.
func (s *scope) cutTemplate() (problem string) {
	before, rest, found := strings.Cut(s.id, templateStart)
	name, after, closed := strings.Cut(rest, templateEnd)
	switch {
	case !found || !closed || !isClaimName(name):
		return fmt.Sprintf("a template is {{claims.<name>}}, with the name of a claim of 1 to %d letters, digits, "+
			"'.', ':', '/', '-' and '_'", maxClaimName)
	case strings.Contains(before+after, "{{") || strings.Contains(before+after, "}}"):
		return "a scope has one template at most"
	}
	s.id, s.claim, s.suffix = before, name, after
	fixed := before + after
	switch {
	case s.form == byExternalID:
		switch {
		case strings.TrimLeftFunc(before, unicode.IsSpace) != before, strings.TrimRightFunc(after, unicode.IsSpace) != after:
			return "the external id begins or ends with a blank"
		case strings.HasPrefix(before, externalPrefix):
			return `the external id begins with "ext:" twice`
		case len(fixed) >= maxExternalID:
			return fmt.Sprintf("the external id has more than %d bytes", maxExternalID)
		}
		return checkExternalText(fixed)
	case s.level == LevelIntegration && (len(fixed) >= maxName || !isNameText(fixed)):
		return checkName(fixed + strings.Repeat("x", maxName)) // what is wrong with it, in the same words
	case s.level == LevelCredential && fixed != "":
		return "a template stands for the whole UUID"
	}
	return ""
}

// isClaimName reports whether a template may name a claim like that: that of one claim of the token, dots included.
func isClaimName(name string) bool {
	if name == "" || len(name) > maxClaimName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && !strings.ContainsRune(".:/-_", rune(c)) {
			return false
		}
	}
	return true
}

// fill returns the scope with its template filled, or what is wrong with the claim, in words that do not show its value.
func (s *scope) fill(claims map[string]any) (filled scope, problem string) {
	if s.claim == "" {
		return *s, ""
	}
	v, found := claims[s.claim]
	value, isText := v.(string)
	switch {
	case !found:
		return scope{}, fmt.Sprintf("the token has no claim %s", show(s.claim))
	case !isText:
		return scope{}, fmt.Sprintf("the claim %s must be a text, not %s", show(s.claim), kindOf(v))
	}
	filled = scope{level: s.level, form: s.form, id: s.id + value + s.suffix}
	if problem = checkClaim(value); problem == "" {
		problem = filled.clean()
		if problem != "" && s.level == LevelCredential && s.form == byID {
			problem = "it is not a UUID"
		}
	}
	if problem != "" {
		return scope{}, fmt.Sprintf("the claim %s cannot be filled in: %s", show(s.claim), problem)
	}
	return filled, ""
}

// keywords are the values that mean more, somewhere, than one name or id. No claim may say them, in any case of letters:
// who controls the value of a claim must not get from one account to all, nor look as if they had.
var keywords = []string{"*", ownerWord, "true", "false", "null"}

var reservedPrefixes = []string{externalPrefix, "integration:", "credential:", "configuration:", "user:"}

// checkClaim says what is wrong with the value of a claim, wherever it is filled in.
func checkClaim(value string) (problem string) {
	if value == "" {
		return "it is empty"
	}
	for _, word := range keywords {
		if strings.EqualFold(value, word) {
			return "it is a keyword"
		}
	}
	for _, prefix := range reservedPrefixes {
		if len(value) >= len(prefix) && strings.EqualFold(value[:len(prefix)], prefix) {
			return "it begins like a scope"
		}
	}
	if strings.TrimSpace(value) != value {
		return "it begins or ends with a blank"
	}
	return ""
}
