// Package endpoint decides which URLs an integration may name and call. It is pure: it parses and compares, and never
// opens a connection; what a name resolves to is the business of package egress.
//
//   - [Template] is a URL with variables, `https://{subdomain}.zendesk.com/oauth/tokens`. Whatever the values are, its
//     expansion stays on the literal suffix of its host.
//   - [Hosts] is the list of hosts that an integration's credentials may be used on.
//   - [Sent] is the finite list of hosts that a provider may send (`instance_url`, `api_domain`).
//   - [CheckRequestURL] refuses URLs that two parsers would read differently.
//
// Errors are *[Error]. They name variables and patterns, never the value of a variable. All types are immutable and
// safe for concurrent use.
package endpoint

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// Variable says what a placeholder of a template or of a host pattern may be replaced with.
type Variable struct {
	// Pattern is a regular expression (package regexp) that the whole value must match; it is anchored at both ends.
	// Empty means one DNS label: 1 to 63 letters, digits and hyphens, no hyphen at either end, in either case.
	// A pattern narrows, it never widens beyond the characters that every value is held to; see [Template.Expand].
	Pattern string

	// Default stands in for a value that is missing; empty means that there has to be one.
	Default string

	// Origin is the list that the value has to be on, when that is a whole origin, as [Sent.Parse] returned it; nil for
	// every other variable. Such a variable stands alone: it is the whole of a host pattern (`{instance_url}`), or scheme
	// and host of a template (`{instance_url}/services/data`). A value is looked up whenever it is used, so that one which
	// was kept from an earlier list is worth nothing. Default, Pattern and PrivateSuffix have no meaning for it.
	Origin *Sent

	// PrivateSuffix permits the variable directly under a name that only the private section of the Public Suffix List
	// holds. It is for providers that registered the domain of their customers there (`{shop}.myshopify.com`); on a
	// host where strangers publish what they like (`{user}.github.io`) it would hand them the credential. Suffixes of
	// registries (`com`, `co.uk`) are refused all the same.
	PrivateSuffix bool
}

// maxValue bounds the value of a variable: a DNS name has at most 253 characters (RFC 1035 §2.3.4).
const maxValue = 253

// maxURL bounds what is parsed at all: a template, a pattern, a URL that a provider sent.
const maxURL = 2048

var (
	label        = regexp.MustCompile(`\A[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\z`)
	variableName = regexp.MustCompile(`\A[A-Za-z][A-Za-z0-9_-]{0,63}\z`)
)

// variable is a compiled Variable.
type variable struct {
	name string
	Variable
	match *regexp.Regexp
}

func compileVariable(name string, v Variable) (variable, error) {
	c := variable{name: name, Variable: v, match: label}
	if v.Pattern == "" || v.Origin != nil {
		return c, nil
	}
	// The pattern must stand on its own: `a)|(b` would otherwise close the group and escape the anchors.
	if _, err := regexp.Compile(v.Pattern); err != nil {
		return c, &Error{Err: ErrPattern, Variable: name, Problem: "its pattern is not a regular expression"}
	}
	match, err := regexp.Compile(`\A(?:` + v.Pattern + `)\z`)
	if err != nil {
		return c, &Error{Err: ErrPattern, Variable: name, Problem: "its pattern is not a regular expression"}
	}
	c.match = match
	return c, nil
}

// value returns the checked value of v. Beyond the pattern it holds every value to RFC 3986 unreserved characters and
// the sub-delimiters that no URL parser gives a meaning in a host or a path segment; `;` is not among them, because
// servers exist that read "..;" as "..".
func (v variable) value(values map[string]string) (string, error) {
	s := cmp.Or(values[v.name], v.Default)
	switch {
	case s == "":
		return "", v.refuse("it has no value; set it")
	case len(s) > maxValue:
		return "", v.refuse(fmt.Sprintf("its value is longer than %d bytes", maxValue))
	case strings.IndexFunc(s, isForbidden) >= 0:
		return "", v.refuse("its value holds a character that no such value may hold; give the bare name, not a URL")
	case !v.match.MatchString(s):
		return "", v.refuse("its value does not match the pattern of the variable; give the bare name, not a URL")
	}
	return s, nil
}

func (v variable) refuse(problem string) error {
	return &Error{Err: ErrValue, Variable: v.name, Problem: problem}
}

func isForbidden(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("-._~!$&'()*+,=:", r)
}
