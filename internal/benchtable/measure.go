package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures are what one round of benchmarks printed: package, benchmark, unit.
type figures map[string]map[string]map[string]float64

// keepEnv tells benchmarks of a directory in which to keep, from round to round, what takes long to prepare. Nothing of it
// outlasts the run.
const keepEnv = "POLYCRED_BENCH_DIR"

// measure compiles the test binary of each package that the rows name, once, and runs the benchmarks of all packages
// count times in turn. It returns the figures of each round.
func measure(ctx context.Context, rows []row, count int, benchtime time.Duration) ([]figures, error) {
	dir, err := os.MkdirTemp("", "benchtable-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)                       //nolint:errcheck // a leftover in the temporary directory harms nobody
	if dir, err = filepath.Abs(dir); err != nil { // benchmarks run in the directories of their packages
		return nil, err
	}

	patterns, order := patterns(rows)
	binaries := make(map[string]string, len(order))
	for i, pkg := range order {
		binary := filepath.Join(dir, strconv.Itoa(i)+".test")
		if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, pkg).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("compile the tests of %s: %w\n%s", pkg, err, out)
		}
		if _, err := os.Stat(binary); err != nil {
			return nil, fmt.Errorf("%s has no tests", pkg)
		}
		binaries[pkg] = binary
	}
	rounds := make([]figures, count)
	for i := range rounds {
		rounds[i] = make(figures, len(order))
		for _, pkg := range order {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", i+1, count, pkg)
			cmd := exec.CommandContext(ctx, binaries[pkg],
				"-test.run=^$", "-test.bench="+patterns[pkg], "-test.benchtime="+benchtime.String())
			cmd.Dir = filepath.FromSlash(pkg)
			cmd.Env = append(os.Environ(), keepEnv+"="+dir)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("run the benchmarks of %s: %w\n%s%s", pkg, err, &stdout, &stderr)
			}
			if rounds[i][pkg], err = parse(stdout.String(), runtime.GOMAXPROCS(0)); err != nil {
				return nil, fmt.Errorf("benchmarks of %s: %w", pkg, err)
			}
		}
	}
	return rounds, nil
}

// patterns returns for each package the -bench pattern that selects what its rows name, and the packages in order.
// Sub-benchmarks are selected with all their siblings: a pattern with slashes would tie the rows to each other.
func patterns(rows []row) (map[string]string, []string) {
	names, order := make(map[string][]string), []string(nil)
	for _, r := range rows {
		if !slices.Contains(order, r.pkg) {
			order = append(order, r.pkg)
		}
		for _, benchmark := range []string{r.of, r.over} {
			top, _, _ := strings.Cut(benchmark, "/")
			if quoted := regexp.QuoteMeta(top); top != "" && !slices.Contains(names[r.pkg], quoted) {
				names[r.pkg] = append(names[r.pkg], quoted)
			}
		}
	}
	patterns := make(map[string]string, len(order))
	for pkg, tops := range names {
		patterns[pkg] = "^(" + strings.Join(tops, "|") + ")$"
	}
	return patterns, order
}

// parse reads the lines "BenchmarkName-P  N  value unit …" out of what a test binary printed when it ran with procs
// processors, and passes over all others. A name twice is an error: no one could say which is meant.
func parse(out string, procs int) (map[string]map[string]float64, error) {
	suffix := "-" + strconv.Itoa(procs)
	if procs == 1 {
		suffix = "" // the testing package writes none
	}
	found := make(map[string]map[string]float64)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || len(fields)%2 != 0 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		if _, err := strconv.Atoi(fields[1]); err != nil {
			continue // a line that the benchmark logged
		}
		name := strings.TrimSuffix(fields[0], suffix)
		if found[name] != nil {
			return nil, fmt.Errorf("%s stands there twice", name)
		}
		found[name] = make(map[string]float64)
		for i := 2; i < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q is not a number", name, fields[i])
			}
			found[name][fields[i+1]] = value
		}
	}
	return found, nil
}
