package coretest

import (
	"context"

	"github.com/polycred/polycred/core"
)

// Step does once what Engine.Run does all the time, and returns when it is done: tokens that are due are refreshed, what
// was disconnected is revoked at the provider, what was cut short is carried on, events get their numbers, so that
// Engine.Subscribe gives them, what has expired is removed, and what could not be stored is tried again. What is due is
// told by the engine's clock, in whole minutes: a test moves it by a minute before a Step that is to revoke. So a test needs
// neither a goroutine nor a sleep. Errors are those of the store; what a provider answers is none.
func Step(e *core.Engine) error { return e.Kernel().Step(context.Background()) }
