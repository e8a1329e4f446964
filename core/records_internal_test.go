package core

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

var update = flag.Bool("update", false, "write the golden store anew: only for a new format, never to make a test pass")

const (
	goldenStore = "testdata/store-1.json" // every table of format 1, as bytes
	goldenKEK   = "testdata/store-1.kek"  // guards nothing but that
)

// goldenRecords are one record for each table, with every field set.
var goldenRecords = struct {
	credential   credentialRecord
	session      sessionRecord
	boot         bootRecord
	integration  integrationRecord
	clientSecret clientSecretsRecord
	roster       rosterRecord
	claim        claimRecord
	externalID   externalIDRecord
}{
	credential: credentialRecord{
		tokenRecord: tokenRecord{
			ID: "01a203eb-3384-7e3b-82c8-3fdb75c2d558", Integration: "acme", Status: StatusValid,
			Variables: map[string]string{"subdomain": "x"}, AccessToken: crypto.NewSecret("access"), TokenType: "Bearer",
			Refreshed: 3, ValidUntil: 4, RefreshToken: crypto.NewSecret("refresh"), NextAttempt: 9,
		},
		ExternalID: "work", Owner: "person-1", Account: accountRecord{"https://acme.example.com", "t1", "s1", "s@example.com"},
		Scopes: []string{"a", "b"}, Created: 1, Updated: 2, ClientID: "client",
		PreviousRefreshToken: crypto.NewSecret("previous"), PreviousUntil: 5,
		Attempt: 6, Intent: &intentRecord{6, []byte{1, 2}, 7, "boot"}, Failures: 8, LastFailure: FailureTransient,
	},
	session: sessionRecord{
		ID: "id", User: "u", Integration: "acme", Phase: sessionDone, Browser: []byte{1}, Created: 1, Expires: 2, Owner: "o",
		Variables: map[string]string{"a": "b"}, ReturnURL: "https://r.example.com", AllowMultiple: true, Into: "i", ExternalID: "x",
		Verifier: crypto.NewSecret("verifier"), Nonce: crypto.NewSecret("nonce"), TokenURL: "https://t.example.com",
		RedirectURI: "https://c.example.com", ClientID: "client", Exchanging: 3, Credential: "c", Code: "denied", Text: "text",
	},
	boot: bootRecord{Boot: "b", Place: "p", Started: 1, Quarantined: true},
	integration: integrationRecord{
		Integration: Integration{
			Name: "acme", DisplayName: "Acme",
			OAuth2: &OAuth2{
				ClientID: "client", ClientAuth: ClientAuthBody, AuthorizationURL: "https://{v}.acme.example.com/a",
				TokenURL: "https://acme.example.com/t", RevocationURL: "https://acme.example.com/r", Issuer: "https://acme.example.com",
				RequireIssuer: true, Scopes: []string{"s"}, ScopeSeparator: ",", AuthorizationParams: map[string]string{"a": "1"},
				AddAccountParams: map[string]string{"b": "2"}, TokenParams: map[string]string{"c": "3"}, PKCE: PKCERequired,
			},
			APIKey:   &APIKey{In: KeyHeader, Name: "X-Key", Prefix: "Token ", TestURL: "https://acme.example.com/me"},
			Identity: Identity{IdentityURL, "https://acme.example.com/me", "sub", "tenant", "name"}, AllowedHosts: []string{"acme.example.com"},
			Variables: map[string]Variable{"v": {Pattern: "[a-z]+", CustomerDomains: true}},
			SentHosts: []SentHost{{"h", SentInToken, []string{"*.acme.example.com"}, true, true}}, SameAccount: SameAccountReject,
			OtherAccount: OtherAccountReplace,
		},
		Created: 1, Updated: 2, Deleting: true,
	},
	clientSecret: clientSecretsRecord{Secrets: []crypto.Secret{crypto.NewSecret("one"), crypto.NewSecret("two")}, Updated: 1},
	roster:       rosterRecord{Count: 3},
	claim:        claimRecord{Credentials: []string{"a", "b"}},
	externalID:   externalIDRecord{Credential: "a"},
}

func writeGolden(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	_ = os.Remove(goldenKEK)
	kek, err := crypto.CreateKEK(goldenKEK)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	db, err := sealed.Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	putGolden(t, db, newTables(db))
	page, err := store.Scan(ctx, storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(page.Items, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenStore, append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// putGolden writes every golden record, and an entry of every index.
func putGolden(t *testing.T, db *sealed.DB, tables tables) {
	t.Helper()
	ctx := t.Context()
	g, tx := goldenRecords, db.Begin(ctx)
	tables.credentials.Put(tx, &g.credential, 0, "u", "k")
	tables.sessions.Put(tx, &g.session, 0, "k")
	tables.boots.Put(tx, &g.boot, 0)
	tables.integrations.Put(tx, &g.integration, 0, "k")
	tables.clientSecrets.Put(tx, &g.clientSecret, 0, "k")
	tables.rosters.Put(tx, &g.roster, 0, "u", "k")
	tables.claims.Put(tx, &g.claim, 0, "u", "i", "k")
	tables.externalIDs.Put(tx, &g.externalID, 0, "u", "i", "k")
	tables.byUser.Mark(tx, "u", "i", "k")
	tables.byIntegration.Mark(tx, "i", "k", "u")
	tables.expiries.Mark(tx, timeKey(time.UnixMilli(1)), "k")
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
}

// openGolden loads the store as it was written when format 1 was made.
func openGolden(t *testing.T) (storage.Store, tables) {
	t.Helper()
	text, err := os.ReadFile(goldenStore)
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
	key, err := os.ReadFile(goldenKEK)
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
	db, err := sealed.Open(t.Context(), store, crypto.KEKs{Tokens: kek, Policy: kek}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return store, newTables(db)
}

// TestGoldenStore reads what was stored when format 1 was made. When it fails, stored data can no longer be read: give
// the record a new format, and go on reading the old one.
func TestGoldenStore(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	_, tables := openGolden(t)
	g := goldenRecords
	same(t, tables.credentials, &g.credential, "u", "k")
	if view, _, err := tables.tokens.Get(t.Context(), "u", "k"); err != nil || !cmp.Equal(g.credential.tokenRecord, view, cmp.Comparer(crypto.Secret.Equal)) {
		t.Errorf("the token of the credential = %+v, %v, want %+v", view, err, g.credential.tokenRecord)
	}
	same(t, tables.sessions, &g.session, "k")
	same(t, tables.boots, &g.boot)
	same(t, tables.integrations, &g.integration, "k")
	same(t, tables.clientSecrets, &g.clientSecret, "k")
	same(t, tables.rosters, &g.roster, "u", "k")
	same(t, tables.claims, &g.claim, "u", "i", "k")
	same(t, tables.externalIDs, &g.externalID, "u", "i", "k")
	for name, scan := range map[string]struct {
		index *sealed.Index
		parts int
	}{"byUser": {tables.byUser, 3}, "byIntegration": {tables.byIntegration, 3}, "expiries": {tables.expiries, 2}} {
		entries, _, err := scan.index.Scan(t.Context(), nil, nil, 0)
		if err != nil || len(entries) != 1 || len(entries[0]) != scan.parts {
			t.Errorf("%s = %q, %v, want one entry of %d parts", name, entries, err, scan.parts)
		}
	}
}

func same[T any](t *testing.T, table *sealed.Table[T], want *T, key ...string) {
	t.Helper()
	got, _, err := table.Get(t.Context(), key...)
	if err != nil {
		t.Errorf("Get(%q): %v", key, err)
		return
	}
	if diff := cmp.Diff(*want, got, cmp.Comparer(crypto.Secret.Equal), cmp.AllowUnexported(credentialRecord{})); diff != "" {
		t.Errorf("the record at %q differs (-written +read):\n%s", key, diff)
	}
}

// TestSwap moves every sealed value of every table to where another one lies, and puts it under a newer revision of its
// own key: none opens (design §3).
func TestSwap(t *testing.T) {
	ctx := t.Context()
	store, tables := openGolden(t)
	page, err := store.Scan(ctx, storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	read := map[byte]func(key ...string) error{
		'c': reader(ctx, tables.credentials), 's': reader(ctx, tables.sessions), 'b': reader(ctx, tables.boots),
		'i': reader(ctx, tables.integrations), 'j': reader(ctx, tables.clientSecrets), 'r': reader(ctx, tables.rosters),
		'a': reader(ctx, tables.claims), 'x': reader(ctx, tables.externalIDs),
	}
	keys := map[byte][]string{
		'c': {"u", "k"}, 's': {"k"}, 'b': nil, 'i': {"k"}, 'j': {"k"}, 'r': {"u", "k"}, 'a': {"u", "i", "k"}, 'x': {"u", "i", "k"},
	}
	other := map[byte][]string{ // the same key but for its last part, or for the user
		'c': {"v", "k"}, 's': {"l"}, 'i': {"l"}, 'j': {"l"}, 'r': {"v", "k"}, 'a': {"v", "i", "k"}, 'x': {"u", "j", "k"},
	}
	var sealedItems []storage.Item
	for _, item := range page.Items {
		if _, known := read[item.Key[0]]; known {
			sealedItems = append(sealedItems, item)
		}
	}
	if len(sealedItems) != len(read) {
		t.Fatalf("%d sealed items, want one for each of %d tables", len(sealedItems), len(read))
	}
	put := func(key, value []byte, rev storage.Rev) {
		t.Helper()
		current, err := store.Get(ctx, key)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
		p := storage.Put{Key: key, Value: value, If: current.Rev, Rev: rev}
		if err := store.Apply(ctx, storage.Batch{Puts: []storage.Put{p}}); err != nil {
			t.Fatal(err)
		}
	}
	refuse := func(what string, err error) {
		t.Helper()
		var corrupt *sealed.CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("%s: Get = %v, want a CorruptError", what, err)
		}
	}
	for _, item := range sealedItems {
		tag := item.Key[0]
		name := string(tag)
		put(item.Key, item.Value, item.Rev+1)
		refuse(name+" under a newer revision", read[tag](keys[tag]...))
		for _, from := range sealedItems {
			if from.Key[0] != tag {
				put(item.Key, from.Value, from.Rev)
				refuse(name+" with the value of table "+string(from.Key[0]), read[tag](keys[tag]...))
			}
		}
		if tag != 'b' {
			moved := bytes.Replace(item.Key, tuple(keys[tag]), tuple(other[tag]), 1)
			if bytes.Equal(moved, item.Key) {
				t.Fatalf("%s: the key was not changed", name)
			}
			put(moved, item.Value, item.Rev)
			refuse(name+" at another key", read[tag](other[tag]...))
		}
		put(item.Key, item.Value, item.Rev)
		if err := read[tag](keys[tag]...); err != nil {
			t.Errorf("%s put back where it was: %v", name, err)
		}
	}
}

// TestSwapBetweenProjectsAndStores puts every sealed value where another project of the store, and another store under the
// same key-encryption key, keep theirs.
func TestSwapBetweenProjectsAndStores(t *testing.T) {
	ctx := t.Context()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	fill := func(store storage.Store, project string) (items []storage.Item) {
		t.Helper()
		db, err := sealed.Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, project, nil)
		if err != nil {
			t.Fatal(err)
		}
		putGolden(t, db, newTables(db))
		page, err := store.Scan(ctx, storage.Range{})
		if err != nil {
			t.Fatal(err)
		}
		raw := uuid.MustParse(db.Project())
		for _, item := range page.Items {
			// Behind the tag stands the project; NULs in it are escaped, so only its first bytes are compared.
			if len(item.Value) > 0 && item.Key[0] != 'm' && bytes.HasPrefix(item.Key[1:], raw[:6]) {
				items = append(items, item)
			}
		}
		return items
	}
	const one, two = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	store, elsewhere := memory.New(), memory.New()
	from := map[string][]storage.Item{"another project": fill(store, one), "another store": fill(elsewhere, two)}
	own := fill(store, two)
	db, err := sealed.Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, two, nil)
	if err != nil {
		t.Fatal(err)
	}
	tables := newTables(db)
	read := map[byte]func() error{
		'c': func() error { return reader(ctx, tables.credentials)("u", "k") }, 's': func() error { return reader(ctx, tables.sessions)("k") },
		'b': func() error { return reader(ctx, tables.boots)() }, 'i': func() error { return reader(ctx, tables.integrations)("k") },
		'j': func() error { return reader(ctx, tables.clientSecrets)("k") }, 'r': func() error { return reader(ctx, tables.rosters)("u", "k") },
		'a': func() error { return reader(ctx, tables.claims)("u", "i", "k") }, 'x': func() error { return reader(ctx, tables.externalIDs)("u", "i", "k") },
	}
	tried := 0
	for where, items := range from {
		for _, item := range items {
			target := slices.IndexFunc(own, func(o storage.Item) bool { return o.Key[0] == item.Key[0] })
			if _, known := read[item.Key[0]]; !known || target < 0 {
				continue
			}
			key := own[target].Key
			current, err := store.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			p := storage.Put{Key: key, Value: item.Value, If: current.Rev, Rev: item.Rev}
			if err := store.Apply(ctx, storage.Batch{Puts: []storage.Put{p}}); err != nil {
				t.Fatal(err)
			}
			var corrupt *sealed.CorruptError
			if err := read[item.Key[0]](); !errors.As(err, &corrupt) {
				t.Errorf("%c of %s: Get = %v, want a CorruptError", item.Key[0], where, err)
			}
			tried++
		}
	}
	if tried != 2*len(read) {
		t.Errorf("%d values were tried, want %d", tried, 2*len(read))
	}
}

func reader[T any](ctx context.Context, table *sealed.Table[T]) func(...string) error {
	return func(key ...string) error {
		_, _, err := table.Get(ctx, key...)
		return err
	}
}

// tuple is how the parts of a key stand in it when they hold no NUL.
func tuple(parts []string) []byte {
	var key []byte
	for _, part := range parts {
		key = append(append(key, part...), 0, 1)
	}
	return key
}
