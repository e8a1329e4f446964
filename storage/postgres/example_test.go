package postgres_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/postgres"
	"github.com/polycred/polycred/storage/postgres/pgtest"
)

// A program that deploys its schema apart calls Migrate there, as a role that may; the others open the store. What they
// open on it is core's engine, in any number of processes.
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

	kek, err := crypto.NewKEK() // a real program keeps one: in a file, or in a KMS
	if err != nil {
		log.Fatal(err)
	}
	engine, err := core.Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{
		CallbackURL: "https://app.example.com/callback",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = engine.Close() }()
	fmt.Println("open")
}

// TestExample runs the example in a process of its own, on a database for it.
func TestExample(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestExampleChild$", "-test.v")
	cmd.Env = append(os.Environ(), pgtest.ChildEnv(dsn), "DATABASE_URL="+dsn)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nopen\n") {
		t.Errorf("the example ended with %v and printed:\n%s", err, out)
	}
}

// TestExampleChild is that process. By itself it does nothing.
func TestExampleChild(*testing.T) {
	if pgtest.ChildDSN() != "" {
		ExampleOpen()
	}
}
