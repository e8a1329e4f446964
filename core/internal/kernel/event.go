package kernel

import (
	"context"
	"errors"
	"time"

	"github.com/polycred/polycred/core/internal/eventlog"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// settleTime bounds finding out whether a transaction was applied.
const settleTime = 5 * time.Second

// Event is an event as it is stored; package core documents its fields.
type Event struct {
	ID   string `cbor:"1,keyasint,omitempty"` // a UUIDv7, once it is numbered
	Time int64  `cbor:"2,keyasint"`           // milliseconds since 1970 UTC
	Kind string `cbor:"3,keyasint"`

	Actor   string `cbor:"4,keyasint"`
	Person  string `cbor:"5,keyasint,omitempty"`
	TokenID string `cbor:"6,keyasint,omitempty"`

	User          string `cbor:"10,keyasint,omitempty"`
	Integration   string `cbor:"11,keyasint,omitempty"`
	Credential    string `cbor:"12,keyasint,omitempty"`
	Configuration string `cbor:"13,keyasint,omitempty"`
	Revision      uint64 `cbor:"14,keyasint,omitempty"`

	Cause   string            `cbor:"20,keyasint,omitempty"`
	Result  string            `cbor:"21,keyasint"`
	Details map[string]string `cbor:"22,keyasint,omitempty"`
}

// Emit adds an event to tx: it is told when tx is applied, by Commit. Time is filled in.
func (k *Kernel) Emit(tx *sealed.Tx, ev Event) {
	ev.Time = k.now().UnixMilli()
	k.events.Append(tx, &ev)
	k.mu.RLock()
	heard := k.heard
	k.mu.RUnlock()
	for _, f := range heard {
		tx.After(func() { f(ev) })
	}
}

// OnEvent has f called with each event of this process right after it was stored, or may have been, in the goroutine
// that did so: before whoever made the change learns that it is done.
func (k *Kernel) OnEvent(f func(Event)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.heard = append(k.heard, f)
}

// Apply is tx.Commit, but that the store's answer was lost (storage.ErrUnknownOutcome) is settled where that can be done:
// the transaction was applied, or it counts as lost to somebody else, *storage.ConflictError, and is to be tried again on
// what is there then.
func (k *Kernel) Apply(ctx context.Context, tx *sealed.Tx) error {
	err := tx.Commit(ctx)
	if !errors.Is(err, storage.ErrUnknownOutcome) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime) // else nobody would ever know
	defer cancel()
	switch landed, unread := tx.Landed(ctx); {
	case unread != nil:
		return err
	case landed:
		return nil
	}
	return &storage.ConflictError{}
}

// Lost reports whether err, from Apply, says that the store's answer was lost and nothing is there of the transaction: it
// is a conflict with nobody.
func Lost(err error) bool {
	var conflict *storage.ConflictError
	return errors.As(err, &conflict) && conflict.Key == nil
}

// Commit is Apply for a transaction with events in it: the sequencer of this process hears of them at once.
func (k *Kernel) Commit(ctx context.Context, tx *sealed.Tx) error {
	err := k.Apply(ctx, tx)
	if err == nil {
		k.events.Notify()
	}
	return err
}

// Events is the log that Emit leads to.
func (k *Kernel) Events() *eventlog.Log[Event] { return k.events }
