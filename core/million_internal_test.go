//go:build long

package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

// counting is a Badger store that counts what is asked of it: keys that are looked up or scanned, and changes.
type counting struct {
	*badger.Store
	keys, changes atomic.Int64
}

func (c *counting) Get(ctx context.Context, key []byte) (storage.Item, error) {
	c.keys.Add(1)
	return c.Store.Get(ctx, key)
}

func (c *counting) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	c.keys.Add(int64(len(keys)))
	return c.Store.GetMany(ctx, keys)
}

func (c *counting) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	page, err := c.Store.Scan(ctx, r)
	c.keys.Add(1 + int64(len(page.Items)))
	return page, err
}

func (c *counting) Apply(ctx context.Context, b storage.Batch) error {
	c.changes.Add(1)
	return c.Store.Apply(ctx, b)
}

// crowded is an engine with many credentials, and a provider that refreshes whatever it is asked.
type crowded struct {
	*testing.T
	e     *Engine
	store *counting
	now   atomic.Int64 // of the engine, in nanoseconds since 1970
	calls atomic.Int64 // to the provider
	ids   []string
}

// What is due when, counted from the start: the first group in five minutes, the drained one in half an hour to an hour
// and a half, the second group in two hours, everything else in ten days.
const (
	dueGroup  = 10_000
	firstDue  = 5 * time.Minute
	drainFrom = 30 * time.Minute
	drainTo   = 90 * time.Minute
	secondDue = 2 * time.Hour
	restDue   = 10 * 24 * time.Hour
)

func newCrowded(t *testing.T, n, drained int) *crowded {
	t.Helper()
	c := &crowded{T: t}
	start := time.Now().Truncate(time.Minute)
	c.now.Store(start.UnixNano())
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := c.calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token": "at-%d", "refresh_token": "rt-%d", "token_type": "Bearer", "expires_in": 2592000}`, n, n)
	}))
	t.Cleanup(provider.Close)
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	dir, keks := t.TempDir(), crypto.KEKs{Tokens: kek, Policy: kek}
	options := &Options{
		Now:          func() time.Time { return time.Unix(0, c.now.Load()) },
		PrivateHosts: []string{strings.TrimPrefix(provider.URL, "http://")}, RefreshLimit: 64,
	}
	c.open(dir, keks, options)
	t.Cleanup(c.close)
	_, err = c.e.CreateIntegration(t.Context(), Integration{Name: "googleCalendar", OAuth2: &OAuth2{
		ClientID: "client", ClientSecret: crypto.NewSecret("secret"),
		AuthorizationURL: provider.URL + "/authorize", TokenURL: provider.URL + "/token",
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.seed(n, func(i int) time.Time {
		switch {
		case i < dueGroup:
			return start.Add(firstDue)
		case i < 2*dueGroup:
			return start.Add(secondDue)
		case i < 2*dueGroup+drained:
			return start.Add(drainFrom + time.Duration(i)*(drainTo-drainFrom)/time.Duration(n))
		}
		return start.Add(restDue + time.Duration(i)*time.Second)
	})
	c.close()
	if err := flatten(dir); err != nil { // what filling the store left to do is no work of the scheduler's
		t.Fatal(err)
	}
	c.open(dir, keks, options)
	return c
}

func (c *crowded) open(dir string, keks crypto.KEKs, o *Options) {
	c.Helper()
	inner, err := badger.Open(dir, nil)
	if err != nil {
		c.Fatal(err)
	}
	c.store = &counting{Store: inner}
	if c.e, err = Open(c.Context(), c.store, keks, o); err != nil {
		c.Fatal(err)
	}
}

func (c *crowded) close() {
	c.Helper()
	if err := errors.Join(c.e.Close(), c.store.Close()); err != nil {
		c.Error(err)
	}
}

// seed stores n credentials, each due when at says.
func (c *crowded) seed(n int, at func(i int) time.Time) {
	c.Helper()
	c.ids = make([]string, n)
	for i := range c.ids {
		c.ids[i] = newID()
	}
	c.each(0, n, 64, func(lo, hi int) error {
		tx := c.e.db.Begin(c.Context())
		for i := lo; i < hi; i++ {
			due := at(i).Add(-30 * time.Second) // so that it is looked at in that minute
			r := benchRecord(c.ids[i], due.Add(-19*time.Hour))
			r.ClientID = "client"
			// The lifetime of which a fifth, give or take what is the credential's own, is left when it is due.
			spare := 0.2 * (1 + float64(r.jitter())/1000)
			r.ValidUntil = r.Refreshed + millis(float64(19*time.Hour/time.Millisecond)/(1-spare))
			c.e.schedule(tx, benchUser(i), r, nil)
			c.e.tables.credentials.Put(tx, r, 0, benchUser(i), r.ID)
			c.e.tables.byUser.Mark(tx, benchUser(i), r.Integration, r.ID)
		}
		return tx.Commit(c.Context())
	})
}

// each does the work for all numbers from lo to hi, some at a time, with 64 goroutines.
func (c *crowded) each(lo, hi, some int, work func(lo, hi int) error) {
	c.Helper()
	var next atomic.Int64
	next.Store(int64(lo))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for !c.Failed() {
				from := int(next.Add(int64(some))) - some
				if from >= hi {
					return
				}
				if err := work(from, min(from+some, hi)); err != nil {
					c.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if c.Failed() {
		c.FailNow()
	}
}

// cost is what the scheduler needed.
type cost struct {
	calls, keys, changes int64
	steps                int
	took                 time.Duration
}

func (c cost) String() string {
	return fmt.Sprintf("%d refreshes, %d keys read, %d changes, %v", c.calls, c.keys, c.changes, c.took.Round(time.Millisecond))
}

// at moves the clock and lets the background work run until so many refreshes are done, once at least.
func (c *crowded) at(after time.Duration, refreshes int64) cost {
	c.Helper()
	c.now.Add(int64(after))
	before := cost{calls: c.calls.Load(), keys: c.store.keys.Load(), changes: c.store.changes.Load()}
	began := time.Now()
	var got cost
	for got.steps == 0 || got.calls < refreshes {
		if err := c.e.kernel.Step(c.Context()); err != nil {
			c.Fatal(err)
		}
		calls := c.calls.Load() - before.calls
		if got.steps++; got.steps > 1 && calls == got.calls {
			c.Fatalf("a pass refreshed nothing, and %d of %d refreshes are done", calls, refreshes)
		}
		got.calls = calls
	}
	got.keys, got.changes, got.took = c.store.keys.Load()-before.keys, c.store.changes.Load()-before.changes, time.Since(began)
	if got.calls != refreshes {
		c.Errorf("%d refreshes, want %d", got.calls, refreshes)
	}
	return got
}

// drain takes what lies from lo to hi off its minute, without asking the provider: a tenth is disabled, the rest is put
// off. What the scheduler does not do, numbering the events of it, is done here.
func (c *crowded) drain(lo, hi int) {
	c.Helper()
	disabled := lo + (hi-lo)/10
	c.each(lo, disabled, 1, func(i, _ int) error {
		return c.e.User(benchUser(i)).Disable(c.Context(), Selector{Credential: c.ids[i]})
	})
	c.each(disabled, hi, 80, c.putOff) // three operations each, of 256
	if err := c.e.kernel.Step(c.Context()); err != nil {
		c.Fatal(err)
	}
}

// putOff makes tokens end twenty days later, as if somebody had refreshed them.
func (c *crowded) putOff(lo, hi int) error {
	const later = millis(20 * 24 * time.Hour / time.Millisecond)
	tx := c.e.db.Begin(c.Context())
	for i := lo; i < hi; i++ {
		record, rev, err := c.e.credential(c.Context(), benchUser(i), c.ids[i])
		if err != nil {
			return err
		}
		record.Refreshed, record.ValidUntil = record.Refreshed+later, record.ValidUntil+later
		c.e.schedule(tx, benchUser(i), &record, nil)
		c.e.tables.credentials.Put(tx, &record, rev, benchUser(i), record.ID)
	}
	return tx.Commit(c.Context())
}

// TestMillion proves that the scheduler's work follows what is due: 10,000 of 1,000,000 credentials cost what 10,000 of
// 30,000 cost, also right after 500,000 that would have been due were disabled or put off. It needs the whole machine.
func TestMillion(t *testing.T) {
	began := time.Now()
	const drained = 500_000
	small := newCrowded(t, 3*dueGroup, 0)
	small.at(0, 0)
	want := small.at(firstDue+time.Minute, dueGroup)

	c := newCrowded(t, 1_000_000, drained)
	first := c.at(0, 0) // a process that starts looks at everything that may be left
	seeded := time.Since(began)
	one := c.at(firstDue+time.Minute, dueGroup)
	idle := c.at(time.Minute, 0)
	c.drain(2*dueGroup, 2*dueGroup+drained)
	behind := c.at(drainTo, 0) // behind all that was drained
	again := c.at(time.Minute, 0)
	two := c.at(secondDue-drainTo, dueGroup)

	for name, got := range map[string]cost{"1 % of a million": one, "1 % after half was drained": two} {
		if got.keys > want.keys*11/10 || got.changes > want.changes*11/10 {
			t.Errorf("%s = %v, want what the same costs among few: %v", name, got, want)
		}
		if got.took > 3*want.took { // the time hangs on the machine as well
			t.Errorf("%s took %v, want about the %v of the same among few", name, got.took, want.took)
		}
	}
	for name, got := range map[string]cost{"nothing due": idle, "all that was due drained": behind, "the minute after": again} {
		if got.keys > 1000 || got.changes > 20 {
			t.Errorf("%s = %v, want next to nothing", name, got)
		}
	}
	verdict := "proved"
	if t.Failed() {
		verdict = "FAILED"
	}
	_, _ = fmt.Fprintf(os.Stdout, "%s %s: 1,000,000 credentials (made in %.0f s). 10,000 due among 30,000: %v; among 1,000,000: "+
		"%v; nothing due: %v; 500,000 drained: %v, then %v; 10,000 due after that: %v; the first pass ever: %v (%.0f s)\n",
		verdict, t.Name(), seeded.Seconds(), want, one, idle, behind, again, two, first, time.Since(began).Seconds())
}
