package core_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/permission"
)

// call does something to the account, or configuration, that a selector names.
type call func(ctx context.Context, u *core.User, sel core.Selector) error

// guarded are the methods of User that take a selector, and what a handle must be allowed to do for each; everything but
// the listed actions must not matter.
var guarded = map[string]struct {
	do   call
	need []core.Action // beside ActRead
	own  bool          // only configurations that are not the default one
}{
	"Credential": {do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Credential(ctx, sel)
		return err
	}},
	"Token": {need: []core.Action{core.ActToken}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Token(ctx, sel)
		return err
	}},
	"PickerToken": {need: []core.Action{core.ActToken}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.PickerToken(ctx, sel)
		return err
	}},
	"TokenSource": {need: []core.Action{core.ActToken}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.TokenSource(ctx, sel)
		return err
	}},
	"Client": {need: []core.Action{core.ActUse}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Client(ctx, sel)
		return err
	}},
	"Rename": {need: []core.Action{core.ActWrite}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Rename(ctx, sel, core.RenameInput{Label: new("another label")})
		return err
	}},
	"Setup": {need: []core.Action{core.ActRead}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Setup(ctx, sel)
		return err
	}},
	"CompleteSetup": {need: []core.Action{core.ActWrite}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.CompleteSetup(ctx, sel, map[string]any{"site": "north"})
		return err
	}},
	"Upstream": {need: []core.Action{core.ActUse}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Upstream(ctx, sel)
		return err
	}},
	"Authorize": {need: []core.Action{core.ActUse}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Authorize(ctx, permission.Proxy, sel)
		return err
	}},
	"Disconnect": {need: []core.Action{core.ActWrite}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		return u.Disconnect(ctx, sel)
	}},
	"Configurations": {do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Configurations(ctx, sel)
		return err
	}},
	"Configuration": {need: []core.Action{core.ActReadConfiguration}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Configuration(ctx, sel)
		return err
	}},
	"CreateConfiguration": {need: []core.Action{core.ActWriteConfiguration}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.CreateConfiguration(ctx, core.Selector{Integration: sel.Integration, Credential: sel.Credential}, core.ConfigurationInput{ExternalID: "one more"})
		return err
	}},
	"UpdateConfiguration": {need: []core.Action{core.ActWriteConfiguration}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"folder": "inbox"}})
		return err
	}},
	"DeleteConfiguration": {own: true, need: []core.Action{core.ActWriteConfiguration}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		return u.DeleteConfiguration(ctx, sel)
	}},
	"Password": {need: []core.Action{core.ActReadConfiguration, core.ActToken}, do: func(ctx context.Context, u *core.User, sel core.Selector) error {
		_, err := u.Password(ctx, sel, "settings.secret")
		return err
	}},
}

// elsewhere says which test denies what to the methods of User that take no selector.
var elsewhere = map[string]string{
	"ID":              "gives back what the caller has",
	"Format":          "prints what ID gives",
	"As":              "TestNarrowedHandleIsNobodyElse",
	"Credentials":     "TestNarrowedPages",
	"Connect":         "TestSecurity9_Connect",
	"AddKey":          "TestSecurity9_AddKey",
	"CompleteConnect": "TestSecurity9_SessionsOfOthers",
	"ConnectOutcome":  "TestSecurity9_SessionsOfOthers",
	"Disable":         "TestNarrowedHandleSwitchesNothing",
	"Enable":          "TestNarrowedHandleSwitchesNothing",

	"ConnectOutcomeOf": "TestSecurity11_PollingKey",
	"GiveUpConnect":    "TestSecurity11_PollingKey",
	"May":              "TestMay",
	"Person":           "gives back what the caller has",
	"TokenID":          "gives back what the caller has",
	"Meta":             "TestUserMetaPermission",
	"UpdateMeta":       "TestUserMetaPermission",
}

// Each method that a User has is denied to a handle that lacks what it needs. A new method has to get its case.
func TestEveryMethodIsGuarded(t *testing.T) {
	t.Parallel()
	handle := reflect.TypeFor[*core.User]()
	for i := range handle.NumMethod() {
		name := handle.Method(i).Name
		if _, ok := guarded[name]; !ok && elsewhere[name] == "" && name != "Narrow" { // which only tests have
			t.Errorf("User.%s has no case: say in guarded what a handle must be allowed to do for it, and that it is found by none that may not see", name)
		}
	}
	for name, c := range guarded {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, nil, nil)
			for i, lacking := range everything {
				t.Run(fmt.Sprintf("without action %d", lacking), func(t *testing.T) {
					account := g.mail(g.acme(""), fmt.Sprintf("login%d", i), core.KeyInput{})
					configuration := g.configure(account.ID, "work")
					before := g.snapshot(account.ID)
					u := g.narrow("", "all but one", may(slices.DeleteFunc(slices.Clone(everything), func(a core.Action) bool { return a == lacking })...))
					var want error
					switch {
					case lacking == core.ActRead, lacking == core.ActReadConfiguration && slices.Contains(c.need, lacking):
						want = core.ErrNotFound
					case slices.Contains(c.need, lacking):
						want = core.ErrPermission
					}
					sels := []core.Selector{{Credential: account.ID, Configuration: configuration.ID}}
					if !c.own && want != nil { // with want nil the first one may have removed it
						sels = append(sels, core.Selector{Credential: account.ID}, core.Selector{Credential: account.ID, Configuration: account.ID})
					}
					for _, sel := range sels {
						if lacking == core.ActReadConfiguration && sel.Configuration != "" && name != "CreateConfiguration" {
							want = core.ErrNotFound // what names it is not visible
						}
						g.wantErr(name+" of "+sel.String(), c.do(t.Context(), u, sel), want)
					}
					if after := g.snapshot(account.ID); want != nil && after != before {
						t.Errorf("after %s was denied:\n%s\nwant as before:\n%s", name, after, before)
					}
				})
			}
			t.Run("with what it needs", func(t *testing.T) {
				account := g.mail(g.acme(""), "last", core.KeyInput{})
				configuration := g.configure(account.ID, "work")
				u := g.narrow("", "enough", may(append(slices.Clone(c.need), core.ActRead, core.ActReadConfiguration)...))
				g.wantErr(name, c.do(t.Context(), u, core.Selector{Credential: account.ID, Configuration: configuration.ID}), nil)
			})
		})
	}
}

// snapshot is all that the unrestricted handle sees of an account, with the number of events so far.
func (g *gate) snapshot(credential string) string {
	g.Helper()
	sel := core.Selector{Credential: credential}
	account, err := g.acme("").Credential(g.Context(), sel)
	if err != nil {
		return err.Error()
	}
	configurations, err := g.acme("").Configurations(g.Context(), sel)
	if err != nil {
		g.Fatal(err)
	}
	return fmt.Sprintf("%+v\n%+v\n%d events", account, configurations, len(g.events(0)))
}

// What a handle may not see is found nowhere, and told in the same words as what does not exist, whatever it is named by.
func TestInvisibleIsAbsent(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	seen := g.mail(g.acme("ada"), "ada", core.KeyInput{ExternalID: "visible"})
	g.configure(seen.ID, "shown")
	hidden := g.mail(g.acme("bob"), "bob", core.KeyInput{ExternalID: "invisible"})
	configuration := g.configure(hidden.ID, "unseen")
	kept := g.configure(seen.ID, "private") // of the visible account, and yet not for this handle
	u := g.narrow("ada", "own, but for private", only(func(to core.Thing) bool {
		return to.Owner == "ada" && to.Configuration != "private"
	}))
	const nobody = "0192f0c1-7e3a-7000-8000-000000000001"

	for _, tt := range []struct {
		name           string
		hidden, absent core.Selector
	}{
		{"UUID", core.Selector{Credential: hidden.ID}, core.Selector{Credential: nobody}},
		{"UUID in capitals", core.Selector{Credential: strings.ToUpper(hidden.ID)}, core.Selector{Credential: strings.ToUpper(nobody)}},
		{"UUID at its integration", core.Selector{Integration: "mail", Credential: hidden.ID}, core.Selector{Integration: "mail", Credential: nobody}},
		{"UUID at another integration", core.Selector{Integration: calendar, Credential: hidden.ID}, core.Selector{Integration: calendar, Credential: nobody}},
		{"UUID at an unknown integration", core.Selector{Integration: "unknown", Credential: hidden.ID}, core.Selector{Integration: "unknown", Credential: nobody}},
		{"external id", core.Selector{Integration: "mail", Credential: "invisible"}, core.Selector{Integration: "mail", Credential: "nowhere"}},
		{"ext:", core.Selector{Integration: "mail", Credential: "ext:invisible"}, core.Selector{Integration: "mail", Credential: "ext:nowhere"}},
		{"external id at another integration", core.Selector{Integration: calendar, Credential: "invisible"}, core.Selector{Integration: calendar, Credential: "nowhere"}},
		{"configuration", core.Selector{Configuration: configuration.ID}, core.Selector{Configuration: nobody}},
		{"configuration at its integration", core.Selector{Integration: "mail", Configuration: configuration.ID}, core.Selector{Integration: "mail", Configuration: nobody}},
		{"configuration at another integration", core.Selector{Integration: calendar, Configuration: configuration.ID}, core.Selector{Integration: calendar, Configuration: nobody}},
		{"default configuration", core.Selector{Configuration: hidden.ID}, core.Selector{Configuration: nobody}},
		{"configuration by external id", core.Selector{Integration: "mail", Configuration: "unseen"}, core.Selector{Integration: "mail", Configuration: "nowhere"}},
		{"configuration by ext:", core.Selector{Integration: "mail", Configuration: "ext:unseen"}, core.Selector{Integration: "mail", Configuration: "ext:nowhere"}},
		{"configuration of its account", core.Selector{Credential: hidden.ID, Configuration: configuration.ID}, core.Selector{Credential: nobody, Configuration: configuration.ID}},
		{"configuration by external id of its account", core.Selector{Credential: hidden.ID, Configuration: "unseen"}, core.Selector{Credential: nobody, Configuration: "unseen"}},
		{"configuration of a visible account", core.Selector{Credential: seen.ID, Configuration: kept.ID}, core.Selector{Credential: seen.ID, Configuration: nobody}},
		{"configuration by external id of a visible account", core.Selector{Integration: "mail", Credential: "visible", Configuration: "private"}, core.Selector{Integration: "mail", Credential: "visible", Configuration: "nowhere"}},
		{"configuration by external id alone", core.Selector{Integration: "mail", Configuration: "private"}, core.Selector{Integration: "mail", Configuration: "nowhere"}},
		{"invisible configuration of another account", core.Selector{Credential: seen.ID, Configuration: configuration.ID}, core.Selector{Credential: seen.ID, Configuration: nobody}},
		{"invisible default configuration of another account", core.Selector{Credential: seen.ID, Configuration: hidden.ID}, core.Selector{Credential: seen.ID, Configuration: nobody}},
	} {
		for name, c := range guarded {
			if c.own && tt.hidden.Configuration == "" || name == "CreateConfiguration" && tt.hidden.Configuration != "" {
				continue // names nothing then, or names its configuration otherwise
			}
			got, want := g.note(c.do(t.Context(), u, tt.hidden)), g.note(c.do(t.Context(), u, tt.absent))
			if !errors.Is(got, core.ErrNotFound) || !errors.Is(want, core.ErrNotFound) {
				t.Errorf("%s by %s = %v, and %v where it is absent, want both %v", name, tt.name, got, want, core.ErrNotFound)
				continue
			}
			if got, want := neutral(got, tt.hidden), neutral(want, tt.absent); got != want {
				t.Errorf("%s by %s = %q, want %q as where it is absent", name, tt.name, got, want)
			}
		}
	}

	// Without a name, or with one that both have, only what is visible counts.
	for name, c := range guarded {
		if name == "Disconnect" || name == "DeleteConfiguration" {
			continue
		}
		g.wantErr(name+" without a name", c.do(t.Context(), u, core.Selector{Integration: "mail"}), unset(name))
	}
	if err := u.Disconnect(t.Context(), core.Selector{Integration: "mail"}); err != nil {
		t.Errorf("Disconnect of the one account that is visible = %v", err)
	}
	if left := g.everyone(); len(left) != 1 || left[0].ID != hidden.ID {
		t.Errorf("accounts = %v, want only the invisible one", left)
	}
	for name, c := range guarded {
		if name == "DeleteConfiguration" {
			continue
		}
		g.wantErr(name+" where nothing is visible", c.do(t.Context(), u, core.Selector{Integration: "mail"}), core.ErrNotConnected)
	}
}

// unset is what comes of a method at an account that nothing was set for.
func unset(method string) error {
	if method == "Password" {
		return core.ErrNotFound
	}
	return nil
}

// neutral is the text of an error without what the caller itself gave.
func neutral(err error, sel core.Selector) string {
	text := err.Error()
	for _, name := range []string{sel.Credential, sel.Configuration} {
		for _, form := range []string{name, strings.ToLower(name), strings.TrimPrefix(name, "ext:")} {
			if form != "" {
				text = strings.ReplaceAll(text, form, "…")
			}
		}
	}
	return text
}

// Pages end with what is visible, and never with the id of something else.
func TestNarrowedPages(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	owners := []string{"bob", "bob", "ada", "bob", "ada", "ada", "bob", "bob", "bob", "ada", "bob"}
	var want []string
	hidden := map[string]bool{}
	for i, owner := range owners {
		c := g.mail(g.acme(owner), fmt.Sprintf("login%d", i), core.KeyInput{})
		if hidden[c.ID] = owner != "ada"; owner == "ada" {
			want = append(want, c.ID)
		}
	}
	u := g.narrow("ada", "own", ownedBy("ada"))
	for _, integration := range []string{"", "mail"} {
		for limit := range len(owners) + 1 {
			var got []string
			for in := (core.ListInput{Integration: integration, Limit: limit}); ; {
				page, err := u.Credentials(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				if limit > 0 && len(page.Credentials) > limit {
					t.Errorf("a page of %d = %d accounts", limit, len(page.Credentials))
				}
				for _, c := range page.Credentials {
					got = append(got, c.ID)
				}
				if hidden[page.Next] {
					t.Errorf("Next = %s, which the handle may not see", page.Next)
				}
				if in.After = page.Next; in.After == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("pages of %d of %q = %v, want %v", limit, integration, got, want)
			}
		}
	}
	none := g.narrow("cyd", "own of cyd", ownedBy("cyd"))
	for _, limit := range []int{1, 3, 1000} {
		page, err := none.Credentials(t.Context(), core.ListInput{Integration: "mail", Limit: limit})
		if err != nil || len(page.Credentials) != 0 || page.Next != "" {
			t.Errorf("a page where nothing is visible = %+v, %v, want none and no Next", page, err)
		}
		if page, err = none.Credentials(t.Context(), core.ListInput{After: want[0], Limit: limit}); err != nil || page.Next != "" {
			t.Errorf("a page behind an invisible one = %+v, %v, want none and no Next", page, err)
		}
	}
}

// A configuration is found by its external id however many invisible ones of the same are in front.
func TestNarrowedConfigurationBehindManyInvisible(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	want := ""
	for i := range 130 {
		owner := "bob"
		if i == 64 {
			owner = "ada"
		}
		account := g.mail(g.acme(owner), fmt.Sprintf("login%d", i), core.KeyInput{})
		if c := g.configure(account.ID, "inbox"); owner == "ada" {
			want = c.ID
		}
	}
	last := g.mail(g.acme("cyd"), "cyd", core.KeyInput{}) // ids sort by time, so it comes last
	wantLast := g.configure(last.ID, "inbox").ID
	for person, want := range map[string]string{"ada": want, "cyd": wantLast} {
		u := g.narrow(person, "own of "+person, ownedBy(person))
		got, err := u.Configuration(t.Context(), core.Selector{Integration: "mail", Configuration: "inbox"})
		if err != nil || got.ID != want {
			t.Errorf("the inbox of %s = %s, %v, want %s", person, got.ID, err, want)
		}
	}
	_, err := g.acme("").Configuration(t.Context(), core.Selector{Integration: "mail", Configuration: "inbox"})
	g.wantErr("the inbox of somebody", err, core.ErrAmbiguous)
}

// Candidates are those that the handle sees: with two visible and one invisible the error names two.
func TestNarrowedAmbiguity(t *testing.T) {
	t.Parallel()
	for _, unselected := range []core.Unselected{core.Refuse, core.Oldest} {
		t.Run(string(unselected), func(t *testing.T) {
			t.Parallel()
			g := newGate(t, nil, func(o *core.Options) { o.Unselected = unselected })
			oldest := g.mail(g.acme("bob"), "bob", core.KeyInput{ExternalID: "canary-of-bob"})
			first := g.mail(g.acme("ada"), "ada", core.KeyInput{ExternalID: "first"})
			u := g.narrow("ada", "own", ownedBy("ada"))
			sel := core.Selector{Integration: "mail"}
			if got, err := u.Token(t.Context(), sel); err != nil || got.Credential != first.ID {
				t.Errorf("Token with one visible account = %s, %v, want %s", got.Credential, err, first.ID)
			}
			second := g.mail(g.acme("ada"), "cyd", core.KeyInput{ExternalID: "second"})
			for name, c := range guarded {
				err := g.note(c.do(t.Context(), u, sel))
				var ambiguous *core.AmbiguousError
				switch {
				case name == "DeleteConfiguration": // wants a name
				case errors.As(err, &ambiguous):
					if len(ambiguous.Candidates) != 2 || ambiguous.Candidates[0].ID != first.ID || ambiguous.Candidates[1].ID != second.ID {
						t.Errorf("%s: candidates %v, want %s and %s", name, ambiguous.Candidates, first.ID, second.ID)
					}
				case unselected == core.Refuse:
					t.Errorf("%s = %v, want an AmbiguousError", name, err)
				case slices.Contains([]string{"Credential", "Token", "TokenSource", "Client", "Upstream", "Authorize", "PickerToken"}, name): // those that use one
					g.wantErr(name, err, nil)
				default:
					t.Errorf("%s = %v, want an AmbiguousError: it changes what it finds", name, err)
				}
				if err != nil && (strings.Contains(err.Error(), oldest.ID) || strings.Contains(err.Error(), "of-bob")) {
					t.Errorf("%s = %v, which names an invisible account", name, err)
				}
			}
			if got, err := u.Credential(t.Context(), sel); unselected == core.Oldest && (err != nil || got.ID != first.ID) {
				t.Errorf("the oldest visible account = %s, %v, want %s", got.ID, err, first.ID)
			}
		})
	}
}

// Rights to one configuration alone suffice to make, change and remove it: its account's default one is none of its business.
func TestNarrowedToOneConfiguration(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	account := g.mail(g.acme("bob"), "bob", core.KeyInput{ExternalID: "work"})
	u := g.narrow("ada", "inbox", func(a core.Action, to core.Thing) bool {
		switch a {
		case core.ActRead:
			return true
		case core.ActReadConfiguration, core.ActWriteConfiguration:
			return to.Configuration == "inbox"
		}
		return false
	})
	ctx, sel := t.Context(), core.Selector{Integration: "mail", Credential: "work"}
	created, err := u.CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: "inbox"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = u.CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: "outbox"})
	g.wantErr("creating another", err, core.ErrPermission)
	_, err = u.CreateConfiguration(ctx, sel, core.ConfigurationInput{})
	g.wantErr("creating one without external id", err, core.ErrPermission)
	_, err = u.UpdateConfiguration(ctx, core.Selector{Configuration: created.ID}, core.ConfigurationUpdate{ExternalID: new("outbox")})
	g.wantErr("renaming it out of reach", err, core.ErrPermission)
	_, err = u.UpdateConfiguration(ctx, core.Selector{Configuration: created.ID}, core.ConfigurationUpdate{ExternalID: new("")})
	g.wantErr("taking its name away", err, core.ErrPermission)
	_, err = u.Configuration(ctx, sel)
	g.wantErr("the default one", err, core.ErrNotFound)
	found, err := u.Configurations(ctx, core.Selector{Credential: account.ID})
	if err != nil || len(found) != 1 || found[0].ID != created.ID {
		t.Errorf("Configurations() = %v, %v, want only %s", found, err, created.ID)
	}
	if err := u.DeleteConfiguration(ctx, core.Selector{Configuration: created.ID}); err != nil {
		t.Errorf("DeleteConfiguration() = %v", err)
	}

	// One that may be written but not read does not exist, and its name is taken all the same.
	g.configure(account.ID, "blind")
	blind := g.narrow("ada", "blind", may(core.ActRead, core.ActWriteConfiguration))
	_, err = blind.CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: "blind"})
	g.wantErr("a name that an invisible one has", err, core.ErrHiddenConflict)
	_, err = g.acme("").CreateConfiguration(ctx, sel, core.ConfigurationInput{ExternalID: "blind"})
	g.wantErr("a name that a visible one has", err, core.ErrExternalID)
}

// Who came with a token is the person that it names.
func TestNarrowedHandleIsNobodyElse(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	g.mail(g.acme("bob"), "bob", core.KeyInput{})
	u := g.narrow("ada", "own", ownedBy("ada"))
	for name, as := range map[string]*core.User{"bob": u.As("bob"), "ada": u.As("ada"), "nobody": u.As(""), "bob, twice": u.As("ada").As("bob")} {
		page, err := as.Credentials(t.Context(), core.ListInput{})
		if len(page.Credentials) != 0 {
			t.Errorf("as %s it sees %v", name, page.Credentials)
		}
		g.wantErr("acting as "+name, err, core.ErrPermission)
		_, err = g.tryMail(as, "cyd", core.KeyInput{})
		g.wantErr("connecting as "+name, err, core.ErrPermission)
	}
}
