package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/postgres"
	"github.com/polycred/polycred/storage/postgres/pgtest"
	"github.com/polycred/polycred/storage/storagetest"
)

// race runs do n times at once and waits for all.
func race(n int, do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

// keys returns the keys that begin with prefix.
func keys(t *testing.T, s storage.Store, prefix string) (found []string) {
	t.Helper()
	page, err := s.Scan(context.Background(), storage.Range{
		Start: []byte(prefix), End: storage.PrefixEnd([]byte(prefix)), KeysOnly: true,
	})
	if err != nil {
		t.Errorf("Scan(%s) = %v, want nil", prefix, err)
	}
	for _, item := range page.Items {
		found = append(found, string(item.Key))
	}
	return found
}

// TestCheckHolds lets many batches put members under a group whose revision they check, while one changes the group, or
// deletes it, and looks at the members afterwards: none may be missing that is there in the end. A lock that lets the
// group change between the check and the commit, as "for key share" does, fails here.
func TestCheckHolds(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t, &postgres.Options{MaxConns: 12})
	var joined, late atomic.Int64
	for round := range 60 {
		group, member := fmt.Sprintf("group %d", round), fmt.Sprintf("member %d/", round)
		apply(t, s, put(group, "x", 0, 1))
		closing := put(group, "closing", 1, 2)
		if round%2 == 1 {
			closing = del(group, 1)
		}
		if round%3 == 0 {
			closing = join(closing, put(fmt.Sprintf("done %d", round), "", storage.Any, 1)) // two statements
		}
		var seen []string
		race(12, func(i int) {
			if i == 6 {
				apply(t, s, closing)
				seen = keys(t, s, member)
				return
			}
			switch err := s.Apply(t.Context(), join(put(fmt.Sprint(member, i), "x", 0, 1), check(group, 1))); {
			case err == nil:
				joined.Add(1)
			case isConflict(err):
				late.Add(1)
			default:
				t.Errorf("Apply(a member) = %v, want nil or a conflict", err)
			}
		})
		if after := keys(t, s, member); len(after) != len(seen) {
			t.Fatalf("round %d: %d members when the group was closed, %d in the end", round, len(seen), len(after))
		}
	}
	t.Logf("%d joined in time, %d came late", joined.Load(), late.Load())
}

// TestChecksShare wants two batches that check the same record not to wait for each other.
func TestChecksShare(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := pgtest.OpenDSN(t, dsn, nil)
	apply(t, s, put("fence", "x", 0, 1))
	release := lockRow(t, dsn, "fence", "for share") // a batch that has checked and not committed yet
	apply(t, s, join(put("a", "x", 0, 1), check("fence", 1)))
	release()
}

// lockRow locks the record at key in a transaction of its own, until release is called.
func lockRow(t *testing.T, dsn, key, strength string) (release func()) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "select 1 from polycred_records where k = $1 "+strength, []byte(key)); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	release = func() { once.Do(func() { _ = conn.Close(ctx) }) }
	t.Cleanup(release)
	return release
}

// TestCreateBesideDelete lets all racers create the same key and delete what they created. Whoever has created it has
// the only right to delete it, so that must always work.
func TestCreateBesideDelete(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t, &postgres.Options{MaxConns: 12})
	for _, beside := range []storage.Batch{{}, put("z", "", storage.Any, 1)} { // alone, and in a batch of two
		race(16, func(i int) {
			for n, created := 0, 0; created < 4; n++ {
				rev := storage.Rev(1 + i*1_000_000 + n)
				err := s.Apply(t.Context(), join(put("a", "x", 0, rev), beside))
				if isConflict(err) {
					continue
				}
				if err != nil {
					t.Errorf("Apply(create) = %v, want nil or a conflict", err)
					return
				}
				created++
				if err := s.Apply(t.Context(), join(del("a", rev), beside)); err != nil {
					t.Errorf("Apply(delete what was created) = %v, want nil", err)
					return
				}
			}
		})
		holds(t, s, "a", "")
	}
}

// TestIndexFollowsRecord races a batch that marks a record in an index while checking it with one that changes the
// record and unmarks it. If both succeed, the mark was first, and must be gone, whichever key stands before the other:
// deleting an absent key locks nothing, so the store must have looked at the record before.
func TestIndexFollowsRecord(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t, nil)
	both := 0
	for round := range 300 {
		record := fmt.Sprintf("record %d", round)
		for _, index := range []string{fmt.Sprintf("index %d", round), fmt.Sprintf("xedni %d", round)} {
			apply(t, s, put(record, "x", 0, 1))
			var marked, unmarked error
			race(2, func(i int) {
				if i == 0 {
					marked = s.Apply(t.Context(), join(put(index, "", storage.Any, 1), check(record, 1)))
				} else {
					unmarked = s.Apply(t.Context(), join(put(record, "y", 1, 2), del(index, storage.Any)))
				}
			})
			if unmarked != nil || marked != nil && !isConflict(marked) {
				t.Fatalf("mark = %v, unmark = %v, want nil or a conflict, and nil", marked, unmarked)
			}
			if marked == nil {
				both++
			}
			if left := keys(t, s, index); len(left) != 0 {
				t.Fatalf("round %d: mark = %v, unmark = nil, and the mark %s is there", round, marked, left)
			}
			apply(t, s, del(record, 2))
		}
	}
	t.Logf("both succeeded in %d of 600 rounds", both)
}

// TestDeadlock makes two batches hold what the other wants next. The server ends one of them, which the store tries
// again, so both succeed.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := pgtest.OpenDSN(t, dsn, nil)
	apply(t, s, join(put("a", "", 0, 1), put("b", "", 0, 1), put("gate a", "", 0, 1), put("gate b", "", 0, 1)))
	openA, openB := lockRow(t, dsn, "gate a", "for update"), lockRow(t, dsn, "gate b", "for update")
	var done sync.WaitGroup
	for first, second := range map[string]string{"a": "b", "b": "a"} {
		done.Go(func() { // conditions come first, in the order of their keys, so this holds first when it waits at the gate
			b := join(put(first, "", 1, 1), check("gate "+first, 1), put(second, "", storage.Any, 1))
			if err := s.Apply(t.Context(), b); err != nil {
				t.Errorf("Apply(%s, then %s) = %v, want nil", first, second, err)
			}
		})
	}
	waiting(t, dsn, 2)
	openA()
	openB()
	done.Wait()
}

// waiting returns when n connections to the database of dsn wait for a lock.
func waiting(t *testing.T, dsn string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for got := 0; got != n; {
		err := conn.QueryRow(ctx, `select count(*) from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock'`).Scan(&got)
		if err != nil {
			t.Fatalf("%d connections wait for a lock, want %d: %v", got, n, err)
		}
	}
}

// TestIsolation runs the whole suite on databases that ask for a stricter isolation than the store needs.
func TestIsolation(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			storagetest.Run(t, harness(func(t testing.TB) string {
				dsn := pgtest.DSN(t)
				execute(t, dsn, "do $$ begin execute format('alter database %I set default_transaction_isolation = %L', "+
					"current_database(), '"+level+"'); end $$")
				return dsn
			}))
		})
	}
}
