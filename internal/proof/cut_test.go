//go:build long

package proof_test

import (
	"testing"
	"time"
)

// TestCut cuts the connections to PostgreSQL on which two processes write down refreshes: leases, intents, answers. Where
// the outcome is unknown, it is found out: no refresh token is spent twice, and none is lost.
func TestCut(t *testing.T) {
	t.Parallel()
	began := time.Now()
	const accounts, rounds = 20, 60
	db := newTrap(t)
	h := newHouse(t, "cut", rotating, nil)
	on := h.setup(onPostgres, db.through)
	// Longer than a busy machine keeps a process from renewing: who holds an answer that is not stored yet needs its lease.
	on.LeaseTTL = 5 * time.Second
	h.found(on, 0)
	both := []*process{start(t, on), start(t, on)}
	var all []account
	for i := range accounts {
		c := h.somebody()
		c.Credential = must[string](both[i%2], "connect", c)
		all = append(all, c)
	}
	var sum chased
	before := h.provider.Calls().Refresh
	for round := range rounds {
		h.advance(2*lifetime, both...)
		db.cut(writes[round%len(writes)], 6)
		got := h.chaseAll(chase{Accounts: all, Me: h.me(), Limit: time.Minute}, both...)
		sum.add(&got)
		if len(sum.Wrong)+sum.Dead > 0 {
			t.Fatalf("round %d: %d dead tokens, and %q, want none\n%s\n%s", round, sum.Dead, sum.Wrong, both[0].tail(), both[1].tail())
		}
	}
	calls := h.provider.Calls().Refresh - before
	if calls != accounts*rounds {
		t.Errorf("%d provider calls, want %d: one for each time that a token had ended", calls, accounts*rounds)
	}
	for _, p := range both { // what is stored is good in both
		h.advance(2*lifetime, both...)
		h.tokens(p, all)
	}
	for _, p := range both {
		p.end()
	}
	figures.say(t, began, "%d connections of 2 processes cut in a write, half before and half after it was carried out: %d "+
		"refreshes, %d provider calls, %d served in the end after %d failed tries, %d dead tokens, lost = 0", db.proxy.Hits(),
		accounts*rounds, calls, sum.Served, total(sum.Tries), sum.Dead)
}
