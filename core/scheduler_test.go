package core_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// step has an engine do once what Run does, and waits until that is done.
func (w *world) step(engine *core.Engine) {
	w.Helper()
	if err := coretest.Step(engine); err != nil {
		w.Error(w.note(err))
	}
}

// minutes moves the clock by n minutes, with a step in each.
func (w *world) minutes(n int) {
	w.Helper()
	for range n {
		w.clock.Advance(time.Minute)
		w.step(w.engine)
	}
}

// dueKeys are the entries of the due queue: each as the credential's id and its minute.
func (w *world) dueKeys() []string {
	w.Helper()
	var entries []string
	for _, item := range w.items() {
		if item.Key[0] != 'd' {
			continue
		}
		parts := dueKey.FindSubmatch(item.Key)
		if parts == nil {
			w.Fatalf("%q is no entry", item.Key)
		}
		minute, _ := strconv.Atoi(string(parts[1]))
		entries = append(entries, fmt.Sprintf("%s %d", parts[2], minute))
	}
	return entries
}

// dueKey finds the minute, and behind the user the id.
var dueKey = regexp.MustCompile(`(?s)([0-9]{10})[^0-9a-z]+[0-9a-z]+[^0-9a-z]+([0-9a-z-]+)[^0-9a-z]*$`)

// wantDue fails the test unless the only entry of a credential is the one that its record names, in that time from now.
func (w *world) wantDue(what, credential string, least, most time.Duration) {
	w.Helper()
	record := w.stored("u", credential)
	if in := record.Due.Time().Sub(w.clock.Now()); record.Due == 0 || in < least || in > most {
		w.Errorf("%s: due in %v (minute %d), want %v to %v", what, in, record.Due, least, most)
	}
	if got, want := w.dueKeys(), []string{fmt.Sprint(credential, " ", record.Due)}; !slices.Equal(got, want) {
		w.Errorf("%s: entries %q, want %q", what, got, want)
	}
}

// wantNotDue fails the test unless the queue is empty.
func (w *world) wantNotDue(what string) {
	w.Helper()
	if got := w.dueKeys(); len(got) != 0 {
		w.Errorf("%s: entries %q, want none", what, got)
	}
}

// Nobody calls Token, and the token is never older than the hour that it lives.
func TestScheduledAheadOfExpiry(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), nil)
			w.rotate()
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.wantDue("connected", ada.ID, 46*time.Minute, 50*time.Minute)
			w.minutes(46)
			w.wantRefreshes("in 46 minutes", 0)
			w.minutes(4)
			w.wantRefreshes("in 50 minutes", 1)
			w.wantDue("refreshed", ada.ID, 42*time.Minute, 50*time.Minute)
			for range 4 * 60 {
				w.minutes(1)
				if until := w.credential("u", ada.ID).ValidUntil.Sub(w.clock.Now()); until < 10*time.Minute {
					t.Fatalf("its token ends in %v, and nothing is done", until)
				}
			}
			if got := w.provider.Calls().Refresh; got < 5 || got > 7 {
				t.Errorf("refreshes in 290 minutes = %d, want one in 46 to 50", got)
			}
			w.wantCount(w.provider.Calls().Refresh, "polycred.refreshes",
				"polycred.integration="+calendar, "polycred.class=ok", "polycred.trigger=ahead")
			w.wantAlive(ada.ID)
		})
	}
}

// Accounts that were connected in one moment are not refreshed in one.
func TestScheduledWithJitter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	const n = 30
	w.people(n)
	for i := range n {
		w.mustConnect("u", person(i), core.ConnectInput{AllowMultiple: true})
	}
	w.minutes(40)
	seen := map[int]int{}
	for minute, before := 40, 0; minute < 55; minute++ {
		w.minutes(1)
		if now := w.provider.Calls().Refresh; now > before {
			seen[minute], before = now-before, now
		}
	}
	if w.wantRefreshes("of all", n); len(seen) < 2 {
		t.Errorf("refreshes by minute = %v, want them spread", seen)
	}
}

// A token without an end is refreshed only where its refresh token dies of idleness.
func TestScheduledKeepAlive(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		idle  time.Duration
		often time.Duration
	}{
		{"no idleness", 0, 0},
		{"half a year", 180 * 24 * time.Hour, 24 * time.Hour},
		{"two days", 48 * time.Hour, 24 * time.Hour},
		{"six hours", 6 * time.Hour, 3 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.rotate()
			w.provider.Set(func(sw *coretest.Switches) { sw.ExpiresIn = coretest.ExpiresInAbsent })
			w.change(func(in *core.Integration) { in.OAuth2.Refresh.IdleTTL = catalog.Duration(tt.idle) })
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			if tt.idle == 0 {
				w.wantNotDue("connected")
				w.clock.Advance(1000 * time.Hour)
				w.step(w.engine)
				w.wantRefreshes("without need", 0)
				return
			}
			for i := range 3 {
				w.wantDue("connected", ada.ID, tt.often*9/10, tt.often*11/10+time.Minute)
				w.clock.Advance(tt.often*9/10 - time.Minute)
				w.step(w.engine)
				w.wantRefreshes("before", i)
				w.clock.Advance(tt.often/5 + 2*time.Minute)
				w.step(w.engine)
				w.wantRefreshes("after", i+1)
			}
			w.mustToken("u", ada.ID)
		})
	}
}

// A failure moves the entry to the next attempt, and the attempts go on until the provider answers.
func TestScheduledBackoff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.refresh(garbage(500, "", ""))
	w.clock.Advance(50 * time.Minute)
	w.step(w.engine)
	w.wantRefreshes("when it was due", 1)
	for failures := 1; failures < 14; failures++ {
		record := w.stored("u", ada.ID)
		next := time.UnixMilli(int64(record.NextAttempt))
		if record.Failures != failures || record.Due.Time().Before(next) || record.Due.Time().After(next.Add(time.Minute)) {
			t.Fatalf("after %d failures: %d, due at %v, want in the minute of the next attempt (%v)", failures, record.Failures, record.Due.Time(), next)
		}
		if entries := w.dueKeys(); len(entries) != 1 {
			t.Fatalf("entries = %q, want one", entries)
		}
		if early := next.Add(-time.Minute); early.After(w.clock.Now()) {
			w.clock.Set(early)
			w.step(w.engine)
			w.wantRefreshes("before the next attempt", failures)
		}
		w.clock.Set(record.Due.Time())
		w.step(w.engine)
		w.wantRefreshes("at the next attempt", failures+1)
	}
	w.refresh(coretest.Fault{})
	w.minutes(6)
	if got := w.credential("u", ada.ID); got.RefreshFailures != 0 || !got.ValidUntil.After(w.clock.Now()) {
		t.Errorf("credential = %+v, want a valid token and no failures", got)
	}
}

// What has no use for a refresh has no entry; what gets one again has one.
func TestScheduledSwitches(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	user, sel := w.engine.User("u"), core.Selector{Credential: ada.ID}
	if err := user.Disable(t.Context(), sel); err != nil {
		t.Fatal(err)
	}
	w.wantNotDue("disabled")
	w.clock.Advance(2 * time.Hour)
	w.step(w.engine)
	w.wantRefreshes("disabled", 0)
	if err := user.Enable(t.Context(), sel); err != nil {
		t.Fatal(err)
	}
	w.wantDue("enabled", ada.ID, 0, time.Minute)
	w.minutes(2)
	w.wantRefreshes("enabled", 1)

	w.provider.Revoke("ada")
	w.minutes(51)
	if got := w.credential("u", ada.ID).Status; got != core.StatusInvalid {
		t.Errorf("status = %s, want INVALID", got)
	}
	w.wantNotDue("invalid")
	w.wantRefreshes("invalid", 2)
	w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID})
	w.wantDue("reconnected", ada.ID, 42*time.Minute, 50*time.Minute)
	w.disconnect("u", ada.ID)
	w.wantNotDue("disconnected")

	w.provider.Set(func(sw *coretest.Switches) { sw.OmitRefreshTokenAtExchange = true })
	w.mustConnect("u", "ada", core.ConnectInput{})
	w.wantNotDue("without a refresh token")
}

// The accounts of a user who is disabled wait; those of another one do not.
func TestScheduledDisabledUser(t *testing.T) {
	t.Parallel()
	store := &spyStore{Store: memory.New()}
	w := newWorld(t, store, nil)
	const n = 120
	w.people(n)
	for i := range n {
		w.mustConnect("u", person(i), core.ConnectInput{AllowMultiple: true})
	}
	w.mustConnect("other", "bob", core.ConnectInput{})
	if err := w.engine.DisableUser(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	var entries []due.Entry
	for _, c := range w.list("u") {
		entries = append(entries, due.Entry{At: w.stored("u", c.ID).Due, Key: []string{"u", c.ID}})
	}
	batches := 0
	store.intercept(func(_ storage.Batch, next func() error) error {
		batches++
		return next()
	})
	left, err := w.engine.ShowDue(t.Context(), entries)
	store.intercept(nil)
	if batches != 2 || len(left) != 0 || err != nil {
		t.Errorf("%d batches moved %d entries, %d are left, %v; want 2, and none", batches, n, len(left), err)
	}
	w.step(w.engine)
	w.wantRefreshes("while the user is disabled", 1)
	w.minutes(10)
	w.wantRefreshes("while the user is disabled", 1)
	if err := w.engine.EnableUser(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	w.minutes(62)
	if got := w.provider.Calls().Refresh; got < n+2 {
		t.Errorf("refreshes within an hour after the user was enabled = %d, want %d", got, n+2)
	}
}

// A copy of a store refreshes nothing and moves no entry, until it is taken over.
func TestSecurity22_NothingIsScheduledInQuarantine(t *testing.T) {
	t.Parallel()
	store := &movedStore{memory.New(), "here"}
	w := newWorld(t, store, nil)
	w.rotate()
	w.mustConnect("u", "ada", core.ConnectInput{})
	before := w.dueKeys()
	store.place = "elsewhere"
	w.engine = w.open()
	w.clock.Advance(50 * time.Minute)
	w.step(w.engine)
	w.minutes(90)
	if after := w.dueKeys(); !slices.Equal(before, after) {
		t.Errorf("entries = %q, want %q", after, before)
	}
	w.wantRefreshes("in quarantine", 0)

	w.opts.TakeOver = true
	w.engine = w.open()
	w.step(w.engine)
	w.wantRefreshes("after the take-over", 1)
}

// An engine that cannot open tokens leaves the queue to others.
func TestScheduledWithoutTokensKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(50 * time.Minute)
	both := w.keks
	w.keks.Tokens = nil
	w.step(w.open())
	w.wantRefreshes("without the tokens key", 0)
	w.keks = both
	w.step(w.engine)
	w.wantRefreshes("with it", 1)
	w.wantAlive(ada.ID)
}

// An integration that has no OAuth any more is asked nothing; when it has again, its accounts go on.
func TestScheduledIntegrationChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	var oauth *core.OAuth2
	w.change(func(in *core.Integration) {
		oauth, in.OAuth2, in.APIKey, in.Identity = in.OAuth2, nil, &core.APIKey{TestURL: w.provider.APIURL() + "/me"}, core.Identity{}
	})
	w.clock.Advance(50 * time.Minute)
	w.step(w.engine)
	w.wantRefreshes("without OAuth", 0)
	w.wantDue("without OAuth", ada.ID, 30*time.Minute, 2*time.Hour)
	w.change(func(in *core.Integration) {
		in.OAuth2, in.APIKey = oauth, nil
		in.OAuth2.ClientSecret = crypto.NewSecret(clientSecret)
	})
	w.minutes(62)
	w.wantRefreshes("with OAuth again", 1)
}

// A clock that jumps makes nothing due twice, and forgets nothing.
func TestScheduledClockJumps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.minutes(10)
	w.clock.Advance(-24 * time.Hour)
	w.minutes(3)
	w.wantRefreshes("a day ago", 0)
	w.clock.Advance(24*time.Hour + 37*time.Minute)
	w.minutes(3)
	w.wantRefreshes("back again", 1)
	w.clock.Advance(365 * 24 * time.Hour)
	w.minutes(2)
	w.wantRefreshes("a year later", 2)
	w.wantDue("a year later", ada.ID, 40*time.Minute, 51*time.Minute)
	w.wantAlive(ada.ID)
}

// Entries that are nobody's any more go; those of records that do not open stay, and hold up nothing.
func TestScheduledStaleEntries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	cyd := w.mustConnect("u", "cyd", core.ConnectInput{AllowMultiple: true})
	w.disconnect("u", cyd.ID)
	soon := due.At(w.clock.Now().Add(5 * time.Minute))
	for _, id := range []string{ada.ID, cyd.ID, "nobody"} {
		if err := w.engine.AddDue(t.Context(), soon, "u", id); err != nil {
			t.Fatal(err)
		}
	}
	w.minutes(7)
	w.wantRefreshes("for stale entries", 0)
	if got := w.dueKeys(); len(got) != 2 {
		t.Errorf("entries = %q, want those of ada and bob alone", got)
	}
	w.eachRecord('c', bob.ID, func(item storage.Item) storage.Batch {
		item.Value[len(item.Value)-1] ^= 1
		return storage.Batch{Puts: []storage.Put{{Key: item.Key, Value: item.Value, If: item.Rev, Rev: item.Rev}}}
	})
	w.minutes(44)
	w.wantRefreshes("beside a record that does not open", 1)
	w.wantAlive(ada.ID)
}

// A record from before there was a queue has no entry; its next refresh gives it one.
func TestScheduledOldRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	if err := w.engine.ForgetDue(t.Context(), "u", ada.ID); err != nil {
		t.Fatal(err)
	}
	w.wantNotDue("from before")
	w.minutes(55)
	w.wantRefreshes("without an entry", 0)
	w.mustToken("u", ada.ID)
	w.engine.Settle("u", ada.ID)
	w.wantDue("refreshed", ada.ID, 40*time.Minute, 51*time.Minute)
	w.minutes(52)
	w.wantRefreshes("with one", 2)
}

// A store that fails for a while delays the refreshes, and loses none.
func TestScheduledStoreFails(t *testing.T) {
	t.Parallel()
	store := &fillable{Store: memory.New()}
	w := newWorld(t, store, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(50 * time.Minute)
	store.full.Store(true)
	_ = coretest.Step(w.engine)
	w.wantRefreshes("while the store is full", 0)
	store.full.Store(false)
	w.minutes(6)
	w.wantRefreshes("afterwards", 1)
	w.wantAlive(ada.ID)
}
