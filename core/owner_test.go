package core_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
)

// consentAs begins to connect as a person of a user, up to the callback.
func (w *world) consentAs(user, person, login string, in core.ConnectInput) core.CallbackInput {
	w.Helper()
	in.Integration, in.Browser = calendar, "browser of "+person
	session, err := w.engine.User(user).As(person).Connect(w.Context(), in)
	if err != nil {
		w.Fatal(w.note(err))
	}
	return w.consent(session, login, calendar, in.Browser)
}

// The person who connects an account owns it, and nobody who authorises it anew takes it over.
func TestOwner(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, nil)
	ctx := t.Context()
	first, err := w.callback(w.consentAs("org", "ada", "ada", core.ConnectInput{ExternalID: "work"}))
	if err != nil || first.Owner != "ada" || first.User != "org" {
		t.Fatalf("connected = %+v, %v, want it owned by ada", first, err)
	}
	for what, in := range map[string]core.ConnectInput{
		"the same account": {AllowMultiple: true}, "into": {Into: first.ID},
	} {
		again, err := w.callback(w.consentAs("org", "bob", "ada", in))
		if err != nil || again.ID != first.ID || again.Owner != "ada" {
			t.Errorf("%s, by bob = %+v, %v, want it ada's still", what, again, err)
		}
	}
	w.invalidate("org", "ada", first.ID)
	if again, err := w.callback(w.consentAs("org", "bob", "ada", core.ConnectInput{})); err != nil || again.ID != first.ID || again.Owner != "ada" {
		t.Errorf("reconnected by bob = %+v, %v, want it ada's still", again, err)
	}
	// Nor does a replacement, a rename, or nobody in particular change it.
	w.change(func(in *core.Integration) { in.OtherAccount = core.OtherAccountReplace })
	if again, err := w.callback(w.consentAs("org", "bob", "cyd", core.ConnectInput{Into: "work"})); err != nil || again.Owner != "ada" || again.Account.Subject != "cyd" {
		t.Errorf("replaced by bob = %+v, %v, want it ada's still", again, err)
	}
	if again := w.mustConnect("org", "cyd", core.ConnectInput{Into: "work"}); again.Owner != "ada" {
		t.Errorf("authorised by nobody in particular = %+v, want it ada's still", again)
	}
	label := "L"
	if got, err := w.engine.User("org").As("bob").Rename(ctx, core.Selector{Credential: first.ID}, core.RenameInput{Label: &label}); err != nil || got.Owner != "ada" {
		t.Errorf("renamed by bob = %+v, %v, want it ada's still", got, err)
	}
	// The same with keys; without a person there is no owner.
	key := core.KeyInput{Integration: keys, Key: crypto.NewSecret("canary-key-bob"), AllowMultiple: true}
	byKey, err := w.engine.User("org").As("bob").AddKey(ctx, key)
	if err != nil || byKey.Owner != "bob" {
		t.Errorf("AddKey() = %+v, %v, want it owned by bob", byKey, err)
	}
	if again, err := w.engine.User("org").As("ada").AddKey(ctx, key); err != nil || again.ID != byKey.ID || again.Owner != "bob" {
		t.Errorf("AddKey() by ada = %+v, %v, want it bob's still", again, err)
	}
	if got := w.mustConnect("solo", "ada", core.ConnectInput{}); got.Owner != "" {
		t.Errorf("owner where nobody was named = %q, want none", got.Owner)
	}
	// Events say who did each of these.
	persons := map[string]int{}
	for _, ev := range w.events(0) {
		if ev.User == "org" {
			persons[string(ev.Kind)+" by "+ev.Actor.Person]++
			if ev.Kind == core.EventConnected && ev.Details["owner"] != ev.Actor.Person {
				t.Errorf("event %v, want the owner in it", ev)
			}
		}
	}
	want := map[string]int{
		"credential.connected by ada": 1, "credential.connected by bob": 1, "credential.reconnected by bob": 4,
		"credential.reconnected by ada": 1, "credential.reconnected by ": 1, "credential.renamed by bob": 1, "credential.invalidated by ": 1,
	}
	if diff := cmp.Diff(want, persons); diff != "" {
		t.Errorf("events of org (-want +got):\n%s", diff)
	}
	w.wantWhole("org", []string{first.ID})
}

// Of two persons who connect one account at once, one owns it, and stays the owner.
func TestOwnerRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	var callbacks []core.CallbackInput
	for i := range crowd {
		callbacks = append(callbacks, w.consentAs("org", fmt.Sprintf("person %d", i), "ada", core.ConnectInput{AllowMultiple: true}))
	}
	won := w.contest(crowd, func(i int) (core.Credential, error) { return w.callback(callbacks[i]) })
	owner := w.list("org")[0].Owner
	for _, c := range won {
		if c.Owner != owner {
			t.Errorf("connected = %+v, want it owned by %s", c, owner)
		}
	}
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventConnected && ev.Actor.Person != owner {
			t.Errorf("connected by %s, owned by %s, want one person", ev.Actor.Person, owner)
		}
	}
	w.wantWhole("org", idsOf(won[:1]))
}

// A person whose id is malformed can do nothing at all, and is told why.
func TestOwnerMalformed(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, nil)
	first := w.mustConnect("org", "ada", core.ConnectInput{})
	ctx, sel, label := t.Context(), core.Selector{Credential: first.ID}, "x"
	before := w.snapshot()
	for name, person := range map[string]string{
		"empty": "", "NUL": "\x00", "NUL inside": "a\x00b", "not UTF-8": "a\xff", "256 bytes": strings.Repeat("p", 256),
	} {
		u := w.engine.User("org").As(person)
		_, connect := u.Connect(ctx, core.ConnectInput{Integration: calendar, AllowMultiple: true})
		_, complete := u.CompleteConnect(ctx, core.CompleteInput{Integration: calendar, Code: "c"})
		_, outcome := u.ConnectOutcome(ctx, "handle")
		_, addKey := u.AddKey(ctx, core.KeyInput{Integration: keys, Key: crypto.NewSecret("canary-key-bob")})
		_, credential := u.Credential(ctx, sel)
		_, list := u.Credentials(ctx, core.ListInput{})
		_, token := u.Token(ctx, sel)
		_, source := u.TokenSource(ctx, sel)
		_, client := u.Client(ctx, sel)
		_, rename := u.Rename(ctx, sel, core.RenameInput{Label: &label})
		_, renameOnly := u.Rename(ctx, core.Selector{Integration: calendar}, core.RenameInput{Label: &label})
		_, setup := u.CompleteSetup(ctx, sel, nil)
		_, configurations := u.Configurations(ctx, sel)
		_, configuration := u.Configuration(ctx, core.Selector{Configuration: first.ID})
		_, create := u.CreateConfiguration(ctx, sel, core.ConfigurationInput{})
		_, update := u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{})
		_, password := u.Password(ctx, sel, "settings.x")
		for what, err := range map[string]error{
			"Connect": connect, "CompleteConnect": complete, "ConnectOutcome": outcome, "AddKey": addKey, "Credential": credential,
			"Credentials": list, "Token": token, "TokenSource": source, "Client": client, "Rename": rename, "Rename of the only one": renameOnly,
			"CompleteSetup": setup, "Configurations": configurations, "Configuration": configuration, "CreateConfiguration": create,
			"UpdateConfiguration": update, "DeleteConfiguration": u.DeleteConfiguration(ctx, core.Selector{Configuration: first.ID}),
			"Password": password, "Disconnect": u.Disconnect(ctx, sel),
		} {
			w.wantInput(what+" as a person whose id is "+name, err, "person")
		}
	}
	w.wantUnchanged("a malformed person", before)
	if got, err := w.engine.User("org").As(strings.Repeat("p", 255)).Credential(ctx, sel); err != nil || got.ID != first.ID {
		t.Errorf("as a person with 255 bytes: %v", err)
	}
}
