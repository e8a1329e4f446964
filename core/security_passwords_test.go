package core_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

// show prints a value in every way that programs print values, into what is searched for secrets when the test ends.
func (w *world) show(values ...any) {
	w.Helper()
	for _, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			w.Errorf("json.Marshal(%T) = %v", v, err)
		}
		_, _ = fmt.Fprintf(w, "%s\n%v\n%+v\n%#v\n%q\n", text, v, v, v, v)
	}
}

// Values of type password are given out by User.Password and nothing else, sealed in the store, and never shown (security
// 17): whatever is printed here is searched for "canary" when the test ends.
func TestSecurity17_Passwords(t *testing.T) {
	t.Parallel()
	const setting, second, pin = "canary-setting-Sesame", "canary-second-Sesame", "canary-pin-Sesame"
	g := newGate(t, nil, nil)
	g.world.change(func(in *core.Integration) { in.Setup[1].Required = true })
	u, ctx := g.acme("ada"), t.Context()
	account := g.mustFlow(u, "ada", core.ConnectInput{ExternalID: "work"})
	if account.Status != core.StatusPending || !slices.Equal(account.Missing, []string{"pin"}) {
		t.Fatalf("the account = %+v, want it pending", account)
	}
	sel := core.Selector{Credential: account.ID}
	after := uint64(len(g.events(0)))

	account, err := u.CompleteSetup(ctx, sel, map[string]any{"pin": pin, "site": "north"})
	if err != nil || account.Status != core.StatusValid {
		t.Fatalf("CompleteSetup() = %+v, %v", account, err)
	}
	byDefault, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"secret": setting, "folder": "inbox"}})
	if err != nil {
		t.Fatal(err)
	}
	extra, err := u.CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: "more", Settings: map[string]any{"secret": crypto.NewSecret(second)}})
	if err != nil {
		t.Fatal(err)
	}
	g.wantSealed(map[string]string{"the setting": setting, "the second setting": second, "the pin": pin})

	list, err := u.Configurations(ctx, sel)
	if err != nil {
		t.Fatal(err)
	}
	read, err := u.Configuration(ctx, core.Selector{Configuration: extra.ID})
	if err != nil {
		t.Fatal(err)
	}
	page, err := u.Credentials(ctx, core.ListInput{})
	if err != nil {
		t.Fatal(err)
	}
	renamed, err := u.Rename(ctx, sel, core.RenameInput{Label: new("Work")})
	if err != nil {
		t.Fatal(err)
	}
	in, err := g.engine.Integration(ctx, calendar)
	if err != nil {
		t.Fatal(err)
	}
	again := g.mustFlow(u, "ada", core.ConnectInput{Into: "work"})
	g.show(account, &account, byDefault, &byDefault, extra, list, read, page, renamed, in, again, u, g.engine.Quarantined())
	for _, c := range append(list, byDefault, extra, read) {
		if _, shown := c.Settings["secret"]; shown || !slices.Equal(c.Passwords, []string{"secret"}) {
			t.Errorf("configuration = %+v, want the name of its password and no value", c)
		}
	}
	setup, err := u.Setup(ctx, sel)
	if diff := cmp.Diff(core.Setup{Values: map[string]any{"site": "north"}, Passwords: []string{"pin"}}, setup); diff != "" || err != nil {
		t.Errorf("Setup() (-want +got), %v:\n%s", err, diff)
	}
	g.show(setup, &setup)

	// Only Password reads them, one by one, and each time is an event.
	for _, want := range []struct {
		sel          core.Selector
		field, value string
		of           string // which configuration the event names
	}{
		{sel, "settings.secret", setting, account.ID},
		{core.Selector{Configuration: extra.ID}, "settings.secret", second, extra.ID},
		{sel, "setup.pin", pin, account.ID},
	} {
		before := len(g.events(after))
		got, err := u.Password(ctx, want.sel, want.field)
		if err != nil || got.Reveal() != want.value {
			t.Errorf("Password(%s, %s) = %q, %v, want %q", want.sel, want.field, got.Reveal(), err, want.value)
		}
		g.show(fmt.Sprint(got))
		told := g.events(after)[before:]
		if len(told) != 1 || told[0].Kind != core.EventPasswordRead || told[0].Configuration != want.of || told[0].Details["input"] != want.field || told[0].Actor.Person != "ada" {
			t.Errorf("Password(%s) is told as %v, want one %s", want.field, told, core.EventPasswordRead)
		}
	}
	before := len(g.events(after))
	for field, want := range map[string]error{
		"secret": core.ErrInvalid, "settings.folder": core.ErrInvalid, "settings.": core.ErrInvalid, "setup.secret": core.ErrInvalid,
		"settings.pin": core.ErrInvalid, "": core.ErrInvalid, "other.secret": core.ErrInvalid, "settings.secret\n": core.ErrInvalid,
	} {
		_, err := u.Password(ctx, sel, field)
		g.wantErr("Password of "+field, err, want)
	}
	_, err = u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"secret": nil}})
	g.wantErr("taking the setting away", err, nil)
	_, err = u.Password(ctx, sel, "settings.secret")
	g.wantErr("Password of what is not set", err, core.ErrNotFound)
	if told := g.events(after)[before:]; len(told) != 1 {
		t.Errorf("what was refused is told as %v, want only the update", told)
	}

	// Errors about them show nothing either.
	for name, value := range map[string]any{
		"a list": []string{pin}, "an object": map[string]any{"canary-key": pin}, "too long": strings.Repeat("canary-pin ", 1000),
		"NUL": pin + "\x00", "not UTF-8": pin + "\xff", "bytes": []byte(pin), "empty": "",
	} {
		_, err := u.CompleteSetup(ctx, sel, map[string]any{"pin": value})
		g.wantInput("a pin that is "+name, err, "setup.pin")
		_, err = u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"secret": value}})
		g.wantInput("a secret that is "+name, err, "settings.secret")
	}
	_, err = u.CompleteSetup(ctx, sel, map[string]any{"canary pin": "x"})
	g.wantInput("a value as a key that is none", err, "setup")

	// A text that became a password is one from then on, and back again shows nothing that was a password.
	g.world.change(func(in *core.Integration) { in.Settings[0].Type = input.Password })
	c, err := u.Configuration(ctx, sel)
	if err != nil || len(c.Settings) != 0 {
		t.Errorf("Configuration() = %+v, %v, want no value of what is a password now", c, err)
	}
	g.world.change(func(in *core.Integration) {
		in.Settings[0].Type, in.Settings[1].Type, in.Setup[1].Type = input.Text, input.Text, input.Text
	})
	c, err = u.Configuration(ctx, core.Selector{Configuration: extra.ID})
	if err != nil {
		t.Fatal(err)
	}
	account, err = u.Credential(ctx, sel)
	if err != nil {
		t.Fatal(err)
	}
	g.show(c, account)
	if setup, err = u.Setup(ctx, sel); err != nil || setup.Values["pin"] != nil || c.Settings["secret"] != nil {
		t.Errorf("passwords that are texts now are shown: %v, %v, %v", setup, c.Settings, err)
	}
	g.world.change(func(in *core.Integration) { in.Setup[0].Type = input.Password })
	if setup, err = u.Setup(ctx, sel); err != nil || len(setup.Values) != 0 {
		t.Errorf("a text that is a password now is shown: %v, %v", setup, err)
	}
	_, err = u.Password(ctx, sel, "setup.pin")
	g.wantErr("Password of what is a text now", err, core.ErrInvalid)
	if err := u.Disconnect(ctx, sel); err != nil {
		t.Fatal(err)
	}
	_, err = u.Password(ctx, sel, "setup.pin")
	g.wantErr("Password of what is gone", err, core.ErrNotFound)
	for _, ev := range g.events(0) {
		g.show(ev)
	}
}

// Who may not take tokens out may not read passwords, and asking is no event.
func TestSecurity17_PasswordNeedsToken(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	account := g.mail(g.acme("ada"), "ada", core.KeyInput{})
	g.configure(account.ID, "work")
	u := g.narrow("ada", "all but tokens", func(a core.Action, _ core.Thing) bool { return a != core.ActToken })
	before := len(g.events(0))
	for _, field := range []string{"settings.secret", "setup.pin", "settings.unknown"} {
		for _, sel := range []core.Selector{{Credential: account.ID}, {Integration: "mail", Configuration: "work"}} {
			got, err := u.Password(t.Context(), sel, field)
			if !errors.Is(g.note(err), core.ErrPermission) || !got.IsZero() {
				t.Errorf("Password(%s, %s) = %v, %v, want %v", sel, field, got, err, core.ErrPermission)
			}
		}
	}
	if got := len(g.events(0)); got != before {
		t.Errorf("%d events, want %d as before", got, before)
	}
}
