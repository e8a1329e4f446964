package postgres_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/postgres"
	"github.com/polycred/polycred/storage/postgres/pgtest"
)

// One program calls Migrate, as a role that may change the schema; any number of them open the store.
func ExampleOpen() {
	ctx, dsn := context.Background(), os.Getenv("DATABASE_URL") // postgres://app:…@db.example.com/polycred
	if err := postgres.Migrate(ctx, dsn); err != nil {
		log.Fatal(err)
	}
	store, err := postgres.Open(ctx, dsn, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close() }()

	// core.Open(ctx, store, …) makes an engine on it. A store alone keeps bytes:
	err = store.Apply(ctx, storage.Batch{Puts: []storage.Put{{Key: []byte("greeting"), Value: []byte("hello"), Rev: 1}}})
	if err != nil {
		log.Fatal(err)
	}
	item, err := store.Get(ctx, []byte("greeting"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(item.Value))
}

// TestExample runs the example in a process of its own, on a database for it.
func TestExample(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestExampleChild$", "-test.v")
	cmd.Env = append(os.Environ(), pgtest.ChildEnv(dsn), "DATABASE_URL="+dsn)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nhello\n") {
		t.Errorf("the example ended with %v and printed:\n%s", err, out)
	}
}

// TestExampleChild is that process. By itself it does nothing.
func TestExampleChild(*testing.T) {
	if pgtest.ChildDSN() != "" {
		ExampleOpen()
	}
}
