package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// canary stands in every record of these tests and must stand nowhere else.
const canary = "CANARY-5d1e"

// note is the record of these tests.
type note struct {
	Text   string        `cbor:"1,keyasint"`
	Secret crypto.Secret `cbor:"2,keyasint"`
}

func newNote(text string) *note {
	return &note{Text: canary + text, Secret: crypto.NewSecret(canary + "-secret-" + text)}
}

var (
	noteSpec = sealed.Spec{Tag: 'n', Name: "note", Plane: sealed.Tokens, Format: 1}
	ruleSpec = sealed.Spec{Tag: 'r', Name: "rule", Plane: sealed.Policy, Format: 1}
)

// world is a DB with two tables and an index.
type world struct {
	*sealed.DB
	notes, rules *sealed.Table[note]
	marks        *sealed.Index
}

func newWorld(db *sealed.DB) *world {
	return &world{
		DB:    db,
		notes: sealed.NewTable[note](db, noteSpec),
		rules: sealed.NewTable[note](db, ruleSpec),
		marks: sealed.NewIndex(db, 'x', "mark"),
	}
}

func newKEK(t testing.TB) *crypto.LocalKEK {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func newKEKs(t testing.TB) crypto.KEKs {
	t.Helper()
	return crypto.KEKs{Tokens: newKEK(t), Policy: newKEK(t)}
}

func open(t testing.TB, store storage.Store, keks crypto.KEKs, project string, o *sealed.Options) *world {
	t.Helper()
	db, err := sealed.Open(t.Context(), store, keks, project, o)
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(db)
}

// newMemory opens a new store in memory.
func newMemory(t testing.TB) (*memory.Store, *world) {
	t.Helper()
	store := memory.New()
	return store, open(t, store, newKEKs(t), "", nil)
}

func commit(t testing.TB, db *sealed.DB, change func(tx *sealed.Tx)) {
	t.Helper()
	tx := db.Begin(t.Context())
	change(tx)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, db *sealed.DB, table *sealed.Table[note], text string, rev storage.Rev, key ...string) storage.Rev {
	t.Helper()
	var next storage.Rev
	commit(t, db, func(tx *sealed.Tx) { next = table.Put(tx, newNote(text), rev, key...) })
	return next
}

// wantNote says that the record at key holds text.
func wantNote(t testing.TB, table *sealed.Table[note], text string, key ...string) {
	t.Helper()
	got, _, err := table.Get(t.Context(), key...)
	if err != nil {
		t.Errorf("Get(%q) = %v, want the record", key, err)
		return
	}
	if diff := cmp.Diff(*newNote(text), got); diff != "" {
		t.Errorf("Get(%q) (-want +got):\n%s", key, diff)
	}
}

// wantCorrupt says that err is a *CorruptError which tells nothing of the record.
func wantCorrupt(t testing.TB, call string, err error) {
	t.Helper()
	var corrupt *sealed.CorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("%s = %v, want a *CorruptError", call, err)
	} else if strings.Contains(err.Error(), canary) {
		t.Errorf("%s = %q, want nothing of the record in the text", call, err)
	}
}

// dump returns everything in a store.
func dump(t testing.TB, store storage.Store) []storage.Item {
	t.Helper()
	var items []storage.Item
	for r := (storage.Range{}); ; {
		page, err := store.Scan(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, page.Items...)
		if r.After = page.Next; r.After == nil {
			return items
		}
	}
}

// replace puts raw bytes in place of whatever lies under a key.
func replace(t testing.TB, store storage.Store, item storage.Item) {
	t.Helper()
	if err := overwrite(t.Context(), store, item); err != nil {
		t.Fatal(err)
	}
}

func overwrite(ctx context.Context, store storage.Store, item storage.Item) error {
	old, err := store.Get(ctx, item.Key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	return store.Apply(ctx, storage.Batch{Puts: []storage.Put{{Key: item.Key, Value: item.Value, If: old.Rev, Rev: item.Rev}}})
}

func rawItem(t testing.TB, store storage.Store, key []byte) storage.Item {
	t.Helper()
	item, err := store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return item
}

// copyStore returns a store with the same bytes.
func copyStore(t testing.TB, store storage.Store) *memory.Store {
	t.Helper()
	clone := memory.New()
	for _, item := range dump(t, store) {
		p := storage.Put{Key: item.Key, Value: item.Value, Rev: item.Rev}
		if err := clone.Apply(t.Context(), storage.Batch{Puts: []storage.Put{p}}); err != nil {
			t.Fatal(err)
		}
	}
	return clone
}

// wantUnchanged says that a store holds what it held.
func wantUnchanged(t testing.TB, store storage.Store, before []storage.Item) {
	t.Helper()
	if diff := cmp.Diff(before, dump(t, store)); diff != "" {
		t.Errorf("the store changed (-before +after):\n%s", diff)
	}
}

// spy is a store that counts, and fails or answers otherwise where a test says so.
type spy struct {
	storage.Store
	getMany atomic.Int64

	mu    sync.Mutex // guards what follows
	fails map[string]error
	calls map[string]func()               // made while a method is under way
	gets  func(storage.Item) storage.Item // changes what Get, GetMany and Scan return
}

func (s *spy) fail(method string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = map[string]error{method: err}
}

func (s *spy) lie(change func(storage.Item) storage.Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets = change
}

func (s *spy) meanwhile(calls map[string]func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = calls
}

func (s *spy) answer(method string, items []storage.Item) error {
	s.mu.Lock()
	if call := s.calls[method]; call != nil {
		s.mu.Unlock()
		call()
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if err := s.fails[method]; err != nil {
		return err
	}
	for i := range items {
		if s.gets != nil {
			items[i] = s.gets(items[i])
		}
	}
	return nil
}

func (s *spy) Get(ctx context.Context, key []byte) (storage.Item, error) {
	item, err := s.Store.Get(ctx, key)
	items := []storage.Item{item}
	if failed := s.answer("Get", items); failed != nil {
		return storage.Item{}, failed
	}
	return items[0], err
}

func (s *spy) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	s.getMany.Add(1)
	items, err := s.Store.GetMany(ctx, keys)
	if failed := s.answer("GetMany", items); failed != nil {
		return nil, failed
	}
	return items, err
}

func (s *spy) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	page, err := s.Store.Scan(ctx, r)
	if failed := s.answer("Scan", page.Items); failed != nil {
		return storage.Page{}, failed
	}
	return page, err
}

func (s *spy) Apply(ctx context.Context, b storage.Batch) error {
	if failed := s.answer("Apply", nil); failed != nil {
		return failed
	}
	return s.Store.Apply(ctx, b)
}

// countingKEK counts how often it is asked.
type countingKEK struct {
	tink.AEADWithContext
	wrapped, unwrapped atomic.Int64
}

func (k *countingKEK) EncryptWithContext(ctx context.Context, plaintext, associated []byte) ([]byte, error) {
	k.wrapped.Add(1)
	return k.AEADWithContext.EncryptWithContext(ctx, plaintext, associated)
}

func (k *countingKEK) DecryptWithContext(ctx context.Context, ciphertext, associated []byte) ([]byte, error) {
	k.unwrapped.Add(1)
	return k.AEADWithContext.DecryptWithContext(ctx, ciphertext, associated)
}

// brokenKEK is a KMS that cannot be reached.
type brokenKEK struct{ err error }

func (k brokenKEK) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, k.err
}

func (k brokenKEK) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, k.err
}

// clock is a clock that stands until it is moved.
type clock struct{ nanos atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(1_800_000_000, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// keyOf returns the id of the key that sealed the record at key.
func keyOf(t testing.TB, store storage.Store, key []byte) uint32 {
	t.Helper()
	id, ok := crypto.KeyID(rawItem(t, store, key).Value[1:])
	if !ok {
		t.Fatalf("the value at %x begins with no key id", key)
	}
	return id
}

// wantNoCanary greps everything that lies in a store.
func wantNoCanary(t testing.TB, store storage.Store) {
	t.Helper()
	for _, item := range dump(t, store) {
		if slices.ContainsFunc([][]byte{item.Key, item.Value}, func(b []byte) bool { return bytes.Contains(b, []byte(canary)) }) {
			t.Errorf("the canary lies in the store under %q", item.Key)
		}
	}
}
