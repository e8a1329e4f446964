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

// What a write comes to that may be cut: a lease that is taken, an intent, an answer with all that it changes, a lease
// that is released. The outcome of each is unknown when its connection is lost.
var writes = []string{"^insert", "^update", "^commit", "^delete"}

// cut ends the connections of the next n writes of a kind, every other one before the server gets it, the others after it
// has carried it out.
func (tr *trap) cut(kind string, n int) {
	for i := range n {
		if i%2 == 0 {
			tr.proxy.Break(pgtest.CutAfter, kind, 1)
		} else {
			tr.proxy.Break(pgtest.CutBefore, kind, 1)
		}
	}
}
