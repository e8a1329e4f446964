package core_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// addIndexKey adds a key to the blind index, as an operator's rotation does, and waits until it is used.
func (w *world) addIndexKey() {
	w.Helper()
	w.addIndexKeyNow()
	w.clock.Advance(10 * time.Second)
}

// addIndexKeyNow adds a key that engines which are open do not know yet.
func (w *world) addIndexKeyNow() {
	w.Helper()
	i := slices.IndexFunc(w.items(), func(item storage.Item) bool {
		return item.Key[0] == 'k' && bytes.Contains(item.Key, []byte("index"))
	})
	if i < 0 {
		w.Fatal("there is no keyset of the index")
	}
	item := w.items()[i]
	binding := crypto.Binding{Store: w.storeID(), Table: "keyset", Key: item.Key}.Append(nil)
	index, err := crypto.UnwrapIndex(w.Context(), w.keks.Policy, item.Value[1:], binding)
	if err != nil {
		w.Fatal(err)
	}
	if index, _, err = index.Add(); err != nil {
		w.Fatal(err)
	}
	wrapped, err := index.Wrap(w.Context(), w.keks.Policy, binding)
	if err != nil {
		w.Fatal(err)
	}
	put := storage.Put{Key: item.Key, Value: append(item.Value[:1:1], wrapped...), If: item.Rev, Rev: item.Rev + 1}
	if err := w.store.Apply(w.Context(), storage.Batch{Puts: []storage.Put{put}}); err != nil {
		w.Fatal(err)
	}
}

// For a moment one engine knows a new key of the blind index and another does not: what the other leaves behind under the
// new key is not believed, and stands in nobody's way.
func TestIndexKeyThatOneEngineDoesNotKnow(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	work := core.Selector{Integration: calendar, Credential: "work"}

	t.Run("an external id that moved", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		w.addIndexKeyNow()
		stale, fresh := w.engine.User("u"), w.open().User("u")
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		if _, err := fresh.Rename(ctx, core.Selector{Credential: ada.ID}, core.RenameInput{ExternalID: new("work")}); err != nil {
			t.Fatal(err)
		}
		if _, err := stale.Rename(ctx, core.Selector{Credential: ada.ID}, core.RenameInput{ExternalID: new("old")}); err != nil {
			t.Fatal(err)
		}
		_, err := fresh.Credential(ctx, work)
		w.wantErr("the id that it had", err, core.ErrNotFound)
		bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: "work"})
		if got, err := stale.Credential(ctx, work); err != nil || got.ID != bob.ID {
			t.Errorf("stale: work = %s, %v, want %s", got.ID, err, bob.ID)
		}
		if got, err := fresh.Credential(ctx, work); err == nil && got.ID != bob.ID {
			t.Errorf("fresh: work = %s, want %s, or nothing yet", got.ID, bob.ID)
		}
		if err := stale.Disconnect(ctx, core.Selector{Credential: bob.ID}); err != nil {
			t.Fatal(err)
		}
		_, err = fresh.Credential(ctx, work)
		w.wantErr("the id of an account that is gone", err, core.ErrNotFound)
	})
	t.Run("an account that went", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		w.addIndexKeyNow()
		stale := w.engine
		w.engine = w.open()
		ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
		if err := stale.User("u").Disconnect(ctx, core.Selector{Credential: ada.ID}); err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(10 * time.Second)
		again := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
		if got, err := w.engine.User("u").Credential(ctx, work); err != nil || got.ID != again.ID {
			t.Errorf("work = %s, %v, want %s", got.ID, err, again.ID)
		}
		if shared, err := w.engine.GrantShared(ctx, "u", again.ID); shared || err != nil {
			t.Errorf("is its grant shared = %t, %v, want false: the other one is gone", shared, err)
		}
	})
}

// An integration that allows an account several times does not allow it without end.
func TestAccountAllowedManyTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.create(func(in *core.Integration) {
		in.Name, in.OAuth2, in.SameAccount = "mail", nil, core.SameAccountAllow
		in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
		in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject"}
	})
	w.provider.AddKey("key-ada", "ada")
	u, key := w.engine.User("u"), core.KeyInput{Integration: "mail", Key: crypto.NewSecret("key-ada"), AllowMultiple: true}
	for i := range 257 {
		_, err := u.AddKey(t.Context(), key)
		if want := i == 256; (err != nil) != want {
			t.Fatalf("AddKey %d: %v, want an error = %t", i+1, err, want)
		}
		if err != nil {
			w.wantErr("one too many", err, core.ErrTooMany)
		}
	}
	// Where it is allowed no longer, none of them is chosen silently.
	in, err := w.engine.Integration(t.Context(), "mail")
	if err != nil {
		t.Fatal(err)
	}
	in.SameAccount = core.SameAccountUpdate
	if _, err := w.engine.UpdateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	_, err = u.AddKey(t.Context(), key)
	w.wantErr("the same account, which several stand for", err, core.ErrAmbiguous)
}

// storeID is the UUID of the store, which is part of every binding.
func (w *world) storeID() uuid.UUID {
	w.Helper()
	id, err := uuid.Parse(w.engine.Kernel().DB().Store())
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// While a key of the blind index is replaced, an account and an external id are known under each that lives.
func TestRule4UnderSeveralIndexKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	u, ctx := w.engine.User("u"), t.Context()
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	inbox, err := u.CreateConfiguration(ctx, core.Selector{Credential: ada.ID}, core.ConfigurationInput{ExternalID: "inbox"})
	if err != nil {
		t.Fatal(err)
	}
	v := w.mustConnect("v", "ada", core.ConnectInput{})
	for round := range 2 {
		w.addIndexKey()
		for _, name := range []string{"work", "ext:work"} {
			if got, err := u.Credential(ctx, core.Selector{Integration: calendar, Credential: name}); err != nil || got.ID != ada.ID {
				t.Errorf("round %d: Credential(%s) = %s, %v, want %s", round, name, got.ID, err, ada.ID)
			}
		}
		if got, err := u.Configuration(ctx, core.Selector{Integration: calendar, Configuration: "inbox"}); err != nil || got.ID != inbox.ID {
			t.Errorf("round %d: Configuration(inbox) = %s, %v, want %s", round, got.ID, err, inbox.ID)
		}
		_, err := u.CreateConfiguration(ctx, core.Selector{Credential: ada.ID}, core.ConfigurationInput{ExternalID: "inbox"})
		w.wantErr("a second configuration of that name", err, core.ErrExternalID)
		_, err = w.connect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: "work"})
		w.wantErr("the external id once more", err, core.ErrExternalID)
		for _, id := range []string{ada.ID, v.ID} {
			user := map[string]string{ada.ID: "u", v.ID: "v"}[id]
			if shared, err := w.engine.GrantShared(ctx, user, id); err != nil || !shared {
				t.Errorf("round %d: GrantShared(%s) = %t, %v, want true", round, user, shared, err)
			}
		}
		won := w.contest(crowd/4, func(int) (core.Credential, error) {
			return w.connect("u", "ada", core.ConnectInput{AllowMultiple: true})
		})
		if diff := cmp.Diff([]string{ada.ID}, idsOf(won)); diff != "" {
			t.Errorf("round %d: the same account again (-want +got):\n%s", round, diff)
		}
		w.wantWhole("u", []string{ada.ID})
	}
	// What was made under several keys is known under each.
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: "home"})
	if again := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true}); again.ID != bob.ID {
		t.Errorf("bob again = %s, want %s", again.ID, bob.ID)
	}
	w.wantWhole("u", idsOf([]core.Credential{ada, bob}))
	for _, id := range []string{ada.ID, bob.ID} {
		if err := u.Disconnect(ctx, core.Selector{Credential: id}); err != nil {
			t.Errorf("Disconnect() = %v", err)
		}
	}
	w.wantWhole("u", nil)
	if again := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"}); again.ID == ada.ID {
		t.Errorf("ada after a disconnect = %s, want a new credential", again.ID)
	}
}

// A grant is shared by whoever has the same account at the same client, whichever user that is, and by nobody else.
func TestRule8GrantsAcrossUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx := t.Context()
	shared := func(c core.Credential) bool {
		t.Helper()
		got, err := w.engine.GrantShared(ctx, c.User, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	if shared(ada) || shared(bob) {
		t.Error("a grant counts as shared by another account")
	}
	// Others with the same account: another user, and one with another integration of the same client.
	w.create(func(in *core.Integration) { in.Name = "mail" })
	var mu sync.Mutex
	var others []core.Credential
	together(crowd/4, func(i int) {
		integration := []string{calendar, "mail"}[i%2]
		c, err := w.connect(fmt.Sprintf("v%d", i), "ada", core.ConnectInput{Integration: integration})
		mu.Lock()
		defer mu.Unlock()
		if others = append(others, c); err != nil {
			t.Errorf("connect() = %v", err)
		}
	})
	if !shared(ada) || !shared(others[0]) || shared(bob) {
		t.Errorf("shared: ada's %t, another user's %t, bob's %t, want true, true, false", shared(ada), shared(others[0]), shared(bob))
	}
	w.wantWhole("u", idsOf([]core.Credential{ada, bob}))
	before, err := w.engine.LastEvent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	together(len(others), func(i int) {
		if err := w.engine.User(others[i].User).Disconnect(ctx, core.Selector{Credential: others[i].ID}); err != nil {
			t.Errorf("Disconnect() = %v", err)
		}
	})
	for _, ev := range w.events(before) {
		if ev.Kind == core.EventDisconnected && ev.Details["grant"] != "shared" {
			t.Errorf("event %v, want it to tell that the grant is shared: ada of u is there", ev)
		}
	}
	if shared(ada) {
		t.Error("the grant counts as shared after all others went")
	}
	last, err := w.engine.LastEvent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.engine.User("u").Disconnect(ctx, core.Selector{Credential: ada.ID}); err != nil {
		t.Fatal(err)
	}
	if evs := w.events(last); len(evs) != 1 || evs[0].Details["grant"] != "" {
		t.Errorf("events = %v, want the last one to go, whose grant nobody shares", evs)
	}
	w.wantWhole("u", []string{bob.ID})
}
