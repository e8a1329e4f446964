package endpoint

import (
	"net/url"
	"slices"
	"strings"
)

// Template is a URL with variables in its host or path. Immutable.
type Template struct {
	raw    string
	origin *variable   // set when the template begins with an Origin variable; host is unused then
	host   hostPattern // scheme, host and port
	path   []piece
}

// Parse parses a template such as `https://{subdomain}.zendesk.com/oauth/tokens` or
// `https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token`. vars declares the variables it may name; more than it
// names is fine.
//
// The scheme is https; http is accepted for a literal host, and whether it may be used on that host and port is decided
// by package egress. A variable may stand in the host or in the path. The host must end with literal labels that one
// party registered: two at least and not on the Public Suffix List (ICANN or private section, except with
// [Variable.PrivateSuffix]). A variable with [Variable.Origin] may stand for scheme, host and port together, at the
// very beginning. Refused are userinfo, query, fragment, percent-encoding, backslashes, empty and dot segments, upper
// case in the host, undeclared variables and unbalanced braces.
//
// Errors are *[Error] with [ErrPattern].
func Parse(raw string, vars map[string]Variable) (*Template, error) {
	if err := checkRaw(raw); err != nil {
		return nil, err
	}
	t := &Template{raw: raw}
	scheme, rest, absolute := strings.Cut(raw, "://")
	if !absolute {
		rest = raw
	}
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	var err error
	if absolute {
		t.host, err = parseHost(raw, scheme, authority, vars)
	} else {
		t.origin, err = parseOriginPlace(raw, authority, vars)
	}
	if err != nil {
		return nil, err
	}
	if t.path, err = parsePieces(raw, path, vars); err != nil {
		return nil, err
	}
	sample := ""
	for _, p := range t.path {
		if p.variable != nil && p.variable.Origin != nil {
			return nil, patternError(raw, "variable {"+p.variable.name+"} is a whole origin and cannot stand in the path")
		}
		if p.variable != nil {
			sample += "a"
		}
		sample += p.text
	}
	if !cleanPath(sample) {
		return nil, patternError(raw, "its path has an empty or a dot segment")
	}
	return t, nil
}

// parseOriginPlace parses the authority of a template or pattern without a scheme, which must be one Origin variable.
func parseOriginPlace(raw, authority string, vars map[string]Variable) (*variable, error) {
	pieces, err := parsePieces(raw, authority, vars)
	if err != nil {
		return nil, err
	}
	sole, err := soleOrigin(raw, pieces)
	if err == nil && sole == nil {
		err = patternError(raw, "it must begin with https://")
	}
	return sole, err
}

// checkRaw refuses what no template and no host pattern may hold.
func checkRaw(raw string) error {
	switch {
	case raw == "":
		return patternError(raw, "it is empty")
	case len(raw) > maxURL:
		return patternError(raw, "it is too long")
	case strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return patternError(raw, "it holds a space, a control character or a character outside of ASCII; write international names as xn--")
	case strings.ContainsAny(raw, `@`):
		return patternError(raw, "it holds userinfo (@), which is never allowed in a URL")
	case strings.ContainsAny(raw, `?#`):
		return patternError(raw, "it has a query or a fragment, which are not part of a template")
	case strings.ContainsAny(raw, `\%`):
		return patternError(raw, "it holds a backslash or percent-encoding")
	}
	return nil
}

// cleanPath says whether a path has neither an empty segment, save the last, nor a dot segment.
func cleanPath(path string) bool {
	if path == "" {
		return true
	}
	segments := strings.Split(path, "/")[1:]
	for i, s := range segments {
		if s == "." || s == ".." || s == "" && i < len(segments)-1 {
			return false
		}
	}
	return true
}

// Variables returns the names of the variables that the template uses, sorted, each once.
func (t *Template) Variables() []string {
	var names []string
	if t.origin != nil {
		names = append(names, t.origin.name)
	}
	for _, p := range slices.Concat(t.host.pieces, t.path) {
		if p.variable != nil {
			names = append(names, p.variable.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// VariableHost reports whether the host depends on values, whoever gives them: a person or the provider.
func (t *Template) VariableHost() bool { return t.origin != nil || hasVariable(t.host.pieces) }

// String returns the template as it was written.
func (t *Template) String() string { return t.raw }

// Expand returns the URL for values; values that the template does not name are ignored.
//
// Every variable must have a value of at most 253 bytes that matches its pattern. Whatever the pattern says, a value
// may hold only letters, digits and -._~!$&'()*+,=: so that it cannot end the host or a segment. The result is parsed
// again and has the scheme, the port and the literal host suffix of the template, no userinfo, query or fragment, and
// no empty or dot segment. The host is in lower case.
//
// Errors are *[Error] with [ErrValue] and the name of the variable.
func (t *Template) Expand(values map[string]string) (*url.URL, error) {
	scheme, authority, err := t.base(values)
	if err != nil {
		return nil, err
	}
	path, err := expandPieces(t.path, values)
	if err != nil {
		return nil, err
	}
	if !cleanPath(path) {
		return nil, &Error{Err: ErrValue, Pattern: shown(t.raw), Problem: "with these values its path has an empty or a dot segment"}
	}
	// Parsed again, by the parser that the request will use: the checks above must hold for what it reads (security 4).
	u, err := url.Parse(scheme + "://" + authority + path)
	if err != nil || u.Scheme != scheme || u.Host != authority || u.Path != path || u.EscapedPath() != path || u.User != nil ||
		u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.RawFragment != "" {
		return nil, &Error{Err: ErrValue, Pattern: shown(t.raw), Problem: "with these values it is not the URL that it describes"}
	}
	return u, nil
}

// base returns scheme and authority, without the default port.
func (t *Template) base(values map[string]string) (scheme, authority string, err error) {
	if t.origin != nil {
		o, err := t.origin.originValue(values)
		return o.scheme, o.authority(), err
	}
	host, err := t.host.expand(values)
	if err != nil {
		return "", "", err
	}
	o := origin{scheme: t.host.scheme, host: host, port: t.host.port}
	return o.scheme, o.authority(), nil
}
