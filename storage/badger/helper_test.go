package badger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

// children are what this binary does when a test starts it once more, by the value of childEnv.
var children = map[string]func(dir string){"hold": hold, "write": write}

const (
	childEnv = "POLYCRED_TEST_CHILD"
	dirEnv   = "POLYCRED_TEST_DIR"
)

func TestMain(m *testing.M) {
	if child := children[os.Getenv(childEnv)]; child != nil {
		child(os.Getenv(dirEnv))
		return
	}
	os.Exit(m.Run())
}

// process is a child under way.
type process struct {
	cmd *exec.Cmd
	out *bufio.Scanner // the lines that it prints
}

// start starts a child on dir. It is killed at the end of the test.
func start(t *testing.T, child, dir string) process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+child, dirEnv+"="+dir)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe() // stays open, so that a child can wait for its end
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return process{cmd, bufio.NewScanner(out)}
}

// line returns the next line that the child prints, or nothing when it has ended.
func (p process) line() (string, bool) {
	ok := p.out.Scan()
	return p.out.Text(), ok
}

// kill ends the child with SIGKILL and returns the lines that it still got out.
func (p process) kill(t *testing.T) (lines []string) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for line, ok := p.line(); ok; line, ok = p.line() {
		lines = append(lines, line)
	}
	_ = p.cmd.Wait()
	return lines
}

// hold opens the store and keeps it open as long as the parent lives.
func hold(dir string) {
	if _, err := badger.Open(dir, nil); err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		return
	}
	_, _ = fmt.Fprintln(os.Stdout, "open")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// open opens a store in a directory of its own. The caller closes it.
func open(t testing.TB) storage.Store { return openIn(t, t.TempDir(), nil) }

// openIn opens the store in dir. The caller closes it.
func openIn(t testing.TB, dir string, o *badger.Options) *badger.Store {
	t.Helper()
	s, err := badger.Open(dir, o)
	if err != nil {
		t.Fatalf("Open(%s) = %v, want nil", dir, err)
	}
	return s
}

// opened is openIn with a store that is closed at the end of the test.
func opened(t testing.TB, dir string, o *badger.Options) *badger.Store {
	t.Helper()
	s := openIn(t, dir, o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
	})
	return s
}

// openError returns the error of opening dir, where opening should fail.
func openError(dir string, o *badger.Options) error {
	s, err := badger.Open(dir, o)
	if err == nil {
		_ = s.Close()
	}
	return err
}

func mustClose(t testing.TB, s storage.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v, want nil", err)
	}
}

// compacted closes s, merges all of its tables, which drops what was deleted or replaced, and opens it again.
func compacted(t testing.TB, s *badger.Store) *badger.Store {
	t.Helper()
	mustClose(t, s)
	db, err := badgerdb.OpenManaged(badgerdb.LSMOnlyOptions(s.Dir()).WithLogger(nil).
		WithMemTableSize(8 << 20).WithCompactL0OnClose(true))
	if err != nil {
		t.Fatal(err)
	}
	db.SetDiscardTs(db.MaxVersion())
	if err := errors.Join(db.Flatten(2), db.Close()); err != nil {
		t.Fatal(err)
	}
	return openIn(t, s.Dir(), nil)
}

func put(key, value string, expect, rev storage.Rev) storage.Batch {
	return storage.Batch{Puts: []storage.Put{{Key: []byte(key), Value: []byte(value), If: expect, Rev: rev}}}
}

func mustApply(t testing.TB, s storage.Store, b storage.Batch) {
	t.Helper()
	if err := s.Apply(context.Background(), b); err != nil {
		t.Fatalf("Apply() = %v, want nil", err)
	}
}

// wantValue compares the value under key.
func wantValue(t testing.TB, s storage.Store, key, want string) {
	t.Helper()
	item, err := s.Get(context.Background(), []byte(key))
	if err != nil || string(item.Value) != want {
		t.Errorf("Get(%q) = %.20q, %v, want %.20q", key, item.Value, err, want)
	}
}
