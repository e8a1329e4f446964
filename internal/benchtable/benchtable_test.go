package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const out = `goos: linux
BenchmarkToken/n=10-2     	  250000	      4100 ns/op	     512 B/op	       9 allocs/op
BenchmarkTokenFloor-2    	  300000	      3900.5 ns/op
BenchmarkApply256-2   	      30	    812345 ns/op	        41.50 applies/commit
BenchmarkNoise-2 says something of its own
BenchmarkAlone
PASS
`
	want := map[string]map[string]float64{
		"BenchmarkToken/n=10": {"ns/op": 4100, "B/op": 512, "allocs/op": 9},
		"BenchmarkTokenFloor": {"ns/op": 3900.5},
		"BenchmarkApply256":   {"ns/op": 812345, "applies/commit": 41.5},
	}
	got, err := parse(out, 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parse(out, 2) differs (-want +got):\n%s", diff)
	}
}

func TestParseOneProcessor(t *testing.T) {
	t.Parallel()
	got, err := parse("BenchmarkList/k-1 10 7 ns/op\n", 1)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]float64{"BenchmarkList/k-1": {"ns/op": 7}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parse with one processor differs (-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]string{
		"a name twice": "BenchmarkA-2 10 7 ns/op\nBenchmarkA-2 10 8 ns/op\n",
		"no number":    "BenchmarkA-2 10 fast ns/op\n",
	} {
		if _, err := parse(out, 2); err == nil {
			t.Errorf("%s: parse(%q) = nil error", name, out)
		}
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	got, order := patterns([]row{
		{pkg: "./b", of: "BenchmarkX/n=1", over: "BenchmarkFloor/n=1"},
		{pkg: "./a", of: "BenchmarkY"},
		{pkg: "./b", of: "BenchmarkX/n=2", over: "BenchmarkFloor/n=2"},
	})
	want := map[string]string{"./a": "^(BenchmarkY)$", "./b": "^(BenchmarkX|BenchmarkFloor)$"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("patterns differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"./b", "./a"}, order); diff != "" {
		t.Errorf("order differs (-want +got):\n%s", diff)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	ratio := row{name: "token", pkg: "./p", of: "BenchmarkA", over: "BenchmarkB", atMost: 1.5}
	count := row{name: "applies", pkg: "./p", of: "BenchmarkC", unit: "applies/commit", atLeast: 20}
	// The third round was slow on both sides: its ratio is as good as the others'.
	var rounds []figures
	for _, f := range [][3]float64{{140, 100, 30}, {150, 100, 10}, {1300, 1000, 25}} {
		rounds = append(rounds, figures{"./p": {
			"BenchmarkA": {"ns/op": f[0]},
			"BenchmarkB": {"ns/op": f[1]},
			"BenchmarkC": {"ns/op": 1, "applies/commit": f[2]},
		}})
	}
	var out strings.Builder
	missed, err := report(&out, []row{ratio, count}, rounds)
	if err != nil || missed != 0 {
		t.Fatalf("report = %d missed, %v, want none", missed, err)
	}
	want := `PROMISE  MEASURED  BOUND   VERDICT  FIGURES
token    1.40      ≤ 1.50  ok       150 over 100 ns/op
applies  25.0      ≥ 20.0  ok       25.0 applies/commit
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("report differs (-want +got):\n%s", diff)
	}

	ratio.atMost, count.atLeast = 1.39, 26
	out.Reset()
	missed, err = report(&out, []row{ratio, count}, rounds)
	if err != nil || missed != 2 || strings.Count(out.String(), "MISSED") != 2 {
		t.Errorf("report = %d missed, %v, want 2; it printed\n%s", missed, err, &out)
	}

	for _, absent := range []row{
		{name: "benchmark", pkg: "./p", of: "BenchmarkZ", atMost: 1},
		{name: "other side", pkg: "./p", of: "BenchmarkA", over: "BenchmarkZ", atMost: 1},
		{name: "unit", pkg: "./p", of: "BenchmarkA", unit: "applies/commit", atLeast: 1},
	} {
		if _, err := report(&out, []row{absent}, rounds); err == nil {
			t.Errorf("report without %s = nil error", absent.name)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}

// TestRows holds the promises themselves to their form.
func TestRows(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, r := range rows {
		if r.name == "" || seen[r.name] {
			t.Errorf("row %q has no name of its own", r.name)
		}
		seen[r.name] = true
		if !strings.HasPrefix(r.pkg, "./") || !strings.HasPrefix(r.of, "Benchmark") {
			t.Errorf("%s: package %q or benchmark %q is none", r.name, r.pkg, r.of)
		}
		if r.atMost != 0 && r.atLeast != 0 {
			t.Errorf("%s: wants at most one bound", r.name)
		}
	}
}
