package lease_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

const ttl = 30 * time.Second

// world is a store that several processes share: each opens it by itself.
type world struct {
	store *faulty
	keks  crypto.KEKs
}

func newWorld(t *testing.T) *world {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	return &world{store: &faulty{Store: memory.New()}, keks: crypto.KEKs{Tokens: kek, Policy: kek}}
}

// process returns the leases as one process sees them.
func (w *world) process(t *testing.T, o lease.Options) *lease.Table {
	t.Helper()
	db, err := sealed.Open(t.Context(), w.store, w.keks, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return lease.New(db, o)
}

// faulty is a store whose next Apply is answered as a test says.
type faulty struct {
	storage.Store
	mu   sync.Mutex                                            // guards next
	next []func(apply func() error, ctx context.Context) error // one for each Apply to come
}

func (f *faulty) then(answers ...func(apply func() error, ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = answers
}

func (f *faulty) Apply(ctx context.Context, b storage.Batch) error {
	f.mu.Lock()
	var answer func(func() error, context.Context) error
	if len(f.next) > 0 {
		answer, f.next = f.next[0], f.next[1:]
	}
	f.mu.Unlock()
	apply := func() error { return f.Store.Apply(context.WithoutCancel(ctx), b) }
	if answer == nil {
		return f.Store.Apply(ctx, b)
	}
	return answer(apply, ctx)
}

// The connection dies after the commit, or before it.
func unknownAfter(apply func() error, _ context.Context) error {
	if err := apply(); err != nil {
		return err
	}
	return storage.ErrUnknownOutcome
}

func unknownBefore(func() error, context.Context) error { return storage.ErrUnknownOutcome }

// clock stands until it is moved, in either direction.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// acquire wants the lease to be free.
func acquire(t *testing.T, table *lease.Table, name ...string) *lease.Lease {
	t.Helper()
	l, err := table.Acquire(t.Context(), name...)
	if err != nil || l == nil {
		t.Fatalf("Acquire(%q) = %v, %v, want the lease", name, l, err)
	}
	return l
}

// refused wants the lease to be held by somebody else.
func refused(t *testing.T, table *lease.Table, when string, name ...string) {
	t.Helper()
	if l, err := table.Acquire(t.Context(), name...); err != nil || l != nil {
		t.Fatalf("Acquire(%q) %s = %v, %v, want nil, nil", name, when, l, err)
	}
}
