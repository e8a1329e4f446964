package core_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// Who lost an authorisation because the client secret leaked connects once more and has everything back: the same id,
// its names, settings and switches. An account whose setup was never complete is no more complete than before.
func TestRevokeCredentials(t *testing.T) {
	t.Parallel()
	w := newEstate(t, nil)
	ctx, e := t.Context(), w.engine
	old := w.mustToken("acme", w.work.ID)
	client, err := e.User("acme").Client(ctx, core.Selector{Credential: w.work.ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.RevokeCredentials(ctx, calendar, nil); err != nil {
		t.Fatal(err)
	}
	for _, engine := range w.engines {
		_, err := engine.User("acme").Token(ctx, core.Selector{Credential: w.work.ID})
		w.wantErr("Token", err, core.ErrReconnect)
	}
	_, err = w.me(client)
	w.wantErr("a request", err, core.ErrReconnect)
	w.clock.Advance(2 * time.Minute)
	for _, ev := range w.events(0) { // carries revocations out
		if ev.Kind == core.EventInvalidated && (ev.Actor.Type != core.ActorOperator || ev.Cause != "revoke" || ev.Result != core.CodeRevoked || ev.Revision == 0) {
			t.Errorf("event = %+v, want it by the operator, who revoked it", ev)
		}
	}
	if as := w.whose(old.Value.Reveal()); as != "" {
		t.Errorf("the token of before is still that of %q, want it dead", as)
	}

	again := w.mustConnect("acme", "ada", core.ConnectInput{AllowMultiple: true})
	if again.ID != w.work.ID || again.Status != core.StatusValid || again.ExternalID != "work" || again.Label != "Work" || again.FailureCode != "" {
		t.Errorf("connected once more = %+v, want it as it was", again)
	}
	found, err := e.User("acme").Configurations(ctx, core.Selector{Credential: again.ID})
	if err != nil || len(found) != 2 || found[1].ExternalID != "inbox" {
		t.Errorf("Configurations() = %+v, %v, want them as they were", found, err)
	}
	if as, err := w.as("acme", again.ID); as != "ada@example.com" {
		t.Errorf("as = %q, %v", as, err)
	}
	if off := w.mustConnect("acme", "bob", core.ConnectInput{Into: w.off.ID}); off.Status != core.StatusValid || !off.Disabled {
		t.Errorf("a disabled account connected once more = %+v, want it disabled", off)
	}
	_, err = e.User("initech").CompleteSetup(ctx, core.Selector{Credential: w.pending.ID}, map[string]any{"site": nil})
	w.wantErr("taking away what was never given", err, core.ErrInvalid)
	pending := w.mustConnect("initech", "cyd", core.ConnectInput{AllowMultiple: true})
	if pending.ID != w.pending.ID || pending.Status != core.StatusPending {
		t.Errorf("an account that was PENDING = %+v, want it PENDING again", pending)
	}

	report, err := e.RevokeCredentials(ctx, calendar, nil)
	if diff := cmp.Diff(core.Report{Credentials: 3, Integrations: map[string]int{calendar: 3}, Queued: 3}, report); diff != "" || err != nil {
		t.Errorf("revoking once more = %v, report (-want +got):\n%s", err, diff)
	}
	for _, c := range []core.Credential{again, pending} {
		if got := w.credential(c.User, c.ID); got.Status != core.StatusInvalid {
			t.Errorf("credential = %+v, want it INVALID", got)
		}
	}
	pending = w.mustConnect("initech", "cyd", core.ConnectInput{Into: pending.ID})
	done, err := e.User("initech").CompleteSetup(ctx, core.Selector{Credential: pending.ID}, map[string]any{"site": "north"})
	if err != nil || done.Status != core.StatusValid {
		t.Errorf("CompleteSetup() = %+v, %v, want it VALID", done, err)
	}
}

// Keys have nobody to be revoked at: they are erased, and the person gives another one.
func TestRevokeKeys(t *testing.T) {
	t.Parallel()
	w := newEstate(t, nil)
	ctx := t.Context()
	got, err := w.engine.RevokeCredentials(ctx, "mail", nil)
	want := core.Report{Credentials: 1, Integrations: map[string]int{"mail": 1}, Unrevocable: 1}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("RevokeCredentials() = %v, report (-want +got):\n%s", err, diff)
	}
	if r := w.stored("acme", w.mail.ID); !r.AccessToken.IsZero() || r.Status != core.StatusInvalid {
		t.Errorf("credential is %s, and has its key: %v", r.Status, !r.AccessToken.IsZero())
	}
	_, err = w.engine.User("acme").Token(ctx, core.Selector{Credential: w.mail.ID})
	w.wantErr("Token", err, core.ErrReconnect)
	again, err := w.tryMail(w.acme(""), "cyd", core.KeyInput{Into: "letters"})
	if err != nil || again.ID != w.mail.ID || again.Owner != "pat" {
		t.Errorf("AddKey() = %+v, %v, want it in place", again, err)
	}
	if _, err := w.engine.User("acme").Token(ctx, core.Selector{Credential: w.mail.ID}); err != nil {
		t.Errorf("Token = %v", err)
	}
}

// What was cut short does not come back for those who have connected their account again since.
func TestRevokeSparesReconnected(t *testing.T) {
	t.Parallel()
	spared := 0
	for n := 3; ; n++ {
		store := newFailing(forGood)
		w := newEstate(t, store)
		store.left.Store(int64(n))
		_, err := w.engine.RevokeCredentials(t.Context(), calendar, nil)
		store.left.Store(-1)
		if !store.failed.Load() {
			break
		}
		w.wantErr("a revocation that is cut short", err, errFailing)
		again := map[string]core.Credential{}
		for _, c := range w.list("acme") {
			if c.Status == core.StatusInvalid {
				again[c.ID] = w.mustConnect("acme", c.Account.Subject, core.ConnectInput{Into: c.ID})
			}
		}
		got, err := w.engines[1].RevokeCredentials(t.Context(), calendar, nil)
		want := core.Report{Credentials: 4, Integrations: map[string]int{calendar: 4}, Queued: 4}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("carried on after %d batches: %v, report (-want +got):\n%s", n, err, diff)
		}
		for _, c := range w.list("acme") {
			before, was := again[c.ID]
			if was {
				spared++
			}
			if want := map[bool]core.Status{true: core.StatusValid, false: core.StatusInvalid}[was]; c.Status != want || was && !c.Refreshed.Equal(before.Refreshed) {
				t.Errorf("after %d batches: credential = %+v, want it %s", n, c, want)
			}
		}
	}
	if spared == 0 {
		t.Error("nothing was connected in between: the test is blind")
	}
}

// A refresh that is under way when its account is revoked brings nothing back.
func TestRevokeUnderARefresh(t *testing.T) {
	t.Parallel()
	w := newEstate(t, nil)
	w.rotate()
	w.clock.Advance(2 * time.Hour)
	w.refresh(coretest.Fault{Hold: true})
	asked := make(chan error)
	go func() {
		_, err := w.engine.User("acme").Token(t.Context(), core.Selector{Credential: w.work.ID})
		asked <- err
	}()
	w.held(1)
	_, err := w.engine.RevokeCredentials(t.Context(), calendar, nil)
	w.refresh(coretest.Fault{})
	if got := <-asked; err != nil || !errors.Is(w.note(got), core.ErrReconnect) {
		t.Errorf("a refresh under way = %v, RevokeCredentials() = %v, want %v and nil", got, err, core.ErrReconnect)
	}
	wantRevoked(t, w)
}
