package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestWholeFlow(t *testing.T) {
	t.Parallel()
	p := start(t, "-account", "ada")
	if p.Issuer != p.URL || p.ClientID != "demo-client" || p.ClientSecret != "demo-secret" {
		t.Errorf("the first line says %+v", p)
	}
	for _, address := range []string{p.JWKSURL, p.Issuer + "/.well-known/openid-configuration"} {
		if a, err := send(t, http.MethodGet, address, ""); err != nil || a.status != 200 || len(a.object) == 0 {
			t.Errorf("GET %s = %+v %v, want an object", address, a, err)
		}
	}
	tok := p.connect(t)
	if status, subject := p.me(t, tok["access_token"]); status != 200 || subject != "ada" {
		t.Errorf("me = %d %v, want ada", status, subject)
	}

	// The answer to a refresh is lost, after the refresh token is spent.
	p.steer(t, 200, http.MethodPatch, "switches", `{"rotate": true, "refresh": {"lostReply": true, "times": 1}}`)
	now := p.steer(t, 200, http.MethodGet, "clock", "")["now"]
	later := p.steer(t, 200, http.MethodPost, "clock", `{"advance": "1h"}`)["now"]
	if fmt.Sprint(later) <= fmt.Sprint(now) {
		t.Errorf("clock = %v after %v, want it later", later, now)
	}
	if status, _ := p.me(t, tok["access_token"]); status != 401 {
		t.Errorf("me with an expired token = %d, want 401", status)
	}
	if m, err := p.refresh(t, tok["refresh_token"]); err == nil {
		t.Errorf("refresh = %v, want a cut connection", m)
	}
	if m, err := p.refresh(t, tok["refresh_token"]); err != nil || m["error"] != "invalid_grant" {
		t.Errorf("refresh with the spent token = %v %v, want invalid_grant", m, err)
	}
	calls := p.steer(t, 200, http.MethodGet, "calls", "")
	if calls["exchange"] != 1.0 || calls["refresh"] != 2.0 || calls["waiting"] != 0.0 {
		t.Errorf("calls = %v, want 1 exchange and 2 refreshes", calls)
	}
	last, _ := p.steer(t, 200, http.MethodGet, "last", "")["refresh"].(map[string]any)
	form, _ := last["form"].(map[string]any)
	if last["method"] != "POST" || last["url"] != "/token" || fmt.Sprint(form["grant_type"]) != "[refresh_token]" {
		t.Errorf("last refresh = %v, want the request", last)
	}

	p.signal(t, os.Interrupt)
}

func TestEnds(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.signal(t, syscall.SIGTERM)

	p = start(t, "-stdin=false")
	_ = p.stdin.Close()
	p.steer(t, 200, http.MethodGet, "calls", "") // it goes on
	p.signal(t, syscall.SIGTERM)

	p = start(t, "-account", "ada", "-switches", `{"refresh": {"hang": true}}`)
	tok := p.connect(t)
	hung := make(chan error, 1)
	go func() {
		_, err := p.refresh(t, tok["refresh_token"])
		hung <- err
	}()
	p.waiting(t)
	_ = p.stdin.Close()
	if _, err := p.stdout.Peek(1); !errors.Is(err, io.EOF) {
		t.Errorf("standard output after the input's end: %v, want its end", err)
	}
	if err := <-hung; err == nil {
		t.Error("the refresh that hung was answered, want it cut by the end")
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	p := start(t)
	if got := p.consent(t).Get("error"); got != "login_required" {
		t.Errorf("consent of nobody = %q, want login_required", got)
	}
	p.steer(t, 204, http.MethodPost, "accounts", `{"subject": "ada", "tenant": "engine", "email": "ada@example.com"}`)
	p.steer(t, 204, http.MethodPost, "keys", `{"key": "key-1", "login": "ada"}`)
	ada := p.connect(t)["access_token"]
	p.steer(t, 204, http.MethodPost, "sign-in", `{"login": "bob"}`)
	bob := p.connect(t)["access_token"]
	for token, want := range map[any]any{ada: "ada", bob: "bob", "key-1": "ada"} {
		if status, subject := p.me(t, token); status != 200 || subject != want {
			t.Errorf("me = %d %v, want %v", status, subject, want)
		}
	}
	p.steer(t, 204, http.MethodPost, "revoke", `{"login": "ada"}`)
	for token, want := range map[any]int{ada: 401, bob: 200, "key-1": 401} {
		if status, _ := p.me(t, token); status != want {
			t.Errorf("me after ada was revoked = %d, want %d", status, want)
		}
	}
	p.steer(t, 204, http.MethodPost, "sign-in", `{"login": ""}`)
	if got := p.consent(t).Get("error"); got != "login_required" {
		t.Errorf("consent after signing out = %q, want login_required", got)
	}
}

func TestFlagsAndReset(t *testing.T) {
	t.Parallel()
	p := start(t, "-client-id", "c", "-client-secret", "s", "-token-lifetime", "90s", "-redirect-uri", callback,
		"-account", `{"subject": "7", "login": "cyd", "name": "Cyd"}`, "-account", "bob",
		"-switches", `{"expiresIn": "string"}`, "-clock", "2026-02-03T04:05:06Z")
	tok := p.connect(t)
	if tok["expires_in"] != "90" {
		t.Errorf("expires_in = %v, want the text 90", tok["expires_in"])
	}
	if _, subject := p.me(t, tok["access_token"]); subject != "7" {
		t.Errorf("subject = %v, want that of the first account", subject)
	}
	p.steer(t, 200, http.MethodPatch, "switches", `{"pkce": "ignored", "refresh": {"hang": true, "slow": "1ms"}}`)
	p.steer(t, 204, http.MethodPost, "sign-in", `{"login": "ada"}`)
	if got := p.steer(t, 200, http.MethodPost, "clock", `{"advance": "-6s"}`)["now"]; got != "2026-02-03T04:05:00Z" {
		t.Errorf("now = %v, want 6 seconds before where it stood", got)
	}
	hung := make(chan error, 1)
	go func() {
		_, err := p.refresh(t, tok["refresh_token"])
		hung <- err
	}()
	p.waiting(t)
	p.steer(t, 204, http.MethodPost, "reset", "")
	if err := <-hung; err == nil {
		t.Error("the refresh that hung was answered, want it cut by the reset")
	}
	sw := p.steer(t, 200, http.MethodGet, "switches", "")
	if sw["expiresIn"] != "string" || sw["pkce"] != "" || fmt.Sprint(sw["refresh"].(map[string]any)["hang"]) != "false" {
		t.Errorf("switches after reset = %v, want those of the flag", sw)
	}
	if got := p.steer(t, 200, http.MethodGet, "clock", "")["now"]; got != "2026-02-03T04:05:06Z" {
		t.Errorf("now after reset = %v, want that of the flag", got)
	}
	if m, err := p.refresh(t, tok["refresh_token"]); err != nil || m["error"] != "invalid_grant" {
		t.Errorf("refresh after reset = %v %v, want invalid_grant", m, err)
	}
	if _, subject := p.me(t, p.connect(t)["access_token"]); subject != "7" {
		t.Errorf("subject after reset = %v, want that of the first account", subject)
	}
}

func TestControlRefuses(t *testing.T) {
	t.Parallel()
	p := start(t, "-account", "ada")
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		says                     string
	}{
		{"unknown path", "GET", "switch", "", nil, 404, "GET /_control/switches"},
		{"no name", "GET", "", "", nil, 404, "GET /_control/switches"},
		{"below a name", "GET", "calls/x", "", nil, 404, "GET /_control/calls"},
		{"method", "DELETE", "switches", "", nil, 405, "PATCH /_control/switches"},
		{"not JSON", "PATCH", "switches", "rotate=true", nil, 400, "JSON object"},
		{"no body", "PATCH", "switches", "", nil, 400, "JSON object"},
		{"null", "PATCH", "switches", "null", nil, 400, "JSON object"},
		{"two values", "PATCH", "switches", `{"rotate": true} {}`, nil, 400, "JSON object"},
		{"unknown switch", "PATCH", "switches", `{"rotate": true, "rotat": true}`, nil, 400, "rotat"},
		{"unknown form", "PATCH", "switches", `{"rotate": true, "pkce": "S256"}`, nil, 400, "S256"},
		{"wrong type", "PATCH", "switches", `{"rotate": "yes"}`, nil, 400, "rotate"},
		{"duration", "PATCH", "switches", `{"graceWindow": "soon"}`, nil, 400, "soon"},
		{"too large", "PATCH", "switches", strings.Repeat(" ", 1<<20+1), nil, 413, "bytes"},
		{"unknown field", "POST", "accounts", `{"sub": "ada"}`, nil, 400, "sub"},
		{"account of nobody", "POST", "accounts", `{"name": "Ada"}`, nil, 400, "subject"},
		{"key of nobody", "POST", "keys", `{"key": "k"}`, nil, 400, "login"},
		{"sign in whom", "POST", "sign-in", `{}`, nil, 400, "login"},
		{"revoke whom", "POST", "revoke", `{}`, nil, 400, "login"},
		{"advance by what", "POST", "clock", `{}`, nil, 400, "duration"},
		{"page", "PATCH", "switches", `{"rotate": true}`, []string{"Origin", "https://evil.example"}, 403, "web page"},
		{"own page", "PATCH", "switches", `{"rotate": true}`, []string{"Origin", p.URL}, 403, "web page"},
		{"page without origin", "GET", "last", "", []string{"Sec-Fetch-Site", "cross-site"}, 403, "web page"},
		{"address bar", "GET", "calls", "", []string{"Sec-Fetch-Site", "none"}, 200, ""},
		{"rebound name", "PATCH", "switches", `{"rotate": true}`, []string{"Host", "evil.example"}, 403, "127.0.0.1:"},
		{"other port", "GET", "calls", "", []string{"Host", "127.0.0.1:1"}, 403, "127.0.0.1:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := p.steer(t, tt.status, tt.method, tt.path, tt.body, tt.header...)
			message, _ := m["message"].(string)
			if !strings.Contains(message, tt.says) || tt.status != 200 && m["error"] == nil {
				t.Errorf("%s %s = %v, want an error that says %q", tt.method, tt.path, m, tt.says)
			}
		})
	}
	if got := p.steer(t, 200, http.MethodGet, "switches", "")["rotate"]; got != false {
		t.Errorf("rotate = %v, want what was refused to have changed nothing", got)
	}
	a, err := send(t, http.MethodGet, p.URL+"/_controls", "")
	if err != nil || a.status != 404 || a.object["error"] != "not_found" {
		t.Errorf("a path that the server does not have = %+v %v, want 404", a, err)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(start(t).URL)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	tests := []struct {
		args           []string
		status         int
		stdout, stderr string // parts
	}{
		{[]string{"-h"}, 0, "curl -s -X PATCH http://127.0.0.1:9090/_control/switches", ""},
		{[]string{"-help"}, 0, "-token-lifetime duration", ""},
		{[]string{"-port", "0.0.0.0:80"}, 2, "", "always 127.0.0.1"},
		{[]string{"-port", "65536"}, 2, "", "port"},
		{[]string{"-port", u.Port()}, 1, "", u.Host},
		{[]string{"-switches", `{"rotat": true}`}, 2, "", "rotat"},
		{[]string{"-account", `{"sub": "ada"}`}, 2, "", "sub"},
		{[]string{"-account", `{"name": "Ada"}`}, 1, "", "account 1"},
		{[]string{"-clock", "noon"}, 2, "", "noon"},
		{[]string{"-token-lifetime", "-1s"}, 1, "", "token lifetime"},
		{[]string{"-listen", "0.0.0.0"}, 2, "", "-listen"},
		{[]string{"serve"}, 2, "", "serve"},
	}
	for _, tt := range tests {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		cmd := exec.CommandContext(ctx, build(t), tt.args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		cancel()
		status := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			status = exit.ExitCode()
		} else if err != nil {
			t.Fatalf("%v: %v", tt.args, err)
		}
		if status != tt.status || !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%v ended with %d, %s%s, want %d, %q and %q",
				tt.args, status, &stdout, &stderr, tt.status, tt.stdout, tt.stderr)
		}
		if tt.status != 0 && stdout.Len() > 0 {
			t.Errorf("%v printed %s, want nothing on standard output", tt.args, &stdout)
		}
	}
}
