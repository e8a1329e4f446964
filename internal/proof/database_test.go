//go:build long

package proof_test

import (
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/polycred/polycred/storage/postgres/pgtest"
)

// database returns the data source name of a database with an empty store.
func database(t *testing.T) string {
	t.Helper()
	return pgtest.DSN(t)
}

var copies atomic.Int64

// copyDatabase makes a copy of a database that nobody is connected to.
func copyDatabase(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s_copy_%d", config.Database, copies.Add(1))
	statement := func(text string) {
		t.Helper()
		server := *u
		server.Path = "/postgres"
		conn, err := pgx.Connect(t.Context(), server.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(t.Context()) }()
		if _, err := conn.Exec(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	statement("create database " + name + " template " + config.Database)
	u.Path = "/" + name
	return u.String()
}

// trap is a database behind connections that are cut.
type trap struct {
	direct, through string // its data source name, past the proxy and through it
	proxy           *pgtest.Proxy
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	direct := database(t)
	proxy := pgtest.StartProxy(t, direct)
	return &trap{direct: direct, through: proxy.DSN(), proxy: proxy}
}

// writes are the statements whose outcome nobody knows when the connection is lost: the end of a batch, and a batch that
// is one statement alone.
const writes = "^(commit|insert|update|delete)"

// cut ends the connections of the next n writes, in half of the cases before the server gets them, in the other half after
// it has carried them out.
func (tr *trap) cut(n int) {
	tr.proxy.Break(pgtest.CutAfter, writes, (n+1)/2)
	tr.proxy.Break(pgtest.CutBefore, writes, n/2)
}
