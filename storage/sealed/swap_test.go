package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

// shelf is where the records of one table of one project lie, and how they are read.
type shelf struct {
	name   string
	prefix []byte
	read   func(ctx context.Context, whole []byte) error
}

// shelfOf describes a table: its records are read with Get, GetMany and List, which must agree.
func shelfOf[T any](t testing.TB, db *sealed.DB, table *sealed.Table[T], tag byte, name string) shelf {
	return shelf{name: name, prefix: sealed.RawKey(db, tag), read: func(ctx context.Context, whole []byte) error {
		key, err := sealed.RawParts(db, whole)
		if err != nil {
			return err
		}
		_, _, got := table.Get(ctx, key...)
		_, many := table.GetMany(ctx, [][]string{key})
		_, _, list := table.List(ctx, key, nil, 0)
		for _, other := range []error{many, list} {
			if (got == nil) != (other == nil) {
				t.Errorf("Get(%q) = %v, but GetMany or List = %v, want them to agree", key, got, other)
			}
		}
		return got
	}}
}

// testSwaps moves the bytes of every record that lies on a shelf, and of every donor, to the place of every record, and
// puts them back under other revisions. None may open, and no error may tell what stood in a record.
func testSwaps(t *testing.T, store storage.Store, shelves []shelf, donors ...storage.Item) {
	t.Helper()
	ctx := t.Context()
	home := func(item storage.Item) *shelf {
		i := slices.IndexFunc(shelves, func(s shelf) bool { return bytes.HasPrefix(item.Key, s.prefix) })
		if i < 0 {
			return nil
		}
		return &shelves[i]
	}
	var records []storage.Item
	found := map[string]int{}
	for _, item := range dump(t, store) {
		if s := home(item); s != nil && len(item.Value) > 0 {
			records = append(records, item)
			found[s.name]++
			if err := s.read(ctx, item.Key); err != nil {
				t.Fatalf("%s record %q does not open where it was written: %v", s.name, item.Key, err)
			}
		}
	}
	for _, s := range shelves {
		if found[s.name] < 2 {
			t.Errorf("%d records on shelf %s, want at least two: the test is blind", found[s.name], s.name)
		}
	}
	wantShut := func(what string, place, forged storage.Item) {
		t.Helper()
		s := home(place)
		replace(t, store, forged)
		err := s.read(ctx, place.Key)
		var corrupt *sealed.CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("%s: %s record %q = %v, want a *CorruptError", what, s.name, place.Key, err)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %s record %q = %q, want nothing of the record in the text", what, s.name, place.Key, err)
		}
	}
	for _, place := range records {
		for _, donor := range append(slices.Clone(records), donors...) {
			if bytes.Equal(donor.Value, place.Value) {
				continue
			}
			wantShut(fmt.Sprintf("value of %q", donor.Key), place, storage.Item{Key: place.Key, Value: donor.Value, Rev: place.Rev})
			wantShut(fmt.Sprintf("value and revision of %q", donor.Key), place, storage.Item{Key: place.Key, Value: donor.Value, Rev: donor.Rev})
		}
		for _, rev := range []storage.Rev{place.Rev + 1, place.Rev - 1, 1<<62 - 1} {
			if rev != 0 && rev != place.Rev {
				wantShut("another revision", place, storage.Item{Key: place.Key, Value: place.Value, Rev: rev})
			}
		}
		replace(t, store, place)
		if err := home(place).read(ctx, place.Key); err != nil {
			t.Errorf("%s record %q, put back as it was, = %v, want nil", home(place).name, place.Key, err)
		}
	}
}

// Swaps of records between keys, users, projects, tables (with the same key parts) and revisions of one store, and into
// it from another store with the same KEKs and project.
func TestSwaps(t *testing.T) {
	t.Parallel()
	store, other := memory.New(), memory.New()
	key := newKEK(t)
	keks := crypto.KEKs{Tokens: key, Policy: key} // one KEK for everything tells the least apart
	var shelves []shelf
	for _, project := range []string{uuid.NewString(), uuid.NewString()} {
		for _, s := range []storage.Store{store, other} {
			w := open(t, s, keks, project, nil)
			twin := sealed.NewTable[note](w.DB, sealed.Spec{Tag: 't', Name: "note", Plane: sealed.Tokens, Format: 1}) // same name
			renamed := sealed.NewTable[note](w.DB, sealed.Spec{Tag: 'y', Name: "other", Plane: sealed.Tokens, Format: 1})
			for _, key := range [][]string{{"u", "1"}, {"u", "2"}, {"v", "1"}} {
				for _, table := range []*sealed.Table[note]{w.notes, w.rules, twin, renamed} {
					put(t, w.DB, table, strings.Join(key, ""), 0, key...)
				}
			}
			if s == store {
				shelves = append(shelves,
					shelfOf(t, w.DB, w.notes, 'n', "note "+project),
					shelfOf(t, w.DB, w.rules, 'r', "rule "+project),
					shelfOf(t, w.DB, twin, 't', "twin "+project),
					shelfOf(t, w.DB, renamed, 'y', "renamed "+project))
			}
		}
	}
	var donors []storage.Item
	for _, item := range dump(t, other) {
		if len(item.Value) > 0 {
			donors = append(donors, item) // keysets and the store record too
		}
	}
	for _, item := range dump(t, store) {
		if bytes.IndexByte([]byte("mk"), item.Key[0]) >= 0 {
			donors = append(donors, item)
		}
	}
	testSwaps(t, store, shelves, donors...)
}

// The binding alone tells stores, projects, tags, keys, names and revisions apart, under one and the same keyset.
func TestSwapsUnderOneKeyset(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)
	put(t, w.DB, w.notes, "n", 0, "u", "1")
	item := rawItem(t, store, sealed.RawKey(w.DB, 'n', "u", "1"))
	tests := []struct {
		name           string
		store, project string
		spec           sealed.Spec
		key            []string
		opens          bool
	}{
		{"same", w.Store(), w.Project(), noteSpec, []string{"u", "1"}, true},
		{"store", uuid.NewString(), w.Project(), noteSpec, []string{"u", "1"}, false},
		{"project", w.Store(), uuid.NewString(), noteSpec, []string{"u", "1"}, false},
		{"tag", w.Store(), w.Project(), sealed.Spec{Tag: 'q', Name: "note", Plane: sealed.Tokens, Format: 1}, []string{"u", "1"}, false},
		{"name", w.Store(), w.Project(), sealed.Spec{Tag: 'n', Name: "nota", Plane: sealed.Tokens, Format: 1}, []string{"u", "1"}, false},
		{"user", w.Store(), w.Project(), noteSpec, []string{"v", "1"}, false},
		{"key", w.Store(), w.Project(), noteSpec, []string{"u", "2"}, false},
		{"parts", w.Store(), w.Project(), noteSpec, []string{"u1"}, false},
		{"plane", w.Store(), w.Project(), sealed.Spec{Tag: 'n', Name: "note", Plane: sealed.Policy, Format: 1}, []string{"u", "1"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			elsewhere := copyStore(t, store)
			db := sealed.Elsewhere(w.DB, elsewhere, test.store, test.project)
			replace(t, elsewhere, storage.Item{Key: sealed.RawKey(db, test.spec.Tag, test.key...), Value: item.Value, Rev: item.Rev})
			table := sealed.NewTable[note](db, test.spec)
			if test.opens {
				wantNote(t, table, "n", test.key...)
				return
			}
			_, _, err := table.Get(ctx, test.key...)
			wantCorrupt(t, "Get", err)
		})
	}
}

// An old value does not open under the revision of the newer one, which is what a roll-back of one row looks like.
func TestSwapOldValue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)
	raw := sealed.RawKey(w.DB, 'n', "k")
	rev := put(t, w.DB, w.notes, "old", 0, "k")
	old := rawItem(t, store, raw)
	rev = put(t, w.DB, w.notes, "new", rev, "k")
	replace(t, store, storage.Item{Key: raw, Value: old.Value, Rev: rev})
	_, _, err := w.notes.Get(ctx, "k")
	wantCorrupt(t, "Get(old value, new revision)", err)
	if !errors.Is(err, crypto.ErrNotAuthentic) {
		t.Errorf("Get(old value, new revision) = %v, want ErrNotAuthentic in it", err)
	}

	// Deleted and made again: the value of before does not fit either.
	replace(t, store, storage.Item{Key: raw, Value: old.Value, Rev: old.Rev})
	commit(t, w.DB, func(tx *sealed.Tx) { w.notes.Delete(tx, old.Rev, "k") })
	rev = put(t, w.DB, w.notes, "again", 0, "k")
	replace(t, store, storage.Item{Key: raw, Value: old.Value, Rev: rev})
	_, _, err = w.notes.Get(ctx, "k")
	wantCorrupt(t, "Get(value of before the deletion)", err)

	// What the package does not promise: a complete old row, put back with its revision, opens.
	replace(t, store, storage.Item{Key: raw, Value: old.Value, Rev: old.Rev})
	wantNote(t, w.notes, "old", "k")
}

// A store that answers a question with another row, its key included, is not believed.
func TestLyingStore(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), &spy{Store: memory.New()}
	keks := newKEKs(t)
	w := open(t, store, keks, "", nil)
	put(t, w.DB, w.notes, "mine", 0, "u", "1")
	put(t, w.DB, w.notes, "theirs", 0, "v", "1")
	commit(t, w.DB, func(tx *sealed.Tx) { w.marks.Mark(tx, "u", "1") })
	theirs := rawItem(t, store, sealed.RawKey(w.DB, 'n', "v", "1"))

	for name, lie := range map[string]storage.Item{
		"theirs": theirs,
		"no key": {Value: theirs.Value, Rev: theirs.Rev},
		"no end": {Key: append(sealed.RawKey(w.DB, 'n', "u"), "1"...), Value: theirs.Value, Rev: theirs.Rev},
	} {
		store.lie(func(storage.Item) storage.Item { return lie })
		_, _, err := w.notes.Get(ctx, "u", "1")
		wantCorrupt(t, "Get("+name+")", err)
		_, err = w.notes.GetMany(ctx, [][]string{{"u", "1"}})
		wantCorrupt(t, "GetMany("+name+")", err)
		_, _, err = w.notes.List(ctx, []string{"u"}, nil, 0)
		wantCorrupt(t, "List("+name+")", err)
		_, _, err = w.marks.Scan(ctx, []string{"u"}, nil, 0)
		wantCorrupt(t, "Scan("+name+")", err)
	}

	// The same for keysets: the policy keyset, told to be the tokens keyset.
	policy := rawItem(t, store.Store, sealed.RawKey(w.DB, 'k', "policy"))
	tokens := sealed.RawKey(w.DB, 'k', "tokens")
	store.lie(func(item storage.Item) storage.Item {
		if bytes.Equal(item.Key, tokens) {
			return policy
		}
		return item
	})
	one := crypto.KEKs{Tokens: keks.Policy, Policy: keks.Policy}
	if _, err := sealed.Open(ctx, store, one, "", nil); !errors.Is(err, crypto.ErrWrongKEK) {
		t.Errorf("Open with the policy keyset for the tokens = %v, want ErrWrongKEK", err)
	}
}
