package crypto_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/polycred/polycred/crypto"
)

func TestKEKFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "polycred.kek")
	created, err := crypto.CreateKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); runtime.GOOS != "windows" && got != 0o600 {
		t.Errorf("mode of the file = %v, want 0600", got)
	}
	wrapped, err := newKeyset(t).Wrap(ctx, created, []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := crypto.OpenKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crypto.UnwrapKeyset(ctx, opened, wrapped, []byte("here")); err != nil {
		t.Errorf("UnwrapKeyset with the opened KEK = %v, want nil", err)
	}
	if created.Path() != path || opened.Path() != path {
		t.Errorf("Path() = %q and %q, want %q", created.Path(), opened.Path(), path)
	}
	if got := newKEK(t).Path(); got != "" {
		t.Errorf("Path() of a KEK in memory = %q, want \"\"", got)
	}

	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crypto.CreateKEK(path); !errors.Is(err, crypto.ErrKEKFile) || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("CreateKEK(existing) = %v, want ErrKEKFile, exists already", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("CreateKEK(existing) changed the file (%v), want it untouched", err)
	}

	other, err := crypto.CreateKEK(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crypto.UnwrapKeyset(ctx, other, wrapped, []byte("here")); !errors.Is(err, crypto.ErrWrongKEK) {
		t.Errorf("UnwrapKeyset with another file = %v, want ErrWrongKEK", err)
	}
}

// TestKEKRelativePath is not parallel: it changes the working directory.
func TestKEKRelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, err := os.Getwd() // free of symbolic links, which temporary directories of macOS have
	if err != nil {
		t.Fatal(err)
	}
	created, err := crypto.CreateKEK("polycred.kek")
	if err != nil {
		t.Fatal(err)
	}
	opened, err := crypto.OpenKEK("polycred.kek")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "polycred.kek"); created.Path() != want || opened.Path() != want {
		t.Errorf("Path() = %q and %q, want %q", created.Path(), opened.Path(), want)
	}
}

func TestCreateKEKRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, path := range map[string]string{
		"directory":      dir,
		"absent parent":  filepath.Join(dir, "no", "kek"),
		"dangling link":  filepath.Join(dir, "link"),
		"no name at all": "",
	} {
		if name == "dangling link" {
			if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
				t.Fatal(err)
			}
		}
		if kek, err := crypto.CreateKEK(path); !errors.Is(err, crypto.ErrKEKFile) || kek != nil {
			t.Errorf("CreateKEK(%s) = %v, %v, want nil, ErrKEKFile", name, kek, err)
		}
	}
}

func TestOpenKEKRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, mode os.FileMode, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	directory := filepath.Join(dir, "dir")
	if err := os.Mkdir(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	const notOurs = "is not a file that CreateKEK wrote"
	good := string(fixedKEKFile(t))
	tests := []struct {
		name, path string
		want       string // part of the text
		unix       bool   // only where modes mean something
	}{
		{"group may read", file("group", 0o640, good), "mode 0640", true},
		{"others may read", file("others", 0o604, good), "mode 0604", true},
		{"others may write", file("write", 0o602, good), "run chmod 600 on it", true},
		{"directory", directory, notOurs, false},
		{"empty", file("empty", 0o600, ""), notOurs, false},
		{"garbage", file("garbage", 0o600, canary+"\x00\xff{"), notOurs, false},
		{"other JSON", file("json", 0o600, `{"key": "`+canary+`"}`), notOurs, false},
		{"empty keyset", file("none", 0o600, `{}`), notOurs, false},
		{"half", file("half", 0o600, good[:len(good)/2]), notOurs, false},
		{"another kind of key", file("kind", 0o600, strings.ReplaceAll(good, "XAesGcmKey", "HmacPrfKey")), notOurs, false},
		{"more behind it", file("twice", 0o600, good+good), notOurs, false},
		{"huge", file("huge", 0o600, good+strings.Repeat(" ", 64<<10)), notOurs, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.unix && runtime.GOOS == "windows" {
				return
			}
			kek, err := crypto.OpenKEK(test.path)
			if !errors.Is(err, crypto.ErrKEKFile) || kek != nil {
				t.Fatalf("OpenKEK() = %v, %v, want nil, ErrKEKFile", kek, err)
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
				t.Errorf("OpenKEK() = %q, want the path and %q in it", err, test.want)
			}
			if form := leak(err.Error()); form != "" {
				t.Errorf("OpenKEK() = %q, which holds %q", err, form)
			}
		})
	}
	_, err := crypto.OpenKEK(filepath.Join(dir, "absent"))
	if !errors.Is(err, crypto.ErrKEKFile) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("OpenKEK(absent) = %v, want ErrKEKFile and os.ErrNotExist", err)
	}
	if _, err := crypto.OpenKEK(file("spaces", 0o600, "\n "+good+"\n")); err != nil {
		t.Errorf("OpenKEK(white space around) = %v, want nil", err)
	}
}
