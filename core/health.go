package core

import "sync/atomic"

// vitals are what the engine itself knows of how it is.
type vitals struct {
	running atomic.Int64 // calls of Run that have not returned
}
