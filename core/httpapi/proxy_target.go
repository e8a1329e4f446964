package httpapi

import (
	"net/url"
	"strings"
)

// target is what the path of a proxied request says, as it was written: http.ServeMux would clean and decode it.
type target struct {
	project, integration string
	path                 string // with its first slash, escaped; empty where the path ends with the integration
}

// proxyTarget takes the escaped path of a request apart, if it is one of the Proxy API:
// /projects/{project}/sdk/proxy/{integration}{path}, or …/proxy/custom/{integrationId}{path}.
func proxyTarget(escaped string) (target, bool) {
	rest, ok := strings.CutPrefix(escaped, "/projects/")
	if !ok {
		return target{}, false
	}
	project, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return target{}, false
	}
	if rest, ok = strings.CutPrefix(rest, "sdk/proxy/"); !ok {
		return target{}, false
	}
	name, path := cutSegment(rest)
	if name == "custom" { // or an integration of that very name
		if id, below := cutSegment(strings.TrimPrefix(path, "/")); isUUID(id) {
			name, path = id, below
		}
	}
	integration, err := url.PathUnescape(name)
	if err != nil || integration == "" {
		return target{}, false
	}
	return target{project, integration, path}, true
}

// cutSegment cuts the first segment off a path; the rest begins with its slash.
func cutSegment(path string) (segment, rest string) {
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// written is the path of a URL as its sender wrote it, with every %2F. EscapedPath writes the whole path anew where it holds
// one character that should be escaped, as browsers leave "|".
func written(u *url.URL) string {
	if u.RawPath != "" {
		if path, err := url.PathUnescape(u.RawPath); err == nil && path == u.Path {
			return u.RawPath
		}
	}
	return u.EscapedPath()
}

// maxAddress is how long the address of a proxied request may be.
const maxAddress = 8 << 10

// address is where a proxied request is meant to go. Whether it may go there, Upstream decides.
type address struct {
	whole       *url.URL // or nil, and what follows is below the API of the integration
	path, query string   // escaped
}

// parseAddress reads where a request goes: what the header says, or else its path. Either is a whole URL, as it is or escaped
// into one segment, or a path, in the header also with a query. A fragment is left out.
func parseAddress(path, header string) (address, error) {
	raw := path
	if header != "" {
		raw = "/" + strings.TrimPrefix(header, "/")
	}
	if len(raw) > maxAddress || strings.ContainsFunc(raw, unclear) {
		return address{}, errUnclear
	}
	whole := strings.TrimPrefix(raw, "/")
	if !isURL(whole) {
		if decoded, err := url.PathUnescape(whole); err == nil && isURL(decoded) {
			whole = decoded
		}
	}
	switch {
	case isURL(whole):
		if strings.ContainsFunc(whole, unclear) {
			return address{}, errUnclear
		}
		u, err := url.Parse(escaped(whole))
		if err != nil {
			return address{}, invalid("The address is no URL.")
		}
		u.Fragment, u.RawFragment, u.ForceQuery = "", "", false
		return address{whole: u}, nil
	case hasPrefixFold(whole, "https:"), hasPrefixFold(whole, "http:"): // something on the way has merged its slashes
		return address{}, invalid("The address is no URL. Send it in the header " + headerProxyURL + ".")
	}
	raw, _, _ = strings.Cut(raw, "#")
	path, query, _ := strings.Cut(raw, "?")
	path = escaped(path)
	if _, err := url.PathUnescape(path); err != nil {
		return address{}, invalid("The path is not escaped as it should be.")
	}
	return address{path: path, query: query}, nil
}

var errUnclear = invalid("The address has a space, backslash or control character, or more than 8 KiB.")

func unclear(c rune) bool { return c <= 0x20 || c == 0x7f || c == '\\' }

// below returns the address below a URL, which keeps all of its own path, with the query of the request behind its own.
func (a address) below(base *url.URL, query string) *url.URL {
	to := a.whole
	if to == nil {
		joined := base.EscapedPath()
		if a.path != "" {
			joined = strings.TrimRight(joined, "/") + a.path
		}
		to = &url.URL{Scheme: base.Scheme, Host: base.Host, RawQuery: a.query, RawPath: joined}
		to.Path, _ = url.PathUnescape(joined) // both halves are well escaped
	}
	if to.RawQuery != "" && query != "" {
		query = to.RawQuery + "&" + query
	}
	if query != "" {
		to.RawQuery = query
	}
	return to
}

func isURL(s string) bool { return hasPrefixFold(s, "https://") || hasPrefixFold(s, "http://") }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// escaped escapes what cannot stand in a URL (RFC 3986 §2), and leaves every escape that is there.
func escaped(s string) string {
	plain := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~:/?#[]@!$&'()*+,;=%", c) >= 0
	}
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for ; i < len(s); i++ {
		if plain(s[i]) {
			b.WriteByte(s[i])
			continue
		}
		const digits = "0123456789ABCDEF"
		b.Write([]byte{'%', digits[s[i]>>4], digits[s[i]&15]})
	}
	return b.String()
}
