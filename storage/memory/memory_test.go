package memory_test

import (
	"testing"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/storagetest"
)

func open(testing.TB) storage.Store { return memory.New() }

func TestStore(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, storagetest.Harness{Open: open})
}

func FuzzStore(f *testing.F) { storagetest.Fuzz(f, open) }
