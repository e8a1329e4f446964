package core_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// withKeys adds the integration keys, and a key for each login.
func (w *world) withKeys() {
	w.Helper()
	w.create(func(in *core.Integration) {
		in.Name, in.OAuth2 = keys, nil
		in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
		in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject", DisplayPath: "account"}
	})
	for _, login := range []string{"ada", "bob", "cyd"} {
		w.provider.AddKey("canary-key-"+login, login)
	}
}

// failing is a store that fails, in one of several ways, once a number of batches were applied. Those of leases do not
// count: whoever dies leaves them behind, which is another test.
type failing struct {
	storage.Store
	left   atomic.Int64 // batches until it fails; below 0 it does not
	how    failure
	failed atomic.Bool // it did
}

type failure int

const (
	forGood      failure = iota // from then on it takes nothing
	onceLost                    // one batch is applied, and the answer is lost
	onceVanished                // one batch is lost, and nobody can say so
)

var errFailing = errors.New("the store fails")

func newFailing(how failure) *failing {
	s := &failing{Store: memory.New(), how: how}
	s.left.Store(-1)
	return s
}

func (s *failing) Apply(ctx context.Context, b storage.Batch) error {
	if s.left.Load() < 0 || isLease(b) {
		return s.Store.Apply(ctx, b)
	}
	switch left := s.left.Add(-1); {
	case left >= 0:
		return s.Store.Apply(ctx, b)
	case s.how == forGood:
		s.failed.Store(true)
		s.left.Store(0)
		return errFailing
	case s.how == onceLost:
		if err := s.Store.Apply(ctx, b); err != nil {
			return err
		}
	}
	s.failed.Store(true)
	return storage.ErrUnknownOutcome
}

func isLease(b storage.Batch) bool {
	return len(b.Puts) > 0 && b.Puts[0].Key[0] == 'v' || len(b.Deletes) > 0 && b.Deletes[0].Key[0] == 'v'
}

// estate is what the tests of long work do it to: three users with accounts at two integrations, of which calendar
// revokes tokens, configurations, an account that is disabled, one that is PENDING and connect sessions. What ada
// stands for is connected by acme and initech.
type estate struct {
	*gate
	engines []*core.Engine
	work    core.Credential // of acme, at calendar
	mail    core.Credential // of acme, at mail
	off     core.Credential // of acme, at calendar, disabled
	pending core.Credential // of initech, at calendar
}

func newEstate(t *testing.T, store storage.Store) *estate {
	t.Helper()
	w := &estate{gate: newGate(t, store, nil)}
	ctx := t.Context()
	w.change(func(in *core.Integration) {
		in.OAuth2.RevocationURL, in.OAuth2.Revocation.Scope = w.provider.RevocationURL(), core.RevokesGrant
	})
	w.engines = []*core.Engine{w.engine, w.open()}
	w.work = w.mustConnect("acme", "ada", core.ConnectInput{ExternalID: "work", Label: "Work"})
	w.off = w.mustConnect("acme", "bob", core.ConnectInput{AllowMultiple: true, ExternalID: "off"})
	w.mail = w.gate.mail(w.acme("pat"), "cyd", core.KeyInput{ExternalID: "letters"})
	w.mustConnect("initech", "ada", core.ConnectInput{})
	if err := w.acme("").Disable(ctx, core.Selector{Credential: w.off.ID}); err != nil {
		t.Fatal(err)
	}
	w.configure(w.work.ID, "inbox")
	w.configure(w.mail.ID, "outbox")
	w.change(func(in *core.Integration) { in.Setup[0].Required = true })
	w.pending = w.mustConnect("initech", "cyd", core.ConnectInput{AllowMultiple: true})
	if w.pending.Status != core.StatusPending {
		t.Fatalf("account = %+v, want it PENDING", w.pending)
	}
	w.session("acme", core.ConnectInput{Into: "work"})
	w.session("acme", core.ConnectInput{Into: "work", RedirectURL: appPage})
	w.session("initech", core.ConnectInput{AllowMultiple: true})
	return w
}

// traces are the keys of the store in which a user's id stands, by table, but for those of leases and of reports.
func (w *world) traces(user string) map[string]int {
	w.Helper()
	found := map[string]int{}
	for _, item := range w.items() {
		if tag := string(item.Key[0]); strings.Contains(string(item.Key), user) && tag != "v" && tag != "7" {
			found[tag]++
		}
	}
	return found
}

// progress collects what is told of it, and fails the test where that goes back.
type progress struct {
	*testing.T
	last core.Progress
}

func (p *progress) tell(now core.Progress) {
	if now.Done < p.last.Done || now.Done > now.Total {
		p.Errorf("progress %+v behind %+v", now, p.last)
	}
	p.last = now
}

// once returns the only event of a kind.
func once(t *testing.T, events []core.Event, kind core.EventKind) core.Event {
	t.Helper()
	var found []core.Event
	for _, ev := range events {
		if ev.Kind == kind {
			found = append(found, ev)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d events of kind %s: %v, want one", len(found), kind, found)
	}
	return found[0]
}

// longWork is DeleteUser, or RevokeCredentials.
type longWork struct {
	name string
	do   func(ctx context.Context, e *core.Engine, dry bool, tell func(core.Progress)) (core.Report, error)
	want core.Report
	kind core.EventKind                // of the event at the end
	each core.EventKind                // of the events of the credentials
	left func(t *testing.T, w *estate) // what has to be there once it is done
	gone error                         // what comes of calling it once more, nil for a report of nothing
}

var longWorks = []longWork{
	{
		name: "DeleteUser",
		do: func(ctx context.Context, e *core.Engine, dry bool, tell func(core.Progress)) (core.Report, error) {
			return e.DeleteUser(ctx, "acme", &core.DeleteUserOptions{DryRun: dry, Progress: tell})
		},
		want: core.Report{
			Credentials: 3, Integrations: map[string]int{calendar: 2, "mail": 1}, Queued: 1, Unrevocable: 1, Shared: 1, Sessions: 4,
		},
		kind: core.EventUserDeleted, each: core.EventDisconnected, left: wantDeleted, gone: core.ErrNotFound,
	},
	{
		name: "RevokeCredentials",
		do: func(ctx context.Context, e *core.Engine, dry bool, tell func(core.Progress)) (core.Report, error) {
			return e.RevokeCredentials(ctx, calendar, &core.RevokeCredentialsOptions{DryRun: dry, Progress: tell})
		},
		want: core.Report{Credentials: 4, Integrations: map[string]int{calendar: 4}, Queued: 4},
		kind: core.EventIntegrationRevoked, each: core.EventInvalidated, left: wantRevoked,
	},
}

// wantDeleted fails the test unless acme is gone and nobody else.
func wantDeleted(t *testing.T, w *estate) {
	t.Helper()
	if got := w.traces("acme"); len(got) != 0 {
		t.Errorf("traces of the user, by table = %v, want none", got)
	}
	if got := len(w.list("initech")); got != 2 || len(w.sessionItems()) != 6 {
		t.Errorf("another user has %d accounts and %d records of sessions, want 2 and 6", got, len(w.sessionItems()))
	}
	if as, err := w.as("initech", w.list("initech")[0].ID); as != "ada@example.com" {
		t.Errorf("another user's account as = %q, %v", as, err)
	}
	w.wantWhole("acme", nil)
}

// wantRevoked fails the test unless all accounts of calendar have lost their tokens, and nothing else.
func wantRevoked(t *testing.T, w *estate) {
	t.Helper()
	for _, user := range []string{"acme", "initech"} {
		for _, c := range w.list(user) {
			r := w.stored(user, c.ID)
			if c.Status != core.StatusInvalid || c.LastFailure != core.FailurePermanent || c.FailureCode != core.CodeRevoked {
				t.Errorf("credential = %+v, want it INVALID, for having been revoked", c)
			}
			if !r.AccessToken.IsZero() || !r.RefreshToken.IsZero() || !r.PreviousRefreshToken.IsZero() || r.Due != 0 {
				t.Errorf("credential %s of %s still has tokens, or is due in %d", c.ID, user, r.Due)
			}
			if c.Disabled != (c.ID == w.off.ID) {
				t.Errorf("credential %s: disabled = %v", c.ID, c.Disabled)
			}
		}
	}
	if _, err := w.engine.User("acme").Token(t.Context(), core.Selector{Credential: w.mail.ID}); err != nil {
		t.Errorf("an account of another integration: %v", err)
	}
	w.wantWhole("initech", idsOf(w.list("initech")))
}

// wantReport fails the test unless what was reported and told is what was done, once.
func (l *longWork) wantReport(t *testing.T, w *estate, got core.Report) {
	t.Helper()
	if diff := cmp.Diff(l.want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	events := w.events(0)
	if n := kinds(events)[l.each]; n != l.want.Credentials {
		t.Errorf("%d events of kind %s, want %d", n, l.each, l.want.Credentials)
	}
	ev := once(t, events, l.kind)
	if ev.Details["credentials"] != l.count(l.want.Credentials) || ev.Details["queued"] != l.count(l.want.Queued) || ev.Actor.Type != core.ActorOperator {
		t.Errorf("event = %+v, want what was reported", ev)
	}
	l.left(t, w)
	again, err := l.do(t.Context(), w.engine, false, nil)
	w.wantErr(l.name+" once more", err, l.gone)
	if diff := cmp.Diff(core.Report{}, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("report of doing it once more (-want +got):\n%s", diff)
	}
}

func (l *longWork) count(n int) string { return string(rune('0' + n)) }

// What is reported beforehand is what is done, and looking changes nothing.
func TestLongWork(t *testing.T) {
	t.Parallel()
	for _, l := range longWorks {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			w := newEstate(t, nil)
			before := w.world.snapshot()
			p := &progress{T: t}
			dry, err := l.do(t.Context(), w.engine, true, p.tell)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(l.want, dry, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("report of a dry run (-want +got):\n%s", diff)
			}
			w.wantUnchanged("a dry run", before)
			if want := (core.Progress{Done: l.want.Credentials, Total: l.want.Credentials}); p.last != want {
				t.Errorf("progress of a dry run = %+v, want %+v", p.last, want)
			}
			p.last = core.Progress{}
			got, err := l.do(t.Context(), w.engine, false, p.tell)
			if err != nil {
				t.Fatal(err)
			}
			if want := (core.Progress{Done: l.want.Credentials, Total: l.want.Credentials}); p.last != want {
				t.Errorf("progress = %+v, want %+v", p.last, want)
			}
			l.wantReport(t, w, got)
		})
	}
}

// Long work that the store cuts short, after whatever batch, is carried on by calling it again or by Run, and counts
// everything once; answers that are lost change nothing.
func TestLongWorkCutShort(t *testing.T) {
	t.Parallel()
	for _, l := range longWorks {
		for how, name := range map[failure]string{forGood: "a store that fails", onceLost: "an answer that is lost", onceVanished: "a batch that is lost"} {
			t.Run(l.name+" with "+name, func(t *testing.T) {
				t.Parallel()
				for n, whole := 0, false; !whole; n++ {
					store := newFailing(how)
					w := newEstate(t, store)
					store.left.Store(int64(n))
					got, err := l.do(t.Context(), w.engine, false, nil)
					whole = !store.failed.Load()
					store.left.Store(-1)
					if failed := how == forGood && !whole; failed != errors.Is(w.note(err), errFailing) {
						t.Fatalf("after %d batches: error %v", n, err)
					}
					switch {
					case err == nil:
					case n%2 == 1:
						if err := coretest.Step(w.engines[1]); err != nil {
							t.Fatal(err)
						}
						got = l.want // nobody waited for it
					default:
						if got, err = l.do(t.Context(), w.engines[n/2%2], false, nil); err != nil {
							t.Fatalf("carried on after %d batches: %v", n, w.note(err))
						}
					}
					l.wantReport(t, w, got)
					if t.Failed() {
						t.Fatalf("when cut short after %d batches", n)
					}
				}
			})
		}
	}
}

// Several callers at once, in two processes, do one piece of work and get the same report.
func TestLongWorkRace(t *testing.T) {
	t.Parallel()
	for _, l := range longWorks {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			w := newEstate(t, slowStore{memory.New()})
			reports := make([]core.Report, 16)
			var late atomic.Int64
			together(len(reports), func(i int) {
				p := &progress{T: t}
				report, err := l.do(t.Context(), w.engines[i%2], false, p.tell)
				if reports[i] = report; errors.Is(err, core.ErrNotFound) && l.gone != nil || err == nil && report.Credentials == 0 {
					late.Add(1) // it began once all was over
				} else if err != nil {
					t.Errorf("caller %d: %v", i, w.note(err))
				} else if diff := cmp.Diff(l.want, report, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("caller %d: report (-want +got):\n%s", i, diff)
				}
			})
			if late.Load() == int64(len(reports)) {
				t.Error("nobody got the report")
			}
			l.left(t, w)
			once(t, w.events(0), l.kind)
		})
	}
}

// Who leaves stops the work between two credentials, and nothing of it is lost.
func TestLongWorkCancelled(t *testing.T) {
	t.Parallel()
	for _, l := range longWorks {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			w := newEstate(t, nil)
			ctx, cancel := context.WithCancel(t.Context())
			_, err := l.do(ctx, w.engine, false, func(core.Progress) { cancel() })
			w.wantErr("work whose caller left", err, context.Canceled)
			if got, err := l.do(t.Context(), w.engines[1], false, nil); err != nil {
				t.Error(err)
			} else {
				l.wantReport(t, w, got)
			}
		})
	}
}

// A process that dies leaves its lease behind: another one takes over once that has run out.
func TestLongWorkOfTheDead(t *testing.T) {
	t.Parallel()
	for _, l := range longWorks {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			store := &fillable{Store: memory.New()}
			w := newEstate(t, store)
			_, err := l.do(t.Context(), w.engine, false, func(core.Progress) { store.full.Store(true) })
			w.wantErr("work on a full disk", err, storage.ErrFull)
			store.full.Store(false)
			w.opts.Run("another process")
			other := w.open()
			for range 3 { // the first sight of the lease, half its time later, and at its end
				if err := coretest.Step(other); err != nil {
					t.Fatal(err)
				}
				w.clock.Advance(15 * time.Second)
			}
			l.wantReport(t, w, l.want)
		})
	}
}

// A copy of a store carries nothing on.
func TestSecurity22_LongWork(t *testing.T) {
	t.Parallel()
	store := newFailing(forGood)
	w := newEstate(t, &placed{store, "here"})
	store.left.Store(4)
	_, err := w.engine.DeleteUser(t.Context(), "acme", nil)
	w.wantErr("a deletion that is cut short", err, errFailing)
	store.left.Store(-1)
	w.store.(*placed).place = "elsewhere"
	other := w.open()
	before := w.traces("acme")
	if err := coretest.Step(other); err != nil || !other.Quarantined() {
		t.Fatalf("Step = %v, quarantined: %v", err, other.Quarantined())
	}
	if diff := cmp.Diff(before, w.traces("acme")); diff != "" || len(before) == 0 {
		t.Errorf("traces of the user, by table (-before +after):\n%s", diff)
	}
}

// Long work that does not exist is refused, and so are engines that cannot do it.
func TestLongWorkRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx := t.Context()
	for _, dry := range []bool{false, true} {
		_, err := w.engine.DeleteUser(ctx, "nobody", &core.DeleteUserOptions{DryRun: dry})
		w.wantErr("DeleteUser of nobody", err, core.ErrNotFound)
		_, err = w.engine.RevokeCredentials(ctx, "nothing", &core.RevokeCredentialsOptions{DryRun: dry})
		w.wantErr("RevokeCredentials of nothing", err, core.ErrNotFound)
		_, err = w.engine.RevokeCredentials(ctx, "a/b", &core.RevokeCredentialsOptions{DryRun: dry})
		w.wantInput("RevokeCredentials of a malformed name", err, "integration")
	}
	policy, err := core.Open(ctx, w.store, crypto.KEKs{Policy: w.keks.Policy}, &w.opts)
	if err != nil {
		t.Fatal(err)
	}
	_, deleted := policy.DeleteUser(ctx, "u", nil)
	_, revoked := policy.RevokeCredentials(ctx, calendar, nil)
	w.wantErr("DeleteUser without the tokens key", deleted, core.ErrNoTokens)
	w.wantErr("RevokeCredentials without the tokens key", revoked, core.ErrNoTokens)
	if err := policy.DisableUser(ctx, "u"); err != nil {
		t.Errorf("DisableUser without the tokens key = %v, want it to need none", err)
	}
	if err := policy.Close(); err != nil {
		t.Fatal(err)
	}
	_, deleted = policy.DeleteUser(ctx, "u", nil)
	_, revoked = policy.RevokeCredentials(ctx, calendar, nil)
	for what, err := range map[string]error{"DeleteUser": deleted, "RevokeCredentials": revoked, "DisableUser": policy.DisableUser(ctx, "u")} {
		w.wantErr(what+" of a closed engine", err, core.ErrClosed)
	}
}
