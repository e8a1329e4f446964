package catalog_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

const callbackURL = "http://127.0.0.1:1/callback" // nobody serves it

// play is a provider as it answers. In its texts ORIGIN stands for the URL of the server that plays it, HOST for its host,
// CLIENT for the client id, EXPIRY for a time in an hour, and ID_TOKEN(claims) for a token with these claims. In the answer to
// a code NONCE stands for the nonce that was sent.
type play struct {
	name     string // of the case; begins with that of the catalog entry
	scopes   []string
	change   func(*core.Integration, *coretest.OAuthServer) // beside the hosts of the endpoints
	callback map[string]string                              // what the redirect back has beside code and state
	exchange string                                         // the answer to the code
	userInfo string

	account      core.ProviderAccount
	granted      []string
	lifetime     time.Duration     // 0: none is told
	encoding     string            // the Content-Type of token requests; empty means a form
	form         map[string]string // further parameters of token requests
	authorize    map[string]string // parameters of the authorization request
	refresh      string            // the answer to a refresh
	access       string            // the token it brings; empty where the provider knows no refresh
	afterRefresh time.Duration     // its lifetime
	spends       []string          // the refresh tokens that two refreshes in a row spend
	errors       []failure
}

// failure is one error of a token endpoint.
type failure struct {
	exchange bool // at the code, else at the refresh
	status   int  // 0: 200
	body     string
	header   map[string]string
	class    core.FailureClass
	code     string
	invalid  bool // the account has to be connected again
	setup    bool // the operator has to act
}

// stage is a server that plays a provider, and an engine that takes it for that.
type stage struct {
	*testing.T
	play   *play
	clock  *coretest.Clock
	server *coretest.OAuthServer
	engine *core.Engine

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

func newStage(t *testing.T, p *play) *stage {
	t.Helper()
	s := &stage{T: t, play: p, clock: coretest.NewClock(time.Time{})}
	server, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{Now: s.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s.server = server
	server.SignIn("ada")
	server.Set(func(sw *coretest.Switches) {
		sw.OmitIssuer, sw.ExtraCallbackParams, sw.TokenRequests = true, map[string]string{}, coretest.TokenRequestsAny
		for name, value := range p.callback {
			sw.ExtraCallbackParams[name] = s.text(value)
		}
		if p.userInfo != "" {
			sw.UserInfo = answer(http.StatusOK, s.text(p.userInfo), nil)
		}
	})
	s.engine = coretest.NewEngine(t, &core.Options{
		CallbackURL: callbackURL, PrivateHosts: []string{server.Host()}, Now: s.clock.Now,
		Logger: slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clean(s.log.String())
	})
	if _, err := s.engine.CreateIntegration(t.Context(), s.integration()); err != nil {
		t.Fatal(err)
	}
	return s
}

// integration is the catalog's, but that its endpoints are the server's.
func (s *stage) integration() core.Integration {
	provider, _, _ := strings.Cut(s.play.name, " ")
	in := core.Integration{
		Name: "it", Provider: provider,
		OAuth2: &core.OAuth2{
			ClientID: s.server.ClientID(), ClientSecret: crypto.NewSecret(s.server.ClientSecret()), Scopes: s.play.scopes,
			AuthorizationURL: s.server.AuthorizationURL(), TokenURL: s.server.TokenURL(),
		},
		AllowedHosts: []string{s.server.URL()},
	}
	if s.play.userInfo != "" {
		in.Identity.URL = s.server.UserInfoURL()
	}
	if s.play.change != nil {
		s.play.change(&in, s.server)
	}
	return in
}

// text fills in what a text of the play stands for.
func (s *stage) text(raw string) string {
	raw = strings.NewReplacer("ORIGIN", s.server.URL(), "HOST", s.server.Host(), "CLIENT", s.server.ClientID(), "EXPIRY", fmt.Sprint(s.clock.Now().Add(time.Hour).Unix())).Replace(raw)
	before, rest, found := strings.Cut(raw, "ID_TOKEN(")
	if !found {
		return raw
	}
	claims, after, _ := strings.Cut(rest, ")")
	part := base64.RawURLEncoding.EncodeToString
	return before + part([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature")) + after
}

func answer(status int, body string, header map[string]string) coretest.Fault {
	return coretest.Fault{Garbage: &coretest.Garbage{Status: status, ContentType: "application/json;charset=UTF-8", Body: body, Header: header}}
}

// connect connects the account for a user, with what the code earns, a text of the play.
func (s *stage) connect(user string, exchange coretest.Fault, in core.ConnectInput) (core.Credential, error) {
	s.Helper()
	in.Integration, in.Browser = "it", "browser"
	session, err := s.engine.User(user).Connect(s.Context(), in)
	if err != nil {
		s.Fatal(err)
	}
	asked, err := url.Parse(session.URL)
	if err != nil {
		s.Fatal(err)
	}
	body := *exchange.Garbage
	body.Body = s.text(strings.ReplaceAll(body.Body, "NONCE", asked.Query().Get("nonce")))
	exchange.Garbage = &body
	s.server.Set(func(sw *coretest.Switches) { sw.Exchange = exchange })
	page, err := coretest.NewBrowser().OpenUntil(s.Context(), session.URL, callbackURL)
	if err != nil {
		s.Fatal(err)
	}
	at, err := url.Parse(page.URL)
	if err != nil || !strings.HasPrefix(page.URL, callbackURL) {
		s.Fatalf("the provider did not redirect: %s %s", page.URL, page.Body)
	}
	result, err := s.engine.Callback(s.Context(), core.CallbackInput{Integration: "it", Values: at.Query(), Browser: "browser"})
	if err != nil {
		s.clean(err.Error())
		return core.Credential{}, err
	}
	return result.Credential, nil
}

func (s *stage) mustConnect(user, exchange string) core.Credential {
	s.Helper()
	credential, err := s.connect(user, answer(http.StatusOK, exchange, nil), core.ConnectInput{})
	if err != nil {
		s.Fatalf("connect: %v", err)
	}
	return credential
}

// use makes the engine refresh, and returns what came of it: a token that has ended is asked for, and one that never ends
// is refused by the API.
func (s *stage) use(user string, credential core.Credential) error {
	s.Helper()
	sel := core.Selector{Credential: credential.ID}
	if !credential.ValidUntil.IsZero() {
		s.clock.Set(credential.ValidUntil.Add(2 * time.Minute))
		_, err := s.engine.User(user).Token(s.Context(), sel)
		return err
	}
	s.clock.Advance(time.Hour)
	client, err := s.engine.User(user).Client(s.Context(), sel)
	if err != nil {
		s.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.server.APIURL()+"/me", nil)
	if err != nil {
		s.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

func (s *stage) credential(user, id string) core.Credential {
	s.Helper()
	credential, err := s.engine.User(user).Credential(s.Context(), core.Selector{Credential: id})
	if err != nil {
		s.Fatal(err)
	}
	return credential
}

// Write takes log lines.
func (s *stage) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

// clean fails the test when a text repeats what a provider wrote beside codes.
func (s *stage) clean(text string) {
	s.Helper()
	for _, canary := range []string{"canary", "at-", "rt-"} {
		if strings.Contains(text, canary) {
			s.Errorf("%q stands in what was logged or returned as an error: %s", canary, text)
		}
	}
}

// lasting returns a token answer that ends in an hour, whatever it said before.
func (s *stage) lasting(body, tokenPath string) string {
	s.Helper()
	before, rest, _ := strings.Cut(body, "ID_TOKEN(") // which is no JSON yet
	claims, after, found := strings.Cut(rest, ")")
	if found {
		body = before + "ID_TOKEN()" + after
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(body), &fields); err != nil {
		s.Fatal(err)
	}
	tokens := fields
	if tokenPath != "" {
		tokens = fields[tokenPath].(map[string]any)
	}
	tokens["expires_in"] = 3600
	if _, ok := tokens["refresh_token"]; !ok {
		tokens["refresh_token"] = "rt-1"
	}
	text, err := json.Marshal(fields)
	if err != nil {
		s.Fatal(err)
	}
	return strings.Replace(string(text), "ID_TOKEN()", "ID_TOKEN("+claims+")", 1)
}
