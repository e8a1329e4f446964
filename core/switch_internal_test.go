package core

import "time"

// Tick makes what is known of who is disabled older, as real time does.
func (e *Engine) Tick(d time.Duration) {
	seen := *e.disabled.seen.Load()
	seen.real = seen.real.Add(d)
	e.disabled.seen.Store(&seen)
}
