package core_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/sealed"
)

// Every world is searched when its test ends (world.searchSecrets), so all tests of this package are tests of what is told
// to OpenTelemetry. Those below go where secrets are closest.

// canaryUser is a connected user as they are: an e-mail address.
const canaryUser = "canary.person@example.com"

// wantSpans fails the test unless these spans were told: a search in nothing finds nothing.
func (w *world) wantSpans(names ...string) {
	w.Helper()
	told := map[string]int{}
	for _, s := range w.told.Spans() {
		told[s.Name]++
		if s.Ended != 1 {
			w.Errorf("span %s was ended %d times, want once", s.Name, s.Ended)
		}
		if len(s.Events) > 0 {
			w.Errorf("span %s has events %q, want none", s.Name, s.Events)
		}
	}
	for _, name := range names {
		if told[name] == 0 {
			w.Errorf("there is no span %s, only %v", name, told)
		}
	}
}

// Refreshes, exchanges and questions for an identity fail in every way that a provider has, which repeats what it was sent.
func TestSecurity27_TelemetryOfFailures(t *testing.T) {
	t.Parallel()
	told := func(body string) coretest.Fault {
		return coretest.Fault{Garbage: &coretest.Garbage{
			Status: http.StatusBadRequest, ContentType: "application/json", Body: body,
			Header: map[string]string{"Location": "https://example.com/?code=canary", "Retry-After": "canary"},
		}}
	}
	for name, fault := range map[string]coretest.Fault{
		"a known code":    {Error: "invalid_grant"},
		"an unknown code": {Error: "canary_code"},
		"a description":   told(`{"error":"invalid_grant","error_description":"at-1 rt-1 canary"}`),
		"a canary code":   told(`{"error":"canary"}`),
		"no JSON":         told(`canary`),
		"an error page":   garbage(500, "text/html", "<p>canary at-1"),
		"a limit":         garbage(429, "", "canary"),
		"a redirect":      {Garbage: &coretest.Garbage{Status: 302, Header: map[string]string{"Location": "https://example.com/canary?at-1"}}},
		"a lost reply":    {LostReply: true},
		"a hanging reply": {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, func(o *core.Options) {
				if fault.Hang {
					o.ProviderTimeout = time.Second
				}
			})
			ada := w.mustConnect(canaryUser, "ada", core.ConnectInput{})
			w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = fault })
			_, _ = w.connect(canaryUser, "bob", core.ConnectInput{AllowMultiple: true})
			w.provider.Set(func(sw *coretest.Switches) { sw.Exchange, sw.UserInfo = coretest.Fault{}, fault })
			_, _ = w.connect(canaryUser, "bob", core.ConnectInput{AllowMultiple: true})
			w.provider.Set(func(sw *coretest.Switches) { sw.UserInfo, sw.Refresh = coretest.Fault{}, fault })
			w.clock.Advance(2 * time.Hour)
			if _, err := w.token(canaryUser, ada.ID); err == nil {
				t.Error("a refresh that fails: no error")
			}
			_ = w.note(coretest.Step(w.engine))
			w.wantSpans("polycred.connect.callback", "polycred.exchange", "polycred.identify", "polycred.refresh")
			w.wantDocumented(calendar)
		})
	}
}

// A key in the query stands in the URLs of requests, of errors, and of redirects.
func TestSecurity27_TelemetryOfKeysInQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	client := w.client(w.addKey(core.APIKey{In: core.KeyQuery, Name: "api_key"}, "canary-key", "ada"))
	for _, fault := range []coretest.Fault{
		{}, garbage(404, "", "canary"), {LostReply: true},
		{Garbage: &coretest.Garbage{Status: 302, Header: map[string]string{"Location": "/api/me?api_key=canary-key"}, Body: "canary"}},
	} {
		w.provider.Set(func(sw *coretest.Switches) { sw.API = fault })
		resp, err := client.Do(w.request(http.MethodPost, "/me?own=canary", strings.NewReader("canary"))) // not for w.note to see
		if err == nil {
			_ = resp.Body.Close()
		}
		_, _ = w.engine.User(canaryUser).AddKey(t.Context(), core.KeyInput{
			Integration: "keys", Key: crypto.NewSecret("canary-key"), AllowMultiple: true,
		})
	}
	w.provider.Close()
	if _, err := w.do(client, w.request(http.MethodGet, "/me", nil), nil); err == nil {
		t.Error("a request to nobody: no error")
	}
	w.wantSpans("polycred.request", "polycred.connect.key", "polycred.identify")
	w.wantDocumented("keys")
}

// What panics says anything at all: here a hook of the program, a provider that panics under a request, and a KEK.
func TestSecurity27_TelemetryOfPanics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	armed := true
	w.engine.Kernel().OnConnect(func(context.Context, *sealed.Tx, kernel.Credential) error {
		if armed {
			panic("canary of a hook: at-1 " + clientSecret)
		}
		return nil
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of a hook does not arrive")
			}
		}()
		_, _ = w.connect(canaryUser, "ada", core.ConnectInput{})
	}()
	var callback string
	for _, s := range w.told.Spans() {
		if s.Name == "polycred.connect.callback" {
			callback = fmt.Sprintf("%s %d", s.Text, s.Ended)
		}
	}
	if callback != "panic 1" {
		t.Errorf("the span of a callback that panicked = %q, want it ended, as a panic", callback)
	}
	armed = false

	hostile := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer hostile.Close()
	peers := newWorld(t, nil, func(o *core.Options) {
		o.PrivateHosts = append(o.PrivateHosts, strings.TrimPrefix(hostile.URL, "http://"))
	})
	ada := peers.expired()
	peers.change(func(in *core.Integration) { in.OAuth2.TokenURL = hostile.URL + "/token" })
	_, err := peers.token("u", ada.ID)
	peers.wantErr("a refresh at a provider that panics", err, core.ErrProvider)
	peers.wantSpans("polycred.refresh")
	w.wantSpans("polycred.connect.callback", "polycred.exchange", "polycred.identify")
}

// The search finds what it is meant to find in what is told.
func TestSecurity27_TelemetrySearchFinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	text := w.told.Text()
	for _, want := range []string{"polycred.connects{", "polycred.integration=" + calendar, ada.ID, "polycred.exchange", "{token}"} {
		if !strings.Contains(text, want) {
			t.Errorf("what was told does not contain %q:\n%s", want, text)
		}
	}
	_, span := w.told.Tracer("x").Start(t.Context(), "polycred.test")
	span.RecordError(fmt.Errorf("at-%d", 1))
	found := 0
	for line := range strings.Lines(w.told.Text()) {
		if leaked(line) != "" {
			found++
		}
	}
	if found != 1 {
		t.Errorf("the search found %d lines with a token, want 1", found)
	}
	w.told.Forget()
}
