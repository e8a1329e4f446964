package core

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/postgres/pgtest"
	"github.com/polycred/polycred/storage/sealed"
)

// benchAccount is a credential of a store that was seeded.
type benchAccount struct {
	user *User
	sel  Selector
}

// benchAccounts are all credentials of an engine's store.
func benchAccounts(tb testing.TB, e *Engine) (accounts []benchAccount) {
	tb.Helper()
	var after []string
	for more := true; more; {
		rows, rest, err := e.tables.credentials.Keys(context.Background(), nil, after, 10_000)
		if err != nil {
			tb.Fatal(err)
		}
		for _, row := range rows {
			accounts = append(accounts, benchAccount{e.User(row.Key[0]), Selector{Integration: "googleCalendar", Credential: row.Key[1]}})
		}
		if more = rest; more {
			after = rows[len(rows)-1].Key
		}
	}
	return accounts
}

// benchSizes are how many credentials lie in the stores of BenchmarkToken.
var benchSizes = []int{1_000, 100_000, 1_000_000}

// BenchmarkToken is the hot path: a valid token of one credential among many, named by its id.
func BenchmarkToken(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("of=%d", n), func(b *testing.B) {
			dir, kek := listStore(b, n)
			store, err := badger.Open(dir, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = store.Close() }()
			benchmarkToken(b, store, kek)
		})
	}
}

func benchmarkToken(b *testing.B, store storage.Store, kek *crypto.LocalKEK) {
	ctx := context.Background()
	e, err := Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	accounts := benchAccounts(b, e)
	random := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		a := &accounts[random.IntN(len(accounts))]
		if _, err := a.user.Token(ctx, a.sel); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTokenFloor is what the parts of Token cost by themselves on the same data: a Get of Badger, and Tink's
// decryption of the same bytes with the same associated data.
func BenchmarkTokenFloor(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("of=%d", n), func(b *testing.B) {
			dir, kek := listStore(b, n)
			store, err := badger.Open(dir, nil)
			if err != nil {
				b.Fatal(err)
			}
			floor := newFloor(b, store, kek)
			if err := store.Close(); err != nil {
				b.Fatal(err)
			}
			db, err := openBare(dir)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			random := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				i := random.IntN(len(floor.keys))
				err := db.View(func(txn *badgerdb.Txn) error {
					item, err := txn.Get(floor.keys[i])
					if err != nil {
						return err
					}
					return item.Value(func(value []byte) error {
						_, err := floor.keyset.Open(value[9:], floor.bindings[i]) // behind the revision and the envelope's version
						return err
					})
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTokenPostgres is BenchmarkToken on PostgreSQL.
func BenchmarkTokenPostgres(b *testing.B) {
	store, kek, _ := postgresStore(b)
	benchmarkToken(b, store, kek)
}

// BenchmarkTokenPostgresFloor is what pgx and Tink take for the same bytes.
func BenchmarkTokenPostgresFloor(b *testing.B) {
	ctx := context.Background()
	store, kek, dsn := postgresStore(b)
	floor := newFloor(b, store, kek)
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	random := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		i := random.IntN(len(floor.keys))
		var value []byte
		var rev int64
		err := pool.QueryRow(ctx, "SELECT v, rev FROM polycred_records WHERE k = $1", floor.keys[i]).Scan(&value, &rev)
		if err == nil {
			_, err = floor.keyset.Open(value[1:], floor.bindings[i]) // behind the envelope's version
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// postgresStore is a database with 10,000 credentials, and where it is.
func postgresStore(b *testing.B) (store storage.Store, kek *crypto.LocalKEK, dsn string) {
	b.Helper()
	dsn = pgtest.DSN(b)
	store = pgtest.OpenDSN(b, dsn, nil)
	kek, err := crypto.NewKEK()
	if err == nil {
		_, err = seedStore(store, kek, 10_000, benchUser)
	}
	if err != nil {
		b.Fatal(err)
	}
	return store, kek, dsn
}

// floor is everything that is not part of the floor itself: keys, associated data, the opened keyset.
type floor struct {
	keyset         *crypto.Keyset
	keys, bindings [][]byte
}

func newFloor(b *testing.B, store storage.Store, kek *crypto.LocalKEK) (f floor) {
	b.Helper()
	ctx := context.Background()
	db, err := sealed.Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, "", nil)
	if err != nil {
		b.Fatal(err)
	}
	id := uuid.MustParse(db.Store())
	scan := func(r storage.Range) storage.Page {
		page, err := store.Scan(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		return page
	}
	for _, item := range scan(storage.Range{Start: []byte{'k'}, End: []byte{'k' + 1}}).Items {
		if bytes.Contains(item.Key, []byte("tokens")) {
			binding := crypto.Binding{Store: id, Table: "keyset", Key: item.Key}.Append(nil)
			if f.keyset, err = crypto.UnwrapKeyset(ctx, kek, item.Value[1:], binding); err != nil {
				b.Fatal(err)
			}
		}
	}
	for after := []byte{'c'}; after != nil; {
		page := scan(storage.Range{Start: []byte{'c'}, End: []byte{'c' + 1}, After: after, Limit: 10_000, KeysOnly: true})
		for _, item := range page.Items {
			binding := crypto.Binding{Store: id, Table: "credential", Key: item.Key, Rev: uint64(item.Rev)}
			f.keys, f.bindings = append(f.keys, item.Key), append(f.bindings, binding.Append(nil))
		}
		after = page.Next
	}
	if f.keyset == nil || len(f.keys) == 0 {
		b.Fatal("the store holds no credentials")
	}
	return f
}

// openEnv names, in the environment of a test binary that was started for it, the store that TestOpenChild opens.
const openEnv = "POLYCRED_BENCH_OPEN"

// BenchmarkOpen opens a store with a million credentials in a process of its own, and reads 100,000 tokens: how long
// opening takes, and how much anonymous memory the process has then.
func BenchmarkOpen(b *testing.B) {
	dir, _ := listStore(b, 1_000_000)
	var seconds, mib float64
	n := 0
	for b.Loop() {
		n++
		cmd := exec.Command(os.Args[0], "-test.run=^TestOpenChild$", "-test.v")
		cmd.Env = append(os.Environ(), openEnv+"="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if _, figures, ok := strings.Cut(line, "opened: "); ok {
				fields := strings.Fields(figures)
				s, err1 := strconv.ParseFloat(fields[0], 64)
				m, err2 := strconv.ParseFloat(fields[1], 64)
				if err1 != nil || err2 != nil {
					b.Fatalf("figures %q: %v, %v", figures, err1, err2)
				}
				seconds, mib = seconds+s, mib+m
			}
		}
	}
	b.ReportMetric(seconds/float64(n), "s/open")
	b.ReportMetric(mib/float64(n), "MiB-anonymous")
}

// TestOpenChild is the process of BenchmarkOpen. By itself it does nothing.
func TestOpenChild(t *testing.T) {
	dir := os.Getenv(openEnv)
	if dir == "" {
		return
	}
	ctx := context.Background()
	kek, err := crypto.OpenKEK(dir + ".kek")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	store, err := badger.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	e, err := Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	took := time.Since(began)
	var after []string
	reads := 0
	for more := true; more; { // one of ten, in all places of the store
		rows, rest, err := e.tables.credentials.Keys(ctx, nil, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(rows); i += 10 {
			if _, err := e.User(rows[i].Key[0]).Token(ctx, Selector{Credential: rows[i].Key[1]}); err != nil {
				t.Fatal(err)
			}
			reads++
		}
		if more = rest; more {
			after = rows[len(rows)-1].Key
		}
	}
	if reads != 100_000 {
		t.Errorf("%d tokens were read, want 100,000", reads)
	}
	t.Logf("opened: %.4f %.1f", took.Seconds(), anonymous(t))
}

// anonymous is this process's anonymous memory in MiB, as Linux counts it.
func anonymous(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if kib, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseFloat(strings.Fields(kib)[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			return n / 1024
		}
	}
	t.Fatal("/proc/self/status has no RssAnon")
	return 0
}
