package core_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

// readSpy lets a test come between two reads.
type readSpy struct {
	storage.Store

	mu   sync.Mutex // guards what follows
	tag  byte
	then func()
}

// before runs f once, before the next record of a table is read.
func (s *readSpy) before(tag byte, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tag, s.then = tag, f
}

func (s *readSpy) Get(ctx context.Context, key []byte) (storage.Item, error) {
	s.mu.Lock()
	then := s.then
	if key[0] == s.tag {
		s.then = nil
	} else {
		then = nil
	}
	s.mu.Unlock()
	if then != nil {
		then()
	}
	return s.Store.Get(ctx, key)
}

// raw returns the keys of a table as they lie in the store.
func (w *world) raw(tag byte) [][]byte {
	w.Helper()
	page, err := w.store.Scan(w.Context(), storage.Range{Start: []byte{tag}, End: []byte{tag + 1}})
	if err != nil {
		w.Fatal(err)
	}
	keys := make([][]byte, len(page.Items))
	for i, item := range page.Items {
		keys[i] = item.Key
	}
	return keys
}

// forge writes index entries as somebody does who has the store and none of its keys: after skip parts (the project is
// one) of an entry that is there come the given ones.
func (w *world) forge(tag byte, skip int, entries ...[]string) {
	w.Helper()
	keys := w.raw(tag)
	if len(keys) == 0 {
		w.Fatalf("table %c = no entries, want one to forge others from", tag)
	}
	end := []byte{0, 1}
	parts := bytes.SplitAfterN(keys[0], end, skip+1)
	var batch storage.Batch
	for _, entry := range entries {
		key := bytes.Join(parts[:skip], nil)
		for _, part := range entry {
			key = append(append(key, strings.ReplaceAll(part, "\x00", "\x00\xff")...), end...)
		}
		batch.Puts = append(batch.Puts, storage.Put{Key: key, If: storage.Any, Rev: 1})
	}
	if err := w.store.Apply(w.Context(), batch); err != nil {
		w.Fatal(err)
	}
}

// newForgeryWorld is a world with a second integration, called evil, that cannot tell whose accounts it has, and an
// account there.
func newForgeryWorld(t *testing.T) (*world, core.Credential) {
	t.Helper()
	w := newWorld(t, memory.New(), nil)
	w.create(func(in *core.Integration) { in.Name, in.Identity = "evil", core.Identity{} })
	return w, w.mustConnect("u", "bob", core.ConnectInput{Integration: "evil"})
}

// Index entries are not sealed. One that puts an account of an integration under another does not lead there: neither the
// token of a connect, nor a disconnect.
func TestForgedIndexEntry(t *testing.T) {
	t.Parallel()
	t.Run("connect", func(t *testing.T) {
		t.Parallel()
		w, evil := newForgeryWorld(t)
		w.provider.Revoke("bob") // an account that has to be reconnected is what a connect goes into
		w.clock.Advance(2 * time.Hour)
		_, err := w.engine.User("u").Token(t.Context(), core.Selector{Credential: evil.ID})
		w.wantErr("the token of an account that ended", err, core.ErrReconnect)
		w.forge('u', 2, []string{calendar, evil.ID})
		ada, err := w.connect("u", "ada", core.ConnectInput{})
		if err == nil && ada.ID == evil.ID {
			t.Error("connect at one integration = the account of another, want a new one")
		}
		_, err = w.engine.User("u").Token(t.Context(), core.Selector{Credential: evil.ID})
		w.wantErr("its token after the connect at another integration", err, core.ErrReconnect)
		if got := w.credential("u", evil.ID); got.Integration != "evil" || got.Status != core.StatusInvalid {
			t.Errorf("the account = %s of %s, want INVALID of evil", got.Status, got.Integration)
		}
	})
	t.Run("disconnect", func(t *testing.T) {
		t.Parallel()
		w, evil := newForgeryWorld(t)
		w.forge('u', 2, []string{calendar, evil.ID})
		err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Integration: calendar})
		w.wantErr("disconnect at an integration without accounts", err, core.ErrNotConnected)
		if got := w.credential("u", evil.ID); got.Integration != "evil" {
			t.Errorf("the account = one of %s, want it to stay at evil", got.Integration)
		}
		if list := w.list("u"); len(list) != 0 {
			t.Errorf("accounts of the calendar = %d, want 0", len(list))
		}
	})
}

// Entries of another form are errors, or are swept, and nothing panics.
func TestMalformedIndexEntry(t *testing.T) {
	t.Parallel()
	t.Run("list", func(t *testing.T) {
		t.Parallel()
		for _, entry := range [][]string{{}, {"evil"}, {"evil", "x", "y"}, {"evil", ""}} {
			w, _ := newForgeryWorld(t)
			w.forge('u', 2, entry)
			_, err := w.engine.User("u").Credentials(t.Context(), core.ListInput{Integration: "evil"})
			var corrupt *sealed.CorruptError
			if wrong := len(entry) == 1 || len(entry) == 3; errors.As(err, &corrupt) != wrong {
				t.Errorf("accounts with entry %q = error %v, want CorruptError: %t", entry, w.note(err), wrong)
			}
		}
	})
	t.Run("sweep", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		if _, err := w.engine.User("u").Connect(t.Context(), core.ConnectInput{Integration: calendar, Browser: "b"}); err != nil {
			t.Fatal(err)
		}
		w.forge('e', 1, []string{}, []string{"\x00"}, []string{"\x00", "x", "y"}, []string{"\x00", "x"})
		w.clock.Advance(48 * time.Hour)
		if err := w.engine.Sweep(t.Context()); err != nil {
			t.Errorf("sweep = %v, want no error", w.note(err))
		}
		if sessions, entries := len(w.raw('s')), len(w.raw('e')); sessions != 0 || entries != 0 {
			t.Errorf("what is left = %d sessions and %d entries, want nothing", sessions, entries)
		}
	})
}

// Entries that lead nowhere hide no account from the rules.
func TestDanglingIndexEntries(t *testing.T) {
	t.Parallel()
	w, evil := newForgeryWorld(t)
	var entries [][]string
	for i := range 150 {
		entries = append(entries, []string{"evil", fmt.Sprintf("00000000-0000-7000-8000-%012d", i)})
	}
	w.forge('u', 2, entries...)
	_, err := w.connect("u", "ada", core.ConnectInput{Integration: "evil"})
	w.wantErr("a second account that was not asked for", err, core.ErrAlreadyConnected)
	got, err := w.engine.User("u").Credential(t.Context(), core.Selector{Integration: "evil"})
	if err != nil || got.ID != evil.ID {
		t.Errorf("the only account = %s, %v, want %s", got.ID, w.note(err), evil.ID)
	}
}

// Without keys nobody sees from the store that two users have the same account, or use the same external id.
func TestBlindIndexDiffersByUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for _, user := range []string{"u", "v"} {
		w.mustConnect(user, "ada", core.ConnectInput{ExternalID: "label"})
	}
	for _, tag := range []byte{'a', 'x'} {
		tails := map[string]int{}
		for _, key := range w.raw(tag) {
			_, tail, _ := bytes.Cut(key, []byte(calendar+"\x00\x01"))
			tails[string(tail)]++
		}
		if len(tails) != 2 {
			t.Errorf("table %c = %d different look-up tokens, want 2", tag, len(tails))
		}
	}
}

// No external id, as it is stored and given back, means another account; nor does an id with space around it.
func TestSecurity9_ExternalIDsMeanOneAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	boss := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "boss"})
	for _, id := range []string{"ext:ext:boss", " ext: ext:boss", "ext:ext:ext:boss"} {
		_, err := w.connect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: id})
		w.wantInput("external id "+id, err, "externalId")
	}
	for _, id := range []string{"boss", "ext:boss", " ext: boss "} {
		got, err := w.engine.User("u").Credential(t.Context(), core.Selector{Integration: calendar, Credential: id})
		if err != nil || got.ID != boss.ID {
			t.Errorf("credential %q = %s, %v, want %s", id, got.ID, w.note(err), boss.ID)
		}
	}
	// bob's external id is ada's id.
	bob, err := w.connect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: boss.ID})
	for _, id := range []string{boss.ID, " " + boss.ID, boss.ID + "\n", strings.ToUpper(boss.ID)} {
		got, lookup := w.engine.User("u").Credential(t.Context(), core.Selector{Integration: calendar, Credential: id})
		if lookup != nil || got.ID != boss.ID {
			t.Errorf("credential %q = %s, %v, want %s; bob is %s, %v", id, got.ID, w.note(lookup), boss.ID, bob.ID, w.note(err))
		}
	}
}
