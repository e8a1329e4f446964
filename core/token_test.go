package core_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage/memory"
	"golang.org/x/oauth2"
)

func TestTokenFresh(t *testing.T) {
	t.Parallel()
	spy := &spyStore{Store: memory.New()}
	w := newWorld(t, spy, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	before := w.provider.Calls()
	w.mustToken("u", ada.ID) // reads who is disabled, for 5 seconds
	for _, tt := range []struct {
		name  string
		sel   core.Selector
		reads int64
	}{
		{"id", core.Selector{Credential: ada.ID}, 1},
		{"id and integration", core.Selector{Integration: calendar, Credential: ada.ID}, 1},
		{"external id", core.Selector{Integration: calendar, Credential: "work"}, 2},
	} {
		spy.reads.Store(0)
		token, err := w.engine.User("u").Token(t.Context(), tt.sel)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := spy.reads.Load(); got != tt.reads {
			t.Errorf("%s: reads of the store = %d, want %d", tt.name, got, tt.reads)
		}
		if want := w.clock.Now().Add(time.Hour); token.Credential != ada.ID || token.Type != "Bearer" || !token.ValidUntil.Equal(want) {
			t.Errorf("%s: token = %+v, want a Bearer token of %s until %v", tt.name, token, ada.ID, want)
		}
	}
	w.engine.Settle("u", ada.ID)
	if got := w.provider.Calls(); got != before {
		t.Errorf("calls of the provider = %+v, want %+v", got, before)
	}
	if as, err := w.as("u", ada.ID); as != "ada@example.com" {
		t.Errorf("as = %q, %v, want ada", as, err)
	}
}

func TestTokenDueIsRefreshedBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	old := w.mustToken("u", ada.ID)
	w.clock.Advance(55 * time.Minute)
	w.refresh(coretest.Fault{Hold: true}) // whoever waited for the provider would wait forever
	together(64, func(int) {
		if token, err := w.token("u", ada.ID); err != nil || !token.Value.Equal(old.Value) {
			t.Errorf("token while it is refreshed behind = %+v, %v, want the valid one", token, err)
		}
	})
	w.held(1)
	w.refresh(coretest.Fault{})
	w.engine.Settle("u", ada.ID)
	w.wantRefreshes("behind 64 calls", 1)

	together(64, func(int) {
		if token, err := w.token("u", ada.ID); err != nil || token.Value.Equal(old.Value) {
			t.Errorf("token after the refresh = %+v, %v, want a new one", token, err)
		}
	})
	w.engine.Settle("u", ada.ID)
	w.wantRefreshes("later", 1)
	if as, err := w.as("u", ada.ID); as != "ada@example.com" {
		t.Errorf("as = %q, %v, want ada", as, err)
	}
}

func TestTokenExpiredIsRefreshedOnce(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), nil)
			w.rotate()
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			for round := 1; round <= 3; round++ {
				w.clock.Advance(2 * time.Hour)
				tokens := make([]core.Token, 64)
				together(len(tokens), func(i int) {
					var err error
					if tokens[i], err = w.token("u", ada.ID); err != nil {
						t.Errorf("token = %v", err)
					}
				})
				w.wantRefreshes("of 64 callers", round)
				for _, token := range tokens {
					if !token.Value.Equal(tokens[0].Value) || !token.ValidUntil.Equal(tokens[0].ValidUntil) {
						t.Fatalf("callers have different tokens: %+v and %+v", token, tokens[0])
					}
				}
				if as := w.whose(tokens[0].Value.Reveal()); as != "ada@example.com" {
					t.Errorf("the new token is that of %q, want ada", as)
				}
			}
		})
	}
}

// Some providers answer a refresh with the access token there was, for longer.
func TestTokenSameAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.provider.Set(func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"access_token": "at-forever"} })
	w.change(func(in *core.Integration) { in.Identity = core.Identity{} })
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(2 * time.Hour)
	seen := w.stored("u", ada.ID)
	together(64, func(int) {
		if token, err := w.token("u", ada.ID); err != nil || !token.ValidUntil.Equal(w.clock.Now().Add(time.Hour)) {
			t.Errorf("token = %+v, %v, want it valid for an hour", token, err)
		}
	})
	w.engine.RefreshBehind(t.Context(), "u", &seen) // a caller that is late
	w.engine.Settle("u", ada.ID)
	w.wantRefreshes("of 64 callers and a late one", 1)
}

func TestTokenCallersThatLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(2 * time.Hour)
	w.refresh(coretest.Fault{Hold: true})

	type answer struct {
		token core.Token
		err   error
	}
	call := func(ctx context.Context) <-chan answer {
		answers := make(chan answer, 1)
		go func() {
			token, err := w.engine.User("u").Token(ctx, core.Selector{Credential: ada.ID})
			answers <- answer{token, w.note(err)}
		}()
		return answers
	}
	leaving, leave := context.WithCancel(t.Context())
	first := call(leaving) // the refresh begins on behalf of one who leaves
	w.held(1)
	expiring, expire := context.WithDeadline(t.Context(), time.Now())
	defer expire()
	var left, stayed []<-chan answer
	for range 16 {
		left, stayed = append(left, call(leaving)), append(stayed, call(t.Context()))
	}
	leave()
	for _, answers := range append(left, first) {
		if got := <-answers; !errors.Is(got.err, context.Canceled) {
			t.Errorf("a caller that left = %+v, %v, want %v", got.token, got.err, context.Canceled)
		}
	}
	if got := <-call(expiring); !errors.Is(got.err, context.DeadlineExceeded) {
		t.Errorf("a caller whose time is over = %+v, %v, want %v", got.token, got.err, context.DeadlineExceeded)
	}
	w.refresh(coretest.Fault{})
	for _, answers := range stayed {
		got := <-answers
		if got.err != nil || w.whose(got.token.Value.Reveal()) != "ada@example.com" {
			t.Errorf("a caller that stayed = %+v, %v, want a live token", got.token, got.err)
		}
	}
	w.wantRefreshes("for all", 1)
}

func TestTokenDueWindow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name             string
		lifetime, margin time.Duration
	}{
		{"30 s", 30 * time.Second, 15 * time.Second},
		{"5 min", 5 * time.Minute, 150 * time.Second},
		{"1 h", time.Hour, 12 * time.Minute},
		{"24 h", 24 * time.Hour, 288 * time.Minute},
		{"10 years", 10 * 365 * 24 * time.Hour, 2 * 365 * 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.provider.Set(func(sw *coretest.Switches) {
				sw.ExtraTokenFields = map[string]any{"expires_in": int64(tt.lifetime / time.Second)}
			})
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			connected := w.clock.Now()
			old := w.mustToken("u", ada.ID)
			if want := connected.Add(tt.lifetime); !old.ValidUntil.Equal(want) {
				t.Errorf("valid until %v, want %v", old.ValidUntil, want)
			}
			for _, left := range []time.Duration{tt.lifetime, tt.margin * 11 / 10} {
				w.clock.Set(connected.Add(tt.lifetime - left))
				w.mustToken("u", ada.ID)
				w.engine.Settle("u", ada.ID)
				w.wantRefreshes("with "+left.String()+" left", 0)
			}
			left := tt.margin*9/10 - time.Millisecond
			w.clock.Set(connected.Add(tt.lifetime - left))
			if token := w.mustToken("u", ada.ID); !token.Value.Equal(old.Value) {
				t.Errorf("with %v left the token is another one, want the valid one", left)
			}
			w.engine.Settle("u", ada.ID)
			w.wantRefreshes("with "+left.String()+" left", 1)
			if token := w.mustToken("u", ada.ID); token.Value.Equal(old.Value) {
				t.Error("after the refresh the token is the old one")
			}
		})
	}
}

func TestTokenWithoutEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.provider.Set(func(sw *coretest.Switches) { sw.ExpiresIn = coretest.ExpiresInAbsent })
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(20 * 365 * 24 * time.Hour)
	if token := w.mustToken("u", ada.ID); !token.ValidUntil.IsZero() {
		t.Errorf("valid until %v, want no end", token.ValidUntil)
	}
	w.engine.Settle("u", ada.ID)
	w.wantRefreshes("of a token without end", 0)
}

// A token that lives for seconds is still used for most of them.
func TestTokenShort(t *testing.T) {
	t.Parallel()
	for _, seconds := range []int{1, 10, 30} {
		w := newWorld(t, nil, nil)
		w.provider.Set(func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"expires_in": seconds} })
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		connected, lifetime := w.clock.Now(), time.Duration(seconds)*time.Second
		old := w.mustToken("u", ada.ID)
		w.refresh(coretest.Fault{Hold: true})
		w.clock.Set(connected.Add(lifetime * 89 / 100))
		if token := w.mustToken("u", ada.ID); !token.Value.Equal(old.Value) {
			t.Errorf("%d s: the token at 89 %% is another one, want the one there was", seconds)
		}
		w.held(1)
		w.refresh(coretest.Fault{})
		w.engine.Settle("u", ada.ID)

		next := w.mustToken("u", ada.ID)
		w.clock.Advance(lifetime * 91 / 100) // it would end on its way
		if token := w.mustToken("u", ada.ID); token.Value.Equal(next.Value) {
			t.Errorf("%d s: the token at 91 %% is the one there was, want a new one", seconds)
		}
		w.wantRefreshes("in all", 2)
	}
}

func TestTokenOfKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	id := w.addKey(core.APIKey{}, "canary-key-1", "ada")
	w.clock.Advance(20 * 365 * 24 * time.Hour)
	token, err := w.engine.User("u").Token(t.Context(), core.Selector{Integration: "keys"})
	if err != nil || token.Credential != id || token.Value.Reveal() != "canary-key-1" || token.Type != "" || !token.ValidUntil.IsZero() {
		t.Errorf("token = %+v, %v, want the key of %s", token, err, id)
	}
	w.wantRefreshes("of a key", 0)
}

func TestTokenTwoAccounts(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), nil)
			w.rotate()
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
			ids := []string{ada.ID, bob.ID}
			names := []string{"ada@example.com", "bob@example.com"}

			w.clock.Advance(2 * time.Hour)
			for i, id := range ids {
				other := w.stored("u", ids[1-i])
				w.mustToken("u", id)
				if got := w.stored("u", ids[1-i]); !reflect.DeepEqual(got, other) {
					t.Errorf("refreshing %s changed the credential of %s", names[i], names[1-i])
				}
			}
			w.wantRefreshes("one after the other", 2)

			for round := 2; round <= 4; round++ {
				w.clock.Advance(2 * time.Hour)
				together(64, func(i int) {
					if as, err := w.as("u", ids[i%2]); as != names[i%2] {
						t.Errorf("as %s = %q, %v, want its own account", names[i%2], as, err)
					}
				})
				w.wantRefreshes("both at once", 2*round)
			}
			for _, id := range ids {
				if got := w.credential("u", id); got.Status != core.StatusValid || got.RefreshFailures != 0 {
					t.Errorf("credential = %+v, want it valid and without failures", got)
				}
			}
		})
	}
}

func TestTokenSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	u := w.engine.User("u")
	source, err := u.TokenSource(t.Context(), core.Selector{Integration: calendar})
	if err != nil {
		t.Fatal(err)
	}
	token := func() *oauth2.Token {
		t.Helper()
		token, err := source.Token()
		if err != nil {
			t.Fatal(w.note(err))
		}
		if token.RefreshToken != "" || token.Type() != "Bearer" || w.whose(token.AccessToken) != "ada@example.com" {
			t.Errorf("token = a %s token of %s, refresh token %t; want a Bearer token of ada without", token.Type(), w.whose(token.AccessToken), token.RefreshToken != "")
		}
		if want := w.clock.Now().Add(time.Hour); !token.Expiry.Equal(want) {
			t.Errorf("expiry = %v, want %v", token.Expiry, want)
		}
		return token
	}
	first := token()
	w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true}) // now the selector would be ambiguous
	if again := token(); again.AccessToken != first.AccessToken {
		t.Error("another account was connected, and the token is another one")
	}
	w.clock.Advance(2 * time.Hour)
	if next := token(); next.AccessToken == first.AccessToken {
		t.Error("the token ended, and the source still gives it")
	}
	w.wantRefreshes("of the source", 1)

	client := &http.Client{Transport: &oauth2.Transport{Source: source}}
	resp, err := client.Get(w.provider.APIURL() + "/me")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status through oauth2.Transport = %d, want %d", resp.StatusCode, http.StatusOK)
	}

	ctx, cancel := context.WithCancel(t.Context())
	bound, err := u.TokenSource(ctx, core.Selector{Credential: ada.ID})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = bound.Token()
	w.wantErr("a source whose context ended", err, context.Canceled)
	if err := u.Disconnect(t.Context(), core.Selector{Credential: ada.ID}); err != nil {
		t.Fatal(err)
	}
	_, err = source.Token()
	w.wantErr("a source whose account is disconnected", err, core.ErrNotFound)
	_, err = u.TokenSource(t.Context(), core.Selector{Credential: ada.ID})
	w.wantErr("a source of an account that is disconnected", err, core.ErrNotFound)
	_, err = w.engine.User("other").TokenSource(t.Context(), core.Selector{Integration: calendar})
	w.wantErr("a source of a user without accounts", err, core.ErrNotConnected)
}

// The other ways for there to be no token.
func TestTokenRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	for _, tt := range []struct {
		name, user string
		sel        core.Selector
		want       error
	}{
		{"nothing", "u", core.Selector{}, core.ErrInvalid},
		{"several fit", "u", core.Selector{Integration: calendar}, core.ErrAmbiguous},
		{"another user's id", "v", core.Selector{Credential: ada.ID}, core.ErrNotFound},
		{"another user's external id", "v", core.Selector{Integration: calendar, Credential: "work"}, core.ErrNotFound},
		{"a user without accounts", "v", core.Selector{Integration: calendar}, core.ErrNotConnected},
		{"another integration", "u", core.Selector{Integration: "mail", Credential: ada.ID}, core.ErrNotFound},
		{"an empty user", "", core.Selector{Integration: calendar}, core.ErrInvalid},
	} {
		token, err := w.engine.User(tt.user).Token(t.Context(), tt.sel)
		w.wantErr(tt.name, err, tt.want)
		if !token.Value.IsZero() {
			t.Errorf("%s: a token stands beside the error", tt.name)
		}
	}
	t.Run("no refresh token", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.provider.Set(func(sw *coretest.Switches) { sw.OmitRefreshTokenAtExchange = true })
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		w.clock.Advance(55 * time.Minute)
		w.mustToken("u", ada.ID) // due, and nothing can be done about it
		w.engine.Settle("u", ada.ID)
		if got := w.credential("u", ada.ID); got.Status != core.StatusValid {
			t.Errorf("status before the end = %s, want VALID", got.Status)
		}
		w.clock.Advance(time.Hour)
		_, err := w.token("u", ada.ID)
		w.wantErr("an ended token without refresh token", err, core.ErrReconnect)
		if got := w.credential("u", ada.ID); got.Status != core.StatusInvalid || got.LastFailure != core.FailurePermanent {
			t.Errorf("credential = %+v, want INVALID for good", got)
		}
		w.wantRefreshes("without refresh token", 0)
	})
}
