package core_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// running runs an engine until the function that it returns is called, which returns what Run did, within a while.
func (w *world) running(engine *core.Engine) (stop func() error) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	return func() error {
		w.Helper()
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(5 * time.Second):
			w.Fatal("Run goes on after its context was done")
			return nil
		}
	}
}

// One process has no more refreshes of an integration under way than Options.RefreshLimit says.
func TestScheduledLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(o *core.Options) { o.RefreshLimit = 3 })
	const n = 20
	w.people(n)
	for i := range n {
		w.mustConnect("u", person(i), core.ConnectInput{AllowMultiple: true})
	}
	w.clock.Advance(50 * time.Minute)
	w.refresh(coretest.Fault{Hold: true})
	stop := w.running(w.engine)
	w.held(3)
	if w.reaches(w.provider, 300*time.Millisecond, func(c coretest.Calls) bool { return c.Refresh > 3 }) {
		t.Errorf("%d refreshes are under way, want 3", w.provider.Calls().Refresh)
	}
	w.refresh(coretest.Fault{})
	if !w.reaches(w.provider, 10*time.Second, func(c coretest.Calls) bool { return c.Refresh == n }) {
		t.Errorf("refreshes = %d, want %d", w.provider.Calls().Refresh, n)
	}
	if err := stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	w.wantRefreshes("of all", n)
}

// reaches reports whether the calls to a provider become such that, within a time.
func (w *world) reaches(provider *coretest.OAuthServer, within time.Duration, cond func(coretest.Calls) bool) bool {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), within)
	defer cancel()
	return provider.WaitForCalls(ctx, cond) == nil
}

// A provider that hangs holds up no other one.
func TestScheduledBesideAProviderThatHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(o *core.Options) { o.RefreshLimit = 2 })
	slow := newSlowRefresh(w)
	w.opts.PrivateHosts = append(w.opts.PrivateHosts, slow.Host())
	w.engine = w.open()
	w.provide("hanging", slow, nil)
	const n = 6
	for range n {
		callback := w.begunAt(slow, "hanging")
		if _, err := w.callback(callback); err != nil {
			t.Fatal(err)
		}
	}
	w.people(n)
	for i := range n {
		w.mustConnect("u", person(i), core.ConnectInput{AllowMultiple: true})
	}
	slow.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{Hold: true} })
	w.clock.Advance(50 * time.Minute)
	stop := w.running(w.engine)
	if !w.reaches(w.provider, 10*time.Second, func(c coretest.Calls) bool { return c.Refresh == n }) {
		t.Errorf("refreshes beside a provider that hangs = %d, want %d", w.provider.Calls().Refresh, n)
	}
	if !w.reaches(slow, 10*time.Second, func(c coretest.Calls) bool { return c.Waiting == 2 }) {
		t.Errorf("requests at the provider that hangs = %d, want 2", slow.Calls().Waiting)
	}
	if err := stop(); err != nil { // and keeps nobody waiting
		t.Errorf("Run = %v, want nil", err)
	}
	slow.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{} })
}

// newSlowRefresh is a second provider.
func newSlowRefresh(w *world) *coretest.OAuthServer {
	w.Helper()
	provider, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{Now: w.clock.Now, ClientSecret: clientSecret})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(provider.Close)
	return provider
}

// begunAt consents as somebody new.
func (w *world) begunAt(provider *coretest.OAuthServer, integration string) core.CallbackInput {
	w.Helper()
	provider.SignIn(fmt.Sprint("q", provider.Calls().Exchange))
	return w.mustBegin("u", "", core.ConnectInput{Integration: integration, AllowMultiple: true})
}

// One account that is told to wait makes the others of its integration wait too.
func TestScheduledRetryAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(o *core.Options) { o.RefreshLimit = 1 })
	const n = 20
	w.people(n)
	for i := range n {
		w.mustConnect("u", person(i), core.ConnectInput{AllowMultiple: true})
	}
	w.clock.Advance(50 * time.Minute)
	w.refresh(coretest.Fault{Garbage: &coretest.Garbage{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": "240"}}})
	w.step(w.engine)
	w.wantRefreshes("when one was told to wait", 1)
	w.refresh(coretest.Fault{})
	w.minutes(3)
	w.wantRefreshes("before the pause is over", 1)
	w.minutes(2)
	w.wantRefreshes("after it", n+1)
	for _, c := range w.list("u") {
		if c.RefreshFailures != 0 || !c.Refreshed.After(c.Created) {
			t.Errorf("credential %+v, want it refreshed", c)
		}
	}
}

// Several processes find the same accounts due, and each is refreshed once.
func TestScheduledInSeveralProcesses(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), nil)
			w.rotate()
			const n, engines = 16, 3
			w.people(n)
			for i := range n {
				w.mustConnect("u", person(i), core.ConnectInput{AllowMultiple: true})
			}
			all := []*core.Engine{w.engine}
			for range engines - 1 {
				all = append(all, w.open())
			}
			w.clock.Advance(50 * time.Minute)
			together(engines, func(i int) { w.step(all[i]) })
			w.wantRefreshes("of all", n)
			w.wantOwn("u")
			if got := w.dueKeys(); len(got) != n {
				t.Errorf("entries = %d, want %d", len(got), n)
			}
		})
	}
}

// Run ends at once although a provider hangs, whether its context ends or the engine is closed; what was begun is stored,
// and the next Run goes on with what is left.
func TestScheduledRunStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(o *core.Options) { o.RefreshLimit = 2 })
	w.rotate()
	const n = 6
	w.people(n)
	for i := range n {
		w.mustConnect("u", person(i), core.ConnectInput{AllowMultiple: true})
	}
	w.clock.Advance(50 * time.Minute)
	w.refresh(coretest.Fault{Hold: true})
	stop := w.running(w.engine)
	w.held(2)
	if err := stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	w.wantRefreshes("when it was stopped", 2)
	w.refresh(coretest.Fault{})
	stop = w.running(w.engine)
	if !w.reaches(w.provider, 10*time.Second, func(c coretest.Calls) bool { return c.Refresh == n }) {
		t.Errorf("refreshes after it began again = %d, want %d", w.provider.Calls().Refresh, n)
	}
	if err := stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	for _, c := range w.list("u") { // the clock stands still until the last answer has come
		w.engine.Settle("u", c.ID)
	}
	w.wantOwn("u")

	w.clock.Advance(50 * time.Minute)
	w.refresh(coretest.Fault{Hold: true})
	ended := make(chan error, 1)
	go func() { ended <- w.engine.Run(t.Context()) }()
	w.held(2)
	closed := make(chan error, 1)
	go func() { closed <- w.engine.Close() }()
	if err := <-ended; !errors.Is(err, core.ErrClosed) {
		t.Errorf("Run of a closed engine = %v, want %v", err, core.ErrClosed)
	}
	w.refresh(coretest.Fault{})
	if err := <-closed; err != nil {
		t.Errorf("Close = %v, want nil", err)
	}
	w.engine = w.open()
	w.step(w.engine)
	w.wantRefreshes("of the next engine", 2*n)
	w.wantOwn("u")
}
