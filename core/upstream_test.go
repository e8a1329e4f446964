package core_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/core/permission"
	"github.com/polycred/polycred/core/usertoken"
)

// through sends a request as an account, with an Upstream of its own, and does not follow redirects.
func (w *world) through(u *core.User, sel core.Selector, req *http.Request, into any) (answered, error) {
	w.Helper()
	up, err := u.Upstream(w.Context(), sel)
	if err != nil {
		return answered{}, w.note(err)
	}
	client := &http.Client{Transport: up, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return w.do(client, req, into)
}

// whoThrough is whose API answers.
func (w *world) whoThrough(u *core.User, sel core.Selector) (string, error) {
	w.Helper()
	var me struct{ Account string }
	_, err := w.through(u, sel, w.request(http.MethodGet, "/me", nil), &me)
	return me.Account, err
}

// Of several accounts the one that is named is used, and it says which it is.
func TestUpstream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	u := w.engine.User("u")
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	bob := w.mustConnect("u", "bob", core.ConnectInput{ExternalID: "home", AllowMultiple: true})
	for login, sels := range map[string][]core.Selector{
		"ada": {{Credential: ada.ID}, {Integration: calendar, Credential: "work"}, {Integration: calendar, Credential: "ext:work"}, {Configuration: ada.ID}},
		"bob": {{Credential: bob.ID}, {Integration: calendar, Credential: "home"}},
	} {
		for _, sel := range sels {
			if got, err := w.whoThrough(u, sel); err != nil || got != login+"@example.com" {
				t.Errorf("a request as %s is of %q, %v, want %s", sel, got, err, login)
			}
		}
	}
	up, err := u.Upstream(t.Context(), core.Selector{Integration: calendar, Credential: "home"})
	if err != nil || up.Credential() != bob.ID || up.Integration() != calendar {
		t.Errorf("Upstream(home) = %s at %s, %v, want %s at %s", up.Credential(), up.Integration(), err, bob.ID, calendar)
	}
	w.wantErr("Upstream of either", ignore(u.Upstream(t.Context(), core.Selector{Integration: calendar})), core.ErrAmbiguous)
	w.wantErr("Upstream of another user's", ignore(w.engine.User("v").Upstream(t.Context(), core.Selector{Credential: ada.ID})), core.ErrNotFound)
	w.wantInput("Upstream of nothing", ignore(u.Upstream(t.Context(), core.Selector{})), "integration")

	// Redirects are data for whoever asked.
	resp, err := w.through(u, core.Selector{Credential: ada.ID}, w.request(http.MethodGet, "/redirect?to=/api/me", nil), nil)
	if err != nil || resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "/api/me" {
		t.Errorf("a redirect = %d to %q, %v, want it as it is", resp.StatusCode, resp.Header.Get("Location"), err)
	}
}

// One request through a handle without token costs one read of the store.
func TestUpstreamCost(t *testing.T) {
	t.Parallel()
	store := newCounter(nil)
	w := newWorld(t, store, nil)
	sel := core.Selector{Credential: w.mustConnect("u", "ada", core.ConnectInput{}).ID}
	w.clock.Advance(6 * time.Second) // what was read before the account was connected may be out of date
	for range 2 {                    // the first one reads what is kept in memory then
		store.reads.Store(0)
		if _, err := w.whoThrough(w.engine.User("u"), sel); err != nil {
			t.Fatal(err)
		}
	}
	if got := store.reads.Load(); got != 1 {
		t.Errorf("a request cost %d reads of the store, want 1", got)
	}
}

// Hosts that the integration does not list get no request, let alone a token.
func TestSecurity19_HostsOfUpstream(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a host that is not listed was called") }))
	defer other.Close()
	w := newWorld(t, nil, func(o *core.Options) {
		o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(other.URL, "http://"))
	})
	sel := core.Selector{Credential: w.mustConnect("u", "ada", core.ConnectInput{}).ID}
	before := w.provider.Calls().API
	for _, target := range []string{
		other.URL, "https://" + w.provider.Host() + "/api/me", "http://user:canary@" + w.provider.Host() + "/", w.provider.URL() + "/api/%2e%2e/x", "http://example.com/",
	} {
		body := newCloseSpy("canary")
		up, err := w.engine.User("u").Upstream(t.Context(), sel)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := up.RoundTrip(w.request(http.MethodPost, target, body)) //nolint:bodyclose // there is none
		if w.wantErr("a request to "+target, err, core.ErrHostNotAllowed); resp != nil {
			t.Errorf("a request to %s was answered %d", target, resp.StatusCode)
		}
		w.wantClosed(target, body)
	}
	if got := w.provider.Calls().API; got != before {
		t.Errorf("calls of the API = %d, want %d", got, before)
	}
}

// A token that ended, or that the provider refuses although it looks good, is refreshed with the request, once.
func TestUpstreamRefreshes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	u := w.engine.User("u")
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	sel := core.Selector{Credential: ada.ID}
	post := func() *http.Request { return w.request(http.MethodPost, "/echo", strings.NewReader("the whole body")) }

	w.clock.Advance(2 * time.Minute)
	w.unauthorized(1)
	var got echo
	resp, err := w.through(u, sel, post(), &got)
	if err != nil || resp.StatusCode != http.StatusOK || got.Body != "the whole body" {
		t.Errorf("after a 401 = status %d, %v with body %q, want it sent again", resp.StatusCode, err, got.Body)
	}
	w.wantRefreshes("after a 401", 1)
	w.unauthorized(1)
	if resp, err := w.through(u, sel, post(), nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a 401 right after a refresh = %d, %v, want it passed on", resp.StatusCode, err)
	}
	w.wantRefreshes("right after a refresh", 1)
	w.clock.Advance(2 * time.Hour)
	up, err := u.Upstream(t.Context(), sel)
	if err != nil {
		t.Fatal(err)
	}
	w.wantRefreshes("before there is a request", 1)
	if got, err := w.me(&http.Client{Transport: up}); err != nil || got != "ada@example.com" {
		t.Errorf("with a token that ended = %q, %v, want ada", got, err)
	}
	w.wantRefreshes("with the request", 2)
	w.wantAlive(ada.ID)

	// An authorisation that ended is told as such.
	w.provider.Revoke("ada")
	w.clock.Advance(2 * time.Hour)
	_, err = w.whoThrough(u, sel)
	w.wantErr("after the provider ended it", err, core.ErrReconnect)
	w.wantErr("Upstream, later", ignore(u.Upstream(t.Context(), sel)), core.ErrReconnect)
}

// An account that cannot be used gives no Upstream, and none that was made before is of use for longer.
func TestUpstreamOfUnusableAccounts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, tt := range map[string]struct {
		spoil func(w *world, sel core.Selector) error
		want  error
	}{
		"disabled":        {func(w *world, sel core.Selector) error { return w.engine.User("u").Disable(ctx, sel) }, core.ErrDisabled},
		"a disabled user": {func(w *world, _ core.Selector) error { return w.engine.DisableUser(ctx, "u") }, core.ErrDisabled},
		"disconnected":    {func(w *world, sel core.Selector) error { return w.engine.User("u").Disconnect(ctx, sel) }, core.ErrNotFound},
		"revoked":         {func(w *world, _ core.Selector) error { return ignore(w.engine.RevokeCredentials(ctx, calendar, nil)) }, core.ErrReconnect},
		"closed":          {func(w *world, _ core.Selector) error { return w.engine.Close() }, core.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			sel := core.Selector{Credential: w.mustConnect("u", "ada", core.ConnectInput{}).ID}
			if _, err := w.whoThrough(w.engine.User("u"), sel); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(w, sel); err != nil {
				t.Fatal(err)
			}
			_, err := w.whoThrough(w.engine.User("u"), sel)
			w.wantErr("Upstream", err, tt.want)
		})
	}
	t.Run("pending", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		w.change(func(in *core.Integration) { in.Setup = []input.Input{{ID: "site", Type: input.Text, Required: true}} })
		sel := core.Selector{Credential: w.mustConnect("u", "ada", core.ConnectInput{}).ID}
		w.wantErr("Upstream", ignore(w.engine.User("u").Upstream(ctx, sel)), core.ErrPending)
	})
}

// What is sent is told as "proxy", of whoever sent it, and takes no more than the permission of that name.
func TestUpstreamIsTold(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ada := d.mail(d.engine.User("acme"), "ada", core.KeyInput{})
	u := d.enter(usertoken.MintInput{Person: "pat", Claims: map[string]any{"jti": "token-7"}, Permissions: raw(`{"integration:*": ["credential:read", "proxy"]}`)})
	sel := core.Selector{Integration: "mail"}
	for range 3 {
		if got, err := d.whoThrough(u, sel); err != nil || got != "ada@example.com" {
			t.Errorf("a request = %q, %v, want ada's", got, err)
		}
	}
	d.wantErr("Token", ignore(u.Token(t.Context(), sel)), core.ErrPermission)
	after, err := d.engine.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(time.Minute)
	want := map[usage]int{{ada.ID, "pat", "token-7", "proxy", ""}: 3}
	if diff := cmp.Diff(want, counted(d.summaries(after))); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
	if !u.May(permission.Proxy, "mail") {
		t.Error("May(proxy, mail) = false")
	}
	reader := d.enter(claims(`{"integration:*": ["credential:read", "workflow"]}`))
	d.wantErr("Upstream without proxy", ignore(reader.Upstream(t.Context(), sel)), core.ErrPermission)
	// A request that is not sent is none.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	up, err := u.Upstream(t.Context(), sel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.RoundTrip(d.request(http.MethodGet, "/me", nil).WithContext(ctx)); err == nil { //nolint:bodyclose // there is none
		t.Error("a request with a context that ended was answered")
	}
}
