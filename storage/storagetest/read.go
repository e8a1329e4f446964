package storagetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/polycred/polycred/storage"
)

var readTests = map[string]func(t *testing.T, h Harness){
	"Get":      testGet,
	"GetMany":  testGetMany,
	"Keys":     testKeys,
	"Aliasing": testAliasing,
	"Cancel":   testCancelledRead,
}

// oddKeys are keys that a store could stumble over, in their order.
var oddKeys = []string{
	"\x00", "\x00\x00", "\x00\x01", "\x01", "!badger", "!badger ", "!badger!", "!badger!txn", "!badger\"", "!badger\"!x",
	"!badgerz", "!badges", "%", "'; drop table kv; --", "A", "a", "a\x00", "a\x00b", "a\x01", "aa", "ab", "b", "\x80",
	"\xc3\x28", "ä", "\xe2\x82", "\xfe\xff", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff",
}

func testGet(t *testing.T, h Harness) {
	s := h.open(t)
	lacks(t, s, "a")
	rev := create(t, s, "a", "one")
	holds(t, s, "a", "one", rev)
	lacks(t, s, "A")
	lacks(t, s, "a\x00")
	apply(t, s, put("a", "two", rev, rev+1))
	holds(t, s, "a", "two", rev+1)
	apply(t, s, del("a", rev+1))
	lacks(t, s, "a")

	empty := create(t, s, "empty", "")
	holds(t, s, "empty", "", empty)
	top := storage.Rev(1<<62 - 1)
	apply(t, s, put("top", "x", 0, top))
	holds(t, s, "top", "x", top)

	for _, key := range [][]byte{nil, {}} {
		if _, err := s.Get(context.Background(), key); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("Get(%q) = %v, want ErrInvalid", key, err)
		}
	}
}

func testGetMany(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	a, c := create(t, s, "a", "1"), create(t, s, "c", "")
	keys := [][]byte{[]byte("c"), []byte("b"), []byte("a"), []byte("a")}
	got, err := s.GetMany(ctx, keys)
	want := []storage.Item{
		{Key: []byte("c"), Value: []byte{}, Rev: c}, {Key: []byte("b")},
		{Key: []byte("a"), Value: []byte("1"), Rev: a}, {Key: []byte("a"), Value: []byte("1"), Rev: a},
	}
	if diff := diffItems(want, got); err != nil || diff != "" {
		t.Errorf("GetMany(c, b, a, a) = %v, %v (-want +got):\n%s", got, err, diff)
	}
	if got, err := s.GetMany(ctx, nil); err != nil || len(got) != 0 {
		t.Errorf("GetMany() = %v, %v, want nothing", got, err)
	}
	if _, err := s.GetMany(ctx, [][]byte{[]byte("a"), nil}); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("GetMany(a, an empty key) = %v, want ErrInvalid", err)
	}
	if _, err := s.GetMany(ctx, [][]byte{[]byte("a"), make([]byte, storage.MaxKey+1)}); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("GetMany(a, a key too long) = %v, want ErrTooLarge", err)
	}
}

// testKeys wants every byte string to be a key of its own, in bytewise order.
func testKeys(t *testing.T, h Harness) {
	if !slices.IsSorted(oddKeys) {
		t.Fatal("oddKeys are not in order")
	}
	s := h.open(t)
	var want []storage.Item
	for i, key := range oddKeys {
		rev := storage.Rev(i + 1)
		apply(t, s, put(key, "value of "+key, 0, rev))
		want = append(want, storage.Item{Key: []byte(key), Value: []byte("value of " + key), Rev: rev})
	}
	for i, key := range oddKeys {
		holds(t, s, key, "value of "+key, storage.Rev(i+1))
	}
	for _, limit := range []int{0, 1, 7} {
		if diff := diffItems(want, contents(t, s, limit)); diff != "" {
			t.Errorf("Scan in pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	// Each key as either end of a range.
	for i, start := range oddKeys {
		for j := i; j < len(oddKeys); j++ {
			r := storage.Range{Start: []byte(start), End: []byte(oddKeys[j])}
			page, err := s.Scan(context.Background(), r)
			if diff := diffItems(want[i:j], page.Items); err != nil || diff != "" {
				t.Errorf("Scan(%q to %q) = %v (-want +got):\n%s", start, oddKeys[j], err, diff)
			}
		}
	}
	for i, key := range oddKeys {
		apply(t, s, del(key, storage.Rev(i+1)))
		lacks(t, s, key)
	}
	if got := contents(t, s, 0); len(got) != 0 {
		t.Errorf("Scan() after deleting all = %v, want nothing", got)
	}
}

// testAliasing changes everything that was given to the store and everything that it returned.
func testAliasing(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	key, value, gone := []byte("key"), []byte("value"), []byte("gone")
	rev := newRev()
	create(t, s, "gone", "")
	apply(t, s, storage.Batch{
		Puts:    []storage.Put{{Key: key, Value: value, Rev: rev}},
		Deletes: []storage.Delete{{Key: gone, If: storage.Any}},
	})
	spoil(key, value, gone)
	holds(t, s, "key", "value", rev)

	item, err := s.Get(ctx, []byte("key"))
	if err != nil {
		t.Fatalf("Get(key) = %v, want nil", err)
	}
	spoil(item.Key, item.Value)
	holds(t, s, "key", "value", rev)

	absent, asked := []byte("absent"), []byte("key")
	items, err := s.GetMany(ctx, [][]byte{asked, absent})
	if err != nil {
		t.Fatalf("GetMany(key, absent) = %v, want nil", err)
	}
	spoil(items[0].Key, items[0].Value, items[1].Key)
	if string(asked) != "key" || string(absent) != "absent" {
		t.Errorf("GetMany returned the caller's own keys: %q, %q", asked, absent)
	}
	holds(t, s, "key", "value", rev)

	create(t, s, "key2", "value2")
	r := storage.Range{Start: []byte("k"), End: []byte("l"), After: []byte("ka"), Limit: 1}
	page, err := s.Scan(ctx, r)
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("Scan(%+v) = %v, %v, want one item", r, page, err)
	}
	spoil(page.Next)
	if got := string(page.Items[0].Key); got != "key" {
		t.Errorf("Page.Next shares the bytes of the last item: key %q, want %q", got, "key")
	}
	spoil(page.Items[0].Key, page.Items[0].Value, r.Start, r.End, r.After)
	holds(t, s, "key", "value", rev)

	b := put("key", "", 0, 1)
	conflict, ok := errors.AsType[*storage.ConflictError](s.Apply(ctx, b))
	if !ok {
		t.Fatal("Apply(put key if 0) is no conflict")
	}
	spoil(conflict.Key)
	if got := string(b.Puts[0].Key); got != "key" {
		t.Errorf("ConflictError.Key is the caller's own key: now %q", got)
	}
	holds(t, s, "key", "value", rev)
}

func spoil(slices ...[]byte) {
	for _, b := range slices {
		for i := range b {
			b[i] = 'X'
		}
	}
}

func testCancelledRead(t *testing.T, h Harness) {
	s := h.open(t)
	create(t, s, "a", "1")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Get(ctx, []byte("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a cancelled context = %v, want context.Canceled", err)
	}
	if _, err := s.GetMany(ctx, [][]byte{[]byte("a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("GetMany with a cancelled context = %v, want context.Canceled", err)
	}
	if _, err := s.Scan(ctx, storage.Range{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan with a cancelled context = %v, want context.Canceled", err)
	}
}
