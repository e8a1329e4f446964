package core_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
)

// Ada's token may do everything with the accounts that she connected, and nothing with bob's, at the same integration of
// the same organisation: rules 1 to 4 act as if his were not there, and where they cannot, they say nothing of them.
func TestRule9Authority(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	bobs := g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "work", Label: "of bob"})
	u := g.narrow("ada", "own", ownedBy("ada"))
	named := core.Selector{Integration: calendar, Credential: "work"}

	// She finds none, though there is one.
	_, err := u.Token(t.Context(), core.Selector{Integration: calendar})
	g.wantErr("a token where only bob's account is", err, core.ErrNotConnected)
	_, err = u.Token(t.Context(), core.Selector{Credential: bobs.ID})
	g.wantErr("a token of bob's account", err, core.ErrNotFound)

	// Rule 1: hers is the first one that she sees, so no AllowMultiple is needed, and hers the second one needs it.
	adas := g.mustFlow(u, "ada", core.ConnectInput{})
	if adas.Owner != "ada" || adas.ID == bobs.ID {
		t.Fatalf("the account = %+v, want one of ada's own", adas)
	}
	_, err = g.start(u, core.ConnectInput{})
	g.wantErr("her second one, not asked for", err, core.ErrAlreadyConnected)

	// Rule 2: it is added. Rule 7: of the two that she sees, none is chosen; bob's is no candidate.
	second := g.mustFlow(u, "cyd", core.ConnectInput{AllowMultiple: true, ExternalID: "home"})
	_, err = u.Token(t.Context(), core.Selector{Integration: calendar})
	var ambiguous *core.AmbiguousError
	if !errors.As(g.note(err), &ambiguous) || len(ambiguous.Candidates) != 2 || ambiguous.Candidates[0].ID != adas.ID || ambiguous.Candidates[1].ID != second.ID {
		t.Errorf("Token() of none in particular = %v, want an AmbiguousError naming her two", err)
	}

	// Rule 3: into bob's account leads nowhere, by whatever name.
	for _, into := range []string{bobs.ID, "work", "ext:work"} {
		_, err = g.start(u, core.ConnectInput{Into: into})
		g.wantErr("into bob's account as "+into, err, core.ErrNotFound)
	}

	// Rules 4 and 5: what he has at the provider, and what he calls it, is taken: one error for both, which names nothing.
	_, account := g.flow(u, "bob", core.ConnectInput{AllowMultiple: true})
	_, name := u.Rename(t.Context(), core.Selector{Credential: adas.ID}, core.RenameInput{ExternalID: new("work")})
	g.wantErr("bob's account at the provider", account, core.ErrHiddenConflict)
	g.wantErr("bob's name for it", name, core.ErrHiddenConflict)
	if core.Message(account) != core.Message(name) {
		t.Errorf("messages = %q and %q, want the same", core.Message(account), core.Message(name))
	}
	// Into one of hers it is another account than that, like any other: that it is connected is not said.
	_, into := g.flow(u, "bob", core.ConnectInput{Into: adas.ID})
	g.wantErr("bob's account into one of hers", into, core.ErrAccountMismatch)
	for _, err := range []error{account, name, into} {
		if err != nil && (strings.Contains(err.Error(), bobs.ID) || strings.Contains(err.Error(), "bob")) {
			t.Errorf("error %q, want nothing of bob's in it", err)
		}
	}

	// Rule 8: she disconnects her own only.
	g.wantErr("disconnecting bob's", u.Disconnect(t.Context(), named), core.ErrNotFound)
	g.wantErr("disconnecting hers", u.Disconnect(t.Context(), core.Selector{Credential: second.ID}), nil)

	// What a policy allows is asked again when the account answers: a session begun before is no way around.
	session, err := g.start(u, core.ConnectInput{AllowMultiple: true})
	if err != nil {
		t.Fatal(err)
	}
	callback := g.consent(session, "cyd", calendar, "the browser")
	g.policies.Set("own", may(core.ActRead))
	_, err = g.callback(callback)
	g.wantErr("a session whose token was cut back meanwhile", err, core.ErrPermission)

	left := g.everyone()
	if len(left) != 2 || left[0].ID != bobs.ID || left[1].ID != adas.ID {
		t.Errorf("accounts in the end = %v, want bob's and hers", left)
	}
	if diff := cmp.Diff(bobs, left[0]); diff != "" {
		t.Errorf("bob's account (-before +after):\n%s", diff)
	}
}

// Three people and a token work with two accounts of one organisation: of each thing that is done the log says by whom and
// as which account, and the program's own uses are nobody's.
func TestRule10WhoDidWhat(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	j := newJournal(g)
	person := func(name string) core.Actor { return core.Actor{Type: core.ActorUser, Person: name} }
	token := g.narrow("cyd", "all", may(everything...))
	byToken := core.Actor{Type: core.ActorUser, Person: "cyd", TokenID: "token of all"}

	work := g.mail(g.acme("ada"), "ada", core.KeyInput{ExternalID: "work"}).ID
	j.tells("ada connects", answer{core.EventConnected, person("ada"), work, "key", "ok"})
	home := g.mail(g.acme("bob"), "bob", core.KeyInput{ExternalID: "home"}).ID
	j.tells("bob connects", answer{core.EventConnected, person("bob"), home, "key", "ok"})

	g.tokens(g.acme("ada"), home, 1) // ada, as the account that bob connected
	j.tells("ada uses bob's", answer{core.EventUsed, person("ada"), home, "token", "ok"})
	g.tokens(token, work, 3)
	j.tells("cyd's token, three times", answer{core.EventUsed, byToken, work, "token", "ok"})
	client, err := g.acme("bob").Client(t.Context(), core.Selector{Credential: work})
	if err != nil {
		t.Fatal(err)
	}
	if as, err := g.me(client); err != nil || as != "ada@example.com" {
		t.Errorf("the provider saw %q, %v, want ada's account, whoever asked", as, err)
	}
	j.tells("bob's request", answer{core.EventUsed, person("bob"), work, "client", "ok"})
	g.tokens(g.acme(""), work, 2)
	j.tells("the program's own use")

	_, err = token.Rename(t.Context(), core.Selector{Credential: home}, core.RenameInput{Label: new("Home")})
	g.wantErr("Rename", err, nil)
	j.tells("cyd renames bob's", answer{core.EventRenamed, byToken, home, "request", "ok"})
	g.wantErr("Disconnect", g.acme("ada").Disconnect(t.Context(), core.Selector{Credential: home}), nil)
	j.tells("ada disconnects bob's", answer{core.EventDisconnected, person("ada"), home, "request", "ok"})
	g.wantErr("Disconnect", g.acme("").Disconnect(t.Context(), core.Selector{Credential: work}), nil)
	j.tells("the program disconnects", answer{core.EventDisconnected, core.Actor{Type: core.ActorUser}, work, "request", "ok"})
}
