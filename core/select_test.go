package core_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
)

func TestRule6Selectors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	bob := w.mustConnect("u", "bob", core.ConnectInput{ExternalID: "home", AllowMultiple: true})
	w.create(func(in *core.Integration) { in.Name = "mail" })
	mail := w.mustConnect("u", "cyd", core.ConnectInput{Integration: "mail", ExternalID: "home"})
	stranger := w.mustConnect("v", "cyd", core.ConnectInput{ExternalID: "hers"})

	for _, c := range []struct {
		sel  core.Selector
		want string
		err  error
	}{
		{core.Selector{Integration: calendar, Credential: ada.ID}, ada.ID, nil},
		{core.Selector{Credential: ada.ID}, ada.ID, nil},
		{core.Selector{Credential: strings.ToUpper(bob.ID)}, bob.ID, nil},
		{core.Selector{Integration: calendar, Credential: "home"}, bob.ID, nil},
		{core.Selector{Integration: calendar, Credential: " ext: home "}, bob.ID, nil},
		{core.Selector{Integration: "mail", Credential: "home"}, mail.ID, nil},
		{core.Selector{Integration: "mail"}, mail.ID, nil},
		{core.Selector{Integration: "mail", Credential: ada.ID}, "", core.ErrNotFound},
		{core.Selector{Integration: calendar, Credential: stranger.ID}, "", core.ErrNotFound},
		{core.Selector{Integration: calendar, Credential: "hers"}, "", core.ErrNotFound},
		{core.Selector{Integration: calendar, Credential: "Home"}, "", core.ErrNotFound},
		{core.Selector{Integration: "unknown", Credential: "home"}, "", core.ErrNotFound},
		{core.Selector{Integration: "unknown"}, "", core.ErrNotFound},
		{core.Selector{Credential: "home"}, "", core.ErrInvalid},
		{core.Selector{Integration: calendar, Credential: "ext:"}, "", core.ErrInvalid},
		{core.Selector{Integration: "a/b", Credential: "home"}, "", core.ErrInvalid},
		{core.Selector{}, "", core.ErrInvalid},
	} {
		got, err := w.engine.User("u").Credential(t.Context(), c.sel)
		if got.ID != c.want || !errors.Is(w.note(err), c.err) {
			t.Errorf("Credential(%q) = %s, %v, want %s, %v", c.sel, got.ID, err, c.want, c.err)
		}
	}
}

// An integration that does not exist is not merely one without accounts.
func TestUnknownIntegration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	u, ctx := w.engine.User("u"), t.Context()
	for _, sel := range []core.Selector{{Integration: "nope"}, {Integration: "nope", Credential: "work"}} {
		_, credential := u.Credential(ctx, sel)
		_, token := u.Token(ctx, sel)
		_, client := u.Client(ctx, sel)
		for what, err := range map[string]error{
			"Credential": credential, "Token": token, "Client": client, "Disconnect": u.Disconnect(ctx, sel),
		} {
			w.wantErr(what+" at "+sel.String(), err, core.ErrNotFound)
			if err != nil && !strings.Contains(err.Error(), "integration nope") {
				t.Errorf("%s at %s = %v, want it to say that the integration is not found", what, sel, err)
			}
		}
	}
	_, err := u.Credentials(ctx, core.ListInput{Integration: "nope"})
	w.wantErr("Credentials", err, core.ErrNotFound)
	w.wantErr("Disconnect where nothing is connected", u.Disconnect(ctx, core.Selector{Integration: calendar}), core.ErrNotConnected)
	page, err := u.Credentials(ctx, core.ListInput{Integration: calendar})
	if err != nil || len(page.Credentials) != 0 {
		t.Errorf("Credentials where nothing is connected = %v, %v, want an empty page", page, err)
	}
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.invalidate("u", "ada", ada.ID)
	_, err = u.Token(ctx, core.Selector{Integration: calendar})
	w.wantErr("a token where all have ended", err, core.ErrReconnect)
	if err := u.Disconnect(ctx, core.Selector{Integration: calendar}); err != nil {
		t.Errorf("Disconnect of the only account, which has ended = %v", err)
	}
}

func TestCredentialsInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) { in.Identity = core.Identity{} })
	w.create(func(in *core.Integration) { in.Name = "mail" })
	var want []string
	for i := range 7 {
		want = append(want, w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true, ExternalID: fmt.Sprint(i)}).ID)
	}
	mail := w.mustConnect("u", "ada", core.ConnectInput{Integration: "mail"})
	w.mustConnect("u2", "ada", core.ConnectInput{})

	pages := func(in core.ListInput) (ids []string) {
		t.Helper()
		for {
			page, err := w.engine.User("u").Credentials(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Credentials {
				ids = append(ids, c.ID)
			}
			if in.After = page.Next; in.After == "" {
				return ids
			}
		}
	}
	for _, limit := range []int{0, 1, 3, 7, 8} {
		if got := pages(core.ListInput{Integration: calendar, Limit: limit}); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("pages of %d = %v, want %v", limit, got, want)
		}
		if got := pages(core.ListInput{Limit: limit}); strings.Join(got, " ") != strings.Join(append(want[:7:7], mail.ID), " ") {
			t.Errorf("pages of %d of all integrations = %v, want %v and %s", limit, got, want, mail.ID)
		}
	}
	for _, bad := range []core.ListInput{{Limit: -1}, {Limit: 1001}, {After: "x"}, {Integration: "a/b"}} {
		_, err := w.engine.User("u").Credentials(t.Context(), bad)
		w.wantErr(fmt.Sprintf("Credentials(%+v)", bad), err, core.ErrInvalid)
	}
}
