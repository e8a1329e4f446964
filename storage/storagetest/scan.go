package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/storage"
)

var scanTests = map[string]func(t *testing.T, h Harness){
	"Bounds":       testBounds,
	"DefaultLimit": testDefaultLimit,
	"KeysOnly":     testKeysOnly,
	"Cursor":       testCursor,
	"Consistent":   testConsistentPage,
}

func testBounds(t *testing.T, h Harness) {
	s := h.open(t)
	for _, key := range []string{"a", "a\x00", "a\x00b", "ab", "b", "c", "c\xff", "d"} {
		create(t, s, key, "v")
	}
	tests := []struct {
		name string
		r    storage.Range
		want string // the keys, and a bar where Next says that more follow
	}{
		{"all", storage.Range{}, "a,a\x00,a\x00b,ab,b,c,c\xff,d"},
		{"empty start", storage.Range{Start: []byte{}}, "a,a\x00,a\x00b,ab,b,c,c\xff,d"},
		{"end is not included", storage.Range{Start: []byte("b"), End: []byte("d")}, "b,c,c\xff"},
		{"a start between keys", storage.Range{Start: []byte("aa"), End: []byte("bb")}, "ab,b"},
		{"one key", storage.Range{Start: []byte("a"), End: []byte("a\x00")}, "a"},
		{"behind one key", storage.Range{Start: []byte("a\x00"), End: []byte("b")}, "a\x00,a\x00b,ab"},
		{"a prefix", storage.Range{Start: []byte("a"), End: storage.PrefixEnd([]byte("a"))}, "a,a\x00,a\x00b,ab"},
		{"a prefix with a zero", storage.Range{Start: []byte("a\x00"), End: storage.PrefixEnd([]byte("a\x00"))}, "a\x00,a\x00b"},
		{"a prefix ending high", storage.Range{Start: []byte("c\xff"), End: storage.PrefixEnd([]byte("c\xff"))}, "c\xff"},
		{"a prefix without end", storage.Range{Start: []byte("\xff"), End: storage.PrefixEnd([]byte("\xff"))}, ""},
		{"start is end", storage.Range{Start: []byte("b"), End: []byte("b")}, ""},
		{"start behind end", storage.Range{Start: []byte("c"), End: []byte("b")}, ""},
		{"an empty end", storage.Range{End: []byte{}}, ""},
		{"nothing in between", storage.Range{Start: []byte("e"), End: []byte("f")}, ""},
		{"after a key", storage.Range{After: []byte("b")}, "c,c\xff,d"},
		{"after a key that is not there", storage.Range{After: []byte("bb")}, "c,c\xff,d"},
		{"after before start", storage.Range{Start: []byte("b"), After: []byte("a")}, "b,c,c\xff,d"},
		{"after is start", storage.Range{Start: []byte("b"), After: []byte("b")}, "c,c\xff,d"},
		{"after behind start", storage.Range{Start: []byte("a"), After: []byte("b"), End: []byte("d")}, "c,c\xff"},
		{"after is end", storage.Range{After: []byte("b"), End: []byte("b")}, ""},
		{"after behind end", storage.Range{After: []byte("c"), End: []byte("b")}, ""},
		{"after the last", storage.Range{After: []byte("d")}, ""},
		{"an empty after", storage.Range{After: []byte{}}, "a,a\x00,a\x00b,ab,b,c,c\xff,d"},
		{"limit", storage.Range{Limit: 2}, "a,a\x00|"},
		{"limit and after", storage.Range{Limit: 2, After: []byte("ab")}, "b,c|"},
		{"limit at the end of the range", storage.Range{Start: []byte("a"), End: []byte("b"), Limit: 4}, "a,a\x00,a\x00b,ab"},
		{"limit before the end of the range", storage.Range{Start: []byte("a"), End: []byte("b"), Limit: 3}, "a,a\x00,a\x00b|"},
		{"limit at the end of the store", storage.Range{Limit: 8}, "a,a\x00,a\x00b,ab,b,c,c\xff,d"},
		{"limit beyond", storage.Range{Limit: 1 << 40}, "a,a\x00,a\x00b,ab,b,c,c\xff,d"},
	}
	for _, test := range tests {
		for _, test.r.KeysOnly = range []bool{false, true} {
			page, err := s.Scan(context.Background(), test.r)
			if got := keyList(page); err != nil || got != test.want {
				t.Errorf("%s: Scan(%+v) = %q, %v, want %q", test.name, test.r, got, err, test.want)
			}
		}
	}
	for _, limit := range []int{-1, -1 << 40} {
		if _, err := s.Scan(context.Background(), storage.Range{Limit: limit}); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("Scan(Limit: %d) = %v, want ErrInvalid", limit, err)
		}
	}
}

func keyList(page storage.Page) string {
	var keys []string
	for _, item := range page.Items {
		keys = append(keys, string(item.Key))
	}
	list := strings.Join(keys, ",")
	if page.Next != nil {
		list += "|"
	}
	return list
}

func testDefaultLimit(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	const n = storage.DefaultLimit + 1
	var b storage.Batch
	for i := range n {
		b.Puts = append(b.Puts, storage.Put{Key: fmt.Appendf(nil, "%04d", i), If: storage.Any, Rev: 1})
		if len(b.Puts) == storage.MaxBatchOps || i == n-1 {
			apply(t, s, b)
			b = storage.Batch{}
		}
	}
	page, err := s.Scan(ctx, storage.Range{})
	if err != nil || len(page.Items) != storage.DefaultLimit || page.Next == nil {
		t.Fatalf("Scan(Limit: 0) of %d items = %d items, Next %q, %v, want %d and a Next",
			n, len(page.Items), page.Next, err, storage.DefaultLimit)
	}
	last, err := s.Scan(ctx, storage.Range{After: page.Next})
	if err != nil || len(last.Items) != 1 || last.Next != nil {
		t.Errorf("Scan(After: %q) = %d items, Next %q, %v, want the last one", page.Next, len(last.Items), last.Next, err)
	}
	apply(t, s, del("1000", 1))
	page, err = s.Scan(ctx, storage.Range{})
	if err != nil || len(page.Items) != storage.DefaultLimit || page.Next != nil {
		t.Errorf("Scan(Limit: 0) of exactly %d items = %d items, Next %q, %v, want no Next",
			storage.DefaultLimit, len(page.Items), page.Next, err)
	}
	if page, err := s.Scan(ctx, storage.Range{Limit: 5000}); err != nil || len(page.Items) != storage.DefaultLimit {
		t.Errorf("Scan(Limit: 5000) = %d items, %v, want %d", len(page.Items), err, storage.DefaultLimit)
	}
}

func testKeysOnly(t *testing.T, h Harness) {
	s := h.open(t)
	a, b := create(t, s, "a", "value"), create(t, s, "b", "")
	page, err := s.Scan(context.Background(), storage.Range{KeysOnly: true})
	want := storage.Page{Items: []storage.Item{{Key: []byte("a"), Rev: a}, {Key: []byte("b"), Rev: b}}}
	if diff := cmp.Diff(want, page); err != nil || diff != "" {
		t.Errorf("Scan(KeysOnly) = %v (-want +got):\n%s", err, diff)
	}
}

// testCursor reads one key at a time while others are put and deleted around the cursor.
func testCursor(t *testing.T, h Harness) {
	s := h.open(t)
	revs := map[string]storage.Rev{}
	for _, key := range []string{"b", "d", "f", "h", "j"} {
		revs[key] = create(t, s, key, "v")
	}
	between := map[string]func(){
		"b": func() { create(t, s, "a", "v"); create(t, s, "c", "v") }, // behind and ahead of the cursor
		"c": func() { apply(t, s, del("b", revs["b"])) },               // behind it
		"d": func() { apply(t, s, del("d", revs["d"])) },               // the cursor itself
		"f": func() { apply(t, s, del("h", revs["h"])) },               // what would come next
		"j": func() { create(t, s, "k", "v") },                         // behind what was the last
	}
	var seen []string
	r := storage.Range{Limit: 1}
	for range 10 {
		page, err := s.Scan(context.Background(), r)
		if err != nil {
			t.Fatalf("Scan(%+v) = %v, want nil", r, err)
		}
		for _, item := range page.Items {
			seen = append(seen, string(item.Key))
			if do := between[string(item.Key)]; do != nil {
				do()
			}
			r.After = item.Key
		}
		if len(page.Items) == 0 {
			break
		}
	}
	if diff := cmp.Diff([]string{"b", "c", "d", "f", "j", "k"}, seen); diff != "" {
		t.Errorf("keys seen (-want +got):\n%s", diff)
	}
}

// testConsistentPage scans while one batch after the other moves all keys to a new generation.
func testConsistentPage(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	const keys, generations = 20, 30
	batch := func(generation storage.Rev) (b storage.Batch) {
		for i := range keys {
			b.Puts = append(b.Puts, storage.Put{Key: fmt.Appendf(nil, "%02d", i), If: generation, Rev: generation + 1})
		}
		return b
	}
	apply(t, s, batch(0))
	written := make(chan error, 1)
	go func() {
		for g := storage.Rev(1); g < generations; g++ {
			if err := s.Apply(ctx, batch(g)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for done := false; !done; {
		select {
		case err := <-written:
			if err != nil {
				t.Errorf("Apply(next generation) = %v, want nil", err)
			}
			done = true
		default:
		}
		page, err := s.Scan(ctx, storage.Range{})
		if err != nil || len(page.Items) != keys {
			t.Fatalf("Scan() = %d items, %v, want %d", len(page.Items), err, keys)
		}
		for _, item := range page.Items {
			if item.Rev != page.Items[0].Rev {
				t.Fatalf("Scan() = %q at %d and %q at %d on one page, want one generation",
					page.Items[0].Key, page.Items[0].Rev, item.Key, item.Rev)
			}
		}
	}
}
