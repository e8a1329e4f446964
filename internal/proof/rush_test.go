//go:build long

package proof_test

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"time"
)

// rush is what many goroutines of one process do at once: each gets the token of the account and asks the provider
// whose it is, or sends the request through User.Client.
type rush struct {
	use
	Goroutines int  `json:"goroutines"`
	Client     bool `json:"client"`
}

// tally is what came of a rush.
type tally struct {
	Served  int            `json:"served"` // tokens that worked, or requests that were answered
	Dead    int            `json:"dead"`   // tokens that the provider refused, or requests with a 401
	Foreign int            `json:"foreign"`
	Tokens  map[string]int `json:"tokens"` // how often each was handed out; not of Client
	Errors  map[string]int `json:"errors"` // how often each came
	Slowest time.Duration  `json:"slowest"`
}

func newTally() tally { return tally{Tokens: map[string]int{}, Errors: map[string]int{}} }

// add adds what another one counted.
func (t *tally) add(o *tally) {
	t.Served, t.Dead, t.Foreign = t.Served+o.Served, t.Dead+o.Dead, t.Foreign+o.Foreign
	t.Slowest = max(t.Slowest, o.Slowest)
	for token, n := range o.Tokens {
		t.Tokens[token] += n
	}
	for text, n := range o.Errors {
		t.Errors[text] += n
	}
}

// note counts one answer of the provider.
func (t *tally) note(login string, got handed, err error, took time.Duration) {
	t.Slowest = max(t.Slowest, took)
	switch {
	case err != nil:
		t.Errors[short(err)]++
		return
	case got.Whose == login:
		t.Served++
	case got.Whose == "":
		t.Dead++
	default:
		t.Foreign++
	}
	if got.Token != "" {
		t.Tokens[got.Token]++
	}
}

// rush lets all goroutines go at once.
func (a *agent) rush(ctx context.Context, in rush) (tally, error) {
	try := func() (handed, error) { return a.token(ctx, in.use) }
	if in.Client {
		client, err := a.engine.User(in.User).Client(ctx, in.selector())
		if err != nil {
			return tally{}, err
		}
		try = func() (handed, error) { return send(ctx, client, in.Me) }
	}
	sum := newTally()
	var mu sync.Mutex // guards sum
	var wg sync.WaitGroup
	gun := make(chan struct{})
	for range in.Goroutines {
		wg.Go(func() {
			<-gun
			began := time.Now()
			got, err := try()
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			sum.note(in.Login, got, err, took)
		})
	}
	close(gun)
	wg.Wait()
	return sum, nil
}

// send sends one request as the account of a client.
func send(ctx context.Context, client *http.Client, me string) (handed, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, me, nil)
	if err != nil {
		return handed{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return handed{}, err
	}
	whose, err := accountIn(resp)
	return handed{Whose: whose}, err
}

// rushAll has all processes rush at once and adds up what came of it.
func (h *house) rushAll(r rush, processes ...*process) tally {
	h.Helper()
	sum := newTally()
	tallies := make([]tally, len(processes))
	errs := make([]error, len(processes))
	var wg sync.WaitGroup
	for i, p := range processes {
		wg.Go(func() { tallies[i], errs[i] = ask[tally](h.Context(), p, "rush", r) })
	}
	wg.Wait()
	for i := range processes {
		if errs[i] != nil {
			h.Fatalf("rush: %v\n%s", errs[i], processes[i].tail())
		}
		sum.add(&tallies[i])
	}
	return sum
}

// only returns the one token that was handed out, empty where there are several.
func (t *tally) only() string {
	for token := range maps.Keys(t.Tokens) {
		if len(t.Tokens) == 1 {
			return token
		}
	}
	return ""
}
