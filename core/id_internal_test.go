package core

import (
	"regexp"
	"slices"
	"testing"
)

// sdkUUID is how the public browser SDK (2.4.0) tells ids from external ids: an id that does not match names nothing there.
var sdkUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-5][0-9a-f]{3}-[089ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestNewID(t *testing.T) {
	t.Parallel()
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = newID()
		if _, ok := canonicalUUID(ids[i]); !ok || !sdkUUID.MatchString(ids[i]) {
			t.Fatalf("newID() = %s, want a UUID that the browser SDK takes for one", ids[i])
		}
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 1000 {
		t.Error("ids do not sort in the order in which they were made, or are not unique")
	}
}
