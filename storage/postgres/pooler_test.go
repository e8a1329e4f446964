package postgres_test

import (
	"testing"

	"github.com/polycred/polycred/storage/postgres/pgtest"
	"github.com/polycred/polycred/storage/storagetest"
)

// TestPgBouncer runs the whole suite through a PgBouncer in transaction mode.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	bouncer := pgtest.StartBouncer(t, pgtest.Empty(t))
	storagetest.Run(t, harness(func(t testing.TB) string { return bouncer.DSN(t, pgtest.DSN(t)) }))
}
