package core_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
)

func TestRename(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	u, ctx := w.engine.User("u").As("ada"), t.Context()
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work", Label: "Work"})
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: "home"})
	if ada.Label != "Work" || bob.Label != "" {
		t.Errorf("labels = %q and %q, want that of ConnectInput", ada.Label, bob.Label)
	}
	w.clock.Advance(time.Minute)
	text := func(s string) *string { return &s }
	last := len(w.events(0))
	for _, tt := range []struct {
		name              string
		in                core.RenameInput
		label, externalID string
		details           map[string]string // of the event; nil: there is none
	}{
		{"nothing", core.RenameInput{}, "Work", "work", nil},
		{"the same", core.RenameInput{Label: text(" Work "), ExternalID: text("ext:work")}, "Work", "work", nil},
		{
			"a label", core.RenameInput{Label: text("  Büro 🏢 ")}, "Büro 🏢", "work",
			map[string]string{"changed": "label", "label": "Büro 🏢"},
		},
		{
			"an external id", core.RenameInput{ExternalID: text(" ext: office ")}, "Büro 🏢", "office",
			map[string]string{"changed": "externalId", "externalId": "office", "previousExternalId": "work"},
		},
		{
			"both", core.RenameInput{Label: text("Work"), ExternalID: text("work")}, "Work", "work",
			map[string]string{"changed": "label,externalId", "label": "Work", "externalId": "work", "previousExternalId": "office"},
		},
		{
			"no external id", core.RenameInput{ExternalID: text("")}, "Work", "",
			map[string]string{"changed": "externalId", "previousExternalId": "work"},
		},
		{"no label", core.RenameInput{Label: text(" ")}, "", "", map[string]string{"changed": "label"}},
		{
			"one that another had", core.RenameInput{ExternalID: text("office")}, "", "office",
			map[string]string{"changed": "externalId", "externalId": "office"},
		},
	} {
		got, err := u.Rename(ctx, core.Selector{Credential: ada.ID}, tt.in)
		if err != nil || got.ID != ada.ID || got.Label != tt.label || got.ExternalID != tt.externalID || got.Status != core.StatusValid {
			t.Errorf("%s: Rename() = %+v, %v, want label %q, external id %q", tt.name, got, w.note(err), tt.label, tt.externalID)
		}
		if diff := cmp.Diff(got, w.credential("u", ada.ID)); diff != "" {
			t.Errorf("%s (-returned +stored):\n%s", tt.name, diff)
		}
		events := w.events(uint64(last))
		last += len(events)
		switch {
		case tt.details == nil && len(events) == 0:
		case len(events) != 1 || events[0].Kind != core.EventRenamed || events[0].Credential != ada.ID || events[0].Actor.Person != "ada":
			t.Errorf("%s: events = %v, want one of a rename", tt.name, events)
		default:
			details := events[0].Details
			delete(details, "revision")
			if diff := cmp.Diff(tt.details, details); diff != "" {
				t.Errorf("%s: details (-want +got):\n%s", tt.name, diff)
			}
		}
	}
	_, err := w.as("u", "work")
	w.wantErr("the old external id", err, core.ErrNotFound)
	if as, err := w.as("u", "office"); as != "ada@example.com" {
		t.Errorf("as(office) = %q, %v", as, err)
	}
	if got, err := u.Rename(ctx, core.Selector{Integration: calendar, Credential: "home"}, core.RenameInput{ExternalID: text("work")}); err != nil || got.ID != bob.ID {
		t.Errorf("Rename() to one that is free again = %+v, %v", got, w.note(err))
	}
	w.wantWhole("u", idsOf([]core.Credential{ada, bob}))

	before := w.snapshot()
	for name, in := range map[string]core.RenameInput{
		"only spaces": {ExternalID: text("  ")}, "only a prefix": {ExternalID: text("ext:")}, "two prefixes": {ExternalID: text("ext:ext:a")},
		"NUL": {ExternalID: text("a\x00")}, "not UTF-8": {ExternalID: text("\xff")}, "256 bytes": {ExternalID: text(strings.Repeat("x", 256))},
	} {
		_, err := u.Rename(ctx, core.Selector{Credential: ada.ID}, in)
		w.wantInput(name, err, "externalId")
	}
	for name, label := range map[string]string{
		"a line break": "a\nb", "an escape": "\x1b[1m", "text that runs backwards": "a\u202eb", "not UTF-8": "\xff", "256 bytes": strings.Repeat("x", 256),
	} {
		_, err := u.Rename(ctx, core.Selector{Credential: ada.ID}, core.RenameInput{Label: &label})
		w.wantInput(name, err, "label")
		_, err = w.begin("u", "cyd", core.ConnectInput{AllowMultiple: true, Label: label})
		w.wantInput("connecting with "+name, err, "label")
	}
	_, err = u.Rename(ctx, core.Selector{Credential: ada.ID}, core.RenameInput{ExternalID: text("ext:work"), Label: text("never stored")})
	w.wantErr("an external id that is taken", err, core.ErrExternalID)
	if err == nil || !strings.Contains(err.Error(), `"work"`) {
		t.Errorf("error %v, want it to name the external id", err)
	}
	_, err = u.Rename(ctx, core.Selector{Integration: calendar}, core.RenameInput{Label: text("x")})
	w.wantErr("none in particular of two", err, core.ErrAmbiguous)
	_, err = w.engine.User("v").Rename(ctx, core.Selector{Credential: ada.ID}, core.RenameInput{Label: text("x")})
	w.wantErr("another user's", err, core.ErrNotFound)
	w.wantUnchanged("what was refused", before)
}

// Many accounts are renamed to one external id: one gets it, and the ids of the others stay.
func TestRenameRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.create(func(in *core.Integration) {
		in.Name, in.OAuth2 = keys, nil
		in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
		in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject"}
	})
	u, ctx := w.engine.User("u"), t.Context()
	if err := w.engine.Fill(ctx, "u", keys, crowd); err != nil {
		t.Fatal(err)
	}
	one := "one"
	won := w.contest(crowd, func(i int) (core.Credential, error) {
		return u.Rename(ctx, core.Selector{Integration: keys, Credential: fmt.Sprintf("a%d", i)}, core.RenameInput{ExternalID: &one})
	}, core.ErrExternalID)
	if len(won) != 1 {
		t.Fatalf("%d renames won, want 1", len(won))
	}
	taken := map[string]bool{}
	page, err := u.Credentials(ctx, core.ListInput{Integration: keys, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range page.Credentials {
		if c.ExternalID != fmt.Sprintf("a%d", i) && (c.ID != won[0].ID || c.ExternalID != one) {
			t.Errorf("account %d is called %q", i, c.ExternalID)
		}
		taken[c.ExternalID] = true
	}
	if len(taken) != crowd || taken[won[0].Account.Subject] {
		t.Errorf("%d external ids are taken, and the old one of the winner: %t, want %d and false", len(taken), taken[won[0].Account.Subject], crowd)
	}
	// The old id is free, and one label after another is stored whole.
	old := won[0].Account.Subject
	again := w.contest(crowd, func(i int) (core.Credential, error) {
		label := fmt.Sprint("label ", i)
		return u.Rename(ctx, core.Selector{Integration: keys, Credential: one}, core.RenameInput{Label: &label})
	})
	if got := w.credential("u", won[0].ID); len(again) != crowd || !strings.HasPrefix(got.Label, "label ") || got.ExternalID != one {
		t.Errorf("after %d renames = %+v", len(again), got)
	}
	renamed := 0
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventRenamed {
			renamed++
		}
	}
	if renamed != 1+crowd {
		t.Errorf("%d events of a rename, want %d", renamed, 1+crowd)
	}
	if got, err := u.Rename(ctx, core.Selector{Credential: won[0].ID}, core.RenameInput{ExternalID: &old}); err != nil || got.ExternalID != old {
		t.Errorf("Rename() back = %+v, %v", got, w.note(err))
	}
	w.wantWhole("u", nil)
}
