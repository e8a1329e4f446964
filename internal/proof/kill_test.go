//go:build long

package proof_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// point is where in the refresh protocol a process is killed.
type point struct {
	name  string
	mine  *mine           // the process kills itself at a step; nil: it is killed while the provider holds the call
	hold  *coretest.Fault // what the provider does then
	spent bool            // by then the provider has taken the refresh token and brought another one
}

var points = []point{
	{name: "1 after the lease, before the intent", mine: &mine{Step: stepLease, After: true}},
	{name: "2 after the intent, before the call", mine: &mine{Step: stepIntent, After: true}},
	{name: "3a during the call, before it is carried out", hold: &coretest.Fault{Hold: true, Times: 1}},
	{name: "3b during the call, after it was carried out", hold: &coretest.Fault{Hold: true, Times: 1, WorkFirst: true}, spent: true},
	{name: "4 after the answer, before the commit", mine: &mine{Step: stepCommit}, spent: true},
	{name: "5 after the commit, before the release", mine: &mine{Step: stepCommit, After: true}},
}

const (
	lanes = 8  // processes that are killed at a time
	kills = 63 // of each lane
	grace = time.Minute
)

// toll is what came of kills.
type toll struct {
	mu      sync.Mutex     // guards the following
	at      map[string]int // kills, by point
	on      map[string]int // kills, by store
	works   int
	told    int // INVALID, with the reason
	lost    int
	slowest time.Duration // from the kill to the next token
}

// TestKill kills processes with SIGKILL at every point of a refresh, eight at a time. Whoever comes next, the restarted
// process on Badger, another one on PostgreSQL, gets a token that works; only where the provider had taken the refresh
// token and forgives nothing is the account INVALID, with the reason.
func TestKill(t *testing.T) {
	began := time.Now()
	sum := &toll{at: map[string]int{}, on: map[string]int{}}
	shared := database(t)
	var first *house
	t.Run("lanes", func(t *testing.T) {
		for i := range lanes {
			l := &lane{toll: sum, store: []string{onBadger, onPostgres}[i%2], index: i}
			if i/2%2 == 1 {
				l.grace = grace
			}
			name := fmt.Sprintf("%d %s grace=%v", i, l.store, l.grace)
			t.Run(name, func(t *testing.T) {
				sw := rotating
				sw.GraceWindow = l.grace
				l.house = newHouse(t, fmt.Sprintf("lane%d", i), sw, first)
				place := shared
				if l.store == onBadger {
					place = t.TempDir()
				} else if first == nil {
					first = l.house
				}
				l.setup = l.house.setup(l.store, place)
				l.setup.LeaseTTL = time.Second
				l.found(l.setup, l.grace)
				t.Parallel()
				l.drive()
			})
		}
	})
	at := make([]string, 0, len(points))
	for _, name := range slices.Sorted(maps.Keys(sum.at)) {
		number, _, _ := strings.Cut(name, " ")
		at = append(at, fmt.Sprintf("%s: %d", number, sum.at[name]))
	}
	all := sum.on[onBadger] + sum.on[onPostgres]
	figures.say(t, began, "%d kills (%d on Badger, %d on PostgreSQL; at points %s): %d work, %d INVALID with the reason, "+
		"lost = %d, slowest recovery %v", all, sum.on[onBadger], sum.on[onPostgres], strings.Join(at, ", "),
		sum.works, sum.told, sum.lost, sum.slowest.Round(time.Millisecond))
	if all < 500 || sum.works+sum.told != all {
		t.Errorf("%d kills, of which %d work and %d are INVALID with the reason, want 500 at least, and nothing else",
			all, sum.works, sum.told)
	}
}

// lane is one process after the other that is killed, with a provider and clock of its own.
type lane struct {
	*house
	toll  *toll
	index int
	store string
	setup setup
	grace time.Duration // of provider and integration; 0: it forgives nothing

	witness *process // lives through it all, where several processes share a store
	victims []victim
}

// victim is an account in whose refresh a process was killed.
type victim struct {
	account account
	point   point
	killed  time.Time
	works   bool
	waiting chan answer // of another process that asked before the kill already; or nil
}

// answer is what a process got that asked for a token.
type answer struct {
	got handed
	err error
}

func (l *lane) drive() {
	if l.store == onPostgres {
		l.witness = start(l.T, l.setup)
	}
	for i := range kills {
		l.setup.Offset = time.Duration(l.clock.offset.Load())
		p := start(l.T, l.setup)
		if i > 0 && l.witness == nil { // it is the restarted one
			l.settle(p)
		}
		l.strike(p, points[(i+l.index)%len(points)])
		if l.witness != nil {
			l.settle(l.witness)
		}
		if l.Failed() {
			return
		}
	}
	l.setup.Offset = time.Duration(l.clock.offset.Load())
	p := start(l.T, l.setup)
	if l.witness == nil {
		l.settle(p)
	}
	l.advance(2*lifetime, l.running(p)...)
	for _, v := range l.victims { // the refresh token is good too
		if v.works && !l.works(l.Context(), p, v.account) {
			l.toll.mu.Lock()
			l.toll.works, l.toll.lost = l.toll.works-1, l.toll.lost+1
			l.toll.mu.Unlock()
		}
	}
	p.end()
	if l.witness != nil {
		l.witness.end()
	}
}

// running are the processes whose clocks have to be set.
func (l *lane) running(p *process) []*process {
	if l.witness == nil {
		return []*process{p}
	}
	return []*process{p, l.witness}
}

// strike connects an account, lets its token end, and has the process killed in the refresh.
func (l *lane) strike(p *process, at point) {
	v := victim{account: l.somebody(), point: at}
	v.account.Credential = must[string](p, "connect", v.account)
	l.advance(2*lifetime, l.running(p)...)
	attempt := func(p *process) chan answer {
		result := make(chan answer, 1)
		go func() {
			got, err := ask[handed](l.Context(), p, "token", l.use(v.account))
			result <- answer{got, err}
		}()
		return result
	}
	var result chan answer
	if at.mine != nil {
		must[nothing](p, "arm", at.mine)
		result = attempt(p)
	} else {
		l.provider.Set(func(sw *coretest.Switches) { sw.Refresh = *at.hold })
		result = attempt(p)
		l.waitCalls(func(c coretest.Calls) bool { return c.Waiting > 0 })
		if l.witness != nil {
			v.waiting = attempt(l.witness)
		}
		p.kill()
		// Only when the provider has seen that the client is gone is it certain that it does no more about the request.
		l.waitCalls(func(c coretest.Calls) bool { return c.Waiting == 0 })
		l.provider.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{} })
	}
	if a := <-result; !errors.Is(a.err, errDied) {
		l.Fatalf("killed %s: the process lives, and its Token() = %v\n%s", at.name, a.err, p.tail())
	}
	<-p.died
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		l.Fatalf("killed %s: the process ended with %v, want SIGKILL\n%s", at.name, p.cmd.ProcessState, p.tail())
	}
	v.killed = time.Now()
	l.victims = append(l.victims, v)
	l.toll.mu.Lock()
	defer l.toll.mu.Unlock()
	l.toll.at[at.name]++
	l.toll.on[l.store]++
}

// settle says what became of the last victim: another process asks for its token.
func (l *lane) settle(p *process) {
	v := &l.victims[len(l.victims)-1]
	var a answer
	if v.waiting != nil {
		a = <-v.waiting
	} else {
		a.got, a.err = ask[handed](l.Context(), p, "token", l.use(v.account))
	}
	got, err, took := a.got, a.err, time.Since(v.killed)
	l.toll.mu.Lock()
	defer l.toll.mu.Unlock()
	l.toll.slowest = max(l.toll.slowest, took)
	if err == nil && got.Whose == v.account.Login {
		v.works = true
		l.toll.works++
		return
	}
	if errors.Is(err, core.ErrReconnect) && v.point.spent && l.grace == 0 {
		is, unread := ask[core.Credential](l.Context(), p, "credential", v.account)
		if unread == nil && is.Status == core.StatusInvalid && is.LastFailure == core.FailureIndeterminate {
			l.toll.told++
			return
		}
		err = errors.Join(err, unread, fmt.Errorf("it is %s because of %q", is.Status, is.LastFailure))
	}
	l.toll.lost++
	l.Errorf("killed %s: the next token of %s = for %q, %v, want one that works, or INVALID and the reason where the "+
		"refresh token was spent\n%s", v.point.name, v.account.Login, got.Whose, err, p.tail())
}
