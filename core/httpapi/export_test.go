package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// SetHolds sets how long polls of a handler wait, before it is used.
func SetHolds(h http.Handler, early, late, look time.Duration) {
	h.(*api).polls = pollTimes{early, late, look}
}

// SetBodyTime sets how long a handler waits for a body, before it is used.
func SetBodyTime(h http.Handler, d time.Duration) { h.(*api).body = d }

// Routes are the patterns of a handler, that of the Proxy API among them.
func Routes(h http.Handler) []string {
	return append(slices.Sorted(maps.Keys(h.(*api).isPage)), proxyRoute)
}

// Statuses are the statuses of errors by code.
func Statuses() map[string]int { return maps.Clone(statuses) }

// FailureOf is the status and the code of an error.
func FailureOf(err error) (int, string) {
	f := failureOf(err, "")
	return f.Status, f.Code
}

// IsPage reports whether a pattern is that of a page.
func IsPage(h http.Handler, pattern string) bool { return h.(*api).isPage[pattern] }
