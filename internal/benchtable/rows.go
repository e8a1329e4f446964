package main

// rows are the promises, in the order in which they are printed. A benchmark is named as go test prints it, with its
// sub-benchmark and without the number of processors.
var rows = []row{
	{
		name: "Token against floor",
		pkg:  "./core", of: "BenchmarkToken", over: "BenchmarkTokenFloor",
		atMost: 1.5,
	},
	{
		name: "Applies per synced commit",
		pkg:  "./storage/badger", of: "BenchmarkApply256", unit: "applies/commit",
		atLeast: 20,
	},
}

// row is one promise about the benchmarks of one package: a ratio of two, or a figure of one. It has one bound.
type row struct {
	name string
	pkg  string // directory of the package, as "./core"
	of   string // the benchmark that is judged
	over string // the benchmark it is divided by; empty: the figure itself is judged
	unit string // what is compared; empty means ns/op

	atMost  float64 // zero: no such bound
	atLeast float64 // zero: no such bound
}

// metric is the unit of the figures that r compares.
func (r row) metric() string {
	if r.unit == "" {
		return "ns/op"
	}
	return r.unit
}

// kept tells whether the measured value is within the bound.
func (r row) kept(value float64) bool {
	return (r.atMost == 0 || value <= r.atMost) && (r.atLeast == 0 || value >= r.atLeast)
}
