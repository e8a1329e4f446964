package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

func TestTableStory(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)

	if _, rev, err := w.notes.Get(ctx, "u", "1"); !errors.Is(err, storage.ErrNotFound) || rev != 0 {
		t.Errorf("Get(absent) = %d, %v, want 0, ErrNotFound", rev, err)
	}
	created := put(t, w.DB, w.notes, "one", 0, "u", "1")
	if created == 0 || created >= 1<<61 {
		t.Errorf("Put of a new record = revision %d, want one between 0 and 1<<61", created)
	}
	wantNote(t, w.notes, "one", "u", "1")
	updated := put(t, w.DB, w.notes, "two", created, "u", "1")
	if updated != created+1 {
		t.Errorf("Put at revision %d = %d, want %d", created, updated, created+1)
	}
	if _, rev, err := w.notes.Get(ctx, "u", "1"); err != nil || rev != updated {
		t.Errorf("Get = revision %d, %v, want %d", rev, err, updated)
	}
	wantNote(t, w.notes, "two", "u", "1")

	conflicts := map[string]func(*sealed.Tx){
		"create what is there": func(tx *sealed.Tx) { w.notes.Put(tx, newNote("x"), 0, "u", "1") },
		"update the old":       func(tx *sealed.Tx) { w.notes.Put(tx, newNote("x"), created, "u", "1") },
		"delete the old":       func(tx *sealed.Tx) { w.notes.Delete(tx, created, "u", "1") },
		"check the old":        func(tx *sealed.Tx) { w.notes.Check(tx, created, "u", "1") },
		"update the absent":    func(tx *sealed.Tx) { w.notes.Put(tx, newNote("x"), created, "u", "2") },
		"check the absent":     func(tx *sealed.Tx) { w.notes.Check(tx, created, "u", "2") },
	}
	before := dump(t, store)
	for name, change := range conflicts {
		tx := w.Begin(ctx)
		w.rules.Put(tx, newNote("beside"), 0, name)
		w.marks.Mark(tx, name)
		change(tx)
		err := tx.Commit(ctx)
		var conflict *storage.ConflictError
		if !errors.As(err, &conflict) {
			t.Errorf("Commit of %q = %v, want a *ConflictError", name, err)
			continue
		}
		which := "1"
		if strings.Contains(name, "absent") {
			which = "2"
		}
		if !w.notes.Conflicted(fmt.Errorf("outer: %w", err), "u", which) {
			t.Errorf("Conflicted after %q = false, want true", name)
		}
		if w.notes.Conflicted(err, "u", "3") || w.rules.Conflicted(err, "u", which) || w.notes.Conflicted(nil, "u", which) {
			t.Errorf("Conflicted of something else after %q = true, want false", name)
		}
	}
	wantUnchanged(t, store, before)

	commit(t, w.DB, func(tx *sealed.Tx) { w.notes.Check(tx, updated, "u", "1"); w.rules.Put(tx, newNote("r"), 0, "r") })
	commit(t, w.DB, func(tx *sealed.Tx) { w.notes.Delete(tx, updated, "u", "1") })
	if _, _, err := w.notes.Get(ctx, "u", "1"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get(deleted) = %v, want ErrNotFound", err)
	}
	if again := put(t, w.DB, w.notes, "three", 0, "u", "1"); again == created || again == updated {
		t.Errorf("Put of a record that was deleted = revision %d, want another than before", again)
	}
}

func TestTableGetMany(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, w := newMemory(t)
	rev := put(t, w.DB, w.notes, "a", 0, "a")
	put(t, w.DB, w.notes, "b", 0, "b")
	rows, err := w.notes.GetMany(ctx, [][]string{{"b"}, {"absent"}, {"a"}, {"b"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []sealed.Row[note]{
		{Key: []string{"b"}, Value: *newNote("b"), Rev: rows[0].Rev},
		{Key: []string{"absent"}},
		{Key: []string{"a"}, Value: *newNote("a"), Rev: rev},
		{Key: []string{"b"}, Value: *newNote("b"), Rev: rows[0].Rev},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("GetMany() (-want +got):\n%s", diff)
	}
	if rows, err := w.notes.GetMany(ctx, nil); err != nil || len(rows) != 0 {
		t.Errorf("GetMany(nil) = %v, %v, want nothing", rows, err)
	}
}

// Keys lists what is there without opening it, so that one damaged record does not hide the others.
func TestTableKeys(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)
	var want []sealed.Row[note]
	for _, key := range [][]string{{"u", "1"}, {"u", "2"}, {"u", "3"}, {"v", "1"}} {
		want = append(want, sealed.Row[note]{Key: key, Rev: put(t, w.DB, w.notes, "text", 0, key...)})
	}
	damaged := rawItem(t, store, sealed.RawKey(w.DB, 'n', "u", "2"))
	damaged.Value[len(damaged.Value)-1] ^= 1
	replace(t, store, damaged)
	if _, _, err := w.notes.List(ctx, nil, nil, 0); err == nil {
		t.Fatal("List of a damaged record = nil, want an error")
	}

	for _, tt := range []struct {
		name          string
		prefix, after []string
		limit         int
		want          []sealed.Row[note]
		more          bool
	}{
		{"all", nil, nil, 0, want, false},
		{"a prefix", []string{"u"}, nil, 0, want[:3], false},
		{"a page", nil, nil, 2, want[:2], true},
		{"the page behind it", nil, []string{"u", "2"}, 2, want[2:], false},
		{"nothing", []string{"w"}, nil, 0, []sealed.Row[note]{}, false},
	} {
		rows, more, err := w.notes.Keys(ctx, tt.prefix, tt.after, tt.limit)
		if diff := cmp.Diff(tt.want, rows); diff != "" || more != tt.more || err != nil {
			t.Errorf("Keys of %s = more %v, %v, want %v, nil (-want +got):\n%s", tt.name, more, err, tt.more, diff)
		}
	}
	commit(t, w.DB, func(tx *sealed.Tx) { w.notes.Delete(tx, want[1].Rev, "u", "2") })
	if rows, _, err := w.notes.List(ctx, nil, nil, 0); err != nil || len(rows) != 3 {
		t.Errorf("List after the damaged record was deleted = %d rows, %v, want 3", len(rows), err)
	}
}

// awkward are key parts that an escaping could get wrong.
var awkward = []string{
	"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "a", "a\x00", "a\x00\x01", "a\x00\xff", "a\x01", "a/b", "a\xff", "ab", "/", "b", "\xff", "\xff\xff",
}

func TestTableKeyParts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, w := newMemory(t)
	var want [][]string
	for _, a := range awkward {
		put(t, w.DB, w.notes, a, 0, a)
		want = append(want, []string{a})
		for _, b := range awkward {
			put(t, w.DB, w.notes, a+"|"+b, 0, a, b)
			want = append(want, []string{a, b})
		}
	}
	slices.SortFunc(want, func(a, b []string) int { return slices.Compare(a, b) })

	keys := func(prefix []string, limit int) (got [][]string) {
		var after []string
		for {
			rows, more, err := w.notes.List(ctx, prefix, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				if text := *newNote(strings.Join(row.Key, "|")); text.Text != row.Value.Text {
					t.Errorf("List: record of %q = %q, want %q", row.Key, row.Value.Text, text.Text)
				}
				got = append(got, row.Key)
			}
			if !more {
				return got
			}
			if limit > 0 && len(rows) != limit {
				t.Fatalf("List(limit %d) = %d rows and more, want a full page", limit, len(rows))
			}
			after = rows[len(rows)-1].Key
		}
	}
	for _, limit := range []int{0, 1, 7, len(want)} {
		if diff := cmp.Diff(want, keys(nil, limit)); diff != "" {
			t.Errorf("List(limit %d) (-want +got):\n%s", limit, diff)
		}
	}
	// A prefix shows its own and nothing of "a" when it is "ab", or the other way round.
	for _, a := range awkward {
		var under [][]string
		for _, key := range want {
			if key[0] == a {
				under = append(under, key)
			}
		}
		if diff := cmp.Diff(under, keys([]string{a}, 5)); diff != "" {
			t.Errorf("List(%q) (-want +got):\n%s", a, diff)
		}
		if got := keys([]string{a, "a"}, 0); len(got) != 1 {
			t.Errorf("List(%q, a) = %q, want one", a, got)
		}
	}
	if rows, more, err := w.notes.List(ctx, []string{"none"}, nil, 0); err != nil || more || len(rows) != 0 {
		t.Errorf("List(none) = %v, %v, %v, want nothing", rows, more, err)
	}
	if _, _, err := w.notes.List(ctx, nil, nil, -1); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("List(limit -1) = %v, want ErrInvalid", err)
	}
	long := strings.Repeat("k", storage.MaxKey)
	if _, _, err := w.notes.Get(ctx, long); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("Get(long key) = %v, want ErrTooLarge", err)
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)
	want := [][]string{{"a"}, {"a", "1"}, {"a", "2"}, {"a", "\x00"}, {"ab", "1"}, {"b"}}
	slices.SortFunc(want, func(a, b []string) int { return slices.Compare(a, b) })
	for range 2 { // marking twice is no conflict
		commit(t, w.DB, func(tx *sealed.Tx) {
			for _, entry := range want {
				w.marks.Mark(tx, entry...)
			}
		})
	}
	scan := func(prefix []string, limit int) (got [][]string) {
		var after []string
		for {
			entries, more, err := w.marks.Scan(ctx, prefix, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, entries...); !more {
				return got
			}
			after = entries[len(entries)-1]
		}
	}
	for _, limit := range []int{0, 1, 2, 5, 6} {
		if diff := cmp.Diff(want, scan(nil, limit)); diff != "" {
			t.Errorf("Scan(limit %d) (-want +got):\n%s", limit, diff)
		}
		if diff := cmp.Diff(want[:4], scan([]string{"a"}, limit)); diff != "" {
			t.Errorf("Scan(a, limit %d) (-want +got):\n%s", limit, diff)
		}
	}
	if entries, more, err := w.marks.Scan(ctx, []string{"a"}, []string{"ab", "1"}, 0); err != nil || more || len(entries) != 0 {
		t.Errorf("Scan(a) behind ab = %q, %v, %v, want nothing", entries, more, err)
	}
	for range 2 { // so is unmarking twice
		commit(t, w.DB, func(tx *sealed.Tx) { w.marks.Unmark(tx, "a"); w.marks.Unmark(tx, "never there") })
	}
	if diff := cmp.Diff(want[1:], scan(nil, 0)); diff != "" {
		t.Errorf("Scan after Unmark (-want +got):\n%s", diff)
	}

	// Another project's entries are not seen.
	other := open(t, store, newKEKs(t), "0199aaaa-0000-7000-8000-000000000001", nil)
	if entries, _, err := other.marks.Scan(ctx, nil, nil, 0); err != nil || len(entries) != 0 {
		t.Errorf("Scan in another project = %q, %v, want nothing", entries, err)
	}
	// An entry that is no tuple.
	replace(t, store, storage.Item{Key: append(sealed.RawKey(w.DB, 'x'), "no end"...), Rev: 1})
	_, _, err := w.marks.Scan(ctx, nil, nil, 0)
	wantCorrupt(t, "Scan", err)
}

func TestTx(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)
	before := dump(t, store)
	if err := w.Begin(ctx).Commit(ctx); err != nil {
		t.Errorf("Commit of an empty transaction = %v, want nil", err)
	}
	for name, change := range map[string]func(*sealed.Tx){
		"put twice":       func(tx *sealed.Tx) { w.notes.Put(tx, newNote(""), 0, "k"); w.notes.Put(tx, newNote(""), 0, "k") },
		"put and delete":  func(tx *sealed.Tx) { w.notes.Put(tx, newNote(""), 0, "k"); w.notes.Delete(tx, 1, "k") },
		"put and check":   func(tx *sealed.Tx) { w.notes.Put(tx, newNote(""), 0, "k"); w.notes.Check(tx, 1, "k") },
		"mark and unmark": func(tx *sealed.Tx) { w.marks.Mark(tx, "k"); w.marks.Unmark(tx, "k") },
		"check absence":   func(tx *sealed.Tx) { w.notes.Check(tx, 0, "k") },
		"delete absence":  func(tx *sealed.Tx) { w.notes.Delete(tx, 0, "k") },
	} {
		tx := w.Begin(ctx)
		change(tx)
		if err := tx.Commit(ctx); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("Commit of %q = %v, want ErrInvalid", name, err)
		}
	}

	tx := w.Begin(ctx)
	w.notes.Put(tx, newNote(strings.Repeat("x", storage.MaxValue)), 0, "k")
	if err := tx.Commit(ctx); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("Commit of a huge record = %v, want ErrTooLarge", err)
	}

	// The first thing that goes wrong sticks, whatever comes after it.
	odd := sealed.NewTable[any](w.DB, sealed.Spec{Tag: 'o', Name: "odd", Plane: sealed.Policy, Format: 1})
	tx = w.Begin(ctx)
	w.notes.Put(tx, newNote(""), 0, "before")
	var channel any = make(chan int)
	odd.Put(tx, &channel, 0, "k")
	w.notes.Put(tx, newNote(""), 0, "after")
	for range 2 {
		if err := tx.Commit(ctx); err == nil || !strings.Contains(err.Error(), "put odd record") {
			t.Errorf("Commit with a record that cannot be encoded = %v, want it to say which", err)
		}
	}

	// What could never be read again is not written.
	var deep any
	for range 40 {
		deep = []any{deep}
	}
	tx = w.Begin(ctx)
	odd.Put(tx, &deep, 0, "k")
	if err := tx.Commit(ctx); err == nil {
		t.Error("Commit of a record nested too deeply to be read = nil, want an error")
	}
	wantUnchanged(t, store, before)

	// A transaction takes what it is given when it is given.
	n := newNote("first")
	key := []string{"k"}
	tx = w.Begin(ctx)
	w.notes.Put(tx, n, 0, key...)
	n.Text, key[0] = "changed", "changed"
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	wantNote(t, w.notes, "first", "k")
}

// What is to come after a commit does where it was applied, or may have been.
func TestTxAfter(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), &spy{Store: memory.New()}
	w := open(t, store, newKEKs(t), "", nil)
	told := 0
	for _, tt := range []struct {
		err  error
		told int // by then
	}{{nil, 1}, {storage.ErrFull, 1}, {&storage.ConflictError{}, 1}, {storage.ErrUnknownOutcome, 2}} {
		store.fail("Apply", tt.err)
		tx := w.Begin(ctx)
		w.marks.Mark(tx, "k")
		before := told
		tx.After(func() { told++ })
		if told != before {
			t.Errorf("told before the commit")
		}
		if err := tx.Commit(ctx); !errors.Is(err, tt.err) {
			t.Errorf("Commit = %v, want %v", err, tt.err)
		}
		if told != tt.told {
			t.Errorf("told %d times after a commit that gave %v, want %d", told, tt.err, tt.told)
		}
	}
}

// N callers update one record, each from what it read: every revision is won once.
func TestTxRace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)
	first := put(t, w.DB, w.notes, "0", 0, "k")
	const callers, rounds = 8, 10
	var won atomic.Int64
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			for done := 0; done < rounds; {
				_, rev, err := w.notes.Get(ctx, "k")
				if err != nil {
					t.Errorf("Get = %v, want nil", err)
					return
				}
				tx := w.Begin(ctx)
				w.notes.Put(tx, newNote("n"), rev, "k")
				switch err := tx.Commit(ctx); {
				case err == nil:
					done++
					won.Add(1)
				case !w.notes.Conflicted(err, "k"):
					t.Errorf("Commit = %v, want nil or a conflict", err)
					return
				}
			}
		})
	}
	wait.Wait()
	if rev := rawItem(t, store, sealed.RawKey(w.DB, 'n', "k")).Rev; rev != first+callers*rounds || won.Load() != callers*rounds {
		t.Errorf("revision after %d updates = first+%d, want each update counted once", won.Load(), rev-first)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	ctx, store, keks := t.Context(), memory.New(), newKEKs(t)
	type newer struct {
		Text  []string `cbor:"1,keyasint"` // another type
		Extra string   `cbor:"9,keyasint"`
	}
	old := open(t, store, keks, "", nil)
	oldRev := put(t, old.DB, old.notes, "old", 0, "old")

	db, err := sealed.Open(ctx, store, keks, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	spec := noteSpec
	spec.Format = 2
	upgraded := sealed.NewTable[note](db, spec)
	wantNote(t, upgraded, "old", "old")

	db, err = sealed.Open(ctx, store, keks, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	spec.Format = 255
	table := sealed.NewTable[newer](db, spec)
	commit(t, db, func(tx *sealed.Tx) { table.Put(tx, &newer{[]string{canary}, canary}, 0, "new") })
	before := dump(t, store)

	wantNewer := func(call string, err error) {
		t.Helper()
		var format *sealed.FormatError
		if !errors.As(err, &format) || *format != (sealed.FormatError{Table: "note", Format: 255, Known: 1}) {
			t.Errorf("%s = %v, want the *FormatError", call, err)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s = %q, want nothing of the record in the text", call, err)
		}
	}
	got, rev, err := old.notes.Get(ctx, "new")
	wantNewer("Get", err)
	if rev != 0 || got.Text != "" {
		t.Errorf("Get(newer) = %v, %d, want nothing: a revision would let it be written over", got, rev)
	}
	rows, err := old.notes.GetMany(ctx, [][]string{{"old"}, {"new"}})
	wantNewer("GetMany", err)
	if rows != nil {
		t.Errorf("GetMany(newer) = %v, want nothing", rows)
	}
	rows, _, err = old.notes.List(ctx, nil, nil, 0)
	wantNewer("List", err)
	if rows != nil {
		t.Errorf("List(newer) = %v, want nothing", rows)
	}
	for _, rev := range []storage.Rev{0, 1, oldRev} {
		tx := old.Begin(ctx)
		old.notes.Put(tx, newNote("over"), rev, "new")
		if err := tx.Commit(ctx); !old.notes.Conflicted(err, "new") {
			t.Errorf("Commit over a newer record at revision %d = %v, want a conflict", rev, err)
		}
	}
	wantUnchanged(t, store, before)
	wantNote(t, old.notes, "old", "old")
}

func TestNewTablePanics(t *testing.T) {
	t.Parallel()
	_, w := newMemory(t)
	good := sealed.Spec{Tag: 'z', Name: "z", Plane: sealed.Policy, Format: 1}
	with := func(change func(*sealed.Spec)) func() {
		spec := good
		change(&spec)
		return func() { sealed.NewTable[note](w.DB, spec) }
	}
	for name, call := range map[string]func(){
		"no name":           with(func(s *sealed.Spec) { s.Name = "" }),
		"no plane":          with(func(s *sealed.Spec) { s.Plane = 0 }),
		"another plane":     with(func(s *sealed.Spec) { s.Plane = 3 }),
		"no format":         with(func(s *sealed.Spec) { s.Format = 0 }),
		"format 256":        with(func(s *sealed.Spec) { s.Format = 256 }),
		"tag of a table":    with(func(s *sealed.Spec) { s.Tag = 'n' }),
		"tag of an index":   with(func(s *sealed.Spec) { s.Tag = 'x' }),
		"tag of the store":  with(func(s *sealed.Spec) { s.Tag = 'm' }),
		"tag of keysets":    with(func(s *sealed.Spec) { s.Tag = 'k' }),
		"index on projects": func() { sealed.NewIndex(w.DB, 'p', "p") },
		"index on a table":  func() { sealed.NewIndex(w.DB, 'r', "r") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic, want one", name)
				}
			}()
			call()
		}()
	}
	sealed.NewTable[note](w.DB, good)
}

func TestStoreErrorsPass(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), &spy{Store: memory.New()}
	w := open(t, store, newKEKs(t), "", nil)
	put(t, w.DB, w.notes, "n", 0, "k")
	for _, want := range []error{storage.ErrUnknownOutcome, storage.ErrFull, storage.ErrClosed, context.Canceled} {
		for method, call := range map[string]func() error{
			"Get":     func() error { _, _, err := w.notes.Get(ctx, "k"); return err },
			"GetMany": func() error { _, err := w.notes.GetMany(ctx, [][]string{{"k"}}); return err },
			"Scan":    func() error { _, _, err := w.notes.List(ctx, nil, nil, 0); return err },
			"Apply": func() error {
				tx := w.Begin(ctx)
				w.marks.Mark(tx, "k")
				return tx.Commit(ctx)
			},
		} {
			store.fail(method, want)
			err := call()
			var corrupt *sealed.CorruptError
			if !errors.Is(err, want) || errors.As(err, &corrupt) {
				t.Errorf("error when %s fails with %q = %v, want it passed on", method, want, err)
			}
		}
		store.fail("Scan", want)
		if _, _, err := w.marks.Scan(ctx, nil, nil, 0); !errors.Is(err, want) {
			t.Errorf("Scan when the store fails with %q = %v, want it passed on", want, err)
		}
		store.fail("Apply", want)
		if _, err := w.AddKey(ctx, sealed.Tokens); !errors.Is(err, want) {
			t.Errorf("AddKey when the store fails with %q = %v, want it passed on", want, err)
		}
	}
	store.fail("", nil)
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := w.notes.Get(done, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get under a done context = %v, want context.Canceled", err)
	}
}

func TestTxOfAnotherDB(t *testing.T) {
	t.Parallel()
	store, one := newMemory(t)
	_, two := newMemory(t)
	before, err := store.Scan(t.Context(), storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*sealed.Tx){
		"Put":    func(tx *sealed.Tx) { two.notes.Put(tx, newNote("x"), 0, "k") },
		"Delete": func(tx *sealed.Tx) { two.notes.Delete(tx, 1, "k") },
		"Check":  func(tx *sealed.Tx) { two.notes.Check(tx, 1, "k") },
		"Mark":   func(tx *sealed.Tx) { two.marks.Mark(tx, "k") },
		"Unmark": func(tx *sealed.Tx) { two.marks.Unmark(tx, "k") },
	} {
		tx := one.Begin(t.Context())
		change(tx)
		if err := tx.Commit(t.Context()); err == nil || errors.As(err, new(*storage.ConflictError)) {
			t.Errorf("Commit() with %s of another DB = %v, want an error of its own", name, err)
		}
	}
	after, err := store.Scan(t.Context(), storage.Range{})
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("the store changed (-before +after):\n%s, %v", diff, err)
	}
}
