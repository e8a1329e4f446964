package access_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/permission"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

const ttl = 5 * time.Second

// counted is a store that counts what it reads, and may be away.
type counted struct {
	storage.Store
	reads atomic.Int64
	away  atomic.Bool
}

func (s *counted) read() error {
	if s.reads.Add(1); s.away.Load() {
		return storage.ErrUnavailable
	}
	return nil
}

func (s *counted) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if err := s.read(); err != nil {
		return storage.Item{}, err
	}
	return s.Store.Get(ctx, key)
}

func (s *counted) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	if err := s.read(); err != nil {
		return storage.Page{}, err
	}
	return s.Store.Scan(ctx, r)
}

// place is a door with what stands around it.
type place struct {
	*testing.T
	store  *counted
	kernel *kernel.Kernel
	tables access.Tables
	door   *access.Door

	mu  sync.Mutex // guards the next two
	now time.Time
	log bytes.Buffer
}

func (p *place) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *place) advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

func (p *place) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// told returns how often something stands in the log.
func (p *place) told(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.log.String(), text)
}

func newPlace(t *testing.T) *place {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	p := &place{T: t, store: &counted{Store: memory.New()}, now: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)}
	db, err := sealed.Open(t.Context(), p.store, crypto.KEKs{Policy: kek}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	p.kernel, p.tables = kernel.New(db, p.clock, slog.New(slog.NewTextHandler(p, nil))), access.NewTables(db)
	if p.door, err = access.New(p.kernel, p.tables, access.Options{Transport: http.DefaultTransport, MaxLifetime: 24 * time.Hour, TTL: ttl}); err != nil {
		t.Fatal(err)
	}
	return p
}

func testKey(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))
}

// key is a signing key as it is stored.
func (p *place) key(i int) *access.Key {
	p.Helper()
	der, err := x509.MarshalPKIXPublicKey(testKey(i).Public())
	if err != nil {
		p.Fatal(err)
	}
	id, err := usertoken.KeyID(testKey(i).Public())
	if err != nil {
		p.Fatal(err)
	}
	return &access.Key{ID: id, PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), Created: p.clock().UnixMilli()}
}

// add declares a signing key.
func (p *place) add(i int) storage.Rev {
	p.Helper()
	key := p.key(i)
	rev, err := p.door.Keys.Put(p.Context(), key.ID, key, 0, kernel.Event{Kind: "signing_key.added"})
	if err != nil {
		p.Fatal(err)
	}
	return rev
}

// mint signs a token that is good for long.
func (p *place) mint(i int, in usertoken.MintInput) string {
	p.Helper()
	in.Project, in.User, in.Now, in.Lifetime = p.kernel.DB().Project(), "ada", p.clock(), 12*time.Hour
	token, err := usertoken.Mint(testKey(i), in)
	if err != nil {
		p.Fatal(err)
	}
	return token
}

func (p *place) want(what, token string, want error) {
	p.Helper()
	if _, err := p.door.Judge(p.Context(), token); !errors.Is(err, want) {
		p.Errorf("%s: Judge() = %v, want %v", what, err, want)
	}
}

// stored writes a record as another program would, that is not asked whether it means anything.
func stored[T any](p *place, table *sealed.Table[T], record T, key string) storage.Rev {
	p.Helper()
	tx := p.kernel.DB().Begin(p.Context())
	rev := table.Put(tx, &record, 0, key)
	if err := tx.Commit(p.Context()); err != nil {
		p.Fatal(err)
	}
	return rev
}

// damage makes the record of a table that has a name in its key one that does not open.
func (p *place) damage(tag byte, name string) {
	p.Helper()
	page, err := p.store.Scan(p.Context(), storage.Range{Start: []byte{tag}, End: []byte{tag + 1}})
	if err != nil {
		p.Fatal(err)
	}
	for _, item := range page.Items {
		if bytes.Contains(item.Key, []byte(name)) {
			change := storage.Put{Key: item.Key, Value: bytes.Repeat([]byte{1}, len(item.Value)), If: item.Rev, Rev: item.Rev + 1}
			if err := p.store.Apply(p.Context(), storage.Batch{Puts: []storage.Put{change}}); err != nil {
				p.Fatal(err)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.want("without keys", p.mint(0, usertoken.MintInput{}), usertoken.ErrToken)
	p.door.Forget()
	p.add(0)
	p.door.Forget()
	for name, tt := range map[string]struct {
		in  usertoken.MintInput
		may map[permission.Permission]bool // of ada's own account
	}{
		"no claim":   {usertoken.MintInput{}, map[permission.Permission]bool{permission.Proxy: true, permission.CredentialToken: false}},
		"a claim":    {usertoken.MintInput{Permissions: map[string]any{"integration:mail": []string{"proxy"}}}, map[permission.Permission]bool{permission.Proxy: true, permission.Sync: false}},
		"nothing":    {usertoken.MintInput{Permissions: map[string]any{}}, map[permission.Permission]bool{permission.Proxy: false}},
		"the person": {usertoken.MintInput{Person: "pat", Permissions: `{"integration:*": {"credential:owner": ["proxy"]}}`}, map[permission.Permission]bool{permission.Proxy: true}},
		"no person":  {usertoken.MintInput{Permissions: `{"integration:*": {"credential:owner": ["proxy"]}}`}, map[permission.Permission]bool{permission.Proxy: false}},
	} {
		tt.in.Claims = map[string]any{"jti": "t"}
		v, err := p.door.Judge(t.Context(), p.mint(0, tt.in))
		if err != nil || v.User != "ada" || v.Person != tt.in.Person || v.TokenID != "t" {
			t.Errorf("%s: Judge() = %+v, %v, want ada, person %q, token t", name, v, err, tt.in.Person)
			continue
		}
		for granted, want := range tt.may {
			got := v.Permissions.Allows(granted, permission.Target{
				Level: permission.LevelCredential, Integration: "mail", Credential: "0192f0c1-7e3a-7000-8000-000000000001", Owner: "pat",
			})
			if got != want {
				t.Errorf("%s: allows %s = %t, want %t", name, granted, got, want)
			}
		}
	}
	var malformed *permission.Error
	_, err := p.door.Judge(t.Context(), p.mint(0, usertoken.MintInput{Permissions: map[string]any{"galaxy:*": true}}))
	if !errors.As(err, &malformed) || errors.Is(err, usertoken.ErrToken) {
		t.Errorf("Judge(a claim that is malformed) = %v, want a permission.Error and no ErrToken", err)
	}
}

// What was read is used for TTL, by however many at once, and read again then; and at once where it is forgotten.
func TestTTL(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	rev := p.add(0)
	token, reads := p.mint(0, usertoken.MintInput{}), func() int64 { return p.store.reads.Swap(0) }
	reads()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() { p.want("the first", token, nil) })
	}
	wg.Wait()
	if got := reads(); got != 3 {
		t.Errorf("64 tokens at once cost %d reads, want 3", got)
	}
	p.advance(ttl - 1)
	p.store.away.Store(true)
	p.want("until the end", token, nil)
	if got := reads(); got != 0 {
		t.Errorf("a token within TTL cost %d reads, want none", got)
	}
	p.advance(1)
	p.want("while the store is away", token, storage.ErrUnavailable)
	p.store.away.Store(false)
	p.want("when it is back", token, nil)
	// Another process revokes the key: what was verified under it goes with it.
	tx := p.kernel.DB().Begin(t.Context())
	p.tables.Keys.Delete(tx, rev, p.key(0).ID)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.want("within TTL of a revocation elsewhere", token, nil)
	p.advance(ttl)
	p.want("after it", token, usertoken.ErrToken)
	p.add(0)
	p.want("declared again, elsewhere", token, usertoken.ErrToken)
	p.door.Forget()
	p.want("declared again, here", token, nil)
	// A clock that goes back is no reason to go on.
	p.advance(-time.Minute)
	reads()
	p.want("a minute back", token, nil)
	if got := reads(); got != 3 {
		t.Errorf("a clock that went back cost %d reads, want 3", got)
	}
}

// What a newer program wrote, or what is damaged, keeps out the tokens that need it and no others. It is told once.
func TestUselessRecords(t *testing.T) {
	t.Parallel()
	const line = "cannot be used, so tokens that need it are refused"
	for name, tt := range map[string]struct {
		spoil func(p *place)
		lost  func(p *place) string // the token that needs it
	}{
		"a policy of a newer program": {func(p *place) {
			stored(p, p.tables.Policies, access.Policy{Name: "new", Document: []byte(`{"galaxy:*": true}`)}, "new")
		}, func(p *place) string { return p.mint(0, usertoken.MintInput{Policy: "new"}) }},
		"a damaged policy": {func(p *place) {
			stored(p, p.tables.Policies, access.Policy{Name: "new", Document: []byte(`{"integration:*": true}`)}, "new")
			p.damage('0', "new")
		}, func(p *place) string { return p.mint(0, usertoken.MintInput{Policy: "new"}) }},
		"a key of a newer program": {func(p *place) {
			key := *p.key(1)
			key.PublicKey = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
			stored(p, p.tables.Keys, key, key.ID)
		}, func(p *place) string { return p.mint(1, usertoken.MintInput{}) }},
		"a damaged key": {func(p *place) {
			p.add(1)
			p.damage('8', p.key(1).ID)
		}, func(p *place) string { return p.mint(1, usertoken.MintInput{}) }},
		"an issuer of a newer program": {func(p *place) {
			stored(p, p.tables.Issuers, access.Issuer{
				Issuer: "https://i.example.com", Audiences: []string{"a"}, KeysURL: "https://i.example.com/keys", Algorithms: []string{"ML-DSA-65"},
			}, "https://i.example.com")
		}, func(p *place) string {
			return p.mint(1, usertoken.MintInput{Claims: map[string]any{"iss": "https://i.example.com"}})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.add(0)
			stored(p, p.tables.Policies, access.Policy{Name: "old", Document: []byte(`{"integration:*": true}`)}, "old")
			tt.spoil(p)
			for round := range 3 {
				p.want("the one that needs it", tt.lost(p), usertoken.ErrToken)
				p.want("another one", p.mint(0, usertoken.MintInput{}), nil)
				p.want("another policy", p.mint(0, usertoken.MintInput{Policy: "old"}), nil)
				if got := p.told(line); got != 1 {
					t.Errorf("round %d: it was told %d times, want once", round, got)
				}
				p.advance(ttl)
			}
		})
	}
}

// Two processes that each add the last key leave one too many: what is left out came last.
func TestTooManyKeys(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range access.MostKeys + 3 {
		stored(p, p.tables.Keys, *p.key(i), p.key(i).ID)
		p.advance(time.Millisecond)
	}
	for i := range access.MostKeys + 3 {
		var want error
		if i >= access.MostKeys {
			want = usertoken.ErrToken
		}
		p.want(fmt.Sprint("key ", i), p.mint(i, usertoken.MintInput{}), want)
	}
}
