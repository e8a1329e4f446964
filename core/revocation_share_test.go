package core_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// Rule 8: where the provider ends the whole grant, it is ended when the last account goes that stands for it.
func TestRevocationOfSharedGrant(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{Scope: core.RevokesGrant})
	first, second := w.mustConnect("u", "ada", core.ConnectInput{}), w.mustConnect("v", "ada", core.ConnectInput{})
	w.disconnect("u", first.ID)
	w.carryOut(0)
	w.wantRevoked("while another account stands for the grant", 0)
	w.wantEnd(ended(first, "ok", "grant", "shared"))
	if as, err := w.as("v", second.ID); as != "ada@example.com" {
		t.Errorf("the other account: as = %q, %v, want it to go on working", as, err)
	}
	token := w.mustToken("v", second.ID).Value.Reveal()
	w.disconnect("v", second.ID)
	w.carryOut(0)
	w.wantEnd(ended(first, "ok", "grant", "shared"), ended(second, "ok", "attempts", "1"))
	w.wantDead(token, crypto.Secret{})
}

// Two that go at the same moment do not both leave it to the other.
func TestRevocationOfSharedGrantRace(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{Scope: core.RevokesGrant})
	other := w.open()
	for round := range 25 {
		users := []string{fmt.Sprintf("u%d", round), fmt.Sprintf("v%d", round)}
		ids := map[string]string{}
		for _, user := range users {
			ids[user] = w.mustConnect(user, "ada", core.ConnectInput{}).ID
		}
		token := w.mustToken(users[0], ids[users[0]]).Value.Reveal()
		together(2, func(i int) {
			if err := w.engine.User(users[i]).Disconnect(t.Context(), core.Selector{Credential: ids[users[i]]}); err != nil {
				t.Error(err)
			}
		})
		w.clock.Advance(time.Minute)
		together(2, func(i int) {
			engine := []*core.Engine{w.engine, other}[i]
			if err := engine.RevokeDue(t.Context()); err != nil {
				t.Error(err)
			}
		})
		w.wantDead(token, crypto.Secret{})
	}
	w.clock.Advance(time.Hour)
	w.carryOut(0)
	if queued := w.queued(); len(queued) != 0 {
		t.Errorf("queued = %+v, want none", queued)
	}
}

// Who connects the account again before it is carried out keeps it.
func TestRevocationConnectedAgain(t *testing.T) {
	t.Parallel()
	unknown := func(in *core.Integration) { in.Identity = core.Identity{} }
	for _, tt := range []struct {
		name     string
		scope    core.RevocationScope
		provider func(sw *coretest.Switches)
		change   func(in *core.Integration)
		shared   bool
	}{
		{name: "the grant", scope: core.RevokesGrant, shared: true},
		{name: "tokens of its own", scope: core.RevokesToken},
		{name: "tokens of its own, and no identity", scope: core.RevokesToken, change: unknown},
		{
			name: "the same refresh token", scope: core.RevokesToken, shared: true,
			provider: func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"refresh_token": "rt-one"} },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, nil, core.Revocation{Scope: tt.scope})
			if tt.change != nil {
				w.change(tt.change)
			}
			if tt.provider != nil {
				w.provider.Set(tt.provider)
			}
			before := w.mustConnect("u", "ada", core.ConnectInput{})
			w.disconnect("u", before.ID)
			again := w.mustConnect("u", "ada", core.ConnectInput{})
			w.carryOut(0)
			calls, want := 2, ended(before, "ok", "attempts", "1")
			if tt.shared {
				calls, want = 0, ended(before, "ok", "grant", "shared")
			}
			w.wantRevoked("after it was connected again", calls)
			w.wantEnd(want)
			if as, err := w.as("u", again.ID); as != "ada@example.com" {
				t.Errorf("as = %q, %v, want the account that was connected again to work", as, err)
			}
		})
	}
}

// Accounts whose tokens were given back share nothing with each other; one that was connected again shares with them.
func TestRevocationOfCredentialsThatStay(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(in *core.Integration){
		"known":   func(*core.Integration) {},
		"unknown": func(in *core.Integration) { in.Identity = core.Identity{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, nil, core.Revocation{Scope: core.RevokesGrant})
			w.change(change)
			first, second := w.mustConnect("u", "ada", core.ConnectInput{}), w.mustConnect("v", "ada", core.ConnectInput{})
			token := w.mustToken("u", first.ID).Value.Reveal()
			revoke := func() {
				t.Helper()
				if _, err := w.engine.RevokeCredentials(t.Context(), calendar, nil); err != nil {
					t.Fatal(w.note(err))
				}
			}
			revoke()
			w.carryOut(0)
			w.wantDead(token, crypto.Secret{})
			w.wantEnd(ended(first, "ok", "attempts", "1"), ended(second, "ok", "attempts", "1"))

			w.mustConnect("u", "ada", core.ConnectInput{Into: first.ID})
			revoke()
			w.mustConnect("u", "ada", core.ConnectInput{Into: first.ID})
			calls := w.provider.Calls().Revoke
			w.carryOut(0)
			w.wantRevoked("of an account that was connected again", calls)
			if as, err := w.as("u", first.ID); as != "ada@example.com" {
				t.Errorf("as = %q, %v, want the account that was connected again to work", as, err)
			}
		})
	}
}

// An account that cannot be read shares nothing, and keeps no other from being disconnected.
func TestRevocationBesideDamage(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{Scope: core.RevokesGrant})
	first, second := w.mustConnect("u", "ada", core.ConnectInput{}), w.mustConnect("v", "ada", core.ConnectInput{})
	for _, item := range w.items() {
		if item.Key[0] == 'c' && bytes.Contains(item.Key, []byte(second.ID)) {
			put := storage.Put{Key: item.Key, Value: item.Value[:20], If: item.Rev, Rev: item.Rev + 1}
			if err := w.store.Apply(t.Context(), storage.Batch{Puts: []storage.Put{put}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.token("v", second.ID); err == nil {
		t.Fatal("the record is not damaged")
	}
	w.disconnect("u", first.ID)
	w.carryOut(0)
	w.wantEnd(ended(first, "ok", "attempts", "1"))
}

// Between the two tokens of one revocation somebody may connect the account again.
func TestRevocationConnectedInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{Scope: core.RevokesGrant})
	before := w.mustConnect("u", "ada", core.ConnectInput{})
	w.disconnect("u", before.ID)
	w.revokeFault(coretest.Fault{Hold: true, WorkFirst: true, Times: 1})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.carryOut(0)
	}()
	w.held(1) // the grant has ended; a new one begins
	again := w.mustConnect("u", "ada", core.ConnectInput{})
	w.revokeFault(coretest.Fault{})
	<-done
	w.wantRevoked("for the refresh token only", 1)
	w.wantEnd(ended(before, "ok", "attempts", "1", "grant", "shared"))
	if as, err := w.as("u", again.ID); as != "ada@example.com" {
		t.Errorf("as = %q, %v, want the account that was connected again to work", as, err)
	}
}

// What the integration says by then counts, where it is about the same client at the same hosts.
func TestRevocationIntegrationChanged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		before, after func(w *world) // it is disconnected
		revokes       int
		result        string
		attempts      string
	}{
		{name: "deleted", after: func(w *world) {
			if err := w.engine.DeleteIntegration(w.Context(), calendar); err != nil {
				w.Fatal(err)
			}
		}, revokes: 2, result: "ok", attempts: "1"},
		{name: "another secret", after: func(w *world) {
			if err := w.engine.SetClientSecret(w.Context(), calendar, crypto.NewSecret("canary-wrong")); err != nil {
				w.Fatal(err)
			}
		}, revokes: 4, result: "ok", attempts: "1"}, // each token with the new secret, and then with the one before
		{name: "the right secret, at last", before: func(w *world) {
			if err := w.engine.SetClientSecret(w.Context(), calendar, crypto.NewSecret("canary-wrong")); err != nil {
				w.Fatal(err)
			}
		}, after: func(w *world) {
			if err := w.engine.SetClientSecret(w.Context(), calendar, crypto.NewSecret(clientSecret)); err != nil {
				w.Fatal(err)
			}
		}, revokes: 2, result: "ok", attempts: "1"},
		{name: "another host", after: func(w *world) {
			w.change(func(in *core.Integration) { in.OAuth2.RevocationURL = "https://elsewhere.example.com/revoke" })
		}, revokes: 2, result: "ok", attempts: "1"},
		{name: "another client", after: func(w *world) {
			w.change(func(in *core.Integration) {
				in.OAuth2.ClientID, in.OAuth2.ClientSecret = "another", crypto.NewSecret("canary-other")
			})
		}, revokes: 2, result: "ok", attempts: "1"},
		{name: "another client that does not revoke", after: func(w *world) {
			w.change(func(in *core.Integration) {
				in.OAuth2.ClientID, in.OAuth2.ClientSecret = "another", crypto.NewSecret("canary-other")
				in.OAuth2.RevocationURL = ""
			})
		}, revokes: 2, result: "ok", attempts: "1"},
		{name: "a style that is right", before: func(w *world) {
			w.change(func(in *core.Integration) { in.OAuth2.Revocation.Style = core.RevocationBearer })
		}, after: func(w *world) {
			w.change(func(in *core.Integration) { in.OAuth2.Revocation.Style = core.RevocationForm })
		}, revokes: 2, result: "ok", attempts: "1"},
		{name: "no longer", after: func(w *world) {
			w.change(func(in *core.Integration) { in.OAuth2.RevocationURL = "" })
		}, result: "not_revoked"},
		{name: "never", after: func(w *world) {
			w.change(func(in *core.Integration) { in.OAuth2.Revocation.Style = core.RevocationNone })
		}, result: "not_revoked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, nil, core.Revocation{})
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			if tt.before != nil {
				tt.before(w)
			}
			w.disconnect("u", ada.ID)
			tt.after(w)
			w.carryOut(0)
			w.wantRevoked("in the end", tt.revokes)
			want := ended(ada, tt.result)
			if tt.attempts != "" {
				want = ended(ada, tt.result, "attempts", tt.attempts)
			}
			w.wantEnd(want)
		})
	}
}

// Tokens that were given to another client than the integration's wait until it is set back: nobody else can end them.
func TestRevocationOfAnotherClient(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.change(func(in *core.Integration) { in.OAuth2.ClientID = "another" })
	w.disconnect("u", ada.ID)
	w.carryOut(0)
	w.wantRevoked("as another client", 0)
	w.change(func(in *core.Integration) { in.OAuth2.ClientID = w.provider.ClientID() })
	w.carryOut(5 * time.Minute)
	w.wantEnd(ended(ada, "ok", "attempts", "2"))
}

// What a refresh brings for an account that is disconnected meanwhile is revoked too.
func TestRevocationOfLateTokens(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	w.provider.Set(func(sw *coretest.Switches) { sw.Rotate = true }) // revoking a spent token ends the chain here
	ada := w.expired()
	w.refresh(coretest.Fault{Hold: true, WorkFirst: true})
	result := w.begunToken(w.engine, ada.ID)
	w.held(1)
	w.disconnect("u", ada.ID)
	w.refresh(coretest.Fault{})
	w.wantErr("the refresh", (<-result).err, core.ErrNotFound)
	queued := w.queued()
	if len(queued) != 2 || queued[0].RefreshToken.Equal(queued[1].RefreshToken) || queued[1].AccessToken.IsZero() {
		t.Fatalf("queued = %+v, want the tokens that were stored, and those that came late", queued)
	}
	w.carryOut(0)
	w.wantEnd(ended(ada, "ok", "attempts", "1"), ended(ada, "ok", "attempts", "1"))
	w.wantDead(queued[1].AccessToken.Reveal(), queued[1].RefreshToken)
}
