package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/polycred/polycred/core"
)

// Options of a handler. PublicURL is needed.
type Options struct {
	// PublicURL is the URL under which browsers reach this handler, without path: "https://connect.example.com". Pages of OAuth
	// flows live there and keep cookies there, so it has the host of core.Options.CallbackURL. https, or http on localhost or
	// 127.0.0.1: browsers do not keep windows apart on any other plain http page. It is never taken from a request.
	PublicURL string
	// Application is what people know the application as, on pages that ask them; empty means "This application".
	Application string
	// AllowedOrigins are the origins of the application's pages ("https://app.example.com"), compared exactly: only from them
	// does a flow begin without a click, and only to them are messages posted. Empty means that no window can be opened: OAuth does not work then.
	AllowedOrigins []string
	// LegacyNavigation serves the flow of SDKs before 2.2.3, in which one navigation with the user token in its URL leads
	// straight to the provider. False refuses it.
	LegacyNavigation bool

	// Sources are the options of dynamic inputs that the host has, by integration and key; see Source.
	Sources map[string]map[string]Source
	// Workflows runs workflows and takes events; nil means that there are none of either.
	Workflows Workflows

	// MaxBody bounds the body of a request, but for the Proxy API; 0 means 1 MiB.
	MaxBody int64
	// ProxyMaxBody bounds the body of a proxied request; 0 means 5 GiB. ProxyTimeout bounds the wait for the header of the
	// provider's answer, once it has the request, and ProxyIdle how long a body may stand still, either way; 0 means 60 seconds
	// each. Neither bounds how long a body takes, nor how large an answer is.
	ProxyMaxBody            int64
	ProxyTimeout, ProxyIdle time.Duration
	// ProxyWrap bounds how much of a provider's answer is held in memory to see that it is JSON, before it is passed on as
	// {"output": …}. A larger one that begins like JSON is wrapped as it streams, and its error, if it is one, is passed on as it
	// is. 0 means 1 MiB.
	ProxyWrap int64
	// ProxyHold bounds how long a request is held back that a provider has refused with 429 or 503 and Retry-After: until then
	// the same method and path as the same account is 429 here, and the provider is not asked. 0 means 1 minute, less than 0
	// that nothing is held back.
	ProxyHold time.Duration

	// ProxyConcurrent is how many proxied requests of one user may go on at a time; 0 means 256.
	ProxyConcurrent int

	// Rate is how many requests of one user token are taken a second, in bursts of five times as many; 0 means 200, less than 0
	// no limit. FailureRate is how many tokens from one address may be refused a second, in bursts of ten times as many,
	// before the others are not looked at; 0 means 5, less than 0 no limit.
	Rate, FailureRate float64
	// ClientAddress tells from which address a request came; nil means the other end of its connection. Set it behind a
	// reverse proxy, and only to what that proxy itself writes.
	ClientAddress func(*http.Request) string

	// Logger receives one line for each request, and what an operator should know, never a token; nil means slog.Default.
	Logger *slog.Logger
}

// Source answers with the options of a dynamic input: what a person may choose. Acct is the account that the options are
// for, which the caller may send requests as; client acts as it. An error of core is told as such, any other as one sentence
// that says no more than that it failed. It may be called concurrently.
type Source func(ctx context.Context, acct *core.Credential, client *http.Client, query SourceQuery) (SourcePage, error)

// SourceQuery says which options are asked for.
type SourceQuery struct {
	Search     string         // empty: all
	Cursor     string         // SourcePage.Next of the page before; empty: the first page
	Parameters map[string]any // what was chosen before, by key
}

// SourcePage is one page of options. Next is passed on as SourceQuery.Cursor; empty means the end.
type SourcePage struct {
	Records []SourceRecord
	Next    string
}

// SourceRecord is one option.
type SourceRecord struct {
	Label string `json:"label"`
	Value any    `json:"value"`
}

// prepare returns a copy with defaults filled in.
func (o *Options) prepare(e *core.Engine) (Options, error) {
	if o == nil {
		o = &Options{}
	}
	p := *o
	p.AllowedOrigins = slices.Clone(p.AllowedOrigins)
	p.Application = cmp.Or(p.Application, "This application")
	p.MaxBody = cmp.Or(p.MaxBody, 1<<20)
	p.ProxyMaxBody = cmp.Or(p.ProxyMaxBody, 5<<30)
	p.ProxyTimeout = cmp.Or(p.ProxyTimeout, time.Minute)
	p.ProxyIdle = cmp.Or(p.ProxyIdle, time.Minute)
	p.ProxyWrap = cmp.Or(p.ProxyWrap, 1<<20)
	p.ProxyHold = cmp.Or(p.ProxyHold, time.Minute)
	p.ProxyConcurrent = cmp.Or(p.ProxyConcurrent, 256)
	p.Rate = cmp.Or(p.Rate, 200)
	p.FailureRate = cmp.Or(p.FailureRate, 5)
	if p.Logger == nil {
		p.Logger = slog.Default()
	}
	p.PublicURL = strings.TrimRight(p.PublicURL, "/")
	if err := checkPublicURL(p.PublicURL, e.CallbackURL()); err != nil {
		return p, err
	}
	for _, origin := range p.AllowedOrigins {
		if !isOrigin(origin) {
			return p, fmt.Errorf("allowedOrigins: %q is no origin as browsers write it: scheme, host in lower case, and a port that is not the usual one, like https://app.example.com", origin)
		}
	}
	switch {
	case p.ProxyConcurrent < 0, p.MaxBody < 0, p.ProxyMaxBody < 0, p.ProxyWrap < 0, p.ProxyWrap > 1<<30:
		return p, errors.New("a limit is negative, or proxyWrap more than 1 GiB")
	case p.ProxyTimeout < 0, p.ProxyIdle < 0:
		return p, errors.New("a timeout is negative")
	}
	return p, nil
}

var errCallbackPath = errors.New("core.Options.CallbackURL needs a path that is no other route's, like /callback")

// checkPublicURL refuses a URL under which flows would not be safe (security 2 and 6).
func checkPublicURL(public, callback string) error {
	u, err := url.Parse(public)
	switch {
	case err != nil || !isOrigin(public):
		return errors.New("publicUrl: must be scheme, host in lower case, and a port that is not the usual one, like https://connect.example.com")
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return errors.New("publicUrl: must be https, or http on localhost or 127.0.0.1")
	case callback == "":
		return nil // no OAuth
	}
	c, err := url.Parse(callback)
	if err == nil && c.Path == "" {
		return errCallbackPath
	}
	if err != nil || c.Scheme != u.Scheme || c.Host != u.Host {
		return fmt.Errorf("publicUrl: core.Options.CallbackURL (%s) has to lie under it (%s): a cookie does not cross hosts", callback, public)
	}
	return nil
}

// isOrigin reports whether a text is an origin in the form in which browsers send it (RFC 6454 §6.2), so that it can be
// compared as it is.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Scheme+"://"+u.Host != text {
		return false
	}
	usual := map[string]string{"https": "443", "http": "80"}[u.Scheme]
	return u.Host == strings.ToLower(u.Host) && u.Port() != usual && !strings.HasSuffix(u.Host, ":")
}

// loopback reports whether a browser treats plain http on this host as secure.
func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
