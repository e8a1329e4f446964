package httpapi_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/badger"
)

var silent = slog.New(slog.DiscardHandler)

// benchBody is a JSON document of 1 KiB.
var benchBody = []byte(`{"data":"` + strings.Repeat("x", 1<<10-11) + `"}`)

// benchHouse is an application on a Badger store, with five accounts of one user at a provider that answers with 1 KiB.
type benchHouse struct {
	api      *httptest.Server
	upstream *httptest.Server
	path     string
	token    string
	account  string // the last one
	engine   *core.Engine
}

func newBenchHouse(b *testing.B) *benchHouse {
	b.Helper()
	h := &benchHouse{}
	h.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/me" {
			_, _ = fmt.Fprintf(w, `{"id":%q}`, r.Header.Get("Authorization"))
			return
		}
		_, _ = w.Write(benchBody)
	}))
	b.Cleanup(h.upstream.Close)
	to, err := url.Parse(h.upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	store, err := badger.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	kek, err := crypto.NewKEK()
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	if h.engine, err = core.Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{PrivateHosts: []string{to.Host}, Logger: silent}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = h.engine.Close() })
	if _, err := h.engine.CreateIntegration(ctx, core.Integration{
		Name: keys, APIKey: &core.APIKey{TestURL: h.upstream.URL + "/me"}, AllowedHosts: []string{h.upstream.URL},
		Identity: core.Identity{Source: core.IdentityTest, SubjectPath: "id"},
	}); err != nil {
		b.Fatal(err)
	}
	for i := range 5 {
		c, err := h.engine.User("acme").AddKey(ctx, core.KeyInput{Integration: keys, Key: crypto.NewSecret(fmt.Sprintf("key-%d", i)), AllowMultiple: true})
		if err != nil {
			b.Fatal(err)
		}
		h.account = c.ID
	}
	if h.token, err = usertoken.Mint(signingKey(b, h.engine), usertoken.MintInput{Project: h.engine.Project(), User: "acme", Lifetime: time.Hour, Now: time.Now()}); err != nil {
		b.Fatal(err)
	}
	handler, err := httpapi.New(h.engine, &httpapi.Options{PublicURL: "http://127.0.0.1:1", Rate: -1, FailureRate: -1, Logger: silent})
	if err != nil {
		b.Fatal(err)
	}
	h.api = httptest.NewServer(handler)
	b.Cleanup(h.api.Close)
	h.path = h.api.URL + "/projects/" + h.engine.Project() + "/sdk"
	return h
}

// signingKey adds a key for user tokens.
func signingKey(tb testing.TB, e *core.Engine) ed25519.PrivateKey {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		tb.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if _, err := e.AddSigningKey(context.Background(), core.SigningKeyInput{PublicKey: string(text)}); err != nil {
		tb.Fatal(err)
	}
	return private
}

// pool is a BufferPool of httputil.ReverseProxy.
type pool struct{ sync.Pool }

func (p *pool) Get() []byte  { return *p.Pool.Get().(*[]byte) }
func (p *pool) Put(b []byte) { p.Pool.Put(&b) }

// BenchmarkProxy is a proxied GET of 1 KiB as one account: token, permission, read of the store, decryption, wrapping.
func BenchmarkProxy(b *testing.B) {
	h := newBenchHouse(b)
	benchmarkGet(b, h.path+"/proxy/"+keys+"/data", h.token, h.account, `{"output":`)
}

// BenchmarkProxyFloor is the same GET through httputil.ReverseProxy with a BufferPool and the usual transport, which keeps
// as many connections.
func BenchmarkProxyFloor(b *testing.B) {
	h := newBenchHouse(b)
	to, err := url.Parse(h.upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	reverse := &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(to) },
		BufferPool: &pool{sync.Pool{New: func() any { buf := make([]byte, 32<<10); return &buf }}},
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it always is one
	transport.MaxIdleConnsPerHost = 64
	reverse.Transport = transport
	server := httptest.NewServer(reverse)
	b.Cleanup(server.Close)
	benchmarkGet(b, server.URL+"/data", h.token, h.account, `{"data":`)
}

// BenchmarkMe is GET /sdk/me of a user with five accounts.
func BenchmarkMe(b *testing.B) {
	h := newBenchHouse(b)
	benchmarkGet(b, h.path+"/me", h.token, "", `{"authenticated":true`)
}

// benchmarkGet gets a page over 1 connection and over 16, and reports the median time of a request.
func benchmarkGet(b *testing.B, address, token, account, begins string) {
	for _, connections := range []int{1, 16} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true}}
			defer client.CloseIdleConnections()
			get := func() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, address, nil)
				if err != nil {
					b.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+token)
				if account != "" {
					req.Header.Set("X-Paragon-Credential", account)
				}
				resp, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), begins) {
					b.Errorf("GET = %d %.100s, %v", resp.StatusCode, body, err)
				}
			}
			get()
			took := make([]time.Duration, 0, b.N)
			var mu sync.Mutex
			b.ReportAllocs()
			b.ResetTimer()
			var running sync.WaitGroup
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			for range connections {
				running.Go(func() {
					var own []time.Duration
					for range work {
						began := time.Now()
						get()
						own = append(own, time.Since(began))
					}
					mu.Lock()
					defer mu.Unlock()
					took = append(took, own...)
				})
			}
			running.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "ns-p50")
		})
	}
}
