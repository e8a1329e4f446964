// Package postgres is a storage.Store in a PostgreSQL database, for programs that run as several processes.
//
// [Migrate] makes the tables, once and whenever polycred's version asks for it; [Open] gives a [Store] on them and
// never changes the schema by itself. What it promises:
//
//   - Apply returns after its batch is committed. Conditions hold at the moment of the commit, whatever other processes
//     commit meanwhile.
//   - One round trip reads, one changes a single key, two commit a batch. There are no sequences, advisory locks,
//     triggers or notifications, and no lock outlives a batch.
//   - It works behind PgBouncer in transaction mode, of any version: a connection that is not the server's own is
//     recognised, and no prepared statement or setting is left on it.
//   - A connection that dies while it commits gives storage.ErrUnknownOutcome, and no other failure leaves the outcome
//     open. Reads are tried again on a new connection once, so a quick restart of the server goes by unnoticed.
//   - No error contains the password of the DSN.
//
// Deleted and replaced values stay readable in the table until it is vacuumed, and in its write-ahead log and backups.
// docs/postgres.md tells how to run it.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/polycred/polycred/storage"
)

var (
	_ storage.Store  = (*Store)(nil)
	_ storage.Placer = (*Store)(nil)
)

// Store is a pool of connections to one database. Its methods may be called concurrently, and any number of processes
// may have the same database open.
type Store struct {
	opts   Options
	pool   *pgxpool.Pool
	sql    statements
	place  string
	closed atomic.Bool
}

// Open connects to the database of dsn, a URL (postgres://user:password@host/database) or keywords and values (host=…
// dbname=…) as libpq reads them, its environment variables included; o may be nil. A search_path in it names the
// one schema in which the tables lie; without one they are looked for along the role's own.
//
// It returns a *SchemaError when the tables are absent, older or newer than this version of polycred.
func Open(ctx context.Context, dsn string, o *Options) (*Store, error) {
	opts := o.withDefaults()
	if opts.Migrate {
		if err := Migrate(ctx, dsn); err != nil {
			return nil, err
		}
	}
	t, err := parse(dsn, opts)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{opts: opts}
	if s.pool, err = pgxpool.NewWithConfig(ctx, t.config); err != nil {
		return nil, fmt.Errorf("open store: %v", err)
	}
	if err := s.inspect(ctx, t.schema); err != nil {
		s.pool.Close()
		return nil, fmt.Errorf("open store: %w", hide(ctx, err))
	}
	return s, nil
}

// inspect looks at what the database holds. Its errors are the driver's.
func (s *Store) inspect(ctx context.Context, schema string) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	found, err := lookUp(ctx, conn.Conn(), schema)
	if err != nil {
		return err
	}
	if found.version != len(migrations) {
		return &SchemaError{Schema: found.name, Have: found.version, Want: len(migrations)}
	}
	s.sql = statementsIn(found.name)
	if s.place, err = placeOf(ctx, conn.Conn(), found); err != nil {
		return err
	}
	if s.place == "" {
		s.opts.Logger.Warn("postgres: the role may not call pg_control_system(), so a copy of the store is not recognised")
	}
	return s.durability(ctx, conn.Conn())
}

// placeOf names where the schema lies: the cluster, the database, the schema. It is empty where the role may not ask,
// or the server is no PostgreSQL and does not know.
func placeOf(ctx context.Context, conn *pgx.Conn, in schema) (string, error) {
	var cluster, database int64
	err := conn.QueryRow(ctx, `select system_identifier,
		(select oid::int8 from pg_database where datname = current_database()) from pg_control_system()`,
		pgx.QueryExecModeExec).Scan(&cluster, &database)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == codeForbidden || pg.Code == codeNoFunction) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d/%d/%d", uint64(cluster), database, in.oid), nil
}

// durability warns of a setting that would make Apply acknowledge what a crash of the server can lose. On connections
// of its own the store overrides it (see session.go); what PgBouncer lends it cannot be changed.
func (s *Store) durability(ctx context.Context, conn *pgx.Conn) error {
	var commit string
	err := conn.QueryRow(ctx, "select current_setting('synchronous_commit')", pgx.QueryExecModeExec).Scan(&commit)
	if err != nil {
		return err
	}
	if commit == "off" {
		s.opts.Logger.Warn("postgres: synchronous_commit is off for this role or database: " +
			"what was acknowledged can be lost in a crash of the server; switch it on")
	}
	return nil
}

// Place names the database: the system identifier of its cluster, its oid and that of its schema. A dump that is loaded
// elsewhere has another place; a physical copy of the whole cluster (a replica, a base backup, a snapshot of its disk)
// has the same. Empty means unknown.
func (s *Store) Place() string { return s.place }

// Close waits for the calls under way, each of which takes Options.Timeout or a few times that at most, and closes the
// connections. Closing twice is no error.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.pool.Close()
	return nil
}

// acquire takes a connection from the pool. An error means that nothing was sent.
func (s *Store) acquire(ctx context.Context) (session, error) {
	conn, err := s.pool.Acquire(ctx)
	switch {
	case err == nil:
		return sessionOn(conn), nil
	case s.closed.Load():
		return session{}, storage.ErrClosed
	default:
		return session{}, &connectError{err}
	}
}
