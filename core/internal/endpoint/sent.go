package endpoint

import "strings"

// ParseSent checks a host that a provider sent in an answer (`instance_url`, `api_domain`, `base_uri`) and returns it
// as an origin: "https://host", with the port when it is not the scheme's.
//
// raw is a URL or a bare host; its path is dropped. It must be https, except where allowed lists exactly that
// http://host:port, carry no userinfo, query or fragment, and match the finite list allowed:
//
//	accounts.zoho.eu        that host; [https://]host[:port] and http://host:port likewise
//	*.salesforce.com        one OR MORE labels below it, https only: providers nest their hosts
//	                        (acme--dev.sandbox.my.salesforce.com). Never a public suffix, nor a name that another
//	                        party can register below it.
//
// The suffix form is for data hosts. A host that will receive a client secret or a code goes through
// [ParseSentExact].
//
// Errors are *[Error]: [ErrPattern] for the list, [ErrURL] or [ErrNotAllowed] for raw, which they do not repeat.
func ParseSent(raw string, allowed []string) (string, error) { return parseSent(raw, allowed, false) }

// ParseSentExact is [ParseSent] with a list of exact hosts only, as token endpoints need it (`accounts-server`).
func ParseSentExact(raw string, allowed []string) (string, error) {
	return parseSent(raw, allowed, true)
}

// CheckSent checks a list for [ParseSent], or with exact for [ParseSentExact], when it is configured.
func CheckSent(allowed []string, exact bool) error {
	_, err := parseSentList(allowed, exact)
	return err
}

func parseSentList(allowed []string, exact bool) ([]hostRule, error) {
	rules := make([]hostRule, 0, len(allowed))
	for _, pattern := range allowed {
		rule, err := parseHostRule(pattern, nil)
		if err != nil {
			return nil, err
		}
		if rule.wildcard && exact {
			return nil, patternError(pattern, "only exact hosts may receive client credentials; list each host")
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseSent(raw string, allowed []string, exact bool) (string, error) {
	rules, err := parseSentList(allowed, exact)
	if err != nil {
		return "", err
	}
	sent, err := splitSent(raw)
	if err != nil {
		return "", err
	}
	for _, r := range rules {
		if r.host.scheme != sent.scheme || r.host.port != sent.port {
			continue
		}
		if r.wildcard && within(sent.host, r.host.suffix) && sameOwner(sent.host, r.host.suffix, false) ||
			!r.wildcard && r.host.exact == sent.host {
			return sent.String(), nil
		}
	}
	return "", &Error{Err: ErrNotAllowed, Problem: "the provider named a host that the integration does not list; add it only if the provider documents it"}
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
