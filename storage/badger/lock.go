package badger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/polycred/polycred/storage"
)

const (
	lockName   = "polycred.lock"
	badgerLock = "LOCK" // where Badger writes the PID of who has locked the directory

	// forkTime is how long a lock of Badger's can outlive its holder, generously.
	forkTime = 5 * time.Second
)

// lockDir locks the directory and writes the PID of this process into the lock file. The lock is the kernel's and dies
// with the process, so a file that is left behind means nothing; it is never removed, which would let two openers lock
// two files of the same name.
func lockDir(dir string, log *slog.Logger) (*flock.Flock, error) {
	path := filepath.Join(dir, lockName)
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !ok {
		return nil, lockedBy(path)
	}
	// The PID only serves the message that others get. A full disk, which has an answer of its own, can keep it out.
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		log.Debug("could not write the PID into the lock file", "path", path, "err", err)
	}
	return lock, nil
}

// awaitBadger waits for a lock of Badger's on the directory to go, and returns a *storage.LockedError if it stays. We
// have our own lock by now, so either another program opened the directory with Badger alone, or it is the lock of a
// Store that was just closed: Badger gives it up by closing the file, and a process that is being forked by some other
// goroutine holds a copy of that until it runs its program.
func awaitBadger(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // the lock is another one there, on a file that must not exist
	}
	ctx, cancel := context.WithTimeout(context.Background(), forkTime)
	defer cancel()
	lock := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(lockedBy(filepath.Join(dir, badgerLock)), lock.Close())
	} else if err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	return lock.Unlock()
}

// lockedBy returns the error that names the holder of a lock file, as far as its PID can be read.
func lockedBy(path string) error {
	held := &storage.LockedError{Path: path}
	if text, err := os.ReadFile(path); err == nil {
		held.PID, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	return held
}
