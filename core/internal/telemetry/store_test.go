package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/core/internal/telemetry/telemetrytest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/storagetest"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
)

// A store that is measured is a store.
func TestStoreConforms(t *testing.T) {
	t.Parallel()
	i := telemetry.New(&telemetrytest.Recorder{}, &telemetrytest.Recorder{})
	storagetest.Run(t, storagetest.Harness{Open: func(testing.TB) storage.Store { return i.Store(memory.New()) }})
}

// failing fails each operation with the same error.
type failing struct {
	storage.Store
	err error
}

func (s failing) Get(context.Context, []byte) (storage.Item, error)         { return storage.Item{}, s.err }
func (s failing) GetMany(context.Context, [][]byte) ([]storage.Item, error) { return nil, s.err }
func (s failing) Scan(context.Context, storage.Range) (storage.Page, error) {
	return storage.Page{}, s.err
}
func (s failing) Apply(context.Context, storage.Batch) error { return s.err }

func TestStoreOutcomes(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"ok":          nil,
		"not_found":   fmt.Errorf("get: %w", storage.ErrNotFound),
		"conflict":    fmt.Errorf("apply: %w", &storage.ConflictError{Key: []byte("canary")}),
		"full":        storage.ErrFull,
		"unknown":     fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, context.Canceled),
		"unavailable": fmt.Errorf("get: %w", storage.ErrUnavailable),
		"canceled":    fmt.Errorf("get: %w", context.DeadlineExceeded),
		"error":       errCanary,
	} {
		i, r := newInstruments(t)
		s, ctx := i.Store(failing{err: err}), t.Context()
		_, get := s.Get(ctx, nil)
		_, many := s.GetMany(ctx, nil)
		_, scan := s.Scan(ctx, storage.Range{})
		apply := s.Apply(ctx, storage.Batch{})
		for operation, got := range map[string]error{"get": get, "get_many": many, "scan": scan, "apply": apply} {
			if !errors.Is(got, err) {
				t.Errorf("%s = %v, want %v as it came", operation, got, err)
			}
			count := r.Count("polycred.store.operation.duration", "polycred.operation="+operation, "polycred.outcome="+want)
			if count != 1 {
				t.Errorf("%s that fails with %v: measured %d times as %s, want once; all: %s", operation, err, count, want, r.Text())
			}
		}
	}
}

// placed has all optional interfaces.
type placed struct{ storage.Store }

func (placed) Exclusive() bool { return true }
func (placed) Place() string   { return "there" }
func (placed) Dir() string     { return "dir" }

// What a store can tell of itself is told through the measure too; what it cannot is told as if it were not asked.
func TestStoreOptionalInterfaces(t *testing.T) {
	t.Parallel()
	i, _ := newInstruments(t)
	dir := t.TempDir()
	onDisk, err := badger.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = onDisk.Close() })
	for name, test := range map[string]struct {
		store      storage.Store
		exclusive  bool
		place, dir string
	}{
		"none":   {failing{}, false, "", ""},
		"all":    {placed{}, true, "there", "dir"},
		"badger": {onDisk, true, onDisk.Place(), onDisk.Dir()},
	} {
		s := i.Store(test.store)
		e, p, d := s.(storage.Exclusive).Exclusive(), s.(storage.Placer).Place(), s.(interface{ Dir() string }).Dir()
		if e != test.exclusive || p != test.place || d != test.dir {
			t.Errorf("%s: Exclusive %t, Place %q, Dir %q, want %t, %q, %q", name, e, p, d, test.exclusive, test.place, test.dir)
		}
	}
}

// emptyStore has nothing, at no cost.
type emptyStore struct{ storage.Store }

func (emptyStore) Get(context.Context, []byte) (storage.Item, error) {
	return storage.Item{}, storage.ErrNotFound
}

// countingProvider takes measurements as an SDK does, and throws them away.
type countingProvider struct{ metricnoop.MeterProvider }

func (countingProvider) Meter(string, ...metric.MeterOption) metric.Meter { return countingMeter{} }

type countingMeter struct{ metricnoop.Meter }

func (countingMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return countingCounter{}, nil
}

func (countingMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return countingHistogram{}, nil
}

type countingCounter struct{ metricnoop.Int64Counter }

func (countingCounter) Enabled(context.Context) bool { return true }

func (countingCounter) Add(_ context.Context, _ int64, options ...metric.AddOption) {
	_ = metric.NewAddConfig(options)
}

type countingHistogram struct{ metricnoop.Float64Histogram }

func (countingHistogram) Enabled(context.Context) bool { return true }

func (countingHistogram) Record(_ context.Context, _ float64, options ...metric.RecordOption) {
	_ = metric.NewRecordConfig(options)
}

// The decorator is written for today's Store: an operation that is added to it has to be measured too.
func TestStoreMeasuresEveryOperation(t *testing.T) {
	t.Parallel()
	i, r := newInstruments(t)
	s, ctx := i.Store(memory.New()), t.Context()
	put := storage.Batch{Puts: []storage.Put{{Key: []byte("k"), Value: []byte("v"), Rev: 1}}}
	_ = s.Apply(ctx, put)
	_, _ = s.Get(ctx, []byte("k"))
	_, _ = s.GetMany(ctx, [][]byte{[]byte("k")})
	_, _ = s.Scan(ctx, storage.Range{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, []byte("k")); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Get of a closed store = %v, want %v", err, storage.ErrClosed)
	}
	if got := r.Count("polycred.store.operation.duration"); got != 5 {
		t.Errorf("%d measurements, want 5", got)
	}
}
