package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// note is a record of a package above the kernel.
type note struct {
	Text string `cbor:"1,keyasint"`
}

func newKernel(t *testing.T) (*kernel.Kernel, *sealed.Table[note]) {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	db, err := sealed.Open(t.Context(), memory.New(), crypto.KEKs{Policy: kek}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	k := kernel.New(db, func() time.Time { return at }, slog.New(slog.DiscardHandler))
	return k, sealed.NewTable[note](k.DB(), sealed.Spec{Tag: 'N', Name: "note", Plane: sealed.Policy, Format: 1})
}

// wakes reports whether the sequencer was told that there is something to do.
func wakes(k *kernel.Kernel) bool {
	select {
	case <-k.Events().Wake():
		return true
	default:
		return false
	}
}

func numbered(t *testing.T, k *kernel.Kernel) (events []kernel.Event) {
	t.Helper()
	entries, err := k.Events().Read(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		events = append(events, entry.Value)
	}
	return events
}

// Hooks run in the order in which they were registered, each for its own change only, and the first that fails stops all.
func TestHooks(t *testing.T) {
	t.Parallel()
	account := kernel.Credential{ID: "id", User: "ada", Integration: "acme", ExternalID: "work", Owner: "bob"}
	for _, tt := range []struct {
		name     string
		register func(*kernel.Kernel, kernel.Hook)
		run      func(*kernel.Kernel, context.Context, *sealed.Tx, kernel.Credential) error
	}{
		{"connect", (*kernel.Kernel).OnConnect, (*kernel.Kernel).Connected},
		{"reconnect", (*kernel.Kernel).OnReconnect, (*kernel.Kernel).Reconnected},
		{"disconnect", (*kernel.Kernel).OnDisconnect, (*kernel.Kernel).Disconnected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k, notes := newKernel(t)
			var ran []string
			hook := func(name string, fails error) kernel.Hook {
				return func(_ context.Context, tx *sealed.Tx, c kernel.Credential) error {
					if diff := cmp.Diff(account, c); diff != "" {
						t.Errorf("hook %s got (-want +got):\n%s", name, diff)
					}
					notes.Put(tx, &note{name}, 0, name)
					ran = append(ran, name)
					return fails
				}
			}
			for _, register := range []func(kernel.Hook){k.OnConnect, k.OnReconnect, k.OnDisconnect} {
				register(func(context.Context, *sealed.Tx, kernel.Credential) error {
					ran = append(ran, "one")
					return nil
				})
			}
			tx := k.DB().Begin(t.Context())
			tt.register(k, hook("two", nil))
			if err := tt.run(k, t.Context(), tx, account); err != nil {
				t.Errorf("run = %v, want nil", err)
			}
			if err := k.Commit(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			if v, _, err := notes.Get(t.Context(), "two"); v.Text != "two" || err != nil {
				t.Errorf("what the hook added = %v, %v, want it stored", v, err)
			}
			failed := errors.New("no")
			tt.register(k, hook("three", failed))
			tt.register(k, hook("four", nil))
			if err := tt.run(k, t.Context(), k.DB().Begin(t.Context()), account); !errors.Is(err, failed) {
				t.Errorf("run = %v, want the hook's error", err)
			}
			if want := []string{"one", "two", "one", "two", "three"}; !slices.Equal(ran, want) {
				t.Errorf("hooks that ran = %q, want %q", ran, want)
			}
		})
	}
}

// An event is told exactly when the transaction that it was added to is applied, under the time of the kernel's clock.
func TestEmit(t *testing.T) {
	t.Parallel()
	k, notes := newKernel(t)
	ctx := t.Context()
	given := kernel.Event{
		ID: "given", Time: 1, Kind: "note.written", Actor: "user", Person: "bob", TokenID: "t", User: "ada", Integration: "acme",
		Credential: "c", Configuration: "g", Revision: 1<<62 - 1, Cause: "request", Result: "ok", Details: map[string]string{"a": "b"},
	}
	tx := k.DB().Begin(ctx)
	notes.Put(tx, &note{"first"}, 0, "k")
	k.Emit(tx, given)
	k.Emit(tx, given)
	if wakes(k) {
		t.Error("the sequencer wakes before anything is applied")
	}
	if err := k.Commit(ctx, tx); err != nil {
		t.Fatal(err)
	}
	if !wakes(k) {
		t.Error("the sequencer does not wake after a commit")
	}

	lost := k.DB().Begin(ctx)
	notes.Put(lost, &note{"second"}, 0, "k")
	k.Emit(lost, given)
	var conflict *storage.ConflictError
	if err := k.Commit(ctx, lost); !errors.As(err, &conflict) {
		t.Errorf("Commit() of a record that is there = %v, want a conflict", err)
	}
	if wakes(k) {
		t.Error("the sequencer wakes after a commit that failed")
	}

	if got := numbered(t, k); len(got) != 0 {
		t.Errorf("events before Step = %v, want none", got)
	}
	if err := k.Step(ctx); err != nil {
		t.Fatal(err)
	}
	got := numbered(t, k)
	if len(got) != 2 {
		t.Fatalf("%d events, want the two that were applied", len(got))
	}
	for i := range got {
		if id, err := uuid.Parse(got[i].ID); err != nil || id.Version() != 7 {
			t.Errorf("id of event %d = %q, want a UUIDv7", i, got[i].ID)
		}
		want := given
		want.ID, want.Time = got[i].ID, at.UnixMilli()
		if diff := cmp.Diff(want, got[i]); diff != "" {
			t.Errorf("event %d (-want +got):\n%s", i, diff)
		}
	}
	if got[0].ID >= got[1].ID {
		t.Errorf("ids = %s, %s, want the later one to sort behind", got[0].ID, got[1].ID)
	}
}

// Who listens hears of an event once it is stored, before Commit returns, and of none that was not applied.
func TestOnEvent(t *testing.T) {
	t.Parallel()
	k, notes := newKernel(t)
	var heard []string
	k.OnEvent(func(ev kernel.Event) { heard = append(heard, ev.User) })
	for i, want := range []string{"ada", "ada"} { // the second one lays a record where one is
		tx := k.DB().Begin(t.Context())
		notes.Put(tx, &note{}, 0, "k")
		k.Emit(tx, kernel.Event{Kind: "note.written", User: "ada"})
		if len(heard) != i {
			t.Errorf("%q was heard before the commit, want nothing new", heard)
		}
		_ = k.Commit(t.Context(), tx)
		if got := strings.Join(heard, " "); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
}

// Every task has its turn, what they began is waited for, and events get their numbers, whatever fails.
func TestStep(t *testing.T) {
	t.Parallel()
	k, _ := newKernel(t)
	ctx := t.Context()
	one, three, four := errors.New("one"), errors.New("three"), errors.New("four")
	var ran []int
	emit := func(i int, fails error) kernel.Task {
		return func(context.Context) error {
			ran = append(ran, i)
			tx := k.DB().Begin(ctx)
			k.Emit(tx, kernel.Event{Kind: fmt.Sprint(i), Result: "ok"})
			return errors.Join(fails, k.Commit(ctx, tx))
		}
	}
	k.Settle(emit(3, four))
	for i, fails := range []error{one, nil, three} {
		k.Background(time.Hour, emit(i, fails))
	}
	for range 2 {
		if err := k.Step(ctx); !errors.Is(err, one) || !errors.Is(err, three) || !errors.Is(err, four) {
			t.Errorf("Step() = %v, want all three errors", err)
		}
	}
	if want := []int{0, 1, 2, 3, 0, 1, 2, 3}; !slices.Equal(ran, want) {
		t.Errorf("tasks that ran = %v, want %v", ran, want)
	}
	var kinds []string
	for _, ev := range numbered(t, k) {
		kinds = append(kinds, ev.Kind)
	}
	if want := []string{"0", "1", "2", "3", "0", "1", "2", "3"}; !slices.Equal(kinds, want) {
		t.Errorf("events = %q, want %q", kinds, want)
	}
}

// Under Run each task goes at its own pace: one that hangs or fails holds up nobody else, and Run ends with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	k, _ := newKernel(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	again := make(chan struct{}, 1)
	k.Background(time.Nanosecond, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err() // no failure
	})
	no := errors.New("no")
	k.Background(time.Nanosecond, func(context.Context) error { return no })
	k.Background(time.Nanosecond, func(context.Context) error {
		select {
		case again <- struct{}{}:
		default:
		}
		return nil
	})
	failures := make(chan int, 3)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.Run(ctx, func(err error, times int) {
			if !errors.Is(err, no) {
				t.Errorf("failed(%v), want only the task that fails", err)
			}
			select {
			case failures <- times:
			default:
			}
		})
	}()
	for i := range 3 {
		<-again
		if times := <-failures; times != i+1 {
			t.Errorf("failures in a row = %d, want %d", times, i+1)
		}
	}
	cancel()
	<-ended
}

// What is registered late counts from then on, also while others are at work.
func TestRegisterLate(t *testing.T) {
	t.Parallel()
	k, _ := newKernel(t)
	ctx := t.Context()
	running, stop := context.WithCancel(ctx)
	var workers, steps sync.WaitGroup
	steps.Go(func() {
		for running.Err() == nil {
			if err := k.Step(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	for range 8 {
		workers.Go(func() {
			for range 50 {
				k.OnConnect(func(context.Context, *sealed.Tx, kernel.Credential) error { return nil })
				k.Background(time.Minute, func(context.Context) error { return nil })
				tx := k.DB().Begin(ctx)
				k.Emit(tx, kernel.Event{Kind: "connected", Result: "ok"})
				err := errors.Join(k.Connected(ctx, tx, kernel.Credential{}), k.Commit(ctx, tx))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	stop()
	steps.Wait()
	ran := 0
	k.OnConnect(func(context.Context, *sealed.Tx, kernel.Credential) error {
		ran++
		return nil
	})
	if err := errors.Join(k.Connected(ctx, k.DB().Begin(ctx), kernel.Credential{}), k.Step(ctx)); err != nil || ran != 1 {
		t.Errorf("the hook that came last ran %d times, %v, want once", ran, err)
	}
	if got := len(numbered(t, k)); got != 400 {
		t.Errorf("%d events, want 400", got)
	}
}

// Packages above the kernel see the engine's clock and log.
func TestShared(t *testing.T) {
	t.Parallel()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	db, err := sealed.Open(t.Context(), memory.New(), crypto.KEKs{Policy: kek}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	k := kernel.New(db, func() time.Time { return at }, log)
	if k.DB() != db || k.Log() != log || !k.Now().Equal(at) {
		t.Errorf("DB, Log, Now = %p, %p, %v, want %p, %p, %v", k.DB(), k.Log(), k.Now(), db, log, at)
	}
}
