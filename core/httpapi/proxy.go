package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/internal/egress"
)

// The Proxy API (row 24): any request, sent to the provider's API as one account. docs/http-api.md says what clients see.

const (
	proxyRoute = "/projects/{project}/sdk/proxy/{integration}/{path...}"

	headerProxyURL = "X-Paragon-Proxy-Url"
	headerRaw      = "X-Paragon-Use-Raw-Response"

	headerUpstream = "X-Polycred-Upstream-Status" // of answers that are the provider's
)

var (
	errMethod  = &Error{http.StatusMethodNotAllowed, "invalid", "This method is not passed on."}
	errUpgrade = &Error{http.StatusBadRequest, "invalid", "Another protocol than HTTP is not passed on."}
	errTimeout = &Error{http.StatusGatewayTimeout, "timeout", "The provider took too long. Try again."}
)

// proxy sends requests on. It may be used concurrently.
type proxy struct {
	a       *api
	buffers sync.Pool
	holds   holds
}

// bufferSize is how much is copied at a time.
const bufferSize = 32 << 10

func newProxy(a *api) *proxy {
	return &proxy{
		a: a, buffers: sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }},
		holds: newHolds(a.opts.ProxyHold),
	}
}

// serve answers one request with what the provider answers.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request, t target) error {
	u, err := p.a.caller(r)
	if err != nil {
		return err
	}
	switch {
	case !p.a.isProject(t.project):
		return errNotFound
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace, r.Method == "TRACK":
		return errMethod
	case upgrades(r.Header):
		return errUpgrade
	case r.ContentLength > p.a.opts.ProxyMaxBody:
		return errTooLarge
	}
	if !p.a.limits.proxied.enter(u.ID()) {
		return &limitedError{time.Second}
	}
	defer p.a.limits.proxied.leave(u.ID())
	in, err := p.a.known.find(r.Context(), p.a, t.integration)
	if err != nil {
		return err
	}
	sel, err := selected(r, in.Name)
	if err != nil {
		return err
	}
	header, err := either(r.Header, headerProxyURL)
	if err != nil {
		return err
	}
	asked, err := parseAddress(t.path, header)
	if err != nil {
		return err
	}
	up, err := u.Upstream(r.Context(), sel)
	if err != nil {
		return err
	}
	noteCredential(r, up.Credential())
	w.Header()[headerUsed] = []string{up.Credential()}
	var base *url.URL
	if asked.whole == nil {
		if base, err = up.BaseURL(); err != nil {
			return err
		}
	}
	return p.send(w, r, up, asked.below(base, r.URL.RawQuery))
}

// send sends the request and relays the answer.
func (p *proxy) send(w http.ResponseWriter, r *http.Request, up *core.Upstream, to *url.URL) error {
	held := p.holds.key(up.Credential(), r.Method, to)
	if left := p.holds.left(held, p.a.now()); left > 0 {
		return &core.ProviderError{
			Integration: up.Integration(), Op: "request", Class: core.FailureRateLimited, RetryAfter: left,
			Reason: "the provider has asked not to send this for a while",
		}
	}
	watch := newWatch(r.Context(), p.a.opts.ProxyIdle)
	defer watch.end()
	raw := isRaw(r.Header)
	out := (&http.Request{
		Method: r.Method, URL: to, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: requestHeader(r.Header, raw),
		Body: http.NoBody,
	}).WithContext(watch.ctx)
	body, err := p.upload(w, r, out, watch)
	if err != nil {
		return err
	}
	defer body.done()
	resp, err := p.exchange(up, out, watch)
	if err != nil {
		if failed := body.failure(); failed != nil {
			return failed
		}
		return watch.blame(r, err)
	}
	defer func() { _ = resp.Body.Close() }()
	p.holds.note(held, resp, p.a.now())
	body.overtaken()
	defer body.answering()()
	if err := p.relay(w, r, resp, raw, watch); err != nil { // before anything was answered
		return watch.blame(r, &core.ProviderError{
			Integration: up.Integration(), Op: "request", Class: core.FailureTransient, Status: resp.StatusCode, Reason: err.Error(),
		})
	}
	return nil
}

// maxRedirects is how many redirects of one request are followed.
const maxRedirects = 10

// exchange sends a request as the account until it is answered by anything but a redirect to the same host: those are
// followed as User.Client does, since the client has no token to follow them with. Any other is the answer.
func (p *proxy) exchange(up *core.Upstream, out *http.Request, watch *watch) (*http.Response, error) {
	for hops := 0; ; hops++ {
		if out.Body == http.NoBody || out.GetBody != nil {
			watch.within(p.a.opts.ProxyTimeout)
		}
		resp, err := up.RoundTrip(out)
		if err != nil {
			return nil, err
		}
		next := followed(out, resp)
		if next == nil || hops == maxRedirects {
			return resp, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 2<<10) // so that the connection can be used again
		_ = resp.Body.Close()
		out = next
	}
}

// followed is the request that follows a redirect, as net/http would send it; nil where it is not to be followed.
func followed(out *http.Request, resp *http.Response) *http.Request {
	if !isRedirect(resp.StatusCode) {
		return nil
	}
	to, err := resp.Location()
	if err != nil || to.Scheme != out.URL.Scheme || !strings.EqualFold(to.Host, out.URL.Host) || to.User != nil {
		return nil
	}
	to.Fragment, to.RawFragment = "", ""
	next := out.Clone(out.Context())
	next.URL, next.Response = to, resp
	switch resp.StatusCode {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if out.Body == nil || out.Body == http.NoBody {
			return next
		}
		if out.GetBody == nil {
			return nil
		}
		if next.Body, err = out.GetBody(); err != nil {
			return nil
		}
	default:
		if next.Method != http.MethodHead {
			next.Method = http.MethodGet
		}
		next.Body, next.GetBody, next.ContentLength = http.NoBody, nil, 0
		for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Location"} {
			next.Header.Del(name)
		}
	}
	return next
}

func isRaw(h http.Header) bool {
	switch value := h.Get(headerRaw); {
	case value == "", value == "0", strings.EqualFold(value, "false"):
		return false
	}
	return true
}

// watch ends an exchange in which nothing moves.
type watch struct {
	ctx    context.Context // of the exchange
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
}

var errOverdue = errors.New("nothing moved for too long")

func newWatch(ctx context.Context, idle time.Duration) *watch {
	w := &watch{idle: idle}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(idle, func() { w.cancel(errOverdue) })
	return w
}

// within gives the exchange so long to go on, from now.
func (w *watch) within(d time.Duration) { w.timer.Reset(d) }

// moved gives it as long as a body may stand still.
func (w *watch) moved() { w.timer.Reset(w.idle) }

// pause lets it stand still.
func (w *watch) pause() { w.timer.Stop() }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// blame is the error of an exchange that failed, by whose fault that was.
func (w *watch) blame(r *http.Request, err error) error {
	var out *egress.Error
	switch {
	case r.Context().Err() != nil: // the client is gone
		return r.Context().Err()
	case errors.Is(context.Cause(w.ctx), errOverdue), errors.As(err, &out) && out.Kind == egress.Timeout:
		return errTimeout
	}
	return err
}
