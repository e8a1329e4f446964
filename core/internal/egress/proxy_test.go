package egress_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/core/internal/egress"
)

// newProxy starts a proxy that tunnels every CONNECT to target, and remembers what it was asked for.
func newProxy(t *testing.T, target string) (hostPort string, asked *atomic.Value) {
	t.Helper()
	asked = new(atomic.Value)
	asked.Store("")
	_, hostPort = newServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.Host)
		if target == "" {
			http.Error(w, canary, http.StatusBadGateway)
			return
		}
		upstream, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer func() { _ = upstream.Close() }()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(upstream, conn) }()
		_, _ = io.Copy(conn, upstream)
	})
	return hostPort, asked
}

func TestSecurity18_EnvironmentProxy(t *testing.T) {
	target, roots := newTLSServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "through") })
	proxy, asked := newProxy(t, target)
	t.Setenv("HTTPS_PROXY", "http://user:"+canary+"@"+proxy)
	t.Setenv("HTTP_PROXY", "")
	t.Setenv("NO_PROXY", "")
	t.Setenv("https_proxy", "")
	none := resolver(func(string) []string { return nil })

	t.Run("off by default", func(t *testing.T) {
		transport := newTransport(t, egress.Options{Allow: []string{proxy}, RootCAs: roots, Resolver: none})
		_, err := transport.Do(t.Context(), newRequest(t, "https://example.com"))
		checkError(t, err, egress.Unreachable, false)
		if got := asked.Load(); got != "" {
			t.Errorf("the proxy was asked for %q", got)
		}
	})
	t.Run("its address must be allowed", func(t *testing.T) {
		transport := newTransport(t, egress.Options{EnvironmentProxy: true, RootCAs: roots, Resolver: none})
		_, err := transport.Do(t.Context(), newRequest(t, "https://example.com"))
		checkError(t, err, egress.Blocked, false)
		if err == nil || !strings.Contains(err.Error(), proxy) {
			t.Errorf("Do() = %v, want it to name the proxy %s", err, proxy)
		}
	})
	t.Run("through it", func(t *testing.T) {
		transport := newTransport(t, egress.Options{EnvironmentProxy: true, Allow: []string{proxy}, RootCAs: roots, Resolver: none})
		res, err := transport.Do(t.Context(), newRequest(t, "https://example.com"))
		if err != nil || string(res.Body) != "through" {
			t.Errorf("Do() = %+v, %v", res, err)
		}
		if got := asked.Load(); got != "CONNECT example.com:443" {
			t.Errorf("the proxy was asked for %q", got)
		}
	})
	t.Run("private as written", func(t *testing.T) {
		transport := newTransport(t, egress.Options{EnvironmentProxy: true, Allow: []string{proxy}, RootCAs: roots, Resolver: none})
		asked.Store("")
		for _, host := range []string{"10.0.0.1", "169.254.169.254", "[fd00:ec2::254]", "[::ffff:10.0.0.1]", "2130706433", "127.1", "metadata.google.internal", "localhost", "a.localhost"} {
			_, err := transport.Do(t.Context(), newRequest(t, "https://"+host))
			checkError(t, err, egress.Blocked, false)
		}
		if got := asked.Load(); got != "" {
			t.Errorf("the proxy was asked for %q", got)
		}
	})
	t.Run("it refuses", func(t *testing.T) {
		refusing, _ := newProxy(t, "")
		t.Setenv("HTTPS_PROXY", refusing)
		transport := newTransport(t, egress.Options{EnvironmentProxy: true, Allow: []string{refusing}, Resolver: none})
		_, err := transport.Do(t.Context(), newRequest(t, "https://example.com"))
		checkError(t, err, egress.Unreachable, false)
	})
	for _, value := range []string{"http://", "ftp://proxy:21", "http://user:" + canary + "@proxy:port", "%" + canary, "http://127.1:80"} {
		t.Setenv("HTTPS_PROXY", value)
		if _, err := egress.New(egress.Options{EnvironmentProxy: true}); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("New with proxy %q = %v, want an error without it", value, err)
		}
	}
}
