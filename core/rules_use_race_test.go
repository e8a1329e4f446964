package core_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
)

// under makes a change while a crowd acts, again and again. Once it is made each acts one last time, which sees it settled.
func under(t *testing.T, change func() error, act func(settled bool)) {
	t.Helper()
	made := make(chan struct{})
	together(crowd, func(i int) {
		if i == 0 {
			defer close(made)
			if err := change(); err != nil {
				t.Errorf("a change: %v", err)
			}
			return
		}
		for {
			select {
			case <-made:
				act(true)
				return
			default:
				act(false)
			}
		}
	})
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
	found := map[string]*atomic.Int64{ids[0]: {}, ids[1]: {}}
	for n := range 8 {
		from, to := ids[n%2], ids[1-n%2]
		under(t, func() error {
			_, err1 := u.Rename(ctx, core.Selector{Credential: from}, core.RenameInput{ExternalID: &none})
			_, err2 := u.Rename(ctx, core.Selector{Credential: to}, core.RenameInput{ExternalID: &one})
			return errors.Join(err1, err2)
		}, func(settled bool) {
			token, err := u.Token(ctx, core.Selector{Integration: calendar, Credential: "one"})
			switch {
			case err == nil && (token.Credential == to || !settled && token.Credential == from):
				found[token.Credential].Add(1)
				if as := w.whose(token.Value.Reveal()); as != display[token.Credential] {
					t.Errorf("token of %s is %q, want %q", token.Credential, as, display[token.Credential])
				}
			case settled || !errors.Is(w.note(err), core.ErrNotFound):
				t.Errorf("move %d, settled = %t: Token(one) = that of %s, %v, want that of %s", n, settled, token.Credential, err, to)
			}
		})
	}
	for _, id := range ids {
		if got := found[id].Load(); got < 4*(crowd-1) { // at least the last act of each after four moves
			t.Errorf("%d calls found %s, want at least %d", got, display[id], 4*(crowd-1))
		}
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
	// Each call gets ada's token or an error; once all is settled, it gets what fits the number of accounts.
	call := func(settled bool, accounts int) {
		token, err := u.Token(ctx, core.Selector{Integration: calendar})
		switch {
		case (!settled || accounts == 1) && err == nil && token.Credential == ada.ID && w.whose(token.Value.Reveal()) == ada.Account.Display:
			alone.Add(1)
		case (!settled || accounts == 2) && errors.Is(w.note(err), core.ErrAmbiguous):
			ambiguous.Add(1)
		default:
			t.Errorf("%d accounts, settled = %t: Token() = %s, %v, want ada's of one and %v of two", accounts, settled, token.Credential, err, core.ErrAmbiguous)
		}
		if err := u.Disconnect(ctx, core.Selector{Integration: "nope"}); !errors.Is(err, core.ErrNotFound) {
			t.Errorf("Disconnect() = %v, want %v", err, core.ErrNotFound)
		}
	}
	const rounds = 6
	for range rounds {
		callback := w.mustBegin("u", "bob", core.ConnectInput{AllowMultiple: true})
		var bob core.Credential
		under(t, func() (err error) {
			bob, err = w.callback(callback)
			return err
		}, func(settled bool) { call(settled, 2) })
		under(t, func() error { return u.Disconnect(ctx, core.Selector{Credential: bob.ID}) }, func(settled bool) { call(settled, 1) })
	}
	if least := int64(rounds * (crowd - 1)); alone.Load() < least || ambiguous.Load() < least {
		t.Errorf("%d calls met one account and %d met two, want at least %d each", alone.Load(), ambiguous.Load(), least)
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
	w := newWorld(t, nil, nil)
	w.rotate()
	w.fields(map[string]any{"expires_in": 20}) // the clock goes on by less than the minute for which a code is good
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
				w.clock.Advance(time.Second)
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

// Two persons who see only their own accounts race: rule 1 holds for each of them, and an account is one person's.
func TestRule9AuthorityRace(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	g.people(crowd)
	persons := []string{"ada", "bob"}
	handles := map[string]*core.User{}
	for _, p := range persons {
		handles[p] = g.narrow(p, p+"'s", ownedBy(p))
	}
	race := func(in core.ConnectInput, login func(i int) string, lost ...error) []core.Credential {
		t.Helper()
		callbacks := make([]core.CallbackInput, crowd)
		for i := range callbacks {
			session, err := g.start(handles[persons[i%2]], in)
			if err != nil {
				t.Fatal(err)
			}
			callbacks[i] = g.consent(session, login(i), calendar, "the browser")
		}
		return g.contest(crowd, func(i int) (core.Credential, error) { return g.callback(callbacks[i]) }, lost...)
	}
	won := race(core.ConnectInput{}, person, core.ErrAlreadyConnected)
	owners := map[string]int{}
	for _, c := range won {
		owners[c.Owner]++
	}
	if diff := cmp.Diff(map[string]int{"ada": 1, "bob": 1}, owners); diff != "" {
		t.Errorf("connected accounts by owner (-want +got):\n%s", diff)
	}
	// The same account for both: one person has it, the other is told nothing of it.
	same := race(core.ConnectInput{AllowMultiple: true}, func(int) string { return "cyd" }, core.ErrHiddenConflict)
	if len(same) != crowd/2 || len(idsOf(same)) != 1 {
		t.Errorf("%d connects of one account won, with %d credentials, want %d with 1", len(same), len(idsOf(same)), crowd/2)
	}
	g.wantWhole("acme", idsOf(append(won, same[0])))
	g.wantOwn("acme")
	// Disconnects: everybody takes only what is theirs.
	all := g.list("acme")
	gone := g.contest(crowd, func(i int) (core.Credential, error) {
		c := all[i%len(all)]
		return c, handles[persons[i%2]].Disconnect(t.Context(), core.Selector{Credential: c.ID})
	}, core.ErrNotFound)
	if len(gone) != len(idsOf(gone)) {
		t.Errorf("%d disconnects of %d accounts won, want one each", len(gone), len(idsOf(gone)))
	}
	for _, ev := range g.events(0) {
		if ev.Kind != core.EventDisconnected {
			continue
		}
		if ev.Actor.Person != ev.Details["owner"] || ev.Actor.TokenID != "token of "+ev.Actor.Person+"'s" {
			t.Errorf("event %v, want the owner and their token as its actor", ev)
		}
	}
	g.wantWhole("acme", idsOf(g.list("acme")))
}

// Every use is counted for the person, the token and the credential, however many use it at once.
func TestRule10AttributionRace(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	ctx := t.Context()
	var accounts []core.Credential
	for _, login := range []string{"ada", "bob"} {
		accounts = append(accounts, g.mustConnect("acme", login, core.ConnectInput{AllowMultiple: true}))
	}
	seen := g.events(0)
	want := map[string]int{}
	key := func(person, token, credential, cause string) string {
		return strings.Join([]string{person, token, credential, cause}, " ")
	}
	var handles []*core.User
	for i := range 4 {
		person := fmt.Sprintf("person%d", i)
		handles = append(handles, g.acme(person), g.narrow(person, fmt.Sprintf("policy%d", i), may(everything...)))
	}
	for i := range crowd {
		person, token := fmt.Sprintf("person%d", i%8/2), ""
		if i%2 == 1 {
			token = fmt.Sprintf("token of policy%d", i%8/2)
		}
		want[key(person, token, accounts[i/8%2].ID, "token")] += 3
		want[key(person, token, accounts[i/8%2].ID, "client")] += 2
	}
	together(crowd, func(i int) {
		sel := core.Selector{Credential: accounts[i/8%2].ID}
		client, err := handles[i%8].Client(ctx, sel)
		if err != nil {
			t.Errorf("Client() = %v", g.note(err))
			return
		}
		for n := range 3 {
			if _, err := handles[i%8].Token(ctx, sel); err != nil {
				t.Errorf("Token() = %v", g.note(err))
			}
			if n == 0 {
				continue
			}
			if as, err := g.me(client); err != nil || as != accounts[i/8%2].Account.Display {
				t.Errorf("a request as %q, %v, want %q", as, err, accounts[i/8%2].Account.Display)
			}
		}
		if _, err := g.engine.User("acme").Token(ctx, sel); err != nil { // by nobody with a name: not counted
			t.Errorf("Token() = %v", g.note(err))
		}
	})
	got := map[string]int{}
	for _, ev := range g.events(seen[len(seen)-1].Number) {
		if ev.Kind != core.EventUsed || ev.User != "acme" || ev.Integration != calendar {
			t.Errorf("event %v, want only uses", ev)
		}
		n, err := strconv.Atoi(ev.Details["count"])
		if err != nil {
			t.Error(err)
		}
		got[key(ev.Actor.Person, ev.Actor.TokenID, ev.Credential, ev.Cause)] += n
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("uses by person, token, credential and cause (-want +got):\n%s", diff)
	}
}
