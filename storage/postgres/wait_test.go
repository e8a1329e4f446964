package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/postgres"
	"github.com/polycred/polycred/storage/postgres/pgtest"
)

// TestImpatience cancels an Apply that waits for a lock. A single change was sent and is awaited; a batch stops before
// its commit. Neither leaves an unknown outcome, nor breaks its connection.
func TestImpatience(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		batch storage.Batch
		want  error
		value string
	}{
		"single": {put("a", "new", 1, 2), nil, "new"},
		"batch":  {join(put("a", "new", 1, 2), put("b", "", storage.Any, 1)), context.Canceled, "old"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.DSN(t)
			s := pgtest.OpenDSN(t, dsn, &postgres.Options{MaxConns: 1})
			apply(t, s, put("a", "old", 0, 1))
			const process = `select pid::text from pg_stat_activity
				where datname = current_database() and application_name = 'polycred'`
			before := text(t, dsn, process)
			release := lockRow(t, dsn, "a", "for update")
			ctx, cancel := context.WithCancel(t.Context())
			outcome := make(chan error, 1)
			go func() { outcome <- s.Apply(ctx, test.batch) }()
			waiting(t, dsn, 1)
			cancel()
			release()
			if err := <-outcome; !errors.Is(err, test.want) {
				t.Errorf("Apply, cancelled while it waits = %v, want %v", err, test.want)
			}
			holds(t, s, "a", test.value)
			if after := text(t, dsn, process); after != before {
				t.Errorf("the connection was served by process %s, and is by %s now, want the same", before, after)
			}
		})
	}
}

// TestLockTimeout lets a change wait for a lock that is not released. The server gives up before the store does, and
// its answer says that nothing happened; behind a pooler that holds for batches only.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	o := &postgres.Options{Timeout: time.Second}
	own, behind := pgtest.OpenDSN(t, dsn, o), pgtest.OpenDSN(t, pooled(dsn), o)
	apply(t, own, put("a", "old", 0, 1))
	release := lockRow(t, dsn, "a", "for update")
	single, batch := put("a", "new", 1, 2), join(put("a", "new", 1, 2), put("b", "", storage.Any, 1))
	for name, call := range map[string]func() error{
		"single":        func() error { return own.Apply(t.Context(), single) },
		"batch":         func() error { return own.Apply(t.Context(), batch) },
		"batch, pooled": func() error { return behind.Apply(t.Context(), batch) },
		"a check, pooled": func() error {
			return behind.Apply(t.Context(), join(check("a", 1), put("b", "", storage.Any, 1)))
		},
	} {
		err := call()
		if err == nil || errors.Is(err, storage.ErrUnknownOutcome) || !strings.Contains(err.Error(), "lock timeout") {
			t.Errorf("%s: Apply behind a lock = %v, want the server's refusal", name, err)
		}
	}
	if err := behind.Apply(t.Context(), single); !errors.Is(err, storage.ErrUnknownOutcome) {
		t.Errorf("Apply behind a lock, pooled = %v, want ErrUnknownOutcome", err)
	}
	holds(t, own, "a", "old")
	release()
}

// TestServerErrors lets the server refuse changes for reasons that are hard to bring about, by a trigger.
func TestServerErrors(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	execute(t, dsn, "create sequence tries", `create function refuse() returns trigger language plpgsql as $$ begin
		if convert_from(new.k, 'UTF8') like 'full%' then
			raise exception 'no space left' using errcode = 'disk_full';
		elsif convert_from(new.k, 'UTF8') like 'never%' then
			raise exception 'lost' using errcode = 'serialization_failure';
		elsif convert_from(new.k, 'UTF8') like 'later%' and nextval('tries') % 4 > 0 then
			raise exception 'lost' using errcode = 'deadlock_detected';
		end if;
		return new;
	end $$`, "create trigger refuse before insert on polycred_records for each row execute function refuse()")
	s := pgtest.OpenDSN(t, dsn, nil)
	other := put("other", "", storage.Any, 1)
	for name, beside := range map[string]storage.Batch{"single": {}, "batch": other} {
		if err := s.Apply(t.Context(), join(put("full", "x", 0, 1), beside)); !errors.Is(err, storage.ErrFull) {
			t.Errorf("%s: Apply on a full disk = %v, want ErrFull", name, err)
		}
		err := s.Apply(t.Context(), join(put("never", "x", 0, 1), beside))
		if err == nil || errors.Is(err, storage.ErrUnknownOutcome) || isConflict(err) {
			t.Errorf("%s: Apply that always loses = %v, want a plain error", name, err)
		}
		for _, key := range []string{"full", "never", "other"} {
			holds(t, s, key, "")
		}
		apply(t, s, join(put("later "+name, "x", 0, 1), beside)) // lost three times
		holds(t, s, "later "+name, "x")
		if name == "batch" {
			apply(t, s, del("other", 1)) // it was there
		}
	}
}

// TestReplica wants a server that takes no writes to be called one.
func TestReplica(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := pgtest.OpenDSN(t, pgtest.With(dsn, "default_transaction_read_only", "on"), nil)
	for _, b := range []storage.Batch{put("a", "x", 0, 1), join(put("a", "x", 0, 1), put("b", "x", 0, 1))} {
		err := s.Apply(t.Context(), b)
		if err == nil || errors.Is(err, storage.ErrUnknownOutcome) || isConflict(err) {
			t.Errorf("Apply on a replica = %v, want a plain error", err)
		}
	}
	holds(t, s, "a", "")
}
