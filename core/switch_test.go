package core_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// uses tries everything that uses an account of a user, and returns what came of it.
func (w *world) uses(engine *core.Engine, user string, account core.Credential) errs {
	w.Helper()
	ctx, u := w.Context(), engine.User(user)
	all := errs{}
	_, all["Token by id"] = u.Token(ctx, core.Selector{Credential: account.ID})
	_, all["Token by external id"] = u.Token(ctx, core.Selector{Integration: account.Integration, Credential: account.ExternalID})
	_, all["Token of the only one"] = u.Token(ctx, core.Selector{Integration: account.Integration})
	client, err := u.Client(ctx, core.Selector{Credential: account.ID})
	if err != nil {
		w.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.provider.APIURL()+"/me", nil)
	if err != nil {
		w.Fatal(err)
	}
	resp, err := client.Do(req)
	if all["Client"] = err; err == nil {
		_ = resp.Body.Close()
	}
	source, err := u.TokenSource(ctx, core.Selector{Credential: account.ID})
	if err != nil {
		w.Fatal(err)
	}
	_, all["TokenSource"] = source.Token()
	for _, err := range all {
		_ = w.note(err)
	}
	return all
}

// wantUses fails the test unless each use ends with want.
func (w *world) wantUses(engine *core.Engine, user string, account core.Credential, want error) {
	w.Helper()
	for what, err := range w.uses(engine, user, account) {
		w.wantErr(what, err, want)
	}
}

// kinds counts events by kind.
func kinds(events []core.Event) map[core.EventKind]int {
	n := map[core.EventKind]int{}
	for i := range events {
		n[events[i].Kind]++
	}
	return n
}

// Nothing of a user who is disabled is used, refreshed or connected; all else goes on, and so does everybody else.
func TestDisableUser(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, nil)
	ctx, e := t.Context(), w.engine
	begun := w.clock.Now()
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	bob := w.mustConnect("v", "bob", core.ConnectInput{ExternalID: "home"})
	callback := w.mustBegin("u", "cyd", core.ConnectInput{AllowMultiple: true})
	w.wantUses(e, "u", ada, nil)
	if err := errors.Join(e.DisableUser(ctx, "u"), e.DisableUser(ctx, "u")); err != nil { // the second finds it done
		t.Fatal(err)
	}

	w.wantUses(e, "u", ada, core.ErrDisabled)
	w.wantUses(e, "v", bob, nil)
	_, err := w.begin("u", "cyd", core.ConnectInput{AllowMultiple: true})
	w.wantErr("Connect", err, core.ErrDisabled)
	_, err = w.putKey("u", "ada", core.KeyInput{})
	w.wantErr("AddKey", err, core.ErrDisabled)
	exchanges := w.provider.Calls().Exchange
	for range 2 { // the outcome, and the outcome told again
		_, err = w.finish(callback)
		w.wantErr("the callback of a session that was begun before", err, core.ErrDisabled)
	}
	if got := w.provider.Calls().Exchange; got != exchanges {
		t.Errorf("%d codes were spent for a user who is disabled, want none", got-exchanges)
	}
	refreshes := w.provider.Calls().Refresh
	w.clock.Advance(2 * time.Hour)
	w.wantUses(e, "u", ada, core.ErrDisabled)
	if err := coretest.Step(e); err != nil {
		t.Fatal(err)
	}
	if got := w.provider.Calls().Refresh - refreshes; got != 1 { // bob's
		t.Errorf("%d refreshes of what was due, want only that of the other user", got)
	}
	label := "renamed"
	renamed, err := e.User("u").Rename(ctx, core.Selector{Credential: ada.ID}, core.RenameInput{Label: &label})
	if err != nil || renamed.Status != core.StatusValid || len(w.list("u")) != 1 {
		t.Errorf("Rename() = %+v, %v and %d accounts, want listing and renaming to go on", renamed, err, len(w.list("u")))
	}
	got, err := e.ConnectedUser(ctx, "u")
	if want := (core.ConnectedUser{ID: "u", Created: begun, Disabled: true, Meta: map[string]any{}}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("ConnectedUser() = %+v, %v, want %+v", got, err, want)
	}

	if err := errors.Join(e.EnableUser(ctx, "u"), e.EnableUser(ctx, "u")); err != nil {
		t.Fatal(err)
	}
	w.wantUses(e, "u", ada, nil)
	w.mustConnect("u", "cyd", core.ConnectInput{AllowMultiple: true})
	if err := e.User("u").Disconnect(ctx, core.Selector{Credential: ada.ID}); err != nil {
		t.Error(err)
	}
	if n := kinds(w.events(0)); n[core.EventUserDisabled] != 1 || n[core.EventUserEnabled] != 1 {
		t.Errorf("events = %v, want one for each change", n)
	}
	w.wantWhole("v", []string{bob.ID})
}

// Whoever has no account yet can be disabled too, and then connects none.
func TestDisableUserWithoutAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx, e := t.Context(), w.engine
	_, err := e.ConnectedUser(ctx, "u")
	w.wantErr("ConnectedUser of nobody", err, core.ErrNotFound)
	if err := errors.Join(e.EnableUser(ctx, "u"), e.DisableUser(ctx, "u")); err != nil {
		t.Fatal(err)
	}
	_, err = w.begin("u", "ada", core.ConnectInput{})
	w.wantErr("Connect", err, core.ErrDisabled)
	if err := e.EnableUser(ctx, "u"); err != nil {
		t.Fatal(err)
	}
	w.mustConnect("u", "ada", core.ConnectInput{})
	for _, bad := range []string{"", "a\x00", "\xff"} {
		w.wantInput("DisableUser", e.DisableUser(ctx, bad), "user")
		w.wantInput("EnableUser", e.EnableUser(ctx, bad), "user")
		_, err := e.ConnectedUser(ctx, bad)
		w.wantInput("ConnectedUser", err, "user")
		_, err = e.DeleteUser(ctx, bad, nil)
		w.wantInput("DeleteUser", err, "user")
	}
}

// A switch counts in every other process once it has looked again, 5 seconds later at most, and looking costs next to
// nothing: none of it where nothing changed is read twice.
func TestSecurity13_DisabledUser(t *testing.T) {
	t.Parallel()
	counted := newCounter(nil)
	w := newWorld(t, counted, nil)
	ctx, other := t.Context(), w.open()
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	reads := func() int64 {
		t.Helper()
		before := counted.reads.Load()
		if _, err := other.User("u").Token(ctx, core.Selector{Credential: ada.ID}); err != nil {
			t.Fatal(err)
		}
		return counted.reads.Load() - before
	}
	reads()
	for i := range 3 {
		if got := reads(); got != 1 {
			t.Errorf("use %d costs %d reads, want 1", i, got)
		}
	}
	for range 3 {
		w.clock.Advance(5 * time.Second)
		if got := reads(); got != 2 {
			t.Errorf("a use after 5 seconds costs %d reads, want 2", got)
		}
	}
	for _, tt := range []struct {
		turn func(context.Context, string) error
		want error
	}{{w.engine.DisableUser, core.ErrDisabled}, {w.engine.EnableUser, nil}, {w.engine.DisableUser, core.ErrDisabled}} {
		if err := tt.turn(ctx, "u"); err != nil {
			t.Fatal(err)
		}
		w.wantUses(w.engine, "u", ada, tt.want)
		w.clock.Advance(5 * time.Second)
		w.wantUses(other, "u", ada, tt.want)
	}
	w.clock.Advance(-time.Hour) // nobody knows how old it is
	if err := w.engine.EnableUser(ctx, "u"); err != nil {
		t.Fatal(err)
	}
	w.wantUses(other, "u", ada, nil)
	w.wantUses(w.engine, "u", ada, nil)
	w.engine.Tick(-time.Hour)
	if err := other.DisableUser(ctx, "u"); err != nil {
		t.Fatal(err)
	}
	w.wantUses(w.engine, "u", ada, core.ErrDisabled) // its clock stands still, real time does not
}

// blinded is a store of which nobody can read who is disabled.
type blinded struct {
	storage.Store
	blind atomic.Bool
}

var errBlind = errors.New("no answer")

func (s *blinded) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	if s.blind.Load() && (r.Start[0] == '2' || r.Start[0] == '3') {
		return storage.Page{}, errBlind
	}
	return s.Store.Scan(ctx, r)
}

// Where nobody can tell who is disabled, nobody is let through; what was read is good for 5 seconds.
func TestDisabledUserUnknown(t *testing.T) {
	t.Parallel()
	store := &blinded{Store: memory.New()}
	w := newWorld(t, store, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	w.wantUses(w.engine, "u", ada, nil)
	store.blind.Store(true)
	w.wantUses(w.engine, "u", ada, nil)
	w.clock.Advance(5 * time.Second)
	w.wantUses(w.engine, "u", ada, errBlind)
	store.blind.Store(false)
	w.wantUses(w.engine, "u", ada, nil)
}

// An account that is disabled is not used, not refreshed and never chosen, and counts as connected all the same.
func TestDisable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ctx, e, u := t.Context(), w.engine, w.engine.User("u")
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	sel := core.Selector{Integration: calendar, Credential: "work"}
	if err := errors.Join(u.Disable(ctx, core.Selector{Integration: calendar}), u.Disable(ctx, sel)); err != nil { // the second finds it done
		t.Fatal(err)
	}
	w.wantUses(e, "u", ada, core.ErrDisabled)
	_, err := u.Credential(ctx, core.Selector{Integration: calendar})
	w.wantErr("Credential of the only one", err, core.ErrDisabled)
	if got, err := u.Credential(ctx, sel); err != nil || !got.Disabled || got.Status != core.StatusValid {
		t.Errorf("Credential() = %+v, %v, want it VALID and disabled", got, err)
	}

	_, err = w.begin("u", "bob", core.ConnectInput{})
	w.wantErr("a second account that was not asked for", err, core.ErrAlreadyConnected)
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: "home"})
	w.wantUses(e, "u", bob, nil) // the only one that can be used
	w.wantUses(w.open(), "u", bob, nil)
	if again := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true}); again.ID != ada.ID || !again.Disabled {
		t.Errorf("connected once more = %+v, want it in place and disabled", again)
	}
	w.wantErr("after a reconnect", w.uses(e, "u", ada)["Token by id"], core.ErrDisabled)

	for range 3 { // due, over, and later still
		w.clock.Advance(time.Hour)
		if err := coretest.Step(e); err != nil {
			t.Fatal(err)
		}
	}
	refreshes := w.provider.Calls().Refresh
	if err := u.Disable(ctx, core.Selector{Credential: bob.ID}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(2 * time.Hour)
	if err := coretest.Step(e); err != nil {
		t.Fatal(err)
	}
	if got := w.provider.Calls().Refresh; got != refreshes {
		t.Errorf("%d refreshes while all accounts are disabled, want none", got-refreshes)
	}
	if err := errors.Join(u.Enable(ctx, sel), u.Enable(ctx, sel)); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(2 * time.Minute)
	if err := coretest.Step(e); err != nil {
		t.Fatal(err)
	}
	if got := w.provider.Calls().Refresh; got != refreshes+1 {
		t.Errorf("%d refreshes once one is enabled, want it on the schedule again", got-refreshes)
	}
	w.wantUses(e, "u", ada, nil)
	if n := kinds(w.events(0)); n[core.EventDisabled] != 2 || n[core.EventEnabled] != 1 {
		t.Errorf("events = %v, want one for each change", n)
	}

	// What is wrong with the others decides what is told of none.
	if err := u.Disable(ctx, sel); err != nil {
		t.Fatal(err)
	}
	if err := u.Enable(ctx, core.Selector{Credential: bob.ID}); err != nil {
		t.Fatal(err)
	}
	w.invalidate("u", "bob", bob.ID)
	_, err = u.Token(ctx, core.Selector{Integration: calendar})
	w.wantErr("one that ended beside a disabled one", err, core.ErrReconnect)
	w.wantWhole("u", idsOf([]core.Credential{ada, bob}))
}

// Switching is for the program: a handle that came from a user token switches nothing, whatever it may.
func TestNarrowedHandleSwitchesNothing(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	account := g.mail(g.acme(""), "ada", core.KeyInput{})
	off := g.mail(g.acme(""), "bob", core.KeyInput{})
	if err := g.acme("").Disable(t.Context(), core.Selector{Credential: off.ID}); err != nil {
		t.Fatal(err)
	}
	u := g.narrow("", "all", may(everything...))
	before := g.world.snapshot()
	for _, sel := range []core.Selector{{Credential: account.ID}, {Credential: off.ID}, {Credential: "0192f0c1-7e3a-7000-8000-000000000001"}, {Integration: "mail"}} {
		g.wantErr("Disable", u.Disable(t.Context(), sel), core.ErrPermission)
		g.wantErr("Enable", u.Enable(t.Context(), sel), core.ErrPermission)
	}
	g.wantUnchanged("a narrowed handle", before)
}

// 64 connects race a user being disabled: what was connected before is there and cannot be used, and nothing comes
// after.
func TestDisableUserRacesConnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowStore{memory.New()}, nil)
	w.withKeys()
	w.people(crowd)
	connected := 0
	for round := range 4 {
		user := []string{"a", "b", "c", "d"}[round]
		begun := w.provider.Calls().API
		var late atomic.Int64
		won := w.contest(crowd+1, func(i int) (core.Credential, error) {
			if i < crowd {
				return w.putKey(user, person(i), core.KeyInput{AllowMultiple: true})
			}
			if err := w.provider.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.API >= begun+crowd*round/3 }); err != nil {
				t.Error(err)
			}
			if err := w.engine.DisableUser(t.Context(), user); err != nil {
				return core.Credential{}, err
			}
			page, err := w.engine.User(user).Credentials(t.Context(), core.ListInput{Limit: 1000})
			late.Store(int64(len(page.Credentials)))
			return core.Credential{}, errors.Join(err, core.ErrDisabled)
		}, core.ErrDisabled)
		if int64(len(won)) != late.Load() {
			t.Errorf("round %d: %d accounts when the user was disabled, %d afterwards", round, late.Load(), len(won))
		}
		connected += len(won)
		for _, c := range won {
			_, err := w.engine.User(user).Token(t.Context(), core.Selector{Credential: c.ID})
			w.wantErr("the token of an account", err, core.ErrDisabled)
		}
	}
	t.Logf("%d of %d accounts were connected before", connected, 4*crowd)
	w.wantWhole("a", nil)
}
