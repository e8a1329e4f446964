//go:build long

package proof_test

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// childEnv holds the setup of a child; it is set for children only.
const childEnv = "POLYCRED_PROOF_CHILD"

func TestMain(m *testing.M) {
	if setup := os.Getenv(childEnv); setup != "" {
		os.Exit(child(setup))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", fmt.Sprint(lanes)); err != nil { // most of the time they wait
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	figures.print()
	os.Exit(code)
}

// figures are what the proofs came to, for the end of the output.
var figures report

type report struct {
	mu    sync.Mutex // guards lines
	lines []string
}

// say prints one line of figures now and at the end. It names the proof and how long it took.
func (r *report) say(t *testing.T, began time.Time, format string, args ...any) {
	t.Helper()
	verdict := "proved"
	if t.Failed() {
		verdict = "FAILED"
	}
	line := fmt.Sprintf("%s %s: %s (%.0f s)", verdict, t.Name(), fmt.Sprintf(format, args...), time.Since(began).Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	_, _ = fmt.Fprintln(os.Stdout, line)
}

func (r *report) print() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) == 0 {
		return
	}
	_, _ = fmt.Fprintln(os.Stdout, "\nfigures:")
	for _, line := range r.lines {
		_, _ = fmt.Fprintln(os.Stdout, "  "+line)
	}
}
