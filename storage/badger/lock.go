package badger

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"

	"github.com/polycred/polycred/storage"
)

const lockName = "polycred.lock"

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

// lockedBy returns the error that names the holder of a lock file, as far as its PID can be read.
func lockedBy(path string) error {
	held := &storage.LockedError{Path: path}
	if text, err := os.ReadFile(path); err == nil {
		held.PID, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	return held
}
