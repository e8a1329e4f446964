package badger_test

import (
	"testing"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/storagetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, storagetest.Harness{
		Open: open,
		Reopen: func(t testing.TB, s storage.Store) storage.Store {
			mustClose(t, s)
			return openIn(t, s.(*badger.Store).Dir(), nil)
		},
		Compact:    func(t testing.TB, s storage.Store) storage.Store { return compacted(t, s.(*badger.Store)) },
		SecondOpen: func(t testing.TB, s storage.Store) error { return openError(s.(*badger.Store).Dir(), nil) },
	})
}

func FuzzStore(f *testing.F) { storagetest.Fuzz(f, open) }
