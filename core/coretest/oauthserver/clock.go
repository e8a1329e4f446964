package main

import (
	"time"

	"github.com/polycred/polycred/core/coretest"
)

// clock is the server's time: it runs with the machine's, or stands still, and can be moved either way. Its methods
// may be called concurrently.
type clock struct {
	start time.Time
	runs  bool
	moved *coretest.Clock // begins at start
}

// newClock returns a clock that stands at start, or that runs if start is zero.
func newClock(start time.Time) *clock {
	moved := coretest.NewClock(start)
	return &clock{start: moved.Now(), runs: start.IsZero(), moved: moved}
}

func (c *clock) now() time.Time {
	if c.runs {
		return time.Now().Add(c.moved.Now().Sub(c.start))
	}
	return c.moved.Now()
}

func (c *clock) advance(d time.Duration) { c.moved.Advance(d) }

// reset undoes what the clock has been moved by.
func (c *clock) reset() { c.moved.Set(c.start) }
