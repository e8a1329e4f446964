package core_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage"
)

// poll begins a session with a polling key, at the browser that flow uses.
func (g *gate) poll(u *core.User, key string) *core.ConnectSession {
	g.Helper()
	session, err := g.start(u, core.ConnectInput{PollingKey: key, AllowMultiple: true})
	if err != nil {
		g.Fatal(err)
	}
	return session
}

// finished has an account consent to a session, and comes back.
func (g *gate) finished(session *core.ConnectSession, login string) core.Credential {
	g.Helper()
	result, err := g.engine.Callback(g.Context(), g.consent(session, login, calendar, "the browser"))
	if g.note(err) != nil {
		g.Fatal(err)
	}
	return result.Credential
}

// wantOutcome fails the test unless that is what a handle learns by a polling key.
func (g *gate) wantOutcome(what string, u *core.User, key, credential string, want error) {
	g.Helper()
	result, err := u.ConnectOutcomeOf(g.Context(), key)
	g.wantErr(what+": ConnectOutcomeOf()", err, want)
	switch {
	case errors.Is(want, core.ErrSession) && result != nil:
		g.Errorf("%s: ConnectOutcomeOf() = %+v, want nothing beside %v", what, result, want)
	case want == nil && (result == nil || result.Credential.ID != credential || !result.Replayed || result.User != u.ID()):
		g.Errorf("%s: ConnectOutcomeOf() = %+v, want %s", what, result, credential)
	case err != nil && result != nil && result.Credential.ID != "":
		g.Errorf("%s: ConnectOutcomeOf() = %+v beside %v, want no credential", what, result, err)
	}
}

// indexed counts the entries of an index, over all of the store.
func (w *world) indexed(tag byte) int {
	w.Helper()
	return len(slices.DeleteFunc(w.items(), func(item storage.Item) bool { return item.Key[0] != tag }))
}

// What came of a session is told by its polling key, as often as it is asked for, until it is given up.
func TestPollingKey(t *testing.T) {
	t.Parallel()
	g := newTokenGate(t, nil, nil)
	u := g.acme("")
	g.wantOutcome("unknown", u, "key", "", core.ErrSession)
	session := g.poll(u, "key")
	before := g.world.snapshot()
	g.wantOutcome("unfinished", u, "key", "", core.ErrUnfinished)
	g.wantUnchanged("asking", before)
	ada := g.finished(session, "ada")
	for range 2 {
		g.wantOutcome("finished", u, "key", ada.ID, nil)
	}
	g.wantOutcome("another key", u, "key ", "", core.ErrSession)
	for _, key := range []string{"", strings.Repeat("k", 256)} {
		g.wantOutcome("a key that is none", u, key, "", core.ErrSession)
	}
	_, err := g.start(u, core.ConnectInput{PollingKey: strings.Repeat("k", 256), AllowMultiple: true})
	g.wantInput("Connect with a long key", err, "pollingKey")
	g.poll(u, "canary-of-polling")
	g.wantSealed(map[string]string{"the polling key": "canary-of-polling"})
	if err := u.GiveUpConnect(t.Context(), "canary-of-polling"); err != nil {
		t.Fatal(err)
	}

	if err := u.GiveUpConnect(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	g.wantOutcome("given up", u, "key", "", core.ErrSession)
	for _, key := range []string{"key", "", "never", strings.Repeat("k", 256)} {
		if err := u.GiveUpConnect(t.Context(), key); err != nil {
			t.Errorf("GiveUpConnect(%q) = %v", key, err)
		}
	}
	if n := g.indexed('='); n != 0 {
		t.Errorf("%d entries are left, want none", n)
	}
	// The session itself went on.
	if result, err := u.ConnectOutcome(t.Context(), session.Handle); err != nil || result.Credential.ID != ada.ID {
		t.Errorf("ConnectOutcome() = %+v, %v, want %s", result, err, ada.ID)
	}
	if err := u.Disconnect(t.Context(), core.Selector{Credential: ada.ID}); err != nil {
		t.Fatal(err)
	}
	denied := g.poll(u, "denied")
	g.provider.DenyNext()
	_, err = g.engine.Callback(t.Context(), g.consent(denied, "ada", calendar, "the browser"))
	g.wantErr("Callback", err, core.ErrDenied)
	g.wantOutcome("denied", u, "denied", "", core.ErrDenied)
	late := g.poll(u, "late")
	g.clock.Advance(late.Expires.Sub(g.clock.Now()))
	g.wantOutcome("expired", u, "late", "", core.ErrSessionExpired)
}

// Under a key that was used again the newest session counts, but for one that has an account; all are given up together.
func TestPollingKeyUsedAgain(t *testing.T) {
	t.Parallel()
	g := newTokenGate(t, nil, nil)
	u := g.acme("")
	first := g.poll(u, "key")
	g.clock.Advance(time.Second)
	second := g.poll(u, "key")
	g.wantOutcome("none is finished", u, "key", "", core.ErrUnfinished)
	g.provider.DenyNext()
	_, err := g.engine.Callback(t.Context(), g.consent(second, "bob", calendar, "the browser"))
	g.wantErr("Callback", err, core.ErrDenied)
	g.wantOutcome("the newest was denied", u, "key", "", core.ErrDenied)
	ada := g.finished(first, "ada")
	g.wantOutcome("the older one has an account", u, "key", ada.ID, nil)
	g.clock.Advance(time.Second)
	third := g.poll(u, "key")
	g.wantOutcome("a newer one waits", u, "key", ada.ID, nil)
	bob := g.finished(third, "bob")
	g.wantOutcome("the newest has an account", u, "key", bob.ID, nil)
	for range 40 { // more than are looked at
		g.clock.Advance(time.Second)
		g.poll(u, "key")
	}
	g.wantOutcome("many newer ones wait", u, "key", "", core.ErrUnfinished)
	if err := u.GiveUpConnect(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	g.wantOutcome("given up", u, "key", "", core.ErrSession)
	if n := g.indexed('='); n != 0 {
		t.Errorf("%d entries are left, want none", n)
	}
}

// A polling key means something only to whom it is: the user, the person and, of tokens, one that may do the same. To anybody
// else it is unknown; who gives it up all the same, or uses it as well, changes nothing.
func TestSecurity11_PollingKey(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ctx := t.Context()
	const owner, all = `{"integration:*": {"credential:owner": true}}`, `{"integration:*": true}`
	of := func(user, person, claim string) *core.User {
		return d.enter(usertoken.MintInput{User: user, Person: person, Permissions: raw(claim)})
	}
	pat := of("acme", "pat", owner)
	session := d.poll(pat, "key")
	strangers := map[string]*core.User{
		"another user": of("initech", "pat", owner), "another person": of("acme", "kim", owner), "no person": of("acme", "", owner),
		"another permission": of("acme", "pat", all), "less": of("acme", "pat", `{}`),
		"the program, as another user": d.engine.User("initech").As("pat"), "the program, as another person": d.acme("kim"),
		"the program, as nobody": d.acme(""),
	}
	check := func(when, credential string, want error) {
		t.Helper()
		for name, u := range strangers {
			d.wantOutcome(when+", "+name, u, "key", "", core.ErrSession)
			before := d.world.snapshot()
			if err := u.GiveUpConnect(ctx, "key"); err != nil {
				t.Errorf("%s: GiveUpConnect() = %v", name, err)
			}
			d.wantUnchanged(name+": GiveUpConnect", before)
		}
		for name, u := range map[string]*core.User{
			"itself": pat, "the same token later": of("acme", "pat", owner), "the program, as that person": d.acme("pat"),
		} {
			d.wantOutcome(when+", "+name, u, "key", credential, want)
		}
		thief := pat.As("pat")
		_, err := thief.ConnectOutcomeOf(ctx, "key")
		d.wantErr(when+": a handle that names its person", err, core.ErrPermission)
		d.wantErr(when+": giving up with it", thief.GiveUpConnect(ctx, "key"), core.ErrPermission)
	}
	check("unfinished", "", core.ErrUnfinished)
	ada := d.finished(session, "ada")
	check("finished", ada.ID, nil)

	// Whoever else uses the key gets their own, and hides nothing, however often.
	for name, u := range strangers {
		if name == "less" || name == "no person" { // they cannot begin any
			continue
		}
		for i := range 20 {
			d.clock.Advance(time.Millisecond)
			if _, err := d.start(u, core.ConnectInput{PollingKey: "key", AllowMultiple: true}); err != nil {
				t.Fatalf("%s, %d: %v", name, i, err)
			}
			if name == "another permission" {
				break // of the same person: who hides their own sessions has only themselves to blame
			}
		}
		d.wantOutcome(name, u, "key", "", core.ErrUnfinished)
	}
	d.wantOutcome("after others used it", pat, "key", ada.ID, nil)
	// What the person may no longer see is not told.
	if err := d.engine.User("acme").Disconnect(ctx, core.Selector{Credential: ada.ID}); err != nil {
		t.Fatal(err)
	}
	d.wantOutcome("after a disconnect", pat, "key", "", core.ErrNotFound)
}

// Nothing is left in the indexes once sessions are swept, nor of a user who is deleted.
func TestPollingKeysAreSwept(t *testing.T) {
	t.Parallel()
	g := newTokenGate(t, nil, nil)
	for i := range 5 {
		g.poll(g.engine.User("umbrella"), fmt.Sprint("key", i%2))
		g.poll(g.engine.User("initech").As("pat"), "key")
	}
	g.finished(g.poll(g.acme(""), "key"), "ada")
	if n, m := g.indexed('='), g.indexed('+'); n != 11 || m != 10 {
		t.Errorf("%d polling keys and %d sessions that wait, want 11 and 10", n, m)
	}
	if left := g.traces("umbrella"); left["="] != 5 || left["+"] != 5 {
		t.Errorf("traces of umbrella = %v, want them in both indexes", left)
	}
	if _, err := g.engine.DeleteUser(t.Context(), "umbrella", nil); !errors.Is(err, core.ErrNotFound) { // has nothing but sessions
		t.Errorf("DeleteUser(umbrella) = %v, want %v", err, core.ErrNotFound)
	}
	if _, err := g.engine.User("umbrella").UpdateMeta(t.Context(), map[string]any{"Name": "U"}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.engine.DeleteUser(t.Context(), "umbrella", nil); err != nil {
		t.Fatal(err)
	}
	if left := g.traces("umbrella"); len(left) != 0 {
		t.Errorf("traces of umbrella = %v, want none", left)
	}
	g.clock.Advance(15*time.Minute + time.Hour + time.Minute)
	if err := coretest.Step(g.engine); err != nil {
		t.Fatal(err)
	}
	if n, m, left := g.indexed('='), g.indexed('+'), len(g.sessionItems()); n != 0 || m != 0 || left != 0 {
		t.Errorf("%d polling keys, %d sessions that wait and %d of sessions are left, want none", n, m, left)
	}
}

// A user may have a hundred sessions wait, whoever begins them; each that ends makes room, and nobody else is in the way.
func TestSecurity28_OpenSessions(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	var first *core.ConnectSession
	u := d.enter(usertoken.MintInput{})
	for i := range 100 {
		as := []*core.User{u, d.acme(""), d.acme("pat")}[i%3]
		session, err := d.start(as, core.ConnectInput{AllowMultiple: true})
		if err != nil {
			t.Fatalf("Connect %d: %v", i, err)
		}
		if i == 0 {
			first = session
		}
	}
	full := func(what string) {
		t.Helper()
		before := d.world.snapshot()
		for name, as := range map[string]*core.User{"token": u, "program": d.acme(""), "person": d.acme("pat")} {
			_, err := d.start(as, core.ConnectInput{AllowMultiple: true})
			d.wantErr(what+": Connect by "+name, err, core.ErrTooMany)
		}
		d.wantUnchanged(what, before)
	}
	room := func(what string) *core.ConnectSession {
		t.Helper()
		session, err := d.start(u, core.ConnectInput{AllowMultiple: true})
		if err != nil {
			t.Errorf("%s: Connect() = %v", what, err)
		}
		return session
	}
	full("a hundred wait")
	if _, err := d.start(d.engine.User("initech"), core.ConnectInput{}); err != nil {
		t.Errorf("Connect of another user = %v", err)
	}
	ada := d.finished(first, "ada")
	denied := room("one was finished")
	full("a hundred wait again")
	d.provider.DenyNext()
	_, err := d.engine.Callback(t.Context(), d.consent(denied, "bob", calendar, "the browser"))
	d.wantErr("Callback", err, core.ErrDenied)
	room("one was denied")
	full("and again")
	d.clock.Advance(15*time.Minute - time.Millisecond)
	full("a moment before they expire")
	d.clock.Advance(time.Millisecond)
	last := room("all have expired")
	d.finished(last, "cyd")
	if n := d.indexed('+'); n != 101 { // of which all have expired, and one is initech's
		t.Errorf("%d sessions are counted, want 101", n)
	}
	d.clock.Advance(time.Hour + 15*time.Minute)
	if err := coretest.Step(d.engine); err != nil {
		t.Fatal(err)
	}
	if n, left := d.indexed('+'), len(d.sessionItems()); n != 0 || left != 0 {
		t.Errorf("%d sessions are counted and %d items left, want none", n, left)
	}
	d.credential("acme", ada.ID)
}

// A host may allow more, or fewer; within what one user can be kept in mind.
func TestOpenSessionsOption(t *testing.T) {
	t.Parallel()
	g := newTokenGate(t, nil, func(o *core.Options) { o.OpenSessions = 2 })
	for _, want := range []error{nil, nil, core.ErrTooMany} {
		_, err := g.start(g.acme(""), core.ConnectInput{})
		g.wantErr("Connect()", err, want)
	}
	for name, tt := range map[string]struct {
		change func(*core.Options)
		field  string
	}{
		"negative": {func(o *core.Options) { o.OpenSessions = -1 }, "openSessions"}, "many": {func(o *core.Options) { o.OpenSessions = 1001 }, "openSessions"},
		"a short life": {func(o *core.Options) { o.TokenLifetime = time.Minute - 1 }, "tokenLifetime"},
		"a long life":  {func(o *core.Options) { o.TokenLifetime = 30*24*time.Hour + 1 }, "tokenLifetime"},
		"no life":      {func(o *core.Options) { o.TokenLifetime = -1 }, "tokenLifetime"},
	} {
		opts := g.opts
		tt.change(&opts)
		e, err := core.Open(t.Context(), g.store, g.keks, &opts)
		if g.wantInput("Open("+name+")", err, tt.field); err == nil {
			_ = e.Close()
		}
	}
}
