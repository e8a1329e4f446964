package badger_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

func TestFull(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	var free atomic.Uint64
	free.Store(100 << 20)
	o := &badger.Options{MinFree: 100 << 20, FreeSpace: func(got string) (uint64, error) {
		if got != dir {
			t.Errorf("FreeSpace(%q), want %q", got, dir)
		}
		return free.Load(), nil
	}}
	s := openIn(t, dir, o)
	mustApply(t, s, put("a", "1", 0, 1))
	free.Store(100<<20 - 1)
	err := s.Apply(ctx, put("b", "1", 0, 1))
	if !errors.Is(err, storage.ErrFull) {
		t.Errorf("Apply() below the watermark = %v, want ErrFull", err)
	}
	for _, fact := range []string{dir, "99 MiB", "100 MiB"} {
		if err != nil && !strings.Contains(err.Error(), fact) {
			t.Errorf("Apply() below the watermark = %q, want a text with %q", err, fact)
		}
	}
	wantValue(t, s, "a", "1")
	if page, err := s.Scan(ctx, storage.Range{}); err != nil || len(page.Items) != 1 {
		t.Errorf("Scan() below the watermark = %v, %v, want the one item", page, err)
	}
	free.Store(100 << 20)
	mustApply(t, s, put("b", "1", 0, 1))
	mustClose(t, s)

	free.Store(1 << 10)
	if err := openError(dir, o); !errors.Is(err, storage.ErrFull) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open() on a full disk = %v, want ErrFull with the directory", err)
	}
	free.Store(100 << 20)
	s = openIn(t, dir, o)
	wantValue(t, s, "b", "1")
	mustClose(t, s)
}

func TestFullByDefault(t *testing.T) {
	t.Parallel()
	var free atomic.Uint64
	free.Store(20 << 20)
	s := opened(t, t.TempDir(), &badger.Options{FreeSpace: func(string) (uint64, error) { return free.Load(), nil }})
	if err := s.Apply(context.Background(), put("a", "1", 0, 1)); !errors.Is(err, storage.ErrFull) {
		t.Errorf("Apply() with 20 MiB free = %v, want ErrFull", err)
	}
	free.Store(128 << 20)
	mustApply(t, s, put("a", "1", 0, 1))
}

func TestFreeSpaceFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("no statistics")
	var fail atomic.Bool
	o := &badger.Options{FreeSpace: func(string) (uint64, error) {
		if fail.Load() {
			return 0, broken
		}
		return 1 << 40, nil
	}}
	dir := t.TempDir()
	s := openIn(t, dir, o)
	fail.Store(true)
	if err := s.Apply(context.Background(), put("a", "1", 0, 1)); !errors.Is(err, broken) || errors.Is(err, storage.ErrFull) {
		t.Errorf("Apply() where FreeSpace fails = %v, want its error and not ErrFull", err)
	}
	if _, err := s.Get(context.Background(), []byte("a")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get(a) = %v, want ErrNotFound", err)
	}
	fail.Store(false)
	mustApply(t, s, put("a", "1", 0, 1))
	mustClose(t, s)
	fail.Store(true)
	if err := openError(dir, o); !errors.Is(err, broken) {
		t.Errorf("Open() where FreeSpace fails = %v, want its error", err)
	}
}

// TestPending wants Open to ask for more where a crash has left work.
func TestPending(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ask := func() uint64 {
		t.Helper()
		need, leftover, err := badger.Pending(dir)
		if err != nil || leftover != 0 {
			t.Errorf("pending() = %d, %d, %v, want no leftover", need, leftover, err)
		}
		return need
	}
	fresh := ask()
	s := openIn(t, dir, nil)
	fill(t, s, 0)
	mustClose(t, s)
	idle := ask()
	touch(t, filepath.Join(dir, "00099.mem"), "x")
	touch(t, filepath.Join(dir, "00100.mem"), "x")
	if crashed := ask(); fresh > idle || idle >= crashed {
		t.Errorf("pending() = %d, %d with tables, %d with logs as well, want no less and then more", fresh, idle, crashed)
	}
	touch(t, filepath.Join(dir, "000999.sst"), "an output that no manifest knows")
	if _, leftover, err := badger.Pending(dir); err != nil || leftover != 32 {
		t.Errorf("pending() = leftover %d, %v, want 32", leftover, err)
	}
}
