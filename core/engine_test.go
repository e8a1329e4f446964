package core_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

func newKEK(t *testing.T) *crypto.LocalKEK {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// wantClean searches an error that goes through no world for secrets.
func wantClean(t *testing.T, err error) {
	t.Helper()
	if text := fmt.Sprintf("%v %+v %#v", err, err, err); leaked(text) != "" {
		t.Errorf("an error holds a secret: %s", text)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	kek := newKEK(t)
	both := crypto.KEKs{Tokens: kek, Policy: kek}
	for name, c := range map[string]struct {
		store storage.Store
		keks  crypto.KEKs
		opts  core.Options
		field string
	}{
		"no store":                       {nil, both, core.Options{}, "store"},
		"no policy key":                  {memory.New(), crypto.KEKs{Tokens: kek}, core.Options{}, "keks.policy"},
		"a callback over plain http":     {memory.New(), both, core.Options{CallbackURL: "http://app.example.com/cb"}, "callbackUrl"},
		"a callback with a query":        {memory.New(), both, core.Options{CallbackURL: "https://app.example.com/cb?x=1"}, "callbackUrl"},
		"a callback that is no URL":      {memory.New(), both, core.Options{CallbackURL: "app"}, "callbackUrl"},
		"a return URL that is a path":    {memory.New(), both, core.Options{ReturnURLs: []string{"/done"}}, "returnUrls"},
		"a project that is no UUID":      {memory.New(), both, core.Options{Project: "mine"}, "project"},
		"an unknown choice":              {memory.New(), both, core.Options{Unselected: "newest"}, "unselected"},
		"a negative time to connect":     {memory.New(), both, core.Options{ConnectTTL: -1}, "connectTtl"},
		"an allowed host without a port": {memory.New(), both, core.Options{PrivateHosts: []string{"localhost"}}, "privateHosts"},
	} {
		_, err := core.Open(t.Context(), c.store, c.keks, &c.opts)
		wantClean(t, err)
		var input *core.InputError
		if !errors.As(err, &input) || input.Field != c.field {
			t.Errorf("%s: Open = %v, want an InputError about %s", name, err, c.field)
		}
	}
}

func TestOpenWrongKEK(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	credential := w.mustConnect("u", "ada", core.ConnectInput{})
	right := w.keks
	for name, keks := range map[string]crypto.KEKs{
		"both":   {Tokens: newKEK(t), Policy: newKEK(t)},
		"tokens": {Tokens: newKEK(t), Policy: right.Policy},
		"policy": {Tokens: right.Tokens, Policy: newKEK(t)},
	} {
		_, err := core.Open(t.Context(), w.store, keks, &w.opts)
		w.wantErr("Open with the wrong key for "+name, err, crypto.ErrWrongKEK)
	}
	if as, err := w.as("u", credential.ID); as != "ada@example.com" {
		t.Errorf("as = %q, %v, want the account untouched", as, err)
	}
}

func TestOpenSeveralProjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.mustConnect("u", "ada", core.ConnectInput{})
	w.opts.Project = "0199f3a0-0000-7000-8000-00000000beef"
	other := w.open()
	if other.Project() != w.opts.Project {
		t.Errorf("Project() = %s, want %s", other.Project(), w.opts.Project)
	}
	page, err := other.User("u").Credentials(t.Context(), core.ListInput{})
	if err != nil || len(page.Credentials) != 0 {
		t.Errorf("the other project lists %v, %v, want nothing of the first", page.Credentials, err)
	}
	if _, err := other.Integration(t.Context(), calendar); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("the other project's Integration = %v, want %v", err, core.ErrNotFound)
	}
	w.opts.Project = ""
	_, err = core.Open(t.Context(), w.store, w.keks, &w.opts)
	_ = w.note(err)
	var several *sealed.ProjectsError
	if !errors.As(err, &several) || len(several.Projects) != 2 {
		t.Errorf("Open without a project = %v, want a ProjectsError with both", err)
	}
	w.opts.Project = w.engine.Project()
	if first := w.open(); len(first.Project()) != 36 {
		t.Error("the first project has no UUID")
	}
}

// Who declares integrations needs only the policy key, and reads no token with it.
func TestSecurity21_PolicyOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(*core.Options) {})
	tokens, policy := newKEK(t), newKEK(t)
	w.store, w.keks = memory.New(), crypto.KEKs{Policy: policy}
	operator := w.open()
	if _, err := operator.CreateIntegration(t.Context(), w.integration(nil)); err != nil {
		t.Fatal(err)
	}
	if err := operator.SetClientSecret(t.Context(), calendar, crypto.NewSecret(clientSecret)); err != nil {
		t.Error(err)
	}
	_, err := operator.User("u").Connect(t.Context(), core.ConnectInput{Integration: calendar})
	w.wantErr("Connect", err, core.ErrNoTokens)
	_, err = operator.User("u").Token(t.Context(), core.Selector{Integration: calendar})
	w.wantErr("Token", err, core.ErrNoTokens)
	_, err = operator.User("u").Credentials(t.Context(), core.ListInput{})
	w.wantErr("Credentials", err, core.ErrNoTokens)

	w.keks = crypto.KEKs{Tokens: tokens, Policy: policy}
	w.engine = w.open() // makes the tokens keyset
	w.mustConnect("u", "ada", core.ConnectInput{})
	if err := operator.DeleteIntegration(t.Context(), calendar); !errors.Is(err, core.ErrInUse) {
		t.Errorf("DeleteIntegration = %v, want %v without reading a credential", err, core.ErrInUse)
	}
}

// TestSecurity21_KEKInStore refuses a key that a backup of the store would take along, however its path is written.
func TestSecurity21_KEKInStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inside := filepath.Join(dir, "store", "keys")
	store, err := badger.Open(filepath.Join(dir, "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := os.MkdirAll(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(inside, filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	bad, err := crypto.CreateKEK(filepath.Join(dir, "elsewhere", "kek"))
	if err != nil {
		t.Fatal(err)
	}
	good, err := crypto.CreateKEK(filepath.Join(dir, "store.kek"))
	if err != nil {
		t.Fatal(err)
	}
	for name, keks := range map[string]crypto.KEKs{"tokens": {Tokens: bad, Policy: good}, "policy": {Tokens: good, Policy: bad}} {
		_, err := core.Open(t.Context(), store, keks, nil)
		wantClean(t, err)
		if !errors.Is(err, core.ErrKEKInStore) {
			t.Errorf("%s: Open = %v, want %v", name, err, core.ErrKEKInStore)
		}
	}
	engine, err := core.Open(t.Context(), store, crypto.KEKs{Tokens: good, Policy: good}, nil)
	if err != nil {
		t.Fatalf("Open with the key beside the store: %v", err)
	}
	_ = engine.Close()
}

// placed is a store that lies somewhere.
type placed struct {
	storage.Store
	place string
}

func (p *placed) Place() string { return p.place }

func TestSecurity22_Quarantine(t *testing.T) {
	t.Parallel()
	store := &placed{memory.New(), "here"}
	w := newWorld(t, store, nil)
	w.mustConnect("u", "ada", core.ConnectInput{})
	if w.engine.Quarantined() {
		t.Fatal("a new store is quarantined")
	}
	open := func(place string, takeOver, want bool) {
		t.Helper()
		store.place, w.opts.TakeOver = place, takeOver
		if w.engine = w.open(); w.engine.Quarantined() != want {
			t.Errorf("at %q, take-over %v: Quarantined() = %v, want %v", place, takeOver, w.engine.Quarantined(), want)
		}
	}
	open("here", false, false)
	open("", false, false) // unknown is no other place
	open("copy", false, true)
	open("copy", false, true) // it lasts
	if as, err := w.as("u", ""); as != "ada@example.com" {
		t.Errorf("as = %q, %v: want a valid token given out in quarantine", as, err)
	}
	w.clock.Advance(2 * 3600e9)
	_, err := w.as("u", "")
	w.wantErr("a token that needs a refresh", err, core.ErrQuarantined)
	if calls := w.provider.Calls().Refresh; calls != 0 {
		t.Errorf("%d refreshes in quarantine, want none", calls)
	}
	open("here", false, false) // put back where it belongs
	open("copy", true, false)
	open("copy", false, false)
	if as, err := w.as("u", ""); as != "ada@example.com" {
		t.Errorf("after the take-over: as = %q, %v", as, err)
	}
	open("here", false, true) // now the first one is the copy
}

// TestSecurity22_BadgerCopy copies a real directory.
func TestSecurity22_BadgerCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kek := newKEK(t)
	keks := crypto.KEKs{Tokens: kek, Policy: kek}
	quarantined := func(path string) bool {
		t.Helper()
		store, err := badger.Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		engine, err := core.Open(t.Context(), store, keks, &core.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(engine.Close(), store.Close()); err != nil {
			t.Fatal(err)
		}
		return engine.Quarantined()
	}
	original, replica := filepath.Join(dir, "original"), filepath.Join(dir, "copy")
	for range 2 {
		if quarantined(original) {
			t.Error("a store that stayed where it was is quarantined")
		}
	}
	if err := os.CopyFS(replica, os.DirFS(original)); err != nil {
		t.Fatal(err)
	}
	if !quarantined(replica) {
		t.Error("a copy is not quarantined")
	}
	if quarantined(original) {
		t.Error("the original is quarantined because of its copy")
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.mustConnect("u", "ada", core.ConnectInput{})
	if err := errors.Join(w.engine.Close(), w.engine.Close()); err != nil {
		t.Fatalf("Close twice = %v", err)
	}
	ctx, u, sel := t.Context(), w.engine.User("u"), core.Selector{Integration: calendar}
	calls := map[string]func() error{
		"Connect":           func() error { _, err := u.Connect(ctx, core.ConnectInput{Integration: calendar}); return err },
		"AddKey":            func() error { _, err := u.AddKey(ctx, core.KeyInput{Integration: calendar}); return err },
		"Credentials":       func() error { _, err := u.Credentials(ctx, core.ListInput{}); return err },
		"Credential":        func() error { _, err := u.Credential(ctx, sel); return err },
		"Disconnect":        func() error { return u.Disconnect(ctx, sel) },
		"Token":             func() error { _, err := u.Token(ctx, sel); return err },
		"TokenSource":       func() error { _, err := u.TokenSource(ctx, sel); return err },
		"Client":            func() error { _, err := u.Client(ctx, sel); return err },
		"BeginConnect":      func() error { _, err := w.engine.BeginConnect(ctx, "handle", "browser"); return err },
		"Callback":          func() error { _, err := w.engine.Callback(ctx, callbackOf("state")); return err },
		"Integration":       func() error { _, err := w.engine.Integration(ctx, calendar); return err },
		"Integrations":      func() error { _, err := w.engine.Integrations(ctx, "", 0); return err },
		"CreateIntegration": func() error { _, err := w.engine.CreateIntegration(ctx, w.integration(nil)); return err },
		"UpdateIntegration": func() error { _, err := w.engine.UpdateIntegration(ctx, w.integration(withRevision)); return err },
		"DeleteIntegration": func() error { return w.engine.DeleteIntegration(ctx, calendar) },
		"SetClientSecret":   func() error { return w.engine.SetClientSecret(ctx, calendar, crypto.NewSecret("x")) },
		"Run":               func() error { return w.engine.Run(ctx) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, core.ErrClosed) {
			t.Errorf("%s after Close = %v, want %v", name, err, core.ErrClosed)
		}
	}
}

func withRevision(in *core.Integration) { in.Revision = 1 }

func callbackOf(state string) core.CallbackInput {
	return core.CallbackInput{Integration: calendar, Browser: "b", Values: map[string][]string{"state": {state}, "code": {"x"}}}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	engine := coretest.NewEngine(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- engine.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

func TestUserIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for name, id := range map[string]string{
		"empty": "", "over-long": strings.Repeat("x", 256), "NUL": "a\x00b", "not UTF-8": "\xff",
	} {
		_, err := w.engine.User(id).Credentials(t.Context(), core.ListInput{})
		w.wantErr(name+" user id", err, core.ErrInvalid)
		_, err = w.connect(id, "ada", core.ConnectInput{})
		w.wantErr(name+" user id", err, core.ErrInvalid)
		_, err = w.as(id, "")
		w.wantErr(name+" user id", err, core.ErrInvalid)
	}
	for _, id := range []string{"a", "a/b", "a b", "ä", strings.Repeat("x", 255), "a%2Fb"} {
		w.mustConnect(id, "ada", core.ConnectInput{})
	}
	if got := len(w.list("a")); got != 1 {
		t.Errorf("user %q lists %d accounts, want only its own", "a", got)
	}
}

// TestCorruptRecord shows what happens when the store's bytes were changed: an error, no panic, nothing written over.
func TestCorruptRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	credential := w.mustConnect("u", "ada", core.ConnectInput{})
	other := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	page, err := w.store.Scan(t.Context(), storage.Range{Start: []byte{'c'}, End: []byte{'d'}})
	if err != nil {
		t.Fatal(err)
	}
	item := page.Items[0]
	for name, value := range map[string][]byte{
		"truncated": item.Value[:len(item.Value)/2], "a single byte": {1}, "another version": append([]byte{9}, item.Value[1:]...),
		"altered": append(append([]byte{}, item.Value[:40]...), make([]byte, len(item.Value)-40)...),
	} {
		current, err := w.store.Get(t.Context(), item.Key)
		if err != nil {
			t.Fatal(err)
		}
		put := storage.Put{Key: item.Key, Value: value, If: current.Rev, Rev: current.Rev + 1}
		if err := w.store.Apply(t.Context(), storage.Batch{Puts: []storage.Put{put}}); err != nil {
			t.Fatal(err)
		}
		_, err = w.as("u", credential.ID)
		var corrupt *sealed.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Table != "credential" {
			t.Errorf("%s: Token = %v, want a CorruptError about the credential", name, err)
		}
		if as, err := w.as("u", other.ID); as != "bob@example.com" {
			t.Errorf("%s: the other account = %q, %v", name, as, err)
		}
	}
}
