// Package need is how a test asks for something that not every machine has: a program, or the rights of root.
//
// On a developer's machine a test whose need is not met is skipped, and the skip names what is missing. Where the
// environment says CI=true it fails instead, so that no run counts as passed that left tests out. Lint forbids every
// other skip. Only tests import this package.
//
// Like [testing.TB.SkipNow] and [testing.TB.FailNow], all functions must be called from the goroutine that runs the
// test or benchmark.
package need

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// Program returns the path of the named program, as [exec.LookPath] finds it. When there is none, the test ends here:
// skipped, or failed where CI=true.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		unmet(t, "the program "+name)
	}
	return path
}

// Root returns if the test runs as root on Linux. Otherwise the test ends here: skipped, or failed where CI=true.
func Root(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" || euid() != 0 {
		unmet(t, "root on Linux")
	}
}

// euid is a variable for the tests of this package only.
var euid = os.Geteuid

// unmet ends the test.
func unmet(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s, and with CI=true it must not be skipped", what)
	}
	t.Skipf("this test needs %s", what)
}
