package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/polycred/polycred/internal/need"
	"github.com/polycred/polycred/storage/postgres/pgtest"
)

// TestKilled kills a test process that has a cluster, and wants the server and its directory to go.
func TestKilled(t *testing.T) {
	t.Parallel()
	need.Program(t, "initdb", "/usr/lib/postgresql/*/bin")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$", "-test.v")
	cmd.Env = append(os.Environ(), "POLYCRED_PGTEST_CHILD=1", "TEST_POSTGRES_DSN=")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dsn string
	for lines := bufio.NewScanner(out); dsn == "" && lines.Scan(); {
		if _, after, ok := strings.Cut(lines.Text(), "dsn="); ok { // go test may print its own words before
			dsn = after
		}
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil || !strings.HasPrefix(config.Host, "/") {
		t.Fatalf("the child's DSN is %q: %v", dsn, err)
	}
	if err := connect(t, dsn); err != nil {
		t.Errorf("connect to the child's cluster = %v, want nil", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		_, err := os.Stat(config.Host)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s is there a minute after its process was killed", config.Host)
		}
	}
	if err := connect(t, dsn); err == nil {
		t.Error("the server of a killed process takes connections")
	}
}

func connect(t *testing.T, dsn string) error {
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		_ = conn.Close(t.Context())
	}
	return err
}

// TestKilledChild is the process that is killed. By itself it does nothing.
func TestKilledChild(t *testing.T) {
	if os.Getenv("POLYCRED_PGTEST_CHILD") == "" {
		return
	}
	_, _ = fmt.Fprintln(os.Stdout, "dsn="+pgtest.Empty(t))
	_, _ = io.Copy(io.Discard, os.Stdin)
}
