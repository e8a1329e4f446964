package coretest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core/coretest"
	"golang.org/x/oauth2"
)

// callback is where nobody listens: the browser stops before it gets there.
const callback = "http://127.0.0.1:1/callback/demo"

// setup is a server with a clock and a client that knows it only by its addresses.
type setup struct {
	*coretest.OAuthServer
	clock   *coretest.Clock
	browser *coretest.Browser
	conf    oauth2.Config
}

// start starts a server at which ada is signed in.
func start(t *testing.T, change func(*coretest.OAuthServerOptions)) *setup {
	t.Helper()
	clock := coretest.NewClock(time.Time{})
	opts := coretest.OAuthServerOptions{Now: clock.Now}
	if change != nil {
		change(&opts)
	}
	srv, err := coretest.NewOAuthServer(&opts)
	if err != nil {
		t.Fatalf("NewOAuthServer: %v", err)
	}
	t.Cleanup(srv.Close)
	srv.AddAccount(coretest.Account{Subject: "ada", Name: "Ada Lovelace", Email: "ada@example.com", Tenant: "engine"})
	return &setup{
		OAuthServer: srv,
		clock:       clock,
		browser:     coretest.NewBrowser(),
		conf: oauth2.Config{
			ClientID:     srv.ClientID(),
			ClientSecret: srv.ClientSecret(),
			RedirectURL:  callback,
			Scopes:       []string{"openid", "read"},
			Endpoint: oauth2.Endpoint{
				AuthURL:   srv.AuthorizationURL(),
				TokenURL:  srv.TokenURL(),
				AuthStyle: oauth2.AuthStyleInHeader,
			},
		},
	}
}

// consent goes through the authorization endpoint and returns what comes back.
func (s *setup) consent(t *testing.T, verifier string, opts ...oauth2.AuthCodeOption) url.Values {
	t.Helper()
	if verifier != "" {
		opts = append(opts, oauth2.S256ChallengeOption(verifier))
	}
	page, err := s.browser.OpenUntil(t.Context(), s.conf.AuthCodeURL("state-1", opts...), callback)
	if err != nil {
		t.Fatalf("OpenUntil: %v", err)
	}
	if page.Status != 0 {
		t.Fatalf("authorization answered %d without a redirect: %s", page.Status, page.Body)
	}
	u, err := url.Parse(page.URL)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return u.Query()
}

// connect is consent and exchange.
func (s *setup) connect(t *testing.T) *oauth2.Token {
	t.Helper()
	verifier := oauth2.GenerateVerifier()
	q := s.consent(t, verifier)
	tok, err := s.conf.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatalf("Exchange: %v", err)
	}
	return tok
}

// refresh spends a refresh token.
func (s *setup) refresh(ctx context.Context, token string) (*oauth2.Token, error) {
	return s.conf.TokenSource(ctx, &oauth2.Token{RefreshToken: token}).Token()
}

// mustRefresh is a refresh that must succeed.
func (s *setup) mustRefresh(t *testing.T, token string) *oauth2.Token {
	t.Helper()
	tok, err := s.refresh(t.Context(), token)
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	return tok
}

// wantCode checks the OAuth error code of a failed exchange or refresh.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var re *oauth2.RetrieveError
	if !errors.As(err, &re) || re.ErrorCode != code {
		t.Fatalf("error = %v (%T), want an oauth2.RetrieveError with code %q", err, err, code)
	}
}

// answer is what a plain request was answered.
type answer struct {
	status int
	header http.Header
	body   string
}

// json decodes the body.
func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("decode %q: %v", a.body, err)
	}
	return m
}

// client follows no redirects and shares no connections.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// send makes a plain request; header is name, value, name, value ….
func send(ctx context.Context, method, url string, form url.Values, header ...string) (answer, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return answer{}, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

// mustSend is send that must be answered.
func mustSend(t *testing.T, method, url string, form url.Values, header ...string) answer {
	t.Helper()
	a, err := send(t.Context(), method, url, form, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

// me asks the API who the token stands for.
func (s *setup) me(t *testing.T, token string) answer {
	t.Helper()
	return mustSend(t, http.MethodGet, s.APIURL()+"/me", nil, "Authorization", "Bearer "+token)
}

// wantLive checks whether an access token works at the API.
func (s *setup) wantLive(t *testing.T, token string, live bool) {
	t.Helper()
	want := http.StatusUnauthorized
	if live {
		want = http.StatusOK
	}
	if a := s.me(t, token); a.status != want {
		t.Fatalf("GET /api/me = %d %s, want %d", a.status, a.body, want)
	}
}
