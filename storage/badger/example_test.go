package badger_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

// A directory is open in one process at a time; who comes second learns who was first.
func ExampleOpen() {
	parent, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(parent) }()
	dir := filepath.Join(parent, "store")

	store, err := badger.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = badger.Open(dir, nil)
	var locked *storage.LockedError
	fmt.Println(errors.As(err, &locked) && locked.PID == os.Getpid())
	fmt.Println(store.Close())
	// Output:
	// true
	// <nil>
}
