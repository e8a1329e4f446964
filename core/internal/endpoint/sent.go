package endpoint

import "strings"

// Sent is the finite list of hosts that a provider may send in one field of its answers. Immutable.
type Sent struct{ rules []hostRule }

// ParseSentHosts parses the list of a field:
//
//	accounts.zoho.eu        that host; [https://]host[:port] and http://host:port likewise
//	*.salesforce.com        one OR MORE labels below it, https only: providers nest their hosts
//	                        (acme--dev.sandbox.my.salesforce.com). Never a public suffix, nor a name that another
//	                        party can register below it.
//
// The suffix form is for data hosts. A field whose host will receive a client secret or a code takes exact hosts only,
// which exact says.
//
// Errors are *[Error] with [ErrPattern].
func ParseSentHosts(allowed []string, exact bool) (*Sent, error) {
	s := &Sent{rules: make([]hostRule, 0, len(allowed))}
	for _, pattern := range allowed {
		rule, err := parseHostRule(pattern, nil)
		if err != nil {
			return nil, err
		}
		if rule.wildcard && exact {
			return nil, patternError(pattern, "only exact hosts may receive client credentials; list each host")
		}
		s.rules = append(s.rules, rule)
	}
	return s, nil
}

// Parse checks a host that a provider sent in an answer (`instance_url`, `api_domain`, `base_uri`) and returns it as an
// origin: "https://host", with the port when it is not the scheme's. What it returned goes through unchanged as long as
// the list has it.
//
// raw is a URL or a bare host; its path is dropped. It must be https, except where the list has exactly that
// http://host:port, carry no userinfo, query or fragment, and match the list.
//
// Errors are *[Error], [ErrURL] or [ErrNotAllowed], which do not repeat raw.
func (s *Sent) Parse(raw string) (string, error) {
	sent, err := splitSent(raw)
	if err != nil {
		return "", err
	}
	if !s.has(sent) {
		return "", &Error{Err: ErrNotAllowed, Problem: "the provider named a host that the integration does not list; add it only if the provider documents it"}
	}
	return sent.String(), nil
}

func (s *Sent) has(sent origin) bool {
	for _, r := range s.rules {
		if r.host.scheme != sent.scheme || r.host.port != sent.port {
			continue
		}
		if r.wildcard && within(sent.host, r.host.suffix) && sameOwner(sent.host, r.host.suffix, false) ||
			!r.wildcard && r.host.exact == sent.host {
			return true
		}
	}
	return false
}

// splitSent reads the origin of what a provider sent, without a URL parser's tolerance.
func splitSent(raw string) (origin, error) {
	switch {
	case raw == "" || len(raw) > maxURL:
		return origin{}, urlError("the provider sent an empty or overlong host")
	case strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f }), strings.ContainsAny(raw, `\@?#`):
		return origin{}, urlError("the provider sent a host with userinfo, a query, a fragment or a forbidden character")
	}
	scheme, rest, absolute := strings.Cut(raw, "://")
	if !absolute {
		scheme, rest = "https", raw
	}
	scheme = strings.ToLower(scheme)
	if scheme != "https" && scheme != "http" {
		return origin{}, urlError("the provider sent a URL that is not https")
	}
	authority, _, _ := strings.Cut(rest, "/")
	host, port, problem := splitAuthority(scheme, authority)
	if problem != "" {
		return origin{}, urlError(problem)
	}
	return origin{scheme, host, port}, nil
}
