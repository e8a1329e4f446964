package core_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/input"
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
	w.change(func(in *core.Integration) { in.Settings = []input.Input{{ID: "folder", Type: input.Text}} })
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
