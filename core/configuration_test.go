package core_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

// maxExtra is how many configurations an account may have beside its default one.
const maxExtra = 32

// oneOfEachType declares an input of each type, called like it.
func oneOfEachType() []input.Input {
	var inputs []input.Input
	for _, typ := range []input.Type{
		input.Text, input.TextArea, input.Number, input.Email, input.URL, input.Password, input.Boolean,
		input.Switch, input.Enum, input.DynamicEnum, input.CustomDropdown, input.Combo, input.DynamicCombo,
		input.FieldMapper, input.Copyable, input.Permission, input.File,
	} {
		in := input.Input{ID: string(typ), Type: typ}
		if typ == input.Enum {
			in.Options = []input.Option{{Value: "daily"}, {Value: "weekly"}}
		}
		inputs = append(inputs, in)
	}
	return inputs
}

// configured is a world whose integration calendar has these settings, with u's account ada, called work.
func configured(t *testing.T, settings []input.Input) (*world, core.Credential) {
	t.Helper()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) { in.Settings = settings })
	return w, w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
}

// addConfiguration creates one of u's, and fails the test when that fails.
func (w *world) addConfiguration(credential string, in core.ConfigurationInput) core.Configuration {
	w.Helper()
	c, err := w.engine.User("u").CreateConfiguration(w.Context(), core.Selector{Credential: credential}, in)
	if err != nil {
		w.Fatal(w.note(err))
	}
	return c
}

// configurations lists those of one of u's accounts.
func (w *world) configurations(credential string) []core.Configuration {
	w.Helper()
	all, err := w.engine.User("u").Configurations(w.Context(), core.Selector{Credential: credential})
	if err != nil {
		w.Fatal(w.note(err))
	}
	return all
}

func TestConfigurationDefault(t *testing.T) {
	t.Parallel()
	w, ada := configured(t, []input.Input{
		{ID: "folder", Type: input.Text, Required: true}, {ID: "days", Type: input.Number, Default: 7},
	})
	u, ctx := w.engine.User("u"), t.Context()
	want := core.Configuration{
		ID: ada.ID, Credential: ada.ID, Integration: calendar, Default: true, Settings: map[string]any{"days": 7.0},
		Missing: []string{"folder"}, Meta: map[string]any{}, Created: ada.Created, Updated: ada.Updated,
	}
	for _, sel := range []core.Selector{
		{Integration: calendar}, {Credential: ada.ID}, {Integration: calendar, Credential: "work"}, {Configuration: ada.ID},
		{Configuration: strings.ToUpper(ada.ID)}, {Credential: ada.ID, Configuration: ada.ID}, {Integration: calendar, Configuration: ada.ID},
	} {
		got, err := u.Configuration(ctx, sel)
		if got.Revision == 0 {
			t.Errorf("Configuration(%s): no revision", sel)
		}
		got.Revision = 0
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("Configuration(%s), %v (-want +got):\n%s", sel, err, diff)
		}
	}
	w.clock.Advance(time.Minute)
	updated, err := u.UpdateConfiguration(ctx, core.Selector{Integration: calendar}, core.ConfigurationUpdate{Settings: map[string]any{"folder": "in"}})
	if err != nil || updated.Settings["folder"] != "in" || updated.Missing != nil || !updated.Updated.After(updated.Created) {
		t.Errorf("UpdateConfiguration() = %+v, %v", updated, err)
	}
	if diff := cmp.Diff([]core.Configuration{updated}, w.configurations(ada.ID)); diff != "" {
		t.Errorf("Configurations (-updated +listed):\n%s", diff)
	}
	// A reconnect leaves it; a new account has its own.
	w.mustConnect("u", "ada", core.ConnectInput{Into: "work"})
	if diff := cmp.Diff([]core.Configuration{updated}, w.configurations(ada.ID)); diff != "" {
		t.Errorf("Configurations after a reconnect (-before +after):\n%s", diff)
	}
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	if got := w.configurations(bob.ID); len(got) != 1 || got[0].Settings["folder"] != nil || got[0].ID != bob.ID {
		t.Errorf("configurations of another account = %+v, want a fresh default one", got)
	}
	_, err = u.Configuration(ctx, core.Selector{Integration: calendar})
	w.wantErr("the configuration of none in particular", err, core.ErrAmbiguous)
	for _, sel := range []core.Selector{{Credential: ada.ID}, {Configuration: ada.ID}, {Credential: ada.ID, Configuration: ada.ID}} {
		w.wantInput("deleting the default one", u.DeleteConfiguration(ctx, sel), "configuration")
	}
	name := "main"
	_, err = u.UpdateConfiguration(ctx, core.Selector{Credential: ada.ID}, core.ConfigurationUpdate{ExternalID: &name})
	w.wantInput("naming the default one", err, "externalId")
}

func TestConfigurationExternalIDs(t *testing.T) {
	t.Parallel()
	w, ada := configured(t, nil)
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	w.create(func(in *core.Integration) { in.Name = "mail" })
	mail := w.mustConnect("u", "cyd", core.ConnectInput{Integration: "mail"})
	w.mustConnect("v", "ada", core.ConnectInput{})
	u, ctx := w.engine.User("u"), t.Context()

	inbox := w.addConfiguration(ada.ID, core.ConfigurationInput{ExternalID: " ext: inbox "})
	other := w.addConfiguration(bob.ID, core.ConfigurationInput{ExternalID: "inbox"})
	elsewhere := w.addConfiguration(mail.ID, core.ConfigurationInput{ExternalID: "inbox"})
	sent := w.addConfiguration(ada.ID, core.ConfigurationInput{ExternalID: "sent"})
	like := w.addConfiguration(ada.ID, core.ConfigurationInput{ExternalID: ada.ID}) // looks like a UUID
	if inbox.ExternalID != "inbox" || inbox.Default || inbox.Credential != ada.ID || inbox.ID == ada.ID {
		t.Errorf("CreateConfiguration() = %+v", inbox)
	}
	for _, tt := range []struct {
		sel  core.Selector
		want string
		err  error
	}{
		{core.Selector{Configuration: inbox.ID}, inbox.ID, nil},
		{core.Selector{Integration: calendar, Configuration: strings.ToUpper(inbox.ID)}, inbox.ID, nil},
		{core.Selector{Integration: calendar, Configuration: "sent"}, sent.ID, nil},
		{core.Selector{Integration: calendar, Configuration: "ext:sent"}, sent.ID, nil},
		{core.Selector{Credential: ada.ID, Configuration: "inbox"}, inbox.ID, nil},
		{core.Selector{Credential: bob.ID, Configuration: " inbox"}, other.ID, nil},
		{core.Selector{Integration: calendar, Credential: "work", Configuration: inbox.ID}, inbox.ID, nil},
		{core.Selector{Integration: "mail", Configuration: "inbox"}, elsewhere.ID, nil},
		{core.Selector{Configuration: ada.ID}, ada.ID, nil},
		{core.Selector{Integration: calendar, Configuration: "ext:" + ada.ID}, like.ID, nil},
		{core.Selector{Integration: calendar, Configuration: "inbox"}, "", core.ErrAmbiguous},
		{core.Selector{Configuration: "inbox"}, "", core.ErrInvalid},
		{core.Selector{Integration: calendar, Configuration: "Inbox"}, "", core.ErrNotFound},
		{core.Selector{Integration: calendar, Configuration: "nope"}, "", core.ErrNotFound},
		{core.Selector{Integration: calendar, Configuration: elsewhere.ID}, "", core.ErrNotFound},
		{core.Selector{Integration: "mail", Configuration: inbox.ID}, "", core.ErrNotFound},
		{core.Selector{Credential: bob.ID, Configuration: inbox.ID}, "", core.ErrNotFound},
		{core.Selector{Credential: bob.ID, Configuration: "sent"}, "", core.ErrNotFound},
		{core.Selector{Credential: ada.ID, Configuration: bob.ID}, "", core.ErrNotFound},
		{core.Selector{Integration: calendar, Configuration: "0199f3a0-0000-7000-8000-000000000000"}, "", core.ErrNotFound},
	} {
		got, err := u.Configuration(ctx, tt.sel)
		if got.ID != tt.want || !errors.Is(w.note(err), tt.err) {
			t.Errorf("Configuration(%s) = %s, %v, want %s, %v", tt.sel, got.ID, err, tt.want, tt.err)
		}
		// It names its account to everything else too.
		token, tokenErr := u.Token(ctx, tt.sel)
		if !errors.Is(w.note(tokenErr), tt.err) || err == nil && token.Credential != got.Credential {
			t.Errorf("Token(%s) = %s, %v, want %s, %v", tt.sel, token.Credential, tokenErr, got.Credential, tt.err)
		}
		_, err = w.engine.User("v").Configuration(ctx, tt.sel)
		if err == nil {
			t.Errorf("another user's Configuration(%s) was found", tt.sel)
		}
	}
	var ambiguous *core.AmbiguousError
	_, err := u.Configuration(ctx, core.Selector{Integration: calendar, Configuration: "inbox"})
	if !errors.As(err, &ambiguous) || !slices.Equal(idsOf(ambiguous.Candidates), []string{ada.ID, bob.ID}) {
		t.Errorf("Configuration(inbox) = %v, want an AmbiguousError that names both accounts", err)
	}

	_, err = u.CreateConfiguration(ctx, core.Selector{Credential: ada.ID}, core.ConfigurationInput{ExternalID: "ext:inbox"})
	w.wantErr("an external id of the same account", err, core.ErrExternalID)
	taken, free := "inbox", "drafts"
	_, err = u.UpdateConfiguration(ctx, core.Selector{Configuration: sent.ID}, core.ConfigurationUpdate{ExternalID: &taken})
	w.wantErr("renaming to it", err, core.ErrExternalID)
	if got, err := u.UpdateConfiguration(ctx, core.Selector{Configuration: sent.ID}, core.ConfigurationUpdate{ExternalID: &free}); err != nil || got.ExternalID != free {
		t.Errorf("renaming = %+v, %v", got, err)
	}
	_, err = u.Configuration(ctx, core.Selector{Integration: calendar, Configuration: "sent"})
	w.wantErr("the old name", err, core.ErrNotFound)
	w.addConfiguration(ada.ID, core.ConfigurationInput{ExternalID: "sent"}) // free again
	if err := u.DeleteConfiguration(ctx, core.Selector{Credential: ada.ID, Configuration: "inbox"}); err != nil {
		t.Error(err)
	}
	if got, err := u.Configuration(ctx, core.Selector{Integration: calendar, Configuration: "inbox"}); err != nil || got.ID != other.ID {
		t.Errorf("inbox, once it means one = %s, %v, want %s", got.ID, err, other.ID)
	}
	w.wantErr("deleting it twice", u.DeleteConfiguration(ctx, core.Selector{Configuration: inbox.ID}), core.ErrNotFound)
	none := ""
	if got, err := u.UpdateConfiguration(ctx, core.Selector{Configuration: other.ID}, core.ConfigurationUpdate{ExternalID: &none}); err != nil || got.ExternalID != "" {
		t.Errorf("taking the name away = %+v, %v", got, err)
	}
	w.wantWhole("u", idsOf([]core.Credential{ada, bob}))
}

func TestConfigurationMergesAndRevisions(t *testing.T) {
	t.Parallel()
	w, ada := configured(t, []input.Input{{ID: "a", Type: input.Text, Default: "-"}, {ID: "b", Type: input.Text}})
	u, ctx, sel := w.engine.User("u"), t.Context(), core.Selector{Credential: ada.ID}
	update := func(in core.ConfigurationUpdate) core.Configuration {
		t.Helper()
		c, err := u.UpdateConfiguration(ctx, sel, in)
		if err != nil {
			t.Fatal(w.note(err))
		}
		return c
	}
	update(core.ConfigurationUpdate{Settings: map[string]any{"a": "1", "b": "2"}, Meta: map[string]any{"x": map[string]any{"y": []any{1, "z"}}, "k": true}})
	got := update(core.ConfigurationUpdate{Settings: map[string]any{"a": nil}, Meta: map[string]any{"k": nil, "n": 1.5}})
	if diff := cmp.Diff(map[string]any{"a": "-", "b": "2"}, got.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	meta := map[string]any{"x": map[string]any{"y": []any{1.0, "z"}}, "n": 1.5}
	if diff := cmp.Diff(meta, got.Meta); diff != "" {
		t.Errorf("meta (-want +got):\n%s", diff)
	}
	got.Meta["x"].(map[string]any)["y"].([]any)[0] = "changed by the caller"
	if diff := cmp.Diff(meta, w.configurations(ada.ID)[0].Meta); diff != "" {
		t.Errorf("meta read again (-want +got):\n%s", diff)
	}

	first := update(core.ConfigurationUpdate{Revision: got.Revision, Settings: map[string]any{"a": "first"}})
	_, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Revision: got.Revision, Settings: map[string]any{"a": "second"}})
	w.wantErr("an update of what is no longer there", err, core.ErrConflict)
	if now := w.configurations(ada.ID)[0]; now.Settings["a"] != "first" || now.Revision != first.Revision {
		t.Errorf("configuration = %+v, want that of the first", now)
	}
	// Of 64 that mean one state, one wins.
	var won atomic.Int64
	together(crowd, func(i int) {
		_, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Revision: first.Revision, Settings: map[string]any{"b": fmt.Sprint(i)}})
		if err == nil {
			won.Add(1)
		} else {
			w.wantErr("an update that lost", err, core.ErrConflict)
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d updates of one revision won, want 1", won.Load())
	}
}

// Settings that many change at once, each one of them, are all there in the end, whatever else happens to the account.
func TestConfigurationUpdateRace(t *testing.T) {
	t.Parallel()
	var inputs []input.Input
	for i := range crowd {
		inputs = append(inputs, input.Input{ID: fmt.Sprintf("s%d", i), Type: input.Number})
	}
	w, ada := configured(t, inputs)
	w.rotate()
	extra := w.addConfiguration(ada.ID, core.ConfigurationInput{ExternalID: "extra"})
	u, ctx := w.engine.User("u"), t.Context()
	w.clock.Advance(50 * time.Minute) // due: each use refreshes
	callbacks := w.begun("u", crowd/8, core.ConnectInput{Into: ada.ID}, func(int) string { return "ada" })
	together(crowd, func(i int) {
		for _, id := range []string{ada.ID, extra.ID} {
			if _, err := u.UpdateConfiguration(ctx, core.Selector{Configuration: id}, core.ConfigurationUpdate{
				Settings: map[string]any{fmt.Sprintf("s%d", i): i}, Meta: map[string]any{fmt.Sprintf("m%d", i): i},
			}); err != nil {
				t.Errorf("UpdateConfiguration() = %v", w.note(err))
			}
		}
		switch {
		case i%8 == 0:
			if _, err := w.callback(callbacks[i/8]); err != nil {
				t.Errorf("Callback() = %v", w.note(err))
			}
		case i%8 == 1:
			if _, err := u.Token(ctx, core.Selector{Credential: ada.ID}); err != nil {
				t.Errorf("Token() = %v", w.note(err))
			}
		case i%8 == 2:
			label := fmt.Sprint("label ", i)
			if _, err := u.Rename(ctx, core.Selector{Credential: ada.ID}, core.RenameInput{Label: &label}); err != nil {
				t.Errorf("Rename() = %v", w.note(err))
			}
		}
	})
	w.engine.Settle("u", ada.ID)
	for _, c := range w.configurations(ada.ID) {
		for i := range crowd {
			if c.Settings[fmt.Sprintf("s%d", i)] != float64(i) || c.Meta[fmt.Sprintf("m%d", i)] != float64(i) {
				t.Errorf("configuration %s: change %d was lost", c.ID, i)
			}
		}
	}
	w.wantOwn("u")
	if got := w.credential("u", ada.ID); !strings.HasPrefix(got.Label, "label ") || got.ExternalID != "work" {
		t.Errorf("credential = %+v, want its label and external id", got)
	}
	w.wantWhole("u", []string{ada.ID})
}

func TestConfigurationLimits(t *testing.T) {
	t.Parallel()
	w, ada := configured(t, []input.Input{{ID: "a", Type: input.TextArea}, {ID: "b", Type: input.TextArea}, {ID: "c", Type: input.TextArea}})
	u, ctx, sel := w.engine.User("u"), t.Context(), core.Selector{Credential: ada.ID}
	var made, refused atomic.Int64
	together(crowd, func(i int) {
		_, err := u.CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: fmt.Sprintf("c%d", i)})
		if err == nil {
			made.Add(1)
			return
		}
		refused.Add(1)
		w.wantErr("one too many", err, core.ErrTooMany)
	})
	if made.Load() != maxExtra || refused.Load() != crowd-maxExtra || len(w.configurations(ada.ID)) != maxExtra+1 {
		t.Errorf("made %d, refused %d, listed %d, want %d, %d, %d", made.Load(), refused.Load(), len(w.configurations(ada.ID)), maxExtra, crowd-maxExtra, maxExtra+1)
	}
	if all := w.configurations(ada.ID); !all[0].Default || !slices.IsSortedFunc(all[1:], func(a, b core.Configuration) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("configurations = %+v, want the default one first, then the oldest", all)
	}
	one := w.configurations(ada.ID)[1]
	if err := u.DeleteConfiguration(ctx, core.Selector{Configuration: one.ID}); err != nil {
		t.Fatal(err)
	}
	w.addConfiguration(ada.ID, core.ConfigurationInput{ExternalID: one.ExternalID}) // there is room again
	for _, tt := range []struct {
		name, field string
		in          core.ConfigurationUpdate
	}{
		{"settings too large together", "settings", core.ConfigurationUpdate{Settings: map[string]any{
			"a": strings.Repeat("x", 60<<10), "b": strings.Repeat("x", 60<<10), "c": strings.Repeat("x", 60<<10),
		}}},
		{"meta too large", "meta", core.ConfigurationUpdate{Meta: map[string]any{"a": strings.Repeat("x", 16<<10)}}},
		{"meta with an empty key", "meta", core.ConfigurationUpdate{Meta: map[string]any{"": 1}}},
		{"meta with a long key", "meta", core.ConfigurationUpdate{Meta: map[string]any{strings.Repeat("k", 256): 1}}},
		{"meta that is no JSON", "meta", core.ConfigurationUpdate{Meta: map[string]any{"a": math.Inf(1)}}},
		{"meta with a function", "meta", core.ConfigurationUpdate{Meta: map[string]any{"a": func() {}}}},
		{"meta with a secret", "meta", core.ConfigurationUpdate{Meta: map[string]any{"a": crypto.NewSecret("canary")}}},
	} {
		before := w.snapshot()
		_, err := u.UpdateConfiguration(ctx, sel, tt.in)
		w.wantInput(tt.name, err, tt.field)
		w.wantUnchanged(tt.name, before)
	}
	// All of them go in one step, also while several keys of the blind index live.
	w.addIndexKey()
	w.addIndexKey()
	for _, c := range w.configurations(ada.ID)[1:] { // each is known under each key
		name := "renamed " + c.ID
		if _, err := u.UpdateConfiguration(ctx, core.Selector{Configuration: c.ID}, core.ConfigurationUpdate{ExternalID: &name}); err != nil {
			t.Fatal(w.note(err))
		}
	}
	if err := u.Disconnect(ctx, sel); err != nil {
		t.Errorf("Disconnect() with %d configurations = %v", maxExtra+1, w.note(err))
	}
	w.wantWhole("u", nil)
	if left := len(w.raw('g')) + len(w.raw('y')) + len(w.raw('f')); left != 0 {
		t.Errorf("%d records and entries of configurations are left, want none", left)
	}
}

// A configuration is created, changed and deleted while its account goes: nothing is left behind.
func TestConfigurationRacesDisconnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	u, ctx := w.engine.User("u"), t.Context()
	for round := range 6 {
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		sel := core.Selector{Credential: ada.ID}
		old := w.addConfiguration(ada.ID, core.ConfigurationInput{ExternalID: "old"})
		var gone atomic.Int64
		together(crowd, func(i int) {
			var err error
			name := fmt.Sprint("name ", i)
			switch {
			case i == 8*round:
				if err = u.Disconnect(ctx, sel); err != nil {
					t.Errorf("round %d: Disconnect() = %v", round, err)
				}
			case i%4 == 0:
				_, err = u.UpdateConfiguration(ctx, core.Selector{Configuration: old.ID}, core.ConfigurationUpdate{ExternalID: &name})
			case i%4 == 1:
				_, err = u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Meta: map[string]any{name: i}})
			case i == 2:
				err = u.DeleteConfiguration(ctx, core.Selector{Configuration: old.ID})
			default:
				_, err = u.CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: name})
			}
			if err != nil {
				gone.Add(1)
				w.wantErr("a change of what is gone", err, core.ErrNotFound)
			}
		})
		w.wantWhole("u", nil)
		if left := len(w.raw('g')) + len(w.raw('y')) + len(w.raw('f')); left != 0 {
			t.Fatalf("round %d: %d records and entries are left, want none", round, left)
		}
	}
}

// Passwords go in and stay in: what they are set to stands in no configuration, event, error or log.
func TestSecurity17_ConfigurationPasswords(t *testing.T) {
	t.Parallel()
	w, ada := configured(t, oneOfEachType())
	w.change(func(in *core.Integration) {
		in.Setup = []input.Input{{ID: "pin", Type: input.Password}}
	})
	u, ctx, sel := w.engine.User("u").As("ada"), t.Context(), core.Selector{Credential: ada.ID}
	const password = "canary-password"
	c, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"password": password, "text": "open"}})
	if err != nil {
		t.Fatal(err)
	}
	account, err := u.CompleteSetup(ctx, sel, map[string]any{"pin": crypto.NewSecret("canary-pin")})
	if err != nil {
		t.Fatal(w.note(err))
	}
	again, err := u.Configuration(ctx, sel)
	if err != nil || !slices.Equal(again.Passwords, []string{"password"}) || again.Settings["password"] != nil || again.Settings["text"] != "open" {
		t.Errorf("Configuration() = %+v, %v, want the password named and not shown", again, err)
	}
	for _, c := range []any{c, again, w.configurations(ada.ID), account, w.list("u"), w.events(0)} {
		asJSON, err := json.Marshal(c)
		if err != nil {
			t.Error(err)
		}
		for _, text := range []string{string(asJSON), fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%q", c)} {
			if strings.Contains(text, "canary") {
				t.Errorf("%T shows the password: %s", c, text)
			}
		}
	}
	for field, want := range map[string]string{"settings.password": password, "setup.pin": "canary-pin"} {
		secret, err := u.Password(ctx, sel, field)
		if err != nil || secret.Reveal() != want {
			t.Errorf("Password(%s) = %v, %v, want what was set", field, secret, err)
		}
	}
	for field, want := range map[string]error{"settings.text": core.ErrInvalid, "settings.nope": core.ErrInvalid, "password": core.ErrInvalid, "": core.ErrInvalid} {
		_, err := u.Password(ctx, sel, field)
		w.wantErr("Password("+field+")", err, want)
	}
	// It is read with its configuration, keeps when others change, and goes with nil.
	extra := w.addConfiguration(ada.ID, core.ConfigurationInput{Settings: map[string]any{"password": "canary-other"}})
	if secret, err := u.Password(ctx, core.Selector{Configuration: extra.ID}, "settings.password"); err != nil || secret.Reveal() != "canary-other" {
		t.Errorf("Password() of another configuration = %v, %v, want its own", secret, err)
	}
	if _, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"text": "other"}}); err != nil {
		t.Error(err)
	}
	if secret, err := u.Password(ctx, sel, "settings.password"); err != nil || secret.Reveal() != password {
		t.Errorf("Password() after another setting was changed = %v, %v, want it kept", secret, err)
	}
	if _, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"password": nil}}); err != nil {
		t.Error(err)
	}
	_, err = u.Password(ctx, sel, "settings.password")
	w.wantErr("a password that was taken away", err, core.ErrNotFound)
	for _, bad := range []any{"", 5, []string{password}, map[string]any{"x": password}, strings.Repeat("canary-", 2000), "canary\x00"} {
		_, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"password": bad}})
		w.wantInput(fmt.Sprintf("a password of type %T", bad), err, "settings.password")
	}
	read := 0
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventPasswordRead {
			read++
			if ev.Actor.Person != "ada" || ev.Credential != ada.ID || !strings.Contains(ev.Details["input"], ".") {
				t.Errorf("event %v, want who read which input", ev)
			}
		}
	}
	if read != 4 {
		t.Errorf("%d events of a password that was read, want 4", read)
	}
	w.wantSealed(map[string]string{"a password": password, "another": "canary-other", "a pin": "canary-pin"})
}

// Each typed setting refuses what it is not, says what it wants, and changes nothing; what it takes comes back as it is.
func TestConfigurationTypes(t *testing.T) {
	t.Parallel()
	w, ada := configured(t, oneOfEachType())
	u, ctx, sel := w.engine.User("u"), t.Context(), core.Selector{Credential: ada.ID}
	good := map[input.Type]any{
		input.Text: "a", input.TextArea: "a\nb", input.Number: 1.5, input.Email: "ada@example.com",
		input.URL: "https://example.com/a", input.Boolean: true, input.Switch: false, input.Enum: "weekly",
		input.DynamicEnum: "C1", input.CustomDropdown: "x", input.Permission: true,
		input.Combo: map[string]any{"mainInput": "a", "dependentInput": "b"}, input.DynamicCombo: map[string]any{"mainInput": "a", "dependentInput": "b"},
		input.FieldMapper: map[string]any{"objectMapping": "Lead"}, input.File: map[string]any{"name": "a.txt", "data": "YQ=="},
	}
	huge := strings.Repeat("x", 200<<10)
	for _, in := range oneOfEachType() {
		field, beside := "settings."+in.ID, "text" // a setting that is fine, and not taken alone
		if in.ID == beside {
			beside = "textarea"
		}
		bad := []any{func() {}, make(chan int), struct{ A int }{1}, "\xff", huge, map[string]any{"nope": 1}, []any{map[string]any{}}}
		if in.Type != input.Number {
			bad = append(bad, 5)
		}
		if value, takes := good[in.Type]; takes {
			got, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{in.ID: value}})
			if diff := cmp.Diff(value, got.Settings[in.ID]); diff != "" || err != nil {
				t.Errorf("%s, %v (-given +shown):\n%s", in.ID, w.note(err), diff)
			}
		}
		for _, value := range bad {
			before := w.snapshot()
			_, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{in.ID: value, beside: "never stored"}})
			w.wantInput(fmt.Sprintf("%s of %T", in.ID, value), err, field)
			_, err = u.CreateConfiguration(ctx, sel, core.ConfigurationInput{Settings: map[string]any{in.ID: value}})
			w.wantInput(fmt.Sprintf("%s of %T in a new one", in.ID, value), err, field)
			w.wantUnchanged(in.ID, before)
			if err != nil && (len(err.Error()) > 600 || strings.Contains(err.Error(), "xxx") || !strings.Contains(err.Error(), "wants")) {
				t.Errorf("%s: error %.700v, want it to say what it wants, without the value", in.ID, err)
			}
		}
	}
	for key, field := range map[string]string{"nope": "settings.nope", "": "settings", "a b": "settings", huge: "settings"} {
		before := w.snapshot()
		_, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{key: "x"}})
		w.wantInput("an unknown setting", err, field)
		w.wantUnchanged("an unknown setting", before)
	}
}

// Index entries are not sealed: one that is forged never leads to another account than the configuration's own.
func TestConfigurationForgedIndex(t *testing.T) {
	t.Parallel()
	w, ada := configured(t, nil)
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	inbox := w.addConfiguration(ada.ID, core.ConfigurationInput{ExternalID: "inbox"})
	w.forge('f', 2, []string{inbox.ID, "00000000-0000-7000-8000-000000000000"}, []string{ada.ID, bob.ID}, []string{bob.ID, ada.ID})
	for id, want := range map[string]string{inbox.ID: ada.ID, ada.ID: ada.ID, bob.ID: bob.ID} {
		token, err := w.engine.User("u").Token(t.Context(), core.Selector{Configuration: id})
		if err == nil && token.Credential != want || err != nil && !errors.Is(w.note(err), core.ErrNotFound) {
			t.Errorf("Token of configuration %s = %s, %v, want %s or %v", id, token.Credential, err, want, core.ErrNotFound)
		}
	}
	w.forge('f', 2, []string{inbox.ID, bob.ID})
	if got, err := w.engine.User("u").Configuration(t.Context(), core.Selector{Configuration: inbox.ID, Credential: ada.ID}); err != nil || got.ID != inbox.ID {
		t.Errorf("Configuration() beside its account = %s, %v, want %s", got.ID, err, inbox.ID)
	}
}

// The event of a change can be read whatever its keys are: names that are cut stay valid UTF-8.
func TestConfigurationEventOfLongNames(t *testing.T) {
	t.Parallel()
	w, ada := configured(t, nil)
	key := "x" + strings.Repeat("ä", 40)
	if _, err := w.engine.User("u").UpdateConfiguration(t.Context(), core.Selector{Credential: ada.ID}, core.ConfigurationUpdate{Meta: map[string]any{key: 1}}); err != nil {
		t.Fatal(w.note(err))
	}
	events := w.events(0)
	last := events[len(events)-1]
	if meta := last.Details["meta"]; last.Kind != core.EventConfigurationUpdated || !strings.HasPrefix(key, strings.TrimSuffix(meta, "…")) || meta == "" || !utf8.ValidString(meta) {
		t.Errorf("event %v, want the update, with the beginning of the key", last)
	}
}
