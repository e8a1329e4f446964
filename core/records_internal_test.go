package core

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

var update = flag.Bool("update", false, "write the newest golden store anew: only for a new format, never to make a test pass")

// The golden stores hold every table and index as bytes: testdata/store-1.json what a program of format 1 wrote, and so
// on. Each has a key of its own, which guards nothing but that. testdata/store-1-used.json is under the key of store-1.
const newestGolden = 4

func goldenPath(name string) string { return "testdata/store-" + name + ".json" }
func goldenKEK(format int) string   { return fmt.Sprintf("testdata/store-%d.kek", format) }

// goldenSpecs are all tables that hold sealed records, as they lie in stores: forever.
var goldenSpecs = []sealed.Spec{
	{Tag: 'c', Name: "credential", Plane: sealed.Tokens, Format: 3},
	{Tag: 's', Name: "session", Plane: sealed.Tokens, Format: 3},
	{Tag: 'b', Name: "boot", Plane: sealed.Tokens, Format: 1},
	{Tag: 't', Name: "redirect", Plane: sealed.Tokens, Format: 1},
	{Tag: 'w', Name: "password", Plane: sealed.Tokens, Format: 1},
	{Tag: 'i', Name: "integration", Plane: sealed.Policy, Format: 3},
	{Tag: 'j', Name: "client secret", Plane: sealed.Policy, Format: 1},
	{Tag: 'r', Name: "roster", Plane: sealed.Policy, Format: 1},
	{Tag: 'a', Name: "claim", Plane: sealed.Policy, Format: 1},
	{Tag: 'x', Name: "external id", Plane: sealed.Policy, Format: 1},
	{Tag: 'g', Name: "configuration", Plane: sealed.Policy, Format: 1},
	{Tag: 'y', Name: "configuration external id", Plane: sealed.Policy, Format: 1},
	{Tag: 'o', Name: "event outbox", Plane: sealed.Policy, Format: 1},
	{Tag: 'l', Name: "event", Plane: sealed.Policy, Format: 1},
	{Tag: 'h', Name: "event mark", Plane: sealed.Policy, Format: 1},
	{Tag: 'v', Name: "lease", Plane: sealed.Policy, Format: 1},
	{Tag: '1', Name: "user", Plane: sealed.Policy, Format: 2},
	{Tag: '2', Name: "switches", Plane: sealed.Policy, Format: 1},
	{Tag: 'q', Name: "revocation", Plane: sealed.Tokens, Format: 1},
	{Tag: '7', Name: "job", Plane: sealed.Policy, Format: 1},
	{Tag: '8', Name: "signing key", Plane: sealed.Policy, Format: 1},
	{Tag: '9', Name: "token issuer", Plane: sealed.Policy, Format: 1},
	{Tag: '0', Name: "policy", Plane: sealed.Policy, Format: 1},
	{Tag: '4', Name: "refresh mark", Plane: sealed.Policy, Format: 1},
	{Tag: '6', Name: "revoke mark", Plane: sealed.Policy, Format: 1},
}

// goldenIndexes are the tags of what has no value.
const goldenIndexes = "unefz3d5+="

// goldenRow is a record or an index entry of a golden store.
type goldenRow struct {
	field string // of tables
	want  any
	put   func(tx *sealed.Tx)
	get   func(ctx context.Context) (any, error)
}

func goldenRecord[T any](field string, table *sealed.Table[T], want T, key ...string) goldenRow {
	return goldenRow{
		field: field, want: want,
		put: func(tx *sealed.Tx) { table.Put(tx, &want, 0, key...) },
		get: func(ctx context.Context) (any, error) {
			got, _, err := table.Get(ctx, key...)
			return got, err
		},
	}
}

func goldenEntry(field string, index *sealed.Index, entry ...string) goldenRow {
	return goldenRow{
		field: field, want: [][]string{entry},
		put: func(tx *sealed.Tx) { index.Mark(tx, entry...) },
		get: func(ctx context.Context) (any, error) {
			entries, _, err := index.Scan(ctx, nil, nil, 0)
			return entries, err
		},
	}
}

// goldenDue is an entry of a queue, and its mark, which a pass leaves.
func goldenDue(field string, queue *due.Queue, key ...string) goldenRow {
	entry := due.Entry{At: goldenMinute, Key: key}
	return goldenRow{
		field: field, want: entry, put: func(tx *sealed.Tx) { queue.Move(tx, 0, goldenMinute, key...) },
		get: func(ctx context.Context) (any, error) {
			var got due.Entry
			err := queue.Scanner(nil).Pass(ctx, goldenMinute.Time(), func(_ context.Context, page []due.Entry) ([]due.Entry, error) {
				got = page[0]
				return nil, nil
			})
			return got, err
		},
	}
}

// goldenMinute is a time at which all golden stores were written already.
const goldenMinute due.Minute = 40_000_000

// goldenRows are what the golden store of a format holds, one row for each table and index that it had.
func goldenRows(format int, ts *tables) []goldenRow {
	g := goldenFormats[format]
	token := goldenRow{
		field: "tokens", want: g.credential.tokenRecord, put: func(*sealed.Tx) {},
		get: func(ctx context.Context) (any, error) {
			got, _, err := ts.tokens.Get(ctx, "u", "k")
			return got, err
		},
	}
	rows := []goldenRow{
		goldenRecord("credentials", ts.credentials, g.credential, "u", "k"), token,
		goldenRecord("sessions", ts.sessions, g.session, "k"),
		goldenRecord("boots", ts.boots, g.boot),
		goldenRecord("integrations", ts.integrations, g.integration, "k"),
		goldenRecord("clientSecrets", ts.clientSecrets, g.clientSecret, "k"),
		goldenRecord("rosters", ts.rosters, g.roster, "u", "k"),
		goldenRecord("claims", ts.claims, g.claim, "u", "i", "k"),
		goldenRecord("externalIDs", ts.externalIDs, g.externalID, "u", "i", "k"),
		goldenEntry("byUser", ts.byUser, "u", "i", "k"),
		goldenEntry("byIntegration", ts.byIntegration, "i", "k", "u"),
		goldenEntry("expiries", ts.expiries, timeKey(time.UnixMilli(1)), "k"),
	}
	if format == 1 {
		return rows
	}
	rows = append(rows,
		goldenRecord("configurations", ts.configurations, g.configuration, "u", "k", "g"),
		goldenRecord("configurationIDs", ts.configurationIDs, g.configurationID, "u", "i", "y", "k"),
		goldenRecord("redirects", ts.redirects, g.redirect, "u", "i", "t"),
		goldenRecord("passwords", ts.passwords, g.password, "u", "k", "g"),
		goldenEntry("byConfig", ts.byConfig, "u", "g", "k"),
		goldenEntry("grants", ts.grants, "z", "u", "k"),
	)
	if format == 2 {
		return rows
	}
	rows = append(rows,
		goldenRecord("users", ts.users, g.user, "u"),
		goldenRecord("switches", ts.switches, g.switches),
		goldenRecord("revocations", ts.revocations, g.revocation, "q"),
		goldenRecord("jobs", ts.jobs, g.job, "p", "k"),
		goldenEntry("disabledUsers", ts.disabledUsers, "u"),
		goldenDue("refreshes", ts.refreshes, "u", "k"),
		goldenDue("revokes", ts.revokes, "q"),
	)
	if format == 3 {
		return rows
	}
	return append(rows,
		goldenRecord("access.Keys", ts.access.Keys, g.signingKey, "k"),
		goldenRecord("access.Issuers", ts.access.Issuers, g.tokenIssuer, "https://i.example.com"),
		goldenRecord("access.Policies", ts.access.Policies, g.policy, "p"),
		goldenEntry("waiting", ts.waiting, g.session.waitingKey("k")...),
		goldenEntry("polled", ts.polled, g.session.polledKey("k")...),
	)
}

// golden is a store with what an engine has on it.
type golden struct {
	store  storage.Store
	db     *sealed.DB
	tables tables
	kernel *kernel.Kernel
	leases *lease.Table
}

func newGolden(t *testing.T, store storage.Store, kek *crypto.LocalKEK, project string) *golden {
	t.Helper()
	db, err := sealed.Open(t.Context(), store, crypto.KEKs{Tokens: kek, Policy: kek}, project, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &golden{
		store: store, db: db, tables: newTables(db, time.Now), kernel: kernel.New(db, time.Now, slog.New(slog.DiscardHandler)),
		leases: lease.New(db, lease.Options{Boot: newID()}),
	}
}

// fill writes what the newest golden store holds. Of the events the second is in the log and the third in the outbox.
func (g *golden) fill(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	tx := g.db.Begin(ctx)
	for _, row := range goldenRows(newestGolden, &g.tables) {
		row.put(tx)
	}
	events := g.kernel.Events()
	first := goldenEvent
	first.Kind = "trimmed"
	events.Append(tx, &first)
	events.Append(tx, &goldenEvent)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if moved, err := events.Sequence(ctx); moved != 2 || err != nil {
		t.Fatalf("Sequence() = %d, %v, want 2 events", moved, err)
	}
	if _, err := events.Trim(ctx, func(ev *kernel.Event) bool { return ev.Kind == "trimmed" }); err != nil {
		t.Fatal(err)
	}
	tx = g.db.Begin(ctx)
	events.Append(tx, &goldenEvent)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if held, err := g.leases.Acquire(ctx, "events"); held == nil || err != nil {
		t.Fatalf("Acquire() = %v, %v, want the lease", held, err)
	}
	for _, queue := range []*due.Queue{g.tables.refreshes, g.tables.revokes} { // which leaves its mark
		pass := queue.Scanner(nil)
		for m := goldenMinute - 40; m < goldenMinute; m++ {
			if err := pass.Pass(ctx, m.Time(), func(context.Context, []due.Entry) ([]due.Entry, error) { return nil, nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func writeGolden(t *testing.T) {
	t.Helper()
	path := goldenKEK(newestGolden)
	_ = os.Remove(path)
	kek, err := crypto.CreateKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	g := newGolden(t, memory.New(), kek, "")
	g.fill(t)
	text, err := json.MarshalIndent(scanAll(t, g.store), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenPath(fmt.Sprint(newestGolden)), append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

func scanAll(t *testing.T, store storage.Store) []storage.Item {
	t.Helper()
	page, err := store.Scan(t.Context(), storage.Range{})
	if err = complete(page.Next != nil, err); err != nil {
		t.Fatal(err)
	}
	return page.Items
}

// loadGolden returns a store as it was written when a format was new, and its key.
func loadGolden(t *testing.T, name string, format int) (storage.Store, *crypto.LocalKEK) {
	t.Helper()
	text, err := os.ReadFile(goldenPath(name))
	if err != nil {
		t.Fatal(err)
	}
	var items []storage.Item
	if err := json.Unmarshal(text, &items); err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	for _, item := range items {
		if err := store.Apply(t.Context(), storage.Batch{Puts: []storage.Put{{Key: item.Key, Value: item.Value, Rev: item.Rev}}}); err != nil {
			t.Fatal(err)
		}
	}
	key, err := os.ReadFile(goldenKEK(format))
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/kek" // a checkout does not keep the mode
	if err := os.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
	kek, err := crypto.OpenKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	return store, kek
}

// TestGoldenStore reads what was stored when each format was new. When it fails, stored data can no longer be read: give
// the record a new format, and go on reading the old ones.
func TestGoldenStore(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	for format := 1; format <= newestGolden; format++ {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			store, kek := loadGolden(t, fmt.Sprint(format), format)
			g := newGolden(t, store, kek, "")
			for _, row := range goldenRows(format, &g.tables) {
				got, err := row.get(t.Context())
				if err != nil {
					t.Errorf("%s: %v", row.field, err)
				} else if diff := cmp.Diff(row.want, got, cmp.Comparer(crypto.Secret.Equal), cmp.AllowUnexported(credentialRecord{})); diff != "" {
					t.Errorf("%s differs (-written +read):\n%s", row.field, diff)
				}
			}
			if format > 1 {
				g.readEvents(t)
			}
		})
	}
}

// readEvents reads what fill leaves of events, and the lease.
func (g *golden) readEvents(t *testing.T) {
	t.Helper()
	ctx, events := t.Context(), g.kernel.Events()
	if held, err := g.leases.Acquire(ctx, "events"); held != nil || err != nil {
		t.Errorf("Acquire(events) = %v, %v, want it to be held by another", held, err)
	}
	if oldest, newest, err := events.Bounds(ctx); oldest != 2 || newest != 2 || err != nil {
		t.Errorf("Bounds() = %d, %d, %v, want 2, 2", oldest, newest, err)
	}
	if moved, err := events.Sequence(ctx); moved != 1 || err != nil {
		t.Errorf("Sequence() = %d, %v, want the one in the outbox", moved, err)
	}
	entries, err := events.Read(ctx, 1, 0)
	if err != nil || len(entries) != 2 {
		t.Fatalf("Read() = %d entries, %v, want 2", len(entries), err)
	}
	for _, entry := range entries {
		want := goldenEvent
		if want.ID = entry.Value.ID; len(want.ID) != 36 { // from where it lay in the outbox
			t.Errorf("event %d has id %q, want a UUID", entry.Number, want.ID)
		}
		if diff := cmp.Diff(want, entry.Value); diff != "" {
			t.Errorf("event %d differs (-written +read):\n%s", entry.Number, diff)
		}
	}
}

// TestGoldenIsWhole keeps anybody from adding a table, an index or a field and leaving it out of the golden store.
func TestGoldenIsWhole(t *testing.T) {
	t.Parallel()
	store, kek := loadGolden(t, fmt.Sprint(newestGolden), newestGolden)
	g := newGolden(t, store, kek, "")
	covered := map[string]bool{}
	for _, row := range goldenRows(newestGolden, &g.tables) {
		covered[row.field] = true
		for _, path := range unset(reflect.ValueOf(row.want), row.field) {
			t.Errorf("%s is left zero in the golden store of format %d: set it there, in a new format if %d is released", path, newestGolden, newestGolden)
		}
	}
	for _, path := range unset(reflect.ValueOf(goldenEvent), "event") {
		t.Errorf("%s is left zero", path)
	}
	for field := range reflect.TypeFor[tables]().Fields() {
		if field.Type == reflect.TypeFor[access.Tables]() {
			for inner := range field.Type.Fields() {
				if !covered[field.Name+"."+inner.Name] {
					t.Errorf("tables.%s.%s is not in the golden store", field.Name, inner.Name)
				}
			}
		} else if !covered[field.Name] {
			t.Errorf("tables.%s is not in the golden store", field.Name)
		}
	}
	tags := map[byte]int{}
	for _, item := range scanAll(t, store) {
		tags[item.Key[0]]++
	}
	for _, tag := range "mpk" { // of package sealed
		delete(tags, byte(tag))
	}
	for _, tag := range goldenIndexes {
		if tags[byte(tag)] != 1 {
			t.Errorf("index %c has %d entries, want 1", tag, tags[byte(tag)])
		}
		delete(tags, byte(tag))
	}
	for _, spec := range goldenSpecs {
		want := 1
		if spec.Tag == 'h' {
			want = 2 // the newest number, and the oldest that is kept
		}
		if tags[spec.Tag] != want {
			t.Errorf("table %s has %d records, want %d", spec.Name, tags[spec.Tag], want)
		}
		delete(tags, spec.Tag)
	}
	for tag := range tags {
		t.Errorf("tag %c is in no list", tag)
	}
}

// Marks and leases are records of other packages: what this program writes must have the fields of the golden ones.
func TestGoldenFieldsElsewhere(t *testing.T) {
	t.Parallel()
	store, kek := loadGolden(t, fmt.Sprint(newestGolden), newestGolden)
	now := newGolden(t, memory.New(), kek, "")
	now.fill(t)
	written := rawRecords(t, rawTables(t, store, kek, ""))
	for tag, records := range rawRecords(t, rawTables(t, now.store, kek, "")) {
		numbers := cmp.Transformer("numbers", func(r rawRecord) []int { return slices.Sorted(maps.Keys(r)) })
		if diff := cmp.Diff(written[tag], records, numbers); diff != "" {
			t.Errorf("fields of %c differ (-golden +written now):\n%s", tag, diff)
		}
	}
}

// unset returns the fields of a record that are zero, at whatever depth.
func unset(v reflect.Value, path string) (paths []string) {
	if v.Type() == reflect.TypeFor[crypto.Secret]() {
		if v.Interface().(crypto.Secret).IsZero() {
			return []string{path}
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.Tag.Get("cbor") != "-" {
				paths = append(paths, unset(value, path+"."+field.Name)...)
			}
		}
	case reflect.Pointer:
		if v.IsNil() {
			return []string{path}
		}
		return unset(v.Elem(), path)
	case reflect.Slice:
		for i := range v.Len() {
			paths = append(paths, unset(v.Index(i), fmt.Sprintf("%s.%d", path, i))...)
		}
		if v.Len() == 0 {
			return []string{path}
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			paths = append(paths, unset(value, fmt.Sprintf("%s.%v", path, key))...)
		}
		if v.Len() == 0 {
			return []string{path}
		}
	default:
		if v.IsZero() {
			return []string{path}
		}
	}
	return paths
}
