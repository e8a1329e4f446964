package storage

import (
	"errors"
	"fmt"
	"os"
)

// What a caller branches on, with errors.Is.
var (
	// ErrNotFound: no value lies under the key.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the call is malformed and can never succeed. It is a bug of the caller.
	ErrInvalid = errors.New("invalid storage call")
	// ErrTooLarge: a key, value or batch is beyond the limits.
	ErrTooLarge = errors.New("too large to store")
	// ErrFull: there is no room to write safely. Nothing was written and reads go on; free disk space.
	ErrFull = errors.New("store is full")
	// ErrUnknownOutcome: the connection died while committing. Read again and compare the bytes.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
	// ErrUnavailable: the store cannot be reached, or does not answer in time. Nothing was changed; try again later.
	ErrUnavailable = errors.New("store cannot be reached")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// ConflictError says that a condition of a batch did not hold; nothing was changed. Key is one of the keys concerned.
type ConflictError struct{ Key []byte }

func (e *ConflictError) Error() string { return fmt.Sprintf("conflict at key %x", e.Key) }

// LockedError says that another process, or another Store of this one, has the directory open.
type LockedError struct {
	Path string // the lock file
	PID  int    // the holder; 0 when it could not be read
}

func (e *LockedError) Error() string {
	holder := "another process"
	switch e.PID {
	case 0:
	case os.Getpid():
		return fmt.Sprintf("store is locked (%s): this process has it open already; share that one", e.Path)
	default:
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("store is locked by %s (%s): a directory can be open in one process at a time; stop that process, or reach it over its API", holder, e.Path)
}
