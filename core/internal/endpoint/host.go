package endpoint

import (
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// HostPort returns the canonical form of an authority without userinfo, always as "host:port" ("[v6]:port"): the name
// in lower case and ASCII (IDNA, RFC 5891 §5), an address as RFC 5952 writes it, the port of the scheme filled in.
// With an empty scheme the port must be written. Two authorities mean the same place exactly if the results are equal.
//
// Names with a trailing dot, empty labels or characters outside of letters, digits, hyphen and underscore are refused,
// and so are addresses in a form that resolvers read differently ("127.1", "0x7f000001", "010.0.0.1") or with a zone.
func HostPort(scheme, authority string) (string, error) {
	host, port, problem := splitAuthority(scheme, authority)
	if problem != "" {
		return "", urlError(problem)
	}
	return joinHostPort(host, port), nil
}

func joinHostPort(host, port string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]:" + port
	}
	return host + ":" + port
}

// splitAuthority returns canonical host (without brackets) and port, or what is wrong.
func splitAuthority(scheme, authority string) (host, port, problem string) {
	host, port, ok := cutPort(authority)
	if !ok {
		return "", "", "it has no valid host and port"
	}
	if port == "" {
		if port = defaultPort(scheme); port == "" {
			return "", "", "it has no port; write host:port"
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return "", "", "its port is not a number from 1 to 65535"
	}
	if strings.HasPrefix(authority, "[") {
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", "", "its host is not an IPv6 address without zone"
		}
		return ip.String(), port, ""
	}
	host, problem = canonicalName(host)
	return host, port, problem
}

// cutPort splits host and port without judging either. A colon without a port after it is not ok.
func cutPort(authority string) (host, port string, ok bool) {
	if rest, bracket := strings.CutPrefix(authority, "["); bracket {
		host, rest, ok = strings.Cut(rest, "]")
		if !ok || rest == "" {
			return host, "", ok
		}
		port, ok = strings.CutPrefix(rest, ":")
		return host, port, ok && port != ""
	}
	host, port, colon := strings.Cut(authority, ":")
	return host, port, host != "" && (!colon || port != "") && !strings.Contains(port, ":")
}

func defaultPort(scheme string) string {
	switch scheme {
	case "https":
		return "443"
	case "http":
		return "80"
	}
	return ""
}

// canonicalName returns a DNS name or IPv4 address in canonical form, or what is wrong.
func canonicalName(host string) (name, problem string) {
	for i := range len(host) {
		if host[i] >= 0x80 {
			// Lookup is what net/http applies before it dials: both must see the same name.
			ascii, err := idna.Lookup.ToASCII(host)
			if err != nil {
				return "", "its host is not a valid internationalised name"
			}
			host = ascii
			break
		}
	}
	host = strings.ToLower(host)
	if len(host) == 0 || len(host) > 253 {
		return "", "its host is empty or longer than 253 characters"
	}
	last := host
	for part := range strings.SplitSeq(host, ".") {
		if part == "" || len(part) > 63 {
			return "", "its host has an empty label, a trailing dot or a label longer than 63 characters"
		}
		for i := range len(part) {
			c := part[i]
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return "", "its host holds a character that a host name cannot hold"
			}
		}
		last = part
	}
	if isNumber(last) {
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return "", "its host looks like a number but is not an IPv4 address of four decimal parts"
		}
		return ip.String(), ""
	}
	return host, ""
}

// isNumber says whether a last label makes resolvers read the host as an IPv4 address (WHATWG URL, "ends in a number").
func isNumber(name string) bool {
	if hex, ok := strings.CutPrefix(name, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(name, "0123456789") == ""
}

// within says whether host, in canonical form, is a name below suffix.
func within(host, suffix string) bool {
	return len(host) > len(suffix)+1 && strings.HasSuffix(host, suffix) && host[len(host)-len(suffix)-1] == '.'
}

// sameOwner says whether one party registered both host and suffix, a name above it: the registrable domain of host
// (the label before its public suffix) does not lie below suffix. With private, a suffix of the list's private section
// counts as an ordinary name. A public suffix owns nothing, so it is nobody's suffix here.
func sameOwner(host, suffix string, private bool) bool {
	public := publicSuffix(host, private)
	return strings.Count(public, ".") < strings.Count(suffix, ".")
}

func publicSuffix(host string, private bool) string {
	for {
		public, icann := publicsuffix.PublicSuffix(host)
		if icann || !private {
			return public
		}
		_, above, ok := strings.Cut(public, ".")
		if !ok {
			return public // no rule at all: the last label
		}
		host = above
	}
}

// checkSuffix refuses a literal suffix under which strangers can register names.
func checkSuffix(raw, suffix string, private bool) error {
	if strings.Count(suffix, ".") < 1 {
		return patternError(raw, "its host must end with at least two literal labels, such as \".example.com\"")
	}
	if name, problem := canonicalName(suffix); problem != "" || name != suffix {
		return patternError(raw, "the literal end of its host is not a host name in lower case and ASCII")
	}
	if isNumber(suffix[strings.LastIndexByte(suffix, '.')+1:]) {
		return patternError(raw, "an address cannot have a variable or a wildcard")
	}
	if !sameOwner("a."+suffix, suffix, private) {
		return patternError(raw, "anybody can register a name under the literal end of its host (it is on the Public Suffix List); add the provider's own domain")
	}
	return nil
}

func urlError(problem string) error { return &Error{Err: ErrURL, Problem: problem} }
