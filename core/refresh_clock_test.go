package core_test

import (
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/coretest"
)

// offsets are by how much the clocks of two processes are ahead.
var offsets = map[string][2]time.Duration{
	"the same":     {0, 0},
	"first ahead":  {5 * time.Minute, -5 * time.Minute},
	"first behind": {-5 * time.Minute, 5 * time.Minute},
}

// Clocks that differ change nothing: one call for each expiry, and never a token that has ended.
func TestRefreshClocksDiffer(t *testing.T) {
	t.Parallel()
	const span = 12 * time.Hour
	for name, ahead := range offsets {
		for _, lifetime := range []time.Duration{time.Hour, 30 * time.Minute} {
			t.Run(name+", "+lifetime.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil, nil)
				w.provider.Set(func(sw *coretest.Switches) {
					sw.Rotate, sw.ReuseRevokes = true, true
					sw.ExpiresIn = coretest.ExpiresIn(strconv.Itoa(int(lifetime / time.Second)))
				})
				engines := []*core.Engine{w.process("one", nil, ahead[0]), w.process("two", nil, ahead[1])}
				w.engine = engines[0]
				ada := w.mustConnect("u", "ada", core.ConnectInput{})
				issued := map[string]time.Time{w.stored("u", ada.ID).AccessToken.Reveal(): w.clock.Now()}
				for end := w.clock.Now().Add(span); w.clock.Now().Before(end); w.clock.Advance(30 * time.Second) {
					for i, engine := range engines {
						token, err := w.tokenOf(engine, ada.ID)
						engine.Settle("u", ada.ID)
						if stored := w.stored("u", ada.ID).AccessToken.Reveal(); issued[stored].IsZero() {
							issued[stored] = w.clock.Now()
						}
						if age := w.clock.Now().Sub(issued[token.Value.Reveal()]); err != nil || age >= lifetime {
							t.Fatalf("process %d: a token that is %v old, %v, want one that is still good", i+1, age, err)
						}
					}
				}
				refreshes := w.provider.Calls().Refresh
				t.Logf("%d refreshes in %v", refreshes, span)
				if most := int(span / (lifetime / 2)); refreshes > most || refreshes < int(span/lifetime) {
					t.Errorf("%d refreshes in %v, want at most %d", refreshes, span, most)
				}
				if got := w.credential("u", ada.ID); got.Status != core.StatusValid || got.RefreshFailures != 0 {
					t.Errorf("credential = %+v, want no trace of a failure", got)
				}
			})
		}
	}
}

// A token that a process obtained whose clock is ahead is refreshed before it really ends, by one that has nothing but the
// times in it to go by; one of a process whose clock is behind is not refreshed all the time.
func TestRefreshTokenOfAnother(t *testing.T) {
	t.Parallel()
	for name, ahead := range offsets {
		for _, lifetime := range []time.Duration{time.Hour, 30 * time.Minute} {
			t.Run(name+", "+lifetime.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil, nil)
				w.provider.Set(func(sw *coretest.Switches) {
					sw.Rotate, sw.ReuseRevokes = true, true
					sw.ExpiresIn = coretest.ExpiresIn(strconv.Itoa(int(lifetime / time.Second)))
				})
				w.engine = w.process("one", nil, ahead[0])
				ada := w.mustConnect("u", "ada", core.ConnectInput{})
				other := w.process("other", nil, ahead[1])
				first, begun := w.stored("u", ada.ID).AccessToken, w.clock.Now()
				for w.provider.Calls().Refresh == 0 {
					token, err := w.tokenOf(other, ada.ID)
					other.Settle("u", ada.ID)
					age := w.clock.Now().Sub(begun)
					if err != nil || age >= lifetime && token.Value.Equal(first) {
						t.Fatalf("a token that is %v old, %v, want one that is still good", age, err)
					}
					w.clock.Advance(30 * time.Second)
				}
				if age := w.clock.Now().Sub(begun); age < lifetime/4 {
					t.Errorf("refreshed after %v, want it used for longer", age)
				}
				for range 10 {
					for _, engine := range []*core.Engine{w.engine, other} {
						if _, err := w.tokenOf(engine, ada.ID); err != nil {
							t.Error(err)
						}
						engine.Settle("u", ada.ID)
					}
					w.clock.Advance(30 * time.Second)
				}
				w.wantRefreshes("in the time after", 1)
			})
		}
	}
}

// A pause that one process began lasts as long for another whose clock differs, and not much longer for one that sees it
// late.
func TestRefreshPauseOfAnother(t *testing.T) {
	t.Parallel()
	const wait = 90 * time.Second
	limited := func(seconds string) coretest.Fault {
		return coretest.Fault{Garbage: &coretest.Garbage{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": seconds}}}
	}
	for name, ahead := range offsets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			one, two := w.process("one", nil, ahead[0]), w.process("two", nil, ahead[1])
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.clock.Advance(2 * time.Hour)
			w.refresh(limited("90"))
			for _, left := range []time.Duration{wait, time.Second, time.Millisecond} {
				w.clock.Advance(wait - left - w.clock.Now().Sub(ada.Created.Add(2*time.Hour)))
				for i, engine := range []*core.Engine{one, two} {
					_, err := w.tokenOf(engine, ada.ID)
					var failed *core.ProviderError
					if !errors.As(err, &failed) || failed.Class != core.FailureRateLimited || failed.RetryAfter != left {
						t.Errorf("process %d with %v left = %+v, want it to wait for as long", i+1, left, failed)
					}
				}
			}
			w.wantRefreshes("in the pause", 1)
			w.refresh(coretest.Fault{})
			w.clock.Advance(time.Millisecond)
			if _, err := w.tokenOf(two, ada.ID); err != nil {
				t.Errorf("the other one after the pause: %v", err)
			}
			if _, err := w.tokenOf(one, ada.ID); err != nil {
				t.Errorf("who began it, after the pause: %v", err)
			}
			w.wantRefreshes("in all", 2)

			w.clock.Advance(2 * time.Hour)
			w.refresh(limited("86400"))
			if _, err := w.tokenOf(one, ada.ID); err == nil {
				t.Error("a token in spite of a limit")
			}
			w.refresh(coretest.Fault{})
			w.clock.Advance(23 * time.Hour)
			late := w.process("late", nil, 0)
			_, err := w.tokenOf(late, ada.ID)
			var failed *core.ProviderError
			if !errors.As(err, &failed) || failed.RetryAfter < 55*time.Minute || failed.RetryAfter > 75*time.Minute {
				t.Errorf("who comes an hour before the end = %v, want it to wait for that hour", failed)
			}
			w.clock.Advance(75 * time.Minute)
			if _, err := w.tokenOf(late, ada.ID); err != nil {
				t.Errorf("after that: %v", err)
			}
		})
	}
}

// However often a provider refuses tokens, and whoever asks: one forced refresh in each interval.
func TestRefreshForcedOnce(t *testing.T) {
	t.Parallel()
	for name, ahead := range offsets {
		for _, interval := range []time.Duration{0, 5 * time.Minute} {
			t.Run(name+", "+interval.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil, nil)
				w.provider.Set(func(sw *coretest.Switches) { sw.Rotate, sw.ReuseRevokes = true, true })
				w.change(func(in *core.Integration) { in.OAuth2.Refresh.MinInterval = catalog.Duration(interval) })
				each := max(interval, time.Minute)
				one, two := w.process("one", nil, ahead[0]), w.process("two", nil, ahead[1])
				ada := w.mustConnect("u", "ada", core.ConnectInput{})
				w.clock.Advance(30 * time.Minute)
				w.unauthorized(-1)
				var clients []*http.Client
				for i := range 4 {
					client, err := []*core.Engine{one, two}[i%2].User("u").Client(t.Context(), core.Selector{Credential: ada.ID})
					if err != nil {
						t.Fatal(err)
					}
					clients = append(clients, client)
				}
				const steps, step = 60, 10 * time.Second
				last, at := 0, time.Time{}
				for range steps {
					together(len(clients), func(i int) {
						resp, err := clients[i].Do(w.request(http.MethodGet, w.provider.APIURL()+"/me", nil))
						if err != nil {
							t.Error(w.note(err))
							return
						}
						_ = resp.Body.Close()
						if resp.StatusCode != http.StatusUnauthorized {
							t.Errorf("status = %d, want the 401 to be passed on", resp.StatusCode)
						}
					})
					if now := w.provider.Calls().Refresh; now != last {
						if now != last+1 || !at.IsZero() && w.clock.Now().Sub(at) < each {
							t.Errorf("%d forced refreshes %v after the last, want one each %v", now-last, w.clock.Now().Sub(at), each)
						}
						last, at = now, w.clock.Now()
					}
					w.clock.Advance(step)
				}
				if least := int(steps * step / each / 2); last < least {
					t.Errorf("%d forced refreshes in %v, want at least %d", last, steps*step, least)
				}
				w.unauthorized(0)
				w.engine = one
				w.wantAlive(ada.ID)
			})
		}
	}
}
