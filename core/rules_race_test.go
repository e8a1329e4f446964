package core_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

const crowd = 64 // callers at once

// contest has n callers do something at once, and returns what those got who won. The others have to lose by one of the
// errors; with none given nobody may.
func (w *world) contest(n int, do func(i int) (core.Credential, error), lost ...error) []core.Credential {
	w.Helper()
	var mu sync.Mutex
	var won []core.Credential
	together(n, func(i int) {
		credential, err := do(i)
		_ = w.note(err)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			won = append(won, credential)
		case !slices.ContainsFunc(lost, func(want error) bool { return errors.Is(err, want) }):
			w.Errorf("caller %d: error %v, want none or one of %v", i, err, lost)
		}
	})
	return won
}

// idsOf are the different ids of credentials, sorted.
func idsOf(credentials []core.Credential) []string {
	ids := map[string]bool{}
	for _, c := range credentials {
		ids[c.ID] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// wantWhole fails the test unless records, indexes, claims and counts say the same, and these are a user's accounts.
func (w *world) wantWhole(user string, want []string) {
	w.Helper()
	if diff := cmp.Diff(want, idsOf(w.list(user)), cmp.Transformer("empty", func(ids []string) []string { return append([]string{}, ids...) })); diff != "" {
		w.Errorf("accounts of %s (-want +got):\n%s", user, diff)
	}
	dangling, err := w.engine.Dangling(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for _, complaint := range dangling {
		w.Error(complaint)
	}
}

// wantOwn fails the test unless the token of each of a user's valid accounts is that account's.
func (w *world) wantOwn(user string) {
	w.Helper()
	for _, c := range w.list(user) {
		if as, err := w.as(user, c.ID); c.Status == core.StatusValid && (err != nil || as != c.Account.Display) {
			w.Errorf("as(%s) = %q, %v, want %q", c.ID, as, err, c.Account.Display)
		}
	}
}

// people adds accounts p0, p1, … to the provider, and a key for each.
func (w *world) people(n int) {
	for i := range n {
		w.provider.AddAccount(coretest.Account{Subject: person(i), Name: person(i) + "@example.com"})
		w.provider.AddKey("canary-key-"+person(i), person(i))
	}
}

func person(i int) string { return fmt.Sprintf("p%d", i) }

// begun begins a connect session for each of n people, which only wait for their callback.
func (w *world) begun(user string, n int, in core.ConnectInput, login func(i int) string) []core.CallbackInput {
	w.Helper()
	callbacks := make([]core.CallbackInput, n)
	for i := range callbacks {
		callbacks[i] = w.mustBegin(user, login(i), in)
	}
	return callbacks
}

// callback finishes a session.
func (w *world) callback(in core.CallbackInput) (core.Credential, error) {
	result, err := w.engine.Callback(w.Context(), in)
	if err != nil {
		return core.Credential{}, err
	}
	return result.Credential, nil
}

func TestRule1RefuseRace(t *testing.T) {
	t.Parallel()
	t.Run("different accounts", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		w.people(crowd)
		callbacks := w.begun("u", crowd, core.ConnectInput{}, person)
		won := w.contest(crowd, func(i int) (core.Credential, error) { return w.callback(callbacks[i]) }, core.ErrAlreadyConnected)
		if len(won) != 1 {
			t.Fatalf("%d connects won, want 1", len(won))
		}
		w.wantWhole("u", idsOf(won))
		w.wantOwn("u")
	})
	t.Run("the same account, from the start", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		won := w.contest(crowd, func(int) (core.Credential, error) {
			return w.connect("u", "ada", core.ConnectInput{})
		}, core.ErrAlreadyConnected)
		if len(won) != 1 {
			t.Fatalf("%d connects won, want 1", len(won))
		}
		w.wantWhole("u", idsOf(won))
	})
	t.Run("keys", func(t *testing.T) {
		t.Parallel()
		w := keyWorld(t, nil)
		w.people(crowd)
		won := w.contest(crowd, func(i int) (core.Credential, error) {
			return w.putKey("u", person(i), core.KeyInput{})
		}, core.ErrAlreadyConnected)
		if len(won) != 1 || len(w.keyed("u")) != 1 {
			t.Fatalf("%d connects won and %d accounts are there, want 1", len(won), len(w.keyed("u")))
		}
		w.wantWhole("u", nil)
	})
	t.Run("one that ended", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		first := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work", Label: "Work"})
		w.invalidate("u", "ada", first.ID)
		callbacks := w.begun("u", crowd, core.ConnectInput{}, func(int) string { return "ada" })
		won := w.contest(crowd, func(i int) (core.Credential, error) { return w.callback(callbacks[i]) }, core.ErrAlreadyConnected)
		if len(won) != 1 || won[0].ID != first.ID || won[0].ExternalID != "work" || won[0].Label != "Work" {
			t.Fatalf("won = %+v, want one, %s in place", won, first.ID)
		}
		w.wantWhole("u", []string{first.ID})
		w.wantOwn("u")
	})
}

func TestRule2AllowMultipleRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.people(crowd)
	first := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work", Label: "Work"})
	before, err := w.engine.User("u").Configurations(t.Context(), core.Selector{Credential: first.ID})
	if err != nil {
		t.Fatal(err)
	}
	callbacks := w.begun("u", crowd, core.ConnectInput{AllowMultiple: true}, person)
	won := w.contest(crowd, func(i int) (core.Credential, error) { return w.callback(callbacks[i]) })
	if len(idsOf(won)) != crowd {
		t.Errorf("%d new credentials, want %d", len(idsOf(won)), crowd)
	}
	w.wantWhole("u", idsOf(append(won, first)))
	if diff := cmp.Diff(first, w.credential("u", first.ID)); diff != "" {
		t.Errorf("the account that was there (-before +after):\n%s", diff)
	}
	after, err := w.engine.User("u").Configurations(t.Context(), core.Selector{Credential: first.ID})
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("its configurations, %v (-before +after):\n%s", err, diff)
	}
	w.wantOwn("u")
}

func TestRule3IntoRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) { in.Settings = []core.Input{{ID: "folder", Type: core.InputText}} })
	ctx, u := t.Context(), w.engine.User("u")
	first := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work", Label: "Work"})
	second := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	if _, err := u.CreateConfiguration(ctx, core.Selector{Credential: first.ID}, core.ConfigurationInput{
		ExternalID: "inbox", Settings: map[string]any{"folder": "in"}, Meta: map[string]any{"a": "b"},
	}); err != nil {
		t.Fatal(err)
	}
	before, err := u.Configurations(ctx, core.Selector{Credential: first.ID})
	if err != nil {
		t.Fatal(err)
	}
	logins := func(i int) string { // every fourth signs in as somebody else
		return []string{"ada", "ada", "bob", "ada", "cyd", "ada", "ada", "ada"}[i%8]
	}
	callbacks := w.begun("u", crowd, core.ConnectInput{Into: first.ID}, logins)
	won := w.contest(crowd, func(i int) (core.Credential, error) {
		got, err := w.callback(callbacks[i])
		if (logins(i) == "ada") != (err == nil) {
			t.Errorf("into %s as %s: error %v", first.ID, logins(i), err)
		}
		return got, err
	}, core.ErrAccountMismatch)
	if len(won) != crowd*3/4 || len(idsOf(won)) != 1 {
		t.Errorf("%d won, with ids %v, want %d with %s", len(won), idsOf(won), crowd*3/4, first.ID)
	}
	w.wantWhole("u", idsOf([]core.Credential{first, second}))
	w.wantOwn("u")
	got := w.credential("u", first.ID)
	if got.ExternalID != "work" || got.Label != "Work" || got.Account != first.Account || got.Status != core.StatusValid || !got.Created.Equal(first.Created) {
		t.Errorf("credential = %+v, want it as it was, %+v", got, first)
	}
	after, err := u.Configurations(ctx, core.Selector{Credential: "work", Integration: calendar})
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("configurations, %v (-before +after):\n%s", err, diff)
	}
}

// The account of rule 4 is connected by many at once, over OAuth and with keys.
func TestRule4SameAccountRace(t *testing.T) {
	t.Parallel()
	for _, same := range []core.SameAccount{core.SameAccountUpdate, core.SameAccountReject, core.SameAccountAllow} {
		for _, scheme := range []string{calendar, keys} {
			t.Run(fmt.Sprintf("%s %s", scheme, same), func(t *testing.T) {
				t.Parallel()
				w := keyWorld(t, func(in *core.Integration) { in.SameAccount = same })
				w.change(func(in *core.Integration) { in.SameAccount = same })
				all := func() []core.Credential {
					if scheme == keys {
						return w.keyed("u")
					}
					return w.list("u")
				}
				var callbacks []core.CallbackInput
				if scheme == calendar {
					callbacks = w.begun("u", crowd, core.ConnectInput{AllowMultiple: true}, func(int) string { return "ada" })
				}
				connect := func(i int) (core.Credential, error) {
					if scheme == keys {
						return w.putKey("u", "ada", core.KeyInput{AllowMultiple: true})
					}
					return w.callback(callbacks[i])
				}
				var lost []error
				wins, credentials := crowd, 1
				switch same {
				case core.SameAccountReject:
					lost, wins = []error{core.ErrAccountConnected}, 1
				case core.SameAccountAllow:
					credentials = crowd
				}
				won := w.contest(crowd, connect, lost...)
				if len(won) != wins || len(idsOf(won)) != credentials {
					t.Errorf("%d connects won, with %d credentials, want %d with %d", len(won), len(idsOf(won)), wins, credentials)
				}
				if diff := cmp.Diff(idsOf(won), idsOf(all())); diff != "" {
					t.Errorf("accounts (-connected +listed):\n%s", diff)
				}
				dangling, err := w.engine.Dangling(t.Context()) // the claim lists all of them
				if err != nil || len(dangling) != 0 {
					t.Errorf("Dangling() = %q, %v, want nothing", dangling, err)
				}
				if got := len(w.raw('a')); got != 1 {
					t.Errorf("%d claims, want 1", got)
				}
				together(len(idsOf(won)), func(i int) {
					if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: idsOf(won)[i]}); err != nil {
						t.Errorf("Disconnect() = %v", err)
					}
				})
				if claims, left := len(w.raw('a')), all(); claims != 0 || len(left) != 0 {
					t.Errorf("after all were disconnected: %d claims, accounts %v, want none", claims, left)
				}
				w.wantWhole("u", nil)
			})
		}
	}
}

func TestRule5ExternalIDRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.people(crowd)
	callbacks := w.begun("u", crowd, core.ConnectInput{AllowMultiple: true, ExternalID: " ext:one "}, person)
	won := w.contest(crowd, func(i int) (core.Credential, error) { return w.callback(callbacks[i]) }, core.ErrExternalID)
	if len(won) != 1 {
		t.Fatalf("%d connects won, want 1", len(won))
	}
	w.wantWhole("u", idsOf(won))
	got, err := w.engine.User("u").Credential(t.Context(), core.Selector{Integration: calendar, Credential: "one"})
	if err != nil || got.ID != won[0].ID {
		t.Errorf("Credential(one) = %s, %v, want %s", got.ID, err, won[0].ID)
	}
	w.wantOwn("u")
}

// While an external id goes from account to account, whoever selects by it acts through one of them, and knows which.
func TestRule6SelectorsRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	u, ctx := w.engine.User("u"), t.Context()
	display := map[string]string{}
	var ids []string
	for _, login := range []string{"ada", "bob"} {
		c := w.mustConnect("u", login, core.ConnectInput{AllowMultiple: true})
		display[c.ID], ids = c.Account.Display, append(ids, c.ID)
	}
	one, none := "one", ""
	var moved, found atomic.Int64
	together(crowd, func(i int) {
		for n := range 8 {
			if i == 0 {
				from, to := ids[n%2], ids[1-n%2]
				_, err1 := u.Rename(ctx, core.Selector{Credential: from}, core.RenameInput{ExternalID: &none})
				_, err2 := u.Rename(ctx, core.Selector{Credential: to}, core.RenameInput{ExternalID: &one})
				if err := errors.Join(err1, err2); err != nil {
					t.Errorf("Rename() = %v", err)
				}
				moved.Add(1)
				continue
			}
			token, err := u.Token(ctx, core.Selector{Integration: calendar, Credential: "one"})
			switch {
			case err == nil:
				found.Add(1)
				if as := w.whose(token.Value.Reveal()); as != display[token.Credential] {
					t.Errorf("token of %s is %q, want %q", token.Credential, as, display[token.Credential])
				}
			case !errors.Is(w.note(err), core.ErrNotFound):
				t.Errorf("Token(one) = %v, want %v at most", err, core.ErrNotFound)
			}
		}
	})
	if moved.Load() != 8 {
		t.Errorf("moves = %d, want 8", moved.Load())
	}
	if as, err := w.as("u", "one"); as != display[ids[0]] { // the last move was to the first
		t.Errorf("as(one) = %q, %v, want %q", as, err, display[ids[0]])
	}
	w.wantWhole("u", ids)
}

// Whatever comes and goes beside an account: a call that names none gets that one or an error, never another one.
func TestRule7NoSilentChoiceRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	u, ctx := w.engine.User("u"), t.Context()
	var alone, ambiguous atomic.Int64
	together(crowd, func(i int) {
		if i == 0 {
			for range 6 {
				bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
				if err := u.Disconnect(ctx, core.Selector{Credential: bob.ID}); err != nil {
					t.Errorf("Disconnect() = %v", err)
				}
			}
			return
		}
		for range 8 {
			token, err := u.Token(ctx, core.Selector{Integration: calendar})
			switch {
			case err == nil && token.Credential == ada.ID && w.whose(token.Value.Reveal()) == ada.Account.Display:
				alone.Add(1)
			case errors.Is(w.note(err), core.ErrAmbiguous):
				ambiguous.Add(1)
			default:
				t.Errorf("Token() = %s, %v, want ada's or %v", token.Credential, err, core.ErrAmbiguous)
			}
			if err := u.Disconnect(ctx, core.Selector{Integration: "nope"}); !errors.Is(err, core.ErrNotFound) {
				t.Errorf("Disconnect() = %v, want %v", err, core.ErrNotFound)
			}
		}
	})
	if alone.Load() == 0 {
		t.Errorf("%d calls were alone and %d ambiguous, want some alone", alone.Load(), ambiguous.Load())
	}
	w.wantWhole("u", []string{ada.ID})
}

func TestRule8DisconnectRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	u, ctx := w.engine.User("u"), t.Context()
	byLogin := map[string]core.Credential{}
	for _, login := range []string{"ada", "bob", "cyd"} {
		byLogin[login] = w.mustConnect("u", login, core.ConnectInput{AllowMultiple: true, ExternalID: "ext-" + login})
	}
	won := w.contest(crowd, func(i int) (core.Credential, error) {
		for _, login := range []string{"ada", "cyd"} { // the others go on working meanwhile
			if as, err := w.as("u", "ext-"+login); as != byLogin[login].Account.Display {
				t.Errorf("as(%s) = %q, %v", login, as, err)
			}
		}
		name := []string{byLogin["bob"].ID, "ext-bob", "ext:ext-bob"}[i%3]
		return byLogin["bob"], u.Disconnect(ctx, core.Selector{Integration: calendar, Credential: name})
	}, core.ErrNotFound)
	if len(won) != 1 {
		t.Errorf("%d disconnects won, want 1", len(won))
	}
	_, err := w.as("u", byLogin["bob"].ID)
	w.wantErr("the one that went", err, core.ErrNotFound)
	w.wantWhole("u", idsOf([]core.Credential{byLogin["ada"], byLogin["cyd"]}))
	w.wantOwn("u")
	gone := 0
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventDisconnected {
			gone++
		}
	}
	if gone != 1 {
		t.Errorf("%d events of a disconnect, want 1", gone)
	}
}

// Accounts come and go at once, while their tokens are used and refreshed: no token is ever another account's.
func TestConnectsRaceDisconnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(o *core.Options) { o.ConnectTTL = 24 * time.Hour })
	w.rotate()
	u, ctx := w.engine.User("u"), t.Context()
	logins := []string{"ada", "bob", "cyd"}
	together(crowd, func(i int) {
		login := logins[i%3]
		for range 3 {
			switch i % 4 {
			case 0, 1:
				_, err := w.connect("u", login, core.ConnectInput{AllowMultiple: true, ExternalID: login})
				if err != nil && !errors.Is(err, core.ErrExternalID) { // it is there already: into it, then
					t.Errorf("connect(%s) = %v", login, err)
				}
			case 2:
				err := u.Disconnect(ctx, core.Selector{Integration: calendar, Credential: login})
				if err != nil && !errors.Is(err, core.ErrNotFound) {
					t.Errorf("Disconnect(%s) = %v", login, w.note(err))
				}
			default:
				w.clock.Advance(20 * time.Minute)
				token, err := u.Token(ctx, core.Selector{Integration: calendar, Credential: login})
				if err == nil {
					as := w.whose(token.Value.Reveal())
					if as != "" && as != login+"@example.com" { // it may have died since
						t.Errorf("as(%s) = %q", login, as)
					}
				} else if !errors.Is(w.note(err), core.ErrNotFound) && !errors.Is(err, core.ErrReconnect) {
					t.Errorf("Token(%s) = %v", login, err)
				}
			}
		}
	})
	for _, c := range w.list("u") {
		w.engine.Settle("u", c.ID)
	}
	w.wantOwn("u")
	w.wantWhole("u", idsOf(w.list("u")))
	for _, login := range logins { // and all of it can be used on
		c := w.mustConnect("u", login, core.ConnectInput{AllowMultiple: true})
		if as, err := w.as("u", c.ID); as != login+"@example.com" {
			t.Errorf("as(%s) = %q, %v", login, as, err)
		}
	}
}

// An integration is deleted while accounts are connected to it: it goes and none is there, or it stays with all of them.
func TestDeleteRacesConnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.people(crowd)
	went, stayed := 0, 0
	for round := range 8 {
		name := fmt.Sprintf("round%d", round)
		w.create(func(in *core.Integration) {
			in.Name, in.OAuth2 = name, nil
			in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
			in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject"}
		})
		begun := w.provider.Calls().API
		var deleted error
		won := w.contest(crowd+1, func(i int) (core.Credential, error) {
			if i < crowd {
				return w.putKey(fmt.Sprintf("u%d", i%4), person(i), core.KeyInput{Integration: name, AllowMultiple: true})
			}
			if err := w.provider.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.API >= begun+6*round }); err != nil {
				t.Error(err)
			}
			deleted = w.engine.DeleteIntegration(t.Context(), name)
			return core.Credential{}, core.ErrNotFound
		}, core.ErrNotFound, core.ErrDeleting)
		var listed []core.Credential
		for i := range 4 {
			page, err := w.engine.User(fmt.Sprintf("u%d", i)).Credentials(t.Context(), core.ListInput{Integration: name, Limit: 1000})
			if err != nil && (deleted != nil || !errors.Is(err, core.ErrNotFound)) {
				t.Errorf("round %d: Credentials() = %v", round, err)
			}
			listed = append(listed, page.Credentials...)
		}
		if diff := cmp.Diff(idsOf(won), idsOf(listed)); diff != "" {
			t.Errorf("round %d: accounts (-connected +listed):\n%s", round, diff)
		}
		switch {
		case deleted == nil:
			went++
			if len(won) != 0 {
				t.Errorf("round %d: %d accounts were connected to what is gone", round, len(won))
			}
		case errors.Is(w.note(deleted), core.ErrInUse):
			stayed++
			if len(won) == 0 {
				t.Errorf("round %d: DeleteIntegration() = %v without an account", round, deleted)
			}
			if _, err := w.putKey("late", person(0), core.KeyInput{Integration: name}); err != nil {
				t.Errorf("round %d: AddKey() after the deletion was refused = %v", round, err)
			}
		default:
			t.Errorf("round %d: DeleteIntegration() = %v, want nil or %v", round, deleted, core.ErrInUse)
		}
	}
	w.wantWhole("u0", nil)
	if went == 0 || stayed == 0 {
		t.Logf("the integration went %d times and stayed %d times", went, stayed)
	}
}

// The same over OAuth, where the sessions were begun before.
func TestDeleteRacesCallbacks(t *testing.T) {
	t.Parallel()
	for _, after := range []int{0, crowd / 8, crowd / 2} { // callbacks that came before
		w := newWorld(t, nil, nil)
		w.people(crowd)
		callbacks := w.begun("u", crowd, core.ConnectInput{AllowMultiple: true}, person)
		var deleted error
		won := w.contest(crowd+1, func(i int) (core.Credential, error) {
			if i < crowd {
				return w.callback(callbacks[i])
			}
			if err := w.provider.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.Exchange >= after }); err != nil {
				t.Error(err)
			}
			deleted = w.engine.DeleteIntegration(t.Context(), calendar)
			return core.Credential{}, core.ErrDeleting
		}, core.ErrNotFound, core.ErrDeleting, core.ErrSession)
		if (deleted == nil) != (len(won) == 0) || deleted != nil && !errors.Is(w.note(deleted), core.ErrInUse) {
			t.Errorf("DeleteIntegration() = %v beside %d accounts", deleted, len(won))
		}
		w.wantWhole("u", idsOf(won))
		w.wantOwn("u")
		for _, callback := range callbacks { // each session has its outcome
			if result, err := w.finish(callback); result == nil || !result.Replayed || (err == nil) != (result.Credential.ID != "") {
				t.Errorf("Callback() again = %+v, %v, want the outcome", result, err)
			}
		}
	}
}

// addIndexKey adds a key to the blind index, as an operator's rotation does, and waits until it is used.
func (w *world) addIndexKey() {
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
	w.clock.Advance(10 * time.Second)
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
