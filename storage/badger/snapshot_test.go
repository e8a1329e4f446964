package badger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

// TestReadBesideCommit reads while a commit is under way: at once, and without what is not on disk yet.
func TestReadBesideCommit(t *testing.T) {
	t.Parallel()
	s, ctx := opened(t, t.TempDir(), nil), context.Background()
	begun, finish := make(chan bool), make(chan bool)
	s.SetCommit(func(txn *badgerdb.Txn, ts uint64) error {
		if ts == 2 {
			begun <- true
			defer func() { <-finish }() // after Badger has put it where everybody could see it
		}
		return txn.CommitAt(ts, nil)
	})
	mustApply(t, s, put("a", "old", 0, 1))
	applied := make(chan error, 1)
	go func() { applied <- s.Apply(ctx, put("a", "new", 1, 2)) }()
	<-begun
	for range 100 {
		wantValue(t, s, "a", "old")
	}
	page, err := s.Scan(ctx, storage.Range{})
	if err != nil || len(page.Items) != 1 || string(page.Items[0].Value) != "old" {
		t.Errorf("Scan() beside a commit = %v, %v, want the old value", page, err)
	}
	finish <- true
	if err := <-applied; err != nil {
		t.Errorf("Apply() = %v, want nil", err)
	}
	wantValue(t, s, "a", "new")
}

// fill makes Badger write a table: it puts more values than a memtable holds.
func fill(t *testing.T, s *badger.Store, round int) {
	t.Helper()
	value := strings.Repeat("f", storage.MaxValue-100)
	for i := range 18 {
		var b storage.Batch
		for n := range 4 {
			b.Puts = append(b.Puts, put(fmt.Sprint("fill ", round, i, n), value, 0, 1).Puts...)
		}
		mustApply(t, s, b)
	}
}

// TestReadBesideCompaction keeps a read under way while what it sees is replaced, flushed and compacted.
func TestReadBesideCompaction(t *testing.T) {
	t.Parallel()
	s := opened(t, t.TempDir(), nil)
	mustApply(t, s, put("m", "old", 0, 1))
	mustApply(t, s, put("n", "old", 0, 1))
	round := 0
	churn := func() { // replaces m and has Badger merge the tables around it
		rev := storage.Rev(round + 1)
		mustApply(t, s, put("m", "new", rev, rev+1))
		mustApply(t, s, storage.Batch{Puts: []storage.Put{
			{Key: []byte("a"), If: storage.Any, Rev: rev}, {Key: []byte("z"), If: storage.Any, Rev: rev},
		}})
		fill(t, s, round)
		if err := s.DB().Flatten(2); err != nil {
			t.Fatalf("Flatten() = %v, want nil", err)
		}
		round++
	}
	r, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, s, storage.Batch{Deletes: []storage.Delete{{Key: []byte("n"), If: 1}}})
	for !merged(s) && round < 20 {
		churn()
	}
	for _, key := range []string{"m", "n"} {
		item, err := r.Get([]byte(key))
		if err != nil || string(item.Value) != "old" {
			t.Errorf("Get(%s) in a read from before = %q, %v, want the old value", key, item.Value, err)
		}
	}
	r.End()

	// Nobody can see the old versions any more. Flushing goes on by itself, so it can take some rounds until a
	// compaction meets them all; what was replaced in the last rounds may still be there.
	const enough = 3
	for versions(s, "m") > enough && round < 20 {
		churn()
	}
	if got := versions(s, "m"); got > enough {
		t.Errorf("Badger keeps %d versions of a key that was replaced %d times, want %d at most", got, round, enough)
	}
	wantValue(t, s, "m", "new")
	if _, err := s.Get(context.Background(), []byte("n")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get(n) = %v, want ErrNotFound", err)
	}
}

// merged reports whether Badger has merged tables of level 0 yet, two of them at least.
func merged(s *badger.Store) bool {
	for _, level := range s.DB().Levels()[1:] {
		if level.NumTables > 0 {
			return true
		}
	}
	return false
}

// TestCompacted wants the helper of the conformance suite to do what the suite relies on.
func TestCompacted(t *testing.T) {
	t.Parallel()
	s := openIn(t, t.TempDir(), nil)
	mustApply(t, s, put("a", "1", 0, 1))
	mustApply(t, s, put("b", "1", 0, 1))
	s = reopened(t, s, nil)
	mustApply(t, s, put("a", "2", 1, 2))
	mustApply(t, s, storage.Batch{Deletes: []storage.Delete{{Key: []byte("b"), If: 1}}})
	s = compacted(t, s)
	if a, b := versions(s, "a"), versions(s, "b"); a != 1 || b != 0 {
		t.Errorf("Badger keeps %d versions of a key that was replaced and %d of one that was deleted, want 1 and 0", a, b)
	}
	mustClose(t, s)
}

// versions counts what Badger keeps of a key.
func versions(s *badger.Store, key string) (n int) {
	txn := s.DB().NewTransactionAt(1<<62, false)
	defer txn.Discard()
	it := txn.NewKeyIterator([]byte(key), badgerdb.IteratorOptions{AllVersions: true})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		n++
	}
	return n
}
