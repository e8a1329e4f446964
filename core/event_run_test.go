package core_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

var labels atomic.Int64

// newLabel returns one that nothing has yet, so that renaming to it is a change.
func newLabel() string { return fmt.Sprintf("label %d", labels.Add(1)) }

// renamer returns what renames an account of its own, each time with one event.
func (g *gate) renamer(login string) func() {
	g.Helper()
	id := g.mail(g.acme(""), login, core.KeyInput{}).ID
	return func() {
		g.Helper()
		if _, err := g.acme("").Rename(g.Context(), core.Selector{Credential: id}, core.RenameInput{Label: new(newLabel())}); err != nil {
			g.Error(err)
		}
	}
}

// take reads n events behind a number.
func take(t *testing.T, e *core.Engine, after uint64, n int) []core.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []core.Event
	for ev, err := range e.Subscribe(ctx, after) {
		if err != nil {
			t.Fatalf("Subscribe(%d) after %d events: %v", after, len(got), err)
		}
		if got = append(got, ev); len(got) == n {
			break
		}
	}
	for i, ev := range got {
		if want := after + uint64(i) + 1; ev.Number != want {
			t.Errorf("event %d behind %d has number %d, want %d", i, after, ev.Number, want)
		}
	}
	return got
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	rename := g.renamer("ada")
	last := uint64(len(g.events(0)))
	if got, err := g.engine.LastEvent(t.Context()); err != nil || got != last || last == 0 {
		t.Errorf("LastEvent() = %d, %v, want %d", got, err, last)
	}
	rename()
	if got, err := g.engine.LastEvent(t.Context()); err != nil || got != last {
		t.Errorf("LastEvent() before the next one has its number = %d, %v, want %d", got, err, last)
	}
	if err := coretest.Step(g.engine); err != nil {
		t.Fatal(err)
	}
	all := take(t, g.engine, 0, int(last)+1)
	for _, after := range []uint64{0, 1, last - 1, last} {
		if diff := cmp.Diff(all[after:], take(t, g.engine, after, len(all[after:]))); diff != "" {
			t.Errorf("Subscribe(%d) (-want +got):\n%s", after, diff)
		}
	}
	// Break, and go on with the same iterator: it begins again where it began.
	seq := g.engine.Subscribe(t.Context(), last-1)
	for range 2 {
		for ev, err := range seq {
			if err != nil || ev.Number != last {
				t.Errorf("Subscribe(%d) = %v, %v, want event %d", last-1, ev, err, last)
			}
			break
		}
	}
	for _, after := range []uint64{last + 2, 1 << 40, ^uint64(0)} {
		n := 0
		for ev, err := range g.engine.Subscribe(t.Context(), after) {
			g.wantErr(fmt.Sprintf("Subscribe(%d)", after), err, core.ErrCursor)
			if n++; ev.Number != 0 {
				t.Errorf("beside the error stands %v", ev)
			}
		}
		if n != 1 {
			t.Errorf("Subscribe(%d) gave %d times, want its one error", after, n)
		}
	}
}

// What is older than Options.EventRetention goes, and a consumer that had not read it is told.
func TestEventRetention(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, func(o *core.Options) { o.EventRetention = time.Hour })
	rename := g.renamer("ada")
	old := uint64(len(g.events(0)))
	g.clock.Advance(59 * time.Minute)
	rename()
	kept := g.events(0)
	g.clock.Advance(2 * time.Minute)
	for range 2 {
		if err := coretest.Step(g.engine); err != nil {
			t.Fatal(err)
		}
	}
	for ev, err := range g.engine.Subscribe(t.Context(), old-1) {
		g.wantErr("a consumer that missed some", err, core.ErrCursor)
		if ev.Number != 0 {
			t.Errorf("beside the error stands %v", ev)
		}
	}
	if diff := cmp.Diff(kept[old:], take(t, g.engine, old, 1)); diff != "" {
		t.Errorf("what is kept (-want +got):\n%s", diff)
	}
	// 0 begins with the oldest that is kept.
	got := take0(t, g.engine)
	if got.Number != old+1 {
		t.Errorf("the first event behind 0 = %v, want %d", got, old+1)
	}
	// Once all are gone, those to come have the next numbers.
	g.clock.Advance(2 * time.Hour)
	rename()
	if got := take0(t, g.engine); got.Number != old+1 {
		t.Errorf("the first event behind 0 before the next Step = %v, want %d", got, old+1)
	}
	if err := coretest.Step(g.engine); err != nil {
		t.Fatal(err)
	}
	if got := take0(t, g.engine); got.Number != old+2 {
		t.Errorf("the first event behind 0 = %v, want %d", got, old+2)
	}
}

// take0 returns the oldest event that is kept.
func take0(t *testing.T, e *core.Engine) core.Event {
	t.Helper()
	for ev, err := range e.Subscribe(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	t.Fatal("Subscribe(0) ended without anything")
	return core.Event{}
}

// A subscription that waits ends with its context, and with the engine.
func TestSubscribeEnds(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	last := uint64(len(g.events(0)))
	ctx, cancel := context.WithCancel(t.Context())
	want := []error{context.Canceled, core.ErrClosed, context.DeadlineExceeded}
	past, cancelPast := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancelPast()
	ends := make([]error, 3)
	var waiting, all sync.WaitGroup
	waiting.Add(3)
	for i, ctx := range []context.Context{ctx, t.Context(), past} {
		all.Go(func() {
			n := 0
			waiting.Done()
			for ev, err := range g.engine.Subscribe(ctx, last) {
				if n++; err == nil {
					t.Errorf("a subscription got %v", ev)
				}
				ends[i] = err
			}
			if n != 1 {
				t.Errorf("a subscription gave %d times, want its one error", n)
			}
		})
	}
	waiting.Wait()
	cancel()
	if err := g.engine.Close(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for i := range want {
		if !errors.Is(ends[i], want[i]) && !(i != 1 && errors.Is(ends[i], core.ErrClosed)) { // whichever came first
			t.Errorf("a subscription ended with %v, want %v", ends[i], want[i])
		}
	}
	for _, err := range g.engine.Subscribe(t.Context(), 0) {
		g.wantErr("Subscribe on a closed engine", err, core.ErrClosed)
	}
	_, err := g.engine.LastEvent(t.Context())
	g.wantErr("LastEvent on a closed engine", err, core.ErrClosed)
	g.wantErr("Run on a closed engine", g.engine.Run(t.Context()), core.ErrClosed)
}

// running runs the engine until the function it returns is called.
func running(t *testing.T, e *core.Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v, want nil once its context is done", err)
		}
	})
}

// Run numbers events as soon as they are there: each change is seen before the next is made, which at one a second would
// take long.
func TestRunNumbersAtOnce(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	rename := g.renamer("ada")
	last := uint64(len(g.events(0)))
	t.Cleanup(running(t, g.engine))
	begun := time.Now()
	const n = 20
	for i := range uint64(n) {
		rename()
		take(t, g.engine, last+i, 1)
	}
	if took := time.Since(begun); took > n*time.Second/2 {
		t.Errorf("%d changes, each awaited, took %v, want much less than a second for each", n, took)
	}
}

// Two engines on one store make one log, which both give in the same order, also when the one that numbers goes.
func TestRunTwice(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	engines := []*core.Engine{g.engine, g.open()}
	last := uint64(len(g.events(0)))
	stops := []func(){running(t, engines[0]), running(t, engines[1])}
	for _, stop := range stops {
		t.Cleanup(stop)
	}
	const writers, each = 8, 25
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			u := engines[i%2].User(fmt.Sprintf("user%d", i))
			c := g.mail(u, fmt.Sprintf("login%d", i), core.KeyInput{})
			for range each - 1 {
				if _, err := u.Rename(t.Context(), core.Selector{Credential: c.ID}, core.RenameInput{Label: new(newLabel())}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	first := take(t, engines[0], last, writers*each/2)
	writing.Wait()
	stops[0]() // who numbers may be this one: the other takes over
	logs := [][]core.Event{first, take(t, engines[1], last, writers*each)}
	logs[0] = append(logs[0], take(t, engines[0], last+uint64(len(first)), writers*each-len(first))...)
	if diff := cmp.Diff(logs[0], logs[1]); diff != "" {
		t.Errorf("the logs of two engines differ (-one +other):\n%s", diff)
	}
	wantOrder(t, logs[1])
}

// wantOrder fails the test unless what happened to each account stands in the order in which it happened.
func wantOrder(t *testing.T, log []core.Event) {
	t.Helper()
	revisions, ids := map[string]uint64{}, map[string]bool{}
	for _, ev := range log {
		if ids[ev.ID] {
			t.Errorf("event %d is told twice", ev.Number)
		}
		if ids[ev.ID] = true; ev.Revision == 0 {
			continue
		}
		of := ev.Credential + ev.Configuration
		if was := revisions[of]; was >= ev.Revision {
			t.Errorf("event %d has revision %d behind %d of the same: %s", ev.Number, ev.Revision, was, ev)
		}
		revisions[of] = ev.Revision
	}
}

// consumer stores the number of each event once it has dealt with it. Its subscription is cut at any point; the engine, the
// process and what the consumer saved go on.
type consumer struct {
	*testing.T
	e       *core.Engine
	cursor  uint64       // what it saved: the number of the last event that it has dealt with
	seen    []core.Event // what it has dealt with, by cursor
	due     int          // how many it has dealt with at least, by where it was cut
	again   uint64       // the event that it was cut with, between getting it and saving the cursor
	pace    chan struct{}
	ticking chan struct{}
}

// life is one subscription, from what was saved on: it is cut after some events, at one of three points.
func (c *consumer) life(point int) {
	c.Helper()
	ctx, cut := context.WithTimeout(c.Context(), time.Minute)
	defer cut()
	left := 1 + rand.IntN(40)
	if c.due += left; point == 1 {
		c.due-- // the last one comes again
	}
	deadly := make(chan struct{})
	go func() { // somebody else, who does not wait for a good moment
		select {
		case <-deadly:
			cut()
		case <-ctx.Done():
		}
	}()
	for ev, err := range c.e.Subscribe(ctx, c.cursor) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				c.Fatalf("Subscribe(%d) = %v", c.cursor, err)
			}
			return
		}
		if want := c.cursor + 1; ev.Number != want {
			c.Fatalf("got event %d, want %d", ev.Number, want)
		}
		if c.again != 0 && ev.Number != c.again {
			c.Fatalf("got event %d, want %d once more, and only that", ev.Number, c.again)
		}
		if left--; left == 0 && point == 0 {
			close(deadly)
		}
		if left == 0 && point == 1 {
			cut() // between getting it and saving the cursor
			c.again = ev.Number
			return
		}
		c.again = 0
		c.seen = append(c.seen, ev)
		c.cursor = ev.Number
		for _, to := range []chan struct{}{c.pace, c.ticking} {
			select {
			case to <- struct{}{}:
			default:
			}
		}
		if left == 0 && point == 2 {
			cut() // and does not stop asking
		}
	}
}

// A consumer whose subscription is cut 100 times, at any point, and that goes on each time from what it saved, deals with
// every event once, in the order of the log and none missing, while 32 writers work and Run comes and goes. What a killed
// process leaves in a store is shown by the tests of storage/badger.
func TestConsumerIsKilled(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	began := uint64(len(g.events(0)))
	c := &consumer{T: t, e: g.engine, cursor: began, pace: make(chan struct{}, 64), ticking: make(chan struct{}, 1)}
	for range cap(c.pace) {
		c.pace <- struct{}{}
	}
	enough := make(chan struct{})

	var running, writing sync.WaitGroup
	running.Go(func() { // Run, time and again
		for {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- g.engine.Run(ctx) }()
			last := false
			for range 1 + rand.IntN(100) {
				select {
				case <-c.ticking:
				case <-enough:
					last = true
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run() = %v", err)
			}
			if last {
				return
			}
		}
	})
	did := make([]map[string][]core.EventKind, 32) // by credential, in the order in which it happened
	for i := range did {
		writing.Go(func() { did[i] = g.write(i, c.pace, enough) })
	}
	for i := range 100 {
		c.life(i % 3)
	}
	close(enough)
	writing.Wait()
	running.Wait()
	log := g.events(began) // numbers the rest
	if got := len(c.seen); got < c.due || got > len(log) {
		t.Fatalf("the consumer dealt with %d events of %d, want at least the %d before which it was not cut", got, len(log), c.due)
	}
	if diff := cmp.Diff(log[:len(c.seen)], c.seen); diff != "" {
		t.Errorf("the consumer saw another log (-log +seen):\n%s", diff)
	}
	wantOrder(t, log)
	got, want := map[string][]core.EventKind{}, map[string][]core.EventKind{}
	for _, ev := range log {
		got[ev.Credential] = append(got[ev.Credential], ev.Kind)
	}
	for _, of := range did {
		maps.Copy(want, of)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what happened, and what is told of it (-want +got):\n%s", diff)
	}
}

// write connects, renames and disconnects accounts, one change for each turn, and returns what it did.
func (g *gate) write(i int, turns, enough <-chan struct{}) map[string][]core.EventKind {
	ctx, u, login := context.Background(), g.engine.User(fmt.Sprintf("user%d", i)), fmt.Sprintf("login%d", i)
	done := map[string][]core.EventKind{}
	id := ""
	for {
		select {
		case <-turns:
		case <-enough:
			return done
		}
		sel, kind := core.Selector{Credential: id}, core.EventRenamed
		var err error
		switch {
		case id == "":
			var c core.Credential
			c, err = g.tryMail(u, login, core.KeyInput{})
			id, kind = c.ID, core.EventConnected
			sel.Credential = id
		case rand.IntN(4) == 0:
			kind, id = core.EventDisconnected, ""
			err = u.Disconnect(ctx, sel)
		default:
			_, err = u.Rename(ctx, sel, core.RenameInput{Label: new(newLabel())})
		}
		if err != nil {
			g.Errorf("%s: %v", kind, err)
			return done
		}
		done[sel.Credential] = append(done[sel.Credential], kind)
	}
}

// moodyStore refuses Applies at random, or does not say whether it carried them out.
type moodyStore struct {
	storage.Store
	moody atomic.Bool
}

func (s *moodyStore) Apply(ctx context.Context, b storage.Batch) error {
	if !s.moody.Load() {
		return s.Store.Apply(ctx, b)
	}
	switch rand.IntN(8) {
	case 0:
		return storage.ErrFull
	case 1:
		return storage.ErrUnknownOutcome
	case 2:
		if err := s.Store.Apply(ctx, b); err != nil {
			return err
		}
		return storage.ErrUnknownOutcome
	}
	return s.Store.Apply(ctx, b)
}

// Whatever the store does, there is no event without its change, and no change without its event: what the events say is
// what there is.
func TestSecurity25_EventsAndChangesAreOne(t *testing.T) {
	t.Parallel()
	store := &moodyStore{Store: memory.New()}
	g := newGate(t, store, nil)
	after := uint64(len(g.events(0)))
	store.moody.Store(true)
	var working sync.WaitGroup
	for i := range 8 {
		working.Go(func() {
			u, login := g.acme(fmt.Sprintf("person%d", i)), fmt.Sprintf("login%d", i)
			for range 60 {
				g.doSomething(u, login)
			}
		})
	}
	working.Wait()
	store.moody.Store(false)

	type account struct {
		Label, ExternalID, Owner string
		Configurations           []string
	}
	told := map[string]*account{}
	log := g.events(after)
	wantOrder(t, log)
	for _, ev := range log {
		a := told[ev.Credential]
		if (a == nil) != (ev.Kind == core.EventConnected) {
			t.Fatalf("event of an account that is not there, or is: %s", ev)
		}
		switch ev.Kind {
		case core.EventConnected:
			told[ev.Credential] = &account{Owner: ev.Details["owner"], ExternalID: ev.Details["externalId"]}
		case core.EventRenamed:
			a.Label, a.ExternalID = ev.Details["label"], ev.Details["externalId"]
		case core.EventDisconnected:
			delete(told, ev.Credential)
		case core.EventConfigurationCreated:
			a.Configurations = append(a.Configurations, ev.Details["externalId"])
		case core.EventConfigurationDeleted:
			a.Configurations = slices.DeleteFunc(a.Configurations, func(id string) bool { return id == ev.Details["externalId"] })
		default:
			t.Errorf("unexpected: %s", ev)
		}
	}
	found := map[string]*account{}
	for _, c := range g.everyone() {
		a := &account{Label: c.Label, ExternalID: c.ExternalID, Owner: c.Owner}
		configurations, err := g.acme("").Configurations(t.Context(), core.Selector{Credential: c.ID})
		if err != nil {
			t.Fatal(err)
		}
		for _, configuration := range configurations[1:] {
			a.Configurations = append(a.Configurations, configuration.ExternalID)
		}
		found[c.ID] = a
	}
	for _, of := range []map[string]*account{told, found} {
		for _, a := range of {
			slices.Sort(a.Configurations)
		}
	}
	if diff := cmp.Diff(found, told, cmp.Transformer("nonempty", func(s []string) string { return fmt.Sprint(s) })); diff != "" {
		t.Errorf("what there is, and what the events say (-there +told):\n%s", diff)
	}
	if len(log) < 50 {
		t.Errorf("%d events, want many", len(log))
	}
}

// doSomething does something at random with a person's account; it may fail.
func (g *gate) doSomething(u *core.User, login string) {
	ctx := context.Background()
	var mine []core.Credential
	for _, c := range g.everyone() {
		if c.Account.Subject == login {
			mine = append(mine, c)
		}
	}
	var err error
	switch n := rand.IntN(8); {
	case len(mine) == 0:
		_, err = g.tryMail(u, login, core.KeyInput{})
	case n == 0:
		err = u.Disconnect(ctx, core.Selector{Credential: mine[0].ID})
	case n < 3:
		_, err = u.CreateConfiguration(ctx, core.Selector{Credential: mine[0].ID}, core.ConfigurationInput{ExternalID: newLabel(), Settings: map[string]any{"secret": "canary"}})
	case n < 5:
		var found []core.Configuration
		if found, err = u.Configurations(ctx, core.Selector{Credential: mine[0].ID}); err == nil && len(found) > 1 {
			err = u.DeleteConfiguration(ctx, core.Selector{Configuration: found[1].ID})
		}
	default: // both names, so that the event says both
		_, err = u.Rename(ctx, core.Selector{Credential: mine[0].ID}, core.RenameInput{Label: new(newLabel()), ExternalID: new(newLabel())})
	}
	if err != nil && !errors.Is(err, storage.ErrFull) && !errors.Is(err, storage.ErrUnknownOutcome) && !errors.Is(err, core.ErrNotFound) {
		g.Errorf("a change: %v", g.note(err))
	}
}
