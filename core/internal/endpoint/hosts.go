package endpoint

import (
	"net/url"
	"slices"
	"strings"
)

// Hosts is the list of hosts that an integration may be called on. Immutable.
type Hosts struct {
	rules    []hostRule
	patterns []string
}

// hostRule is one pattern: an Origin variable, a wildcard, or a host with or without variables.
type hostRule struct {
	origin   *variable
	wildcard bool // host.suffix is what stands after "*."
	host     hostPattern
}

// ParseHosts parses host patterns:
//
//	api.example.com           that host, https, port 443
//	api.example.com:8443      another port
//	http://127.0.0.1:8080     plain http; package egress must permit it too
//	*.example.com             exactly one label below example.com
//	{subdomain}.zendesk.com   the host for the credential's own value
//	{instance_url}            the origin that the provider sent, see [Variable.Origin]
//
// A scheme is https unless written, a port the scheme's. Wildcards and variables are https only, and never stand
// directly under a name where anybody can register (Public Suffix List, both sections; a variable may be exempted by
// [Variable.PrivateSuffix], a wildcard never). A path, query or userinfo in a pattern is refused.
//
// No patterns give a list that allows nothing. Errors are *[Error] with [ErrPattern].
func ParseHosts(patterns []string, vars map[string]Variable) (*Hosts, error) {
	h := &Hosts{patterns: slices.Clone(patterns)}
	for _, raw := range patterns {
		rule, err := parseHostRule(raw, vars)
		if err != nil {
			return nil, err
		}
		h.rules = append(h.rules, rule)
	}
	return h, nil
}

func parseHostRule(raw string, vars map[string]Variable) (r hostRule, err error) {
	if err := checkRaw(raw); err != nil {
		return r, err
	}
	scheme, authority, absolute := strings.Cut(raw, "://")
	if !absolute {
		scheme, authority = "https", raw
	}
	if strings.Contains(authority, "/") {
		return r, patternError(raw, "it has a path; a host pattern is scheme, host and port only")
	}
	if !absolute {
		pieces, err := parsePieces(raw, authority, vars)
		if err != nil {
			return r, err
		}
		if r.origin, err = soleOrigin(raw, pieces); err != nil || r.origin != nil {
			return r, err
		}
	}
	if strings.Contains(authority, "*") {
		r.wildcard = true
		r.host, err = parseWildcard(raw, scheme, authority)
		return r, err
	}
	r.host, err = parseHost(raw, scheme, authority, vars)
	return r, err
}

// parseWildcard parses "*.suffix" or "*.suffix:port".
func parseWildcard(raw, scheme, authority string) (hostPattern, error) {
	h := hostPattern{scheme: scheme}
	rest, ok := strings.CutPrefix(authority, "*.")
	if !ok || strings.ContainsAny(rest, "*{}") {
		return h, patternError(raw, "a wildcard stands for the whole first label and beside no variable, as in *.example.com")
	}
	if scheme != "https" {
		return h, patternError(raw, "a host with a wildcard must be https")
	}
	host, port, problem := splitAuthority(scheme, rest)
	if problem != "" {
		return h, patternError(raw, problem)
	}
	h.suffix, h.port = host, port
	return h, checkSuffix(raw, host, false)
}

// Allows says whether u may be called for a credential with these values. It is [Hosts.Check] without the reason.
func (h *Hosts) Allows(u *url.URL, values map[string]string) bool { return h.Check(u, values) == nil }

// Check returns nil when u is a well-formed request URL ([CheckRequestURL]) whose scheme, host and port are those of
// one of the patterns, expanded with the credential's own values. Hosts are compared in lower case and ASCII. A pattern
// whose variable has no valid value allows nothing.
//
// Errors are *[Error] with [ErrURL] or [ErrNotAllowed].
func (h *Hosts) Check(u *url.URL, values map[string]string) error {
	if err := CheckRequestURL(u); err != nil {
		return err
	}
	host, port, problem := splitAuthority(u.Scheme, u.Host)
	if problem != "" {
		return urlError(problem)
	}
	asked := origin{scheme: u.Scheme, host: host, port: port}
	for _, r := range h.rules {
		if r.allows(asked, values) {
			return nil
		}
	}
	problem = "is not listed: the integration lists no hosts; add it to Integration.AllowedHosts"
	if len(h.patterns) > 0 {
		problem = "is not listed: Integration.AllowedHosts has only " + strings.Join(h.patterns, ", ")
	}
	for _, r := range h.rules {
		if r.origin != nil && values[r.origin.name] == asked.String() { // its list lost it, or it would have been allowed
			problem = "is not listed: the provider sent it for {" + r.origin.name + "}, whose list does not have it any more"
		}
	}
	return &Error{Err: ErrNotAllowed, Host: asked.String(), Problem: problem}
}

func (r hostRule) allows(asked origin, values map[string]string) bool {
	if r.origin != nil {
		return values[r.origin.name] == asked.String() && r.origin.Origin.has(asked)
	}
	if r.host.scheme != asked.scheme || r.host.port != asked.port {
		return false
	}
	if r.wildcard {
		first, rest, _ := strings.Cut(asked.host, ".")
		return first != "" && rest == r.host.suffix && sameOwner(asked.host, r.host.suffix, false)
	}
	host, err := r.host.expand(values)
	return err == nil && host == asked.host
}
