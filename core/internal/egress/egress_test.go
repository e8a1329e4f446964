package egress_test

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/core/internal/endpoint"
)

var discardLog = log.New(io.Discard, "", 0)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	hostPort, roots := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Proto", r.Proto)
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(body)
	})
	transport := newTransport(t, egress.Options{Allow: []string{hostPort}, RootCAs: roots})
	client := &http.Client{Transport: transport}
	req := newRequest(t, "https://"+hostPort)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "secret="+canary || res.StatusCode != http.StatusTeapot {
		t.Errorf("answer = %d %q, %v", res.StatusCode, body, err)
	}
	if got := res.Header.Get("X-Proto"); got != "HTTP/2.0" {
		t.Errorf("spoke %s, want HTTP/2.0", got)
	}
	if res.Request != req {
		t.Error("the answer does not carry the caller's request")
	}
}

// What is refused is refused before anything is sent, and the request's body is closed.
func TestSecurity18_Refused(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	count := func(http.ResponseWriter, *http.Request) { requests.Add(1) }
	plain, allowedPlain := newServer(t, count)
	otherPlain, _ := newServer(t, count)
	secure, roots := newTLSServer(t, count)
	transport := newTransport(t, egress.Options{Allow: []string{allowedPlain}, RootCAs: roots, Resolver: resolver(func(name string) []string {
		t.Errorf("%s was looked up", name)
		return nil
	})})
	if _, err := transport.Do(t.Context(), newRequest(t, plain)); err != nil {
		t.Fatalf("Do to an allowed plain server = %v", err)
	}
	for _, tt := range []struct {
		name, want string // want is part of the reason
		change     func(*http.Request)
	}{
		{"plain http", "plain http", func(r *http.Request) { setURL(r, otherPlain) }},
		{"plain http, by name", "plain http", func(r *http.Request) { setURL(r, "http://example.com/"+canary) }},
		{"loopback TLS", "loopback", func(r *http.Request) { setURL(r, "https://"+secure) }},
		{"no URL", "no URL", func(r *http.Request) { r.URL = nil }},
		{"no host", "host and port", func(r *http.Request) { r.URL.Host = "" }},
		{"scheme", "scheme", func(r *http.Request) { r.URL.Scheme = "ftp" }},
		{"userinfo", "userinfo", func(r *http.Request) { r.URL.User = url.UserPassword(canary, canary) }},
		{"opaque", "opaque", func(r *http.Request) { r.URL.Opaque = "//" + canary }},
		{"dots", "segment", func(r *http.Request) { r.URL.Path = "/../" + canary }},
		{"encoded dots", "segment", func(r *http.Request) { r.URL, _ = url.Parse(plain + "/%2e%2e/" + canary) }},
		{"backslash", "backslash", func(r *http.Request) { r.URL.Path = `/\` + canary }},
		{"absolute path", "slash", func(r *http.Request) { r.URL.Path = "http://" + canary }},
		{"Host", "Host of the request", func(r *http.Request) { r.Host = canary }},
		{"CONNECT", "CONNECT", func(r *http.Request) { r.Method = http.MethodConnect }},
		{"Upgrade", "upgrade", func(r *http.Request) { r.Header.Set("Upgrade", canary) }},
		{"Connection: Upgrade", "upgrade", func(r *http.Request) { r.Header.Set("Connection", "keep-alive, Upgrade") }},
		{"raw upgrade", "upgrade", func(r *http.Request) { r.Header["uPGRADE"] = []string{canary} }},
		{"raw connection", "upgrade", func(r *http.Request) { r.Header["connection"] = []string{"x", "upgrade"} }},
		{"header value", "header X-A", func(r *http.Request) { r.Header["X-A"] = []string{canary + "\r\nX-B: c"} }},
		{"header name", "name of a header", func(r *http.Request) { r.Header[canary+": x\r\n"] = []string{"a"} }},
		{"query with a newline", "query", func(r *http.Request) { r.URL.RawQuery = "a=" + canary + "\r\nX: y" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := requests.Load()
			req := newRequest(t, plain)
			body := &closeRecorder{Reader: strings.NewReader(canary)}
			req.Body = body
			tt.change(req)
			res, err := transport.RoundTrip(req)
			if err == nil {
				res.Body.Close()
			}
			checkError(t, err, egress.Blocked, false)
			if err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want it to say %q", err, tt.want)
			}
			if !body.closed.Load() {
				t.Error("the body of the request was not closed")
			}
			if requests.Load() != before {
				t.Error("the server was reached")
			}
		})
	}
	req := newRequest(t, plain)
	req.URL.Path = "/.."
	_, err := transport.Do(t.Context(), req)
	if !errors.Is(err, endpoint.ErrURL) {
		t.Errorf("Do with a malformed URL = %v, want endpoint.ErrURL", err)
	}
}

// setURL points r elsewhere, its Host too.
func setURL(r *http.Request, raw string) {
	r.URL, _ = url.Parse(raw)
	r.Host = ""
}

type closeRecorder struct {
	io.Reader
	closed atomic.Bool
}

func (c *closeRecorder) Close() error {
	c.closed.Store(true)
	return nil
}

// A server that switches protocols although nobody asked would leave HTTP, and with it every check.
func TestSecurity18_SwitchedProtocols(t *testing.T) {
	t.Parallel()
	hostPort := serveRaw(t, func(conn net.Conn) {
		readRequest(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+canary+"\r\n\r\n"+canary)
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	})
	transport := newTransport(t, egress.Options{Allow: []string{hostPort}})
	_, err := transport.Do(t.Context(), newRequest(t, "http://"+hostPort))
	checkError(t, err, egress.Protocol, true)
}

// A redirect from https to http, or to a private address, fails where the client follows it.
func TestSecurity18_RedirectOfClient(t *testing.T) {
	t.Parallel()
	private, _ := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	hostPort, roots := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, private, http.StatusTemporaryRedirect)
	})
	client := &http.Client{Transport: newTransport(t, egress.Options{Allow: []string{hostPort}, RootCAs: roots})}
	res, err := client.Get("https://" + hostPort)
	if err == nil {
		res.Body.Close()
	}
	checkError(t, err, egress.Blocked, false)
}

// The error of the request's own body that callers branch on is kept; any other is not repeated.
func TestRequestBodyErrors(t *testing.T) {
	t.Parallel()
	base, hostPort := newServer(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	transport := newTransport(t, egress.Options{Allow: []string{hostPort}})

	req := newRequest(t, base)
	req.Body = http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(bytes.NewReader(make([]byte, 100))), 10)
	req.ContentLength = -1
	_, err := transport.Do(t.Context(), req)
	checkError(t, err, egress.Protocol, true)
	var tooLong *http.MaxBytesError
	if !errors.As(err, &tooLong) {
		t.Errorf("error = %v, want it to wrap *http.MaxBytesError", err)
	}

	req = newRequest(t, base)
	req.Body = io.NopCloser(io.MultiReader(strings.NewReader("a"), failingReader{}))
	req.ContentLength = -1
	_, err = transport.Do(t.Context(), req)
	checkError(t, err, egress.Protocol, true)
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New(canary) }

func TestNewRefusesNegativeLimits(t *testing.T) {
	t.Parallel()
	for _, o := range []egress.Options{{DialTimeout: -1}, {HeaderTimeout: -1}, {Timeout: -1}, {MaxBody: -1}} {
		if _, err := egress.New(o); err == nil {
			t.Errorf("New(%+v) succeeded", o)
		}
	}
}

func TestKindString(t *testing.T) {
	t.Parallel()
	for kind, want := range map[egress.Kind]string{0: "Kind(0)", egress.Blocked: "blocked", egress.Protocol: "broken answer", 99: "Kind(99)"} {
		if got := kind.String(); got != want {
			t.Errorf("Kind(%d).String() = %q, want %q", int(kind), got, want)
		}
	}
}
