// Package need is how a test asks for something that not every machine has: a program, a right, or
// what That is told.
//
// On a developer's machine a test whose need is not met is skipped, and the skip names what is missing. Where the
// environment says CI=true it fails instead, so that no run counts as passed that left tests out. Lint forbids every
// other skip. Only tests import this package.
//
// Like [testing.TB.SkipNow] and [testing.TB.FailNow], all functions must be called from the goroutine that runs the
// test or benchmark.
package need

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Program returns the path of the named program, as [exec.LookPath] finds it, or else as it lies in one of the folders,
// which are patterns of [filepath.Glob]; of several that match, in the last one. When there is none, the test ends here:
// skipped, or failed where CI=true.
func Program(t testing.TB, name string, folders ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, folder := range folders {
		found, _ := filepath.Glob(filepath.Join(folder, name))
		for _, path := range slices.Backward(found) {
			if path, err := exec.LookPath(path); err == nil {
				return path
			}
		}
	}
	unmet(t, "the program "+name)
	return ""
}

// Permission returns if err, of a first try at what the test needs, is nil. If it says that the system does not permit it,
// the test ends here: skipped, or failed where CI=true. Any other error fails it.
func Permission(t testing.TB, what string, err error) {
	t.Helper()
	switch {
	case errors.Is(err, fs.ErrPermission):
		unmet(t, "the right of "+what)
	case err != nil:
		t.Fatalf("%s: %v", what, err)
	}
}

// That returns if a need is met. If not, the test ends here: skipped, or failed where CI=true; what says what it needs.
func That(t testing.TB, met bool, what string) {
	t.Helper()
	if !met {
		unmet(t, what)
	}
}

// unmet ends the test.
func unmet(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s, and with CI=true it must not be skipped", what)
	}
	t.Skipf("this test needs %s", what)
}
