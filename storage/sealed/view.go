package sealed

import (
	"context"

	"github.com/polycred/polycred/storage"
)

// View reads the records of a table as a type V that has only some of their fields, under the same numbers: the others
// are passed over, which is cheaper than decoding them. It cannot write. A View may be used concurrently.
type View[V any] struct{ table Table[V] }

// NewView returns a view of the records of t.
func NewView[V, T any](t *Table[T]) *View[V] {
	return &View[V]{Table[V]{db: t.db, spec: t.spec, decoder: viewDecoder}}
}

// Get is Table.Get.
func (v *View[V]) Get(ctx context.Context, key ...string) (V, storage.Rev, error) {
	return v.table.Get(ctx, key...)
}
