package postgres_test

import (
	"testing"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/postgres/pgtest"
	"github.com/polycred/polycred/storage/storagetest"
)

func open(t testing.TB) storage.Store { return pgtest.Open(t, nil) }

func TestStore(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, harness(pgtest.DSN))
}

func FuzzStore(f *testing.F) { storagetest.Fuzz(f, open) }
