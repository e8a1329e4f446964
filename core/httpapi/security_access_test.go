package httpapi_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/internal/telemetry/telemetrytest"
	"github.com/polycred/polycred/core/usertoken"
)

// TestSecurity12: a token that is not accepted is 401 in the same words, whatever is wrong with it.
func TestSecurity12(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	good := h.token("acme", nil)
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := usertoken.Mint(foreign, usertoken.MintInput{Project: h.engine.Project(), User: "acme", Now: h.clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for name, token := range map[string]string{
		"of a foreign key": forged, "without signature": parts[0] + "." + parts[1] + ".", "alg none": none, "nonsense": "eyJ", "oversize": strings.Repeat("a", 20_000),
		"of another project": h.token("acme", func(in *usertoken.MintInput) { in.Project = "01900000-0000-7000-8000-000000000000" }),
		"expired":            h.token("acme", func(in *usertoken.MintInput) { in.Now = h.clock.Now().Add(-2 * time.Hour) }),
		"too long lived":     h.token("acme", func(in *usertoken.MintInput) { in.Lifetime = 48 * time.Hour }),
	} {
		got := h.do(token, http.MethodGet, "{P}/me", "")
		if got.Status != http.StatusUnauthorized || got.json(t)["message"] != core.Message(usertoken.ErrToken) || got.json(t)["code"] != "token" {
			t.Errorf("a token %s = %d %s, want 401 and no reason", name, got.Status, got.Body)
		}
	}
	for _, header := range []string{"Basic " + good, good, "Bearer", "Bearer  "} {
		h.want(http.StatusUnauthorized, "", http.MethodGet, "{P}/me", "", "Authorization", header)
	}
	h.want(http.StatusOK, "", http.MethodGet, "{P}/me", "", "Authorization", "bearer "+good)
	h.want(http.StatusUnauthorized, "", http.MethodGet, "{P}/me?userToken="+good, "") // only the pages take it from there
}

// TestSecurity13: disabling a user counts for tokens that were accepted before.
func TestSecurity13(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token := h.token("acme", nil)
	h.install(token, "ada", `{}`)
	h.want(http.StatusOK, token, http.MethodGet, "{P}/me", "")
	if err := h.engine.DisableUser(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	got := h.do(token, http.MethodGet, "{P}/proxy/googleCalendar/api/me", "")
	if got.Status != http.StatusConflict || got.json(t)["code"] != "disabled" {
		t.Errorf("a disabled user = %d %s", got.Status, got.Body)
	}
}

// TestSecurity14: what a browser can write decides nothing.
func TestSecurity14(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.install(h.token("acme", nil), "ada", `{}`)
	narrow := h.token("acme", may(map[string]any{"integration:*": []string{"credential:read", "user:write"}}))
	h.want(http.StatusOK, narrow, http.MethodPatch, "{P}/me", `{"meta":{"urn:polycred:permissions":{"integration:*":true},"urn:polycred:person":"root","role":"admin","sub":"other"}}`)
	h.want(http.StatusForbidden, narrow, http.MethodGet, "{P}/proxy/googleCalendar/api/me", "")
	if me := h.want(http.StatusOK, narrow, http.MethodGet, "{P}/me", "").json(t); me["userId"] != "acme" || me["person"] != nil {
		t.Errorf("me = %v", me)
	}
}

// TestSecurity15: an event reaches no account that the token does not show.
func TestSecurity15(t *testing.T) {
	t.Parallel()
	h := newFullHouse(t, nil)
	token := h.token("acme", nil)
	ada := h.install(token, "ada", `{}`)
	bob := h.install(token, "bob", `{"allowMultipleCredentials":true,"externalId":"work"}`)
	narrow := h.token("acme", may(map[string]any{"integration:googleCalendar": map[string]any{"credential:" + ada: []string{"credential:read", "event"}}}))
	event := `{"name":"` + eventName + `"}`
	for _, hidden := range []string{bob, "work", "ext:work"} {
		h.want(http.StatusNotFound, narrow, http.MethodPost, "{P}/events/trigger", event, "X-Paragon-Credential", hidden)
	}
	h.want(http.StatusCreated, narrow, http.MethodPost, "{P}/events/trigger", event, "X-Paragon-Credential", ada)
	reads := h.token("acme", may(map[string]any{"integration:*": map[string]any{"credential:" + ada: []string{"event"}, "credential:" + bob: []string{"credential:read"}}}))
	h.want(http.StatusForbidden, reads, http.MethodPost, "{P}/events/trigger", event, "X-Paragon-Credential", bob)
	if told := h.http.Workflows.(*flows).told; len(told) != 1 || told[0].Credential != ada {
		t.Errorf("told = %v, want the one", told)
	}
}

// TestSecurity16: a raw token leaves for a picker where the integration allows it, else only by credential:token.
func TestSecurity16(t *testing.T) {
	t.Parallel()
	h := newFullHouse(t, nil)
	all := h.token("acme", nil)
	h.install(all, "ada", `{}`)
	id := h.installAt(all, notes, "bob", `{}`)
	h.want(http.StatusOK, all, http.MethodPost, "{P}/credentials/"+id+"/complete-setup", `{"payload":{"team":"blue"}}`)
	for _, test := range []struct {
		name, integration string
		claim             any
		want              int
	}{
		{"no claim, picker off", calendar, nil, 403},
		{"true, picker off", calendar, map[string]any{"integration:*": true}, 403},
		{"by name, picker off", calendar, map[string]any{"integration:*": []string{"credential:read", "credential:token"}}, 200},
		{"no claim, picker on", notes, nil, 200},
		{"read only, picker on", notes, map[string]any{"integration:*": []string{"credential:read"}}, 403},
		{"proxy, picker on", notes, map[string]any{"integration:*": []string{"credential:read", "proxy"}}, 200},
	} {
		got := h.do(h.token("acme", may(test.claim)), http.MethodGet, "{P}/credentials?integration="+test.integration+"&includeAccountAuth=true", "")
		auth, _ := got.json(t)["accountAuth"].(map[string]any)
		token, _ := auth["OAUTH_ACCESS_TOKEN"].(string)
		if got.Status != test.want || strings.HasPrefix(token, "at-") != (test.want == 200) || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s = %d %s, want %d", test.name, got.Status, got.Body, test.want)
		}
	}
	for _, path := range []string{"{P}/me", "{P}/credentials", "{P}/credentials/" + id, "{P}/credentials?integration=notes", "{P}/credentials?integration=notes&includeAccountAuth=1"} {
		if got := h.want(http.StatusOK, all, http.MethodGet, path, ""); bytes.Contains(got.Body, []byte("at-")) || bytes.Contains(got.Body, []byte("rt-")) {
			t.Errorf("%s holds a token: %s", path, got.Body)
		}
	}
}

// TestSecurity17: passwords are never read back, and stay when settings are replaced without them.
func TestSecurity17(t *testing.T) {
	t.Parallel()
	h := newFullHouse(t, nil)
	token := h.token("acme", nil)
	id := h.installAt(token, notes, "ada", `{}`)
	at := "{P}/credentials/" + id
	const secret = "canary-of-the-webhook"
	set := h.want(http.StatusOK, token, http.MethodPatch, at, `{"config":{"sharedSettings":{"folder":"a","webhook":"`+secret+`"}}}`)
	kept := h.want(http.StatusOK, token, http.MethodPatch, at, `{"config":{"sharedSettings":{"folder":"b"}}}`)
	for _, got := range []answer{
		set, kept, h.do(token, http.MethodGet, at, ""), h.do(token, http.MethodGet, "{P}/me", ""), h.do(token, http.MethodGet, "{P}/integrations", ""),
		h.do(token, http.MethodGet, "{P}/credentials?integration=notes", "", "X-Paragon-Credential", id), h.do(token, http.MethodPost, at+"/configurations", "{}"),
	} {
		if bytes.Contains(got.Body, []byte(secret)) || got.Status >= 400 {
			t.Errorf("%d, with the password: %s", got.Status, got.Body)
		}
	}
	user := h.engine.User("acme")
	if stored, err := user.Password(t.Context(), core.Selector{Credential: id}, "settings.webhook"); err != nil || stored.Reveal() != secret {
		t.Errorf("Password = %v, want what was set", err)
	}
	h.want(http.StatusOK, token, http.MethodPatch, at, `{"config":{"sharedSettings":{"webhook":null}}}`)
	if _, err := user.Password(t.Context(), core.Selector{Credential: id}, "settings.webhook"); err == nil {
		t.Error("null does not take the password away")
	}
}

// TestSecurity20_Runs: what a workflow answers does nothing on our origin in a browser.
func TestSecurity20_Runs(t *testing.T) {
	t.Parallel()
	work := newFlows()
	work.run = func(w http.ResponseWriter, _ *http.Request) error {
		for _, name := range []string{"Set-Cookie", "Clear-Site-Data", "Alt-Svc", "Service-Worker-Allowed", "Content-Security-Policy", "X-Kept"} {
			w.Header().Set(name, "x=1")
		}
		w.Header().Set("Content-Type", "text/html")
		_, err := w.Write([]byte("<script>"))
		return err
	}
	h := newFullHouse(t, func(_ *core.Options, o *httpapi.Options) { o.Workflows = work })
	token := h.token("acme", nil)
	h.install(token, "ada", `{}`)
	got := h.want(http.StatusOK, token, http.MethodPost, "{P}/triggers/"+flowID, "{}")
	for name, want := range map[string]string{
		"Set-Cookie": "", "Clear-Site-Data": "", "Alt-Svc": "", "Service-Worker-Allowed": "", "X-Kept": "x=1",
		"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff",
	} {
		if value := got.Header.Get(name); value != want {
			t.Errorf("%s = %q, want %q", name, value, want)
		}
	}
}

// TestSecurity27: no token, code, key or URL of a host's error comes into logs, errors, spans or metrics, whatever ends in an
// error or a panic.
func TestSecurity27(t *testing.T) {
	t.Parallel()
	work, told := newFlows(), &telemetrytest.Recorder{}
	h := newFullHouse(t, func(o *core.Options, p *httpapi.Options) {
		p.Workflows, o.MeterProvider, o.TracerProvider, p.LegacyNavigation = work, told, told, true
	})
	token := h.token("acme", nil)
	h.install(token, "ada", `{}`)
	h.impatient()
	run := func() answer { return h.do(token, http.MethodPost, "{P}/triggers/"+flowID+"?userToken="+token, "{}") }
	work.run = func(http.ResponseWriter, *http.Request) error { panic("canary-panic " + token) }
	if got := run(); got.Status != http.StatusInternalServerError || got.json(t)["code"] != "internal" {
		t.Errorf("a panic = %d %s", got.Status, got.Body)
	}
	work.run = func(http.ResponseWriter, *http.Request) error {
		return fmt.Errorf("step: %w", &url.Error{Op: "Get", URL: "https://api.example.com/?key=canary-key", Err: &net.OpError{Op: "dial", Err: fmt.Errorf("canary-inner")}})
	}
	answers := []answer{run()}
	for _, path := range []string{
		"{P}/actions/oauth-nonce?userToken=" + token, "{P}/actions/build-oauth?userToken=" + token + "canary", "/v2{P}/actions/build-oauth?userToken=" + token,
		"/canary-path?userToken=" + token, "/callback/googleCalendar?code=code-canary&state=canary-state", "/connect/hop/canary-handle",
		"{P}/credentials/canary-id", "{P}/actions/session-id/canary-key%00", "/projects/canary/sdk/me", "{P}/credentials?integration=canary-integration",
	} {
		answers = append(answers, h.do(token, http.MethodGet, path, ""))
	}
	answers = append(answers, h.do("canary.canary.canary", "CANARY", "{P}/me", ""), h.do(token, http.MethodPost, "{P}/credentials", `{"canary`),
		h.do(token, http.MethodPost, "{P}/credentials", `{"integrationId":"`+keys+`","payload":{"apiKey":"canary-key"}}`))
	for _, got := range answers {
		if bytes.Contains(got.Body, []byte("canary")) || bytes.Contains(got.Body, []byte(token)) {
			t.Errorf("an answer repeats what it should not: %s", got.Body)
		}
	}
	if err := told.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := told.Text(); strings.Contains(text, "canary") || strings.Contains(text, "eyJ") || strings.Contains(text, "acme") || !strings.Contains(text, "polycred.http.request") {
		t.Errorf("telemetry: %s", text)
	}
}

// TestTelemetry: a request is measured under its route, method and status, and is a span.
func TestTelemetry(t *testing.T) {
	t.Parallel()
	told := &telemetrytest.Recorder{}
	h := newHouse(t, func(o *core.Options, _ *httpapi.Options) { o.MeterProvider, o.TracerProvider = told, told })
	token := h.token("acme", nil)
	ada := h.install(token, "ada", `{}`)
	told.Forget()
	for _, path := range []string{"{P}/credentials/" + ada, "/x", "{P}/proxy/googleCalendar/api/me"} {
		h.direct(token, http.MethodGet, path, "")
	}
	for _, labels := range [][]string{
		{"http.route=/projects/{project}/sdk/credentials/{credential}", "http.request.method=GET", "http.response.status_code=200"},
		{"http.route=_OTHER", "http.response.status_code=404"},
		{"http.route=/projects/{project}/sdk/proxy/{integration}/{path...}"},
	} {
		if n := told.Count("polycred.http.request.duration", labels...); n != 1 {
			t.Errorf("%d requests with %v, want one: %s", n, labels, told.Text())
		}
	}
	for _, s := range told.Spans() {
		if s.Name == "polycred.http.request" && s.Ended == 1 && s.Attributes["polycred.credential"] == ada {
			return
		}
	}
	t.Errorf("no span of the request: %v", told.Spans())
}

// TestSecurity28: limits before authentication, by address, and after, by token; and a quota of open connect sessions.
func TestSecurity28(t *testing.T) {
	t.Parallel()
	limited := func(got answer) bool {
		return got.Status == http.StatusTooManyRequests && got.Header.Get("Retry-After") != "" && got.Header.Get("Retry-After") != "0"
	}
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		address := "10.0.0.1"
		h := newHouse(t, func(_ *core.Options, o *httpapi.Options) {
			o.FailureRate, o.ClientAddress = 0.01, func(*http.Request) string { return address }
		})
		token := h.token("acme", nil)
		h.want(http.StatusUnauthorized, "wrong", http.MethodGet, "{P}/me", "")
		if got := h.do(token, http.MethodGet, "{P}/me", ""); !limited(got) || got.json(t)["code"] != "rate_limited" || got.Header.Get("Retry-After") == "1" {
			t.Errorf("after too many bad tokens = %d %v", got.Status, got.Header)
		}
		if got := h.window().get(h.server.URL + "/connect/hop/x"); limited(got) { // a page could send its visitors there
			t.Errorf("the hop after too many bad tokens = %d, want a limit of its own", got.Status)
		}
		address = "10.0.0.2"
		h.want(http.StatusOK, token, http.MethodGet, "{P}/me", "")
		address = "10.0.0.1" // who is known is not locked out by others
		h.want(http.StatusOK, token, http.MethodGet, "{P}/me", "")
		for i, path := range []string{"/connect/hop/guessed", "/callback/googleCalendar?state=guessed&code=x"} { // guesses count too
			address = fmt.Sprintf("10.0.1.%d", i)
			w := h.window()
			w.refused(path, w.get(h.server.URL+path))
			if got := w.get(h.server.URL + path); !limited(got) {
				t.Errorf("%s once more = %d", path, got.Status)
			}
		}
		address = "2001:db8::1" // and whoever has one address of a network has 2^64
		h.do("wrong", http.MethodGet, "{P}/me", "")
		address = "2001:db8::ffff:1"
		if got := h.do(h.token("acme", nil), http.MethodGet, "{P}/me", ""); !limited(got) {
			t.Errorf("the next address of the network = %d", got.Status)
		}
	})
	t.Run("after", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, func(_ *core.Options, o *httpapi.Options) { o.Rate = 0.5 })
		token := h.token("acme", nil)
		h.want(http.StatusOK, token, http.MethodGet, "{P}/me", "")
		h.want(http.StatusOK, token, http.MethodGet, "{P}/me", "")
		if got := h.do(token, http.MethodGet, "{P}/integrations", ""); !limited(got) {
			t.Errorf("the third request = %d", got.Status)
		}
		if got := h.window().nonce(token, calendar); !limited(got) {
			t.Errorf("the page with the token = %d %v", got.Status, got.Header)
		}
		h.want(http.StatusOK, h.token("other", nil), http.MethodGet, "{P}/me", "")
	})
	t.Run("sessions", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, func(o *core.Options, _ *httpapi.Options) { o.OpenSessions = 2 })
		token := h.token("acme", nil)
		h.begin(token, calendar, "1", `{}`)
		h.begin(token, calendar, "2", `{}`)
		if got := h.buildOAuth(token, calendar, "3", `{}`); !limited(got) {
			t.Errorf("a third open session = %d %v %s", got.Status, got.Header, got.Body)
		}
		h.begin(h.token("other", nil), calendar, "1", `{}`)
	})
	t.Run("polls", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, nil)
		httpapi.SetHolds(h.handler, time.Minute, time.Minute, time.Minute)
		token := h.token("acme", nil)
		held := make(chan answer, 200)
		for range 100 { // 64 of them are held
			go func() {
				held <- h.direct(token, http.MethodGet, "{P}/actions/session-id/x", "")
			}()
		}
		for range 36 {
			select {
			case got := <-held:
				if got.Status != http.StatusOK {
					t.Fatalf("a poll beyond the limit = %d", got.Status)
				}
			case <-h.soon().Done():
				t.Fatal("more polls are held than there may be")
			}
		}
		_ = httpapi.Server(h.handler).Shutdown(h.soon())
	})
}
