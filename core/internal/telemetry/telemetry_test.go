package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/core/internal/telemetry/telemetrytest"
	"go.opentelemetry.io/otel"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

func newInstruments(t *testing.T) (*telemetry.Instruments, *telemetrytest.Recorder) {
	t.Helper()
	r := &telemetrytest.Recorder{}
	return telemetry.New(r, r), r
}

func TestUnsaved(t *testing.T) {
	t.Parallel()
	i, r := newInstruments(t)
	stop := i.Unsaved(func() int64 { return 3 })
	defer i.Unsaved(func() int64 { return 4 })() // of another engine
	for _, want := range []float64{7, 11} {
		if err := r.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.Sum("polycred.token.unsaved"); got != want {
			t.Errorf("unsaved tokens, collected so far = %v, want %v", got, want)
		}
		stop()
	}
}

// An instrument that is refused is reported and measured by nobody, and everything else goes on.
func TestRefusedInstrument(t *testing.T) { // not parallel: there is one error handler, and no way to set it back
	var reported []error
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { reported = append(reported, err) }))
	for _, refused := range []string{"polycred.token.issued", "polycred.lease.wait.duration", "polycred.token.unsaved"} {
		r := &telemetrytest.Recorder{Refuse: refused}
		i := telemetry.New(r, r)
		i.Issued(t.Context(), "mail", telemetry.UseToken)
		i.LeaseWaited(t.Context(), telemetry.WaitAdopted, time.Second)
		i.Numbered(t.Context(), 2)
		i.Unsaved(func() int64 { return 1 })()
		if got := r.Measurements(refused); len(got) != 0 || r.Sum("polycred.event.numbered") != 2 {
			t.Errorf("without %s: %v, and events = %v", refused, got, r.Sum("polycred.event.numbered"))
		}
	}
	if len(reported) != 3 {
		t.Errorf("reported: %v, want three refusals", reported)
	}
}

// However many integrations come and go, or are there, labels stay bounded; those that were deleted make room.
func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	i, r := newInstruments(t)
	ctx := t.Context()
	const most = 1000
	for n := range 3 * most {
		i.Issued(ctx, fmt.Sprintf("gone-%d", n), telemetry.UseToken)
		i.Forget(fmt.Sprintf("gone-%d", n))
	}
	i.Forget("gone-0") // twice
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := range most + 10 {
				i.Issued(ctx, fmt.Sprintf("here-%d", (n+worker*100)%(most+10)), telemetry.UseClient)
			}
		})
	}
	wg.Wait()
	told := map[string]bool{}
	for _, m := range r.Measurements("polycred.token.issued") {
		if name := m.Label("polycred.integration"); !strings.HasPrefix(name, "gone-") {
			told[name] = true
		}
	}
	if len(told) != most+1 || !told["_OTHER"] {
		t.Errorf("%d names were told of %d integrations, want %d and _OTHER", len(told), most+10, most)
	}
	if got := r.Sum("polycred.token.issued", "polycred.token.use=client"); got != 8*(most+10) {
		t.Errorf("%v tokens, want %d: none is lost", got, 8*(most+10))
	}
}

// The usual way to a token allocates nothing for being counted, with and without anybody who listens.
func TestIssuedAllocatesNothing(t *testing.T) {
	ctx := context.Background()
	for name, i := range map[string]*telemetry.Instruments{
		"no-op":   telemetry.New(metricnoop.NewMeterProvider(), tracenoop.NewTracerProvider()),
		"global":  telemetry.New(nil, nil),
		"enabled": telemetry.New(countingProvider{}, tracenoop.NewTracerProvider()),
	} {
		store := i.Store(emptyStore{})
		if got := testing.AllocsPerRun(100, func() {
			i.Issued(ctx, "googleCalendar", telemetry.UseToken)
			_, _ = store.Get(ctx, nil)
		}); got != 0 {
			t.Errorf("%s: %v allocations for a token and a read, want none", name, got)
		}
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	i, r := newInstruments(t)
	ctx, outer := i.Start(t.Context(), telemetry.SpanRefresh, "mail", "id-1")
	outer.Trigger(telemetry.TriggerAhead)
	_, inner := i.Start(ctx, telemetry.SpanRequest, "mail", "")
	inner.Method("canary")
	inner.Answered(404)
	inner.End()
	outer.Result(telemetry.ResultOK)
	outer.End()
	_, failed := i.Start(t.Context(), telemetry.SpanCallback, "mail", "")
	failed.Credential("")
	failed.Credential("id-2")
	failed.Result("denied")
	failed.End()

	var got []string
	for _, s := range r.Spans() {
		got = append(got, fmt.Sprint(s))
	}
	want := []string{
		"{polycred.refresh  internal map[polycred.credential:id-1 polycred.integration:mail polycred.trigger:ahead] Unset  [] 1}",
		"{polycred.request polycred.refresh client map[error.type:404 http.request.method:_OTHER http.response.status_code:404 " +
			"polycred.integration:mail] Error 404 [] 1}",
		"{polycred.connect.callback  internal map[error.type:denied polycred.credential:id-2 polycred.integration:mail] " +
			"Error denied [] 1}",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// Security 27: an SDK writes panics into the spans that they pass; what they say is not for a trace.
func TestSecurity27_Panic(t *testing.T) {
	t.Parallel()
	i, r := newInstruments(t)
	func() {
		defer func() {
			if v := recover(); v != "canary" {
				t.Errorf("the panic arrives as %v", v)
			}
		}()
		_, span := i.Start(t.Context(), telemetry.SpanRevoke, "mail", "id-1")
		defer span.End()
		panic("canary")
	}()
	got := r.Spans()[0]
	if got.Ended != 1 || got.Text != "panic" || got.Attributes["error.type"] != "panic" || strings.Contains(r.Text(), "canary") {
		t.Errorf("the span of a panic = %+v, want it ended, with no word of the panic", got)
	}

	// The recorder does write them down where nothing stops it, or this test would prove nothing.
	func() {
		defer func() { _ = recover() }()
		_, bare := r.Tracer("x").Start(t.Context(), "bare")
		defer bare.End()
		panic("canary")
	}()
	if !strings.Contains(r.Text(), "canary") {
		t.Error("the recorder keeps no panics: the test is blind")
	}
}

func TestClassOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]telemetry.Class{
		"ok": "ok", "permanent": "permanent", "transient": "transient", "rate_limited": "rate_limited",
		"indeterminate": "indeterminate", "": "_OTHER", "canary": "_OTHER",
	} {
		if got := telemetry.ClassOf(name); got != want {
			t.Errorf("ClassOf(%q) = %q, want %q", name, got, want)
		}
	}
}

// Every measurement stands under the scope of the engine, and a lag is never below zero.
func TestMeasurements(t *testing.T) {
	t.Parallel()
	i, r := newInstruments(t)
	ctx := t.Context()
	i.Lagged(ctx, -time.Second)
	i.Lagged(ctx, 90*time.Second)
	i.Numbered(ctx, 0)
	i.Refreshed(ctx, "mail", telemetry.TriggerAhead, telemetry.ClassOK, 250*time.Millisecond)
	var got []string
	for _, m := range r.Measurements("") {
		got = append(got, fmt.Sprintf("%s %v %v", m.Name, m.Count, m.Sum))
	}
	want := []string{"polycred.refresh.duration 1 0.25", "polycred.refreshes 1 1", "polycred.scheduler.lag 2 90"}
	if !slices.Equal(got, want) {
		t.Errorf("measurements = %q, want %q", got, want)
	}
	if !strings.Contains(r.Text(), "["+telemetry.Scope+" "+telemetry.Scope+"]") {
		t.Errorf("the scopes are not %s alone", telemetry.Scope)
	}
}

var errCanary = errors.New("canary")
