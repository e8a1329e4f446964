// Package pgtest gives tests a real PostgreSQL.
//
// [Open] and [DSN] give a test a database of its own, on a cluster that is started once for each test process with the
// initdb and pg_ctl of the machine, in the PATH or where Debian keeps them, or on the server that the environment
// variable TEST_POSTGRES_DSN names as a URL, whose role must be allowed to create databases. Where there is neither,
// the test is skipped, or fails with CI=true. [Start] gives a cluster that the test may stop, [StartProxy] connections
// that it may break, [StartBouncer] a PgBouncer in transaction mode.
//
// Everything ends with the test process, also when that is killed, and no TestMain is needed. Only tests import this
// package.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/polycred/polycred/storage/postgres"
)

// serverEnv names a server to use instead of one that is started.
const serverEnv = "TEST_POSTGRES_DSN"

// childEnv carries a DSN to a child process.
const childEnv = "POLYCRED_TEST_POSTGRES_DSN"

// ChildEnv returns the entry of a child's environment that carries dsn to its ChildDSN.
func ChildEnv(dsn string) string { return childEnv + "=" + dsn }

// ChildDSN returns the DSN that the parent passed on, or nothing where there is no such parent.
func ChildDSN() string { return os.Getenv(childEnv) }

// Open opens an empty store in a database of its own. It is closed at the end of the test, if it is not before; o may
// be nil.
func Open(t testing.TB, o *postgres.Options) *postgres.Store {
	t.Helper()
	return OpenDSN(t, DSN(t), o)
}

// OpenDSN opens the store of a DSN. It is closed at the end of the test, if it is not before; o may be nil.
func OpenDSN(t testing.TB, dsn string, o *postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), dsn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
	})
	return s
}

// DSN makes a database with an empty store in it, which is dropped at the end of the test, and returns its DSN.
func DSN(t testing.TB) string {
	t.Helper()
	dsn := Empty(t)
	migrate(t, dsn)
	return dsn
}

// Empty makes a database without anything in it, which is dropped at the end of the test, and returns its DSN.
func Empty(t testing.TB) string {
	t.Helper()
	server := os.Getenv(serverEnv)
	if server == "" {
		c, err := shared(programs(t), durable(t))
		if err != nil {
			t.Fatal(err)
		}
		server = c.dsn("postgres")
	}
	dsn := create(t, server)
	t.Cleanup(func() {
		if err := admin(server, "drop database if exists "+database(dsn)+" with (force)"); err != nil {
			t.Errorf("drop the database of the test: %v", err)
		}
	})
	return dsn
}

// clusters are those that the tests of this process share: one that syncs, for benchmarks, and one that does not.
var clusters [2]struct {
	once sync.Once
	*Cluster
	err error
}

func shared(bin string, durable bool) (*Cluster, error) {
	one := &clusters[0]
	if durable {
		one = &clusters[1]
	}
	one.once.Do(func() { one.Cluster, one.err = newCluster(bin, durable) })
	return one.Cluster, one.err
}

var databases atomic.Int64

// create makes an empty database on a server.
func create(t testing.TB, server string) string {
	t.Helper()
	name := fmt.Sprintf("polycred_test_%d_%d", os.Getpid(), databases.Add(1))
	statement := "create database " + name + " template template0"
	err := admin(server, statement+" strategy file_copy")                        // writes far less than the other strategy
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42601" { // syntax_error: before version 15
		err = admin(server, statement)
	}
	if err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	u := parse(server)
	u.Path = "/" + name
	return u.String()
}

// With returns dsn with an option set to a value, like search_path or default_query_exec_mode.
func With(dsn, option, value string) string {
	u := parse(dsn)
	query := u.Query()
	query.Set(option, value)
	u.RawQuery = query.Encode()
	return u.String()
}

// parse reads a DSN that is a URL, as all of this package are.
func parse(dsn string) *url.URL {
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		panic(serverEnv + " and the DSNs that are passed to pgtest must be URLs: postgres://…")
	}
	return u
}

// database returns the name of a database that create made.
func database(dsn string) string {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return ""
	}
	return config.Database
}

// admin executes a statement in the server's own database.
func admin(server, statement string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}

func migrate(t testing.TB, dsn string) {
	t.Helper()
	if err := postgres.Migrate(context.Background(), dsn); err != nil {
		t.Fatal(err)
	}
}
