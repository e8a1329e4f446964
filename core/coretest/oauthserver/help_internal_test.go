package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What can be asked for is in the help, and nothing else is.
//
// That this test calls run has a second use: the program becomes a part of the test binary, so go test does not
// answer from its cache, for the tests that build the program, when the program has changed.
func TestHelpNamesThePaths(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), []string{"-h"}, strings.NewReader(""), &stdout, &stderr); status != 0 || stderr.Len() > 0 {
		t.Errorf("run(-h) = %d, %s, want 0 and nothing on standard error", status, &stderr)
	}
	var want, got []string
	for _, r := range routes {
		want = append(want, r.method+" "+r.name)
	}
	line := regexp.MustCompile(`(?m)^\t(GET|PATCH|POST) +(\S+) `)
	for _, m := range line.FindAllStringSubmatch(stdout.String(), -1) {
		got = append(got, m[1]+" "+m[2])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths in the help (-served +documented):\n%s", diff)
	}
}
