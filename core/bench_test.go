package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/google/uuid"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/sealed"
)

// benchCredentials is how many credentials the store of BenchmarkToken holds.
const benchCredentials = 100_000

// benchStore is one Badger directory full of credentials, made once for all benchmarks of a run.
var benchStore struct {
	once sync.Once
	dir  string
	kek  *crypto.LocalKEK
	ids  []string // of user "user-<i / 4>"
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if benchStore.dir != "" {
		_ = os.RemoveAll(benchStore.dir)
	}
	os.Exit(code)
}

func benchUser(i int) string { return fmt.Sprintf("user-%d", i/4) }

// fill makes the store and closes it, so that both benchmarks read from tables on disk and not from a memtable.
func fill(b *testing.B) {
	b.Helper()
	benchStore.once.Do(func() {
		s := &benchStore
		if s.dir, s.err = os.MkdirTemp("", "polycred-bench-"); s.err != nil {
			return
		}
		if s.kek, s.err = crypto.NewKEK(); s.err != nil {
			return
		}
		if s.ids, s.err = seed(s.dir, s.kek, benchCredentials, benchUser); s.err == nil {
			s.err = flatten(s.dir)
		}
	})
	if benchStore.err != nil {
		b.Fatal(benchStore.err)
	}
}

// seed writes n credentials past the rules, the i-th one for user(i).
func seed(dir string, kek *crypto.LocalKEK, n int, user func(i int) string) (ids []string, err error) {
	store, err := badger.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }()
	ctx := context.Background()
	e, err := Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	ids = make([]string, n)
	for i := range ids {
		ids[i] = newID()
	}
	const batch = 64
	errs := make(chan error)
	for worker := range 16 {
		go func() {
			for from := worker * batch; from < n; from += 16 * batch {
				tx := e.db.Begin(ctx)
				for i := from; i < min(from+batch, n); i++ {
					e.tables.credentials.Put(tx, benchRecord(ids[i], now), 0, user(i), ids[i])
					e.tables.byUser.Mark(tx, user(i), "googleCalendar", ids[i])
				}
				if err := tx.Commit(ctx); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 16 {
		if failed := <-errs; failed != nil {
			err = failed
		}
	}
	return ids, err
}

// openBare opens a store's directory with Badger itself, under the options of storage/badger.
func openBare(dir string) (*badgerdb.DB, error) {
	return badgerdb.Open(badgerdb.DefaultOptions(dir).WithLogger(nil).WithMemTableSize(16 << 20).
		WithNumMemtables(2).WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithValueThreshold(1 << 20).WithValueLogFileSize(64 << 20).WithMetricsEnabled(false))
}

// flatten finishes the compactions that filling the store began, so that they do not run beside what is measured first.
func flatten(dir string) error {
	db, err := openBare(dir)
	if err != nil {
		return err
	}
	return errors.Join(db.Flatten(2), db.Close())
}

// benchRecord is a credential as large as a usual one: a JWT as access token, an opaque refresh token.
func benchRecord(id string, now time.Time) *credentialRecord {
	r := &credentialRecord{
		tokenRecord: tokenRecord{
			ID: id, Integration: "googleCalendar", Status: StatusValid,
			TokenType: "Bearer", Refreshed: toMillis(now), ValidUntil: toMillis(now.Add(24 * time.Hour)),
		},
		ExternalID: "work",
		Account:    accountRecord{Issuer: "https://accounts.example.com", Subject: "108124129812904121", Display: "someone@example.com"},
		Scopes:     []string{"openid", "email", "profile", "https://www.example.com/auth/calendar"},
		Created:    toMillis(now), Updated: toMillis(now),
	}
	r.AccessToken = crypto.NewSecret(strings.Repeat(newNonce(), 10))
	r.RefreshToken = crypto.NewSecret(strings.Repeat(newNonce(), 2))
	return r
}

// BenchmarkToken is the hot path: a valid token of one credential among many, named by its id.
func BenchmarkToken(b *testing.B) {
	fill(b)
	store, err := badger.Open(benchStore.dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	ctx := context.Background()
	e, err := Open(ctx, store, crypto.KEKs{Tokens: benchStore.kek, Policy: benchStore.kek}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	users := make([]*User, benchCredentials/4)
	for i := range users {
		users[i] = e.User(benchUser(4 * i))
	}
	random := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		i := random.IntN(benchCredentials)
		if _, err := users[i/4].Token(ctx, Selector{Integration: "googleCalendar", Credential: benchStore.ids[i]}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTokenFloor is what the parts of Token cost by themselves on the same data: a Get of Badger, and Tink's
// decryption of the same bytes with the same associated data.
func BenchmarkTokenFloor(b *testing.B) {
	fill(b)
	keyset, keys, bindings := floorParts(b)
	db, err := openBare(benchStore.dir)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	random := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		i := random.IntN(benchCredentials)
		err := db.View(func(txn *badgerdb.Txn) error {
			item, err := txn.Get(keys[i])
			if err != nil {
				return err
			}
			return item.Value(func(value []byte) error {
				_, err := keyset.Open(value[9:], bindings[i]) // behind the revision and the envelope's version
				return err
			})
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// floorParts prepares everything that is not part of the floor: keys, associated data, the opened keyset.
func floorParts(b *testing.B) (keyset *crypto.Keyset, keys, bindings [][]byte) {
	b.Helper()
	ctx := context.Background()
	store, err := badger.Open(benchStore.dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	db, err := sealed.Open(ctx, store, crypto.KEKs{Tokens: benchStore.kek, Policy: benchStore.kek}, "", nil)
	if err != nil {
		b.Fatal(err)
	}
	id := uuid.MustParse(db.Store())
	scan := func(tag byte, limit int) []storage.Item {
		page, err := store.Scan(ctx, storage.Range{Start: []byte{tag}, End: []byte{tag + 1}, Limit: limit})
		if err != nil {
			b.Fatal(err)
		}
		return page.Items
	}
	for _, item := range scan('k', 0) {
		if bytes.Contains(item.Key, []byte("tokens")) {
			binding := crypto.Binding{Store: id, Table: "keyset", Key: item.Key}.Append(nil)
			if keyset, err = crypto.UnwrapKeyset(ctx, benchStore.kek, item.Value[1:], binding); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, item := range scan('c', benchCredentials) {
		binding := crypto.Binding{Store: id, Table: "credential", Key: item.Key, Rev: uint64(item.Rev)}
		keys, bindings = append(keys, item.Key), append(bindings, binding.Append(nil))
	}
	if keyset == nil || len(keys) != benchCredentials {
		b.Fatalf("the store holds %d credentials, want %d", len(keys), benchCredentials)
	}
	return keyset, keys, bindings
}
