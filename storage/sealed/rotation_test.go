package sealed_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

// reader is a process of its own on a shared store: what it reads and asks is counted.
type reader struct {
	*world
	store          *spy
	tokens, policy *countingKEK
	clock          *clock
}

func newReader(t testing.TB, store storage.Store, keks crypto.KEKs) *reader {
	t.Helper()
	r := &reader{
		store:  &spy{Store: store},
		tokens: &countingKEK{AEADWithContext: keks.Tokens},
		policy: &countingKEK{AEADWithContext: keks.Policy},
		clock:  &clock{},
	}
	r.world = open(t, r.store, crypto.KEKs{Tokens: r.tokens, Policy: r.policy}, "", &sealed.Options{Now: r.clock.Now})
	return r
}

// want says how often keysets were loaded and KEKs asked since the last call.
func (r *reader) want(t testing.TB, what string, loads, tokens, policy int64) {
	t.Helper()
	if got := [3]int64{r.store.getMany.Swap(0), r.tokens.unwrapped.Swap(0), r.policy.unwrapped.Swap(0)}; got != [3]int64{loads, tokens, policy} {
		t.Errorf("%s: loads of keysets, KEK calls for tokens, for policy = %v, want %v", what, got, [3]int64{loads, tokens, policy})
	}
}

func rotate(t testing.TB, db *sealed.DB, p sealed.Plane) uint32 {
	t.Helper()
	id, err := db.AddKey(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.PromoteKey(t.Context(), p, id); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestUnknownKeyReloadsOnce(t *testing.T) {
	t.Parallel()
	store, keks := memory.New(), newKEKs(t)
	a := open(t, store, keks, "", nil)
	put(t, a.DB, a.notes, "old", 0, "old")
	b := newReader(t, store, keks)
	b.want(t, "open", 1, 1, 2) // policy and index lie under one KEK

	id := rotate(t, a.DB, sealed.Tokens)
	put(t, a.DB, a.notes, "new", 0, "new")
	if got := keyOf(t, store, sealed.RawKey(a.DB, 'n', "new")); got != id {
		t.Fatalf("record is sealed with key %d, want the promoted %d", got, id)
	}
	wantNote(t, b.notes, "old", "old")
	b.want(t, "read under a known key", 0, 0, 0)
	wantNote(t, b.notes, "new", "new")
	b.want(t, "read under an unknown key", 1, 1, 0) // only the keyset that changed is unwrapped
	wantNote(t, b.notes, "new", "new")
	wantNote(t, b.notes, "old", "old")
	b.want(t, "read again", 0, 0, 0)

	rotate(t, a.DB, sealed.Policy)
	put(t, a.DB, a.rules, "new", 0, "new")
	wantNote(t, b.rules, "new", "new")
	b.want(t, "read under an unknown key of the policy plane", 1, 0, 1)
}

func TestUnknownKeyForGood(t *testing.T) {
	t.Parallel()
	ctx, store, keks := t.Context(), memory.New(), newKEKs(t)
	w := newReader(t, store, keks)
	rev := put(t, w.DB, w.notes, "n", 0, "k")
	other := open(t, store, keks, uuid.NewString(), nil)
	put(t, other.DB, other.notes, "n", 0, "k")
	foreign := rawItem(t, store, sealed.RawKey(other.DB, 'n', "k"))
	replace(t, store, storage.Item{Key: sealed.RawKey(w.DB, 'n', "k"), Value: foreign.Value, Rev: rev})
	w.want(t, "open and first keysets", 2, 1, 2)

	for range 3 {
		_, _, err := w.notes.Get(ctx, "k")
		wantCorrupt(t, "Get(unknown key)", err)
		if !errors.Is(err, crypto.ErrUnknownKey) {
			t.Errorf("Get(unknown key) = %v, want ErrUnknownKey in it", err)
		}
		w.want(t, "read under a key that nobody has", 1, 0, 0)
	}

	// When the keysets cannot be loaded, the record is not called corrupt.
	w.store.fail("GetMany", storage.ErrClosed)
	_, _, err := w.notes.Get(ctx, "k")
	var corrupt *sealed.CorruptError
	if !errors.Is(err, storage.ErrClosed) || errors.As(err, &corrupt) {
		t.Errorf("Get(unknown key) when keysets cannot be loaded = %v, want the store's error", err)
	}
}

func TestUnknownKeyRace(t *testing.T) {
	t.Parallel()
	store, keks := memory.New(), newKEKs(t)
	a := open(t, store, keks, "", nil)
	b := newReader(t, store, keks)
	b.want(t, "open", 1, 1, 2)
	rotate(t, a.DB, sealed.Tokens)
	put(t, a.DB, a.notes, "new", 0, "new")

	// All have the record in hand before the first can have loaded, and loading takes long enough for the rest to come.
	const readers = 16
	var fetched, wait sync.WaitGroup
	fetched.Add(readers)
	b.store.meanwhile(map[string]func(){
		"Get": func() { fetched.Done(); fetched.Wait() },
		"GetMany": func() {
			for range 10_000 {
				runtime.Gosched()
			}
		},
	})
	for range readers {
		wait.Go(func() { wantNote(t, b.notes, "new", "new") })
	}
	wait.Wait()
	b.want(t, "16 readers of an unknown key", 1, 1, 0)
}

func TestCacheTTL(t *testing.T) {
	t.Parallel()
	ctx, store, keks := t.Context(), memory.New(), newKEKs(t)
	a := open(t, store, keks, "", nil)
	b := newReader(t, store, keks)
	key := func(k string) uint32 { return keyOf(t, store, sealed.RawKey(b.DB, 'n', k)) }
	b.want(t, "open", 1, 1, 2)
	put(t, b.DB, b.notes, "n", 0, "first")
	b.want(t, "write", 0, 0, 0)
	old := key("first")

	id := rotate(t, a.DB, sealed.Tokens)
	b.clock.advance(sealed.CacheTTL - time.Nanosecond)
	put(t, b.DB, b.notes, "n", 0, "just before")
	if got := key("just before"); got != old {
		t.Errorf("key just before CacheTTL = %d, want the old %d", got, old)
	}
	b.want(t, "write within CacheTTL", 0, 0, 0)

	b.clock.advance(time.Nanosecond)
	put(t, b.DB, b.notes, "n", 0, "after")
	if got := key("after"); got != id {
		t.Errorf("key after CacheTTL = %d, want the promoted %d", got, id)
	}
	b.want(t, "write after CacheTTL", 1, 1, 0)
	put(t, b.DB, b.notes, "n", 0, "again")
	b.want(t, "write again", 0, 0, 0)

	b.clock.advance(sealed.CacheTTL)
	put(t, b.DB, b.notes, "n", 0, "later")
	b.want(t, "write after CacheTTL without a change", 1, 0, 0) // the KEK is not asked

	b.clock.advance(-time.Hour)
	put(t, b.DB, b.notes, "n", 0, "back")
	b.want(t, "write after the clock went back", 1, 0, 0)

	// A transaction that could not load the keysets fails at Commit, with everything in it.
	b.clock.advance(sealed.CacheTTL)
	b.store.fail("GetMany", storage.ErrClosed)
	tx := b.Begin(ctx)
	b.marks.Mark(tx, "k")
	b.notes.Put(tx, newNote("n"), 0, "never")
	b.store.fail("", nil)
	if err := tx.Commit(ctx); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Commit after keysets could not be loaded = %v, want ErrClosed", err)
	}
	if _, _, err := b.notes.Get(ctx, "never"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of its record = %v, want ErrNotFound", err)
	}
	for _, k := range []string{"first", "just before", "after", "again", "later", "back"} {
		wantNote(t, a.notes, "n", k)
	}
}

func TestCacheTTLOption(t *testing.T) {
	t.Parallel()
	store, now := &spy{Store: memory.New()}, &clock{}
	w := open(t, store, newKEKs(t), "", &sealed.Options{Now: now.Now, CacheTTL: time.Minute})
	store.getMany.Store(0)
	now.advance(59 * time.Second)
	put(t, w.DB, w.notes, "n", 0, "1")
	if n := store.getMany.Load(); n != 0 {
		t.Errorf("loads within CacheTTL = %d, want 0", n)
	}
	now.advance(time.Second)
	put(t, w.DB, w.notes, "n", 0, "2")
	if n := store.getMany.Load(); n != 1 {
		t.Errorf("loads after CacheTTL = %d, want 1", n)
	}
}

func TestRotationRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)
	before := dump(t, store)
	for _, p := range []sealed.Plane{0, 3, 255} {
		if _, err := w.AddKey(ctx, p); err == nil {
			t.Errorf("AddKey(Plane(%d)) = nil, want an error", p)
		}
		if err := w.PromoteKey(ctx, p, 1); err == nil {
			t.Errorf("PromoteKey(Plane(%d)) = nil, want an error", p)
		}
	}
	if err := w.PromoteKey(ctx, sealed.Tokens, 12345); err == nil {
		t.Error("PromoteKey(unknown key) = nil, want an error")
	}
	wantUnchanged(t, store, before)
}

// Several processes add keys at once: each key that was reported is there, and the others were told of a conflict.
func TestAddKeyRace(t *testing.T) {
	t.Parallel()
	ctx, store, keks := t.Context(), memory.New(), newKEKs(t)
	dbs := make([]*world, 8)
	for i := range dbs {
		dbs[i] = open(t, store, keks, "", nil)
	}
	ids := make([]uint32, len(dbs))
	var wait sync.WaitGroup
	for i, w := range dbs {
		wait.Go(func() {
			for {
				id, err := w.AddKey(ctx, sealed.Tokens)
				var conflict *storage.ConflictError
				switch {
				case err == nil:
					ids[i] = id
					return
				case !errors.As(err, &conflict):
					t.Errorf("AddKey = %v, want nil or a conflict", err)
					return
				}
			}
		})
	}
	wait.Wait()
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			t.Errorf("key %d was reported twice", id)
		}
		if err := dbs[0].PromoteKey(ctx, sealed.Tokens, id); err != nil {
			t.Errorf("PromoteKey(%d) = %v, want nil", id, err)
		}
		put(t, dbs[0].DB, dbs[0].notes, "n", 0, fmt.Sprint(i))
	}
	for _, w := range dbs {
		for i := range ids {
			wantNote(t, w.notes, "n", fmt.Sprint(i))
		}
	}
}

// A keyset that is gone is not made anew by a process that has it: what it sealed would be lost.
func TestKeysetGone(t *testing.T) {
	t.Parallel()
	ctx, store, keks := t.Context(), memory.New(), newKEKs(t)
	b := newReader(t, store, keks)
	item := rawItem(t, store, sealed.RawKey(b.DB, 'k', "tokens"))
	if err := store.Apply(ctx, storage.Batch{Deletes: []storage.Delete{{Key: item.Key, If: item.Rev}}}); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(sealed.CacheTTL)
	before := dump(t, store)
	tx := b.Begin(ctx)
	wantCorrupt(t, "Commit", tx.Commit(ctx))
	wantUnchanged(t, store, before)
}
