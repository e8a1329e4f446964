//go:build long

package proof_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/postgres"
)

// openStore opens the store of a setup.
func openStore(ctx context.Context, s *setup, full *atomic.Bool) (storage.Store, error) {
	switch s.Store {
	case onBadger:
		return badger.Open(s.Place, &badger.Options{FreeSpace: func(string) (uint64, error) {
			if full.Load() {
				return 0, nil
			}
			return 1 << 40, nil
		}})
	case onPostgres:
		return postgres.Open(ctx, s.Place, &postgres.Options{MaxConns: 8, Timeout: 5 * time.Second})
	default:
		return nil, fmt.Errorf("there is no store %q", s.Store)
	}
}

// The steps of a refresh that are written to the store, as their batches show them.
const (
	stepLease   = "lease"   // taken
	stepIntent  = "intent"  // the credential, for the first time
	stepCommit  = "commit"  // the credential, for the second time
	stepRelease = "release" // of the lease
)

// mine is where a process kills itself: before or after it has applied one step of a refresh.
type mine struct {
	Step  string `json:"step"`
	After bool   `json:"after"`
}

// mined is a store that kills its process.
type mined struct {
	storage.Store

	mu      sync.Mutex // guards the following
	mine    *mine
	written int // how often a credential was, since the mine was laid
}

// lay arms the store.
func (s *mined) lay(m mine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mine, s.written = &m, 0
}

// errFault marks an error that is the store's own, such as a lost connection, and none that the contract names.
var errFault = errors.New("the store failed")

func fault(err error) error {
	var conflict *storage.ConflictError
	switch {
	case err == nil, errors.As(err, &conflict), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	for _, named := range []error{
		storage.ErrNotFound, storage.ErrInvalid, storage.ErrTooLarge, storage.ErrFull, storage.ErrClosed,
	} {
		if errors.Is(err, named) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", errFault, err)
}

// Get, GetMany and Scan mark what fails.
func (s *mined) Get(ctx context.Context, key []byte) (storage.Item, error) {
	item, err := s.Store.Get(ctx, key)
	return item, fault(err)
}

func (s *mined) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	items, err := s.Store.GetMany(ctx, keys)
	return items, fault(err)
}

func (s *mined) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	page, err := s.Store.Scan(ctx, r)
	return page, fault(err)
}

// Apply kills the process where the mine lies.
func (s *mined) Apply(ctx context.Context, b storage.Batch) error {
	s.mu.Lock()
	m := s.mine
	if m == nil || s.step(&b) != m.Step {
		s.mu.Unlock()
		return fault(s.Store.Apply(ctx, b))
	}
	defer s.mu.Unlock() // never, if all goes well: nobody else writes any more
	if m.After {
		if err := s.Store.Apply(ctx, b); err != nil {
			return err
		}
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		return err
	}
	select {}
}

// The first byte of a key is the tag of its table.
const (
	credentials = 'c'
	leases      = 'v'
)

// step tells which step of a refresh a batch is. The lock is held.
func (s *mined) step(b *storage.Batch) string {
	for _, put := range b.Puts {
		switch put.Key[0] {
		case leases:
			return stepLease
		case credentials:
			if s.written++; s.written == 1 {
				return stepIntent
			}
			return stepCommit
		}
	}
	for _, del := range b.Deletes {
		if del.Key[0] == leases {
			return stepRelease
		}
	}
	return ""
}

// Exclusive, Place and Dir are those of the store itself.
func (s *mined) Exclusive() bool {
	exclusive, ok := s.Store.(storage.Exclusive)
	return ok && exclusive.Exclusive()
}

func (s *mined) Place() string {
	if placer, ok := s.Store.(storage.Placer); ok {
		return placer.Place()
	}
	return ""
}

func (s *mined) Dir() string {
	if dir, ok := s.Store.(interface{ Dir() string }); ok {
		return dir.Dir()
	}
	return ""
}
