package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/polycred/polycred/storage"
)

var limitTests = map[string]func(t *testing.T, h Harness){
	"Key":   testKeyLimit,
	"Value": testValueLimit,
	"Ops":   testOpsLimit,
	"Batch": testBatchLimit,
}

// tooLarge applies b, which must be refused for its size, with nothing changed.
func tooLarge(t *testing.T, s storage.Store, b storage.Batch) {
	t.Helper()
	unchanged(t, s, func() {
		t.Helper()
		if err := s.Apply(context.Background(), b); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("Apply(%s) = %v, want ErrTooLarge", text(b), err)
		}
	})
}

func testKeyLimit(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	longest := strings.Repeat("\xff", storage.MaxKey)
	apply(t, s, put(longest, "x", 0, 1))
	holds(t, s, longest, "x", 1)
	apply(t, s, check(longest, 1))
	if got := contents(t, s, 0); len(got) != 1 || string(got[0].Key) != longest {
		t.Errorf("Scan() = %d items, want the one with the longest key", len(got))
	}
	tooLarge(t, s, put(longest+"x", "x", 0, 1))
	tooLarge(t, s, del(longest+"x", storage.Any))
	tooLarge(t, s, check(longest+"x", 1))
	if _, err := s.Get(ctx, []byte(longest+"x")); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("Get(a key of %d bytes) = %v, want ErrTooLarge", len(longest)+1, err)
	}
	apply(t, s, del(longest, 1))
	lacks(t, s, longest)
}

func testValueLimit(t *testing.T, h Harness) {
	s := h.open(t)
	largest := strings.Repeat("v", storage.MaxValue)
	apply(t, s, put("a", largest, 0, 1))
	item, err := s.Get(context.Background(), []byte("a"))
	if err != nil || string(item.Value) != largest {
		t.Errorf("Get(a) = %d bytes, %v, want the %d that were put", len(item.Value), err, len(largest))
	}
	tooLarge(t, s, put("b", largest+"v", 0, 1))
	tooLarge(t, s, put("a", largest+"v", 1, 2))
}

func testOpsLimit(t *testing.T, h Harness) {
	s := h.open(t)
	full := func(n int) (b storage.Batch) {
		for i := range n {
			key := fmt.Sprintf("%04d", i)
			b = join(b, []storage.Batch{put(key, "x", 0, 1), put(key, "", storage.Any, 1), del(key, storage.Any)}[i%3])
		}
		return b
	}
	tooLarge(t, s, full(storage.MaxBatchOps+1))
	apply(t, s, full(storage.MaxBatchOps))
	if got, want := len(contents(t, s, 0)), storage.MaxBatchOps-storage.MaxBatchOps/3; got != want {
		t.Errorf("Scan() = %d items, want %d", got, want)
	}
}

func testBatchLimit(t *testing.T, h Harness) {
	s := h.open(t)
	// Keys of one byte; the last value is shorter by all keys, so that the batch has exactly the largest size.
	var b storage.Batch
	value := strings.Repeat("v", storage.MaxValue)
	for _, key := range []string{"a", "b", "c"} {
		b = join(b, put(key, value, 0, 1))
	}
	rest := storage.MaxBatch - 3*(storage.MaxValue+1) - 1
	tooLarge(t, s, join(b, put("d", value[:rest+1], 0, 1)))
	tooLarge(t, s, join(b, put("d", value[:rest], 0, 1), del("e", storage.Any)))
	b = join(b, put("d", value[:rest], 0, 1))
	apply(t, s, b)
	for _, p := range b.Puts {
		item, err := s.Get(context.Background(), p.Key)
		if err != nil || string(item.Value) != string(p.Value) {
			t.Errorf("Get(%s) = %d bytes, %v, want the %d that were put", p.Key, len(item.Value), err, len(p.Value))
		}
	}
}
