package core_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
)

// spyStore counts reads, and lets a test come between a write and the store.
type spyStore struct {
	storage.Store
	reads atomic.Int64

	mu    sync.Mutex // guards apply
	apply func(b storage.Batch, next func() error) error
}

func (s *spyStore) Get(ctx context.Context, key []byte) (storage.Item, error) {
	s.reads.Add(1)
	return s.Store.Get(ctx, key)
}

func (s *spyStore) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	s.reads.Add(1)
	return s.Store.GetMany(ctx, keys)
}

func (s *spyStore) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	s.reads.Add(1)
	return s.Store.Scan(ctx, r)
}

func (s *spyStore) Apply(ctx context.Context, b storage.Batch) error {
	next := func() error { return s.Store.Apply(ctx, b) }
	s.mu.Lock()
	apply := s.apply
	s.mu.Unlock()
	if apply == nil {
		return next()
	}
	return apply(b, next)
}

// intercept has every write go through f; nil ends that.
func (s *spyStore) intercept(f func(b storage.Batch, next func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply = f
}

// token returns the token of a credential.
func (w *world) token(user, credential string) (core.Token, error) {
	w.Helper()
	token, err := w.engine.User(user).Token(w.Context(), core.Selector{Integration: calendar, Credential: credential})
	return token, w.note(err)
}

// mustToken is token for what has to work.
func (w *world) mustToken(user, credential string) core.Token {
	w.Helper()
	token, err := w.token(user, credential)
	if err != nil {
		w.Fatalf("token of %s: %v", credential, err)
	}
	return token
}

// stored reads a credential as it lies in the store.
func (w *world) stored(user, credential string) core.StoredCredential {
	w.Helper()
	record, err := w.engine.StoredCredential(w.Context(), user, credential)
	if err != nil {
		w.Fatal(err)
	}
	return record
}

// credential reads what the public API says of a credential.
func (w *world) credential(user, id string) core.Credential {
	w.Helper()
	credential, err := w.engine.User(user).Credential(w.Context(), core.Selector{Credential: id})
	if err != nil {
		w.Fatal(err)
	}
	return credential
}

// wantRefreshes fails the test unless so many refreshes have reached the provider.
func (w *world) wantRefreshes(what string, want int) {
	w.Helper()
	if got := w.provider.Calls().Refresh; got != want {
		w.Errorf("refreshes at the provider %s = %d, want %d", what, got, want)
	}
}

// refresh sets what goes wrong with refreshes.
func (w *world) refresh(fault coretest.Fault) {
	w.provider.Set(func(sw *coretest.Switches) { sw.Refresh = fault })
}

// held waits until n requests are kept waiting at the provider.
func (w *world) held(n int) {
	w.Helper()
	if err := w.provider.WaitForCalls(w.Context(), func(c coretest.Calls) bool { return c.Waiting == n }); err != nil {
		w.Fatal(err)
	}
}

// rotate makes the provider as strict as they come.
func (w *world) rotate() {
	w.provider.Set(func(sw *coretest.Switches) { sw.Rotate, sw.ReuseRevokes = true, true })
}

// together runs n callers at once and waits for all of them.
func together(n int, call func(i int)) {
	var callers sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		callers.Go(func() {
			<-start
			call(i)
		})
	}
	close(start)
	callers.Wait()
}

// stores are those that the tests of what must not be lost run on.
var stores = map[string]func(*testing.T) storage.Store{
	"memory": func(*testing.T) storage.Store { return memory.New() },
	"badger": func(t *testing.T) storage.Store {
		store, err := badger.Open(t.TempDir(), &badger.Options{MinFree: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store
	},
}

// addKey makes an integration called keys and connects an account with a key there.
func (w *world) addKey(place core.APIKey, key, login string) string {
	w.Helper()
	place.TestURL = w.provider.APIURL() + "/me"
	_, err := w.engine.CreateIntegration(w.Context(), core.Integration{
		Name: "keys", APIKey: &place, AllowedHosts: []string{w.provider.URL()},
		Identity: core.Identity{Source: core.IdentityTest, SubjectPath: "subject"},
	})
	if err != nil && !errors.Is(err, core.ErrExists) {
		w.Fatal(err)
	}
	w.provider.AddKey(key, login)
	credential, err := w.engine.User("u").AddKey(w.Context(), core.KeyInput{
		Integration: "keys", Key: crypto.NewSecret(key), AllowMultiple: true,
	})
	if err != nil {
		w.Fatal(w.note(err))
	}
	return credential.ID
}
