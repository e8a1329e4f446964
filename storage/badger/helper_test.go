package badger_test

import (
	"testing"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

// open opens a store in a directory of its own. The caller closes it.
func open(t testing.TB) storage.Store { return openIn(t, t.TempDir(), nil) }

// openIn opens the store in dir. The caller closes it.
func openIn(t testing.TB, dir string, o *badger.Options) *badger.Store {
	t.Helper()
	s, err := badger.Open(dir, o)
	if err != nil {
		t.Fatalf("Open(%s) = %v, want nil", dir, err)
	}
	return s
}

// openError returns the error of opening dir, where opening should fail.
func openError(dir string, o *badger.Options) error {
	s, err := badger.Open(dir, o)
	if err == nil {
		_ = s.Close()
	}
	return err
}

func mustClose(t testing.TB, s storage.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v, want nil", err)
	}
}

// compact moves everything to the last level, which drops what was deleted or replaced.
func compact(t testing.TB, s *badger.Store) {
	t.Helper()
	if err := s.DB().Flatten(2); err != nil {
		t.Fatalf("Flatten() = %v, want nil", err)
	}
}
