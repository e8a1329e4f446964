package core_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// client returns the client of a credential, or of the only account at the calendar.
func (w *world) client(credential string) *http.Client {
	w.Helper()
	sel := core.Selector{Credential: credential}
	if credential == "" {
		sel.Integration = calendar
	}
	client, err := w.engine.User("u").Client(w.Context(), sel)
	if err != nil {
		w.Fatal(w.note(err))
	}
	return client
}

// echo is what /echo of the provider's API answers.
type echo struct {
	Method, Path, Query, Body string
	Header                    http.Header
}

// answered is a response whose body was read.
type answered struct {
	StatusCode int
	Header     http.Header
	Request    *http.Request
}

// do sends a request and reads the answer; into may be nil.
func (w *world) do(client *http.Client, req *http.Request, into any) (answered, error) {
	w.Helper()
	resp, err := client.Do(req)
	if err != nil {
		return answered{}, w.note(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		w.Errorf("read the answer: %v", err)
	}
	return answered{resp.StatusCode, resp.Header, resp.Request}, nil
}

// request makes a request to the provider's API, or to a whole URL.
func (w *world) request(method, target string, body io.Reader) *http.Request {
	w.Helper()
	if strings.HasPrefix(target, "/") {
		target = w.provider.APIURL() + target
	}
	req, err := http.NewRequestWithContext(w.Context(), method, target, body)
	if err != nil {
		w.Fatal(err)
	}
	return req
}

// me asks whose client this is.
func (w *world) me(client *http.Client) (string, error) {
	w.Helper()
	var me struct{ Account string }
	_, err := w.do(client, w.request(http.MethodGet, "/me", nil), &me)
	return me.Account, err
}

// wantStatus sends a request and fails the test unless it is answered by this status.
func (w *world) wantStatus(what string, client *http.Client, req *http.Request, want int) {
	w.Helper()
	resp, err := w.do(client, req, nil)
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	if resp.StatusCode != want {
		w.Errorf("%s: status = %d, want %d", what, resp.StatusCode, want)
	}
}

// unauthorized has the API answer the next n requests by 401 although their token is good.
func (w *world) unauthorized(n int) {
	w.provider.Set(func(sw *coretest.Switches) { sw.Unauthorized = n })
}

// closeSpy is a body that tells when it was closed.
type closeSpy struct {
	io.Reader
	once   sync.Once
	closed chan struct{}
}

func newCloseSpy(text string) *closeSpy {
	return &closeSpy{Reader: strings.NewReader(text), closed: make(chan struct{})}
}

func (b *closeSpy) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// wantClosed waits until a body is closed, which may be after the request returned.
func (w *world) wantClosed(what string, body *closeSpy) {
	w.Helper()
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-body.closed:
	case <-timer.C:
		w.Errorf("%s: the body of the request was not closed", what)
	}
}

func TestClientKeyPlaces(t *testing.T) {
	t.Parallel()
	const key, target = "canary-key/+&=", "/echo?b=2&a=1;x&bad=%zz&api_key=own&flag"
	for _, tt := range []struct {
		name  string
		place core.APIKey
		check func(echo) bool
	}{
		{"bearer", core.APIKey{}, func(e echo) bool {
			return e.Header.Get("Authorization") == "Bearer "+key && "/echo?"+e.Query == target
		}},
		{"header", core.APIKey{In: core.KeyHeader, Name: "X-API-Key"}, func(e echo) bool {
			return slices.Equal(e.Header["X-Api-Key"], []string{key}) && e.Header["Authorization"] == nil && "/echo?"+e.Query == target
		}},
		{"query", core.APIKey{In: core.KeyQuery, Name: "api_key"}, func(e echo) bool {
			return e.Query == "b=2&a=1;x&bad=%zz&flag&api_key="+url.QueryEscape(key) && e.Header["Authorization"] == nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			client := w.client(w.addKey(tt.place, key, "ada"))
			if as, err := w.me(client); as != "ada@example.com" {
				t.Errorf("as = %q, %v, want ada", as, err)
			}
			req := w.request(http.MethodGet, target, nil)
			req.Header.Set("Authorization", "Bearer own")
			req.Header["x-api-key"], req.Header["authorization"] = []string{"own"}, []string{"own"}
			sent := req.URL.String()
			var got echo
			resp, err := w.do(client, req, &got)
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(got) {
				t.Errorf("the provider got query %q and another authorisation than the account's", got.Query)
			}
			if resp.Request.URL.String() != sent || req.URL.String() != sent || strings.Contains(resp.Request.URL.String(), "canary") {
				t.Errorf("the response's request has URL %s, want %s", resp.Request.URL, sent)
			}
			if resp.Request.Header.Get("Authorization") != "Bearer own" {
				t.Error("the response's request has another Authorization than the program's own")
			}

			// A 401 is passed on: there is nothing to refresh.
			w.unauthorized(1)
			calls := w.provider.Calls()
			w.wantStatus("a 401", client, w.request(http.MethodGet, "/me", nil), http.StatusUnauthorized)
			if after := w.provider.Calls(); after.API != calls.API+1 || after.Refresh != 0 {
				t.Errorf("calls = %+v after %+v, want one more of the API", after, calls)
			}
			w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{LostReply: true} })
			_, err = w.do(client, w.request(http.MethodPost, target, strings.NewReader("x")), nil)
			w.wantErr("a lost reply", err, core.ErrProvider)
		})
	}
	t.Run("prefix", func(t *testing.T) {
		t.Parallel()
		var got atomic.Value
		api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("X-Auth")) }))
		defer api.Close()
		host := strings.TrimPrefix(api.URL, "http://")
		w := newWorld(t, nil, func(o *core.Options) { o.PrivateHosts = append(o.PrivateHosts, host) })
		w.provider.AddKey(key, "ada")
		_, err := w.engine.CreateIntegration(t.Context(), core.Integration{
			Name: "prefixed", APIKey: &core.APIKey{In: core.KeyHeader, Name: "X-Auth", Prefix: "Token token=", TestURL: api.URL},
			AllowedHosts: []string{api.URL},
		})
		if err != nil {
			t.Fatal(err)
		}
		credential, err := w.engine.User("u").AddKey(t.Context(), core.KeyInput{Integration: "prefixed", Key: crypto.NewSecret(key)})
		if err != nil {
			t.Fatal(w.note(err))
		}
		got.Store("")
		w.wantStatus("a request", w.client(credential.ID), w.request(http.MethodGet, api.URL, nil), http.StatusOK)
		if got.Load() != "Token token="+key {
			t.Error("the key was not sent with its prefix")
		}
	})
}

func TestClientUnauthorized(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	client := w.client(ada.ID)
	post := func() *http.Request { return w.request(http.MethodPost, "/echo", strings.NewReader("the whole body")) }

	w.unauthorized(1)
	w.wantStatus("a 401 right after the account was connected", client, post(), http.StatusUnauthorized)
	w.wantRefreshes("right after the account was connected", 0)

	w.clock.Advance(2 * time.Minute)
	old := w.mustToken("u", ada.ID)
	w.unauthorized(1)
	api := w.provider.Calls().API
	var got echo
	resp, err := w.do(client, post(), &got)
	if err != nil || resp.StatusCode != http.StatusOK || got.Body != "the whole body" {
		t.Errorf("after a 401 = status %d, %v with body %q, want it sent again", resp.StatusCode, err, got.Body)
	}
	if sent := got.Header.Get("Authorization"); sent == "Bearer "+old.Value.Reveal() || w.whose(strings.TrimPrefix(sent, "Bearer ")) != "ada@example.com" {
		t.Error("it was not sent again with a new token of the account")
	}
	w.wantRefreshes("after a 401", 1)
	if got := w.provider.Calls().API - api; got != 3 { // two, and whose
		t.Errorf("calls of the API = %d, want 3", got)
	}

	w.unauthorized(1)
	w.wantStatus("a 401 right after a refresh", client, post(), http.StatusUnauthorized)
	w.wantRefreshes("right after a refresh", 1)
	w.clock.Advance(time.Minute)
	w.unauthorized(2)
	w.wantStatus("a 401 twice", client, post(), http.StatusUnauthorized)
	w.wantRefreshes("a minute later", 2)
	w.wantAlive(ada.ID)

	t.Run("many at once", func(t *testing.T) {
		w.clock.Advance(2 * time.Hour)
		w.mustToken("u", ada.ID)
		w.clock.Advance(2 * time.Minute)
		before := w.provider.Calls().Refresh
		w.unauthorized(-1)
		together(64, func(int) {
			w.wantStatus("a 401 of many", client, post(), http.StatusUnauthorized)
		})
		w.unauthorized(0)
		w.wantRefreshes("of 64 callers", before+1)
		w.wantAlive(ada.ID)
	})
}

// What a 401 means where the request cannot be sent again, or where no refresh helps.
func TestClientUnauthorizedAndNoRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	w.provider.Set(func(sw *coretest.Switches) { sw.ExpiresIn = coretest.ExpiresInAbsent }) // only a 401 tells
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	client := w.client(ada.ID)
	refreshes := 0
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
	}{
		{"a body that is read once", func(r *http.Request) { r.GetBody = nil }},
		{"a body that cannot be read again", func(r *http.Request) {
			r.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("gone") }
		}},
	} {
		w.clock.Advance(2 * time.Minute)
		w.unauthorized(1)
		api := w.provider.Calls().API
		req := w.request(http.MethodPost, "/echo", strings.NewReader("once"))
		tt.change(req)
		var body struct{ Error string }
		resp, err := w.do(client, req, &body)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || body.Error != "invalid_token" {
			t.Errorf("%s = status %d, %v, want the provider's 401 as it is", tt.name, resp.StatusCode, err)
		}
		if got := w.provider.Calls().API - api; got != 1 {
			t.Errorf("%s was sent %d times, want once", tt.name, got)
		}
		refreshes++
		w.wantRefreshes("so that the next request works", refreshes)
		if as, err := w.me(client); as != "ada@example.com" {
			t.Errorf("the next request as %q, %v, want ada", as, err)
		}
	}

	w.clock.Advance(2 * time.Minute)
	w.refresh(garbage(500, "", "canary"))
	w.unauthorized(1)
	w.wantStatus("a 401 while nothing can be refreshed", client, w.request(http.MethodGet, "/me", nil), http.StatusUnauthorized)
	refreshes++
	w.unauthorized(1)
	w.wantStatus("another right away", client, w.request(http.MethodGet, "/me", nil), http.StatusUnauthorized)
	w.wantRefreshes("before the next attempt", refreshes)
	w.refresh(coretest.Fault{})
	w.clock.Advance(time.Second)
	w.unauthorized(1)
	w.wantStatus("a 401 when it can again", client, w.request(http.MethodGet, "/me", nil), http.StatusOK)

	w.clock.Advance(2 * time.Minute)
	w.provider.Revoke("ada")
	w.wantStatus("a 401 because the grant ended", client, w.request(http.MethodGet, "/me", nil), http.StatusUnauthorized)
	_, err := w.me(client)
	w.wantErr("the next request", err, core.ErrReconnect)
	if got := w.credential("u", ada.ID); got.Status != core.StatusInvalid {
		t.Errorf("status = %s, want INVALID", got.Status)
	}
}

func TestClientStreams(t *testing.T) {
	t.Parallel()
	arrived, more := make(chan string), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			lines := bufio.NewReader(r.Body)
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				arrived <- line
			}
		}
		_, _ = io.WriteString(rw, "first\n")
		rw.(http.Flusher).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(rw, "second\n")
	}))
	defer api.Close()
	w := newWorld(t, nil, func(o *core.Options) {
		o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(api.URL, "http://"))
		o.ProviderTimeout = 10 * time.Millisecond // bounds calls of ours, not a program's
	})
	w.opts.ProviderTimeout = 0
	connecting := w.engine
	w.engine = w.open()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.change(func(in *core.Integration) { in.AllowedHosts = []string{api.URL} })
	client, err := connecting.User("u").Client(t.Context(), core.Selector{Credential: ada.ID})
	if err != nil {
		t.Fatal(err)
	}

	resp, err := client.Get(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); line != "first\n" {
		t.Errorf("the beginning of an answer that goes on = %q, %v", line, err)
	}
	close(more)
	if line, err := lines.ReadString('\n'); line != "second\n" {
		t.Errorf("the end of the answer = %q, %v", line, err)
	}

	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		resp, err := client.Post(api.URL, "text/plain", reader)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(writer, line); err != nil {
			t.Fatal(err)
		}
		if got := <-arrived; got != line {
			t.Errorf("the provider got %q while the body goes on, want %q", got, line)
		}
	}
	_ = writer.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClientContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	client := w.client(ada.ID)
	w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{Hang: true} })

	ctx, cancel := context.WithCancel(t.Context())
	body := newCloseSpy("canary")
	failed := make(chan error, 1)
	go func() {
		_, err := w.do(client, w.request(http.MethodPost, "/me", body).WithContext(ctx), nil)
		failed <- err
	}()
	w.held(1)
	cancel()
	w.wantErr("a request that was cancelled", <-failed, context.Canceled)
	w.wantClosed("a request that was cancelled", body)

	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := w.do(client, w.request(http.MethodGet, "/me", nil).WithContext(ctx), nil)
	w.wantErr("a request that took too long", err, context.DeadlineExceeded)

	body = newCloseSpy("canary")
	_, err = w.do(client, w.request(http.MethodPost, "/me", body).WithContext(ctx), nil)
	w.wantErr("a request whose time is over", err, context.DeadlineExceeded)
	w.wantClosed("a request whose time is over", body)

	w.clock.Advance(2 * time.Hour)
	w.refresh(coretest.Fault{Hold: true})
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		_, err := w.do(client, w.request(http.MethodGet, "/me", nil).WithContext(ctx), nil)
		failed <- err
	}()
	if err := w.provider.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.Refresh == 1 && c.Waiting > 0 }); err != nil {
		t.Fatal(err)
	}
	cancel()
	w.wantErr("a request that waited for a refresh", <-failed, context.Canceled)
	w.provider.Set(func(sw *coretest.Switches) { sw.API, sw.Refresh = coretest.Fault{}, coretest.Fault{} })
	if as, err := w.me(client); as != "ada@example.com" {
		t.Errorf("as = %q, %v, want ada", as, err)
	}
	w.wantRefreshes("in all", 1)
}

// The body of a request is closed whatever becomes of it.
func TestClientClosesBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	client, gone := w.client(ada.ID), w.client(bob.ID)
	if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: bob.ID}); err != nil {
		t.Fatal(err)
	}
	send := func(what string, client *http.Client, target string) error {
		body := newCloseSpy("canary")
		_, err := w.do(client, w.request(http.MethodPost, target, body), nil)
		w.wantClosed(what, body)
		return err
	}
	w.wantErr("an account that is gone", send("an account that is gone", gone, "/echo"), core.ErrNotFound)
	w.wantErr("a host that is not listed", send("a host that is not listed", client, "https://example.com/"), core.ErrHostNotAllowed)
	if err := send("success", client, "/echo"); err != nil {
		t.Error(err)
	}
	if err := send("a failure", client, "/status/500"); err != nil {
		t.Error(err)
	}
	w.clock.Advance(2 * time.Minute)
	w.unauthorized(1)
	first, second := newCloseSpy("once"), newCloseSpy("once")
	req := w.request(http.MethodPost, "/echo", first)
	req.GetBody = func() (io.ReadCloser, error) { return second, nil }
	var got echo
	if _, err := w.do(client, req, &got); err != nil || got.Body != "once" {
		t.Errorf("sent again = %q, %v, want the body", got.Body, err)
	}
	w.wantClosed("the first of two", first)
	w.wantClosed("the second of two", second)
	w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{LostReply: true} })
	w.wantErr("a lost reply", send("a lost reply", client, "/echo"), core.ErrProvider)
}

// Clients of two accounts, in use at once and over refreshes, never send each other's token.
func TestClientsOfTwoAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	names := []string{"ada@example.com", "bob@example.com"}
	w.mustConnect("u", "ada", core.ConnectInput{})
	clients := []*http.Client{
		w.client(""), // the only account there is now
		w.client(w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true}).ID),
	}
	for round := range 3 {
		for i := range 4 {
			if as, err := w.me(clients[i%2]); as != names[i%2] {
				t.Errorf("request %d as %q, %v, want %s", i, as, err, names[i%2])
			}
		}
		w.clock.Advance(2 * time.Hour)
		together(64, func(i int) {
			if as, err := w.me(clients[i%2]); as != names[i%2] {
				t.Errorf("as %q, %v, want %s", as, err, names[i%2])
			}
		})
		w.wantRefreshes("of two accounts", 2*(round+1))
	}
	// A selector is resolved when the client is made.
	_, err := w.engine.User("u").Client(t.Context(), core.Selector{Integration: calendar})
	w.wantErr("a client without account", err, core.ErrAmbiguous)
	_, err = w.engine.User("v").Client(t.Context(), core.Selector{Integration: calendar})
	w.wantErr("a client of a user without accounts", err, core.ErrNotConnected)
}
