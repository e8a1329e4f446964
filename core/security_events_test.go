package core_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// answer is what an event says: what, who, which account, why, and with what result.
type answer struct {
	Kind          core.EventKind
	Actor         core.Actor
	Credential    string
	Cause, Result string
}

// journal compares what is told of each act with what was done.
type journal struct {
	*gate
	after uint64
}

func newJournal(g *gate) *journal { return &journal{g, uint64(len(g.events(0)))} }

// tells fails the test unless an act, that is over, is told by exactly these events.
func (j *journal) tells(what string, want ...answer) {
	j.Helper()
	var got []answer
	for _, ev := range j.events(j.after) {
		got = append(got, answer{ev.Kind, ev.Actor, ev.Credential, ev.Cause, ev.Result})
		j.after = ev.Number
	}
	if diff := cmp.Diff(want, got); diff != "" {
		j.Errorf("%s is told (-want +got):\n%s", what, diff)
	}
}

// The same account is changed by a person, by a token, by nobody in particular and by the engine: each event says which of
// them it was, at which account, why, and what came of it.
func TestSecurity25_ActorCredentialCauseResult(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	ctx, ada, token, nobody := t.Context(), g.acme("ada"), g.narrow("bob", "all", may(everything...)), g.acme("")
	asAda := core.Actor{Type: core.ActorUser, Person: "ada"}
	asToken := core.Actor{Type: core.ActorUser, Person: "bob", TokenID: "token of all"}
	asNobody := core.Actor{Type: core.ActorUser}
	j := newJournal(g)

	id := g.mustFlow(ada, "ada", core.ConnectInput{}).ID
	j.tells("connecting", answer{core.EventConnected, asAda, id, "connect", "ok"})
	sel := core.Selector{Credential: id}
	for _, by := range []struct {
		u     *core.User
		actor core.Actor
	}{{ada, asAda}, {token, asToken}, {nobody, asNobody}} {
		g.wantErr("Rename", ignore(by.u.Rename(ctx, sel, core.RenameInput{Label: new(newLabel())})), nil)
		j.tells("renaming", answer{core.EventRenamed, by.actor, id, "request", "ok"})
	}

	// What fails is told with its code, and what is refused beforehand is no event.
	session, err := g.start(token, core.ConnectInput{AllowMultiple: true})
	if err != nil {
		t.Fatal(err)
	}
	g.provider.DenyNext()
	_, err = g.engine.Callback(ctx, g.consent(session, "bob", calendar, "the browser"))
	g.wantErr("Callback", err, core.ErrDenied)
	j.tells("a connect that the person refused", answer{core.EventConnectFailed, asToken, "", "connect", "denied"})
	g.wantErr("Disconnect", g.narrow("cyd", "none", may()).Disconnect(ctx, sel), core.ErrNotFound)
	j.tells("a disconnect that was not found")

	// The engine finds an authorisation ended, whoever asked.
	g.provider.Revoke("ada")
	g.clock.Advance(2 * time.Hour)
	g.wantErr("Token", ignore(nobody.Token(ctx, sel)), core.ErrReconnect)
	j.tells("losing the authorisation", answer{core.EventInvalidated, core.Actor{Type: core.ActorEngine}, id, "refresh", "invalid_grant"})
	g.wantErr("Disconnect", token.Disconnect(ctx, sel), nil)
	j.tells("disconnecting", answer{core.EventDisconnected, asToken, id, "request", "ok"})
}

// What an operator changes is told, and what was refused is not.
func TestSecurity25_OperatorChanges(t *testing.T) {
	t.Parallel()
	store := &placed{memory.New(), "here"}
	g := newGate(t, store, nil)
	ctx, e := t.Context(), g.engine
	j := newJournal(g)
	by := func(kind core.EventKind) answer {
		return answer{Kind: kind, Actor: core.Actor{Type: core.ActorOperator}, Cause: "request", Result: "ok"}
	}
	in := g.create(func(in *core.Integration) { in.Name = "contacts" })
	j.tells("CreateIntegration", by(core.EventIntegrationCreated))
	_, err := e.CreateIntegration(ctx, in)
	g.wantErr("CreateIntegration of what is there", err, core.ErrExists)
	stale := in
	in.OAuth2.TokenURL += "/new"
	in, err = e.UpdateIntegration(ctx, in)
	g.wantErr("UpdateIntegration", err, nil)
	told := g.events(j.after)
	if len(told) != 1 || told[0].Integration != "contacts" || told[0].Details["changed"] != "oauth2.tokenUrl" {
		t.Errorf("a new token URL is told as %v, want one event that names contacts and oauth2.tokenUrl", told)
	}
	j.tells("UpdateIntegration", by(core.EventIntegrationUpdated))
	_, err = e.UpdateIntegration(ctx, stale)
	g.wantErr("UpdateIntegration of an old revision", err, core.ErrConflict)
	g.wantErr("SetClientSecret", e.SetClientSecret(ctx, in.Name, crypto.NewSecret(clientSecret)), nil)
	j.tells("SetClientSecret", by(core.EventClientSecretSet))
	g.mail(g.acme(""), "ada", core.KeyInput{})
	g.events(0)
	j.after++ // the account
	g.wantErr("DeleteIntegration in use", e.DeleteIntegration(ctx, "mail"), core.ErrInUse)
	g.wantErr("DeleteIntegration", e.DeleteIntegration(ctx, in.Name), nil)
	j.tells("DeleteIntegration", by(core.EventIntegrationDeleted))
	store.place, g.opts.TakeOver = "elsewhere", true
	g.open()
	over := by(core.EventTakenOver)
	over.Cause = "take_over"
	j.tells("a take-over", over)
}

// Who reads a password is told before it is given out: where that cannot be stored, it stays where it is.
func TestSecurity25_SecretReads(t *testing.T) {
	t.Parallel()
	store := &fillable{Store: memory.New()}
	g := newGate(t, store, nil)
	account := g.mail(g.acme("ada"), "ada", core.KeyInput{})
	configuration := g.configure(account.ID, "work")
	sel := core.Selector{Configuration: configuration.ID}
	j := newJournal(g)
	for _, by := range []struct {
		u     *core.User
		actor core.Actor
	}{
		{g.acme("ada"), core.Actor{Type: core.ActorUser, Person: "ada"}},
		{g.narrow("bob", "all", may(everything...)), core.Actor{Type: core.ActorUser, Person: "bob", TokenID: "token of all"}},
		{g.acme(""), core.Actor{Type: core.ActorUser}},
	} {
		got, err := by.u.Password(t.Context(), sel, "settings.secret")
		if err != nil || got.Reveal() != "canary-secret" {
			t.Errorf("Password() = %t, %v, want it", got.Reveal() == "canary-secret", g.note(err))
		}
		j.tells("reading a password", answer{core.EventPasswordRead, by.actor, account.ID, "request", "ok"})
	}
	store.full.Store(true)
	got, err := g.acme("ada").Password(t.Context(), sel, "settings.secret")
	if g.wantErr("Password", err, storage.ErrFull); !got.IsZero() {
		t.Error("a password was given out whose reading could not be told")
	}
	store.full.Store(false)
	j.tells("what was not given out")
}
