package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/internal/need"
)

// TestMain builds the program once, into a directory that goes with the tests.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "oauthserver")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "oauthserver")
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

var (
	binary string
	built  sync.Once
)

// build returns the path of the program.
func build(t *testing.T) string {
	t.Helper()
	goCommand := need.Program(t, "go")
	built.Do(func() {
		if out, err := exec.Command(goCommand, "build", "-buildvcs=false", "-o", binary, ".").CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	})
	return binary
}

// program is one that runs, and the addresses it printed.
type program struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr *bytes.Buffer

	URL              string `json:"url"`
	Issuer           string `json:"issuer"`
	AuthorizationURL string `json:"authorizationUrl"`
	TokenURL         string `json:"tokenUrl"`
	UserInfoURL      string `json:"userInfoUrl"`
	RevocationURL    string `json:"revocationUrl"`
	JWKSURL          string `json:"jwksUrl"`
	APIURL           string `json:"apiUrl"`
	ClientID         string `json:"clientId"`
	ClientSecret     string `json:"clientSecret"`
	ControlURL       string `json:"controlUrl"`
}

// start runs the program and reads its line. When the test ends, the program has been ended, by closing its input
// unless the test did it in another way, and has said that it went well.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	p := &program{stderr: &bytes.Buffer{}}
	p.cmd = exec.CommandContext(ctx, build(t), append([]string{"-stdin"}, args...)...)
	p.cmd.Stderr = p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		defer cancel()
		_ = p.stdin.Close()
		rest, err := io.ReadAll(p.stdout)
		if err != nil || len(rest) > 0 {
			t.Errorf("standard output goes on with %q (%v), want one line", rest, err)
		}
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the program ended with %v, want status 0\n%s", err, p.stderr)
		}
	})
	p.stdout = bufio.NewReader(stdout)
	line, err := p.stdout.ReadBytes('\n')
	if err != nil {
		t.Fatalf("read the first line: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		t.Fatalf("decode %s: %v", line, err)
	}
	return p
}

// client follows no redirects and shares no connections.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// answer is what a request was answered.
type answer struct {
	status   int
	location string
	object   map[string]any // the body, if it is JSON
}

// send makes a request with a body; header is name, value, name, value ….
func send(t *testing.T, method, url, body string, header ...string) (answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatalf("NewRequest: %v", err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, location: resp.Header.Get("Location")}
	if resp.Header.Get("Content-Type") == "application/json" {
		err = json.NewDecoder(resp.Body).Decode(&a.object)
	}
	return a, err
}

// steer makes a request of the control that must be answered with that status.
func (p *program) steer(t *testing.T, status int, method, name, body string, header ...string) map[string]any {
	t.Helper()
	a, err := send(t, method, p.ControlURL+"/"+name, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, name, err)
	}
	if a.status != status {
		t.Fatalf("%s %s %s = %d %v, want %d", method, name, body, a.status, a.object, status)
	}
	return a.object
}

const (
	callback  = "http://127.0.0.1:1/callback"
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636, appendix B
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// token makes a token request.
func (p *program) token(t *testing.T, form url.Values) (map[string]any, error) {
	t.Helper()
	form.Set("client_id", p.ClientID)
	form.Set("client_secret", p.ClientSecret)
	a, err := send(t, http.MethodPost, p.TokenURL, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	return a.object, err
}

func (p *program) refresh(t *testing.T, token any) (map[string]any, error) {
	t.Helper()
	return p.token(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {fmt.Sprint(token)}})
}

// consent is what comes back to the callback.
func (p *program) consent(t *testing.T) url.Values {
	t.Helper()
	a, err := send(t, http.MethodGet, p.AuthorizationURL+"?"+url.Values{
		"response_type": {"code"}, "client_id": {p.ClientID}, "redirect_uri": {callback}, "state": {"s-1"},
		"scope": {"openid"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}.Encode(), "")
	if err != nil {
		t.Fatalf("authorize: %v", err)
	}
	back, err := url.Parse(a.location)
	if err != nil || !strings.HasPrefix(a.location, callback+"?") {
		t.Fatalf("authorize = %d to %q, want a redirect to the callback", a.status, a.location)
	}
	return back.Query()
}

// connect is consent and exchange.
func (p *program) connect(t *testing.T) map[string]any {
	t.Helper()
	m, err := p.token(t, url.Values{
		"grant_type": {"authorization_code"}, "code": {p.consent(t).Get("code")},
		"redirect_uri": {callback}, "code_verifier": {verifier},
	})
	if err != nil || m["access_token"] == nil {
		t.Fatalf("exchange = %v %v, want tokens", m, err)
	}
	return m
}

// me is the status and the subject that the API answers a token with.
func (p *program) me(t *testing.T, token any) (int, any) {
	t.Helper()
	a, err := send(t, http.MethodGet, p.APIURL+"/me", "", "Authorization", fmt.Sprint("Bearer ", token))
	if err != nil {
		t.Fatalf("GET /me: %v", err)
	}
	return a.status, a.object["subject"]
}

// signal sends a signal and returns when the program has closed its output. The clean-up sees that it ends well.
func (p *program) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("Signal: %v", err)
	}
	if _, err := p.stdout.Peek(1); !errors.Is(err, io.EOF) {
		t.Errorf("standard output after %v: %v, want its end", sig, err)
	}
}

// waiting returns when a request is kept waiting.
func (p *program) waiting(t *testing.T) {
	t.Helper()
	for p.steer(t, 200, http.MethodGet, "calls", "")["waiting"] != 1.0 {
		if t.Context().Err() != nil {
			t.Fatal("the request never began to wait")
		}
	}
}
