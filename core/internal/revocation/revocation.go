// Package revocation has providers end what accounts granted, in the background: who disconnects an account does not wait
// for its provider. What is to be revoked is a [Record], stored in the Tx that takes the account its tokens; a [Revoker]
// carries it out, again and again for three days if need be, and says how it ended. Any number of processes share the
// work.
//
// A record holds all that this takes, because account and integration may be gone by then. What the integration says by
// now, whether somebody else would lose by it, and how it is told, are functions that the engine gives: see [Config].
//
// Promises: a record that was committed ends with one call of Config.Tell, in the Tx that removes it. The provider is
// asked at least once, unless there is a reason not to, by one process at a time, and after a crash perhaps once more,
// which does no harm (RFC 7009 §2.2). Nothing that a provider wrote is logged or told, but known codes.
package revocation

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/egress"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/storage/sealed"
)

// ErrNotRevoked is for Config.Live: the operator does not want tokens to be revoked.
var ErrNotRevoked = errors.New("the integration does not revoke tokens")

// Config is what a Revoker needs of an engine. All of it is required, and the functions may be called concurrently.
type Config struct {
	Kernel  *kernel.Kernel // whose store, clock and log it works with
	Records *sealed.Table[Record]
	Due     *due.Queue

	// Do is the way out to providers. It follows no redirects, and bounds time and size (security 18).
	Do        func(context.Context, *http.Request) (*egress.Response, error)
	Telemetry *telemetry.Instruments
	Timeout   time.Duration // of one attempt, which is several requests
	Skew      time.Duration // by how much the clocks of processes may differ

	// Live returns what the integration of a record says at this moment about the client of the record, nil where it says
	// nothing: it is gone, or about another client. Errors: ErrNotRevoked, and those of the store.
	Live func(ctx context.Context, r *Record) (*Endpoint, error)
	// Shared reports whether to carry out a record would end an account, of whatever user, that is still connected: where
	// the whole grant ends, one that stands for the same grant; else one that holds one of the very tokens. Errors are
	// those of the store.
	Shared func(ctx context.Context, r *Record, whole bool) (bool, error)
	// Tell adds to tx how a record ended: ResultOK, ResultNotRevoked, or the code or class of the last failure. Details are
	// "attempts", "grant" and "left"; the engine says what they mean.
	Tell func(tx *sealed.Tx, r *Record, result string, details map[string]string)
	// Code names an error that is not the provider's, for traces.
	Code func(error) string
}

func (c *Config) now() time.Time { return c.Kernel.Now() }

// Results, beside those of providers.
const (
	ResultOK         = "ok"
	ResultNotRevoked = "not_revoked" // the integration says by now that tokens are not revoked
)

// Revoker carries out what is queued, for one process. It may be used concurrently.
type Revoker struct {
	c Config

	mu      sync.Mutex // held during a pass; guards the fields below
	scanner *due.Scanner
	paused  map[string]time.Time // by origin: until then the provider wants to be left alone
}

// New returns a Revoker. It reads nothing before its first pass.
func New(c Config) *Revoker {
	return &Revoker{c: c, scanner: c.Due.Scanner(c.Kernel.Log()), paused: map[string]time.Time{}}
}

// Add adds to tx that r, a new record, is to be carried out as soon as possible. It sets r.Due.
func (v *Revoker) Add(tx *sealed.Tx, r *Record) {
	r.Due = v.c.Due.Move(tx, 0, due.At(v.c.now()), r.ID)
	v.c.Records.Put(tx, r, 0, r.ID)
}

// Pass carries out what is due. It returns when all of it was tried, or soon after ctx is done, and does nothing while
// another call does the same. What a provider answers is no error; errors are those of the store, and ctx's.
func (v *Revoker) Pass(ctx context.Context) error {
	if !v.mu.TryLock() {
		return nil
	}
	defer v.mu.Unlock()
	p := &pass{c: &v.c, paused: v.paused, silent: map[string]bool{}}
	return v.scanner.Pass(ctx, v.c.now(), p.page)
}
