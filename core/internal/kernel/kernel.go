// Package kernel is the seam between an engine and the packages above it that have state of their own, such as
// workflows: one sealed.DB, so that they keep tables beside the engine's; hooks that run inside the engine's own
// transactions, so that their records change together with an account or not at all; the event log; and background
// work. It speaks in ids and names, because the engine imports it.
package kernel

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/polycred/polycred/core/internal/eventlog"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/storage/sealed"
)

// Credential is what a hook is told of an account.
type Credential struct {
	ID, User, Integration string
	ExternalID, Owner     string // may be empty
}

// Hook takes part in a change of an account: what it adds to tx is applied together with that change, or not at all. The
// change may be tried several times, each with a new tx, so a hook does nothing that tx does not carry. Its error stops
// the change. It may be called concurrently. A tx holds 256 operations, and the engine may need 230 of them: what takes
// more than a few is one record here, an intent, and a Task that carries it out.
type Hook func(ctx context.Context, tx *sealed.Tx, c Credential) error

// Task is background work. It does what is due and returns, soon after ctx is done. It is not called concurrently with
// itself, but that Step may be called beside Run.
type Task func(ctx context.Context) error

// Kernel is what the packages above an engine share with it. Register hooks and tasks before the engine is used;
// everything else may be called concurrently.
type Kernel struct {
	db  *sealed.DB
	now func() time.Time
	log *slog.Logger

	events   *eventlog.Log[Event]
	measured *telemetry.Instruments

	mu         sync.RWMutex // guards what was registered
	connect    []Hook
	reconnect  []Hook
	disconnect []Hook
	heard      []func(Event)
	tasks      []task
	settle     []Task
}

type task struct {
	every time.Duration
	do    Task
}

// New returns the kernel of an engine on db.
func New(db *sealed.DB, now func() time.Time, log *slog.Logger) *Kernel {
	return &Kernel{db: db, now: now, log: log, events: eventlog.New[Event](db, eventlog.Spec{
		Outbox: 'o', Entries: 'l', Head: 'h', Name: "event", Plane: sealed.Policy, Format: 1, Now: now,
	}, func(ev *Event, id string) { ev.ID = id })}
}

// DB is where tables are kept. Tags of tables are one byte for all: lower case letters are the engine's.
func (k *Kernel) DB() *sealed.DB { return k.db }

// Now is the engine's clock.
func (k *Kernel) Now() time.Time { return k.now() }

// Log is the engine's log.
func (k *Kernel) Log() *slog.Logger { return k.log }

// Measure says what measures the packages above the engine; the engine calls it, before anybody else has the kernel.
func (k *Kernel) Measure(i *telemetry.Instruments) { k.measured = i }

// Telemetry is what the engine tells OpenTelemetry.
func (k *Kernel) Telemetry() *telemetry.Instruments { return k.measured }

// OnConnect registers a hook for each account that becomes usable for the first time: when it is connected, or when its
// setup is completed.
func (k *Kernel) OnConnect(h Hook) { k.register(&k.connect, h) }

// OnReconnect registers a hook for each account that is authorised anew: its id and what hangs on it stay.
func (k *Kernel) OnReconnect(h Hook) { k.register(&k.reconnect, h) }

// OnDisconnect registers a hook for each account that goes, also one whose setup was never completed.
func (k *Kernel) OnDisconnect(h Hook) { k.register(&k.disconnect, h) }

func (k *Kernel) register(hooks *[]Hook, h Hook) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*hooks = append(*hooks, h)
}

// Connected runs the hooks of OnConnect; the engine calls it.
func (k *Kernel) Connected(ctx context.Context, tx *sealed.Tx, c Credential) error {
	return k.run(ctx, tx, c, &k.connect)
}

// Reconnected runs the hooks of OnReconnect; the engine calls it.
func (k *Kernel) Reconnected(ctx context.Context, tx *sealed.Tx, c Credential) error {
	return k.run(ctx, tx, c, &k.reconnect)
}

// Disconnected runs the hooks of OnDisconnect; the engine calls it.
func (k *Kernel) Disconnected(ctx context.Context, tx *sealed.Tx, c Credential) error {
	return k.run(ctx, tx, c, &k.disconnect)
}

func (k *Kernel) run(ctx context.Context, tx *sealed.Tx, c Credential, hooks *[]Hook) error {
	k.mu.RLock()
	registered := *hooks
	k.mu.RUnlock()
	for _, hook := range registered {
		if err := hook(ctx, tx, c); err != nil {
			return err
		}
	}
	return nil
}

// Background registers work that Run does each time that every has passed, and Step once. What runs at the same time as
// other work is up to it.
func (k *Kernel) Background(every time.Duration, t Task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tasks = append(k.tasks, task{every: every, do: t})
}

// Settle registers what Step calls after all background work: it waits for what that has begun and not ended.
func (k *Kernel) Settle(t Task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settle = append(k.settle, t)
}

// Run does all background work that was registered until now, each at its own pace, until ctx is done, and waits until
// none is under way. Failed is told when a task fails: how often in a row.
func (k *Kernel) Run(ctx context.Context, failed func(err error, times int)) {
	k.mu.RLock()
	tasks := k.tasks
	k.mu.RUnlock()
	var running sync.WaitGroup
	for _, t := range tasks {
		running.Go(func() {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for failures := 0; ; {
				select {
				case <-ctx.Done():
					return
				case <-timer.C:
				}
				if err := t.do(ctx); err == nil {
					failures = 0
				} else if ctx.Err() == nil {
					failures++
					failed(err, failures)
				}
				timer.Reset(t.every)
			}
		})
	}
	running.Wait()
}

// Step does all background work once, in the order in which it was registered, waits for what it has begun, and then gives
// every event its number. What fails stops nothing else.
func (k *Kernel) Step(ctx context.Context) error {
	k.mu.RLock()
	tasks, settle := k.tasks, k.settle
	k.mu.RUnlock()
	var errs []error
	for _, t := range tasks {
		errs = append(errs, t.do(ctx))
	}
	for _, wait := range settle {
		errs = append(errs, wait(ctx))
	}
	_, unnumbered := k.events.Sequence(ctx)
	return errors.Join(append(errs, unnumbered)...)
}
