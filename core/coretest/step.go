package coretest

import (
	"context"

	"github.com/polycred/polycred/core"
)

// Step does once what Engine.Run does all the time: events get their numbers, so that Engine.Subscribe gives them, what
// has expired is removed, and what could not be stored is tried again. So a test needs neither a goroutine nor a sleep.
// Errors are those of the store.
func Step(e *core.Engine) error { return e.Kernel().Step(context.Background()) }
