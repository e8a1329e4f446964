package core

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/lease"
)

// rest is how long numbering pauses, so that under load it moves many events in one commit, not few in many.
const rest = 20 * time.Millisecond

// Run does the engine's background work until ctx is done, and then returns nil, soon: it refreshes tokens before they
// end, and keeps refresh tokens alive that would die of idleness; it revokes at the providers what was disconnected; it
// goes on with long work that was cut short; it numbers events, so that Subscribe gets them, and removes those that are
// older than Options.EventRetention; it removes connect sessions that expired, and stores refreshed tokens that the store
// could not take at first. Call it once, in a goroutine of its own, in every process: they share the work. End its context
// before Close: a Run that is left over returns ErrClosed.
//
// A quarantined engine refreshes and revokes nothing.
func (e *Engine) Run(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(e.closed, stop)()
	e.health.running.Add(1)
	defer e.health.running.Add(-1)
	var numbering sync.WaitGroup
	defer numbering.Wait()
	numbering.Go(func() { e.number(running) })
	e.kernel.Run(running, func(err error, times int) {
		e.health.noteFailure(times)
		if times&(times-1) == 0 { // ever less often
			e.log.WarnContext(running, "background work failed; trying again", "error", err, "failures", times)
		}
	})
	_ = e.ahead.lanes.settle(context.WithoutCancel(ctx)) // soon: its workers saw the end too
	if ctx.Err() == nil {
		return ErrClosed
	}
	return nil
}

// background registers what Run does.
func (e *Engine) background() {
	e.kernel.Background(time.Minute, e.tellUses)
	e.kernel.Background(time.Minute, e.sweepSessions)
	e.kernel.Background(time.Minute, func(ctx context.Context) error {
		e.save(ctx)
		return nil
	})
	e.kernel.Background(min(time.Minute, e.opts.LeaseTTL/4), e.resumeJobs) // often enough to see a lease stand still
	e.kernel.Background(time.Minute, func(ctx context.Context) error {
		oldest := e.now().Add(-e.opts.EventRetention).UnixMilli()
		_, err := e.kernel.Events().Trim(ctx, func(ev *kernel.Event) bool { return ev.Time < oldest })
		return err
	})
	e.kernel.Background(time.Second, e.ahead.pass)
	e.kernel.Settle(e.ahead.lanes.settle)
	e.kernel.Background(time.Second, e.revokeDue)
}

// number gives events their numbers while this process holds the lease for it: as soon as one is there, and, for those of
// other processes, each second.
func (e *Engine) number(ctx context.Context) {
	var held *lease.Lease
	var renewed time.Time
	defer func() {
		if held != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			_ = held.Release(ctx) // else it runs out
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-e.kernel.Events().Wake():
		case <-timer.C:
		}
		if e.ending.Load() {
			return
		}
		var err error
		switch {
		case held == nil:
			held, err = e.leases.Acquire(ctx, "events")
			renewed = time.Now()
		case time.Since(renewed) > e.opts.LeaseTTL/3:
			if err = held.Renew(ctx); errors.Is(err, lease.ErrLost) {
				held, err = nil, nil
			}
			renewed = time.Now()
		}
		moved := 0
		if err == nil && held != nil {
			moved, err = e.kernel.Events().Sequence(ctx)
			e.telemetry.Numbered(ctx, moved)
		}
		if failures++; err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			e.health.noteFailure(failures)
			if failures&(failures-1) == 0 { // ever less often
				e.log.WarnContext(ctx, "events could not be numbered; trying again", "error", err, "failures", failures)
			}
		}
		timer.Reset(min(time.Second, e.opts.LeaseTTL/4)) // often enough to see a lease stand still
		if moved > 0 && pause(ctx, rest) != nil {
			return
		}
	}
}
