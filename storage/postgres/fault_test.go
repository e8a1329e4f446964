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

// TestFaults breaks connections at every point of a change and wants an answer that is true: nil only for what is
// there, storage.ErrUnknownOutcome only where nobody can know, and any other error only for what is not there.
func TestFaults(t *testing.T) {
	t.Parallel()
	one := put("a", "new", 0, 1)
	two := join(put("a", "new", 0, 1), put("b", "new", 0, 1))
	const unknown, plain = "unknown", "plain"
	tests := []struct {
		name  string
		batch storage.Batch
		kind  pgtest.Fault
		at    string
		times int
		want  string // the kind of error; empty: nil
		there bool   // what was put
	}{
		{"single, not received", one, pgtest.CutBefore, "insert", 1, unknown, false},
		{"single, answer lost", one, pgtest.CutAfter, "insert", 1, unknown, true},
		{"single, crash behind a pooler", one, pgtest.Crash, "insert", 1, unknown, true},
		{"single, no answer", one, pgtest.Silence, "insert", 1, unknown, true},
		{"begin not received", two, pgtest.CutBefore, "begin", 1, "", true},
		{"begin never received", two, pgtest.CutBefore, "begin", 8, plain, false},
		{"change not received", two, pgtest.CutBefore, "insert", 1, "", true},
		{"change's answer lost", two, pgtest.CutAfter, "insert", 1, "", true},
		{"change never received", two, pgtest.CutBefore, "insert", 8, plain, false},
		{"change without answer", two, pgtest.Silence, "insert", 1, plain, false},
		{"commit not received", two, pgtest.CutBefore, "^commit", 1, unknown, false},
		{"commit's answer lost", two, pgtest.CutAfter, "^commit", 1, unknown, true},
		{"commit, crash behind a pooler", two, pgtest.Crash, "^commit", 1, unknown, true},
		{"change, crash behind a pooler", two, pgtest.Crash, "insert", 1, "", true},
		{"commit without answer", two, pgtest.Silence, "^commit", 1, unknown, true},
	}
	modes := map[string]func(dsn string) string{"own": func(dsn string) string { return dsn }, "pooled": pooled}
	for mode, as := range modes {
		for _, test := range tests {
			t.Run(mode+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				dsn := pgtest.DSN(t)
				proxy := pgtest.StartProxy(t, dsn)
				o := &postgres.Options{}
				if test.kind == pgtest.Silence {
					o.Timeout = 500 * time.Millisecond
				}
				s := pgtest.OpenDSN(t, as(proxy.DSN()), o)
				proxy.Break(test.kind, test.at, test.times)

				err := s.Apply(t.Context(), test.batch)
				got := ""
				if errors.Is(err, storage.ErrUnknownOutcome) {
					got = unknown
				} else if err != nil {
					got = plain
				}
				if got != test.want {
					t.Errorf("Apply() = %v, want %q", err, test.want)
				}
				if proxy.Hits() == 0 {
					t.Error("the fault did not strike")
				}
				want := ""
				if test.there {
					want = "new"
				}
				direct := pgtest.OpenDSN(t, dsn, nil)
				eventually(t, direct, "a", want)

				for proxy.Hits() < test.times { // use up what is left
					if err := s.Apply(t.Context(), test.batch); err == nil {
						t.Fatal("Apply() in spite of the fault = nil, want an error")
					}
				}
				apply(t, s, put("after", "x", 0, 1)) // the store itself is well
				holds(t, s, "after", "x")
			})
		}
	}
}

// eventually waits until key holds value: a server goes on for a moment with what a connection that died has brought.
func eventually(t *testing.T, s storage.Store, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		item, err := s.Get(ctx, []byte(key))
		if err == nil && string(item.Value) == value || errors.Is(err, storage.ErrNotFound) && value == "" {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Errorf("Get(%s) = %q, %v, want %q in the end", key, item.Value, err, value)
			return
		}
	}
}

// TestReadRetry breaks connections under reads.
func TestReadRetry(t *testing.T) {
	t.Parallel()
	proxy := pgtest.StartProxy(t, pgtest.DSN(t))
	s := pgtest.OpenDSN(t, proxy.DSN(), nil)
	apply(t, s, put("a", "x", 0, 1))
	for _, fault := range []pgtest.Fault{pgtest.CutBefore, pgtest.CutAfter} {
		proxy.Break(fault, "rev, v from .* where k = ", 1)
		holds(t, s, "a", "x")
		proxy.Break(fault, "= any", 1)
		if items, err := s.GetMany(t.Context(), [][]byte{[]byte("a")}); err != nil || items[0].Rev != 1 {
			t.Errorf("GetMany(a) = %v, %v, want revision 1", items, err)
		}
		proxy.Break(fault, "order by k", 1)
		if page, err := s.Scan(t.Context(), storage.Range{}); err != nil || len(page.Items) != 1 || page.Next != nil {
			t.Errorf("Scan() = %v, %v, want one item", page, err)
		}
	}
	if got := proxy.Hits(); got != 6 {
		t.Errorf("%d faults have struck, want 6", got)
	}
	proxy.Break(pgtest.CutBefore, "rev, v from .* where k = ", 2)
	if _, err := s.Get(t.Context(), []byte("a")); err == nil {
		t.Error("Get(a) over connections that always break = nil, want an error")
	}
	proxy.SetDown(true)
	if _, err := s.Get(t.Context(), []byte("a")); err == nil {
		t.Error("Get(a) without a server = nil, want an error")
	}
	if err := s.Apply(t.Context(), put("b", "x", 0, 1)); err == nil || errors.Is(err, storage.ErrUnknownOutcome) {
		t.Errorf("Apply() without a server = %v, want a plain error", err)
	}
	proxy.SetDown(false)
	holds(t, s, "a", "x")
	holds(t, s, "b", "")
}

// TestRestart stops and starts the server between calls.
func TestRestart(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	s := pgtest.OpenDSN(t, cluster.DSN(t), nil)
	place := s.Place()
	apply(t, s, put("a", "x", 0, 1))
	for round, immediate := range []bool{false, true} {
		cluster.Stop(t, immediate)
		if _, err := s.Get(t.Context(), []byte("a")); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Get(a) while the server is stopped = %v, want ErrUnavailable", err)
		}
		err := s.Apply(t.Context(), put("b", "x", 0, 1))
		if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrUnknownOutcome) {
			t.Errorf("Apply() while the server is stopped = %v, want ErrUnavailable", err)
		}
		cluster.Start(t)
		holds(t, s, "a", "x")
		holds(t, s, "b", "")
		cluster.Stop(t, immediate)
		cluster.Start(t)
		rev := storage.Rev(round + 1)
		apply(t, s, join(put("a", "x", rev, rev+1), put("c", "", storage.Any, 1))) // the pool has only dead connections
		cluster.Stop(t, immediate)
		cluster.Start(t)
		// A single change on a dead connection: nobody knows, but the next one works.
		err = s.Apply(t.Context(), put("d", "", storage.Any, 1))
		if err != nil && !errors.Is(err, storage.ErrUnknownOutcome) {
			t.Errorf("Apply() after a restart = %v, want nil or ErrUnknownOutcome", err)
		}
		apply(t, s, put("d", "", storage.Any, 1))
	}
	if got := s.Place(); got != place || place == "" {
		t.Errorf("Place() = %q, then %q, want the same", place, got)
	}
}

// TestRoundTrips counts what each call costs once its statements are known.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	proxy := pgtest.StartProxy(t, pgtest.DSN(t))
	for i, dsn := range []string{proxy.DSN(), pooled(proxy.DSN())} {
		s, ctx := pgtest.OpenDSN(t, dsn, &postgres.Options{MaxConns: 1}), t.Context()
		rev := storage.Rev(1 + i*100)
		calls := []struct {
			name string
			want int
			do   func() error
		}{
			{"Get", 1, func() error { _, err := s.Get(ctx, []byte("index")); return err }},
			{"GetMany", 1, func() error { _, err := s.GetMany(ctx, [][]byte{[]byte("a"), []byte("b")}); return err }},
			{"Scan", 1, func() error { _, err := s.Scan(ctx, storage.Range{Limit: 3}); return err }},
			{"Apply one put", 1, func() error { return s.Apply(ctx, put("index", "", storage.Any, 1)) }},
			{"Apply one check", 1, func() error { return s.Apply(ctx, check("index", 1)) }},
			{"Apply one delete", 1, func() error { return s.Apply(ctx, del("gone", storage.Any)) }},
			{"Apply five", 2, func() error {
				rev++
				return s.Apply(ctx, join(put(strings.Repeat("x", int(rev)), "v", 0, rev), put("y", "", storage.Any, 1),
					del("gone", storage.Any), check("index", 1), put("z", "", storage.Any, 1)))
			}},
		}
		for _, warm := range []bool{false, true} {
			if !warm {
				apply(t, s, put("index", "", storage.Any, 1))
			}
			for _, call := range calls {
				before := proxy.RoundTrips()
				if err := call.do(); err != nil {
					t.Fatalf("%s = %v, want nil", call.name, err)
				}
				if got := proxy.RoundTrips() - before; warm && got != call.want {
					t.Errorf("%s on %s took %d round trips, want %d", call.name, dsn, got, call.want)
				}
			}
		}
		_ = s.Close()
	}
}
