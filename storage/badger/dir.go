package badger

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	badgerdb "github.com/dgraph-io/badger/v4"
)

// makeDir returns the absolute path of dir, which exists from then on and holds a store or nothing.
func makeDir(dir string) (string, error) {
	if dir == "" { // an unset variable must not make a store of the current directory
		return "", errors.New("no directory was named")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); errors.Is(err, syscall.ENOTDIR) {
		return "", fmt.Errorf("%s is not a directory", dir)
	} else if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	// What can lie in the directory before Badger has written its manifest: our lock, Badger's, the manifest being
	// written, and what a freshly made file system has in its root. With anything else Badger would start an empty store
	// beside it, and delete tables that the missing manifest does not name.
	harmless := []string{lockName, badgerLock, "MANIFEST-REWRITE", "lost+found"}
	foreign := ""
	for _, e := range entries {
		if e.Name() == badgerdb.ManifestFilename {
			return dir, nil
		}
		if !slices.Contains(harmless, e.Name()) {
			foreign = e.Name()
		}
	}
	if foreign != "" {
		return "", fmt.Errorf("%s is no store, but holds other things (%s); give the store a directory of its own, and keep its key outside",
			dir, foreign)
	}
	return dir, nil
}

// removeEmpty removes the empty write-ahead and value logs that a crash between creating and sizing a file leaves
// behind: Badger refuses to open with one (dgraph-io/badger#2207). An empty file holds nothing, one with a single byte
// is left alone. The lock must be held.
func removeEmpty(dir string, log *slog.Logger) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.Type().IsRegular() || ext != ".mem" && ext != ".vlog" {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() > 0 {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err := os.Remove(path); err != nil {
			return err
		}
		log.Warn("removed an empty log that a crash left behind", "path", path)
	}
	return nil
}
