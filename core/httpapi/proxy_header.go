package httpapi

import (
	"net/http"
	"strconv"
	"strings"
)

// Which headers pass.

// ours are the headers of a request that are for us or for one connection (RFC 9110 §7.6.1), or that tell the provider who
// and where the client is.
var ours = set("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect", "Content-Length", "Host", "Authorization", "Cookie", "Cookie2",
	"Origin", "Referer", "Upgrade-Insecure-Requests", "Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Fastly-Client-Ip")

// oursBy are the beginnings of more of them.
var oursBy = []string{"X-Paragon-", "X-Polycred-", "X-Forwarded-", "Sec-", "Access-Control-", "Cf-", "X-Envoy-"}

// silenced are the headers of an answer that mean the connection, or that would act on our own origin in a browser, or on a
// server or cache between us and the client (security 20). What a cache may keep is not for the provider to say: it knows
// neither the account, which a header names, nor who else uses the cache.
var silenced = set("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Alt-Svc", "Alt-Used", "Service-Worker-Allowed", "Strict-Transport-Security", "Expect-Ct",
	"Public-Key-Pins", "Public-Key-Pins-Report-Only", "Www-Authenticate", "Authentication-Info", "Refresh", "Nel", "Report-To",
	"Reporting-Endpoints", "Permissions-Policy", "Feature-Policy", "Document-Policy", "Origin-Agent-Cluster", "Origin-Trial",
	"Referrer-Policy", "Timing-Allow-Origin", "Accept-Ch", "Critical-Ch", "Supports-Loading-Mode", "Speculation-Rules", "Set-Login",
	"Activate-Storage-Access", "X-Frame-Options", "X-Request-Id",
	"Cache-Control", "Expires", "Age", "Pragma", "Cdn-Cache-Control", "Surrogate-Control", "Edge-Control",
	"X-Sendfile", "X-Lighttpd-Send-File", "X-Reproxy-Url")

// silencedBy are the beginnings of more of them.
var silencedBy = []string{"Access-Control-", "X-Polycred-", "Cross-Origin-", "Content-Security-Policy", "X-Accel-", "Sec-", "Attribution-Reporting-"}

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[name] = true
	}
	return m
}

func among(name string, exact map[string]bool, beginnings []string) bool {
	if exact[name] {
		return true
	}
	for _, beginning := range beginnings {
		if strings.HasPrefix(name, beginning) {
			return true
		}
	}
	return false
}

// requestHeader is what of a client's header goes to the provider. The encoding of the answer is the client's affair where it
// gets it as it is; otherwise we have to read it.
func requestHeader(from http.Header, raw bool) http.Header {
	named := connectionNames(from)
	h := make(http.Header, len(from)+2)
	for name, values := range from {
		canonical := http.CanonicalHeaderKey(name)
		if !among(canonical, ours, oursBy) && !named[canonical] {
			h[canonical] = values
		}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http would send its own
	}
	if _, ok := h["Accept-Encoding"]; !raw {
		delete(h, "Accept-Encoding") // net/http asks for gzip, and undoes it
	} else if !ok {
		h["Accept-Encoding"] = []string{"identity"} // or it would do so here too
	}
	return h
}

// answerHeader puts into h what of a provider's header goes to the client.
func answerHeader(h http.Header, resp *http.Response) {
	named := connectionNames(resp.Header)
	for name, values := range resp.Header {
		if !among(name, silenced, silencedBy) && !named[name] {
			h[name] = values
		}
	}
	if isRedirect(resp.StatusCode) {
		// Clients would follow it by themselves: with what they sent, past the account, and where it leads to us, with the user
		// token. The program may look at it and decide.
		if at, err := resp.Location(); err == nil {
			at.User = nil
			h["X-Polycred-Location"] = []string{at.String()}
		}
		delete(h, "Location")
	}
	h[headerUpstream] = []string{strconv.Itoa(resp.StatusCode)}
	h["X-Content-Type-Options"], h["Content-Security-Policy"] = headerNosniff, headerSandbox
	h["Cache-Control"], h["Access-Control-Expose-Headers"] = headerNoStore, headerExposeAll
}

// These are shared by all answers: nobody changes a value in place.
var (
	headerNosniff, headerSandbox   = []string{"nosniff"}, []string{"sandbox"}
	headerNoStore, headerExposeAll = []string{"no-store"}, []string{"*, " + exposed}
	headerJSON                     = []string{"application/json; charset=utf-8"}
)

// connectionNames are the headers that Connection makes part of the connection.
func connectionNames(h http.Header) map[string]bool {
	var named map[string]bool
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				if named == nil {
					named = map[string]bool{}
				}
				named[http.CanonicalHeaderKey(name)] = true
			}
		}
	}
	return named
}

// upgrades reports whether a client wants to speak another protocol. The offer of HTTP/2 in clear text, which some make with
// every request, may be passed over (RFC 9113 §3.1).
func upgrades(h http.Header) bool {
	for _, value := range h["Upgrade"] {
		if !strings.EqualFold(strings.TrimSpace(value), "h2c") {
			return true
		}
	}
	return false
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}
