package telemetry_test

import (
	"context"
	"testing"

	"github.com/polycred/polycred/core/internal/telemetry"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// BenchmarkToken is what being measured costs a valid token: one read of the store, and being counted.
func BenchmarkToken(b *testing.B) {
	for name, i := range map[string]*telemetry.Instruments{
		"no-op":   telemetry.New(metricnoop.NewMeterProvider(), tracenoop.NewTracerProvider()),
		"global":  telemetry.New(nil, nil),
		"enabled": telemetry.New(countingProvider{}, tracenoop.NewTracerProvider()),
	} {
		b.Run(name, func(b *testing.B) {
			ctx, store := context.Background(), i.Store(emptyStore{})
			b.ReportAllocs()
			for b.Loop() {
				_, _ = store.Get(ctx, nil)
				i.Issued(ctx, "googleCalendar", telemetry.UseToken)
			}
		})
	}
}
