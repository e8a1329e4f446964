package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/postgres"
	"github.com/polycred/polycred/storage/postgres/pgtest"
)

// openError opens the store of dsn, which should fail.
func openError(t *testing.T, dsn string, o *postgres.Options) error {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, o)
	if err == nil {
		_ = s.Close()
	}
	return err
}

// wantSchema wants err to be a *SchemaError of these versions that says what to do.
func wantSchema(t *testing.T, err error, want postgres.SchemaError, advice string) {
	t.Helper()
	got, ok := errors.AsType[*postgres.SchemaError](err)
	if !ok {
		t.Errorf("error = %v, want a *SchemaError", err)
		return
	}
	if diff := cmp.Diff(want, *got); diff != "" || !strings.Contains(err.Error(), advice) {
		t.Errorf("error %q should contain %q and be (-want +got):\n%s", err, advice, diff)
	}
}

func TestMigrateRace(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{pgtest.Empty(t), pgtest.With(pgtest.Empty(t), "search_path", `"of our own"`)} {
		race(16, func(int) {
			if err := postgres.Migrate(t.Context(), dsn); err != nil {
				t.Errorf("Migrate() = %v, want nil", err)
			}
		})
		s := pgtest.OpenDSN(t, dsn, nil)
		apply(t, s, put("a", "x", 0, 1))
		if err := postgres.Migrate(t.Context(), dsn); err != nil { // once more changes nothing
			t.Errorf("Migrate() of a store = %v, want nil", err)
		}
		holds(t, s, "a", "x")
	}
}

// TestMigrateInterrupted begins a migration and leaves it at every statement.
func TestMigrateInterrupted(t *testing.T) {
	t.Parallel()
	whole := pgtest.DSN(t)
	dump := func(dsn string) (columns string) {
		s := pgtest.OpenDSN(t, dsn, nil)
		defer func() { _ = s.Close() }()
		apply(t, s, put("a", "x", 0, 1))
		return text(t, dsn, `select string_agg(format('%s %s %s %s', attname, atttypid::regtype, attnotnull, attstorage),
			', ') || (select array_to_string(reloptions, ',') from pg_class where oid = 'polycred_records'::regclass)
			from pg_attribute where attrelid = 'polycred_records'::regclass and attnum > 0`)
	}
	want := dump(whole)
	for _, at := range []string{"create table .*schema", "create table .*records", "alter table", "insert into"} {
		for _, fault := range []pgtest.Fault{pgtest.CutBefore, pgtest.CutAfter} {
			dsn := pgtest.Empty(t)
			proxy := pgtest.StartProxy(t, dsn)
			proxy.Break(fault, at, 1)
			if err := postgres.Migrate(t.Context(), proxy.DSN()); err == nil {
				t.Errorf("Migrate, cut at %q = nil, want an error", at)
			}
			if at != "insert into" { // which may be on its way, or be done
				wantSchema(t, openError(t, dsn, nil), postgres.SchemaError{Schema: "public", Want: 1}, "run postgres.Migrate")
			}
			if err := postgres.Migrate(t.Context(), dsn); err != nil {
				t.Errorf("Migrate after one that was cut at %q = %v, want nil", at, err)
			}
			if got := dump(dsn); got != want {
				t.Errorf("schema after a migration that was cut at %q:\n%s\nwant:\n%s", at, got, want)
			}
		}
	}
}

func TestSchemaVersions(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	wantSchema(t, openError(t, dsn, nil), postgres.SchemaError{Schema: "public", Want: 1}, "run postgres.Migrate")
	if n := text(t, dsn, "select count(*)::text from pg_class where relname like 'polycred%'"); n != "0" {
		t.Errorf("Open has made %s tables, want none", n)
	}
	s := pgtest.OpenDSN(t, dsn, &postgres.Options{Migrate: true})
	apply(t, s, put("a", "x", 0, 1))

	execute(t, dsn, "insert into polycred_schema values (99)")
	newer := postgres.SchemaError{Schema: "public", Have: 99, Want: 1}
	wantSchema(t, openError(t, dsn, nil), newer, "newer version")
	wantSchema(t, openError(t, dsn, &postgres.Options{Migrate: true}), newer, "newer version")
	wantSchema(t, postgres.Migrate(t.Context(), dsn), newer, "newer version")

	err := openError(t, pgtest.With(dsn, "search_path", "nowhere"), nil)
	if err == nil || !strings.Contains(err.Error(), "postgres.Migrate") {
		t.Errorf("Open in a schema that does not exist = %v, want advice", err)
	}
	for _, path := range []string{"a,b", `"$user"`, `"a"b"`, ""} {
		if err := openError(t, pgtest.With(dsn, "search_path", path), nil); err == nil {
			t.Errorf("Open with search_path %q = nil, want an error", path)
		}
	}
}

// TestSchemas keeps two stores in one database, also through a PgBouncer, which knows no search_path.
func TestSchemas(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	bounced := pgtest.StartBouncer(t, dsn).DSN(t, dsn)
	places := map[string]string{}
	for _, schema := range []string{"one", `"Two"`} {
		s := pgtest.OpenDSN(t, pgtest.With(dsn, "search_path", schema), &postgres.Options{Migrate: true})
		behind := pgtest.OpenDSN(t, pgtest.With(bounced, "search_path", schema), nil)
		apply(t, s, put("a", schema, 0, 1))
		apply(t, behind, join(put("b", schema, 0, 1), check("a", 1)))
		for _, store := range []*postgres.Store{s, behind} {
			holds(t, store, "a", schema)
			holds(t, store, "b", schema)
		}
		if s.Place() == "" || s.Place() != behind.Place() || places[s.Place()] != "" {
			t.Errorf("Place() = %q and %q behind PgBouncer, want the same, and not that of %q", s.Place(), behind.Place(),
				places[s.Place()])
		}
		places[s.Place()] = schema
	}
}

// TestRole opens a store as a role that has no right but those that docs/postgres.md grants.
func TestRole(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t) // roles belong to the whole cluster
	dsn := cluster.DSN(t)
	execute(t, dsn, "create role app login", "revoke create on schema public from public",
		"grant select on polycred_schema to app", "grant select, insert, update, delete on polycred_records to app")
	as := strings.Replace(dsn, "postgres@", "app@", 1)
	var log bytes.Buffer
	o := &postgres.Options{Migrate: true, Logger: slog.New(slog.NewTextHandler(&log, nil))} // there is nothing to migrate
	s := pgtest.OpenDSN(t, as, o)
	apply(t, s, join(put("a", "x", 0, 1), put("i", "", storage.Any, 1)))
	apply(t, s, join(put("b", "x", 0, 1), check("a", 1), del("i", storage.Any)))
	apply(t, s, join(put("a", "y", 1, 2), del("b", 1)))
	holds(t, s, "a", "y")
	if want := pgtest.OpenDSN(t, dsn, nil).Place(); s.Place() != want || log.Len() > 0 {
		t.Errorf("Place() = %q, want %q; the log says %q, want nothing", s.Place(), want, &log)
	}
	execute(t, dsn, "revoke execute on function pg_control_system() from public",
		"alter role app set synchronous_commit = off")
	if s := pgtest.OpenDSN(t, as, o); s.Place() != "" || !strings.Contains(log.String(), "pg_control_system") {
		t.Errorf("Place() of who may not ask = %q, want none; the log says %q, want a warning", s.Place(), &log)
	}
	if strings.Contains(log.String(), "synchronous_commit") {
		t.Errorf("the log says %q, want no warning of a setting that is overridden", &log)
	}
	_ = pgtest.OpenDSN(t, pooled(as), o)
	if !strings.Contains(log.String(), "synchronous_commit") {
		t.Errorf("the log says %q, want a warning of synchronous_commit", &log)
	}
}

// TestNoPassword looks for the password in every error that a DSN can lead to.
func TestNoPassword(t *testing.T) {
	t.Parallel()
	const canary = "canary-s3cr3t"
	cluster := pgtest.Start(t)
	store := cluster.DSN(t)
	for _, dsn := range []string{
		"postgres://user:" + canary + "@127.0.0.1:1/db",
		"postgres://user:" + canary + "@127.0.0.1:1/db?sslmode=sometimes",
		"postgres://user:" + canary + "@host:port/db",
		"postgres://user:" + canary + "%zz@127.0.0.1/db",
		"postgres://user:pa/" + canary + "@127.0.0.1/db",
		"postgres://user:" + canary + "@127.0.0.1:1/db?search_path=a,b",
		"host=127.0.0.1 port=1 user=user password=" + canary,
		"host=127.0.0.1 port=x user=user password='" + canary,
		"host=127.0.0.1 passwort=" + canary,
		"user:" + canary + "@127.0.0.1",
		strings.Replace(store, "postgres@", "nobody:"+canary+"@", 1),
		strings.Replace(store, "postgres@", "postgres:"+canary+"@", 1) + "x",
		strings.Replace(cluster.Empty(t), "postgres@", "postgres:"+canary+"@", 1),
	} {
		for name, err := range map[string]error{
			"Open": openError(t, dsn, nil), "Open and Migrate": openError(t, dsn, &postgres.Options{Migrate: true}),
		} {
			if err == nil && name == "Open" {
				t.Errorf("%s(%s) = nil, want an error", name, dsn)
			}
			if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
				t.Errorf("%s(%s) = %v, which carries the configuration", name, dsn, err)
			}
			for err := err; err != nil; err = errors.Unwrap(err) {
				if said := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(said, "s3cr3t") {
					t.Errorf("%s(%s) says %s", name, dsn, said)
				}
			}
		}
	}

	// The same for a store that works, and then does not.
	s := pgtest.OpenDSN(t, strings.Replace(store, "postgres@", "postgres:"+canary+"@", 1), nil)
	cluster.Stop(t, true)
	_, get := s.Get(t.Context(), []byte("a"))
	_, get2 := s.Get(t.Context(), []byte("a"))
	for _, err := range []error{get, get2, s.Apply(t.Context(), put("a", "x", 0, 1))} {
		if err == nil || strings.Contains(fmt.Sprintf("%v %#v", err, err), "s3cr3t") {
			t.Errorf("a call without a server says %#v", err)
		}
	}
}

func TestCancelledOpen(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dsn := pgtest.DSN(t)
	if _, err := postgres.Open(ctx, dsn, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context = %v, want context.Canceled", err)
	}
	if err := postgres.Migrate(ctx, dsn); !errors.Is(err, context.Canceled) {
		t.Errorf("Migrate with a cancelled context = %v, want context.Canceled", err)
	}
	if err := openError(t, dsn, &postgres.Options{MaxConns: -1}); err == nil {
		t.Error("Open with -1 connections = nil, want an error")
	}
}
