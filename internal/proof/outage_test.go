//go:build long

package proof_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage/postgres/pgtest"
)

// chase is what a process does whose users insist: it asks for the token of each account until it has one.
type chase struct {
	Accounts []account     `json:"accounts"`
	Me       string        `json:"me"`
	Limit    time.Duration `json:"limit"` // real time
}

// chased counts what came of it.
type chased struct {
	Served int            `json:"served"`
	Dead   int            `json:"dead"`  // tokens that the provider refused
	Tries  map[string]int `json:"tries"` // that failed, by what explains it
	Wrong  []string       `json:"wrong"` // what nothing explains, and who got no token in time
}

// outage are the errors that a store explains that cannot be reached, and a refresh that could not end for that reason.
var outage = []error{errFault, core.ErrProvider, context.DeadlineExceeded}

// chase asks for all tokens at the same time.
func (a *agent) chase(ctx context.Context, in chase) (chased, error) {
	sum := chased{Tries: map[string]int{}}
	var mu sync.Mutex // guards sum
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, in.Limit)
	defer cancel()
	for _, c := range in.Accounts {
		wg.Go(func() {
			for {
				got, err := a.token(ctx, use{account: c, Me: in.Me})
				mu.Lock()
				done := sum.note(&c, got, err)
				mu.Unlock()
				if done {
					return
				}
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					mu.Lock()
					sum.Wrong = append(sum.Wrong, fmt.Sprintf("%s got no token in %v; the last error: %s", c.Login, in.Limit, short(err)))
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return sum, nil
}

// note counts one try, and reports whether it was the last one for the account.
func (s *chased) note(c *account, got handed, err error) bool {
	if err == nil {
		switch got.Whose {
		case c.Login:
			s.Served++
		case "":
			s.Dead++
		default:
			s.Wrong = append(s.Wrong, fmt.Sprintf("%s got a token of %s", c.Login, got.Whose))
		}
		return true
	}
	for _, explained := range outage {
		if errors.Is(err, explained) {
			s.Tries[explained.Error()]++
			return false
		}
	}
	s.Wrong = append(s.Wrong, fmt.Sprintf("%s: %s", c.Login, short(err)))
	return true
}

// TestOutage stops PostgreSQL while the provider works on refreshes of two processes, at once or in order, and starts it
// again, sooner or later than leases run out. Everybody gets a token that works in the end, and no account is lost. Then
// it is gone once more: everybody goes on getting the token that is still good.
func TestOutage(t *testing.T) {
	t.Parallel()
	began := time.Now()
	const accounts, outages = 30, 16
	cluster := pgtest.Start(t)
	h := newHouse(t, "outage", rotating, nil)
	on := h.setup(onPostgres, cluster.DSN(t))
	on.LeaseTTL, on.Bridge = 2*time.Second, time.Minute
	h.found(on, 0)
	both := []*process{start(t, on), start(t, on)}
	var all []account
	for i := range accounts {
		c := h.somebody()
		c.Credential = must[string](both[i%2], "connect", c)
		all = append(all, c)
	}
	for _, p := range both {
		must[nothing](p, "run", nothing{})
	}

	var sum chased
	served := 0
	before := h.provider.Calls().Refresh
	for i := range outages {
		h.advance(2*lifetime, both...)
		h.provider.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{Hold: true, WorkFirst: i%4 > 1} })
		chases := make(chan chased)
		go func() {
			chases <- h.chaseAll(chase{Accounts: all, Me: h.me(), Limit: time.Minute}, both...)
		}()
		// All refreshes are under way. While PostgreSQL is gone, the provider answers.
		h.waitCalls(func(c coretest.Calls) bool { return c.Waiting == accounts })
		cluster.Stop(t, i%2 == 0)
		h.provider.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{} })
		if i%4 == 3 {
			<-time.After(2 * on.LeaseTTL)
		}
		cluster.Start(t)
		got := <-chases
		sum.add(&got)
		if len(sum.Wrong)+sum.Dead > 0 {
			t.Fatalf("outage %d: %d dead tokens, and %q, want none\n%s\n%s", i, sum.Dead, sum.Wrong, both[0].tail(), both[1].tail())
		}
		if i < 4 {
			for _, p := range both {
				h.tokens(p, all)
			}
			cluster.Stop(t, i%2 == 0)
			for _, p := range both {
				h.tokens(p, all)
				served += len(all)
			}
			cluster.Start(t)
		}
	}
	calls := h.provider.Calls().Refresh - before
	for _, p := range both { // what is stored is good in both
		h.advance(2*lifetime, both...)
		h.tokens(p, all)
	}
	for _, p := range both {
		p.end()
	}
	figures.say(t, began, "PostgreSQL stopped %d times while the provider held %d refreshes of 2 processes: %d provider calls, "+
		"%d served in the end after %d failed tries, %d dead tokens, lost = 0; stopped 4 times more while the tokens were good: "+
		"%d of %d served", outages, accounts, calls, sum.Served, total(sum.Tries), sum.Dead, served, 4*2*accounts)
}

// add adds what another one counted.
func (s *chased) add(o *chased) {
	s.Served, s.Dead, s.Wrong = s.Served+o.Served, s.Dead+o.Dead, append(s.Wrong, o.Wrong...)
	if s.Tries == nil {
		s.Tries = map[string]int{}
	}
	addAll(s.Tries, o.Tries)
}

// chaseAll has all processes chase at once and adds up what came of it.
func (h *house) chaseAll(in chase, processes ...*process) (sum chased) {
	got := make([]chased, len(processes))
	var wg sync.WaitGroup
	for i, p := range processes {
		wg.Go(func() {
			var err error
			if got[i], err = ask[chased](h.Context(), p, "chase", in); err != nil {
				got[i].Wrong = append(got[i].Wrong, short(err))
			}
		})
	}
	wg.Wait()
	for i := range got {
		sum.add(&got[i])
	}
	return sum
}
