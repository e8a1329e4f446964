package badger_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage/badger"
)

func touch(t *testing.T, path string, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDirIsMade(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "er")
	s := opened(t, dir, nil)
	if s.Dir() != dir {
		t.Errorf("Dir() = %q, want %q", s.Dir(), dir)
	}
	info, err := os.Stat(dir)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("Stat(%s) = %v, %v, want mode 0700", dir, info.Mode(), err)
	}
}

func TestDirIsAbsolute(t *testing.T) { // not parallel: it changes the working directory
	t.Chdir(t.TempDir())
	want, err := filepath.Abs("store")
	if err != nil {
		t.Fatal(err)
	}
	if s := opened(t, "store", nil); s.Dir() != want {
		t.Errorf("Dir() = %q, want %q", s.Dir(), want)
	}
}

func TestDirHoldsOtherThings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files []string
		want  string // what the error says; nothing: it opens
	}{
		{"nothing", nil, ""},
		{"a fresh file system", []string{"lost+found"}, ""},
		{"an Open that crashed early", []string{lockName, "LOCK", "MANIFEST-REWRITE"}, ""},
		{"a file", []string{"notes.txt"}, "notes.txt"},
		{"tables without a manifest", []string{"000001.sst", "KEYREGISTRY"}, "000001.sst"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, name := range test.files {
				touch(t, filepath.Join(dir, name), "")
			}
			if test.want == "" {
				mustClose(t, openIn(t, dir, nil))
				return
			}
			err := openError(dir, nil)
			if err == nil || !strings.Contains(err.Error(), "is no store") || !strings.Contains(err.Error(), dir) {
				t.Errorf("Open() = %v, want an error that says that %s is no store", err, dir)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != len(test.files) {
				t.Errorf("ReadDir() = %v, %v, want what was there before", entries, err)
			}
		})
	}
}

func TestDirIsFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	touch(t, file, "precious")
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if err := openError(dir, nil); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("Open(%s) = %v, want an error that says that it is not a directory", dir, err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
		t.Errorf("ReadFile() = %q, %v, want it untouched", got, err)
	}
}

// TestEmptyLogs leaves what a crash between creating and sizing a log leaves.
func TestEmptyLogs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openIn(t, dir, nil)
			mustApply(t, s, put("a", "1", 0, 1))
			mustClose(t, s)
			path := filepath.Join(dir, name)

			touch(t, path, "")
			if db, err := badgerdb.Open(badgerdb.DefaultOptions(dir).WithLogger(nil).WithMemTableSize(8 << 20)); err == nil {
				t.Error("badger.Open() = nil: it can open with an empty log now; removeEmpty may go")
				_ = db.Close()
			}
			touch(t, path, "") // that attempt has given the file a size

			var log bytes.Buffer
			s = openIn(t, dir, &badger.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			wantValue(t, s, "a", "1")
			mustClose(t, s)
			if !strings.Contains(log.String(), name) {
				t.Errorf("the log is %q, want it to name %s", log.String(), name)
			}
		})
	}
}

// TestFullLogs wants logs with a single byte to survive the cleaning; Badger itself decides about them.
func TestFullLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustClose(t, openIn(t, dir, nil))
	paths := []string{filepath.Join(dir, "00001.memory"), filepath.Join(dir, "mem"), filepath.Join(dir, "empty.txt")}
	for _, path := range paths {
		touch(t, path, "")
	}
	// Free space for nobody: Open cleans up only when it is going to open.
	full := func(string) (uint64, error) { return 0, nil }
	touch(t, filepath.Join(dir, "00099.mem"), "")
	if err := openError(dir, &badger.Options{FreeSpace: full}); err == nil {
		t.Error("Open() on a full disk = nil, want ErrFull")
	}
	mustClose(t, openIn(t, dir, nil))
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("Stat() = %v, want a file that is no log left alone", err)
		}
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return
	}
	dir := t.TempDir()
	s := openIn(t, dir, nil)
	here := s.Place()
	mustClose(t, s)
	if here == "" {
		t.Fatal("Place() is empty")
	}
	s = openIn(t, dir, nil)
	if again := s.Place(); again != here {
		t.Errorf("Place() after a restart = %q, want %q", again, here)
	}
	mustClose(t, s)

	// A copy lies elsewhere; a directory that was only renamed is the same one.
	elsewhere := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(elsewhere, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, elsewhere, nil)
	if other := s.Place(); other == "" || other == here {
		t.Errorf("Place() of a copy = %q, want something else than %q", other, here)
	}
	mustClose(t, s)
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, moved, nil)
	if again := s.Place(); again != here {
		t.Errorf("Place() after moving = %q, want %q", again, here)
	}
	mustClose(t, s)
}

func TestOpenNoDirectory(t *testing.T) {
	t.Parallel()
	s, err := badger.Open("", nil)
	if err == nil {
		_ = s.Close()
		t.Error(`Open("") = nil error, want it refused: it would be the current directory`)
	}
}
