package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/polycred/polycred/storage"
)

// SchemaError says that the tables do not fit this version of polycred.
type SchemaError struct {
	Schema string // where they were looked for
	Have   int    // their version; 0: there are none
	Want   int    // what this version of polycred needs
}

func (e *SchemaError) Error() string {
	switch {
	case e.Have == 0:
		return fmt.Sprintf("schema %q holds no store: run postgres.Migrate, or set Options.Migrate", e.Schema)
	case e.Have < e.Want:
		return fmt.Sprintf("the store in schema %q is of version %d, this program needs %d: run postgres.Migrate, or set "+
			"Options.Migrate", e.Schema, e.Have, e.Want)
	default:
		return fmt.Sprintf("the store in schema %q is of version %d, this program knows %d: run a newer version of it",
			e.Schema, e.Have, e.Want)
	}
}

// What PostgreSQL calls the conditions that are told apart here (SQLSTATE).
const (
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeUnknown       = "40003" // statement_completion_unknown
	codeConnection    = "08"    // a class; PgBouncer reports a lost server as 08P01
	codeDiskFull      = "53100"
	codeReadOnly      = "25006"
	codeForbidden     = "42501"
	codeNoFunction    = "42883"
)

// connectError is the failure to get a connection: nothing was sent.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// code returns the SQLSTATE of an error that the server reported, or nothing.
func code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// again reports whether the transaction lost a fight with another, and will do better when it is run once more.
func again(err error) bool {
	c := code(err)
	return c == codeSerialization || c == codeDeadlock
}

// refused reports whether err is the answer of a server that goes on: whatever it was asked has had no effect. A fatal
// error ends its connection and says nothing about a commit under way, and neither does what a pooler reports for it.
func refused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code == codeUnknown || strings.HasPrefix(pg.Code, codeConnection) {
		return false
	}
	severity := pg.SeverityUnlocalized
	if severity == "" { // PgBouncer, and servers before 9.6
		severity = pg.Severity
	}
	return severity == "ERROR"
}

// lost reports whether the connection died under a call, in a way that a new connection may mend.
func lost(ctx context.Context, err error) bool {
	var connect *connectError
	return err != nil && ctx.Err() == nil && !refused(err) && !pgconn.Timeout(err) &&
		!errors.As(err, &connect) && !errors.Is(err, storage.ErrClosed)
}

// isOurs reports whether err has nothing of the driver in it.
func isOurs(err error) bool {
	_, misfit := errors.AsType[*SchemaError](err)
	_, missing := errors.AsType[*noSchemaError](err)
	return misfit || missing
}

// hide turns an error of the driver into one of ours. Only its text is kept: its types carry the configuration, and
// with it the password. A context's own error stays visible while the context is the caller's.
func hide(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrClosed):
		return storage.ErrClosed
	case isOurs(err):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("postgres: %w", ctx.Err())
	case code(err) == codeDiskFull:
		return fmt.Errorf("%w: free disk space on the database server: %v", storage.ErrFull, err)
	case !refused(err):
		return fmt.Errorf("postgres: %w: %v", storage.ErrUnavailable, err)
	default:
		return fmt.Errorf("postgres: %v", err)
	}
}
