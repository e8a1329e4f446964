package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polycred/polycred/core/coretest"
)

// program builds this command once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "polycred-server-")
	if err != nil {
		return "", err
	}
	built := filepath.Join(dir, "server.exe")
	if out, err := exec.Command("go", "build", "-o", built, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return built, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

// server is a running one.
type server struct {
	*testing.T
	cmd  *exec.Cmd
	at   addresses
	log  bytes.Buffer
	ends sync.Once
}

// start runs the program on free ports until the test ends.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	built, err := program()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{T: t, cmd: exec.Command(built, append([]string{"-json", "-http", "127.0.0.1:0", "-tls", "127.0.0.1:0"}, args...)...)}
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &s.at) != nil {
		s.stop()
		t.Fatalf("the server said %q: %v: %s", line, err, &s.log)
	}
	return s
}

// stop ends it as an operator does, and waits.
func (s *server) stop() {
	s.ends.Do(func() {
		if runtime.GOOS == "windows" {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
			return
		}
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(30*time.Second, func() { _ = s.cmd.Process.Kill() })
		defer late.Stop()
		if err := s.cmd.Wait(); err != nil {
			s.Errorf("the server ended with %v: %s", err, &s.log)
		}
	})
}

// try runs the program to its end and returns what it printed.
func try(t *testing.T, args ...string) (out, complaint string, code int) {
	t.Helper()
	built, err := program()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, built, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// get makes a request with a token and returns status and body.
func get(t *testing.T, address, token string, header ...string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// The demo, from the first start to the second: a person connects an account, and the token that -mint prints acts as it.
func TestDemo(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "store")
	s := start(t, "-demo", "-data", data)
	minted, complaint, code := try(t, "-data", data, "-demo", "-mint", "user-1")
	if code != 0 {
		t.Fatalf("-mint beside a running server = %d: %s", code, complaint)
	}
	token := strings.TrimSpace(minted)
	for _, base := range []string{s.at.HTTP, s.at.TLS} {
		if status, body := get(t, base+"/projects/"+s.at.Project+"/sdk/me", token); status != http.StatusOK {
			t.Errorf("GET me on %s = %d %s", base, status, body)
		}
	}
	if status, body := get(t, s.at.App+"/", ""); status != http.StatusOK || !strings.Contains(string(body), s.at.Project) {
		t.Errorf("the demo application = %d %.200s", status, body)
	}
	account := connect(t, s, token)
	acts := func(s *server) {
		t.Helper()
		status, body := get(t, s.at.Public+"/projects/"+s.at.Project+"/sdk/proxy/googleCalendar/events", token, "X-Polycred-Credential", account)
		var answer struct{ Output call }
		if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || answer.Output.Account != "bob@example.com" {
			t.Errorf("a request as %s = %d %s, want it made as bob", account, status, body)
		}
	}
	acts(s)
	if _, complaint, code := try(t, "-demo", "-data", data, "-http", "127.0.0.1:0", "-tls", ""); code != 1 || !strings.Contains(complaint, "locked by process") {
		t.Errorf("a second server on the same store = %d %q, want it to say who has it", code, complaint)
	}
	for _, secret := range []string{data + ".kek", data + ".demo-key", data + ".declared"} {
		if info, err := os.Stat(secret); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want a file of mode 0600", secret, info, err)
		}
	}
	s.stop()
	again := start(t, "-demo", "-data", data) // the provider is another one now: only that the account is there can be seen
	if status, body := get(t, again.at.Public+"/projects/"+again.at.Project+"/sdk/credentials/"+account, token); status != http.StatusOK {
		t.Errorf("the account after a restart = %d %s", status, body)
	}
}

// connect connects bob's calendar as a browser does, and returns the account's id.
func connect(t *testing.T, s *server, token string) string {
	t.Helper()
	sdk := s.at.Public + "/projects/" + s.at.Project + "/sdk"
	q := url.Values{"action": {"googleCalendar"}, "oauthMetaKeyId": {"key-1"}, "originForPostMessage": {s.at.App}, "userToken": {token}}
	status, body := get(t, strings.Replace(sdk, "/projects", "/v2/projects", 1)+"/actions/build-oauth?"+q.Encode(), token)
	var built struct{ RedirectURL string }
	if err := json.Unmarshal(body, &built); err != nil || status != http.StatusOK {
		t.Fatalf("build-oauth = %d %s", status, body)
	}
	browser := coretest.NewBrowser()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, sdk+"/actions/oauth-nonce?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Referer", s.at.App+"/")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	nonce, err := browser.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = nonce.Body.Close()
	consent, err := browser.Open(t.Context(), built.RedirectURL)
	if err != nil || !strings.HasPrefix(consent.URL, s.at.Provider+"/consent?") {
		t.Fatalf("the hop leads to %v, %v, want the provider", consent, err)
	}
	done, err := browser.Open(t.Context(), strings.Replace(consent.URL, "/consent?", "/authorize?", 1)+"&login_hint=bob")
	if err != nil || done.Status != http.StatusOK {
		t.Fatalf("the callback: %v, %v", done, err)
	}
	status, body = get(t, sdk+"/actions/session-id/key-1", token)
	var polled struct{ ConnectCredentialID string }
	if err := json.Unmarshal(body, &polled); err != nil || polled.ConnectCredentialID == "" {
		t.Fatalf("session-id = %d %s", status, body)
	}
	return polled.ConnectCredentialID
}

// What stands in the file is what holds after a start, and what is so already is not touched.
func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, file := filepath.Join(dir, "store"), filepath.Join(dir, "config.json")
	first, second := newKey(t), newKey(t)
	write := func(title string, keys ...demoKey) {
		t.Helper()
		var pems []string
		for _, k := range keys {
			text, err := k.public()
			if err != nil {
				t.Fatal(err)
			}
			pems = append(pems, text)
		}
		text, err := json.Marshal(map[string]any{
			"project": demoProject, "publicUrl": "https://zeus.localhost:0", "signingKeys": pems, "allowedOrigins": []string{"http://127.0.0.1:1"},
			"integrations": []any{map[string]any{
				"name": "googleCalendar", "displayName": title, "provider": "google",
				"oauth2":   map[string]any{"clientId": "id", "clientSecret": "secret", "scopes": []string{"openid"}},
				"settings": []any{map[string]any{"id": "notify", "type": "switch", "default": true}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func(key demoKey) (status int, log string) {
		t.Helper()
		s := start(t, "-data", data, "-config", file)
		if !strings.HasPrefix(s.at.Public, "https://zeus.localhost:") || strings.HasSuffix(s.at.Public, ":0") {
			t.Errorf("publicUrl = %s, want the port that is served", s.at.Public)
		}
		token, err := key.token(demoProject, "user-1")
		if err != nil {
			t.Fatal(err)
		}
		status, _ = get(t, s.at.HTTP+"/projects/"+demoProject+"/sdk/me", token)
		s.stop()
		return status, s.log.String()
	}
	write("Calendar", first)
	if status, log := look(first); status != http.StatusOK || !strings.Contains(log, "was declared") {
		t.Errorf("the first start: %d, log %s", status, log)
	}
	if status, log := look(first); status != http.StatusOK || strings.Contains(log, "was declared") || strings.Contains(log, "was changed") {
		t.Errorf("the second start changed something: %d, log %s", status, log)
	}
	write("Google Calendar", second)
	if status, log := look(first); status != http.StatusUnauthorized || !strings.Contains(log, "was changed") || !strings.Contains(log, "was revoked") {
		t.Errorf("a key that is not listed any more: %d, log %s", status, log)
	}
	if status, _ := look(second); status != http.StatusOK {
		t.Errorf("the key that is listed: %d", status)
	}
	if err := os.Rename(data+".kek", data+".away"); err != nil {
		t.Fatal(err)
	}
	if _, complaint, code := try(t, "-data", data, "-config", file, "-http", "", "-tls", "127.0.0.1:0"); code != 1 || !strings.Contains(complaint, "put "+data+".kek back") {
		t.Errorf("a store without its key = %d %q", code, complaint)
	}
}

func newKey(t *testing.T) demoKey {
	t.Helper()
	k, err := newDemoKey("")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRefused(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing to serve for", nil, 2, "name a file with -config, or try it with -demo"},
		{"unknown flag", []string{"-dmeo"}, 2, "flag provided but not defined"},
		{"argument", []string{"-demo", "now"}, 2, `unknown argument "now"`},
		{"no address", []string{"-demo", "-http", "", "-tls", ""}, 2, "nothing to serve"},
		{"mint without a key", []string{"-mint", "user-1"}, 2, "-mint needs the key"},
		{"mint before the first start", []string{"-mint", "user-1", "-data", filepath.Join(t.TempDir(), "none")}, 1, "start the server with -demo first"},
		{"port in use", []string{"-demo", "-http", taken.Addr().String()}, 1, "name another address"},
		{"no such file", []string{"-config", filepath.Join(t.TempDir(), "none.json")}, 1, "read -config"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if out, complaint, code := try(t, test.args...); code != test.code || !strings.Contains(complaint, test.want) || out != "" {
				t.Errorf("server %v = %d, said %q, complained %q, want %d and %q", test.args, code, out, complaint, test.code, test.want)
			}
		})
	}
}

func TestParseConfig(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"syntax", "{\n\"project\": }", "line 2: invalid character"},
		{"more behind it", "{}\n{}", "line 2: there is something behind the object"},
		{"unknown field", `{"origins": []}`, "origins: there is no such field"},
		{"unknown field deep down", `{"integrations": [{"name": "a"}, {"name": "b", "oauth2": {"clientID": "x"}}]}`, "integrations.1.oauth2.clientID: there is no such field"},
		{"unknown field of a variable", `{"integrations": [{"name": "a", "variables": {"shop": {"regexp": "x"}}}]}`, "integrations.0.variables.shop.regexp: there is no such field"},
		{"set by polycred", `{"integrations": [{"name": "a", "revision": 3}]}`, "integrations.0.revision: there is no such field"},
		{"type", "{\n\"allowedOrigins\": \"https://a.example\"}", "line 2: allowedOrigins: is a string"},
		{"nameless", `{"integrations": [{}]}`, "integrations.0.name: is empty"},
		{"twice", `{"integrations": [{"name": "a"}, {"name": "a"}]}`, "integrations.1.name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseConfig([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("parseConfig(%s) = %v, want %q", test.text, err, test.want)
			}
		})
	}
}
