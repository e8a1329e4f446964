// Package telemetry is what an engine tells OpenTelemetry, through its API alone: which SDK listens, or none, is for the
// host program to say. [New] makes the [Instruments] of an engine; [Instruments.Store] measures a store; [Instruments.Start]
// begins a [Span].
//
// Names, units and labels are a contract, which docs/telemetry.md writes down and a test holds to this code. Labels are
// bounded: the name of a declared integration, and words of this package and of the engine's list of error codes. Nothing
// that a user, a provider or a network library wrote is ever told: no error goes to a span but as its code, no URL, no
// user id. The ids of credentials stand on spans only.
package telemetry

import (
	"cmp"
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
)

// Scope is the name of the instrumentation scope of all metrics and spans.
const Scope = "github.com/polycred/polycred/core"

// Instruments are the metrics and the tracer of an engine. All methods may be called concurrently; they cost next to
// nothing while nobody listens.
type Instruments struct {
	meter  metric.Meter
	tracer trace.Tracer
	names  names

	issued      metric.Int64Counter
	refreshes   metric.Int64Counter
	refresh     metric.Float64Histogram
	leaseWait   metric.Float64Histogram
	store       metric.Float64Histogram
	revocations metric.Int64Counter
	connects    metric.Int64Counter
	numbered    metric.Int64Counter
	lag         metric.Float64Histogram
	served      metric.Float64Histogram
}

// Buckets, in seconds. Those of a store begin at what an embedded one takes, those of a network at what a near one takes;
// the scheduler's are those of something that is looked at by the minute.
var (
	storeBuckets    = []float64{1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 1e-2, 2.5e-2, 0.1, 0.25, 1, 2.5, 10}
	providerBuckets = []float64{5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
	lagBuckets      = []float64{0, 1, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400}
)

// New returns the instruments of an engine; nil means the global provider, which may be set later. An instrument that a
// provider refuses is reported to otel.Handle and measures nothing: telemetry stops no engine.
func New(meters metric.MeterProvider, tracers trace.TracerProvider) *Instruments {
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	m := meters.Meter(Scope)
	return &Instruments{
		meter: m, tracer: tracers.Tracer(Scope),

		issued:      counter(m, "polycred.token.issued", "{token}", "Tokens that were given out or sent with a request."),
		refreshes:   counter(m, "polycred.refreshes", "{refresh}", "Refreshes for which a provider was asked."),
		refresh:     histogram(m, "polycred.refresh.duration", "How long a provider took to answer a refresh.", providerBuckets),
		leaseWait:   histogram(m, "polycred.lease.wait.duration", "How long a refresh waited for another process.", providerBuckets),
		store:       histogram(m, "polycred.store.operation.duration", "How long an operation of the store took.", storeBuckets),
		revocations: counter(m, "polycred.revocations", "{revocation}", "Attempts to have a provider revoke a grant."),
		connects:    counter(m, "polycred.connects", "{connect}", "Accounts that were connected or reconnected, or failed to be."),
		numbered:    counter(m, "polycred.event.numbered", "{event}", "Events that got their number."),
		lag:         histogram(m, "polycred.scheduler.lag", "How late the scheduler began refreshes ahead of expiry.", lagBuckets),
		served:      histogram(m, "polycred.http.request.duration", "How long a request to the HTTP API took.", providerBuckets),
	}
}

func counter(m metric.Meter, name, unit, description string) metric.Int64Counter {
	c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	if err != nil {
		otel.Handle(err)
		return metricnoop.Int64Counter{}
	}
	return c
}

func histogram(m metric.Meter, name, description string, buckets []float64) metric.Float64Histogram {
	h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(buckets...))
	if err != nil {
		otel.Handle(err)
		return metricnoop.Float64Histogram{}
	}
	return h
}

// Issued counts a token of an account of a declared integration. It allocates nothing but at the first use of an
// integration.
func (i *Instruments) Issued(ctx context.Context, integration string, use Use) {
	if i.issued.Enabled(ctx) {
		i.issued.Add(ctx, 1, i.names.of(integration).issued[use]...)
	}
}

// Forget drops what is kept for an integration that was deleted.
func (i *Instruments) Forget(integration string) { i.names.forget(integration) }

// Refreshed counts a refresh for which the provider was asked, which took d to answer.
func (i *Instruments) Refreshed(ctx context.Context, integration string, trigger Trigger, class Class, d time.Duration) {
	name := i.names.of(integration).attribute
	i.refreshes.Add(ctx, 1, metric.WithAttributes(name, keyTrigger.String(string(trigger)), keyClass.String(string(class))))
	i.refresh.Record(ctx, d.Seconds(), metric.WithAttributes(name, keyClass.String(string(class))))
}

// LeaseWaited tells how long a refresh waited while another process held the lease, and how that ended.
func (i *Instruments) LeaseWaited(ctx context.Context, outcome Wait, d time.Duration) {
	i.leaseWait.Record(ctx, d.Seconds(), metric.WithAttributes(keyOutcome.String(string(outcome))))
}

// Revoked counts an attempt to have a provider revoke a grant.
func (i *Instruments) Revoked(ctx context.Context, integration string, result Revocation) {
	i.revocations.Add(ctx, 1, metric.WithAttributes(i.names.of(integration).attribute, keyResult.String(string(result))))
}

// Connected counts how connecting an account of a declared integration ended: ResultOK, or a code of the engine's list.
func (i *Instruments) Connected(ctx context.Context, integration, result string) {
	i.connects.Add(ctx, 1, metric.WithAttributes(i.names.of(integration).attribute, keyResult.String(result)))
}

// Numbered counts events that got their number.
func (i *Instruments) Numbered(ctx context.Context, events int) {
	if events > 0 {
		i.numbered.Add(ctx, int64(events))
	}
}

// Lagged tells how late the scheduler began a refresh; what is early counts as in time.
func (i *Instruments) Lagged(ctx context.Context, d time.Duration) {
	i.lag.Record(ctx, max(d, 0).Seconds())
}

// Served tells how long a request to the HTTP API took. Route is a pattern of its table, never a path; empty: no pattern fits.
func (i *Instruments) Served(ctx context.Context, route, method string, status int, d time.Duration) {
	if !i.served.Enabled(ctx) { // labels cost, also where nobody reads them
		return
	}
	i.served.Record(ctx, d.Seconds(), metric.WithAttributes(
		keyRoute.String(cmp.Or(route, other)), keyMethod.String(methodOf(method)), keyStatus.Int(status)))
}

// Unsaved has count asked whenever metrics are collected, until stop is called: how many refreshed tokens live in memory
// alone, because the store did not take them. Those of several engines add up.
func (i *Instruments) Unsaved(count func() int64) (stop func()) {
	g, err := i.meter.Int64ObservableUpDownCounter("polycred.token.unsaved", metric.WithUnit("{token}"),
		metric.WithDescription("Refreshed tokens that live in memory alone, because the store did not take them."))
	if err != nil {
		otel.Handle(err)
		return func() {}
	}
	registration, err := i.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(g, count())
		return nil
	}, g)
	if err != nil {
		otel.Handle(err)
		return func() {}
	}
	return func() {
		if err := registration.Unregister(); err != nil {
			otel.Handle(err)
		}
	}
}
