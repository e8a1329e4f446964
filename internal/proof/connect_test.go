//go:build long

package proof_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// keys is the integration whose accounts have API keys.
const keys = "keys"

// connects connects accounts, several at a time, and notes each as soon as it is acknowledged.
func (a *agent) connects(ctx context.Context, in []account) (nothing, error) {
	next := make(chan account)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			for c := range next {
				var err error
				if c.Key != "" {
					c.Credential, err = a.addKey(ctx, c)
				} else {
					c.Credential, err = a.connect(ctx, c)
				}
				errs[i] = errors.Join(errs[i], err)
				if err == nil {
					errs[i] = errors.Join(errs[i], note(c))
				}
			}
		})
	}
	for _, c := range in {
		next <- c
	}
	close(next)
	wg.Wait()
	return nothing{}, errors.Join(errs...)
}

// TestKillConnects kills a process that connects accounts, over OAuth and with keys, again and again. After each time
// every account that was acknowledged is there, works, and was told of by exactly one event; so were those that were
// stored and not yet acknowledged, and there is no event of an account that is not there.
func TestKillConnects(t *testing.T) {
	t.Parallel()
	began := time.Now()
	const rounds, each = 24, 300
	h := newHouse(t, "oauth", rotating, nil)
	on := h.setup(onBadger, t.TempDir())
	h.found(on, 0)
	h.inside(on, func(a *agent) {
		if _, err := a.engine.CreateIntegration(t.Context(), h.keys()); err != nil {
			t.Fatal(err)
		}
	})
	var log eventLog
	acknowledged := map[string]account{}
	var silent int // stored, and not yet acknowledged
	for round := range rounds {
		p := start(t, on)
		must[nothing](p, "run", nothing{})
		var wanted []account
		for i := range each {
			c := h.somebody()
			if i%2 == 1 {
				c.Integration, c.Key = keys, "key of "+c.Login
				h.provider.AddKey(c.Key, c.Login)
			}
			wanted = append(wanted, c)
		}
		go func() { _, _ = ask[nothing](t.Context(), p, "connects", wanted) }() // it dies in it
		p.waitNotes(1 + rand.IntN(each/3))
		p.kill()
		for _, text := range p.waitNotes(each) {
			var c account
			if err := json.Unmarshal(text, &c); err != nil {
				t.Fatal(err)
			}
			acknowledged[c.Credential] = c
		}
		h.inside(on, func(a *agent) {
			log.read(t, a)
			silent = h.checkConnected(a, acknowledged, &log)
		})
		if t.Failed() {
			t.Fatalf("round %d is where it went wrong\n%s", round, p.tail())
		}
	}
	figures.say(t, began, "%d kills during connects on Badger: %d acknowledged accounts are there, each with one event, and %d "+
		"more that were stored when the process died, lost = 0", rounds, len(acknowledged), silent)
}

// keys describes the provider as one with API keys.
func (h *house) keys() core.Integration {
	return core.Integration{
		Name: keys, APIKey: &core.APIKey{TestURL: h.me()},
		Identity:     core.Identity{Source: core.IdentityTest, SubjectPath: "subject"},
		AllowedHosts: []string{h.provider.URL()},
	}
}

// checkConnected compares what is stored with what was acknowledged and with the events, and returns how many accounts
// were not acknowledged.
func (h *house) checkConnected(a *agent, acknowledged map[string]account, log *eventLog) (silent int) {
	h.Helper()
	for id, c := range acknowledged {
		credential, err := a.credential(h.Context(), c)
		if err != nil || credential.Status != core.StatusValid {
			h.Errorf("account %s of %s was acknowledged and is %q, %v, want VALID", id, c.User, credential.Status, err)
			continue
		}
		if got, err := a.token(h.Context(), h.use(c)); err != nil || got.Whose != c.Login {
			h.Errorf("token of the acknowledged account %s = for %q, %v, want for %q", id, got.Whose, err, c.Login)
		}
		if n := log.connected[id]; n != 1 {
			h.Errorf("%d events tell that account %s was connected, want 1", n, id)
		}
	}
	for id, n := range log.connected {
		if _, ok := acknowledged[id]; ok {
			continue
		}
		silent++
		credential, err := a.engine.User(log.users[id]).Credential(h.Context(), core.Selector{Credential: id})
		if err != nil || n != 1 || credential.Status != core.StatusValid {
			h.Errorf("%d events tell of account %s, which is %q, %v, want one event and VALID", n, id, credential.Status, err)
		}
	}
	return silent
}

// eventLog is what the events told so far.
type eventLog struct {
	last      uint64            // number of the last one
	connected map[string]int    // how often it was told that a credential was connected
	gone      map[string]int    // and disconnected
	users     map[string]string // whose it is
}

// read takes the events that are new.
func (l *eventLog) read(t *testing.T, a *agent) {
	t.Helper()
	if l.users == nil {
		l.connected, l.gone, l.users = map[string]int{}, map[string]int{}, map[string]string{}
	}
	if err := coretest.Step(a.engine); err != nil {
		t.Fatal(err)
	}
	last, err := a.engine.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last == l.last {
		return
	}
	for ev, err := range a.engine.Subscribe(t.Context(), l.last) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Number != l.last+1 {
			t.Errorf("event %d comes after %d", ev.Number, l.last)
		}
		l.last = ev.Number
		switch ev.Kind {
		case core.EventConnected:
			l.connected[ev.Credential]++
			l.users[ev.Credential] = ev.User
		case core.EventDisconnected:
			l.gone[ev.Credential]++
		}
		if ev.Number == last {
			return
		}
	}
	t.Error(fmt.Errorf("the events end at %d, want %d", l.last, last))
}

// check fails the test unless every account was told to be connected once, and disconnected once if it is not there.
func (l *eventLog) check(t *testing.T, a *agent) {
	t.Helper()
	for id, n := range l.connected {
		_, err := a.engine.User(l.users[id]).Credential(t.Context(), core.Selector{Credential: id})
		if there := err == nil; n != 1 || err != nil && !errors.Is(err, core.ErrNotFound) || there != (l.gone[id] == 0) || l.gone[id] > 1 {
			t.Errorf("%d events tell that account %s was connected, %d that it was disconnected, and it is there: %v (%v)",
				n, id, l.gone[id], there, err)
		}
	}
	for id := range l.gone {
		if l.connected[id] == 0 {
			t.Errorf("an event tells that account %s was disconnected, and none that it was connected", id)
		}
	}
}
