package storagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/polycred/polycred/storage"
)

var conditionTests = map[string]func(t *testing.T, h Harness){
	"Put":       testPut,
	"Delete":    testDelete,
	"Check":     testCheck,
	"Malformed": testMalformed,
	"ABA":       testABA,
	"Atomic":    testAtomic,
	"Lease":     testLease,
}

func testPut(t *testing.T, h Harness) {
	s := h.open(t)
	conflicts(t, s, put("a", "x", 7, 8)) // absent
	lacks(t, s, "a")
	apply(t, s, put("a", "one", 0, 7))
	conflicts(t, s, put("a", "x", 0, 9)) // present
	conflicts(t, s, put("a", "x", 6, 9)) // another revision
	conflicts(t, s, put("a", "x", 8, 9))
	holds(t, s, "a", "one", 7)
	apply(t, s, put("a", "two", 7, 8))
	conflicts(t, s, put("a", "x", 7, 9)) // the one before
	holds(t, s, "a", "two", 8)
	apply(t, s, put("a", "three", 8, 8)) // the caller chooses the revision, even the same one
	holds(t, s, "a", "three", 8)
	apply(t, s, put("a", "four", 8, 3))
	holds(t, s, "a", "four", 3)

	apply(t, s, put("index", "", storage.Any, 1)) // absent
	holds(t, s, "index", "", 1)
	apply(t, s, put("index", "", storage.Any, 2)) // present
	holds(t, s, "index", "", 2)
	apply(t, s, put("a", "", storage.Any, 5)) // replaces even a value
	holds(t, s, "a", "", 5)
}

func testDelete(t *testing.T, h Harness) {
	s := h.open(t)
	conflicts(t, s, del("a", 7)) // absent
	apply(t, s, put("a", "one", 0, 7))
	conflicts(t, s, del("a", 6))
	conflicts(t, s, del("a", 8))
	holds(t, s, "a", "one", 7)
	apply(t, s, del("a", 7))
	lacks(t, s, "a")
	conflicts(t, s, del("a", 7)) // gone
	apply(t, s, put("a", "again", 0, 9))
	holds(t, s, "a", "again", 9)

	apply(t, s, del("a", storage.Any))
	lacks(t, s, "a")
	apply(t, s, del("a", storage.Any))
	apply(t, s, del("never there", storage.Any))
	lacks(t, s, "a")
}

func testCheck(t *testing.T, h Harness) {
	s := h.open(t)
	conflicts(t, s, join(put("a", "x", 0, 1), check("fence", 7))) // absent
	lacks(t, s, "a")
	apply(t, s, put("fence", "f", 0, 7))
	apply(t, s, check("fence", 7))
	apply(t, s, join(put("a", "one", 0, 1), check("fence", 7)))
	holds(t, s, "a", "one", 1)
	holds(t, s, "fence", "f", 7)
	conflicts(t, s, join(put("a", "x", 1, 2), check("fence", 6)))
	conflicts(t, s, join(del("a", 1), check("fence", 8)))
	conflicts(t, s, check("fence", 8))
	holds(t, s, "a", "one", 1)
	apply(t, s, put("fence", "g", 7, 8))
	conflicts(t, s, join(put("a", "x", 1, 2), check("fence", 7)))
	apply(t, s, del("fence", 8))
	conflicts(t, s, join(put("a", "x", 1, 2), check("fence", 8))) // deleted
	conflicts(t, s, check("fence", 8))
	holds(t, s, "a", "one", 1)
}

// testMalformed wants every batch that Validate refuses to be refused by the store as well, with nothing changed.
func testMalformed(t *testing.T, h Harness) {
	s := h.open(t)
	apply(t, s, put("a", "one", 0, 7))
	good := put("good", "x", 0, 1)
	const tooLarge = storage.Rev(1) << 62
	tests := map[string]storage.Batch{
		"put, revision 0":                 put("a", "x", 7, 0),
		"put, revision too large":         put("a", "x", 7, tooLarge),
		"put, revision Any":               put("a", "x", 7, storage.Any),
		"put, condition too large":        put("a", "x", tooLarge, 8),
		"put, condition just below Any":   put("a", "x", storage.Any-1, 8),
		"put, a value without condition":  put("a", "x", storage.Any, 8),
		"put, empty key":                  put("", "x", 0, 1),
		"delete, condition 0":             del("a", 0),
		"delete, condition too large":     del("a", tooLarge),
		"delete, empty key":               del("", storage.Any),
		"check, revision 0":               check("a", 0),
		"check, revision too large":       check("a", tooLarge),
		"check, Any":                      check("a", storage.Any),
		"check, empty key":                check("", 7),
		"twice: put, put":                 join(put("b", "x", 0, 1), put("b", "y", 0, 2)),
		"twice: put, delete":              join(put("a", "x", 7, 8), del("a", 7)),
		"twice: put, check":               join(put("a", "x", 7, 8), check("a", 7)),
		"twice: delete, delete":           join(del("a", 7), del("a", storage.Any)),
		"twice: delete, check":            join(del("a", 7), check("a", 7)),
		"twice: check, check":             join(check("a", 7), check("a", 7)),
		"twice: without condition, check": join(put("a", "", storage.Any, 8), check("a", 7)),
	}
	for name, bad := range tests {
		for _, b := range []storage.Batch{bad, join(good, bad), join(bad, good)} {
			if err := b.Validate(); !errors.Is(err, storage.ErrInvalid) {
				t.Fatalf("%s: Validate() = %v, want ErrInvalid", name, err)
			}
			unchanged(t, s, func() {
				if err := s.Apply(context.Background(), b); !errors.Is(err, storage.ErrInvalid) {
					t.Errorf("%s: Apply(%s) = %v, want ErrInvalid", name, text(b), err)
				}
			})
		}
	}
	unchanged(t, s, func() { apply(t, s, storage.Batch{}) })
}

// testABA deletes a key and creates it again with the same value: whoever read the first one must lose.
func testABA(t *testing.T, h Harness) {
	s := h.open(t)
	first := create(t, s, "a", "same")
	apply(t, s, put("a", "same", first, first+1))
	apply(t, s, del("a", first+1))
	second := create(t, s, "a", "same")
	for _, stale := range []storage.Rev{first, first + 1} {
		conflicts(t, s, put("a", "stale", stale, stale+1))
		conflicts(t, s, del("a", stale))
		conflicts(t, s, join(put("b", "x", 0, 1), check("a", stale)))
	}
	holds(t, s, "a", "same", second)
	lacks(t, s, "b")
}

// testAtomic puts one operation whose condition fails first, in the middle and last.
func testAtomic(t *testing.T, h Harness) {
	s := h.open(t)
	const n = 9
	keys := func(i int) string { return fmt.Sprintf("key %d", i) }
	for i := range n {
		apply(t, s, put(keys(i), "old", 0, 1))
	}
	for _, wrong := range []int{0, n / 2, n - 1} {
		var puts, deletes, mixed storage.Batch
		for i := range n {
			rev := storage.Rev(1)
			if i == wrong {
				rev = 2
			}
			puts = join(puts, put(keys(i), "new", rev, 3))
			deletes = join(deletes, del(keys(i), rev))
			mixed = join(mixed, []storage.Batch{put(keys(i), "new", rev, 3), del(keys(i), rev), check(keys(i), rev)}[i%3])
		}
		mixed = join(mixed, put("new", "", storage.Any, 1))
		for _, b := range []storage.Batch{puts, deletes, mixed} {
			unchanged(t, s, func() { conflicts(t, s, b) })
		}
	}
	// The same without the wrong one goes through as a whole.
	var b storage.Batch
	for i := range n {
		b = join(b, []storage.Batch{put(keys(i), "new", 1, 3), del(keys(i), 1), check(keys(i), 1)}[i%3])
	}
	apply(t, s, b)
	for i := range n {
		switch i % 3 {
		case 0:
			holds(t, s, keys(i), "new", 3)
		case 1:
			lacks(t, s, keys(i))
		case 2:
			holds(t, s, keys(i), "old", 1)
		}
	}
}

// testLease plays a lease as the layers above build it: who lost it cannot write any more.
func testLease(t *testing.T, h Harness) {
	s := h.open(t)
	mine := create(t, s, "lease", "first")
	work := create(t, s, "work", "0")
	apply(t, s, join(put("work", "1", work, work+1), check("lease", mine)))
	theirs := mine + 1
	apply(t, s, put("lease", "second", mine, theirs))
	conflicts(t, s, join(put("work", "2", work+1, work+2), check("lease", mine)))
	apply(t, s, join(put("work", "2", work+1, work+2), check("lease", theirs)))
	conflicts(t, s, del("lease", mine))
	apply(t, s, del("lease", theirs))
	conflicts(t, s, join(put("work", "3", work+2, work+3), check("lease", theirs)))
	holds(t, s, "work", "2", work+2)
}
