package main

// rows are the promises, in the order in which they are printed. A benchmark is named as go test prints it, with its
// sub-benchmark and without the number of processors.
var rows = []row{
	{
		name: "Token among 1,000 against floor",
		pkg:  "./core", of: "BenchmarkToken/of=1000", over: "BenchmarkTokenFloor/of=1000",
		atMost: 1.5,
	},
	{
		name: "Token among 100,000 against floor",
		pkg:  "./core", of: "BenchmarkToken/of=100000", over: "BenchmarkTokenFloor/of=100000",
		atMost: 1.5,
	},
	{
		name: "Token among 1,000,000 against floor",
		pkg:  "./core", of: "BenchmarkToken/of=1000000", over: "BenchmarkTokenFloor/of=1000000",
		atMost: 1.5,
	},
	{ // a bare SELECT by pgx, and decryption
		name: "Token on PostgreSQL against floor",
		pkg:  "./core", of: "BenchmarkTokenPostgres", over: "BenchmarkTokenPostgresFloor",
		atMost: 1.5,
	},
	{
		name: "Open a store of 1,000,000 credentials (seconds)",
		pkg:  "./core", of: "BenchmarkOpen", unit: "s/open",
		atMost: 1,
	},
	{
		name: "Anonymous memory after 100,000 reads of it (MiB)",
		pkg:  "./core", of: "BenchmarkOpen", unit: "MiB-anonymous",
		atMost: 400,
	},
	{
		name: "Applies per synced commit",
		pkg:  "./storage/badger", of: "BenchmarkApply256", unit: "applies/commit",
		atLeast: 20,
	},
	{ // linear in K: an account of a long page costs no more than one of a short page
		name: "Each of 1,000 listed accounts against each of 10",
		pkg:  "./core", of: "BenchmarkList/of=1000000/accounts=1000", over: "BenchmarkList/of=1000000/accounts=10", unit: "ns/account",
		atMost: 1.3,
	},
	{
		name: "List 10 among 1,000,000 against 10,000",
		pkg:  "./core", of: "BenchmarkList/of=1000000/accounts=10", over: "BenchmarkList/of=10000/accounts=10",
		atMost: 1.3,
	},
	{
		name: "List 1,000 among 1,000,000 against 10,000",
		pkg:  "./core", of: "BenchmarkList/of=1000000/accounts=1000", over: "BenchmarkList/of=10000/accounts=1000",
		atMost: 1.3,
	},
	{
		name: "Applies of a connect with a key",
		pkg:  "./core", of: "BenchmarkAddKey", unit: "applies/connect",
		atMost: 1,
	},
	{ // one claims the session before the code is spent, one stores everything else
		name: "Applies of an OAuth callback",
		pkg:  "./core", of: "BenchmarkCallback", unit: "applies/callback",
		atMost: 2,
	},
	{ // 256 writers with events reach at least 0.8 of what 256 without reach, where they write what a connect writes
		name: "Connects with events against without",
		pkg:  "./core", of: "BenchmarkEvents", unit: "times",
		atMost: 1.25,
	},
	{ // writers of events meet no more than writers of anything else
		name: "An event against any second record",
		pkg:  "./core/internal/eventlog", of: "BenchmarkWritersWithEvents/small", over: "BenchmarkWritersWithRecord/small",
		atMost: 1.25,
	},
	{ // of which the user token, its permissions, the store and the decryption are a part
		name: "Proxied GET of 1 KiB against ReverseProxy, 1 connection",
		pkg:  "./core/httpapi", of: "BenchmarkProxy/connections=1", over: "BenchmarkProxyFloor/connections=1", unit: "ns-p50",
		atMost: 1.3,
	},
	{
		name: "Proxied GET of 1 KiB against ReverseProxy, 16 connections",
		pkg:  "./core/httpapi", of: "BenchmarkProxy/connections=16", over: "BenchmarkProxyFloor/connections=16", unit: "ns-p50",
		atMost: 1.3,
	},
	{name: "GET /sdk/me with 5 accounts", pkg: "./core/httpapi", of: "BenchmarkMe/connections=1", unit: "ns-p50"},
	{name: "User token, remembered against verified (EdDSA)", pkg: "./core/usertoken", of: "BenchmarkVerify/cached", over: "BenchmarkVerify/EdDSA"},
	{name: "User token, remembered against verified (RS256)", pkg: "./core/usertoken", of: "BenchmarkVerify/cached", over: "BenchmarkVerify/RS256"},
}

// row is one promise about the benchmarks of one package: a ratio of two, or a figure of one. It has one bound; without
// one it only reports.
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
	return (r.atMost == 0 || value <= r.atMost) && (r.atLeast == 0 || value >= r.atLeast) // true of a row that only reports
}
