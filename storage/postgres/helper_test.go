package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/postgres"
	"github.com/polycred/polycred/storage/postgres/pgtest"
	"github.com/polycred/polycred/storage/storagetest"
)

// harness tells the suite how stores are opened on a DSN that dsn returns.
func harness(dsn func(t testing.TB) string) storagetest.Harness {
	var places sync.Map // the DSN of each store, for Reopen
	at := func(t testing.TB, dsn string) storage.Store {
		s := pgtest.OpenDSN(t, dsn, nil)
		places.Store(s, dsn)
		return s
	}
	return storagetest.Harness{
		Open: func(t testing.TB) storage.Store { return at(t, dsn(t)) },
		Reopen: func(t testing.TB, s storage.Store) storage.Store {
			if err := s.Close(); err != nil {
				t.Fatalf("Close() = %v, want nil", err)
			}
			dsn, _ := places.Load(s.(*postgres.Store))
			return at(t, dsn.(string))
		},
	}
}

// pooled returns dsn with the word that a pooler stands before the server.
func pooled(dsn string) string { return pgtest.With(dsn, "default_query_exec_mode", "exec") }

func put(key, value string, expect, rev storage.Rev) storage.Batch {
	return storage.Batch{Puts: []storage.Put{{Key: []byte(key), Value: []byte(value), If: expect, Rev: rev}}}
}

func del(key string, expect storage.Rev) storage.Batch {
	return storage.Batch{Deletes: []storage.Delete{{Key: []byte(key), If: expect}}}
}

func check(key string, rev storage.Rev) storage.Batch {
	return storage.Batch{Checks: []storage.Check{{Key: []byte(key), Rev: rev}}}
}

// join makes one batch of several.
func join(batches ...storage.Batch) (all storage.Batch) {
	for _, b := range batches {
		all.Puts = append(all.Puts, b.Puts...)
		all.Deletes = append(all.Deletes, b.Deletes...)
		all.Checks = append(all.Checks, b.Checks...)
	}
	return all
}

// apply applies b, which must work.
func apply(t testing.TB, s storage.Store, b storage.Batch) {
	t.Helper()
	if err := s.Apply(context.Background(), b); err != nil {
		t.Fatalf("Apply() = %v, want nil", err)
	}
}

// holds wants value under key, or nothing where value is empty.
func holds(t testing.TB, s storage.Store, key, value string) {
	t.Helper()
	item, err := s.Get(context.Background(), []byte(key))
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	if err != nil || string(item.Value) != value {
		t.Errorf("Get(%q) = %.20q, %v, want %.20q", key, item.Value, err, value)
	}
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*storage.ConflictError](err)
	return ok
}

// execute executes statements in the database of dsn.
func execute(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// text returns the one value that a query yields.
func text(t testing.TB, dsn, query string) (value string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}
