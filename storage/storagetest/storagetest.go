// Package storagetest holds the tests that every storage.Store passes.
//
// A backend calls [Run] from one test with a [Harness], which says how its stores are opened and what they can do
// beyond the interface, and [Fuzz] from one fuzz test, which plays random operations on a store and on a model of fifty
// lines and wants the same answers.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/storage"
)

// Harness is what the suite knows about a backend. Its functions are called from parallel tests and fail t when they
// cannot do what they should.
type Harness struct {
	// Open returns an empty store that no other test uses. The suite closes it at the end of the test.
	Open func(t testing.TB) storage.Store

	// Reopen closes s and returns a store that holds what s kept. Nil: the backend keeps nothing, and the tests that need
	// it are left out.
	Reopen func(t testing.TB, s storage.Store) storage.Store

	// Compact makes s rewrite its files so that what was deleted or replaced is dropped from them, and returns s, or its
	// successor where that takes closing it. Nil: there is nothing to compact, and the test does without.
	Compact func(t testing.TB, s storage.Store) storage.Store

	// SecondOpen opens the place of s, which is open, once more, and returns the error of that. Nil: the store is not
	// Exclusive.
	SecondOpen func(t testing.TB, s storage.Store) error
}

// Run runs the whole suite as parallel subtests of t.
func Run(t *testing.T, h Harness) {
	for _, area := range []struct {
		name  string
		tests map[string]func(t *testing.T, h Harness)
	}{
		{"Read", readTests},
		{"Scan", scanTests},
		{"Condition", conditionTests},
		{"Limit", limitTests},
		{"Race", raceTests},
		{"Life", lifeTests},
	} {
		t.Run(area.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range area.tests {
				if name == "Reopen" && h.Reopen == nil { // nothing of it could be tested
					continue
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, h)
				})
			}
		})
	}
}

// open opens a store that is closed at the end of the test.
func (h Harness) open(t testing.TB) storage.Store {
	t.Helper()
	return closing(t, h.Open(t))
}

// reopen closes s and opens it again; the new store is closed at the end of the test.
func (h Harness) reopen(t testing.TB, s storage.Store) storage.Store {
	t.Helper()
	return closing(t, h.Reopen(t, s))
}

func closing(t testing.TB, s storage.Store) storage.Store {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
	})
	return s
}

// newRev returns the revision of a key that is created: random, as package storage asks for.
func newRev() storage.Rev { return 1 + rand.N[storage.Rev](1<<61-1) }

func put(key, value string, expect, rev storage.Rev) storage.Batch {
	return storage.Batch{Puts: []storage.Put{{Key: []byte(key), Value: []byte(value), If: expect, Rev: rev}}}
}

func del(key string, expect storage.Rev) storage.Batch {
	return storage.Batch{Deletes: []storage.Delete{{Key: []byte(key), If: expect}}}
}

func check(key string, rev storage.Rev) storage.Batch {
	return storage.Batch{Checks: []storage.Check{{Key: []byte(key), Rev: rev}}}
}

// join makes one batch of several.
func join(batches ...storage.Batch) (all storage.Batch) {
	for _, b := range batches {
		all.Puts = append(all.Puts, b.Puts...)
		all.Deletes = append(all.Deletes, b.Deletes...)
		all.Checks = append(all.Checks, b.Checks...)
	}
	return all
}

// apply applies b, which must work.
func apply(t testing.TB, s storage.Store, b storage.Batch) {
	t.Helper()
	if err := s.Apply(context.Background(), b); err != nil {
		t.Fatalf("Apply(%s) = %v, want nil", text(b), err)
	}
}

// create puts a new key and returns its revision.
func create(t testing.TB, s storage.Store, key, value string) storage.Rev {
	t.Helper()
	rev := newRev()
	apply(t, s, put(key, value, 0, rev))
	return rev
}

// conflicts applies b, which must be a conflict.
func conflicts(t testing.TB, s storage.Store, b storage.Batch) {
	t.Helper()
	err := s.Apply(context.Background(), b)
	if !isConflict(err, b) {
		t.Errorf("Apply(%s) = %v, want a *ConflictError with a key of the batch", text(b), err)
	}
}

// isConflict reports whether err is a conflict that names a key of b.
func isConflict(err error, b storage.Batch) bool {
	conflict, ok := errors.AsType[*storage.ConflictError](err)
	if !ok {
		return false
	}
	for _, p := range b.Puts {
		if bytes.Equal(p.Key, conflict.Key) {
			return true
		}
	}
	for _, d := range b.Deletes {
		if bytes.Equal(d.Key, conflict.Key) {
			return true
		}
	}
	for _, c := range b.Checks {
		if bytes.Equal(c.Key, conflict.Key) {
			return true
		}
	}
	return false
}

// holds compares the value and the revision of key.
func holds(t testing.TB, s storage.Store, key, value string, rev storage.Rev) {
	t.Helper()
	item, err := s.Get(context.Background(), []byte(key))
	if err != nil || string(item.Key) != key || string(item.Value) != value || item.Rev != rev {
		t.Errorf("Get(%q) = %q = %q at %d, %v, want %q at %d", key, item.Key, item.Value, item.Rev, err, value, rev)
	}
}

// lacks wants key to be absent.
func lacks(t testing.TB, s storage.Store, key string) {
	t.Helper()
	if item, err := s.Get(context.Background(), []byte(key)); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get(%q) = %q at %d, %v, want ErrNotFound", key, item.Value, item.Rev, err)
	}
}

// contents returns all items of s, read in pages of limit.
func contents(t testing.TB, s storage.Store, limit int) []storage.Item {
	t.Helper()
	var items []storage.Item
	for r := (storage.Range{Limit: limit}); ; {
		page, err := s.Scan(context.Background(), r)
		if err != nil {
			t.Fatalf("Scan(%+v) = %v, want nil", r, err)
		}
		items = append(items, page.Items...)
		if page.Next == nil {
			return items
		}
		r.After = page.Next
	}
}

// unchanged runs do and wants s to hold afterwards what it held before.
func unchanged(t testing.TB, s storage.Store, do func()) {
	t.Helper()
	before := contents(t, s, 0)
	do()
	if diff := diffItems(before, contents(t, s, 0)); diff != "" {
		t.Errorf("the store changed (-before +after):\n%s", diff)
	}
}

// diffItems describes how got differs from want; nothing where it does not. An absent slice and an empty one are the
// same: a store need not keep the difference.
func diffItems(want, got []storage.Item) string {
	same := func(a, b storage.Item) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.Rev == b.Rev
	}
	if slices.EqualFunc(want, got, same) { // cmp alone takes long over large values
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

// text describes a batch in failures, briefly.
func text(b storage.Batch) string {
	if n := len(b.Puts) + len(b.Deletes) + len(b.Checks); n > 4 {
		return fmt.Sprintf("%d operations", n)
	}
	var out []string
	for _, p := range b.Puts {
		out = append(out, fmt.Sprintf("put %.20q if %d as %d", p.Key, p.If, p.Rev))
	}
	for _, d := range b.Deletes {
		out = append(out, fmt.Sprintf("delete %.20q if %d", d.Key, d.If))
	}
	for _, c := range b.Checks {
		out = append(out, fmt.Sprintf("check %.20q at %d", c.Key, c.Rev))
	}
	return fmt.Sprint(out)
}
