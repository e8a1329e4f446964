// Package badger is a storage.Store in a directory of the local disk, for a program that runs as one process and wants
// no server beside it.
//
// [Open] takes a directory and gives a [Store]. What it promises:
//
//   - Apply returns after its batch is on disk: a process that is killed, or a machine that loses power, has lost
//     nothing that was acknowledged. Concurrent batches share one synced commit, so durability costs little under load.
//   - Reads see what was acknowledged and nothing else, and never wait for a commit that is under way.
//   - A directory is open in one process at a time. A second opener gets a *storage.LockedError with the PID of the
//     first.
//   - A disk that fills up stops writes with storage.ErrFull and not the process, as long as nothing else uses up the
//     room that Options.MinFree keeps.
//
// Badger keeps all its files open, some 600 for a gigabyte: raise the limit of open files (ulimit -n) where it is low.
// The directory must lie on a local file system: the locks and memory maps of network file systems do not do.
// Deleted and replaced values stay readable in its files until compaction rewrites them, and copies of the directory
// keep them for good.
package badger

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/gofrs/flock"
	"github.com/polycred/polycred/storage"
)

var (
	_ storage.Store     = (*Store)(nil)
	_ storage.Exclusive = (*Store)(nil)
	_ storage.Placer    = (*Store)(nil)
)

// Store is one open directory. Its methods may be called concurrently. It runs goroutines of its own until Close.
type Store struct {
	dir     string
	lock    *flock.Flock
	db      *badgerdb.DB
	space   *space
	commits *committer
	reads   *snapshots
	failure atomic.Pointer[error] // why every call is refused; nil while the store works
	timeout time.Duration         // Options.CloseTimeout

	closing   sync.Once
	closed    chan struct{} // closed when nothing of the store runs any more
	closedErr error         // what closing met; read after closed
}

// Open opens the store in dir, making the directory (mode 0700) and an empty store where there is none; o may be nil.
//
// It returns a *storage.LockedError when another process, or another Store of this one, has the directory open, and an
// error that wraps storage.ErrFull when too little disk space is free to open it safely. A directory that holds other
// things than a store is refused.
func Open(dir string, o *Options) (*Store, error) {
	s, err := openDir(dir, o.withDefaults())
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w: free disk space: %w", storage.ErrFull, err)
	}
	return s, err
}

// openDir takes the directory, then the lock, then what lies in it.
func openDir(dir string, opts Options) (*Store, error) {
	dir, err := makeDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := lockDir(dir, opts.Logger)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, err := open(dir, lock, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", dir, err), lock.Unlock())
	}
	return s, nil
}

// open does what needs the lock.
func open(dir string, lock *flock.Flock, opts Options) (*Store, error) {
	space := &space{dir: dir, min: opts.MinFree, free: opts.FreeSpace}
	if err := space.checkOpen(); err != nil {
		return nil, err
	}
	if err := removeEmpty(dir, opts.Logger); err != nil {
		return nil, err
	}
	if err := awaitBadger(dir); err != nil {
		return nil, err
	}
	db, err := badgerdb.OpenManaged(opts.tuned(dir))
	if err != nil {
		return nil, err
	}
	space.db = db
	s := &Store{
		dir: dir, lock: lock, db: db, space: space,
		reads: newSnapshots(db), timeout: opts.CloseTimeout, closed: make(chan struct{}),
	}
	s.commits = newCommitter(s, opts)
	go s.commits.run()
	return s, nil
}

// Close waits for the calls under way and ends the store; its lock is released last. Closing twice is no error.
//
// It waits for Options.CloseTimeout at most. What is not done by then goes on behind its back, the error says so, and
// the directory stays locked until it is done after all or the process ends; Close may be called again to wait longer.
// Nothing that was acknowledged is at stake.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.refuse(storage.ErrClosed)
		close(s.commits.closing)
		go func() {
			defer close(s.closed)
			<-s.commits.done
			s.reads.wait()
			s.closedErr = errors.Join(s.db.Close(), s.lock.Unlock())
		}()
	})
	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	select {
	case <-s.closed:
		if s.closedErr != nil {
			return fmt.Errorf("close store in %s: %w", s.dir, s.closedErr)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("close store in %s: not done after %v; the directory stays locked", s.dir, s.timeout)
	}
}

// refuse makes every later call fail with err. The first reason stays, except that closing replaces it.
func (s *Store) refuse(err error) {
	if errors.Is(err, storage.ErrClosed) {
		s.failure.Store(&err)
		return
	}
	s.failure.CompareAndSwap(nil, &err)
}

// refusal returns why calls are refused, or nil.
func (s *Store) refusal() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Dir returns the absolute path of the store's directory.
func (s *Store) Dir() string { return s.dir }

// Exclusive is true: one process at a time has the directory open.
func (s *Store) Exclusive() bool { return true }

// Place names the directory so that a copy of it has another name, and the same directory the same one after a restart:
// on Linux by the machine's id, the directory's inode and the time it was made, on other Unix systems by device and
// inode. It is empty on Windows, and where the directory cannot be examined. A copy of the whole block device, attached
// to a machine of the same id, has the same name.
func (s *Store) Place() string { return place(s.dir) }

// Stats counts what the store has committed since it was opened.
type Stats struct {
	Applies uint64 // batches applied
	Commits uint64 // synced commits that carried them
}

// Stats returns the counts so far. Applies divided by Commits is how many batches shared one sync of the disk.
func (s *Store) Stats() Stats {
	return Stats{Applies: s.commits.applies.Load(), Commits: s.commits.commits.Load()}
}
