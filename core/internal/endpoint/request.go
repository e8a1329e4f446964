package endpoint

import (
	"net/url"
	"strings"
)

// CheckRequestURL refuses URLs that a client, a proxy and a server may read differently, whatever their host (RFC 3986
// §7, RFC 9110 §4.2): any scheme but http and https, userinfo, an opaque URL, an empty or malformed host, a path that
// does not begin with a slash, backslashes, ".." segments in any encoding, control characters. Whether the host may be
// called is for [Hosts] to say, and whether it may be plain http for package egress.
//
// Errors are *[Error] with [ErrURL]; they do not repeat the URL.
func CheckRequestURL(u *url.URL) error {
	switch {
	case u == nil:
		return urlError("there is no URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return urlError("its scheme is neither http nor https; pass a whole URL")
	case u.Opaque != "":
		return urlError("it is opaque; write scheme://host/path")
	case u.User != nil:
		return urlError("it holds userinfo; credentials never belong in a URL")
	case u.Path != "" && u.Path[0] != '/':
		// It would become the request line as it is: "GET http://other/ HTTP/1.1" names another host.
		return urlError("its path does not begin with a slash")
	case strings.ContainsFunc(u.RawQuery, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return urlError("its query holds a space or a control character; encode it")
	}
	if _, _, problem := splitAuthority(u.Scheme, u.Host); problem != "" {
		return urlError(problem)
	}
	if err := checkPath(u.Path); err != nil {
		return err
	}
	// A server that decodes twice sees what a double encoding hides ("%252e%252e").
	if strings.Contains(u.Path, "%") {
		if again, err := url.PathUnescape(u.Path); err == nil {
			return checkPath(again)
		}
	}
	return nil
}

// checkPath checks a decoded path, so that "%2e%2e", ".%2e" and "..%2f" are what they mean.
func checkPath(path string) error {
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return urlError("its path holds a control character")
	}
	if strings.Contains(path, `\`) {
		return urlError("its path holds a backslash; use a slash")
	}
	for segment := range strings.SplitSeq(path, "/") {
		// "..;x" is ".." to servers with path parameters (RFC 3986 §3.3).
		if name, _, _ := strings.Cut(segment, ";"); name == ".." {
			return urlError("its path holds a \"..\" segment; write the path that is meant")
		}
	}
	return nil
}
