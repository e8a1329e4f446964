package core_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

// A user who was deleted is as one who never was: nothing connects them to what they were, and the provider is told.
func TestDeleteUser(t *testing.T) {
	t.Parallel()
	w := newEstate(t, nil)
	ctx, e := t.Context(), w.engine
	var told sync.Map // what packages above have heard of
	e.Kernel().OnDisconnect(func(_ context.Context, _ *sealed.Tx, c kernel.Credential) error {
		told.Store(c, nil)
		return nil
	})
	callback := w.mustBegin("acme", "ada", core.ConnectInput{AllowMultiple: true})
	if err := e.DisableUser(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.DeleteUser(ctx, "acme", nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []kernel.Credential{
		{ID: w.work.ID, User: "acme", Integration: calendar, ExternalID: "work"}, {ID: w.off.ID, User: "acme", Integration: calendar, ExternalID: "off"},
		{ID: w.mail.ID, User: "acme", Integration: "mail", ExternalID: "letters", Owner: "pat"},
	} {
		if _, ok := told.Load(want); !ok {
			t.Errorf("packages above heard nothing of %+v", want)
		}
	}
	_, err := w.finish(callback)
	w.wantErr("the callback of a session that was begun before", err, core.ErrSession)
	_, err = e.ConnectedUser(ctx, "acme")
	w.wantErr("ConnectedUser", err, core.ErrNotFound)
	_, err = e.User("acme").Token(ctx, core.Selector{Credential: w.work.ID})
	w.wantErr("Token", err, core.ErrNotFound)
	w.clock.Advance(2 * time.Minute)
	events := w.events(0) // carries revocations out
	if got := w.provider.Calls().Revoke; got == 0 {
		t.Error("the provider was asked to revoke nothing")
	}
	for _, ev := range events {
		if ev.Kind == core.EventDisconnected && (ev.User != "acme" || ev.Actor.Type != core.ActorOperator || ev.Cause != "delete_user") {
			t.Errorf("event = %+v, want it by the operator, because of the user", ev)
		}
	}
	want := map[string]string{
		"credentials": "3", "queued": "1", "unrevocable": "1", "shared": "1", "damaged": "0", "sessions": "5",
	}
	if diff := cmp.Diff(want, once(t, events, core.EventUserDeleted).Details); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}

	w.clock.Advance(1e9)
	again := w.gate.mail(w.acme(""), "cyd", core.KeyInput{ExternalID: "letters"})
	if user, err := e.ConnectedUser(ctx, "acme"); err != nil || user.Disabled || user.Deleting || !user.Created.Equal(w.clock.Now()) {
		t.Errorf("ConnectedUser of the same id = %+v, %v, want a new one", user, err)
	}
	if _, err := e.User("acme").Token(ctx, core.Selector{Credential: again.ID}); err != nil {
		t.Errorf("Token of the same id = %v", err)
	}
	report, err := w.engines[1].DeleteUser(ctx, "acme", nil)
	if diff := cmp.Diff(core.Report{Credentials: 1, Integrations: map[string]int{"mail": 1}, Unrevocable: 1}, report); diff != "" || err != nil {
		t.Errorf("deleting the same id = %v, report (-want +got):\n%s", err, diff)
	}
	wantDeleted(t, w)
}

// What the store knows of a user is all that counts: also where accounts were connected before there were records of
// users.
func TestDeleteUserWithoutRecord(t *testing.T) {
	t.Parallel()
	w := newEstate(t, nil)
	ctx := t.Context()
	w.eachRecord('1', "acme", func(item storage.Item) storage.Batch {
		return storage.Batch{Deletes: []storage.Delete{{Key: item.Key, If: item.Rev}}}
	})
	if user, err := w.engine.ConnectedUser(ctx, "acme"); err != nil || !user.Created.IsZero() {
		t.Errorf("ConnectedUser = %+v, %v, want one that was created who knows when", user, err)
	}
	if _, err := w.engine.DeleteUser(ctx, "acme", nil); err != nil {
		t.Fatal(err)
	}
	wantDeleted(t, w)
}

// eachRecord changes the records of a table whose keys have an id in them.
func (w *world) eachRecord(tag byte, id string, change func(storage.Item) storage.Batch) {
	w.Helper()
	n := 0
	for _, item := range w.items() {
		if item.Key[0] == tag && strings.Contains(string(item.Key), id) {
			n++
			if err := w.store.Apply(w.Context(), change(item)); err != nil {
				w.Fatal(err)
			}
		}
	}
	if n == 0 {
		w.Fatalf("no records of %s in table %c", id, tag)
	}
}

// cut cuts a record short, so that it does not open.
func cut(item storage.Item) storage.Batch {
	return storage.Batch{Puts: []storage.Put{{Key: item.Key, Value: item.Value[:20], If: item.Rev, Rev: item.Rev + 1}}}
}

// Whatever record of a user does not open, the user can be deleted, completely.
func TestDeleteDamagedUser(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		tag  byte
		want core.Report
	}{
		{"credentials", 'c', core.Report{Damaged: 3, Sessions: 4}},
		{"user", '1', longWorks[0].want},
		{"configurations", 'g', longWorks[0].want},
		{"passwords", 'w', longWorks[0].want},
		{"claims", 'a', longWorks[0].want},
		{"external ids", 'x', longWorks[0].want},
		{"rosters", 'r', longWorks[0].want},
		{"redirects", 't', longWorks[0].want},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newEstate(t, nil)
			w.eachRecord(tt.tag, "acme", cut)
			dry, err := w.engine.DeleteUser(t.Context(), "acme", &core.DeleteUserOptions{DryRun: true})
			if diff := cmp.Diff(tt.want, dry); diff != "" || err != nil {
				t.Errorf("dry run = %v, report (-want +got):\n%s", err, diff)
			}
			got, err := w.engine.DeleteUser(t.Context(), "acme", nil)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("report = %v (-want +got):\n%s", err, diff)
			}
			if tt.tag == 'c' {
				if n := kinds(w.events(0))[core.EventDisconnected]; n != 3 {
					t.Errorf("%d events, want one for each account that was there", n)
				}
				// Only a record of grants may be left, which leads nowhere.
				if diff := cmp.Diff(map[string]int{"z": 2, "d": 1}, w.traces("acme")); diff != "" {
					t.Errorf("traces, by table (-want +got):\n%s", diff)
				}
				return
			}
			wantDeleted(t, w)
		})
	}
}

// An account that does not open keeps the others from nothing either when an integration is revoked: it stays as it is.
func TestRevokeDamagedCredential(t *testing.T) {
	t.Parallel()
	w := newEstate(t, nil)
	w.eachRecord('c', w.off.ID, cut)
	want := core.Report{Credentials: 3, Integrations: map[string]int{calendar: 3}, Queued: 3, Damaged: 1}
	for _, dry := range []bool{true, false} {
		got, err := w.engine.RevokeCredentials(t.Context(), calendar, &core.RevokeCredentialsOptions{DryRun: dry})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("dry run: %v; %v, report (-want +got):\n%s", dry, err, diff)
		}
	}
	_, err := w.engine.User("acme").Token(t.Context(), core.Selector{Credential: w.off.ID})
	var corrupt *sealed.CorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("Token of a damaged account = %v, want a CorruptError", err)
	}
}

// A connect that was asked for before its user was deleted does not make the user anew.
func TestConnectAcrossDeletion(t *testing.T) {
	t.Parallel()
	w := keyWorld(t, nil)
	w.mustConnect("u", "ada", core.ConnectInput{})
	w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{Hold: true} })
	asked := make(chan error)
	go func() {
		_, err := w.putKey("u", "bob", core.KeyInput{})
		asked <- err
	}()
	w.held(1)
	_, err := w.engine.DeleteUser(t.Context(), "u", nil)
	w.provider.Set(func(sw *coretest.Switches) { sw.API = coretest.Fault{} })
	if got := <-asked; err != nil || !errors.Is(got, core.ErrDeleting) {
		t.Errorf("AddKey() = %v, DeleteUser() = %v, want %v and nil", got, err, core.ErrDeleting)
	}
	_, err = w.engine.ConnectedUser(t.Context(), "u")
	w.wantErr("ConnectedUser", err, core.ErrNotFound)
}

// 64 connects race a deletion. Whatever was asked for before it was over is gone; what is there came after it.
func TestDeleteUserRacesConnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowStore{memory.New()}, nil)
	w.withKeys()
	w.people(crowd + 1)
	refused, removed := 0, 0
	for round := range 4 {
		user := []string{"a", "b", "c", "d"}[round]
		first, err := w.putKey(user, person(crowd), core.KeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		begun := w.provider.Calls().API
		var over atomic.Bool
		var report core.Report
		var late [crowd]bool
		var connected atomic.Int64
		won := w.contest(crowd+1, func(i int) (core.Credential, error) {
			if i < crowd {
				late[i] = over.Load()
				c, err := w.putKey(user, person(i), core.KeyInput{AllowMultiple: true})
				if err == nil {
					connected.Add(1)
					if !late[i] {
						err = core.ErrDeleting // it is gone by now, or will be
					}
				}
				return c, err
			}
			if err := w.provider.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.API >= begun+crowd*round/4 }); err != nil {
				t.Error(err)
			}
			var err error
			report, err = w.engine.DeleteUser(t.Context(), user, nil)
			over.Store(true)
			return first, errors.Join(err, core.ErrDeleting)
		}, core.ErrDeleting)
		page, err := w.engine.User(user).Credentials(t.Context(), core.ListInput{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(idsOf(won), idsOf(page.Credentials)); diff != "" {
			t.Errorf("round %d: accounts (-connected afterwards +there):\n%s", round, diff)
		}
		if want := 1 + int(connected.Load()) - len(won); report.Credentials != want {
			t.Errorf("round %d: %d accounts were removed, want the %d that were connected before", round, report.Credentials, want)
		}
		refused += crowd - int(connected.Load())
		removed += report.Credentials
	}
	t.Logf("%d accounts were removed, %d connects refused", removed, refused)
	if removed <= 4 || refused == 0 {
		t.Error("nothing raced: the test is blind")
	}
	w.wantWhole("a", idsOf(w.list("a")))
}
