package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/polycred/polycred/internal/need"
)

// versioned is where Debian keeps the programs of each version of PostgreSQL, out of the PATH.
const versioned = "/usr/lib/postgresql/*/bin"

// Cluster is a PostgreSQL server with a data directory of its own. It listens on a Unix socket in that directory's
// parent, and nowhere else.
type Cluster struct {
	dir    string // holds data/, log and the socket
	bin    string // where pg_ctl lies
	conf   string // what pg_ctl passes on to the server
	leash  io.Closer
	closed bool
}

// Start starts a cluster for the test alone, which may stop and start it. It ends with the test. Writes are not synced
// to disk, unless t is a benchmark.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c, err := newCluster(programs(t), durable(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.end)
	return c
}

func durable(t testing.TB) bool {
	_, benchmark := t.(*testing.B)
	return benchmark
}

// programs returns the directory of PostgreSQL's programs, or ends the test.
func programs(t testing.TB) string {
	t.Helper()
	initdb := need.Program(t, "initdb", versioned)
	if real, err := filepath.EvalSymlinks(initdb); err == nil { // pg_ctl lies beside the real one
		initdb = real
	}
	return filepath.Dir(initdb)
}

// newCluster makes a cluster and starts it.
func newCluster(bin string, durable bool) (*Cluster, error) {
	parent := ""
	if !durable {
		parent = scratch()
	}
	dir, err := os.MkdirTemp(parent, "pg") // short: the path of a socket may have 107 bytes
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, bin: bin}
	// Many small pools meet on one server, and tests do not like to wait for a deadlock to be noticed.
	c.conf = fmt.Sprintf("-c listen_addresses= -c unix_socket_directories=%s -c max_connections=500 "+
		"-c deadlock_timeout=100ms -c fsync=%t", dir, durable)
	if err := errors.Join(os.Chmod(dir, 0o755), handOver(dir)); err != nil { //nolint:gosec // clients may be another user
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.tie(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	err = c.program("initdb", "-D", c.data(), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
	if err == nil {
		err = c.start()
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// tie starts a shell that waits for its input to end, which happens when this process does, however it ends, and then
// stops the server and removes the directory. So no test needs a TestMain, and a killed one leaves nothing behind.
func (c *Cluster) tie() error {
	const script = `read -r _; "$1/pg_ctl" -D "$2/data" -m immediate -w stop; rm -rf "$2"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", c.bin, c.dir)
	if err := unprivileged(cmd); err != nil {
		return err
	}
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the shell that ends the cluster: %w", err)
	}
	c.leash = &leash{in, cmd}
	return nil
}

// leash is the input of that shell.
type leash struct {
	io.WriteCloser
	shell *exec.Cmd
}

// Close lets the shell do its work, and waits for it.
func (l *leash) Close() error { return errors.Join(l.WriteCloser.Close(), l.shell.Wait()) }

// end stops the server and removes everything.
func (c *Cluster) end() {
	if !c.closed {
		c.closed = true
		_ = c.leash.Close()
	}
}

// program runs a program of PostgreSQL.
func (c *Cluster) program(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, name), args...)
	if err := unprivileged(cmd); err != nil {
		return err
	}
	cmd.Dir = "/" // the present one may be closed to the other user
	// Not a buffer: the server inherits it, and Run would wait for the server to end.
	out, err := os.CreateTemp("", "pgout")
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(out.Close(), os.Remove(out.Name())) }()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		logged, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		return fmt.Errorf("%s: %w: %s\n%s", name, err, bytes.TrimSpace(said), bytes.TrimSpace(logged))
	}
	return nil
}

func (c *Cluster) start() error {
	return c.program("pg_ctl", "-D", c.data(), "-w", "-t", "60", "-l", filepath.Join(c.dir, "log"), "-o", c.conf, "start")
}

// Start starts the server after Stop, and returns when it takes connections.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop stops the server and returns when it has ended: at once, as a crash would, or in order, where the transactions
// under way are rolled back and the connections are told.
func (c *Cluster) Stop(t testing.TB, immediate bool) {
	t.Helper()
	mode := "fast"
	if immediate {
		mode = "immediate"
	}
	if err := c.program("pg_ctl", "-D", c.data(), "-m", mode, "-w", "-t", "60", "stop"); err != nil {
		t.Fatal(err)
	}
}

// dsn names a database of the cluster.
func (c *Cluster) dsn(database string) string {
	return "postgres://postgres@/" + database + "?host=" + c.dir + "&port=5432"
}

// DSN makes a database with an empty store in it and returns its DSN. It lives as long as the cluster.
func (c *Cluster) DSN(t testing.TB) string {
	t.Helper()
	dsn := c.Empty(t)
	migrate(t, dsn)
	return dsn
}

// Empty makes a database without anything in it and returns its DSN. It lives as long as the cluster.
func (c *Cluster) Empty(t testing.TB) string {
	t.Helper()
	return create(t, c.dsn("postgres"))
}
