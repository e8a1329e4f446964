package badger_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage"
)

const lockName = "polycred.lock"

// wantLocked wants err to say that the process pid holds the lock file name.
func wantLocked(t *testing.T, err error, name string, pid int) {
	t.Helper()
	locked, ok := errors.AsType[*storage.LockedError](err)
	if !ok || filepath.Base(locked.Path) != name || locked.PID != pid {
		t.Errorf("Open() = %v, want a *LockedError for %s with PID %d", err, name, pid)
	}
}

func TestLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := start(t, "hold", dir)
	if line, _ := child.line(); line != "open" {
		t.Fatalf("the child said %q, want that it has the store open", line)
	}
	err := openError(dir, nil)
	wantLocked(t, err, lockName, child.cmd.Process.Pid)
	if pid := strconv.Itoa(child.cmd.Process.Pid); err != nil && !strings.Contains(err.Error(), pid) {
		t.Errorf("Open() = %q, want a text with PID %s", err, pid)
	}
	child.kill(t) // the lock dies with its holder, though the file stays
	mustClose(t, openIn(t, dir, nil))
}

func TestLockFileAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte("1\nof a longer past\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openIn(t, dir, nil)
	wantLocked(t, openError(dir, nil), lockName, os.Getpid())
	mustClose(t, s)
	mustClose(t, openIn(t, dir, nil))
}

// TestLockOfBadger opens a directory that another program has opened with Badger, without our lock.
func TestLockOfBadger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustClose(t, openIn(t, dir, nil))
	db, err := badgerdb.Open(badgerdb.DefaultOptions(dir).WithLogger(nil).WithMemTableSize(8 << 20))
	if err != nil {
		t.Fatal(err)
	}
	wantLocked(t, openError(dir, nil), "LOCK", os.Getpid())
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, openIn(t, dir, nil))
}

// TestLockAfterFailedOpen wants Open to give the lock back when it fails later on.
func TestLockAfterFailedOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustClose(t, openIn(t, dir, nil))
	manifest := filepath.Join(dir, badgerdb.ManifestFilename)
	good, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := openError(dir, nil)
		if _, locked := errors.AsType[*storage.LockedError](err); err == nil || locked {
			t.Errorf("Open() of a damaged store = %v, want an error about the damage", err)
		}
	}
	if err := os.WriteFile(manifest, good, 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, openIn(t, dir, nil))
}
