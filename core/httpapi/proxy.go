package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/polycred/polycred/core"
)

// The Proxy API (row 24): any request, sent to the provider's API as one account.

const (
	proxyRoute = "/projects/{project}/sdk/proxy/{integration}/{path...}"

	headerProxyURL = "X-Paragon-Proxy-Url"
	headerRaw      = "X-Paragon-Use-Raw-Response"
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
	if name == "custom" {
		name, path = cutSegment(strings.TrimPrefix(path, "/"))
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

// proxy sends requests on.
type proxy struct {
	a       *api
	buffers sync.Pool
}

// bufferSize is how much is copied at a time.
const bufferSize = 32 << 10

func newProxy(a *api) *proxy {
	return &proxy{a: a, buffers: sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}}
}

// serve answers one request with what the provider answers.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request, t target) error {
	u, err := p.a.caller(r)
	if err != nil {
		return err
	}
	if !p.a.isProject(t.project) {
		return errNotFound
	}
	in, err := p.a.known.find(r.Context(), p.a, t.integration)
	if err != nil {
		return err
	}
	sel, err := selected(r, in.Name)
	if err != nil {
		return err
	}
	sel.Configuration = ""
	up, err := u.Upstream(r.Context(), sel)
	if err != nil {
		return err
	}
	noteCredential(r, up.Credential())
	w.Header().Set(headerUsed, up.Credential())
	to, err := p.destination(r, t, up)
	if err != nil {
		return err
	}
	return p.send(w, r, up, to)
}

// destination is the URL that a request is for: the header's, or the path's where it is a whole URL, or else the path below
// the integration's API. Which hosts it may have, Upstream decides.
func (p *proxy) destination(r *http.Request, t target, up *core.Upstream) (*url.URL, error) {
	raw := strings.TrimPrefix(t.path, "/")
	if asked := r.Header.Get(headerProxyURL); asked != "" {
		raw = strings.TrimPrefix(asked, "/")
	}
	if len(raw) > 8<<10 || strings.ContainsFunc(raw, func(c rune) bool { return c <= 0x20 || c == 0x7f || c == '\\' }) {
		return nil, invalid("The address has a space, backslash or control character, or more than 8 KiB.")
	}
	if decoded, err := url.PathUnescape(raw); err == nil && !isURL(raw) && isURL(decoded) { // a whole URL, escaped into one path
		raw = decoded
	}
	var to *url.URL
	var err error
	if isURL(raw) {
		if to, err = url.Parse(raw); err != nil {
			return nil, invalid("The address is no URL.")
		}
	} else {
		if to, err = up.BaseURL(); err != nil {
			return nil, err
		}
		path, query, _ := strings.Cut(raw, "?")
		joined := strings.TrimRight(to.EscapedPath(), "/") + "/" + path
		if to.Path, err = url.PathUnescape(joined); err != nil {
			return nil, invalid("The path is not escaped as it should be.")
		}
		to.RawPath, to.RawQuery = joined, query
	}
	if r.URL.RawQuery != "" {
		if to.RawQuery != "" {
			to.RawQuery += "&"
		}
		to.RawQuery += r.URL.RawQuery
	}
	to.Fragment, to.RawFragment = "", ""
	return to, nil
}

func isURL(s string) bool {
	return len(s) > 8 && (strings.EqualFold(s[:8], "https://") || strings.EqualFold(s[:7], "http://"))
}

// hopByHop are the headers of one connection (RFC 9110 §7.6.1), and those that say who the client is to us.
var dropped = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Authorization": true, "Cookie": true, "Cookie2": true, "Host": true, "Origin": true, "Referer": true, "Forwarded": true, "Via": true,
	"X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true, "X-Real-Ip": true, "Expect": true,
	"Content-Length": true,
}

// fromUs reports whether a request header is for us, and not for the provider.
func fromUs(name string) bool {
	return dropped[name] || strings.HasPrefix(name, "X-Paragon-") || strings.HasPrefix(name, "X-Polycred-") || strings.HasPrefix(name, "Sec-Fetch-")
}

// silenced are headers of an answer that would act on our own origin in the client's browser (security 20).
var silenced = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true,
	"Set-Cookie": true, "Set-Cookie2": true, "Clear-Site-Data": true, "Alt-Svc": true, "Service-Worker-Allowed": true,
	"Strict-Transport-Security": true, "Public-Key-Pins": true, "Content-Security-Policy": true, "Nel": true, "Report-To": true,
	"Reporting-Endpoints": true, "Www-Authenticate": true, "Refresh": true, "Link": false,
}

// send sends the request and relays the answer.
func (p *proxy) send(w http.ResponseWriter, r *http.Request, up *core.Upstream, to *url.URL) error {
	if r.ContentLength > p.a.opts.ProxyMaxBody {
		return errTooLarge
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	body, replay, err := p.requestBody(w, r, cancel)
	if err != nil {
		return err
	}
	out := (&http.Request{
		Method: r.Method, URL: to, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: requestHeader(r.Header), Body: body,
		ContentLength: r.ContentLength, GetBody: replay,
	}).WithContext(ctx)
	if body == http.NoBody {
		out.ContentLength = 0
	}
	overdue := time.AfterFunc(p.a.opts.ProxyTimeout, func() { cancel(context.DeadlineExceeded) })
	resp, err := up.RoundTrip(out)
	overdue.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && r.Context().Err() == nil {
			return cause
		}
		return err
	}
	defer resp.Body.Close()
	return p.relay(w, r, resp, cancel)
}

// smallBody is how much of a request's body is kept to be sent once more after a 401.
const smallBody = 64 << 10

// requestBody is the body to send. A small one can be sent again.
func (p *proxy) requestBody(w http.ResponseWriter, r *http.Request, cancel context.CancelCauseFunc) (io.ReadCloser, func() (io.ReadCloser, error), error) {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return http.NoBody, nil, nil
	}
	limited := http.MaxBytesReader(w, r.Body, p.a.opts.ProxyMaxBody)
	if r.ContentLength > 0 && r.ContentLength <= smallBody {
		kept, err := io.ReadAll(limited)
		if err != nil {
			return nil, nil, err
		}
		again := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept)), nil }
		first, _ := again()
		return first, again, nil
	}
	return &awake{ReadCloser: limited, idle: p.a.opts.ProxyIdle, cancel: cancel}, nil, nil
}

// awake is a body that is given up when it stands still.
type awake struct {
	io.ReadCloser
	idle   time.Duration
	cancel context.CancelCauseFunc
}

func (b *awake) Read(buf []byte) (int, error) {
	timer := time.AfterFunc(b.idle, func() { b.cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	return b.ReadCloser.Read(buf)
}

// requestHeader is what of a client's header goes to the provider.
func requestHeader(from http.Header) http.Header {
	named := connectionNames(from)
	h := make(http.Header, len(from)+2)
	for name, values := range from {
		canonical := http.CanonicalHeaderKey(name)
		if fromUs(canonical) || named[canonical] {
			continue
		}
		h[canonical] = values
	}
	if ct := h.Get("Content-Type"); ct == "auto" { // as the SDK sends it: whatever fits
		h.Set("Content-Type", "application/json")
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http would send its own
	}
	return h
}

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

// relay passes an answer on: as it is where the client asked for that or it is no JSON, else wrapped.
func (p *proxy) relay(w http.ResponseWriter, r *http.Request, resp *http.Response, cancel context.CancelCauseFunc) error {
	named := connectionNames(resp.Header)
	h := w.Header()
	for name, values := range resp.Header {
		if silenced[name] || named[name] || strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "X-Polycred-") || name == headerRequestID {
			continue
		}
		h[name] = values
	}
	secure(h)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	raw := r.Header.Get(headerRaw)
	if r.Method != http.MethodHead && (raw == "" || raw == "0" || strings.EqualFold(raw, "false")) {
		if wrapped, err := p.wrap(w, r, resp); wrapped || err != nil {
			return err
		}
	}
	w.WriteHeader(resp.StatusCode)
	p.copy(w, &awake{ReadCloser: resp.Body, idle: p.a.opts.ProxyIdle, cancel: cancel}, resp.ContentLength < 0)
	return nil
}

// wrap answers with {"output": …} where the provider's answer is JSON, good, and small enough, and with an error that holds
// the provider's answer where it failed.
func (p *proxy) wrap(w http.ResponseWriter, r *http.Request, resp *http.Response) (bool, error) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	if !isJSON || resp.Header.Get("Content-Encoding") != "" || resp.ContentLength > p.a.opts.ProxyWrap ||
		resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		return false, nil
	}
	var buf bytes.Buffer
	if resp.ContentLength > 0 {
		buf.Grow(int(resp.ContentLength) + 16)
	}
	good := resp.StatusCode < 400
	if good {
		buf.WriteString(`{"output":`)
	}
	start := buf.Len()
	if _, err := io.Copy(&buf, io.LimitReader(resp.Body, p.a.opts.ProxyWrap+1)); err != nil {
		return false, err
	}
	content := buf.Bytes()[start:]
	if int64(len(content)) > p.a.opts.ProxyWrap || !json.Valid(content) { // as it is, then: what was read, and the rest
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(content), resp.Body), resp.Body}
		return false, nil
	}
	h := w.Header()
	h.Del("Content-Length")
	h.Del("Etag")
	if !good {
		return true, p.refused(w, r, resp, content)
	}
	buf.WriteByte('}')
	h.Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(buf.Bytes())
	return true, nil
}

// refused passes on that the provider refused a request: its status and its answer, in the form of our errors, marked as the
// provider's own so that the SDK does not log its user out.
func (p *proxy) refused(w http.ResponseWriter, r *http.Request, resp *http.Response, content []byte) error {
	message := "The provider refused the request."
	var known struct {
		Message any `json:"message"`
		Error   any `json:"error"`
	}
	if json.Unmarshal(content, &known) == nil {
		if text, ok := known.Message.(string); ok && text != "" {
			message = text
		} else if text, ok := known.Error.(string); ok && text != "" {
			message = text
		}
	}
	noteFailure(r, "upstream")
	p.a.write(w, resp.StatusCode, map[string]any{
		"message": message, "code": "upstream", "status": resp.StatusCode, "output": json.RawMessage(content),
		"meta": map[string]any{"requestId": requestID(r), "isIntegrationError": true, "status": resp.StatusCode},
	})
	secure(w.Header())
	return nil
}

// copy streams a body; one of unknown length is passed on as it comes.
func (p *proxy) copy(w http.ResponseWriter, body io.Reader, flush bool) {
	buffer := p.buffers.Get().(*[]byte)
	defer p.buffers.Put(buffer)
	control := http.NewResponseController(w)
	for {
		n, err := body.Read(*buffer)
		if n > 0 {
			if _, failed := w.Write((*buffer)[:n]); failed != nil {
				return
			}
			if flush {
				_ = control.Flush()
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil: // the client must not take what came for all
			panic(http.ErrAbortHandler)
		}
	}
}
