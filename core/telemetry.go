package core

import (
	"context"
	"errors"
	"time"

	"github.com/polycred/polycred/core/internal/telemetry"
)

// What the engine tells OpenTelemetry: docs/telemetry.md. Nothing but names, ids of credentials, and words of fixed lists
// goes there (security 27); an error goes there as its code.

// resultOf is how work ended, in one word: the class of a failed call to a provider, else the code of the error.
func resultOf(err error) string {
	if failed, ok := errors.AsType[*ProviderError](err); ok && failed.Class != FailureNone {
		return string(failed.Class)
	}
	return connectResult(err)
}

// connectResult is how connecting an account ended, as the event of a failed connect has it.
func connectResult(err error) string {
	if err == nil {
		return telemetry.ResultOK
	}
	return codeOf(err)
}

// traced does work below a span.
func traced[T any](
	ctx context.Context, e *Engine, name telemetry.Name, integration string, work func(context.Context) (T, error),
) (T, error) {
	ctx, span := e.telemetry.Start(ctx, name, integration, "")
	defer span.End()
	v, err := work(ctx)
	span.Result(resultOf(err))
	return v, err
}

// asked counts a refresh for which a provider was asked.
func (e *Engine) asked(ctx context.Context, p *provider, why trigger, began time.Time, err error) {
	e.telemetry.Refreshed(ctx, p.Name, telemetry.Trigger(why), telemetry.ClassOf(resultOf(err)), time.Since(began))
}

// hindered is a refresh that waits while another process has the lease; zero: it does not.
type hindered struct{ since time.Time }

func (h *hindered) begin() {
	if h.since.IsZero() {
		h.since = time.Now() // real time, as it is waited for
	}
}

// end tells how the wait ended, if there was one.
func (h *hindered) end(ctx context.Context, e *Engine, how telemetry.Wait) {
	if !h.since.IsZero() {
		e.telemetry.LeaseWaited(ctx, how, time.Since(h.since))
	}
	h.since = time.Time{}
}

// countUnsaved counts the refreshed tokens that live in memory alone.
func (e *Engine) countUnsaved() (n int64) {
	e.unsaved.Range(func(any, any) bool {
		n++
		return true
	})
	return n
}
