package core_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/input"
)

// setUp is a world whose accounts take a site and a pin before they can be used.
func setUp(t *testing.T, change func(*core.Options)) *world {
	t.Helper()
	w := newWorld(t, nil, change)
	w.change(func(in *core.Integration) {
		in.Setup = []input.Input{
			{ID: "site", Type: input.Text, Required: true},
			{ID: "pin", Type: input.Password, Required: true},
			{ID: "note", Type: input.Text},
		}
	})
	return w
}

var allSetup = map[string]any{"site": "north", "pin": "canary-pin", "note": "n"}

// wantPending fails the test unless a credential is pending and cannot be used in any way.
func (w *world) wantPending(user, id string) {
	w.Helper()
	u, ctx, sel := w.engine.User(user), w.Context(), core.Selector{Credential: id}
	if got := w.credential(user, id); got.Status != core.StatusPending || len(got.Missing) == 0 {
		w.Errorf("credential = %+v, want it pending, with what is missing", got)
	}
	_, err := u.Token(ctx, sel)
	w.wantErr("a token of a pending account", err, core.ErrPending)
	_, err = u.Token(ctx, core.Selector{Configuration: id})
	w.wantErr("a token by its configuration", err, core.ErrPending)
	if source, err := u.TokenSource(ctx, sel); err == nil {
		_, err = source.Token()
		w.wantErr("its token source", err, core.ErrPending)
	} else {
		w.wantErr("its token source", err, core.ErrPending)
	}
	calls := w.provider.Calls().API
	if client, err := u.Client(ctx, sel); err == nil {
		_, err := w.do(client, w.request(http.MethodGet, w.provider.APIURL()+"/me", nil), nil)
		w.wantErr("its client", err, core.ErrPending)
	} else {
		w.wantErr("its client", err, core.ErrPending)
	}
	seen := w.stored(user, id)
	w.engine.RefreshBehind(ctx, user, &seen)
	w.engine.Settle(user, id)
	w.wantRefreshes("of a pending account", 0)
	if got := w.provider.Calls().API - calls; got != 0 {
		w.Errorf("the provider was asked %d times with a pending account, want never", got)
	}
}

// setUpOf returns what was said to set an account of user u up.
func (w *world) setUpOf(id string) map[string]any {
	w.Helper()
	got, err := w.engine.User("u").Setup(w.Context(), core.Selector{Credential: id})
	if err != nil {
		w.Fatal(w.note(err))
	}
	return got.Values
}

func TestPendingIsNeverUsed(t *testing.T) {
	t.Parallel()
	for _, unselected := range []core.Unselected{core.Refuse, core.Oldest} {
		w := setUp(t, func(o *core.Options) { o.Unselected = unselected })
		u, ctx := w.engine.User("u"), t.Context()
		ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
		if ada.Status != core.StatusPending || !slices.Equal(ada.Missing, []string{"site", "pin"}) || w.setUpOf(ada.ID)["site"] != nil {
			t.Errorf("connected = %+v, want it pending", ada)
		}
		w.wantPending("u", ada.ID)
		_, err := u.Token(ctx, core.Selector{Integration: calendar})
		w.wantErr("the only account", err, core.ErrPending)
		w.clock.Advance(2 * time.Hour) // its token has ended too
		w.wantPending("u", ada.ID)

		// It counts as valid in rule 1, and another one beside it is the only one that can be used.
		_, err = w.connect("u", "bob", core.ConnectInput{})
		w.wantErr("a second account", err, core.ErrAlreadyConnected)
		bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
		if _, err := u.CompleteSetup(ctx, core.Selector{Credential: bob.ID}, allSetup); err != nil {
			t.Fatal(w.note(err))
		}
		if as, err := w.as("u", ""); as != "bob@example.com" {
			t.Errorf("as = %q, %v, want the one that is complete", as, err)
		}
		// The same account again is the same credential, and pending still.
		if again := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true}); again.ID != ada.ID || again.Status != core.StatusPending {
			t.Errorf("again = %+v, want %s pending", again, ada.ID)
		}
		if into := w.mustConnect("u", "ada", core.ConnectInput{Into: "work"}); into.ID != ada.ID || into.Status != core.StatusPending {
			t.Errorf("into = %+v, want %s pending", into, ada.ID)
		}
		w.wantPending("u", ada.ID)
		w.wantWhole("u", idsOf([]core.Credential{ada, bob}))
	}
}

func TestRule1PendingRace(t *testing.T) {
	t.Parallel()
	w := setUp(t, nil)
	w.people(crowd)
	callbacks := w.begun("u", crowd, core.ConnectInput{}, person)
	won := w.contest(crowd, func(i int) (core.Credential, error) { return w.callback(callbacks[i]) }, core.ErrAlreadyConnected)
	if len(won) != 1 || won[0].Status != core.StatusPending {
		t.Fatalf("won = %+v, want one, pending", won)
	}
	w.wantWhole("u", idsOf(won))
}

func TestCompleteSetup(t *testing.T) {
	t.Parallel()
	w := setUp(t, nil)
	u, ctx := w.engine.User("u").As("ada"), t.Context()
	c := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	sel := core.Selector{Integration: calendar} // there is only one, whatever its status
	for _, tt := range []struct {
		name, field string
		change      map[string]any
	}{
		{"nothing", "setup.site", nil},
		{"half of it", "setup.pin", map[string]any{"site": "north"}},
		{"an unknown one", "setup.nope", map[string]any{"site": "north", "pin": "canary", "nope": 1}},
		{"a wrong type", "setup.site", map[string]any{"site": 5, "pin": "canary"}},
		{"an empty required one", "setup.site", map[string]any{"site": "", "pin": "canary"}},
		{"an empty password", "setup.pin", map[string]any{"site": "north", "pin": ""}},
		{"too large", "setup.site", map[string]any{"site": strings.Repeat("x", 9<<10), "pin": "canary"}},
		{"a setting", "setup.folder", map[string]any{"folder": "in"}},
	} {
		before := w.snapshot()
		_, err := u.CompleteSetup(ctx, sel, tt.change)
		w.wantInput(tt.name, err, tt.field)
		w.wantUnchanged(tt.name, before)
	}
	got, err := u.CompleteSetup(ctx, sel, allSetup)
	if err != nil || got.ID != c.ID || got.Status != core.StatusValid || got.Missing != nil || w.setUpOf(c.ID)["site"] != "north" || w.setUpOf(c.ID)["pin"] != nil {
		t.Errorf("CompleteSetup() = %+v, %v, want it valid", got, w.note(err))
	}
	if as, err := w.as("u", ""); as != "ada@example.com" {
		t.Errorf("as = %q, %v", as, err)
	}
	// Later changes leave it valid; what is required cannot go.
	if got, err := u.CompleteSetup(ctx, sel, map[string]any{"site": "south", "note": nil}); err != nil || w.setUpOf(c.ID)["site"] != "south" || w.setUpOf(c.ID)["note"] != nil || got.Status != core.StatusValid {
		t.Errorf("CompleteSetup() again = %+v, %v", got, w.note(err))
	}
	_, err = u.CompleteSetup(ctx, sel, map[string]any{"site": nil})
	w.wantInput("taking a required one away", err, "setup.site")
	// A reconnect keeps it, also when the operator asks for more since.
	w.change(func(in *core.Integration) {
		in.Setup = append(in.Setup, input.Input{ID: "team", Type: input.Text, Required: true})
	})
	if again := w.mustConnect("u", "ada", core.ConnectInput{Into: "work"}); again.Status != core.StatusValid || w.setUpOf(again.ID)["site"] != "south" {
		t.Errorf("reconnected = %+v, want it valid, with its setup", again)
	}
	if secret, err := u.Password(ctx, sel, "setup.pin"); err != nil || secret.Reveal() != "canary-pin" {
		t.Errorf("Password() = %v, %v, want what was set", secret, err)
	}
	completed := 0
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventCompleted {
			completed++
			if ev.Actor.Person != "ada" || ev.Credential != c.ID || ev.Result != "ok" {
				t.Errorf("event = %v", ev)
			}
		}
	}
	if completed < 1 {
		t.Error("no event tells that the account is complete")
	}
	_, err = w.engine.User("v").CompleteSetup(ctx, core.Selector{Credential: c.ID}, allSetup)
	w.wantErr("another user's", err, core.ErrNotFound)
	w.wantWhole("u", []string{c.ID})
}

// An account is completed once, whoever does it, and nothing is left of one that goes at the same time.
func TestCompleteSetupRace(t *testing.T) {
	t.Parallel()
	w := setUp(t, nil)
	u, ctx := w.engine.User("u"), t.Context()
	c := w.mustConnect("u", "ada", core.ConnectInput{})
	w.contest(crowd, func(int) (core.Credential, error) {
		return u.CompleteSetup(ctx, core.Selector{Credential: c.ID}, allSetup)
	})
	first := 0
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventCompleted && ev.Cause == "setup" {
			first++
		}
	}
	if first != 1 {
		t.Errorf("%d events of an account that became complete, want 1", first)
	}
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	var gone atomic.Int64
	together(crowd, func(i int) {
		var err error
		if i%16 == 3 {
			err = u.Disconnect(ctx, core.Selector{Credential: bob.ID})
			if err == nil {
				gone.Add(1)
			}
		} else {
			_, err = u.CompleteSetup(ctx, core.Selector{Credential: bob.ID}, allSetup)
		}
		if err != nil && !errors.Is(w.note(err), core.ErrNotFound) {
			t.Errorf("beside a disconnect: %v", err)
		}
	})
	if gone.Load() != 1 {
		t.Errorf("%d disconnects won, want 1", gone.Load())
	}
	w.wantWhole("u", []string{c.ID})
}

// An account that has lost its authorisation keeps all that hangs on it, and has it again when it is connected anew.
func TestInvalidKeepsEverything(t *testing.T) {
	t.Parallel()
	w := setUp(t, nil)
	w.change(func(in *core.Integration) { in.Settings = []input.Input{{ID: "folder", Type: input.Text}} })
	u, ctx := w.engine.User("u"), t.Context()
	callback := w.consentAs("u", "carl", "ada", core.ConnectInput{ExternalID: "work", Label: "Work"})
	connected, err := w.callback(callback)
	if err != nil {
		t.Fatal(err)
	}
	c, err := u.CompleteSetup(ctx, core.Selector{Credential: connected.ID}, allSetup)
	if err != nil {
		t.Fatal(err)
	}
	w.addConfiguration(c.ID, core.ConfigurationInput{ExternalID: "inbox", Settings: map[string]any{"folder": "in"}, Meta: map[string]any{"a": 1}})
	configurations := w.configurations(c.ID)
	w.invalidate("u", "ada", c.ID)
	if got := w.credential("u", c.ID); got.Status != core.StatusInvalid || w.setUpOf(c.ID)["site"] != "north" {
		t.Errorf("invalid = %+v, want its setup kept", got)
	}
	// It can be renamed and configured meanwhile.
	label := "Still work"
	if _, err := u.Rename(ctx, core.Selector{Credential: "work", Integration: calendar}, core.RenameInput{Label: &label}); err != nil {
		t.Error(w.note(err))
	}
	if diff := cmp.Diff(configurations, w.configurations(c.ID)); diff != "" {
		t.Errorf("configurations of an invalid account (-before +after):\n%s", diff)
	}
	for _, in := range []core.ConnectInput{{}, {Into: "work"}} {
		again := w.mustConnect("u", "ada", in)
		if again.ID != c.ID || again.Status != core.StatusValid || again.Owner != "carl" || again.Label != label ||
			again.ExternalID != "work" || w.setUpOf(again.ID)["site"] != "north" || !again.Created.Equal(c.Created) || again.Account != c.Account {
			t.Errorf("reconnected = %+v, want everything of %+v", again, c)
		}
		if diff := cmp.Diff(configurations, w.configurations(c.ID)); diff != "" {
			t.Errorf("configurations after a reconnect (-before +after):\n%s", diff)
		}
		if secret, err := u.Password(ctx, core.Selector{Credential: c.ID}, "setup.pin"); err != nil || secret.Reveal() != "canary-pin" {
			t.Errorf("Password() = %v, %v, want it kept", secret, err)
		}
		w.wantWhole("u", []string{c.ID})
		w.wantOwn("u")
		w.invalidate("u", "ada", c.ID)
	}
}
