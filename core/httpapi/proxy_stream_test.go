package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core/httpapi"
)

const mib = 1 << 20

// zeros is a body of n bytes that nobody holds.
func zeros(n int64) io.Reader { return io.LimitReader(endless{}, n) }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// streamer counts what it gets, and answers with as much as it is asked for.
func streamer(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Got", strconv.FormatInt(n, 10))
	size, _ := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
	if !r.URL.Query().Has("chunked") {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	if r.URL.Query().Has("json") {
		w.Header().Set("Content-Type", "application/json")
	}
	_, _ = io.Copy(w, zeros(size))
}

// stream uploads and downloads size bytes each way, once of known length and once not.
func (p *proxied) stream(size int64) {
	p.Helper()
	for _, how := range []string{"", "&chunked"} {
		body := zeros(size)
		req, err := http.NewRequestWithContext(p.Context(), http.MethodPut, p.url("{P}/proxy/"+rawAPI+"/x?size="+strconv.FormatInt(size, 10)+how), io.NopCloser(body))
		if err != nil {
			p.Fatal(err)
		}
		if how == "" {
			req.ContentLength = size
		}
		req.Header.Set("Authorization", "Bearer "+p.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			p.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || n != size || resp.Header.Get("X-Got") != strconv.FormatInt(size, 10) {
			p.Errorf("%d bytes%s: %s arrived, %d came back, %v (%d)", size, how, resp.Header.Get("X-Got"), n, err, resp.StatusCode)
		}
	}
}

// growth runs do, and returns by how much the heap was larger meanwhile than before, at most.
func growth(do func()) uint64 {
	debug.FreeOSMemory()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	done, most := make(chan struct{}), make(chan uint64)
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		var peak uint64
		for {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapInuse+now.StackInuse)
			select {
			case <-ticker.C:
			case <-done:
				most <- peak
				return
			}
		}
	}()
	do()
	close(done)
	return <-most - min(before.HeapInuse+before.StackInuse, 1<<62)
}

// Bodies of 64 MiB go through both ways; TestProxyGigabyte (make test-long) measures the memory of larger ones.
func TestProxyStreams(t *testing.T) {
	t.Parallel()
	newProxied(t, streamer, nil).stream(64 * mib)
}

// A large JSON document is wrapped while it streams.
func TestProxyStreamsJSON(t *testing.T) {
	t.Parallel()
	p := newProxied(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `["`+strings.Repeat("x", 3*mib)+`"]`)
	}, nil)
	a := p.do(p.token, http.MethodGet, "{P}/proxy/"+rawAPI+"/x", "")
	if !bytes.HasPrefix(a.Body, []byte(`{"output":["x`)) || !bytes.HasSuffix(a.Body, []byte(`x"]}`)) || len(a.Body) != 3*mib+4+11 {
		t.Errorf("%d bytes, from %.20s", len(a.Body), a.Body)
	}
}

func TestProxyBodyLimit(t *testing.T) {
	t.Parallel()
	p := newProxied(t, streamer, func(o *httpapi.Options) { o.ProxyMaxBody = mib })
	for _, length := range []int64{mib + 1, -1} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.url("{P}/proxy/"+rawAPI+"/x?size=0"), io.NopCloser(zeros(mib+1)))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		req.Header.Set("Authorization", "Bearer "+p.token)
		if a := p.send(http.DefaultClient, req); a.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("length %d = %d %s, want 413", length, a.Status, a.Body)
		}
	}
}

// A client that leaves takes its request with it.
func TestProxyClientLeaves(t *testing.T) {
	t.Parallel()
	here, gone := make(chan struct{}), make(chan struct{})
	p := newProxied(t, func(_ http.ResponseWriter, r *http.Request) {
		close(here)
		<-r.Context().Done()
		close(gone)
	}, nil)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url("{P}/proxy/"+rawAPI+"/x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	go func() {
		<-here
		leave()
	}()
	if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is none
		t.Errorf("Do() = %v", err)
	}
	select {
	case <-gone:
	case <-p.soon().Done():
		t.Error("the provider still works")
	}
}

// What stands still is given up: before the answer with an error, within it by breaking off.
func TestProxyStalls(t *testing.T) {
	t.Parallel()
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v2/silent":
		case "/api/v2/half":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		case "/api/v2/json":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"half":`)
			_ = http.NewResponseController(w).Flush()
		case "/api/v2/early":
			_ = http.NewResponseController(w).EnableFullDuplex() // or it would wait for the body itself
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(http.StatusConflict)
			_ = http.NewResponseController(w).Flush()
			return
		default:
			_, _ = io.Copy(io.Discard, r.Body)
		}
		<-r.Context().Done()
	}, func(o *httpapi.Options) { o.ProxyTimeout, o.ProxyIdle = 300*time.Millisecond, 300*time.Millisecond })
	for _, path := range []string{"/silent", "/json"} {
		if a := p.do(p.token, http.MethodGet, "{P}/proxy/"+rawAPI+path, ""); a.Status != http.StatusGatewayTimeout || a.json(t)["code"] != "timeout" {
			t.Errorf("%s = %d %s, want 504", path, a.Status, a.Body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url("{P}/proxy/"+rawAPI+"/half"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("half an answer passed for all: %s", body)
	}
	_ = resp.Body.Close()

	for _, test := range []struct {
		path   string
		status int
	}{{"/upload", http.StatusRequestTimeout}, {"/early", http.StatusConflict}} {
		body, stalled := io.Pipe()
		req, err = http.NewRequestWithContext(t.Context(), http.MethodPut, p.url("{P}/proxy/"+rawAPI+test.path), body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+p.token)
		go func() { _, _ = stalled.Write(make([]byte, 1000)) }()
		if a := p.send(http.DefaultClient, req); a.Status != test.status {
			t.Errorf("%s of a client that stalls = %d %s, want %d", test.path, a.Status, a.Body, test.status)
		}
		_ = stalled.Close()
	}
}

// The next requests of a connection are not ended by what was set for the one before, and long streams not by the server.
func TestProxyServerTimeouts(t *testing.T) {
	t.Parallel()
	var turn atomic.Int64
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) {
		turn.Add(1)
		streamer(w, r)
	}, nil)
	hasty := httptest.NewUnstartedServer(p.server.Config.Handler)
	hasty.Config.WriteTimeout, hasty.Config.ReadTimeout = 200*time.Millisecond, 200*time.Millisecond
	hasty.Start()
	t.Cleanup(hasty.Close)
	p.server = hasty
	p.stream(64 * mib)
	p.stream(64 * mib)
	if turn.Load() != 4 {
		t.Errorf("%d requests arrived", turn.Load())
	}
}
