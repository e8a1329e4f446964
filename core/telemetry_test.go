package core_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/internal/telemetry/telemetrytest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// wantCount fails the test unless a metric has so many values with these labels.
func (w *world) wantCount(want int, metric string, labels ...string) {
	w.Helper()
	if got := w.told.Count(metric, labels...); got != want {
		w.Errorf("%s%q has %d values, want %d; there are %v", metric, labels, got, want, w.told.Measurements(metric))
	}
}

// wantDocumented fails the test where a label is not one that docs/telemetry.md lists for its metric, or has a value that
// stands neither there nor among the codes of docs/events.md, and is none of the integrations.
func (w *world) wantDocumented(integrations ...string) {
	w.Helper()
	words := map[string]string{} // by the code in the first cell of a row
	for _, page := range []string{"telemetry.md", "events.md"} {
		text, err := os.ReadFile(filepath.Join("..", "docs", page))
		if err != nil {
			w.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if row := regexp.MustCompile("^\\| `([^`]+)` \\|(.*)").FindStringSubmatch(line); row != nil {
				words[row[1]] += row[2]
			}
		}
	}
	told := w.told.Measurements("")
	for _, m := range told {
		for _, label := range m.Labels.ToSlice() {
			key, value := string(label.Key), label.Value.AsString()
			if !strings.Contains(words[m.Name], "`"+key+"`") {
				w.Errorf("%v: docs/telemetry.md knows no label %s of it", m, key)
			}
			known := slices.Contains(integrations, value)
			if key != "polycred.integration" {
				known = strings.Contains(words[key], "`"+value+"`") || key == "polycred.result" && words[value] != ""
			}
			if !known {
				w.Errorf("%v: %s is none of the words for it", m, value)
			}
		}
	}
	if len(told) == 0 {
		w.Error("nothing was told: the test is blind")
	}
}

func TestTelemetryTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	spans, sel := len(w.told.Spans()), core.Selector{Integration: calendar}
	w.mustToken("u", ada.ID)
	source, err := w.engine.User("u").TokenSource(t.Context(), sel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Token(); err != nil {
		t.Fatal(err)
	}
	if got := len(w.told.Spans()); got != spans {
		t.Errorf("valid tokens made %d spans, want none: %+v", got-spans, w.told.Spans()[spans:])
	}
	if _, err := w.me(w.client(ada.ID)); err != nil {
		t.Fatal(err)
	}
	_, err = w.token("u", "0192f0c1-0000-7000-8000-000000000000")
	w.wantErr("a token of nothing", err, core.ErrNotFound)
	_, err = w.engine.User("u").Token(t.Context(), core.Selector{Integration: "mail"})
	w.wantErr("a token of no integration", err, core.ErrNotFound)

	w.wantCount(2, "polycred.token.issued", "polycred.integration="+calendar, "polycred.token.use=token")
	w.wantCount(1, "polycred.token.issued", "polycred.integration="+calendar, "polycred.token.use=client")
	w.wantCount(3, "polycred.token.issued")
	w.wantDocumented(calendar)
}

func TestTelemetryRefreshes(t *testing.T) {
	t.Parallel()
	byCaller := func(w *world, id string) { _, _ = w.token("u", id) }
	for _, tt := range []struct {
		name           string
		class, trigger string
		error          string // of the span
		fault          coretest.Fault
		after          time.Duration // from connecting until use is called
		use            func(w *world, id string)
	}{
		{"good", "ok", "caller", "", coretest.Fault{}, 2 * time.Hour, byCaller},
		{"permanent", "permanent", "caller", "reconnect", coretest.Fault{Error: "invalid_grant"}, 2 * time.Hour, byCaller},
		{"transient", "transient", "caller", "transient", garbage(500, "", ""), 2 * time.Hour, byCaller},
		{"rate limited", "rate_limited", "caller", "rate_limited", garbage(429, "", ""), 2 * time.Hour, byCaller},
		{"indeterminate", "indeterminate", "caller", "indeterminate", coretest.Fault{LostReply: true}, 2 * time.Hour, byCaller},
		{"ahead", "ok", "ahead", "", coretest.Fault{}, 58 * time.Minute, func(w *world, _ string) {
			if err := coretest.Step(w.engine); err != nil {
				w.Error(w.note(err))
			}
		}},
		{"unauthorized", "ok", "unauthorized", "", coretest.Fault{}, 30 * time.Minute, func(w *world, id string) {
			w.unauthorized(1)
			_, _ = w.me(w.client(id))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.clock.Advance(tt.after)
			w.refresh(tt.fault)
			before := len(w.told.Spans())
			tt.use(w, ada.ID)
			w.engine.Settle("u", ada.ID)

			labels := []string{"polycred.integration=" + calendar, "polycred.class=" + tt.class}
			w.wantCount(1, "polycred.refreshes", append(labels, "polycred.trigger="+tt.trigger)...)
			w.wantCount(1, "polycred.refreshes")
			w.wantCount(1, "polycred.refresh.duration", labels...)
			want := telemetrytest.Span{
				Name: "polycred.refresh", Kind: 1, Ended: 1,
				Attributes: map[string]string{
					"polycred.integration": calendar, "polycred.credential": ada.ID, "polycred.trigger": tt.trigger,
				},
			}
			if tt.error != "" {
				want.Status, want.Text, want.Attributes["error.type"] = 1, tt.error, tt.error
			}
			spans := slices.DeleteFunc(w.told.Spans()[before:], func(s telemetrytest.Span) bool { return s.Name != want.Name })
			if diff := cmp.Diff([]telemetrytest.Span{want}, spans); diff != "" {
				t.Errorf("spans of the refresh (-want +got):\n%s", diff)
			}
			w.wantDocumented(calendar)
		})
	}
}

// Waiting for another process is measured once it is over, however it ends, and only then.
func TestTelemetryLeaseWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.expired()
	w.refresh(coretest.Fault{Hold: true, Times: 1})
	first := w.begunToken(w.engine, ada.ID)
	w.held(1)
	second := w.begunToken(w.open(), ada.ID)
	w.wantCount(0, "polycred.lease.wait.duration")
	looks := func() int { return w.told.Count("polycred.store.operation.duration", "polycred.operation=get") }
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(30 * time.Second)
	for before := looks(); looks() < before+20; { // until it has looked again and again
		select {
		case <-ticker.C:
		case <-late:
			t.Fatal("the second engine does not wait for the first")
		}
	}
	w.refresh(coretest.Fault{})
	for _, result := range []begunResult{<-first, <-second} {
		if result.err != nil {
			t.Errorf("token = %v", result.err)
		}
	}
	w.wantCount(1, "polycred.lease.wait.duration", "polycred.outcome=adopted")
	w.wantCount(1, "polycred.lease.wait.duration")
	w.wantCount(1, "polycred.refreshes")
	w.wantDocumented(calendar)
}

// Tokens that the store does not take are told while metrics are collected, until it does, and not after Close.
func TestTelemetryUnsaved(t *testing.T) {
	t.Parallel()
	spy := &spyStore{Store: memory.New()}
	w := newWorld(t, spy, nil)
	ada := w.expired()
	collect := func(what string, want float64) {
		t.Helper()
		if err := w.told.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := w.told.Measurements("polycred.token.unsaved")
		if len(got) != 1 || got[0].Last != want {
			t.Errorf("unsaved tokens %s = %+v, want %v", what, got, want)
		}
	}
	collect("before", 0)
	w.refresh(coretest.Fault{Hold: true})
	result := w.begunToken(w.engine, ada.ID)
	w.held(1)
	spy.intercept(func(storage.Batch, func() error) error { return storage.ErrFull })
	w.refresh(coretest.Fault{})
	if got := <-result; got.err != nil {
		t.Fatal(got.err)
	}
	collect("on a full disk", 1)
	if got := w.told.Count("polycred.store.operation.duration", "polycred.operation=apply", "polycred.outcome=full"); got == 0 {
		t.Error("a full store was not told")
	}
	spy.intercept(nil)
	if err := w.engine.Close(); err != nil {
		t.Fatal(err)
	}
	before := w.told.Count("polycred.token.unsaved")
	if err := w.told.Collect(t.Context()); err != nil || w.told.Count("polycred.token.unsaved") != before {
		t.Errorf("after Close the engine is still asked for unsaved tokens (%v)", err)
	}
	w.wantDocumented(calendar)
}

func TestTelemetryConnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	want := []telemetrytest.Span{
		{Name: "polycred.connect.callback", Kind: 1, Ended: 1, Attributes: map[string]string{
			"polycred.integration": calendar, "polycred.credential": ada.ID,
		}},
		{Name: "polycred.exchange", Parent: "polycred.connect.callback", Kind: 3, Ended: 1, Attributes: map[string]string{
			"polycred.integration": calendar,
		}},
		{Name: "polycred.identify", Parent: "polycred.connect.callback", Kind: 3, Ended: 1, Attributes: map[string]string{
			"polycred.integration": calendar,
		}},
	}
	if diff := cmp.Diff(want, w.told.Spans()); diff != "" {
		t.Errorf("spans of a connect (-want +got):\n%s", diff)
	}

	callback := w.mustBegin("u", "bob", core.ConnectInput{AllowMultiple: true})
	for range 2 { // the second one is told the outcome of the first
		if _, err := w.finish(callback); err != nil {
			t.Error(err)
		}
	}
	denied := w.mustBegin("u", "cyd", core.ConnectInput{AllowMultiple: true})
	denied.Values.Del("code")
	denied.Values.Set("error", "access_denied")
	_, err := w.finish(denied)
	w.wantErr("a connect that is denied", err, core.ErrDenied)
	_, err = w.finish(core.CallbackInput{Integration: "elsewhere", Browser: "b", Values: denied.Values})
	w.wantErr("a callback of nothing", err, core.ErrSession)
	w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = garbage(503, "", "") })
	_, err = w.connect("u", "cyd", core.ConnectInput{AllowMultiple: true})
	w.wantErr("a connect while the provider is down", err, core.ErrProvider)

	w.addKey(core.APIKey{}, "canary-key", "ada")
	_, err = w.engine.User("u").AddKey(t.Context(), core.KeyInput{
		Integration: "keys", Key: crypto.NewSecret("canary-wrong"), AllowMultiple: true,
	})
	w.wantErr("a wrong key", err, core.ErrKeyRejected)
	_, err = w.engine.User("u").AddKey(t.Context(), core.KeyInput{Integration: "elsewhere", Key: crypto.NewSecret("canary-key")})
	w.wantErr("a key of nothing", err, core.ErrNotFound)

	w.wantCount(2, "polycred.connects", "polycred.integration="+calendar, "polycred.result=ok")
	w.wantCount(1, "polycred.connects", "polycred.integration="+calendar, "polycred.result=denied")
	w.wantCount(1, "polycred.connects", "polycred.integration="+calendar, "polycred.result=provider")
	w.wantCount(1, "polycred.connects", "polycred.integration=keys", "polycred.result=ok")
	w.wantCount(1, "polycred.connects", "polycred.integration=keys", "polycred.result=key_rejected")
	w.wantCount(6, "polycred.connects")
	w.wantDocumented(calendar, "keys")
}

func TestTelemetryRevocations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, result, error string
		fault               coretest.Fault
		after               time.Duration
	}{
		{"good", "ok", "", coretest.Fault{}, 0},
		{"down", "failed", "transient", garbage(503, "", ""), 0},
		{"down for days", "given_up", "transient", garbage(503, "", ""), 4 * 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, nil, core.Revocation{})
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.disconnect("u", ada.ID)
			w.wantCount(0, "polycred.revocations")
			w.revokeFault(tt.fault)
			w.carryOut(tt.after)
			w.wantCount(1, "polycred.revocations", "polycred.integration="+calendar, "polycred.result="+tt.result)
			w.wantCount(1, "polycred.revocations")
			spans := w.told.Spans()
			want := telemetrytest.Span{Name: "polycred.revoke", Kind: 3, Ended: 1, Attributes: map[string]string{
				"polycred.integration": calendar, "polycred.credential": ada.ID,
			}}
			if tt.error != "" {
				want.Status, want.Text, want.Attributes["error.type"] = 1, tt.error, tt.error
			}
			if diff := cmp.Diff(want, spans[len(spans)-1]); diff != "" {
				t.Errorf("span of the revocation (-want +got):\n%s", diff)
			}
			w.wantDocumented(calendar)
		})
	}
}

// Each request of a client is a span of its own, also one that is repeated with a new token.
func TestTelemetryRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	client := w.client(ada.ID)
	w.clock.Advance(30 * time.Minute)
	w.unauthorized(1)
	ctx, above := w.told.Tracer("program").Start(t.Context(), "program")
	w.wantStatus("a request that is repeated", client, w.request(http.MethodGet, "/me", nil).WithContext(ctx), http.StatusOK)
	above.End()
	w.wantStatus("a request for nothing", client, w.request(http.MethodDelete, "/canary", nil), http.StatusNotFound)
	w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{LostReply: true} })
	if _, err := w.do(client, w.request("CANARY", "/me", nil), nil); err == nil {
		t.Error("a lost reply: no error")
	}
	var got []string
	for _, s := range w.told.Spans() {
		if s.Name == "polycred.request" {
			got = append(got, fmt.Sprintf("%s %s %s below %q: %q", s.Attributes["http.request.method"],
				s.Attributes["http.response.status_code"], s.Attributes["error.type"], s.Parent, s.Text))
			if s.Attributes["polycred.credential"] != ada.ID || s.Ended != 1 || s.Kind != 3 {
				t.Errorf("span = %+v, want one of ada's account that was ended once", s)
			}
		}
	}
	want := []string{
		`GET 401 401 below "program": "401"`, `GET 200  below "program": ""`, `DELETE 404 404 below "": "404"`,
		`_OTHER  transient below "": "transient"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans of requests (-want +got):\n%s", diff)
	}
	w.wantDocumented(calendar)
}

func TestTelemetryBackground(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.mustConnect("u", "ada", core.ConnectInput{})
	if err := coretest.Step(w.engine); err != nil {
		t.Fatal(err)
	}
	w.wantCount(0, "polycred.scheduler.lag")
	w.clock.Advance(2 * time.Hour)
	w.refresh(garbage(500, "", ""))
	if err := coretest.Step(w.engine); err != nil {
		t.Fatal(err)
	}
	// Due 12 minutes before its hour was over, give or take a tenth of that, and to the minute.
	w.wantCount(1, "polycred.scheduler.lag")
	if got := time.Duration(w.told.Sum("polycred.scheduler.lag")) * time.Second; got < 69*time.Minute || got > 74*time.Minute {
		t.Errorf("the scheduler's lag after two hours = %v, want about 72 minutes", got)
	}
	w.mustConnect("v", "bob", core.ConnectInput{})
	numbered := w.told.Sum("polycred.event.numbered")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.engine.Run(ctx) }()
	for ev, err := range w.engine.Subscribe(t.Context(), 0) {
		if err != nil || ev.User == "v" {
			break
		}
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := w.told.Sum("polycred.event.numbered") - numbered; got < 1 {
		t.Errorf("%v events were told to be numbered, want at least one", got)
	}
	w.wantDocumented(calendar)
}
