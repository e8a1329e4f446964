package sealed_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

func TestOpenAgain(t *testing.T) {
	t.Parallel()
	store, keks := memory.New(), newKEKs(t)
	first := open(t, store, keks, "", nil)
	put(t, first.DB, first.notes, "one", 0, "k")
	before := dump(t, store)

	for name, project := range map[string]string{"the only": "", "the named": first.Project()} {
		again := open(t, store, keks, project, nil)
		if again.Store() != first.Store() || again.Project() != first.Project() {
			t.Errorf("Open of %s project = %s, %s, want %s, %s", name, again.Store(), again.Project(), first.Store(), first.Project())
		}
		wantNote(t, again.notes, "one", "k")
		a, err := first.Lookup(t.Context(), "external id", "ada")
		if err != nil {
			t.Fatal(err)
		}
		b, err := again.Lookup(t.Context(), "external id", "ada")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a, b) || len(a) != 1 || len(a[0]) != 4+crypto.LookupSize {
			t.Errorf("Lookup() of two openers = %q and %q, want one equal token", a, b)
		}
	}
	wantUnchanged(t, store, before)
	if id, err := uuid.Parse(first.Project()); err != nil || id.Version() != 7 {
		t.Errorf("Project() = %s, want a UUID of version 7", first.Project())
	}
}

func TestOpenRace(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		store, keks := memory.New(), newKEKs(t)
		project := ""
		if named {
			project = uuid.NewString()
		}
		dbs := make([]*sealed.DB, 16)
		start := make(chan struct{})
		var wait sync.WaitGroup
		for i := range dbs {
			wait.Go(func() {
				<-start
				var err error
				if dbs[i], err = sealed.Open(t.Context(), store, keks, project, nil); err != nil {
					t.Errorf("Open = %v, want nil", err)
				}
			})
		}
		close(start)
		wait.Wait()
		if t.Failed() {
			return
		}
		worlds := make([]*world, len(dbs))
		for i, db := range dbs {
			if db.Store() != dbs[0].Store() || db.Project() != dbs[0].Project() {
				t.Fatalf("opener %d has %s, %s, want %s, %s as the first", i, db.Store(), db.Project(), dbs[0].Store(), dbs[0].Project())
			}
			worlds[i] = newWorld(db)
			put(t, db, worlds[i].notes, "n", 0, fmt.Sprint(i))
			put(t, db, worlds[i].rules, "r", 0, fmt.Sprint(i))
		}
		for _, w := range worlds {
			for i := range worlds {
				wantNote(t, w.notes, "n", fmt.Sprint(i))
				wantNote(t, w.rules, "r", fmt.Sprint(i))
			}
		}
		if n := len(dump(t, store)); n != 1+1+3+2*len(worlds) {
			t.Errorf("the store holds %d items, want one store record, one project, three keysets and the records", n)
		}
	}
}

// Openers that race with different KEKs cannot both win: the losers learn it, and write nothing.
func TestOpenRaceOfKEKs(t *testing.T) {
	t.Parallel()
	store := memory.New()
	errs := make([]error, 8)
	var wait sync.WaitGroup
	for i := range errs {
		keks := newKEKs(t)
		wait.Go(func() { _, errs[i] = sealed.Open(t.Context(), store, keks, "", nil) })
	}
	wait.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, crypto.ErrWrongKEK):
			t.Errorf("Open = %v, want nil or ErrWrongKEK", err)
		}
	}
	if won != 1 {
		t.Errorf("%d openers with different KEKs won, want one", won)
	}
}

func TestOpenProjects(t *testing.T) {
	t.Parallel()
	store, keks := memory.New(), newKEKs(t)
	name := uuid.NewString()
	named := open(t, store, keks, name, nil)
	if named.Project() != name {
		t.Errorf("Project() = %s, want the absent project made as %s", named.Project(), name)
	}
	if _, err := sealed.Open(t.Context(), store, keks, uuid.Nil.String(), nil); err == nil {
		t.Error("Open of the nil UUID = nil, want an error: it names no project")
	}
	if only := open(t, store, keks, "", nil); only.Project() != name {
		t.Errorf("Project() of the only one = %s, want %s", only.Project(), name)
	}
	other := open(t, store, keks, uuid.NewString(), nil)
	if other.Store() != named.Store() {
		t.Errorf("Store() of another project = %s, want %s", other.Store(), named.Store())
	}

	put(t, named.DB, named.notes, "a", 0, "k")
	put(t, other.DB, other.notes, "b", 0, "k")
	wantNote(t, named.notes, "a", "k")
	wantNote(t, other.notes, "b", "k")
	for _, w := range []*world{named, other} {
		if rows, more, err := w.notes.List(t.Context(), nil, nil, 0); err != nil || len(rows) != 1 || more {
			t.Errorf("List() of a project = %d rows, %v, %v, want its own one", len(rows), more, err)
		}
	}

	before := dump(t, store)
	_, err := sealed.Open(t.Context(), store, keks, "", nil)
	var several *sealed.ProjectsError
	if !errors.As(err, &several) {
		t.Fatalf("Open without a name = %v, want a *ProjectsError", err)
	}
	want := []string{named.Project(), other.Project()}
	slices.Sort(want)
	if diff := cmp.Diff(want, several.Projects); diff != "" {
		t.Errorf("Projects (-want +got):\n%s", diff)
	}
	for _, p := range want {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("Open without a name = %q, want %s in it", err, p)
		}
	}
	for _, bad := range []string{"production", name[:35], name + "0", "\x00"} {
		if _, err := sealed.Open(t.Context(), store, keks, bad, nil); err == nil {
			t.Errorf("Open(%q) = nil, want an error", bad)
		}
	}
	wantUnchanged(t, store, before)
}

func TestOpenWrongKEK(t *testing.T) {
	t.Parallel()
	store, keks := memory.New(), newKEKs(t)
	w := open(t, store, keks, "", nil)
	put(t, w.DB, w.notes, "n", 0, "k")
	before := dump(t, store)
	for name, wrong := range map[string]crypto.KEKs{
		"policy":        {Tokens: keks.Tokens, Policy: newKEK(t)},
		"tokens":        {Tokens: newKEK(t), Policy: keks.Policy},
		"both":          newKEKs(t),
		"exchanged":     {Tokens: keks.Policy, Policy: keks.Tokens},
		"policy, alone": {Policy: keks.Tokens},
	} {
		if db, err := sealed.Open(t.Context(), store, wrong, "", nil); !errors.Is(err, crypto.ErrWrongKEK) || db != nil {
			t.Errorf("Open with a wrong KEK (%s) = %v, %v, want nil, ErrWrongKEK", name, db, err)
		}
	}
	wantUnchanged(t, store, before)

	empty := memory.New()
	if _, err := sealed.Open(t.Context(), empty, crypto.KEKs{Tokens: keks.Tokens}, "", nil); err == nil {
		t.Error("Open without the policy KEK = nil, want an error")
	}
	if items := dump(t, empty); len(items) != 0 {
		t.Errorf("Open without the policy KEK wrote %d items, want none", len(items))
	}
}

func TestOpenWithoutTokens(t *testing.T) {
	t.Parallel()
	ctx, store, keks := t.Context(), memory.New(), newKEKs(t)
	policy := open(t, store, crypto.KEKs{Policy: keks.Policy}, "", nil)
	if policy.HasTokens() {
		t.Error("HasTokens() = true, want false")
	}
	put(t, policy.DB, policy.rules, "r", 0, "k")
	wantNote(t, policy.rules, "r", "k")
	if _, err := policy.Lookup(t.Context(), "v"); err != nil {
		t.Errorf("Lookup() = %v, want nil: the index lies on the policy plane", err)
	}
	tx := policy.Begin(ctx)
	policy.notes.Put(tx, newNote("n"), 0, "k")
	policy.rules.Put(tx, newNote("r"), 0, "other")
	if err := tx.Commit(ctx); !errors.Is(err, sealed.ErrNoTokensKey) {
		t.Errorf("Commit with a record of the tokens plane = %v, want ErrNoTokensKey", err)
	}
	if _, _, err := policy.rules.Get(ctx, "other"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of the same transaction's other record = %v, want ErrNotFound", err)
	}
	if _, err := policy.AddKey(ctx, sealed.Tokens); !errors.Is(err, sealed.ErrNoTokensKey) {
		t.Errorf("AddKey(Tokens) = %v, want ErrNoTokensKey", err)
	}

	// Whoever comes with the tokens KEK makes the keyset that was missing.
	full := open(t, store, keks, "", nil)
	if !full.HasTokens() || full.Project() != policy.Project() {
		t.Errorf("opener with both KEKs has project %s and tokens %v, want %s and true", full.Project(), full.HasTokens(), policy.Project())
	}
	wantNote(t, full.rules, "r", "k")
	put(t, full.DB, full.notes, "n", 0, "k")

	for name, w := range map[string]*world{"before": policy, "after": open(t, store, crypto.KEKs{Policy: keks.Policy}, "", nil)} {
		if _, _, err := w.notes.Get(ctx, "k"); !errors.Is(err, sealed.ErrNoTokensKey) {
			t.Errorf("Get by a policy opener from %s = %v, want ErrNoTokensKey", name, err)
		}
		if _, err := w.notes.GetMany(ctx, [][]string{{"k"}}); !errors.Is(err, sealed.ErrNoTokensKey) {
			t.Errorf("GetMany by a policy opener from %s = %v, want ErrNoTokensKey", name, err)
		}
		if _, _, err := w.notes.List(ctx, nil, nil, 0); !errors.Is(err, sealed.ErrNoTokensKey) {
			t.Errorf("List by a policy opener from %s = %v, want ErrNoTokensKey", name, err)
		}
		if _, _, err := w.notes.Get(ctx, "absent"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Get(absent) by a policy opener = %v, want ErrNotFound", err)
		}
		put(t, w.DB, w.rules, "more", 0, "by policy "+name)
	}
	wantNote(t, full.notes, "n", "k")
	wantNote(t, full.rules, "more", "by policy after")
}

// storeRecord mirrors what lies under the key "m".
func storeRecord(t testing.TB, record any) []byte {
	t.Helper()
	body, err := cbor.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{1}, body...)
}

func TestOpenStoreRecord(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	tests := []struct {
		name  string
		value []byte
		newer bool // else it is corrupt
	}{
		{"newer format", storeRecord(t, map[int]any{1: 2, 2: id[:]}), true},
		{"newer format that is otherwise different", storeRecord(t, map[int]any{1: 9, 2: "text", 3: []int{1}}), true},
		{"empty", nil, false},
		{"another envelope", append([]byte{2}, storeRecord(t, map[int]any{1: 1, 2: id[:]})[1:]...), false},
		{"no CBOR", []byte{1, 0xff, 0x00}, false},
		{"cut", storeRecord(t, map[int]any{1: 1, 2: id[:]})[:10], false},
		{"no UUID", storeRecord(t, map[int]any{1: 1}), false},
		{"short UUID", storeRecord(t, map[int]any{1: 1, 2: id[:15]}), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store, keks := memory.New(), newKEKs(t)
			w := open(t, store, keks, "", nil)
			put(t, w.DB, w.notes, "n", 0, "k")
			record := rawItem(t, store, []byte("m"))
			record.Value = test.value
			replace(t, store, record)
			before := dump(t, store)
			for _, project := range []string{"", w.Project(), uuid.NewString()} {
				_, err := sealed.Open(t.Context(), store, keks, project, nil)
				var newer *sealed.FormatError
				switch {
				case !test.newer:
					wantCorrupt(t, "Open", err)
				case !errors.As(err, &newer) || newer.Table != "store" || newer.Known != 1 || newer.Format < 2:
					t.Errorf("Open = %v, want a *FormatError of the store", err)
				case !strings.Contains(err.Error(), "newer version"):
					t.Errorf("Open = %q, want it to say what to do", err)
				}
			}
			wantUnchanged(t, store, before)
		})
	}
}

func TestOpenDamagedKeysets(t *testing.T) {
	t.Parallel()
	source, keks := memory.New(), newKEKs(t)
	w := open(t, source, keks, "", nil)
	key := func(purpose string) []byte { return sealed.RawKey(w.DB, 'k', purpose) }
	value := func(purpose string) []byte { return rawItem(t, source, key(purpose)).Value }
	both := crypto.KEKs{Tokens: keks.Policy, Policy: keks.Policy}

	tests := []struct {
		name    string
		item    storage.Item
		corrupt bool // else ErrWrongKEK: a LocalKEK cannot tell
	}{
		{"empty", storage.Item{Key: key("tokens")}, true},
		{"another envelope", storage.Item{Key: key("policy"), Value: append([]byte{7}, value("policy")[1:]...)}, true},
		{"altered", storage.Item{Key: key("index"), Value: append(value("index")[:40], 'x')}, false},
		{"policy as tokens", storage.Item{Key: key("tokens"), Value: value("policy")}, false},
		{"policy as index", storage.Item{Key: key("index"), Value: value("policy")}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store := copyStore(t, source)
			test.item.Rev = 5
			replace(t, store, test.item)
			before := dump(t, store)
			for _, keks := range []crypto.KEKs{keks, both} {
				_, err := sealed.Open(t.Context(), store, keks, "", nil)
				switch {
				case test.corrupt && keks == both && test.name != "empty":
					if err == nil {
						t.Error("Open = nil, want an error")
					}
				case test.corrupt:
					wantCorrupt(t, "Open", err)
				case !errors.Is(err, crypto.ErrWrongKEK):
					t.Errorf("Open = %v, want ErrWrongKEK", err)
				}
			}
			wantUnchanged(t, store, before)
		})
	}

	// A keyset is bound to the UUID of its store.
	store := copyStore(t, source)
	id := uuid.New()
	replace(t, store, storage.Item{Key: []byte("m"), Value: storeRecord(t, map[int]any{1: 1, 2: id[:]}), Rev: 5})
	if _, err := sealed.Open(t.Context(), store, keks, "", nil); !errors.Is(err, crypto.ErrWrongKEK) {
		t.Errorf("Open of a store with another UUID = %v, want ErrWrongKEK", err)
	}

	// An entry of the list of projects that is none.
	store = copyStore(t, source)
	replace(t, store, storage.Item{Key: []byte("pgarbage"), Rev: 1})
	_, err := sealed.Open(t.Context(), store, keks, "", nil)
	wantCorrupt(t, "Open with a broken list of projects", err)
}

func TestOpenStoreErrors(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Get", "GetMany", "Scan", "Apply"} {
		for _, want := range []error{storage.ErrUnknownOutcome, storage.ErrClosed, storage.ErrFull} {
			store := &spy{Store: memory.New()}
			store.fail(method, want)
			if _, err := sealed.Open(t.Context(), store, newKEKs(t), "", nil); !errors.Is(err, want) {
				t.Errorf("Open when %s fails with %q = %v, want it passed on", method, want, err)
			}
		}
	}
	// What was begun is finished by who opens next.
	store, keks := &spy{Store: memory.New()}, newKEKs(t)
	store.fail("GetMany", storage.ErrUnknownOutcome)
	if _, err := sealed.Open(t.Context(), store, keks, "", nil); err == nil {
		t.Fatal("Open = nil, want the error of GetMany")
	}
	store.fail("", nil)
	w := open(t, store, keks, "", nil)
	put(t, w.DB, w.notes, "n", 0, "k")
	wantNote(t, w.notes, "n", "k")
}

func TestOpenKMSErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("kms: no route to host")
	store, keks := memory.New(), newKEKs(t)
	down := crypto.KEKs{Tokens: brokenKEK{broken}, Policy: keks.Policy}
	if _, err := sealed.Open(t.Context(), store, down, "", nil); !errors.Is(err, broken) {
		t.Errorf("first Open without the KMS = %v, want its error", err)
	}
	open(t, store, keks, "", nil)
	before := dump(t, store)
	if _, err := sealed.Open(t.Context(), store, down, "", nil); !errors.Is(err, broken) || errors.Is(err, crypto.ErrWrongKEK) {
		t.Errorf("Open without the KMS = %v, want its error", err)
	}
	wantUnchanged(t, store, before)
}
