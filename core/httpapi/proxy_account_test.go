package httpapi_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage"
)

// A 401 of the provider is met with one refresh and one more try, also of a small body; the next one is passed on.
func TestProxyUnauthorized(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token := h.token("acme", nil)
	h.install(token, "ada", `{}`)
	h.clock.Advance(2 * time.Minute)
	h.provider.Set(func(sw *coretest.Switches) { sw.Unauthorized = 1 })
	a := h.want(http.StatusOK, token, http.MethodPost, "{P}/proxy/googleCalendar/api/echo", `{"a":1}`)
	if output, _ := a.json(t)["output"].(map[string]any); output["body"] != `{"a":1}` {
		t.Errorf("the second try brought %v", output["body"])
	}
	if n := h.provider.Calls().Refresh; n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	h.provider.Set(func(sw *coretest.Switches) { sw.Unauthorized = -1 })
	a = h.want(http.StatusUnauthorized, token, http.MethodGet, "{P}/proxy/googleCalendar/api/me", "")
	meta, _ := a.json(t)["meta"].(map[string]any)
	if meta["isIntegrationError"] != true || h.provider.Calls().Refresh != 1 {
		t.Errorf("the next 401 = %s, %d refreshes", a.Body, h.provider.Calls().Refresh)
	}
}

// Many requests with one expired token refresh it once, and each is sent as its own account.
func TestProxyRace(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(_ *core.Options, o *httpapi.Options) { o.Rate = -1 })
	token := h.token("acme", func(in *usertoken.MintInput) { in.Lifetime = 12 * time.Hour })
	accounts := map[string]string{h.install(token, "ada", `{}`): "ada@example.com", h.install(token, "bob", `{"allowMultipleCredentials":true}`): "bob@example.com"}
	before := h.provider.Calls().Refresh
	h.clock.Advance(2 * time.Hour)
	var running sync.WaitGroup
	for range 16 {
		for id, want := range accounts {
			running.Go(func() {
				a := h.do(token, http.MethodGet, "{P}/proxy/googleCalendar/api/me", "", "X-Paragon-Credential", id)
				if output, _ := a.json(t)["output"].(map[string]any); output["account"] != want || a.Header.Get("X-Polycred-Credential-Used") != id {
					t.Errorf("GET as %s = %d %s, want %s", id, a.Status, a.Body, want)
				}
			})
		}
	}
	running.Wait()
	if n := h.provider.Calls().Refresh - before; n != 2 {
		t.Errorf("%d refreshes of 2 accounts, want 2", n)
	}
}

// applies counts what is written.
type applies struct {
	storage.Store
	n atomic.Int64
}

// Exclusive keeps what the store in it promises.
func (s *applies) Exclusive() bool {
	exclusive, ok := s.Store.(storage.Exclusive)
	return ok && exclusive.Exclusive()
}

func (s *applies) Apply(ctx context.Context, b storage.Batch) error {
	s.n.Add(1)
	return s.Store.Apply(ctx, b)
}

// Requests write nothing, and are told as one event per account and minute.
func TestProxyEvents(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token := h.token("acme", func(in *usertoken.MintInput) { in.Person = "ada" })
	id := h.install(token, "ada", `{}`)
	step := func() {
		t.Helper()
		if err := h.engine.Kernel().Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	told := func() (n int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for ev, err := range h.engine.Subscribe(ctx, 0) {
			if err != nil {
				break
			}
			if ev.Kind == core.EventUsed && ev.Cause == "proxy" && ev.Credential == id {
				n++
				if ev.Details["count"] != "20" || ev.Actor.Person != "ada" || ev.Actor.TokenID == "" {
					t.Errorf("event %+v, want 20 uses of ada", ev)
				}
			}
			if ev.Kind == core.EventUsed {
				break
			}
		}
		return n
	}
	step()
	before := h.store.(*applies).n.Load()
	for range 20 {
		h.want(http.StatusOK, token, http.MethodGet, "{P}/proxy/googleCalendar/api/me", "")
	}
	if n := h.store.(*applies).n.Load() - before; n != 0 {
		t.Errorf("20 requests made %d writes", n)
	}
	step()
	if n := told(); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}
