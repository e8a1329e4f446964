//go:build long

package proof_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
)

// soaking is random work of one process on accounts that several processes share.
type soaking struct {
	Seed        uint64        `json:"seed"`
	For         time.Duration `json:"for"` // real time
	Goroutines  int           `json:"goroutines"`
	Users       int           `json:"users"`
	Slots       int           `json:"slots"` // accounts that each may have
	Integration string        `json:"integration"`
	Me          string        `json:"me"`
}

// place is one account that may be connected or not: the slot is its external id, and part of its login.
func (s *soaking) place(user, slot int) use {
	login := fmt.Sprintf("soaked-%d-%d", user, slot)
	return use{Me: s.Me, account: account{
		User: fmt.Sprintf("user-%d", user), Integration: s.Integration, Login: login,
		ExternalID: fmt.Sprintf("slot-%d", slot), Credential: fmt.Sprintf("ext:slot-%d", slot),
	}}
}

// soaked counts what was done, and how often each error came that random work beside others explains.
type soaked struct {
	Done  map[string]int `json:"done"`
	Fair  map[string]int `json:"fair"`
	Wrong []string       `json:"wrong"` // what nothing explains
	Dead  int            `json:"dead"`  // tokens that had ended when they were asked about: somebody disconnected, or time went on
}

// fair are the errors that others explain, who work on the same account at the same time, and the faults.
var fair = []error{
	core.ErrNotFound, core.ErrNotConnected, core.ErrDisabled, core.ErrConflict, core.ErrProvider, core.ErrSession,
	core.ErrExternalID,     // the account is connected already
	core.ErrSessionExpired, // time went on
	errFault, storage.ErrUnavailable,
}

// soak does random work until its time is over.
func (a *agent) soak(ctx context.Context, in soaking) (soaked, error) {
	sum := soaked{Done: map[string]int{}, Fair: map[string]int{}}
	var mu sync.Mutex // guards sum
	var wg sync.WaitGroup
	end := time.Now().Add(in.For)
	for i := range in.Goroutines {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(in.Seed, uint64(i)))
			for time.Now().Before(end) {
				at := in.place(random.IntN(in.Users), random.IntN(in.Slots))
				name, got, err := a.soakOnce(ctx, random, at)
				mu.Lock()
				sum.note(name, at.Login, got, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return sum, nil
}

func (s *soaked) note(name, login string, got handed, err error) {
	s.Done[name]++
	if err != nil {
		for _, explained := range fair {
			if errors.Is(err, explained) {
				s.Fair[name+": "+explained.Error()]++
				return
			}
		}
		s.Wrong = append(s.Wrong, fmt.Sprintf("%s of %s: %s", name, login, short(err)))
		return
	}
	switch {
	case got == (handed{}): // it was none that uses the account
	case got.Whose == "":
		s.Dead++
	case got.Whose != login:
		s.Wrong = append(s.Wrong, fmt.Sprintf("%s of %s acted as %s", name, login, got.Whose))
	}
}

// soakOnce does one thing with one account.
func (a *agent) soakOnce(ctx context.Context, random *rand.Rand, at use) (name string, got handed, err error) {
	user, sel := a.engine.User(at.User), at.selector()
	switch n := random.IntN(100); {
	case n < 40:
		got, err = a.token(ctx, at)
		return "token", got, err
	case n < 60:
		client, err := user.Client(ctx, sel)
		if err == nil {
			got, err = send(ctx, client, at.Me)
			got.Token = "not told"
		}
		return "request", got, err
	case n < 70:
		_, err = a.connect(ctx, at.account)
		return "connect", got, err
	case n < 75:
		at.Into, at.ExternalID = at.Credential, ""
		_, err = a.connect(ctx, at.account)
		return "reconnect", got, err
	case n < 80:
		label := fmt.Sprint("label ", random.IntN(10))
		_, err = user.Rename(ctx, sel, core.RenameInput{Label: &label})
		return "rename", got, err
	case n < 87:
		return "disconnect", got, user.Disconnect(ctx, sel)
	case n < 91:
		err = user.Disable(ctx, sel)
		return "disable", got, err
	case n < 96:
		err = user.Enable(ctx, sel)
		return "enable", got, err
	}
	_, err = user.Credentials(ctx, core.ListInput{Integration: at.Integration})
	return "list", got, err
}

// TestSoak has several processes do random things to the same accounts of one PostgreSQL, while connections are cut in
// COMMIT, the provider is slow or out of order, and time goes on. Afterwards every account that is left works, in
// every process, what the tables say fits together, and all of it can be removed.
func TestSoak(t *testing.T) {
	began := time.Now()
	h := newHouse(t, "soaked", rotating, nil)
	in := soaking{For: time.Minute, Goroutines: 8, Users: 10, Slots: 4, Integration: h.name, Me: h.me()}
	for user := range in.Users {
		for slot := range in.Slots {
			h.provider.AddAccount(coretest.Account{Subject: in.place(user, slot).Login})
		}
	}
	db := newTrap(t)
	on := h.setup(onPostgres, db.direct)
	on.LeaseTTL = 5 * time.Second
	h.found(on, 0)
	through := on
	through.Place = db.through
	var processes []*process
	for range 4 {
		p := start(t, through)
		must[nothing](p, "run", nothing{})
		processes = append(processes, p)
	}

	var wg sync.WaitGroup
	sums := make([]soaked, len(processes))
	errs := make([]error, len(processes))
	for i, p := range processes {
		wg.Go(func() {
			in := in
			in.Seed = uint64(i)
			sums[i], errs[i] = ask[soaked](t.Context(), p, "soak", in)
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	h.trouble(done, db, processes)
	sum := soaked{Done: map[string]int{}, Fair: map[string]int{}}
	for i := range sums {
		if errs[i] != nil {
			t.Fatalf("soak: %v\n%s", errs[i], processes[i].tail())
		}
		addAll(sum.Done, sums[i].Done)
		addAll(sum.Fair, sums[i].Fair)
		sum.Wrong, sum.Dead = append(sum.Wrong, sums[i].Wrong...), sum.Dead+sums[i].Dead
	}
	for _, wrong := range sum.Wrong[:min(len(sum.Wrong), 10)] {
		t.Errorf("unexplained: %s", wrong)
	}
	alive := h.checkSoaked(in, processes)
	for _, p := range processes {
		p.end()
	}
	var log eventLog
	h.inside(on, func(a *agent) {
		log.read(t, a)
		log.check(t, a)
		h.removeAll(in, a)
	})
	figures.say(t, began, "%d processes, %v, %d commits cut: %s; %d errors that the others and the faults explain, %d that "+
		"nothing explains; %d accounts alive and working in every process, %d events without a gap, lost = 0", len(processes),
		in.For, db.proxy.Hits(), told(sum.Done), total(sum.Fair), len(sum.Wrong), alive, log.last)
	t.Logf("explained: %s; %d tokens had ended when they were asked about", told(sum.Fair), sum.Dead)
}

// trouble makes it until the soak is done.
func (h *house) trouble(done chan struct{}, db *trap, processes []*process) {
	h.Helper()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-done:
			h.provider.Set(func(sw *coretest.Switches) { *sw = rotating })
			return
		case <-tick.C:
		}
		switch i % 8 {
		case 0:
			h.advance(lifetime/3, processes...)
		case 1:
			h.provider.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{Slow: 200 * time.Millisecond, Times: 20} })
		case 3:
			h.provider.Set(func(sw *coretest.Switches) { sw.Unauthorized = 3 })
		case 5:
			h.provider.Set(func(sw *coretest.Switches) {
				sw.Refresh = coretest.Fault{Garbage: &coretest.Garbage{Status: http.StatusServiceUnavailable}, Times: 3}
			})
		case 2, 4, 6, 7:
			db.cut(writes[i/2%len(writes)], 2)
		}
	}
}

// checkSoaked fails the test unless everything that is left works in every process, and returns how many accounts that is.
func (h *house) checkSoaked(in soaking, processes []*process) (alive int) {
	h.Helper()
	for i, p := range processes {
		h.advance(3*lifetime, processes...) // no token is left, and no pause after a failure
		alive = 0
		for user := range in.Users {
			name := in.place(user, 0).User
			all := must[[]core.Credential](p, "list", account{User: name, Integration: in.Integration})
			seen := map[string]bool{}
			for _, credential := range all {
				slot := strings.TrimPrefix(credential.ExternalID, "slot-")
				c := account{User: name, Credential: credential.ID, Login: fmt.Sprintf("soaked-%d-%s", user, slot), Integration: in.Integration}
				if seen[slot] || credential.Account.Subject != c.Login {
					h.Errorf("user %s has %q twice, or %q stands for %q", name, slot, slot, credential.Account.Subject)
				}
				seen[slot] = true
				if i == 0 && credential.Disabled {
					must[nothing](p, "enable", c)
				}
				if credential.Status != core.StatusValid {
					h.Errorf("account %s is %s because of %q, want VALID\n%s", c.Login, credential.Status, credential.LastFailure, p.tail())
					continue
				}
				byName := c
				byName.Credential = "ext:" + credential.ExternalID
				if got := must[core.Credential](p, "credential", byName); got.ID != credential.ID {
					h.Errorf("external id %s of %s leads to %s, want %s", credential.ExternalID, name, got.ID, credential.ID)
				}
				// A refresh that began before the trouble ended may have failed, and pauses for a second or two. One that was
				// under way while the clocks moved has brought a token that had ended by then: it is not good for longer.
				see := chase{Accounts: []account{c}, Me: h.me(), Limit: 30 * time.Second}
				got := h.chaseAll(see, p)
				if got.Dead > 0 {
					h.advance(3*lifetime, processes...)
					got = h.chaseAll(see, p)
				}
				if alive += got.Served; got.Served != 1 {
					h.Errorf("account %s: %d dead tokens, %q, want one that works\n%s", c.Login, got.Dead, got.Wrong, p.tail())
				}
			}
		}
	}
	return alive
}

// removeAll disconnects everything, after which the integration can be deleted, and that only then: so all indexes by
// which accounts are found fit together.
func (h *house) removeAll(in soaking, a *agent) {
	h.Helper()
	ctx := h.Context()
	for user := range in.Users {
		u := a.engine.User(in.place(user, 0).User)
		page, err := u.Credentials(ctx, core.ListInput{Integration: in.Integration})
		if err != nil {
			h.Fatal(err)
		}
		for _, credential := range page.Credentials {
			if err := a.engine.DeleteIntegration(ctx, in.Integration); err == nil {
				h.Fatalf("DeleteIntegration() = nil while %s is there, want an error", credential.ID)
			}
			if err := u.Disconnect(ctx, core.Selector{Credential: credential.ID}); err != nil {
				h.Errorf("Disconnect(%s) = %v, want nil", credential.ID, err)
			}
		}
	}
	if err := coretest.Step(a.engine); err != nil {
		h.Errorf("Step() = %v, want nil", err)
	}
	if err := a.engine.DeleteIntegration(ctx, in.Integration); err != nil {
		h.Errorf("DeleteIntegration() after everything was disconnected = %v, want nil", err)
	}
}
