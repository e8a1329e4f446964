package core_test

import (
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// sent is the refresh token that the provider was shown last.
func (w *world) sent() string {
	w.Helper()
	request, ok := w.provider.Last(coretest.EndpointRefresh)
	if !ok {
		w.Fatal("nothing was refreshed")
	}
	return request.Form.Get("refresh_token")
}

// expired connects ada and lets the token end.
func (w *world) expired() core.Credential {
	w.Helper()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(2 * time.Hour)
	return ada
}

// wantAlive fails the test unless the account goes on working, over another refresh.
func (w *world) wantAlive(credential string) {
	w.Helper()
	for range 2 {
		if as, err := w.as("u", credential); as != "ada@example.com" {
			w.Errorf("as = %q, %v, want ada", as, err)
		}
		w.clock.Advance(2 * time.Hour)
	}
	if as, err := w.as("u", credential); as != "ada@example.com" {
		w.Errorf("as after two refreshes = %q, %v, want ada", as, err)
	}
	got := w.stored("u", credential)
	if got.Status != core.StatusValid || got.Failures != 0 || got.LastFailure != core.FailureNone || got.NextAttempt != 0 || got.Intent != nil {
		w.Errorf("credential = %s, %d failures (%s), next attempt %d, intent %v; want no trace of a failure",
			got.Status, got.Failures, got.LastFailure, got.NextAttempt, got.Intent)
	}
}

// begun is a call of Token in a goroutine of its own.
type begun chan begunResult

type begunResult struct {
	token core.Token
	err   error
}

func (w *world) begunToken(engine *core.Engine, credential string) begun {
	results := make(begun, 1)
	go func() {
		token, err := engine.User("u").Token(w.Context(), core.Selector{Credential: credential})
		results <- begunResult{token, w.note(err)}
	}()
	return results
}

func TestRefreshRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	for attempt := range 3 {
		w.clock.Advance(2 * time.Hour)
		before := w.stored("u", ada.ID)
		w.mustToken("u", ada.ID)
		after := w.stored("u", ada.ID)
		if w.sent() != before.RefreshToken.Reveal() {
			t.Error("another refresh token was sent than the one stored")
		}
		if after.RefreshToken.IsZero() || after.RefreshToken.Equal(before.RefreshToken) {
			t.Error("the new refresh token is not stored")
		}
		if want := w.clock.Now().Add(10 * time.Minute).UnixMilli(); !after.PreviousRefreshToken.Equal(before.RefreshToken) || int64(after.PreviousUntil) != want {
			t.Errorf("previous refresh token until %d, want the one that was sent until %d", after.PreviousUntil, want)
		}
		if want := uint64(attempt + 1); after.Attempt != want || after.Intent != nil {
			t.Errorf("attempt = %d, intent %v, want %d and none", after.Attempt, after.Intent, want)
		}
		if now := w.clock.Now().UnixMilli(); int64(after.Refreshed) != now || int64(after.Updated) != now || int64(after.ValidUntil) != now+3600e3 {
			t.Errorf("refreshed %d, updated %d, valid until %d, want now, now and in an hour (%d)", after.Refreshed, after.Updated, after.ValidUntil, now)
		}
		if !reflect.DeepEqual(after.Account, before.Account) || after.Created != before.Created || after.ID != before.ID {
			t.Errorf("the refresh changed more than the token: %+v", after)
		}
	}
}

func TestRefreshWithoutNewRefreshToken(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*coretest.Switches){
		"omitted":    func(sw *coretest.Switches) { sw.Rotate, sw.OmitRefreshTokenAtRefresh = true, true },
		"the same":   func(*coretest.Switches) {},
		"null":       func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"refresh_token": nil} },
		"empty text": func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"refresh_token": ""} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			ada := w.expired()
			w.provider.Set(change)
			before := w.stored("u", ada.ID)
			w.mustToken("u", ada.ID)
			after := w.stored("u", ada.ID)
			if !after.RefreshToken.Equal(before.RefreshToken) || !after.PreviousRefreshToken.IsZero() || after.PreviousUntil != 0 {
				t.Errorf("the refresh token did not stay: previous until %d", after.PreviousUntil)
			}
			w.wantAlive(ada.ID)
		})
	}
}

func TestRefreshIntent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.expired()
	w.refresh(coretest.Fault{Hold: true})
	result := w.begunToken(w.engine, ada.ID)
	w.held(1)
	record := w.stored("u", ada.ID)
	intent := record.Intent
	if intent == nil {
		t.Fatal("no intent is stored while the provider is asked")
	}
	if intent.Attempt != 1 || record.Attempt != 1 || int64(intent.Started) != w.clock.Now().UnixMilli() || intent.Boot == "" {
		t.Errorf("intent = %+v of attempt %d, want attempt 1, started now, with a boot", intent, record.Attempt)
	}
	if len(intent.Fingerprint) != 32 || strings.Contains(string(intent.Fingerprint), record.RefreshToken.Reveal()) {
		t.Errorf("fingerprint = %x, want a digest", intent.Fingerprint)
	}
	w.refresh(coretest.Fault{})
	if got := <-result; got.err != nil {
		t.Fatal(got.err)
	}
	if after := w.stored("u", ada.ID); after.Intent != nil || after.Attempt != 1 {
		t.Errorf("after the refresh: intent %+v, attempt %d, want none and 1", after.Intent, after.Attempt)
	}
}

func garbage(status int, contentType, body string) coretest.Fault {
	return coretest.Fault{Garbage: &coretest.Garbage{Status: status, ContentType: contentType, Body: body}}
}

func TestRefreshFailsForNow(t *testing.T) {
	t.Parallel()
	limited := func(retryAfter string) coretest.Fault {
		return coretest.Fault{Garbage: &coretest.Garbage{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": retryAfter}}}
	}
	in90 := coretest.NewClock(time.Time{}).Now().Add(2*time.Hour + 90*time.Second).Format(http.TimeFormat)
	for _, tt := range []struct {
		name  string
		fault coretest.Fault
		class core.FailureClass
		wait  time.Duration
	}{
		{"500", garbage(500, "text/plain", "canary"), core.FailureTransient, time.Second},
		{"503 with Retry-After", coretest.Fault{Garbage: &coretest.Garbage{Status: 503, Header: map[string]string{"Retry-After": "7"}}}, core.FailureTransient, 7 * time.Second},
		{"HTML", garbage(200, "", "<html>canary</html>"), core.FailureTransient, time.Second},
		{"broken JSON", garbage(200, "application/json", `{"access_token":"canary`), core.FailureTransient, time.Second},
		{"no token", garbage(200, "application/json", `{"token_type":"canary"}`), core.FailureTransient, time.Second},
		{"a token for no header", garbage(200, "application/json", `{"access_token":"canary\nX: y"}`), core.FailureTransient, time.Second},
		{"empty", garbage(200, "application/json", ""), core.FailureTransient, time.Second},
		{"200 with an error", garbage(200, "application/json", `{"error":"server_error","error_description":"canary"}`), core.FailureTransient, time.Second},
		{"200 that is not ok", garbage(200, "application/json", `{"ok":false,"access_token":"canary"}`), core.FailureTransient, time.Second},
		{"an error like a text", garbage(400, "application/json", `{"error":"canary of a text"}`), core.FailureTransient, time.Second},
		{"our client is refused", coretest.Fault{Error: "invalid_client"}, core.FailureTransient, time.Second},
		{"our client may not", coretest.Fault{Error: "unauthorized_client"}, core.FailureTransient, time.Second},
		{"403", garbage(403, "text/html", "canary"), core.FailureTransient, time.Second},
		{"a redirect", coretest.Fault{Garbage: &coretest.Garbage{Status: 307, Header: map[string]string{"Location": "/canary"}}}, core.FailureTransient, time.Second},
		{"429", limited("90"), core.FailureRateLimited, 90 * time.Second},
		{"429 with a date", limited(in90), core.FailureRateLimited, 90 * time.Second},
		{"429 with nonsense", limited("soon"), core.FailureRateLimited, time.Second},
		{"slow_down", coretest.Fault{Error: "slow_down"}, core.FailureRateLimited, time.Second},
		{"a lost reply", coretest.Fault{LostReply: true}, core.FailureIndeterminate, time.Second},
		{"no reply in time", coretest.Fault{Hang: true}, core.FailureIndeterminate, time.Second},
		{"an endless reply", coretest.Fault{Garbage: &coretest.Garbage{Size: 4 << 20, Body: "canary"}}, core.FailureIndeterminate, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, func(o *core.Options) {
				if tt.fault.Hang {
					o.ProviderTimeout = 500 * time.Millisecond
				}
			})
			ada := w.expired()
			w.refresh(tt.fault)
			_, err := w.token("u", ada.ID)
			var failed *core.ProviderError
			if !errors.As(err, &failed) || errors.Is(err, core.ErrReconnect) || failed.Class != tt.class || failed.Op != "refresh" || failed.Integration != calendar {
				t.Fatalf("token = %v, want a ProviderError of class %s", err, tt.class)
			}
			failing := w.stored("u", ada.ID)
			if failing.Status != core.StatusValid || failing.Failures != 1 || failing.LastFailure != tt.class {
				t.Errorf("credential = %s, %d failures (%s), want VALID and one (%s)", failing.Status, failing.Failures, failing.LastFailure, tt.class)
			}
			if got := w.credential("u", ada.ID); got.Status != core.StatusValid || got.RefreshFailures != 1 || got.LastFailure != tt.class {
				t.Errorf("credential as it is shown = %+v", got)
			}
			if kept := failing.Intent != nil; kept != (tt.class == core.FailureIndeterminate) {
				t.Errorf("intent kept = %t, want it when it is unknown whether the token was spent", kept)
			}
			if got := time.UnixMilli(int64(failing.NextAttempt)).Sub(w.clock.Now()); got != tt.wait {
				t.Errorf("next attempt in %v, want %v", got, tt.wait)
			}

			calls := w.provider.Calls().Refresh
			w.clock.Advance(tt.wait - time.Millisecond)
			together(16, func(int) {
				_, err := w.token("u", ada.ID)
				var failed *core.ProviderError
				if !errors.As(err, &failed) || failed.Class != tt.class {
					t.Errorf("token before the next attempt = %v, want a ProviderError of class %s", err, tt.class)
				}
			})
			w.wantRefreshes("before the next attempt", calls)
			w.refresh(coretest.Fault{})
			w.clock.Advance(time.Millisecond)
			w.wantAlive(ada.ID)
		})
	}
}

func TestRefreshNobodyThere(t *testing.T) {
	t.Parallel()
	const nobody = "127.0.0.1:1"
	w := newWorld(t, nil, func(o *core.Options) { o.PrivateHosts = append(o.PrivateHosts, nobody) })
	ada := w.expired()
	w.change(func(in *core.Integration) { in.OAuth2.TokenURL = "http://" + nobody + "/token" })
	_, err := w.token("u", ada.ID)
	var failed *core.ProviderError
	if !errors.As(err, &failed) || failed.Class != core.FailureTransient {
		t.Errorf("token = %v, want a ProviderError of class %s", err, core.FailureTransient)
	}
	if got := w.stored("u", ada.ID); got.Status != core.StatusValid || got.Failures != 1 || got.Intent != nil {
		t.Errorf("credential = %s, %d failures, intent %v, want VALID, 1 and none", got.Status, got.Failures, got.Intent)
	}
}

func TestRefreshBackoffGrows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.expired()
	w.refresh(garbage(500, "", ""))
	for i := range 12 {
		if _, err := w.token("u", ada.ID); !errors.Is(err, core.ErrProvider) {
			t.Fatalf("token = %v, want %v", err, core.ErrProvider)
		}
		w.wantRefreshes("after "+strconv.Itoa(i)+" failures", i+1)
		want := min(time.Second<<i, 5*time.Minute)
		got := w.stored("u", ada.ID)
		if wait := time.UnixMilli(int64(got.NextAttempt)).Sub(w.clock.Now()); wait != want || got.Failures != i+1 {
			t.Errorf("after %d failures the next attempt is in %v, want %d and %v", got.Failures, wait, i+1, want)
		}
		w.clock.Advance(want)
	}
	w.refresh(coretest.Fault{})
	w.wantAlive(ada.ID)
}

// A lost reply after the refresh token was rotated: what is left works where the provider has a grace window.
func TestRefreshLostReplyInGraceWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.rotate()
	w.provider.Set(func(sw *coretest.Switches) { sw.GraceWindow = time.Minute })
	ada := w.expired()
	w.refresh(coretest.Fault{LostReply: true, Times: 2}) // the first of which is asked for again at once
	if _, err := w.token("u", ada.ID); !errors.Is(err, core.ErrProvider) {
		t.Fatalf("token = %v, want %v", err, core.ErrProvider)
	}
	w.clock.Advance(time.Second)
	w.wantAlive(ada.ID)
}

// As long as the token is good it is given out, whatever happens to refreshes behind it.
func TestRefreshFailsBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.clock.Advance(55 * time.Minute)
	w.refresh(garbage(502, "", "canary"))
	for refreshes := 1; refreshes <= 4; refreshes++ {
		for range 3 {
			if as, err := w.as("u", ada.ID); as != "ada@example.com" {
				t.Errorf("as = %q, %v, want ada", as, err)
			}
			w.engine.Settle("u", ada.ID)
		}
		w.wantRefreshes("behind", refreshes)
		if got := w.credential("u", ada.ID); got.RefreshFailures != refreshes || got.Status != core.StatusValid {
			t.Errorf("credential = %+v, want %d failures", got, refreshes)
		}
		w.clock.Advance(time.Second << (refreshes - 1))
	}
	w.refresh(coretest.Fault{})
	w.mustToken("u", ada.ID)
	w.engine.Settle("u", ada.ID)
	w.wantAlive(ada.ID)
}

func TestRefreshGrantEnded(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*coretest.Switches){
		"400":    func(*coretest.Switches) {},
		"200":    func(sw *coretest.Switches) { sw.OKWithError = true },
		"form":   func(sw *coretest.Switches) { sw.FormEncoded = true },
		"strict": func(sw *coretest.Switches) { sw.Rotate, sw.ReuseRevokes = true, true },
		"without error": func(sw *coretest.Switches) {
			sw.Refresh = garbage(400, "application/json", `{"error":"token_revoked"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			bob := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
			w.provider.Revoke("ada")
			w.provider.Set(change)
			w.clock.Advance(2 * time.Hour)
			together(16, func(int) {
				_, err := w.token("u", ada.ID)
				w.wantErr("token of an account whose grant ended", err, core.ErrReconnect)
				if errors.Is(err, core.ErrProvider) {
					t.Errorf("%v is also %v: a caller would try again", err, core.ErrProvider)
				}
			})
			w.wantRefreshes("of 16 callers", 1)
			got := w.credential("u", ada.ID)
			if got.Status != core.StatusInvalid || got.LastFailure != core.FailurePermanent || got.RefreshFailures != 1 {
				t.Errorf("credential = %+v, want INVALID for good", got)
			}
			w.clock.Advance(24 * time.Hour)
			_, err := w.token("u", ada.ID)
			w.wantErr("token a day later", err, core.ErrReconnect)
			w.wantRefreshes("a day later", 1)

			w.refresh(coretest.Fault{})
			if as, err := w.as("u", bob.ID); as != "bob@example.com" {
				t.Errorf("the other account = %q, %v, want bob", as, err)
			}
			if again := w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID}); again.RefreshFailures != 0 || again.LastFailure != core.FailureNone {
				t.Errorf("reconnected = %+v, want no trace of a failure", again)
			}
			w.wantAlive(ada.ID)
		})
	}
}

// An integration that is not complete says nothing about its accounts.
func TestRefreshWithoutClientSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	in := w.create(func(in *core.Integration) {
		in.Name, in.OAuth2.ClientAuth, in.OAuth2.ClientSecret = "public", core.ClientAuthNone, crypto.Secret{}
	})
	w.provider.Set(func(sw *coretest.Switches) {
		sw.Exchange = garbage(200, "application/json", `{"access_token":"at-x","refresh_token":"rt-x","expires_in":3600}`)
	})
	in.Identity = core.Identity{}
	in, err := w.engine.UpdateIntegration(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	ada := w.mustConnect("u", "ada", core.ConnectInput{Integration: "public"})
	in.OAuth2.ClientAuth = core.ClientAuthBasic // and the secret comes next
	if _, err := w.engine.UpdateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(2 * time.Hour)
	_, err = w.engine.User("u").Token(t.Context(), core.Selector{Credential: ada.ID})
	w.wantErr("token without client secret", err, core.ErrProvider)
	if got := w.stored("u", ada.ID); got.Status != core.StatusValid || got.Intent != nil {
		t.Errorf("credential = %s, intent %v, want VALID and none: nothing was spent", got.Status, got.Intent)
	}
	w.wantRefreshes("without client secret", 0)
}
