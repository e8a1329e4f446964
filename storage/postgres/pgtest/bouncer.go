package pgtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/polycred/polycred/internal/need"
)

// Bouncer is a PgBouncer in transaction mode: the connection that a client holds to it gets another connection to the
// server with each transaction.
type Bouncer struct{ dir string }

// bouncerPort is part of the name of its socket.
const bouncerPort = 6432

// StartBouncer starts a PgBouncer before all databases of the server of dsn. It ends with the test.
func StartBouncer(t testing.TB, dsn string) *Bouncer {
	t.Helper()
	program := need.Program(t, "pgbouncer", "/usr/sbin")
	server, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pgb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	files := map[string]string{
		"users": fmt.Sprintf("%q %q\n", server.User, server.Password),
		// Two server connections for many clients: each transaction gets whichever is free, and a statement prepared on
		// one is missing on the other.
		"ini": fmt.Sprintf("[databases]\n* = host=%s port=%d\n[pgbouncer]\npool_mode = transaction\nauth_type = trust\n"+
			"auth_file = %s/users\nunix_socket_dir = %s\nlisten_port = %d\nmax_client_conn = 1000\ndefault_pool_size = 2\n",
			server.Host, server.Port, dir, dir, bouncerPort),
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := handOver(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := handOver(dir); err != nil {
		t.Fatal(err)
	}
	b := &Bouncer{dir}
	b.run(t, program)
	return b
}

// run starts the program, tied to this process as a cluster is, and waits until it takes connections.
func (b *Bouncer) run(t testing.TB, program string) {
	t.Helper()
	const script = `"$1" -q "$2/ini" >"$2/log" 2>&1 & read -r _; kill -KILL $!; wait; rm -rf "$2"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", program, b.dir)
	if err := unprivileged(cmd); err != nil {
		t.Fatal(err)
	}
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = (&leash{in, cmd}).Close() })

	socket := filepath.Join(b.dir, ".s.PGSQL."+strconv.Itoa(bouncerPort))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			said, _ := os.ReadFile(filepath.Join(b.dir, "log"))
			t.Fatalf("PgBouncer takes no connections: %v\n%s", err, said)
		}
	}
}

// DSN leads to the database of dsn, on the same server, through PgBouncer.
func (b *Bouncer) DSN(t testing.TB, dsn string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Path: "/" + config.Database,
		RawQuery: url.Values{"host": {b.dir}, "port": {strconv.Itoa(bouncerPort)}}.Encode()}
	return u.String()
}
