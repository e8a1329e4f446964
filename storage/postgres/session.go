package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ownKey marks, in the custom data of a connection, one behind which a server process of our own stands.
const ownKey = "polycred.own"

// greet is called once on every new connection. It finds out whether the server process on the other end is ours for as
// long as the connection lives: the process's id is then the one that the connection was greeted with. A pooler greets
// with an id that it invents, and lends us another process with each transaction, so nothing may be left on it:
// no prepared statement, which another process would not know, and no setting, which others would inherit.
//
// A DSN with default_query_exec_mode other than cache_statement says that there is a pooler, whatever it looks like.
//
// On a process of our own these settings help:
//   - synchronous_commit, since Apply promises what is committed;
//   - timeouts, so that a statement that waits for another batch ends before we give up, with an answer that says what
//     happened, and so that the locks of a client that vanished in a batch are released (statement_timeout would
//     do more, but arms a timer for each statement, which adds a fifth to a Get);
//   - no sequential or bitmap scans: a plan is kept with its statement, and one that was made while the table was small
//     would go on reading all of it for minutes after a million records came.
func (o Options) greet(ctx context.Context, conn *pgx.Conn) error {
	if conn.Config().DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		return nil
	}
	const greeting = `select pg_backend_pid() = $1::int8 and case when pg_backend_pid() = $1::int8 then
		set_config('lock_timeout', $2, false) || set_config('idle_in_transaction_session_timeout', $3, false) ||
		set_config('enable_seqscan', 'off', false) || set_config('enable_bitmapscan', 'off', false) ||
		case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', false) else '' end
		is not null else false end`
	var own bool
	err := conn.QueryRow(ctx, greeting, pgx.QueryExecModeExec, int64(conn.PgConn().PID()),
		milliseconds(o.Timeout*4/5), milliseconds(o.Timeout)).Scan(&own)
	if err != nil {
		return err
	}
	if own {
		conn.PgConn().CustomData()[ownKey] = true
	}
	return nil
}

// milliseconds writes a duration as PostgreSQL's settings read it. Zero would mean no limit.
func milliseconds(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }

// session is a connection taken from the pool, until release.
type session struct {
	conn *pgxpool.Conn
	pg   *pgconn.PgConn
	own  bool // statements may be prepared by name
}

func sessionOn(conn *pgxpool.Conn) session {
	pg := conn.Conn().PgConn()
	_, own := pg.CustomData()[ownKey]
	return session{conn, pg, own}
}

// limit gives the server that long to answer what is sent next. It is a deadline of the connection because a context
// with one costs nine allocations more.
func (s session) limit(d time.Duration) { _ = s.pg.Conn().SetDeadline(time.Now().Add(d)) }

// release gives the connection back. One in the middle of a transaction, or broken, is closed by that.
func (s session) release() {
	if !s.pg.IsClosed() { // on a closed one the driver has set a deadline of its own, to close it by
		_ = s.pg.Conn().SetDeadline(time.Time{})
	}
	s.conn.Release()
}

// binary is the format of all parameters and results.
var binary = []int16{pgx.BinaryFormatCode}

// prepare makes st known to the server, once on each connection. An error means that st was not executed.
func (s session) prepare(ctx context.Context, st *statement) (*pgconn.StatementDescription, error) {
	sd, err := s.conn.Conn().Prepare(ctx, st.name, st.text)
	if err != nil {
		return nil, &prepareError{err}
	}
	return sd, nil
}

// prepareError is the failure to prepare a statement: it was not executed.
type prepareError struct{ err error }

func (e *prepareError) Error() string { return fmt.Sprintf("prepare statement: %v", e.err) }
func (e *prepareError) Unwrap() error { return e.err }

// run executes one statement in a transaction of its own, in one round trip, and passes each row to row, whose values
// are valid until it returns. It returns how many rows were found or changed.
func (s session) run(ctx context.Context, st *statement, params [][]byte, row func(values [][]byte)) (int64, error) {
	var result *pgconn.ResultReader
	if s.own {
		sd, err := s.prepare(ctx, st)
		if err != nil {
			return 0, err
		}
		result = s.pg.ExecStatement(ctx, sd, params, binary, binary)
	} else {
		result = s.pg.ExecParams(ctx, st.text, params, nil, binary, binary)
	}
	for result.NextRow() {
		row(result.Values())
	}
	tag, err := result.Close() // reads to the end of the transaction: a commit can fail after the statement was done
	return tag.RowsAffected(), err
}

// queue adds st to a pipeline.
func (s session) queue(ctx context.Context, to *pgconn.Batch, st *statement, params [][]byte) error {
	if !s.own {
		to.ExecParams(st.text, params, nil, binary, binary)
		return nil
	}
	sd, err := s.prepare(ctx, st)
	if err == nil {
		to.ExecStatement(sd, params, binary, binary)
	}
	return err
}

// command executes a statement without parameters and returns what the server says it has done.
func (s session) command(ctx context.Context, text string) (done string, err error) {
	results, err := s.pg.Exec(ctx, text).ReadAll()
	for _, result := range results {
		done = result.CommandTag.String()
	}
	return done, err
}
