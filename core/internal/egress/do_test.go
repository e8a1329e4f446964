package egress_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/egress"
)

func readRequest(conn net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err == nil {
		_, _ = io.Copy(io.Discard, req.Body)
	}
}

func TestDo(t *testing.T) {
	t.Parallel()
	base, hostPort := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Auth", r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.Copy(w, r.Body)
	})
	transport := newTransport(t, egress.Options{Allow: []string{hostPort}, MaxBody: int64(len("secret=" + canary))})
	res, err := transport.Do(t.Context(), newRequest(t, base))
	if err != nil {
		t.Fatal(err)
	}
	if res.Status != http.StatusBadRequest || res.Header.Get("X-Auth") != "Bearer "+canary || string(res.Body) != "secret="+canary {
		t.Errorf("Do() = %+v", res)
	}
	bare := newRequest(t, base)
	bare.Header = nil
	if _, err := transport.Do(t.Context(), bare); err != nil {
		t.Errorf("Do without a header = %v", err)
	}
}

// The target of a redirect would receive what the call carries.
func TestSecurity18_NoRedirects(t *testing.T) {
	t.Parallel()
	target, allowedTarget := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	base, hostPort := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target+"/"+r.URL.RawQuery, http.StatusTemporaryRedirect)
	})
	transport := newTransport(t, egress.Options{Allow: []string{hostPort, allowedTarget}})
	res, err := transport.Do(t.Context(), newRequest(t, base))
	if err != nil || res.Status != http.StatusTemporaryRedirect || res.Header.Get("Location") == "" {
		t.Errorf("Do() = %+v, %v; want the redirect itself", res, err)
	}
}

func TestSecurity18_BodyLimit(t *testing.T) {
	t.Parallel()
	const limit = 1000
	gone := make(chan struct{}, 8)
	handlers := map[string]http.HandlerFunc{
		"declared": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000000")
			_, _ = io.WriteString(w, canary)
		},
		"one byte more": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("a", limit+1)) },
		"compressed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, strings.Repeat(canary, 1<<16))
			_ = z.Close()
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, canary); err != nil {
					break
				}
			}
			gone <- struct{}{}
		},
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, plain := newServer(t, handler)
			secure, roots := newTLSServer(t, handler)
			transport := newTransport(t, egress.Options{Allow: []string{plain, secure}, RootCAs: roots, MaxBody: limit, Timeout: time.Minute})
			for _, base := range []string{base, "https://" + secure} {
				_, err := transport.Do(t.Context(), newRequest(t, base))
				checkError(t, err, egress.TooLarge, true)
				if !errors.Is(err, egress.ErrBodyTooLarge) {
					t.Errorf("Do() = %v, want ErrBodyTooLarge", err)
				}
				if name == "endless" {
					<-gone // the server learns that nobody reads on
				}
			}
		})
	}
}

func TestSecurity18_HeaderLimit(t *testing.T) {
	t.Parallel()
	huge := func(w http.ResponseWriter, _ *http.Request) {
		for i := range 64 {
			w.Header().Set("X-"+string(rune('A'+i%26))+string(rune('a'+i/26)), strings.Repeat(canary, 1000))
		}
	}
	base, plain := newServer(t, huge)
	secure, roots := newTLSServer(t, huge)
	transport := newTransport(t, egress.Options{Allow: []string{plain, secure}, RootCAs: roots})
	for _, base := range []string{base, "https://" + secure} {
		_, err := transport.Do(t.Context(), newRequest(t, base))
		checkError(t, err, egress.Protocol, true)
	}
}

func TestSecurity18_TimeLimits(t *testing.T) {
	t.Parallel()
	handlers := map[string]http.HandlerFunc{
		"slow header": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
		"slow body": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, canary)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, plain := newServer(t, handler)
			secure, roots := newTLSServer(t, handler)
			transport := newTransport(t, egress.Options{Allow: []string{plain, secure}, RootCAs: roots, Timeout: 500 * time.Millisecond})
			for _, base := range []string{base, "https://" + secure} {
				_, err := transport.Do(t.Context(), newRequest(t, base))
				checkError(t, err, egress.Timeout, true)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Do() = %v, want context.DeadlineExceeded", err)
				}
			}
		})
	}
	t.Run("header timeout", func(t *testing.T) {
		t.Parallel()
		base, hostPort := newServer(t, handlers["slow header"])
		transport := newTransport(t, egress.Options{Allow: []string{hostPort}, HeaderTimeout: 50 * time.Millisecond, Timeout: time.Minute})
		_, err := transport.Do(t.Context(), newRequest(t, base))
		checkError(t, err, egress.Timeout, true)
	})
	t.Run("silent listener", func(t *testing.T) {
		t.Parallel()
		hostPort := serveRaw(t, func(conn net.Conn) {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		})
		transport := newTransport(t, egress.Options{Allow: []string{hostPort}, DialTimeout: 50 * time.Millisecond, Timeout: time.Minute})
		_, err := transport.Do(t.Context(), newRequest(t, "https://"+hostPort)) // hangs in the handshake
		checkError(t, err, egress.Timeout, false)
	})
}

func TestDoCanceled(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	base, hostPort := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
	})
	transport := newTransport(t, egress.Options{Allow: []string{hostPort}})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(errors.New(canary))
	}()
	_, err := transport.Do(ctx, newRequest(t, base))
	checkError(t, err, egress.Canceled, true)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Do() = %v, want context.Canceled", err)
	}
	_, err = transport.Do(ctx, newRequest(t, base))
	checkError(t, err, egress.Canceled, false)
}

// Sent is false only when nothing can have arrived.
func TestDoFailures(t *testing.T) {
	t.Parallel()
	free := serveRaw(t, func(conn net.Conn) { _ = conn.Close() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := listener.Addr().String()
	_ = listener.Close()
	reset := serveRaw(t, func(conn net.Conn) {
		readRequest(conn)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	})
	garbage := serveRaw(t, func(conn net.Conn) {
		readRequest(conn)
		_, _ = io.WriteString(conn, canary+" "+canary+"\r\n\r\n")
		_ = conn.Close()
	})
	short := serveRaw(t, func(conn net.Conn) {
		readRequest(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"+canary)
		_ = conn.Close()
	})
	_, plain := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	trusted, roots := newTLSServer(t, func(http.ResponseWriter, *http.Request) {})
	_, port, _ := net.SplitHostPort(trusted)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} // what is refused here
	old.Config.ErrorLog = discardLog
	old.StartTLS()
	t.Cleanup(old.Close)
	wrongName, missing := "wrong.example.org:"+port, "missing.example.org:443"

	transport := newTransport(t, egress.Options{
		Allow: []string{free, refused, reset, garbage, short, plain, trusted, old.Listener.Addr().String(), wrongName}, RootCAs: roots,
		Resolver: resolver(func(name string) []string {
			if name == "wrong.example.org" {
				return []string{"127.0.0.1"}
			}
			return nil
		}),
	})
	untrusting := newTransport(t, egress.Options{Allow: []string{trusted}})
	for _, tt := range []struct {
		name, base string
		transport  *egress.Transport
		kind       egress.Kind
		sent       bool
		cause      error
	}{
		{"closed at once", "http://" + free, transport, egress.Protocol, true, nil},
		{"refused port", "http://" + refused, transport, egress.Unreachable, false, syscall.ECONNREFUSED},
		{"reset", "http://" + reset, transport, egress.Protocol, true, nil},
		{"not HTTP", "http://" + garbage, transport, egress.Protocol, true, nil},
		{"short body", "http://" + short, transport, egress.Protocol, true, io.ErrUnexpectedEOF},
		{"TLS to a plain server", "https://" + plain, transport, egress.Unreachable, false, nil},
		{"unknown authority", "https://" + trusted, untrusting, egress.Unreachable, false, nil},
		{"wrong certificate", "https://" + wrongName, transport, egress.Unreachable, false, nil},
		{"old TLS", "https://" + old.Listener.Addr().String(), transport, egress.Unreachable, false, nil},
		{"no such name", "https://" + missing, transport, egress.Unreachable, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := tt.transport.Do(t.Context(), newRequest(t, tt.base))
			checkError(t, err, tt.kind, tt.sent)
			if tt.cause != nil && !errors.Is(err, tt.cause) {
				t.Errorf("Do() = %v, want it to wrap %v", err, tt.cause)
			}
			if host := strings.SplitN(tt.base, "://", 2)[1]; err != nil && !strings.Contains(err.Error(), host) {
				t.Errorf("Do() = %v, want it to name %s", err, host)
			}
			t.Log(err)
		})
	}
}

// A token request that may have been received is not repeated behind the caller's back.
func TestDoSendsOnce(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	base, hostPort := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			return // leaves a connection to be reused
		}
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	transport := newTransport(t, egress.Options{Allow: []string{hostPort}})
	if _, err := transport.Do(t.Context(), newRequest(t, base)); err != nil {
		t.Fatal(err)
	}
	_, err := transport.Do(t.Context(), newRequest(t, base))
	checkError(t, err, egress.Protocol, true)
	if got := requests.Load(); got != 2 {
		t.Errorf("the server saw %d requests, want 2", got)
	}
}
