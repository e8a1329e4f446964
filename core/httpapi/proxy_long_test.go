//go:build long

package httpapi_test

import "testing"

// A gibibyte each way, of known and of unknown length, costs less than 64 MiB: client and provider, which run in this process
// too, included. Run it by itself: go test -tags long -run '^TestProxyGigabyte$' ./core/httpapi
func TestProxyGigabyte(t *testing.T) {
	p := newProxied(t, streamer, nil)
	p.stream(mib) // connections and pools
	grown := growth(func() { p.stream(1024 * mib) })
	t.Logf("the heap grew by %.1f MiB", float64(grown)/mib)
	if grown > 64*mib {
		t.Errorf("the heap grew by %d MiB, want less than 64", grown/mib)
	}
}
