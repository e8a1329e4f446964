//go:build long

package proof_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	processes  = 4
	goroutines = 64
)

// storm is one account, and processes that all want its token at once.
type storm struct {
	*house
	account   account
	processes []*process
	sum       tally
	calls     int // to refresh, by the provider's count
}

// newStorm starts the processes, each as far off the right time as skews says.
func newStorm(t *testing.T, place string, skews ...time.Duration) *storm {
	t.Helper()
	h := newHouse(t, "storm", rotating, nil)
	s := &storm{house: h, sum: newTally()}
	on := h.setup(onPostgres, place)
	h.found(on, 0)
	for _, skew := range skews {
		on.Skew = skew
		s.processes = append(s.processes, start(t, on))
	}
	s.account = h.somebody()
	s.account.Credential = must[string](s.processes[0], "connect", s.account)
	return s
}

// round lets all goroutines of all processes go, and returns what came of it and how many refreshes the provider saw.
func (s *storm) round(client bool) (tally, int) {
	s.Helper()
	before := s.provider.Calls().Refresh
	got := s.rushAll(rush{use: s.use(s.account), Goroutines: goroutines, Client: client}, s.processes...)
	calls := s.provider.Calls().Refresh - before
	s.sum.add(&got)
	s.calls += calls
	return got, calls
}

// perfect fails the test unless everybody was served and the provider saw one refresh.
func (s *storm) perfect(round int, got *tally, calls int) {
	s.Helper()
	want := len(s.processes) * goroutines
	if calls != 1 || got.Served != want || got.Dead != 0 || got.Foreign != 0 || len(got.Errors) != 0 {
		s.Errorf("round %d: %d provider calls, %d of %d served, %d dead, %d foreign, errors %v; want one call and all served\n%s",
			round, calls, got.Served, want, got.Dead, got.Foreign, got.Errors, s.processes[0].tail())
	}
	if s.Failed() {
		s.FailNow() // all further rounds would fail alike
	}
}

// expired is a round in which the token has ended: all get the same new one.
func (s *storm) expired(round int) {
	s.Helper()
	s.advance(2*lifetime, s.processes...)
	got, calls := s.round(false)
	if len(got.Tokens) != 1 {
		s.Errorf("round %d: %d different tokens were handed out, want one", round, len(got.Tokens))
	}
	s.perfect(round, &got, calls)
}

// ended is a round in which the provider has ended the access token early, and only a 401 tells.
func (s *storm) ended(round int) {
	s.Helper()
	got, calls := s.round(false)
	token := got.only()
	if calls != 0 || token == "" {
		s.Fatalf("round %d: %d provider calls and %d different tokens before the token was ended, want none and one",
			round, calls, len(got.Tokens))
	}
	// Beyond the pause between two forced refreshes, also for a process that is behind and does not know by how much; and
	// before the token is due for the one that is ahead.
	s.advance(25*time.Minute, s.processes...)
	s.endToken(token)
	got, calls = s.round(true)
	s.perfect(round, &got, calls)
}

// endToken revokes an access token alone at the provider (RFC 7009 §2.1).
func (h *house) endToken(token string) {
	h.Helper()
	form := url.Values{"token": {token}, "client_id": {h.provider.ClientID()}, "client_secret": {h.provider.ClientSecret()}}
	req, err := http.NewRequestWithContext(h.Context(), http.MethodPost, h.provider.RevocationURL(), strings.NewReader(form.Encode()))
	if err != nil {
		h.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		h.Fatalf("the provider's answer to a revocation = %s, want 200", resp.Status)
	}
}

// say prints the figures of a storm.
func (s *storm) say(began time.Time, rounds int, what string) {
	s.Helper()
	figures.say(s.T, began, "%d processes x %d goroutines, %d rounds%s: %d provider calls, %d served, %d dead tokens, "+
		"%d errors, slowest %v", len(s.processes), goroutines, rounds, what, s.calls, s.sum.Served, s.sum.Dead,
		len(s.sum.Errors), s.sum.Slowest.Round(time.Millisecond))
}

// TestStorm: whoever asks for a token that has ended gets the one new token that one refresh brought, however many ask at
// once, in however many processes.
func TestStorm(t *testing.T) { // not parallel, like all that need the whole machine
	began := time.Now()
	const rounds = 1000
	s := newStorm(t, database(t), make([]time.Duration, processes)...)
	for round := range rounds {
		s.expired(round)
	}
	s.say(began, rounds, "")
}

// TestStormUnauthorized: a token that the provider ends early is replaced by one refresh, and no request fails.
func TestStormUnauthorized(t *testing.T) {
	began := time.Now()
	const rounds = 100
	s := newStorm(t, database(t), make([]time.Duration, processes)...)
	for round := range rounds {
		s.ended(round)
	}
	s.say(began, rounds, " of a token ended early")
}

// TestStormSkew is TestStorm and TestStormUnauthorized with processes whose clocks are up to five minutes off, and then
// a walk through some lifetimes in small steps, where each process believes to know when the token ends.
func TestStormSkew(t *testing.T) {
	began := time.Now()
	const rounds = 100
	s := newStorm(t, database(t), 0, 5*time.Minute, -5*time.Minute, 150*time.Second)
	for round := range rounds {
		s.expired(round)
		s.ended(round)
	}
	s.say(began, 2*rounds, ", clocks up to ±5 min off")

}

// TestWalk goes through some lifetimes in small steps, with processes whose clocks are off: each believes to know when the
// token ends, and the first to think that it is time refreshes it.
func TestWalk(t *testing.T) {
	began := time.Now()
	s := newStorm(t, database(t), 0, 5*time.Minute, -5*time.Minute, 150*time.Second)
	const lifetimes, step = 8, time.Minute
	for at := time.Duration(0); at < lifetimes*lifetime; at += step {
		s.advance(step, s.processes...)
		got, _ := s.round(false)
		if got.Dead+got.Foreign+len(got.Errors) > 0 {
			s.Fatalf("%v into the walk: %d dead and %d foreign tokens, errors %v, want none", at, got.Dead, got.Foreign, got.Errors)
		}
	}
	s.calls = s.provider.Calls().Refresh // some came between the rounds
	if s.calls < lifetimes || s.calls > lifetimes*3/2 {
		t.Errorf("%d provider calls in %d lifetimes, want one when a fifth of each is left", s.calls, lifetimes)
	}
	s.say(began, int(lifetimes*lifetime/step), " of one minute through 8 lifetimes, clocks up to ±5 min off")
}
