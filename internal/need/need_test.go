package need_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/polycred/polycred/internal/need"
)

// asks names, in the environment of a re-executed test binary, the need that TestChild asks for.
const asks = "POLYCRED_NEED_TEST_ASKS"

// TestChild is the test that the other tests of this file run in a process of its own. By itself it does nothing.
func TestChild(t *testing.T) {
	switch ask := os.Getenv(asks); ask {
	case "":
		return
	case "present program":
		t.Logf("path=%s", need.Program(t, "present"))
	case "program in a folder":
		t.Logf("path=%s", need.Program(t, "elsewhere", "no-such-folder", filepath.Join(os.Getenv("PATH"), "*", "bin")))
	case "program in no folder":
		need.Program(t, "no-such-program", filepath.Join(os.Getenv("PATH"), "*", "bin"))
	case "absent program":
		need.Program(t, "no-such-program")
	case "permitted":
		need.Permission(t, "mounting", nil)
	case "not permitted":
		need.Permission(t, "mounting", fmt.Errorf("mount: %w", fs.ErrPermission))
	case "met":
		need.That(t, true, "patience")
	case "not met":
		need.That(t, false, "patience")
	case "broken":
		need.Permission(t, "mounting", errors.New("no such device"))
	default:
		t.Fatalf("unknown need %q", ask)
	}
	t.Log("went on")
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		ask  string
		ci   string // value of CI, "unset" for none
		want string // how TestChild ends
		text string // what its output says besides
	}{
		{"found", "present program", "unset", "PASS", "path="},
		{"found in CI", "present program", "true", "PASS", "path="},
		{"found in the last folder", "program in a folder", "unset", "PASS", filepath.Join("16", "bin", "elsewhere")},
		{"in no folder", "program in no folder", "true", "FAIL", "the program no-such-program"},
		{"absent", "absent program", "unset", "SKIP", "this test needs the program no-such-program"},
		{"absent, CI empty", "absent program", "", "SKIP", "the program no-such-program"},
		{"absent, CI=false", "absent program", "false", "SKIP", "the program no-such-program"},
		{"absent in CI", "absent program", "true", "FAIL", "the program no-such-program, and with CI=true"},
		{"permitted", "permitted", "unset", "PASS", ""},
		{"permitted in CI", "permitted", "true", "PASS", ""},
		{"not permitted", "not permitted", "unset", "SKIP", "this test needs the right of mounting"},
		{"not permitted in CI", "not permitted", "true", "FAIL", "the right of mounting, and with CI=true"},
		{"met", "met", "true", "PASS", ""},
		{"not met", "not met", "unset", "SKIP", "this test needs patience"},
		{"not met in CI", "not met", "true", "FAIL", "this test needs patience, and with CI=true"},
		{"broken", "broken", "unset", "FAIL", "mounting: no such device"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, err := child(t, test.ask, test.ci)
			if want := "--- " + test.want + ": TestChild"; !strings.Contains(out, want) {
				t.Errorf("child did not print %q", want)
			}
			if !strings.Contains(out, test.text) {
				t.Errorf("child did not print %q", test.text)
			}
			if got, want := strings.Contains(out, "went on"), test.want == "PASS"; got != want {
				t.Errorf("child went on behind the need = %t, want %t", got, want)
			}
			if got, want := err != nil, test.want == "FAIL"; got != want {
				t.Errorf("child exits with %v, want failure %t", err, want)
			}
			if t.Failed() {
				t.Logf("child printed:\n%s", out)
			}
		})
	}
}

// child runs TestChild in a new process that asks for a need, and returns what it printed and how it ended.
func child(t *testing.T, ask, ci string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	present := filepath.Join(dir, "present")
	if runtime.GOOS == "windows" {
		present += ".exe"
	}
	if err := os.WriteFile(present, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for version, mode := range map[string]os.FileMode{"15": 0o700, "16": 0o700, "17": 0o600} { // the last is no program
		bin := filepath.Join(dir, version, "bin")
		if err := os.MkdirAll(bin, 0o700); err != nil {
			t.Fatal(err)
		}
		name := "elsewhere" + filepath.Ext(present)
		if err := os.WriteFile(filepath.Join(bin, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{asks + "=" + ask, "PATH=" + dir}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); name != "CI" && name != "PATH" {
			env = append(env, kv)
		}
	}
	if ci != "unset" {
		env = append(env, "CI="+ci)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return string(out), err
}
