package core

import (
	"context"
	"errors"
	"time"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/lease"
)

// rest is how long numbering pauses, so that under load it moves many events in one commit, not few in many.
const rest = 20 * time.Millisecond

// Run does the engine's background work until ctx is done, and then returns nil: it numbers events, so that Subscribe
// gets them, and removes those that are older than Options.EventRetention; it removes connect sessions that expired,
// and stores refreshed tokens that the store could not take at first. Call it once, in a goroutine of its own, in every
// process, and end its context before Close: a Run that is left over returns ErrClosed within a minute.
func (e *Engine) Run(ctx context.Context) error {
	numbering := make(chan struct{})
	go func() {
		defer close(numbering)
		e.number(ctx)
	}()
	defer func() { <-numbering }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if e.ending.Load() {
			return ErrClosed
		}
		if err := e.kernel.Tasks(ctx); err != nil && ctx.Err() == nil {
			e.log.WarnContext(ctx, "background work failed; trying again in a minute", "error", err)
		}
		timer.Reset(time.Minute)
	}
}

// background registers what Run does each minute.
func (e *Engine) background() {
	e.kernel.Background(e.tellUses)
	e.kernel.Background(e.sweepSessions)
	e.kernel.Background(func(ctx context.Context) error {
		e.save(ctx)
		return nil
	})
	e.kernel.Background(func(ctx context.Context) error {
		oldest := e.now().Add(-e.opts.EventRetention).UnixMilli()
		_, err := e.kernel.Events().Trim(ctx, func(ev *kernel.Event) bool { return ev.Time < oldest })
		return err
	})
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
		}
		if failures++; err == nil {
			failures = 0
		} else if ctx.Err() == nil && failures&(failures-1) == 0 { // ever less often
			e.log.WarnContext(ctx, "events could not be numbered; trying again", "error", err, "failures", failures)
		}
		timer.Reset(time.Second)
		if moved > 0 && pause(ctx, rest) != nil {
			return
		}
	}
}
