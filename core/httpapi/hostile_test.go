package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage/memory"
)

// dial opens a connection to the server and sends it a text.
func (h *house) dial(text string) net.Conn {
	h.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.server.URL, "http://"))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		h.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		h.Fatal(err)
	}
	return conn
}

// A picture, a frame or a script of another page leaves no cookie, whatever Referer it has; a browser that does not say what
// it asks for shows the question.
func TestSecurity1_NavigationsOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(_ *core.Options, o *httpapi.Options) { o.LegacyNavigation = true })
	token := h.token("mallory", nil)
	q := url.Values{"action": {calendar}, "originForPostMessage": {appOrigin}, "userToken": {token}}.Encode()
	for _, path := range []string{"{P}/actions/oauth-nonce?" + q, "{P}/actions/build-oauth?" + q} {
		for name, tt := range map[string]struct {
			header []string
			status int
		}{
			"a picture":      {[]string{"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, http.StatusForbidden},
			"a frame":        {[]string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, http.StatusForbidden},
			"a script":       {[]string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, http.StatusForbidden},
			"an old browser": {nil, http.StatusOK},
		} {
			got := h.do("", http.MethodGet, path, "", append([]string{"Referer", appOrigin + "/"}, tt.header...)...)
			if got.Status != tt.status || got.Header.Get("Set-Cookie") != "" || tt.status == http.StatusOK && !strings.Contains(string(got.Body), "<form") {
				t.Errorf("%s at %.40s = %d, cookie %q, want %d and none", name, path, got.Status, got.Header.Get("Set-Cookie"), tt.status)
			}
		}
	}
}

// Who is asked learns which person the account will be connected by.
func TestSecurity1_AskNamesPerson(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token := h.token("acme", func(in *usertoken.MintInput) { in.Person = "mallory@acme.example" })
	w := h.window()
	w.referer = "https://evil.example.com/"
	if page := string(w.nonce(token, calendar).Body); !strings.Contains(page, "acme") || !strings.Contains(page, "mallory@acme.example") {
		t.Errorf("the page does not name user and person: %s", page)
	}
}

// Who announces a body and sends none is not waited for, also where nobody reads it.
func TestUnsentBody(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	httpapi.SetBodyTime(h.handler, 50*time.Millisecond)
	for _, path := range []string{"/nowhere", "/healthz", h.url("{P}/proxy/googleCalendar/x")[len(h.server.URL):]} {
		began := time.Now()
		conn := h.dial("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
		_, err := io.Copy(io.Discard, conn) // until the server hangs up
		if took := time.Since(began); err != nil || took > 10*time.Second {
			t.Errorf("POST %s without its body: %v after %v, want the connection to end", path, err, took)
		}
	}
}

// Who reads nothing of a proxied answer is given up, and holds no more than their share until then.
func TestProxySlowReader(t *testing.T) {
	t.Parallel()
	large := `{"text": "` + strings.Repeat("x", 900<<10) + `"}`
	p := newProxied(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, large)
	}, func(o *httpapi.Options) { o.ProxyIdle, o.ProxyConcurrent = 300*time.Millisecond, 1 })
	path := p.url("{P}/proxy/" + rawAPI + "/x")[len(p.server.URL):]
	conn := p.dial(strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+p.token+"\r\n\r\n", 20))
	if _, err := bufio.NewReaderSize(conn, 16).ReadByte(); err != nil { // the first answer has begun, and nothing more is read
		t.Fatal(err)
	}
	for began := time.Now(); ; {
		got := p.do(p.token, http.MethodGet, "{P}/proxy/"+rawAPI+"/x", "")
		if got.Status == http.StatusOK {
			return
		}
		if got.Status != http.StatusTooManyRequests || time.Since(began) > 15*time.Second {
			t.Fatalf("beside a slow reader = %d after %v, want 429 until that one is given up", got.Status, time.Since(began))
		}
	}
}

// What a workflow answers is cleaned however it answers, and an answer that has begun gets no error behind it.
func TestSecurity20_RunsCleaned(t *testing.T) {
	t.Parallel()
	f := newFlows()
	h := newHouse(t, func(_ *core.Options, o *httpapi.Options) { o.Workflows = f })
	token := h.token("acme", nil)
	h.install(token, "ada", `{}`)
	foul := func(w http.ResponseWriter) {
		for _, name := range []string{"Set-Cookie", "Clear-Site-Data", "X-Accel-Redirect", "Content-Security-Policy-Report-Only", "X-Request-Id"} {
			w.Header().Set(name, "foul")
		}
		w.Header().Set("Access-Control-Allow-Origin", "null")
		w.Header().Set("Content-Type", "text/html")
	}
	for name, tt := range map[string]struct {
		run    func(http.ResponseWriter, *http.Request) error
		status int
	}{
		"flushed before it writes": {func(w http.ResponseWriter, _ *http.Request) error {
			foul(w)
			return http.NewResponseController(w).Flush()
		}, http.StatusOK},
		"nothing written": {func(w http.ResponseWriter, _ *http.Request) error { foul(w); return nil }, http.StatusOK},
		"an error":        {func(w http.ResponseWriter, _ *http.Request) error { foul(w); return core.ErrConflict }, http.StatusConflict},
	} {
		f.run = tt.run
		got := h.want(tt.status, token, http.MethodPost, "{P}/triggers/"+flowID, "{}")
		for header, values := range got.Header {
			if strings.Contains(fmt.Sprint(values), "foul") {
				t.Errorf("%s: %s came through", name, header)
			}
		}
		if got.Header.Get("Access-Control-Allow-Origin") != "*" || got.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: our own headers are gone: %v", name, got.Header)
		}
		if tt.status == http.StatusOK && got.Header.Get("Content-Security-Policy") != "sandbox" {
			t.Errorf("%s: not sandboxed: %v", name, got.Header)
		}
	}
	f.run = func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, "part")
		return core.ErrConflict
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url("{P}/triggers/"+flowID), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if resp, err := http.DefaultClient.Do(req); err == nil {
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("an answer that broke off = %q, want the connection to break", body)
		}
	}
}

// A provider whose answer is no HTTP is a bad gateway, not a mistake of ours.
func TestProxyImpossibleStatus(t *testing.T) {
	t.Parallel()
	p := newProxied(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 042 X\r\nContent-Length: 2\r\nX-Own: 1\r\n\r\n{}")
			_ = conn.Close()
		}
	}, nil)
	got := p.do(p.token, http.MethodGet, "{P}/proxy/"+rawAPI+"/x", "")
	if got.Status != http.StatusBadGateway || got.Header.Get("X-Own") != "" || got.json(t)["code"] != "provider" {
		t.Errorf("GET = %d %v %s, want 502 provider", got.Status, got.Header, got.Body)
	}
}

// A provider cannot put anything beside the output.
func TestProxyWrapsWholeJSON(t *testing.T) {
	t.Parallel()
	const broken = `{"a":1},"output":{"b":2},"code":"7210","meta":{},"x":{}`
	p := newProxied(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, broken)
	}, nil)
	if got := p.want(http.StatusOK, p.token, http.MethodGet, "{P}/proxy/"+rawAPI+"/x", ""); string(got.Body) != broken {
		t.Errorf("GET = %s, want it as it came", got.Body)
	}
}

// A poll that is held ends when its user is disabled.
func TestSecurity13_HeldPoll(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	httpapi.SetHolds(h.handler, time.Minute, time.Minute, 20*time.Millisecond)
	token := h.token("acme", nil)
	held := make(chan answer)
	go func() { held <- h.do(token, http.MethodGet, "{P}/actions/session-id/key", "") }()
	if err := h.engine.DisableUser(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-held:
		if got.Status != http.StatusConflict {
			t.Errorf("the poll = %d %s, want it refused", got.Status, got.Body)
		}
	case <-time.After(20 * time.Second):
		t.Error("the poll goes on")
	}
}

// A callback where other routes lie, or nowhere, is refused when the handler is made.
func TestCallbackPaths(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	for _, path := range []string{"", "/", "/integrations"} {
		engine, err := core.Open(t.Context(), memory.New(), h.keks, &core.Options{CallbackURL: h.server.URL + path})
		if err != nil {
			continue // refused even earlier
		}
		if _, err := httpapi.New(engine, &h.http); err == nil || !strings.Contains(err.Error(), "CallbackURL") {
			t.Errorf("New with a callback at %q = %v, want an error that says so", path, err)
		}
		_ = engine.Close()
	}
}
