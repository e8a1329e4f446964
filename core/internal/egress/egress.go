// Package egress is the one way out of the process: every token, userinfo, test, revocation, JWKS, webhook and proxy
// call goes through a [Transport] (security 18).
//
// A Transport looks at the address of every connection when it is dialled, after names were resolved, and refuses what
// is not on the public internet, so that neither a URL nor a DNS answer reaches the host's own network. It speaks TLS
// 1.2 or newer only. Exceptions, for addresses and for plain http alike, are exact host:port pairs that the host
// program lists.
//
//   - [Transport.RoundTrip] serves an http.Client and streams.
//   - [Transport.Do] is for credential calls: one request, no redirects, bounded in time and size.
//
// Both return errors of type *[Error], which name the host and nothing else of the request (security 27).
package egress

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/core/internal/endpoint"
	"golang.org/x/net/http/httpguts"
)

// Options of a [Transport]. The zero value is the strictest.
type Options struct {
	// Allow lists the exact host:port pairs, as URLs and the environment name them, that may lie on private addresses
	// and may be spoken to in plain http: "127.0.0.1:9000", "[::1]:9000", "idp.corp.internal:443". None when empty.
	// Every other name of the same machine stays refused.
	Allow []string

	// EnvironmentProxy takes HTTP_PROXY, HTTPS_PROXY and NO_PROXY into account, as they are when New is called. False:
	// no proxy, whatever the environment says. The proxy's own address is checked like any other: a private one must be
	// in Allow. Names of requests that go through it are resolved by the proxy, so for those it is the proxy that has
	// to refuse private addresses; addresses and names that are private as written are refused here before.
	EnvironmentProxy bool

	// DialTimeout bounds name resolution and connecting, and once more the TLS handshake. Zero: 10 s.
	DialTimeout time.Duration
	// HeaderTimeout bounds the wait for the header of the answer once the request is written. Zero: 60 s.
	HeaderTimeout time.Duration
	// Timeout bounds a whole call of [Transport.Do], including its body. Zero: 15 s.
	Timeout time.Duration
	// MaxBody bounds the body that [Transport.Do] reads, after decompression. Zero: 1 MiB.
	MaxBody int64

	// RootCAs verify servers. Nil: the system's.
	RootCAs *x509.CertPool
	// Resolver resolves names. Nil: net.DefaultResolver.
	Resolver *net.Resolver
}

// maxHeader bounds the header of an answer.
const maxHeader = 128 << 10

// Transport is an http.RoundTripper. It is safe for concurrent use.
type Transport struct {
	base    *http.Transport
	allow   map[string]bool // canonical host:port
	plain   *net.Dialer     // for what is in allow
	guarded *net.Dialer     // for everything else
	timeout time.Duration
	maxBody int64
	patient *Transport // nil in one that is
}

var _ http.RoundTripper = (*Transport)(nil)

// New returns a Transport. An entry of Allow that is not host:port, and a proxy in the environment that cannot be used,
// are errors. Close releases the Transport.
func New(o Options) (*Transport, error) {
	dialTimeout := cmp.Or(o.DialTimeout, 10*time.Second)
	headerTimeout := cmp.Or(o.HeaderTimeout, time.Minute)
	t := &Transport{
		allow:   make(map[string]bool, len(o.Allow)),
		timeout: cmp.Or(o.Timeout, 15*time.Second),
		maxBody: cmp.Or(o.MaxBody, 1<<20),
	}
	if dialTimeout < 0 || headerTimeout < 0 || t.timeout < 0 || t.maxBody < 0 {
		return nil, fmt.Errorf("egress: a timeout or limit is negative")
	}
	for _, entry := range o.Allow {
		hostPort, err := endpoint.HostPort("", entry)
		if err != nil {
			return nil, fmt.Errorf("%q must be host:port, without scheme and path: %w", entry, err)
		}
		t.allow[hostPort] = true
	}
	t.plain = &net.Dialer{Timeout: dialTimeout, Resolver: o.Resolver}
	t.guarded = &net.Dialer{Timeout: dialTimeout, Resolver: o.Resolver, ControlContext: refusePrivate}
	t.base = &http.Transport{
		DialContext:            t.dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		ForceAttemptHTTP2:      true,
		// A dead HTTP/2 connection would otherwise swallow every call to its host until the system notices.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 10 * time.Second},
	}
	if o.EnvironmentProxy {
		proxy, err := environmentProxy()
		if err != nil {
			return nil, err
		}
		t.base.Proxy = func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }
	}
	patient := *t
	patient.base = t.base.Clone()
	patient.base.ResponseHeaderTimeout = 0
	t.patient = &patient
	return t, nil
}

// Patient returns what is t but for Options.HeaderTimeout: it waits for the header of an answer as long as the context of
// the request lasts, which its user bounds. It has connections of its own, which Close of t closes.
func (t *Transport) Patient() *Transport { return t.patient }

// Close closes idle connections. Calls in flight end by themselves, and calls after Close still work.
func (t *Transport) Close() {
	t.base.CloseIdleConnections()
	if t.patient != nil {
		t.patient.Close()
	}
}

// RoundTrip implements http.RoundTripper. It refuses, before anything is sent:
//
//   - URLs that [endpoint.CheckRequestURL] refuses, and a Host that differs from the URL's;
//   - plain http, addresses that are not public and names that are private by registration, except in Options.Allow;
//   - CONNECT and protocol upgrades (RFC 9110 §7.8): what follows them is not HTTP, so nothing here would govern it.
//
// Redirects are returned, not followed. The body of the answer is not bounded, in size or time, except by the request's
// context. Every error, also of reading the body, is an *[Error]. An http.Client wraps it in a *url.Error, whose text
// holds the URL: take the *Error out with errors.As before writing it anywhere.
//
// The underlying transport repeats a request by itself only where nothing of it was written or the server said that it
// did not process it, or where it is idempotent by its method or has an Idempotency-Key (RFC 9110 §9.2.2): never a
// token request that may have been received.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	host, err := t.check(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	var sent atomic.Bool // hooks may still run when the call has returned
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	})
	traced := req.WithContext(ctx)
	if traced.Header == nil {
		traced.Header = http.Header{}
	}
	res, err := t.base.RoundTrip(traced)
	if err != nil {
		return nil, failure(req.Context(), host, sent.Load(), err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		res.Body.Close()
		return nil, &Error{Host: host, Kind: Protocol, Sent: true, Err: errUpgraded}
	}
	if res.StatusCode < 200 || res.StatusCode > 999 { // RFC 9110 §15; who passes it on would fail
		res.Body.Close()
		return nil, &Error{Host: host, Kind: Protocol, Sent: true, Err: errStatus}
	}
	// As http.RoundTripper promises; what the base set carries our trace.
	res.Request = req
	res.Body = &body{ReadCloser: res.Body, ctx: req.Context(), host: host}
	return res, nil
}

// check returns the canonical host:port of a request that may be sent.
func (t *Transport) check(req *http.Request) (string, error) {
	refuse := func(host string, err error) (string, error) {
		return "", &Error{Host: host, Kind: Blocked, Err: err}
	}
	if err := endpoint.CheckRequestURL(req.URL); err != nil {
		return refuse("", err)
	}
	host, err := endpoint.HostPort(req.URL.Scheme, req.URL.Host)
	if err != nil {
		return refuse("", err)
	}
	if req.Host != "" && req.Host != req.URL.Host {
		if named, err := endpoint.HostPort(req.URL.Scheme, req.Host); err != nil || named != host {
			return refuse(host, errHostHeader)
		}
	}
	if !t.allow[host] {
		if req.URL.Scheme != "https" {
			return refuse(host, errPlain)
		}
		if err := checkName(host); err != nil {
			return refuse(host, err)
		}
	}
	if req.Method == http.MethodConnect {
		return refuse(host, errConnect)
	}
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return refuse(host, errHeaderName)
		}
		// Whatever its case: Go's transport sends a name that is not in canonical form as it is.
		if strings.EqualFold(name, "Upgrade") && len(values) > 0 ||
			strings.EqualFold(name, "Connection") && httpguts.HeaderValuesContainsToken(values, "upgrade") {
			return refuse(host, errUpgrade)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return refuse(host, fmt.Errorf("header %s holds a character that no header may hold", name))
			}
		}
	}
	return host, nil
}
