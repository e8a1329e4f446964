package core

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/polycred/polycred/core/internal/endpoint"
)

// What requests with an account of an integration look like: where their paths begin, and which headers they always have.

// maxHeaders is how many headers an integration may set; maxHeaderValue is how long one may be, in bytes.
const (
	maxHeaders     = 32
	maxHeaderValue = 1 << 10
)

// keptHeaders cannot be set by an integration: they belong to the connection, to polycred, or to whoever sends a request.
var keptHeaders = []string{
	"Authorization", "Connection", "Content-Encoding", "Content-Length", "Cookie", "Expect", "Host", "Keep-Alive", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// placeholder is a variable in the value of a header.
var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// header is one header that every request has.
type header struct{ name, value string }

// checkAPI checks Integration.APIURL and Headers.
func (p *provider) checkAPI(vars map[string]endpoint.Variable) (err error) {
	if base := cmp.Or(p.APIURL, firstHost(p.AllowedHosts)); base != "" {
		if p.api, err = endpoint.Parse(base, vars); err != nil {
			return invalid("apiUrl", err.Error())
		}
		// What depends on the account is looked at with each request.
		fixed := !strings.Contains(p.APIURL+strings.Join(p.AllowedHosts, ""), "{")
		if u, err := p.api.Expand(nil); fixed && (err != nil || !p.hosts.Allows(u, nil)) {
			return invalid("apiUrl", "has a host that is none of allowedHosts")
		}
	}
	if len(p.Headers) > maxHeaders {
		return invalid("headers", fmt.Sprintf("are more than %d", maxHeaders))
	}
	for name, value := range p.Headers {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !token(name):
			return invalid("headers", "have one whose name is none (RFC 9110 §5.1)")
		case slices.Contains(keptHeaders, canonical), p.APIKey != nil && p.APIKey.In == KeyHeader && strings.EqualFold(p.APIKey.Name, name):
			return invalid("headers."+canonical, "is not for an integration to set")
		case len(value) > maxHeaderValue || strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r > 0x7e }):
			return invalid("headers."+canonical, fmt.Sprintf("must be at most %d printable ASCII characters", maxHeaderValue))
		}
		for _, found := range placeholder.FindAllStringSubmatch(value, -1) {
			if _, known := p.Variables[found[1]]; !known {
				return invalid("headers."+canonical, "has a placeholder that is none of variables")
			}
		}
		p.headers = append(p.headers, header{canonical, value})
	}
	slices.SortFunc(p.headers, func(a, b header) int { return strings.Compare(a.name, b.name) })
	if len(slices.CompactFunc(slices.Clone(p.headers), func(a, b header) bool { return a.name == b.name })) < len(p.headers) {
		return invalid("headers", "name one twice")
	}
	return nil
}

// firstHost is the API of an integration that does not say where it is: the first of its hosts that is one host whatever the
// account is.
func firstHost(hosts []string) string {
	for _, host := range hosts {
		if strings.ContainsAny(host, "*{") {
			continue
		}
		if !strings.Contains(host, "://") {
			host = "https://" + host
		}
		return host
	}
	return ""
}

// setHeaders sets the integration's own headers. A variable without value leaves nothing in its place.
func (p *provider) setHeaders(h http.Header, vars map[string]string) {
	for _, own := range p.headers {
		value := own.value
		if strings.Contains(value, "{") {
			value = placeholder.ReplaceAllStringFunc(value, func(found string) string {
				name := found[1 : len(found)-1]
				return cmp.Or(vars[name], p.Variables[name].Default)
			})
		}
		for other := range h { // one that is written in another way would be sent beside it
			if strings.EqualFold(other, own.name) {
				delete(h, other)
			}
		}
		h[own.name] = []string{value}
	}
}
