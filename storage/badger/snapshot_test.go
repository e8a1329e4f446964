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

// fill makes Badger write tables: it puts more than two memtables of values.
func fill(t *testing.T, s *badger.Store, round int) {
	t.Helper()
	value := strings.Repeat("f", storage.MaxValue-100)
	for i := range 40 {
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
	mustApply(t, s, put("a", "old", 0, 1))
	mustApply(t, s, put("b", "old", 0, 1))
	fill(t, s, 0)
	r, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for rev := storage.Rev(1); rev < 10; rev++ {
		mustApply(t, s, put("a", "new", rev, rev+1))
	}
	mustApply(t, s, storage.Batch{Deletes: []storage.Delete{{Key: []byte("b"), If: 1}}})
	fill(t, s, 1)
	compact(t, s)
	for _, key := range []string{"a", "b"} {
		item, err := r.Get([]byte(key))
		if err != nil || string(item.Value) != "old" {
			t.Errorf("Get(%s) in a read from before = %q, %v, want the old value", key, item.Value, err)
		}
	}
	r.End()

	// Nobody can see the old versions any more: the next compactions drop them.
	mustApply(t, s, put("c", "", storage.Any, 1))
	mustApply(t, s, put("c", "", storage.Any, 1))
	fill(t, s, 2)
	compact(t, s)
	if got := versions(s, "a"); got != 1 {
		t.Errorf("Badger keeps %d versions of a key that was replaced, want 1", got)
	}
	wantValue(t, s, "a", "new")
	if _, err := s.Get(context.Background(), []byte("b")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get(b) = %v, want ErrNotFound", err)
	}
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
