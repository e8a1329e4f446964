package core_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

// fillable is a store on a disk that can be full.
type fillable struct {
	storage.Store
	full atomic.Bool
}

func (s *fillable) Apply(ctx context.Context, b storage.Batch) error {
	if s.full.Load() {
		return storage.ErrFull
	}
	return s.Store.Apply(ctx, b)
}

// A full disk stops what changes something, says so, and nothing else; afterwards everything goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	store := &fillable{Store: memory.New()}
	w := newWorld(t, store, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.create(func(in *core.Integration) { in.Name = "mail" })
	callback := w.mustBegin("u", "bob", core.ConnectInput{AllowMultiple: true})
	in, err := w.engine.Integration(t.Context(), "mail")
	if err != nil {
		t.Fatal(err)
	}
	before := len(w.items())

	store.full.Store(true)
	u, ctx := w.engine.User("u"), t.Context()
	_, connect := u.Connect(ctx, core.ConnectInput{Integration: "mail"})
	_, finished := w.finish(callback)
	_, create := w.engine.CreateIntegration(ctx, w.integration(func(in *core.Integration) { in.Name = "more" }))
	_, update := w.engine.UpdateIntegration(ctx, in)
	for what, err := range map[string]error{
		"Connect": connect, "Callback": finished, "Disconnect": u.Disconnect(ctx, core.Selector{Credential: ada.ID}),
		"CreateIntegration": create, "UpdateIntegration": update, "DeleteIntegration": w.engine.DeleteIntegration(ctx, "mail"),
		"SetClientSecret": w.engine.SetClientSecret(ctx, "mail", crypto.NewSecret(clientSecret)),
	} {
		w.wantErr(what+" on a full disk", err, storage.ErrFull)
	}
	if as, err := w.as("u", ada.ID); as != "ada@example.com" {
		t.Errorf("as = %q, %v, want tokens to be given out on a full disk", as, err)
	}
	if after := len(w.items()); after != before {
		t.Errorf("%d items in the store, want %d as before", after, before)
	}
	if _, err := core.Open(ctx, store, w.keks, &w.opts); err != nil {
		t.Errorf("Open on a full disk = %v, want it open to read", err)
	}
	w.wantExchanges(1) // the callback spent no code that it could not keep

	store.full.Store(false)
	if result, err := w.engine.Callback(ctx, callback); err != nil || result.Replayed {
		t.Errorf("the callback once there is room = %+v, %v, want the account", result, err)
	}
}

// A second program on the same directory, and a store that a newer program wrote, are refused with errors that say so.
func TestOpenOtherPrograms(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	store, err := badger.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	_, err = badger.Open(dir, nil)
	var locked *storage.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("Open twice = %v, want a LockedError with PID %d", err, os.Getpid())
	}

	w := newWorld(t, nil, nil)
	item, err := w.store.Get(t.Context(), []byte{'m'})
	if err != nil {
		t.Fatal(err)
	}
	var record map[int]any
	if err := cbor.Unmarshal(item.Value[1:], &record); err != nil {
		t.Fatal(err)
	}
	record[1] = 99
	newer, err := cbor.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	put := storage.Put{Key: item.Key, Value: append([]byte{item.Value[0]}, newer...), If: item.Rev, Rev: item.Rev + 1}
	if err := w.store.Apply(t.Context(), storage.Batch{Puts: []storage.Put{put}}); err != nil {
		t.Fatal(err)
	}
	_, err = core.Open(t.Context(), w.store, w.keks, &w.opts)
	var format *sealed.FormatError
	if !errors.As(err, &format) || format.Format != 99 {
		t.Errorf("Open of a store of format 99 = %v, want a FormatError", w.note(err))
	}
}

// A refresh token belongs to the client that it was given to: after the client id was changed nothing is spent, no
// account is given up, and setting it back mends everything.
func TestClientIDChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(2 * time.Hour)
	w.change(func(in *core.Integration) { in.OAuth2.ClientID = "another" })
	_, err := w.token("u", ada.ID)
	w.wantErr("a refresh under another client id", err, core.ErrMisconfigured)
	w.wantRefreshes("under another client id", 0)
	if got := w.credential("u", ada.ID); got.Status != core.StatusValid || got.RefreshFailures != 0 {
		t.Errorf("credential = %+v, want it as good as before", got)
	}
	w.change(func(in *core.Integration) { in.OAuth2.ClientID = w.provider.ClientID() })
	if as, err := w.as("u", ada.ID); as != "ada@example.com" {
		t.Errorf("with the client id set back: as = %q, %v", as, err)
	}
}

// Some providers end the old token when the refresh arrives, and answer a request under way with 403.
func TestForbiddenUnderARefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	forbid := func(times int) {
		w.provider.Set(func(sw *coretest.Switches) {
			sw.API = coretest.Fault{Times: times, Garbage: &coretest.Garbage{Status: http.StatusForbidden}}
		})
	}
	client := w.client(ada.ID)

	forbid(1) // far from its end, nothing was replaced: the 403 is the answer
	w.wantStatus("a 403", client, w.request(http.MethodGet, w.provider.APIURL()+"/me", nil), http.StatusForbidden)
	w.wantRefreshes("after a 403", 0)

	w.clock.Advance(55 * time.Minute) // due, and still live: it is refreshed behind the request
	forbid(1)
	if as, err := w.me(client); as != "ada@example.com" {
		t.Errorf("a 403 while the token is replaced: as = %q, %v, want the request repeated", as, err)
	}
	w.wantRefreshes("behind the request", 1)
	forbid(0)
	w.wantStatus("a 403 that stays", client, w.request(http.MethodGet, w.provider.APIURL()+"/me", nil), http.StatusForbidden)
	w.wantRefreshes("after a 403 that stays", 1)
}

// A store that fills up while the provider answers keeps neither callers nor the token: it is given out, kept, and stored
// when there is room, and nothing is spent twice.
func TestFullDiskUnderARefresh(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(w *world){
		"the next call stores it": func(w *world) {
			if as, err := w.as("u", ""); as != "ada@example.com" {
				w.Errorf("as = %q, %v", as, err)
			}
		},
		"Close stores it": func(w *world) {
			if err := w.engine.Close(); err != nil {
				w.Error(err)
			}
			w.engine = w.open()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &fillable{Store: memory.New()}
			w := newWorld(t, store, nil)
			w.rotate()
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.clock.Advance(2 * time.Hour)
			w.refresh(coretest.Fault{Hold: true})
			asked := make(chan string)
			go func() {
				as, err := w.as("u", ada.ID)
				if err != nil {
					t.Errorf("a caller while the store is full: %v", err)
				}
				asked <- as
			}()
			w.held(1)
			store.full.Store(true)
			w.refresh(coretest.Fault{})
			if as := <-asked; as != "ada@example.com" {
				t.Errorf("as = %q, want the new token, though it is not stored", as)
			}
			if as, err := w.as("u", ada.ID); as != "ada@example.com" {
				t.Errorf("while the store is full: as = %q, %v, want the token that is kept", as, err)
			}
			store.full.Store(false)
			later(w)
			if as, err := w.as("u", ada.ID); as != "ada@example.com" {
				t.Errorf("with room again: as = %q, %v", as, err)
			}
			w.wantRefreshes("in all", 1)
			if got := w.credential("u", ada.ID); got.Status != core.StatusValid || got.RefreshFailures != 0 {
				t.Errorf("credential = %+v, want it as good as ever", got)
			}
			w.clock.Advance(2 * time.Hour)
			if as, err := w.as("u", ada.ID); as != "ada@example.com" {
				t.Errorf("the next refresh: as = %q, %v, want it to spend the token that was kept", as, err)
			}
		})
	}
}

// A clock that was ahead and was set right does not keep an account from being used.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	const decade = 10 * 365 * 24 * time.Hour
	t.Run("after a refresh", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		w.clock.Advance(decade)
		w.mustToken("u", ada.ID)
		w.clock.Advance(-decade)
		w.mustToken("u", ada.ID) // due: nobody knows when it ends
		w.engine.Settle("u", ada.ID)
		if got := w.credential("u", ada.ID); got.ValidUntil.Sub(w.clock.Now()) > 2*time.Hour {
			t.Errorf("valid until %v at %v, want it refreshed by the right clock", got.ValidUntil, w.clock.Now())
		}
	})
	t.Run("after a failed refresh", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		w.clock.Advance(decade)
		w.refresh(garbage(500, "", ""))
		_, err := w.token("u", ada.ID)
		w.wantErr("a refresh that fails", err, core.ErrProvider)
		w.refresh(coretest.Fault{})
		w.clock.Advance(-decade + 2*time.Hour)
		if as, err := w.as("u", ada.ID); as != "ada@example.com" {
			t.Errorf("as = %q, %v, want no wait of ten years", as, err)
		}
	})
	t.Run("before a 401", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.provider.Set(func(sw *coretest.Switches) { sw.ExpiresIn = coretest.ExpiresInAbsent })
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		w.clock.Advance(-decade)
		w.unauthorized(1)
		if as, err := w.me(w.client(ada.ID)); as != "ada@example.com" {
			t.Errorf("as = %q, %v, want the 401 to cause a refresh", as, err)
		}
	})
}

// scanThen does something between the scan of an index and the read of its records.
type scanThen struct {
	storage.Store
	then atomic.Pointer[func()]
}

func (s *scanThen) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	page, err := s.Store.Scan(ctx, r)
	if r.KeysOnly {
		if then := s.then.Swap(nil); then != nil {
			(*then)()
		}
	}
	return page, err
}

// An account that goes while a page is read hides no other one.
func TestListWhileDisconnecting(t *testing.T) {
	t.Parallel()
	store := &scanThen{Store: memory.New()}
	w := newWorld(t, store, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	disconnect := func() {
		if err := w.engine.User("u").Disconnect(t.Context(), core.Selector{Credential: ada.ID}); err != nil {
			t.Error(err)
		}
	}
	store.then.Store(&disconnect)
	var got []string
	for in := (core.ListInput{Integration: calendar, Limit: 1}); ; {
		page, err := w.engine.User("u").Credentials(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Credentials {
			got = append(got, c.ID)
		}
		if in.After = page.Next; in.After == "" {
			break
		}
	}
	if len(got) != 1 || got[0] != bob.ID {
		t.Errorf("accounts = %v, want %s, which was there all the time", got, bob.ID)
	}
}

// One session that cannot be read keeps no other from being swept.
func TestSweepPassesDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for range 3 {
		w.session("u", core.ConnectInput{})
	}
	sessions := func() []storage.Item {
		page, err := w.store.Scan(t.Context(), storage.Range{Start: []byte{'s'}, End: []byte{'t'}})
		if err != nil {
			t.Fatal(err)
		}
		return page.Items
	}
	damaged := sessions()[0]
	put := storage.Put{Key: damaged.Key, Value: damaged.Value[:20], If: damaged.Rev, Rev: damaged.Rev + 1}
	if err := w.store.Apply(t.Context(), storage.Batch{Puts: []storage.Put{put}}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(24 * time.Hour)
	if err := w.engine.Sweep(t.Context()); err != nil || len(sessions()) != 1 {
		t.Errorf("Sweep = %v, %d sessions are left, want only the damaged one", err, len(sessions()))
	}
}

// What is told again wraps what it wrapped the first time.
func TestReplayOfMisconfigured(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	w.provider.Set(func(sw *coretest.Switches) {
		sw.UserInfo = coretest.Fault{Garbage: &coretest.Garbage{Status: http.StatusForbidden}}
	})
	for _, when := range []string{"first", "again"} {
		_, err := w.finish(callback)
		w.wantErr(when, err, core.ErrProvider)
		w.wantErr(when, err, core.ErrMisconfigured)
	}
}
