package badger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/internal/need"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"golang.org/x/sys/unix"
)

// mountTmpfs mounts a file system of so many MiB until the end of the test.
func mountTmpfs(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	need.Permission(t, "mounting a tmpfs", unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// occupy allocates a file of so many MiB, or of all there is for -1, and returns what gives the space back.
func occupy(t *testing.T, dir string, mib int64) (release func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "occupied"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if mib < 0 {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		err = unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize)
	} else {
		err = unix.Fallocate(int(f.Fd()), 0, 0, mib<<20)
	}
	if err != nil {
		t.Fatalf("fallocate: %v", err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskFull fills a real file system as fast as it can, with flushes and compactions under way. Where the reserve
// does not suffice, SIGBUS ends the whole test binary.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 200 << 10} {
		t.Run(fmt.Sprintf("values of %d bytes", size), func(t *testing.T) {
			t.Parallel()
			mount := mountTmpfs(t, 256)
			dir := filepath.Join(mount, "store")
			release := occupy(t, mount, 64)
			s := opened(t, dir, nil)
			written := fillDisk(t, s, size)
			if len(written) == 0 {
				t.Fatal("nothing could be written")
			}
			wantSome(t, s, written)
			mustClose(t, s)

			// As full as that, it opens or says that it cannot; with space, writes go on.
			if s, err := badger.Open(dir, nil); err == nil {
				wantSome(t, s, written)
				mustClose(t, s)
			} else if !errors.Is(err, storage.ErrFull) {
				t.Errorf("Open() = %v, want nil or ErrFull", err)
			}
			release()
			s = opened(t, dir, nil)
			wantSome(t, s, written)
			eventually(t, func() error { return s.Apply(t.Context(), put("more", "x", 0, 1)) })
		})
	}
}

// eventually repeats do until it works: compactions under way can hold space for a while.
func eventually(t *testing.T, do func() error) {
	t.Helper()
	err := do()
	for timeout, tick := time.After(30*time.Second), time.Tick(20*time.Millisecond); err != nil; err = do() {
		select {
		case <-tick:
		case <-timeout:
			t.Fatalf("Apply() with space again = %v, want nil in the end", err)
		}
	}
}

// fillDisk writes values of the given size from several goroutines until each got ErrFull, and returns the keys.
func fillDisk(t *testing.T, s *badger.Store, size int) []string {
	t.Helper()
	var mu sync.Mutex // guards written
	var written []string
	var wg sync.WaitGroup
	value := strings.Repeat("v", size)
	for i := range 32 {
		wg.Go(func() {
			for n := 0; ; n++ {
				// Random keys, so that each table overlaps with all others.
				key := fmt.Sprintf("%016x %d %d", rand.Uint64(), i, n)
				err := s.Apply(context.Background(), put(key, value, 0, 1))
				if errors.Is(err, storage.ErrFull) {
					return
				}
				if err != nil {
					t.Errorf("Apply() = %v, want nil or ErrFull", err)
					return
				}
				mu.Lock()
				written = append(written, key)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return written
}

// wantSome wants the store to hold a thousand of the keys, the last ones among them.
func wantSome(t *testing.T, s *badger.Store, keys []string) {
	t.Helper()
	for i := range min(len(keys), 1000) {
		key := keys[len(keys)-1-i/2]
		if i%2 == 0 {
			key = keys[rand.IntN(len(keys))]
		}
		if _, err := s.Get(context.Background(), []byte(key)); err != nil {
			t.Fatalf("Get(%s) = %v, want nil", key, err)
		}
	}
}

// TestOpenOnFullDisk opens a store, and a directory without one, where nothing is free.
func TestOpenOnFullDisk(t *testing.T) {
	t.Parallel()
	mount := mountTmpfs(t, 256)
	dir := filepath.Join(mount, "store")
	s := openIn(t, dir, nil)
	mustApply(t, s, put("a", "1", 0, 1))
	mustClose(t, s)
	release := occupy(t, mount, -1)
	for _, dir := range []string{dir, filepath.Join(mount, "other")} {
		if err := openError(dir, nil); !errors.Is(err, storage.ErrFull) {
			t.Errorf("Open(%s) on a full disk = %v, want ErrFull", dir, err)
		}
	}
	release()
	s = openIn(t, dir, nil)
	wantValue(t, s, "a", "1")
	mustClose(t, s)
}
