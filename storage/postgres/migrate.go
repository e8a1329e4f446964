package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// migrations are the statements that lead from each version of the schema to the next. Each is a transaction of its own
// and does no harm when it is executed again, so a migration that was interrupted is simply run once more.
var migrations = [][]string{
	{
		// The value is ciphertext: compressing it would cost time and save nothing. Every refresh writes a new version of
		// its row, which needs no new index entry as long as there is room on the same page.
		`create table if not exists {schema}.polycred_records (
			k bytea primary key, v bytea not null, rev bigint not null
		) with (fillfactor = 80)`,
		`alter table {schema}.polycred_records alter column v set storage external`,
	},
}

// schema is what a database holds.
type schema struct {
	name    string
	oid     int64
	version int // 0: no store
}

// Migrate makes the tables in the database of dsn, or brings them to the version that this polycred needs. It changes
// nothing where they have it. Several processes may call it at once. The role must own the tables, and may create them
// in the schema; what the role of [Open] needs is less (see docs/postgres.md). A schema that the DSN's search_path
// names and that does not exist is created.
//
// It returns a *SchemaError when the tables are newer than this polycred.
func Migrate(ctx context.Context, dsn string) error {
	t, err := parse(dsn, (*Options)(nil).withDefaults())
	if err != nil {
		return fmt.Errorf("migrate store: %w", err)
	}
	t.config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is prepared, so a pooler may stand between
	conn, err := pgx.ConnectConfig(ctx, t.config.ConnConfig)
	if err != nil {
		return fmt.Errorf("migrate store: %w", hide(ctx, err))
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for n := 1; ; n++ {
		err := migrate(ctx, conn, t.schema)
		if err == nil {
			return nil
		}
		if n == attempts || !raced(err) {
			return fmt.Errorf("migrate store: %w", hide(ctx, err))
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}

// raced reports whether err is one of those that two processes give each other when they create the same thing at once:
// "if not exists" looks first and creates later.
func raced(err error) bool {
	return again(err) || slices.Contains([]string{
		"23505", // unique_violation, in the catalog
		"42P07", // duplicate_table
		"42P06", // duplicate_schema
		"42710", // duplicate_object
		"XX000", // internal_error: "tuple concurrently updated"
	}, code(err))
}

func migrate(ctx context.Context, conn *pgx.Conn, wanted string) error {
	in, err := lookUp(ctx, conn, wanted)
	if missing, ok := errors.AsType[*noSchemaError](err); ok && missing.name != "" {
		if _, err := conn.Exec(ctx, "create schema "+pgx.Identifier{missing.name}.Sanitize()); err != nil {
			return err
		}
		in, err = lookUp(ctx, conn, wanted)
	}
	if err != nil {
		return err
	}
	if in.version > len(migrations) {
		return &SchemaError{Schema: in.name, Have: in.version, Want: len(migrations)}
	}
	do := func(text string, args ...any) error {
		text = strings.ReplaceAll(text, "{schema}", pgx.Identifier{in.name}.Sanitize())
		_, err := conn.Exec(ctx, text, args...)
		return err
	}
	if in.version == 0 {
		if err := do("create table if not exists {schema}.polycred_schema (version bigint primary key)"); err != nil {
			return err
		}
	}
	for version := in.version + 1; version <= len(migrations); version++ {
		for _, text := range migrations[version-1] {
			if err := do(text); err != nil {
				return err
			}
		}
		if err := do("insert into {schema}.polycred_schema values ($1) on conflict do nothing", version); err != nil {
			return err
		}
	}
	return nil
}

// noSchemaError says that a schema does not exist; without a name, that the role's search path leads nowhere.
type noSchemaError struct{ name string }

func (e *noSchemaError) Error() string {
	if e.name == "" {
		return "the role has no schema: name one with search_path in the DSN"
	}
	return fmt.Sprintf("schema %q does not exist: run postgres.Migrate, or set Options.Migrate", e.name)
}

// lookUp finds the schema of that name, and returns the driver's errors as they are; with
// an empty name it is the one along the search path that holds a store, or else the first.
func lookUp(ctx context.Context, conn *pgx.Conn, name string) (schema, error) {
	var in schema
	var exists bool
	err := conn.QueryRow(ctx, `select n.nspname::text, n.oid::int8, exists (
			select from pg_class c where c.relnamespace = n.oid and c.relname = 'polycred_schema')
		from pg_namespace n where n.nspname = coalesce(nullif($1, ''),
			(select h.nspname from pg_class c join pg_namespace h on h.oid = c.relnamespace
				where c.oid = to_regclass('polycred_schema')),
			current_schema())`, pgx.QueryExecModeExec, name).Scan(&in.name, &in.oid, &exists)
	if errors.Is(err, pgx.ErrNoRows) {
		return schema{}, &noSchemaError{name}
	}
	if err != nil {
		return schema{}, err
	}
	if !exists {
		return in, nil
	}
	err = conn.QueryRow(ctx, strings.ReplaceAll("select coalesce(max(version), 0) from {schema}.polycred_schema",
		"{schema}", pgx.Identifier{in.name}.Sanitize()), pgx.QueryExecModeExec).Scan(&in.version)
	return in, err
}
