package core_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// crowd connects an account for each of n users and lets its access token end, so that one request revokes it.
func (w *world) crowd(n int) []core.Credential {
	w.Helper()
	all := make([]core.Credential, n)
	for i := range all {
		all[i] = w.mustConnect(fmt.Sprintf("u%d", i), "ada", core.ConnectInput{})
	}
	w.clock.Advance(2 * time.Hour)
	return all
}

// 64 that go at once are revoked once each, whatever number of processes does it.
func TestRevocationRace(t *testing.T) {
	t.Parallel()
	const n, engines = 64, 4
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, open(t), core.Revocation{})
			all := w.crowd(n)
			together(n, func(i int) {
				if err := w.engine.User(all[i].User).Disconnect(t.Context(), core.Selector{Credential: all[i].ID}); err != nil {
					t.Errorf("disconnect: %v", err)
				}
			})
			if queued := w.queued(); len(queued) != n {
				t.Fatalf("%d revocations are queued, want %d", len(queued), n)
			}
			w.clock.Advance(time.Minute)
			processes := []*core.Engine{w.engine}
			for len(processes) < engines {
				processes = append(processes, w.open())
			}
			together(2*engines, func(i int) { // each twice: a process does not disturb itself either
				if err := processes[i%engines].RevokeDue(t.Context()); err != nil {
					t.Error(err)
				}
			})
			w.wantRevoked("by several processes", n)
			want := make([]core.Event, n)
			for i, c := range all {
				want[i] = ended(c, "ok", "attempts", "1")
			}
			w.wantEnd(want...)
		})
	}
}

// No more than four requests for one integration are under way at a time.
func TestRevocationLimit(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	const n = 128 // of which some ten are looked at together
	for _, c := range w.crowd(n) {
		w.disconnect(c.User, c.ID)
	}
	w.revokeFault(coretest.Fault{Slow: 5 * time.Millisecond})
	done, most := make(chan struct{}), atomic.Int64{}
	watch, stop := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		_ = w.provider.WaitForCalls(watch, func(c coretest.Calls) bool {
			most.Store(max(most.Load(), int64(c.Waiting)))
			return false
		})
	}()
	w.carryOut(0)
	stop()
	<-done
	w.wantRevoked("in all", n)
	if got := most.Load(); got > 4 || got < 1 {
		t.Errorf("%d requests at a time, want 1 to 4", got)
	}
}

// What was queued is carried out by whoever opens the store next.
func TestRevocationAfterRestart(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, open(t), core.Revocation{})
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.disconnect("u", ada.ID)
			if err := w.engine.Close(); err != nil {
				t.Fatal(err)
			}
			w.engine = w.open()
			w.carryOut(0)
			w.wantEnd(ended(ada, "ok", "attempts", "1"))
		})
	}
}

// Who is cut off in the middle returns at once, and leaves the rest to the next one, soon.
func TestRevocationCutOff(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(w *world, cancel context.CancelFunc){
		"ctx is done": func(_ *world, cancel context.CancelFunc) { cancel() },
		"the engine closes": func(w *world, _ context.CancelFunc) {
			if err := w.engine.Close(); err != nil {
				w.Error(err)
			}
		},
	} {
		for style, faulty := range map[core.RevocationStyle]func(w *world, f coretest.Fault){
			core.RevocationForm:   (*world).revokeFault,
			core.RevocationBearer: (*world).refresh,
		} {
			t.Run(name+", "+string(style), func(t *testing.T) {
				t.Parallel()
				w := newRevoking(t, nil, core.Revocation{Style: style})
				w.provider.Set(func(sw *coretest.Switches) { sw.RevokeGrant = false }) // they are all of one account
				all := w.crowd(8)
				for _, c := range all {
					w.disconnect(c.User, c.ID)
				}
				faulty(w, coretest.Fault{Hang: true})
				w.clock.Advance(time.Minute)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- w.engine.RevokeDue(ctx) }()
				if err := w.provider.WaitForCalls(ctx, func(c coretest.Calls) bool { return c.Waiting > 0 }); err != nil {
					t.Fatal(err)
				}
				cut(w, cancel)
				if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("RevokeDue() = %v, want nothing but that it was cut off", err)
				}
				cancel()
				faulty(w, coretest.Fault{})
				w.engine = w.open()
				w.carryOut(0)
				want := make([]core.Event, len(all))
				for i, c := range all {
					want[i] = ended(c, "ok", "attempts", "1")
				}
				w.wantEnd(want...)
			})
		}
	}
}

// A process that dies while the provider is asked keeps the others away until it must have been done.
func TestRevocationDies(t *testing.T) {
	t.Parallel()
	spy := &spyStore{Store: memory.New()}
	w := newRevoking(t, spy, core.Revocation{})
	ada := w.crowd(1)[0]
	w.disconnect(ada.User, ada.ID)
	w.revokeFault(coretest.Fault{Hold: true, WorkFirst: true, Times: 1})
	w.clock.Advance(time.Minute)
	done := make(chan error, 1)
	go func() { done <- w.engine.RevokeDue(t.Context()) }()
	w.held(1)
	other := w.open()
	for range 5 {
		w.clock.Advance(time.Minute)
		if err := other.RevokeDue(t.Context()); err != nil {
			t.Error(err)
		}
	}
	w.wantRevoked("while the first one asks", 1)
	spy.intercept(func(storage.Batch, func() error) error { return storage.ErrFull }) // it can write nothing down
	w.revokeFault(coretest.Fault{})
	w.wantErr("a revocation that cannot be written down", <-done, storage.ErrFull)
	spy.intercept(nil)

	w.clock.Advance(15 * time.Minute)
	if err := other.RevokeDue(t.Context()); err != nil {
		t.Error(err)
	}
	w.wantRevoked("in all", 2)
	w.wantEnd(ended(ada, "ok", "attempts", "2"))
}

// A token that was got to be revoked is stored before it is: the refresh token that it took may be spent.
func TestRevocationDiesWithRenewedToken(t *testing.T) {
	t.Parallel()
	spy := &spyStore{Store: memory.New()}
	w := newRevoking(t, spy, core.Revocation{Style: core.RevocationBearer})
	w.rotate()
	ada := w.crowd(1)[0]
	w.disconnect(ada.User, ada.ID)
	fault := garbage(500, "", "")
	fault.Hold, fault.Times = true, 1
	w.revokeFault(fault)
	w.clock.Advance(time.Minute)
	done := make(chan error, 1)
	go func() { done <- w.engine.RevokeDue(t.Context()) }()
	w.held(1)
	spy.intercept(func(storage.Batch, func() error) error { return storage.ErrFull })
	w.provider.Set(func(sw *coretest.Switches) { sw.Revoke.Hold = false })
	w.wantErr("a failure that cannot be written down", <-done, storage.ErrFull)
	spy.intercept(nil)

	w.clock.Advance(15 * time.Minute)
	if err := w.open().RevokeDue(t.Context()); err != nil {
		t.Error(err)
	}
	w.wantRefreshes("in all", 1)
	w.wantRevoked("in all", 2)
	w.wantEnd(ended(ada, "ok", "attempts", "2"))
}

// Whatever the store does, nothing is lost: an account goes together with its revocation or not at all, and what was
// revoked is at worst revoked again.
func TestRevocationStoreFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(next func() error) error{
		"full":                     func(func() error) error { return storage.ErrFull },
		"unknown, and not applied": func(func() error) error { return storage.ErrUnknownOutcome },
		"unknown, and applied":     func(next func() error) error { return errors.Join(next(), storage.ErrUnknownOutcome) },
		"a conflict":               func(func() error) error { return &storage.ConflictError{Key: []byte("x")} },
		"anything":                 func(func() error) error { return errors.New("disk on fire") },
	} {
		for style, most := range map[core.RevocationStyle]int{core.RevocationForm: 3, core.RevocationBearer: 4} {
			for at := range most { // disconnect, claim, renewed token, outcome
				t.Run(name+", "+string(style)+", "+strconv.Itoa(at), func(t *testing.T) {
					t.Parallel()
					spy := &spyStore{Store: memory.New()}
					w := newRevoking(t, spy, core.Revocation{Style: style})
					w.rotate()
					ada := w.crowd(1)[0]
					writes := 0
					spy.intercept(func(_ storage.Batch, next func() error) error {
						if writes++; writes-1 == at {
							return fault(next)
						}
						return next()
					})
					gone := func() bool {
						_, err := w.engine.StoredCredential(t.Context(), ada.User, ada.ID)
						return errors.Is(err, core.ErrNotFound)
					}
					for range 5 {
						err := w.note(w.engine.User(ada.User).Disconnect(t.Context(), core.Selector{Credential: ada.ID}))
						if queued := len(w.queued()); (queued == 1) != gone() {
							t.Fatalf("disconnect = %v: %d revocations are queued, and gone is %v", err, queued, gone())
						}
						if gone() {
							break
						}
					}
					for range 5 {
						w.clock.Advance(20 * time.Minute)
						_ = w.note(w.engine.RevokeDue(t.Context()))
					}
					if writes <= at {
						t.Fatalf("%d writes, the fault at %d was not met", writes, at)
					}
					attempts := "1"
					if queued := w.queued(); len(queued) != 0 {
						t.Fatalf("queued = %+v, want nothing", queued)
					}
					for _, ev := range w.events(0) {
						if ev.Kind == core.EventRevoked {
							attempts = ev.Details["attempts"]
						}
					}
					w.wantEnd(ended(ada, "ok", "attempts", attempts))
					if calls := w.provider.Calls(); calls.Revoke < 1 || calls.Revoke > 2 || calls.Refresh > 2 {
						t.Errorf("calls = %+v, want it revoked once or twice", calls)
					}
				})
			}
		}
	}
}

// One record that cannot be read keeps no other.
func TestRevocationPassesDamage(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	all := w.crowd(32) // several on each page
	for _, c := range all {
		w.disconnect(c.User, c.ID)
	}
	damaged := w.queued()[7].Credential
	n := 0
	for _, item := range w.items() {
		if item.Key[0] != 'q' {
			continue
		}
		if n++; n == 8 {
			put := storage.Put{Key: item.Key, Value: item.Value[:20], If: item.Rev, Rev: item.Rev + 1}
			if err := w.store.Apply(t.Context(), storage.Batch{Puts: []storage.Put{put}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.carryOut(0)
	w.wantRevoked("beside the damaged one", 31)
	told := map[string]bool{}
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventRevoked {
			told[ev.Credential] = true
		}
	}
	if len(told) != 31 || told[damaged] {
		t.Errorf("%d revocations were told, the damaged one %v; want all others", len(told), told[damaged])
	}
}

// A provider that does not answer is not asked for one account after the other, and keeps no other provider waiting.
func TestRevocationOfSilentProvider(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			_ = conn.Close()
		}
	}()
	defer func() { _ = silent.Close() }()
	w.opts.PrivateHosts = append(w.opts.PrivateHosts, silent.Addr().String())
	w.engine = w.open()
	all := w.crowd(40)
	w.change(func(in *core.Integration) { in.OAuth2.RevocationURL = "http://" + silent.Addr().String() + "/revoke" })
	for _, c := range all[:32] {
		w.disconnect(c.User, c.ID)
	}
	w.change(func(in *core.Integration) { in.OAuth2.RevocationURL = w.provider.RevocationURL() })
	for _, c := range all[32:] {
		w.disconnect(c.User, c.ID)
	}
	w.carryOut(0)
	w.wantRevoked("at the one that answers", 8)
	if got := asked.Load(); got < 1 || got > 8 {
		t.Errorf("the silent one was asked %d times, want a few", got)
	}
	if queued := w.queued(); len(queued) != 32 {
		t.Errorf("%d revocations are queued, want the 32 of the silent one", len(queued))
	}
}

func TestSecurity22_NothingIsRevokedInQuarantine(t *testing.T) {
	t.Parallel()
	store := &movedStore{memory.New(), "here"}
	w := newRevoking(t, store, core.Revocation{})
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.disconnect("u", ada.ID)
	store.place = "elsewhere"
	w.engine = w.open()
	if !w.engine.Quarantined() {
		t.Fatal("a store that was moved is not quarantined")
	}
	for range 3 {
		w.carryOut(time.Hour)
	}
	w.wantRevoked("in quarantine", 0)
	w.opts.TakeOver = true
	w.engine = w.open()
	w.carryOut(0)
	w.wantEnd(ended(ada, "ok", "attempts", "1"))
}

// A revocation goes to the integration's own URL and nowhere else.
func TestSecurity18_RevocationFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	for _, style := range []core.RevocationStyle{core.RevocationForm, core.RevocationBearer, core.RevocationDelete} {
		w := newRevoking(t, nil, core.Revocation{Style: style})
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		w.disconnect("u", ada.ID)
		before := w.provider.Calls().API
		w.revokeFault(coretest.Fault{Times: 1, Garbage: &coretest.Garbage{
			Status: http.StatusTemporaryRedirect, Header: map[string]string{"Location": w.provider.APIURL() + "/echo"},
		}})
		w.carryOut(0)
		if got := w.provider.Calls().API; got != before {
			t.Errorf("%s: a redirect was followed", style)
		}
		w.carryOut(5 * time.Minute)
		w.wantEnd(ended(ada, "ok", "attempts", "2"))
	}
	w := newRevoking(t, nil, core.Revocation{})
	err := w.tryChange(func(in *core.Integration) { in.OAuth2.RevocationURL = "http://198.51.100.7/revoke" })
	w.wantErr("plain http", err, core.ErrInvalid)
}
