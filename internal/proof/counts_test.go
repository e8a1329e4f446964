//go:build long

package proof_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

func addAll(sum, more map[string]int) {
	for name, n := range more {
		sum[name] += n
	}
}

func total(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// told lists counts, the largest first.
func told(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return strings.Join(names, ", ")
}
