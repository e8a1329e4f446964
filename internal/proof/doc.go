// Package proof holds the proofs of what polycred promises about tokens that take minutes: real processes that share a
// store, are killed with SIGKILL at every point of a refresh, lose their database or run on wrong clocks, against a
// provider that rotates refresh tokens and revokes the whole chain when one comes again. It has no code that a program
// could import; the proofs are tests under the build tag long:
//
//	make test-long
//
// Each prints its figures, and all figures are printed again at the end.
//
// A process is this test binary started once more: TestMain sees by an environment variable that it is a child, which
// then opens the store and does what the parent asks over its standard input, one line of JSON for each request and
// reply. The provider runs in the parent. Clocks are real time plus an offset that the parent sets everywhere, so that a
// token expires without anybody waiting for it.
package proof
