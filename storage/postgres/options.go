package postgres

import (
	"cmp"
	"log/slog"
	"time"
)

// Options of Open. The zero value is good for production.
type Options struct {
	// MaxConns is the most connections that the store holds open. Zero means pool_max_conns of the DSN, or else the
	// larger of 4 and the number of CPUs.
	MaxConns int

	// Timeout is how long the server may take over one step: a read, the changes of a batch, a commit. When it has
	// passed, a read fails, and a write that may have reached the server gives storage.ErrUnknownOutcome. A server that
	// only waits for a lock is told to give up a little earlier, with a plain error. Zero means 15 seconds.
	Timeout time.Duration

	// Migrate makes Open call Migrate first, for a role that may change the schema. False means that Open never does.
	Migrate bool

	// Logger receives warnings about the server's settings. Nil means slog.Default.
	Logger *slog.Logger
}

func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	opts.Timeout = cmp.Or(opts.Timeout, 15*time.Second)
	opts.Logger = cmp.Or(opts.Logger, slog.Default())
	return opts
}
