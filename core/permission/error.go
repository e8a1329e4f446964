package permission

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error says what is wrong with a claim or a policy. It shows scopes and permissions, shortened and without control
// characters, and never the value of a claim that a policy is filled with.
type Error struct {
	// Path is the scopes down to the one that is wrong, like "integration:slack > credential:*". It is empty when the whole
	// document is wrong. In a policy it shows the scopes as the policy has them, before they are filled.
	Path string
	// Problem is what is wrong there, and what is accepted.
	Problem string

	policy bool
}

// Error returns path and problem in one line.
func (e *Error) Error() string {
	text := "permissions"
	if e.policy {
		text = "policy"
	}
	if e.Path != "" {
		text += " at " + e.Path
	}
	return text + ": " + e.Problem
}

// separator stands between the scopes of a path.
const separator = " > "

func join(path, scope string) string {
	if path == "" {
		return scope
	}
	return path + separator + scope
}

// show returns a scope or permission as people read it: quoted when it could be mistaken for something else.
func show(s string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == '>' || r == '"' || r == utf8.RuneError }
	if s == "" || strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}

// clip returns what was written, which may be anything of any length, as an error may show it.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return show(s)
	}
	end := most
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return show(s[:end]) + "…"
}
