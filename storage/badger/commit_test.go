package badger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

func TestFold(t *testing.T) {
	t.Parallel()
	s := opened(t, t.TempDir(), nil)
	const writers, each = 64, 20
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				if err := s.Apply(context.Background(), put(fmt.Sprint(i, n), "x", 0, 1)); err != nil {
					t.Errorf("Apply() = %v, want nil", err)
				}
			}
		})
	}
	wg.Wait()
	got := s.Stats()
	if got.Applies != writers*each || got.Commits == 0 || got.Commits > got.Applies/2 {
		t.Errorf("Stats() = %+v, want %d applies in less than half as many commits", got, writers*each)
	}
	if err := s.Apply(context.Background(), put("0 0", "x", 0, 1)); err == nil || s.Stats() != got {
		t.Errorf("Stats() after a conflict = %+v (%v), want %+v", s.Stats(), err, got)
	}
}

// TestFoldTooBig lets folds grow beyond a transaction of Badger, which is then split.
func TestFoldTooBig(t *testing.T) {
	t.Parallel()
	var o badger.Options
	o.SetFold(1<<20, 1<<30)
	var large atomic.Bool
	s := openIn(t, t.TempDir(), &o)
	value := strings.Repeat("v", storage.MaxValue-100)
	batch := func(i int) (b storage.Batch) {
		for n := range 4 {
			b.Puts = append(b.Puts, put(fmt.Sprint(i, n), value, 0, 1).Puts...)
		}
		return b
	}
	for round := 0; round < 20 && !large.Load(); round++ {
		before := s.Stats()
		var wg sync.WaitGroup
		const writers = 16
		for i := range writers {
			wg.Go(func() { mustApply(t, s, batch(round*writers+i)) })
		}
		wg.Wait()
		// A commit holds two of these batches at most, so fewer than three commits per eight batches is impossible.
		after := s.Stats()
		if after.Applies-before.Applies != writers || (after.Commits-before.Commits)*2 < writers {
			t.Fatalf("Stats() = %+v after %+v, want %d more applies, two in a commit at most", after, before, writers)
		}
		large.Store(after.Commits-before.Commits < writers)
		for i := range writers {
			for _, p := range batch(round*writers + i).Puts {
				wantValue(t, s, string(p.Key), value)
			}
		}
		s = reopened(t, s, &o)
	}
	mustClose(t, s)
}

// reopened closes s and opens its directory again.
func reopened(t *testing.T, s *badger.Store, o *badger.Options) *badger.Store {
	t.Helper()
	mustClose(t, s)
	return openIn(t, s.Dir(), o)
}

// TestTxnTooBig has Badger refuse every other transaction: what was refused is split down to single batches, which
// either fail without effect or go through whole.
func TestTxnTooBig(t *testing.T) {
	t.Parallel()
	s := opened(t, t.TempDir(), nil)
	calls := 0
	s.SetCommit(func(txn *badgerdb.Txn, ts uint64) error {
		if calls++; calls%2 == 1 {
			return badgerdb.ErrTxnTooBig
		}
		return txn.CommitAt(ts, nil)
	})
	const writers = 64
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for tries := 0; ; tries++ {
				err := s.Apply(context.Background(), put(fmt.Sprint(i), "x", 0, 1))
				if err == nil {
					return
				}
				if !errors.Is(err, badgerdb.ErrTxnTooBig) || tries == 1000 {
					t.Errorf("Apply() = %v, want nil or ErrTxnTooBig", err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range writers {
		wantValue(t, s, fmt.Sprint(i), "x")
	}
	if got := s.Stats().Applies; got != writers {
		t.Errorf("Stats().Applies = %d, want %d", got, writers)
	}
}

// TestBrokenCommit has the disk fail under a commit.
func TestBrokenCommit(t *testing.T) {
	t.Parallel()
	s, ctx := openIn(t, t.TempDir(), nil), context.Background()
	broken := errors.New("input/output error")
	s.SetCommit(func(txn *badgerdb.Txn, ts uint64) error {
		if ts > 1 {
			return broken
		}
		return txn.CommitAt(ts, nil)
	})
	mustApply(t, s, put("a", "1", 0, 1))
	if err := s.Apply(ctx, put("b", "1", 0, 1)); !errors.Is(err, storage.ErrUnknownOutcome) || !errors.Is(err, broken) {
		t.Errorf("Apply() on a failing disk = %v, want ErrUnknownOutcome and its cause", err)
	}
	_, get := s.Get(ctx, []byte("a"))
	_, many := s.GetMany(ctx, [][]byte{[]byte("a")})
	_, scan := s.Scan(ctx, storage.Range{})
	for _, err := range []error{get, many, scan, s.Apply(ctx, put("c", "1", 0, 1))} {
		if !errors.Is(err, broken) || errors.Is(err, storage.ErrUnknownOutcome) || errors.Is(err, storage.ErrClosed) {
			t.Errorf("a call after a failed write = %v, want the reason why the store stopped", err)
		}
	}
	s = reopened(t, s, nil)
	wantValue(t, s, "a", "1")
	mustApply(t, s, put("b", "1", 0, 1))
	mustClose(t, s)
}

// gate is a FreeSpace that holds the committer up, from closing it until opening it.
type gate struct {
	closed  atomic.Bool
	entered chan struct{} // gets one entry for each that is held up
	open    chan struct{}
}

func newGate() *gate {
	return &gate{entered: make(chan struct{}, 1), open: make(chan struct{})}
}

func (g *gate) freeSpace(string) (uint64, error) {
	if g.closed.Load() {
		g.entered <- struct{}{}
		<-g.open
		g.closed.Store(false)
	}
	return 1 << 40, nil
}

// TestCancelWhileWaiting cancels one Apply that was taken up and one that was not.
func TestCancelWhileWaiting(t *testing.T) {
	t.Parallel()
	g := newGate()
	s := opened(t, t.TempDir(), &badger.Options{FreeSpace: g.freeSpace})
	g.closed.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	taken := make(chan error, 1)
	go func() { taken <- s.Apply(ctx, put("taken", "x", 0, 1)) }()
	<-g.entered

	waiting, giveUp := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Apply(waiting, put("waiting", "x", 0, 1)) }()
	giveUp()
	if err := <-result; !errors.Is(err, context.Canceled) { // although the committer still hangs
		t.Errorf("Apply() cancelled while it waits = %v, want context.Canceled", err)
	}
	cancel()
	close(g.open)
	// Whether it was committed before the context was looked at is open, but the answer must be true.
	err := <-taken
	_, missing := s.Get(context.Background(), []byte("taken"))
	done := err == nil && missing == nil
	undone := errors.Is(err, context.Canceled) && errors.Is(missing, storage.ErrNotFound)
	if !done && !undone {
		t.Errorf("Apply() cancelled after it was taken = %v, but then Get() = %v", err, missing)
	}
	if _, err := s.Get(context.Background(), []byte("waiting")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get(waiting) = %v, want ErrNotFound", err)
	}
}

// TestCloseTimeout has Close wait for a commit that hangs.
func TestCloseTimeout(t *testing.T) {
	t.Parallel()
	g := newGate()
	dir := t.TempDir()
	s := openIn(t, dir, &badger.Options{FreeSpace: g.freeSpace, CloseTimeout: 20 * time.Millisecond})
	g.closed.Store(true)
	result := make(chan error, 1)
	go func() { result <- s.Apply(context.Background(), put("a", "x", 0, 1)) }()
	<-g.entered
	for range 2 {
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "20ms") {
			t.Errorf("Close() of a store that hangs = %v, want an error that names the timeout", err)
		}
	}
	if _, ok := errors.AsType[*storage.LockedError](openError(dir, nil)); !ok {
		t.Error("Open() after Close() gave up = no *LockedError, want the lock to be kept")
	}
	if _, err := s.Get(context.Background(), []byte("a")); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Get() after Close() gave up = %v, want ErrClosed", err)
	}
	close(g.open)
	if err := <-result; err != nil {
		t.Errorf("Apply() that was taken before Close() = %v, want nil", err)
	}
	for err := s.Close(); err != nil; err = s.Close() { // waits once more each time
		if !strings.Contains(err.Error(), "20ms") {
			t.Fatalf("Close() = %v, want nil in the end", err)
		}
	}
	s = openIn(t, dir, nil)
	wantValue(t, s, "a", "x")
	mustClose(t, s)
}

// TestValueLayout holds the bytes that stand in Badger: they are forever.
func TestValueLayout(t *testing.T) {
	t.Parallel()
	s := opened(t, t.TempDir(), nil)
	mustApply(t, s, put("key", "value", 0, 0x0102030405060708))
	txn := s.DB().NewTransactionAt(1, false)
	defer txn.Discard()
	item, err := txn.Get([]byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := item.ValueCopy(nil)
	if want := []byte("\x01\x02\x03\x04\x05\x06\x07\x08value"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the value in Badger = %q, %v, want %q", got, err, want)
	}
}
