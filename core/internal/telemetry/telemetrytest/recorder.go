// Package telemetrytest has a [Recorder] for tests: a MeterProvider and a TracerProvider in one that keep what they are
// told. It is made from OpenTelemetry's API alone, and treats what could carry secrets as the SDK does.
package telemetrytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Instrument is a metric as it was declared.
type Instrument struct {
	Name, Unit, Description string
	Kind                    string // "counter", "histogram", "up-down counter"
}

// Measurement is what was recorded, or observed by a callback, of a metric with the same labels.
type Measurement struct {
	Name   string
	Labels attribute.Set
	Count  int     // of values
	Sum    float64 // of values
	Last   float64 // value
}

// Label returns the value of a label, "" where there is none.
func (m Measurement) Label(key string) string {
	value, _ := m.Labels.Value(attribute.Key(key))
	return value.String()
}

// series is what values are added up by.
type series struct {
	name   string
	labels attribute.Distinct
}

// Recorder keeps what it is told, added up where that loses nothing but single values. The zero value is ready; it may be used concurrently.
type Recorder struct {
	metricnoop.MeterProvider
	tracenoop.TracerProvider

	// Refuse has instruments of this name refused; empty means none.
	Refuse string

	mu           sync.Mutex // guards the rest
	instruments  []Instrument
	measurements map[series]*Measurement
	callbacks    map[*registration]metric.Callback
	spans        []*span
	scopes       []string
}

var (
	_ metric.MeterProvider = (*Recorder)(nil)
	_ trace.TracerProvider = (*Recorder)(nil)
)

// Meter returns a meter that records.
func (r *Recorder) Meter(name string, _ ...metric.MeterOption) metric.Meter {
	r.scope(name)
	return meter{recorder: r}
}

// Tracer returns a tracer that records.
func (r *Recorder) Tracer(name string, _ ...trace.TracerOption) trace.Tracer {
	r.scope(name)
	return tracer{recorder: r}
}

func (r *Recorder) scope(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scopes = append(r.scopes, name)
}

// Instruments returns the metrics that were declared, each once, by name.
func (r *Recorder) Instruments() []Instrument {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.instruments)
	slices.SortFunc(all, func(a, b Instrument) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(all)
}

// Measurements returns what was recorded of a metric, or of all where name is empty, in order.
func (r *Recorder) Measurements(name string) []Measurement {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Measurement
	for _, m := range r.measurements {
		if name == "" || m.Name == name {
			all = append(all, *m)
		}
	}
	slices.SortFunc(all, func(a, b Measurement) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// String is the measurement without its values.
func (m Measurement) String() string {
	return m.Name + "{" + m.Labels.Encoded(attribute.DefaultEncoder()) + "}"
}

// Count counts what was recorded of a metric with all these labels, each as "key=value".
func (r *Recorder) Count(name string, labels ...string) int {
	count, _ := r.add(name, labels)
	return count
}

// Sum adds up what was recorded of a metric with all these labels, each as "key=value".
func (r *Recorder) Sum(name string, labels ...string) float64 {
	_, sum := r.add(name, labels)
	return sum
}

func (r *Recorder) add(name string, labels []string) (count int, sum float64) {
	for _, m := range r.Measurements(name) {
		fits := func(label string) bool {
			key, want, _ := strings.Cut(label, "=")
			return m.Label(key) == want
		}
		if !slices.ContainsFunc(labels, func(label string) bool { return !fits(label) }) {
			count, sum = count+m.Count, sum+m.Sum
		}
	}
	return count, sum
}

// Collect has all callbacks observe, as a reader of metrics does.
func (r *Recorder) Collect(ctx context.Context) error {
	r.mu.Lock()
	callbacks := make([]metric.Callback, 0, len(r.callbacks))
	for _, callback := range r.callbacks {
		callbacks = append(callbacks, callback)
	}
	r.mu.Unlock()
	var errs []error
	for _, callback := range callbacks {
		errs = append(errs, callback(ctx, observer{recorder: r}))
	}
	return errors.Join(errs...)
}

// Text is everything that was told but numbers, a line for each, to be searched.
func (r *Recorder) Text() string {
	var b strings.Builder
	for _, instrument := range r.Instruments() {
		fmt.Fprintf(&b, "%+v\n", instrument)
	}
	for _, m := range r.Measurements("") {
		fmt.Fprintln(&b, m)
	}
	for _, s := range r.Spans() {
		fmt.Fprintf(&b, "%+v\n", s)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(&b, r.scopes)
	return b.String()
}

// Forget drops what was recorded, but for instruments, and spans that go on.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measurements, r.spans = nil, nil
}

func (r *Recorder) declare(name, kind, unit, description string) error {
	if name == r.Refuse {
		return errors.New("instrument refused")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instruments = append(r.instruments, Instrument{Name: name, Unit: unit, Description: description, Kind: kind})
	return nil
}

func (r *Recorder) measure(name string, value float64, labels attribute.Set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.measurements == nil {
		r.measurements = map[series]*Measurement{}
	}
	key := series{name, labels.Equivalent()}
	m := r.measurements[key]
	if m == nil {
		m = &Measurement{Name: name, Labels: labels}
		r.measurements[key] = m
	}
	m.Count, m.Sum, m.Last = m.Count+1, m.Sum+value, value
}

type meter struct {
	metricnoop.Meter
	recorder *Recorder
}

func (m meter) Int64Counter(name string, options ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	c := metric.NewInt64CounterConfig(options...)
	return counter{recorder: m.recorder, name: name}, m.recorder.declare(name, "counter", c.Unit(), c.Description())
}

func (m meter) Float64Histogram(name string, options ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	c := metric.NewFloat64HistogramConfig(options...)
	return histogram{recorder: m.recorder, name: name}, m.recorder.declare(name, "histogram", c.Unit(), c.Description())
}

func (m meter) Int64ObservableUpDownCounter(
	name string, options ...metric.Int64ObservableUpDownCounterOption,
) (metric.Int64ObservableUpDownCounter, error) {
	c := metric.NewInt64ObservableUpDownCounterConfig(options...)
	return upDownCounter{name: name}, m.recorder.declare(name, "up-down counter", c.Unit(), c.Description())
}

func (m meter) RegisterCallback(callback metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	r := &registration{recorder: m.recorder}
	m.recorder.mu.Lock()
	defer m.recorder.mu.Unlock()
	if m.recorder.callbacks == nil {
		m.recorder.callbacks = map[*registration]metric.Callback{}
	}
	m.recorder.callbacks[r] = callback
	return r, nil
}

type registration struct {
	metricnoop.Registration
	recorder *Recorder
}

func (r *registration) Unregister() error {
	r.recorder.mu.Lock()
	defer r.recorder.mu.Unlock()
	delete(r.recorder.callbacks, r)
	return nil
}

type counter struct {
	metricnoop.Int64Counter
	recorder *Recorder
	name     string
}

func (c counter) Enabled(context.Context) bool { return true }

func (c counter) Add(_ context.Context, n int64, options ...metric.AddOption) {
	c.recorder.measure(c.name, float64(n), metric.NewAddConfig(options).Attributes())
}

type histogram struct {
	metricnoop.Float64Histogram
	recorder *Recorder
	name     string
}

func (h histogram) Enabled(context.Context) bool { return true }

func (h histogram) Record(_ context.Context, value float64, options ...metric.RecordOption) {
	h.recorder.measure(h.name, value, metric.NewRecordConfig(options).Attributes())
}

type upDownCounter struct {
	metricnoop.Int64ObservableUpDownCounter
	name string
}

type observer struct {
	metricnoop.Observer
	recorder *Recorder
}

func (o observer) ObserveInt64(observable metric.Int64Observable, value int64, options ...metric.ObserveOption) {
	if u, ok := observable.(upDownCounter); ok {
		o.recorder.measure(u.name, float64(value), metric.NewObserveConfig(options).Attributes())
	}
}
