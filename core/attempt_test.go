package core_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// An answer that is lost is asked for once more at once, where that can do no harm.
func TestRefreshLostAnswer(t *testing.T) {
	t.Parallel()
	const grace = time.Minute
	for _, tt := range []struct {
		name     string
		rotation core.Rotation
		grace    time.Duration
		ended    bool // the token, so that nothing good is left
		fault    coretest.Fault
		calls    int
		status   core.Status
		class    core.FailureClass
	}{
		{"never rotating", core.RotationNever, 0, true, coretest.Fault{LostReply: true}, 2, core.StatusValid, core.FailureNone},
		{"reusable", core.RotationReusable, grace, true, coretest.Fault{LostReply: true}, 2, core.StatusValid, core.FailureNone},
		{"nothing is declared", "", grace, true, coretest.Fault{LostReply: true}, 2, core.StatusValid, core.FailureNone},
		{"single use with grace", core.RotationSingleUse, grace, true, coretest.Fault{LostReply: true}, 2, core.StatusValid, core.FailureNone},
		{"single use with grace, behind", core.RotationSingleUse, grace, false, coretest.Fault{LostReply: true}, 2, core.StatusValid, core.FailureNone},
		{"single use, behind", core.RotationSingleUse, 0, false, coretest.Fault{LostReply: true}, 1, core.StatusValid, core.FailureIndeterminate},
		{"single use, and the token has ended", core.RotationSingleUse, 0, true, coretest.Fault{LostReply: true}, 2, core.StatusInvalid, core.FailureIndeterminate},
		{"a provider that hangs", core.RotationNever, 0, true, coretest.Fault{Hang: true}, 1, core.StatusValid, core.FailureIndeterminate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, func(o *core.Options) {
				if tt.fault.Hang {
					o.ProviderTimeout = time.Second // less than what is asked for again at once
				}
			})
			w.declare(tt.rotation, tt.grace)
			w.provider.Set(func(sw *coretest.Switches) {
				sw.Rotate, sw.ReuseRevokes, sw.GraceWindow = tt.rotation != core.RotationNever, tt.grace == 0, tt.grace
			})
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.clock.Advance(50*time.Minute + 50*time.Second)
			if tt.ended {
				w.clock.Advance(time.Hour)
			}
			tt.fault.Times = 1
			w.refresh(tt.fault)
			_, err := w.token("u", ada.ID)
			w.engine.Settle("u", ada.ID)
			w.wantRefreshes("in all", tt.calls)
			got := w.credential("u", ada.ID)
			if got.Status != tt.status || got.LastFailure != tt.class || got.Refreshing {
				t.Errorf("credential = %+v, want %s (%s)", got, tt.status, tt.class)
			}
			switch {
			case tt.status == core.StatusInvalid:
				w.wantErr("token", err, core.ErrReconnect)
			case tt.class != core.FailureNone && tt.ended:
				w.wantErr("token", err, core.ErrProvider)
			case err != nil:
				t.Errorf("token: %v", err)
			}
			if tt.class == core.FailureNone || tt.fault.Hang {
				w.clock.Advance(time.Second)
				w.wantAlive(ada.ID)
			}
		})
	}
}

// A grant that has ended has ended, where no lost answer can have taken a refresh token with it.
func TestRefreshEndedAfterLostAnswer(t *testing.T) {
	t.Parallel()
	for rotation, want := range map[core.Rotation]core.FailureClass{
		core.RotationNever: core.FailurePermanent, core.RotationReusable: core.FailurePermanent, "": core.FailureIndeterminate,
	} {
		t.Run("rotation "+string(rotation), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.declare(rotation, 0)
			ada := w.expired()
			w.provider.Revoke("ada")
			w.refresh(coretest.Fault{LostReply: true, Times: 1})
			_, err := w.token("u", ada.ID)
			w.wantErr("token", err, core.ErrReconnect)
			if got := w.credential("u", ada.ID); got.LastFailure != want {
				t.Errorf("last failure = %s, want %s", got.LastFailure, want)
			}
		})
	}
}

// The refresh token before the current one is kept for as long as the provider may take it, as far as it is declared.
func TestPreviousRefreshTokenKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		rotation core.Rotation
		grace    time.Duration
		kept     time.Duration // 0: not at all
	}{
		{"nothing is declared", "", 0, 10 * time.Minute},
		{"a grace window", "", time.Minute, time.Minute},
		{"never", core.RotationNever, 0, 10 * time.Minute},
		{"reusable", core.RotationReusable, 0, 24 * time.Hour},
		{"single use", core.RotationSingleUse, 0, 0},
		{"single use with a grace window", core.RotationSingleUse, 30 * time.Second, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.declare(tt.rotation, tt.grace)
			w.provider.Set(func(sw *coretest.Switches) { sw.Rotate = true })
			ada := w.expired()
			before := w.stored("u", ada.ID)
			w.mustToken("u", ada.ID)
			got := w.stored("u", ada.ID)
			if tt.kept == 0 {
				if !got.PreviousRefreshToken.IsZero() || got.PreviousUntil != 0 {
					t.Errorf("a previous refresh token is kept until %d, want none", got.PreviousUntil)
				}
				return
			}
			if until := w.clock.Now().Add(tt.kept).UnixMilli(); !got.PreviousRefreshToken.Equal(before.RefreshToken) || int64(got.PreviousUntil) != until {
				t.Errorf("a previous refresh token is kept until %d, want the one that was spent until %d", got.PreviousUntil, until)
			}
			w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID})
			if got := w.stored("u", ada.ID); !got.PreviousRefreshToken.IsZero() || got.PreviousUntil != 0 {
				t.Errorf("after a reconnect one is kept until %d, want none", got.PreviousUntil)
			}
		})
	}
}

// Where the current refresh token is refused, the one before is tried while the provider may take it.
func TestPreviousRefreshTokenUsed(t *testing.T) {
	t.Parallel()
	refused := garbage(http.StatusBadRequest, "application/json", `{"error":"invalid_grant"}`)
	refused.Times = 1
	const grace = 3 * time.Hour
	for _, tt := range []struct {
		name   string
		later  time.Duration // since it was replaced
		change func(*coretest.Switches)
		calls  int
		want   error // nil: it works
	}{
		{"it works", 2 * time.Hour, func(*coretest.Switches) {}, 2, nil},
		{"it works, and says no more", 2 * time.Hour, func(sw *coretest.Switches) { sw.OmitRefreshTokenAtRefresh = true }, 2, nil},
		{"it stays as it is", 2 * time.Hour, func(sw *coretest.Switches) { sw.Rotate = false }, 2, nil},
		{"it is dead too", 2 * time.Hour, func(sw *coretest.Switches) { sw.GraceWindow = 0 }, 2, core.ErrReconnect},
		{"nobody knows yet", 2 * time.Hour, func(sw *coretest.Switches) {
			sw.GraceWindow = 0
			sw.TokenErrors = map[string]coretest.Garbage{"invalid_grant": {Status: http.StatusBadGateway}}
		}, 2, core.ErrProvider},
		{"too late", grace, func(*coretest.Switches) {}, 1, core.ErrReconnect},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.declare(core.RotationSingleUse, grace)
			w.provider.Set(func(sw *coretest.Switches) { sw.Rotate, sw.GraceWindow = true, grace })
			ada := w.expired()
			w.mustToken("u", ada.ID)
			replaced := w.stored("u", ada.ID)
			w.clock.Advance(tt.later)
			w.provider.Set(tt.change)
			w.refresh(refused)
			before := w.provider.Calls().Refresh
			_, err := w.token("u", ada.ID)
			w.wantRefreshes("in all", before+tt.calls)
			if tt.calls == 2 && w.sent() != replaced.PreviousRefreshToken.Reveal() {
				t.Error("the second call had another refresh token than the one before the current")
			}
			got := w.credential("u", ada.ID)
			switch {
			case tt.want == nil && err != nil:
				t.Errorf("token: %v", err)
			case tt.want != nil:
				w.wantErr("token", err, tt.want)
			}
			if invalid := got.Status == core.StatusInvalid; invalid != errors.Is(tt.want, core.ErrReconnect) {
				t.Errorf("status = %s with error %v", got.Status, err)
			}
			if errors.Is(tt.want, core.ErrReconnect) {
				return
			}
			if tt.want == nil && w.stored("u", ada.ID).RefreshToken.Equal(replaced.RefreshToken) {
				t.Error("the refresh token that was refused is still the current one")
			}
			w.refresh(coretest.Fault{})
			w.provider.Set(func(sw *coretest.Switches) { sw.GraceWindow, sw.TokenErrors = 100*time.Hour, nil })
			w.clock.Advance(time.Second)
			w.wantAlive(ada.ID)
		})
	}
}

// What a credential shows after each class of failure.
func TestRefreshFailureShown(t *testing.T) {
	t.Parallel()
	answer := func(status int, body string) coretest.Fault {
		return garbage(status, "application/json", body)
	}
	limited := answer(http.StatusOK, `{"status":"limit"}`)
	limited.Garbage.Header = map[string]string{"Retry-After": "60"}
	for _, tt := range []struct {
		name  string
		fault coretest.Fault
		shown core.Credential // what differs from before
		wait  time.Duration   // to the next attempt
	}{
		{"a code of the protocol", answer(400, `{"error":"invalid_grant"}`), core.Credential{
			Status: core.StatusInvalid, LastFailure: core.FailurePermanent, FailureCode: "invalid_grant",
		}, time.Second},
		{"with status 200", answer(200, `{"error":"invalid_grant"}`), core.Credential{
			Status: core.StatusInvalid, LastFailure: core.FailurePermanent, FailureCode: "invalid_grant",
		}, time.Second},
		{"a declared permanent code", answer(400, `{"problem":{"code":"gone"}}`), core.Credential{
			Status: core.StatusInvalid, LastFailure: core.FailurePermanent, FailureCode: "gone",
		}, time.Second},
		{"a declared permanent code with status 200", answer(200, `{"status":"gone"}`), core.Credential{
			Status: core.StatusInvalid, LastFailure: core.FailurePermanent, FailureCode: "gone",
		}, time.Second},
		{"a declared transient code", answer(400, `{"problem":{"code":"busy"}}`), core.Credential{
			Status: core.StatusValid, LastFailure: core.FailureTransient, FailureCode: "busy",
		}, time.Second},
		{"a code that is declared otherwise", answer(400, `{"error":"invalid_token"}`), core.Credential{
			Status: core.StatusValid, LastFailure: core.FailureTransient, FailureCode: "invalid_token",
		}, time.Second},
		{"a declared limit", limited, core.Credential{
			Status: core.StatusValid, LastFailure: core.FailureRateLimited, FailureCode: "limit",
		}, time.Minute},
		{"a code that nobody knows", answer(400, `{"error":"canary"}`), core.Credential{
			Status: core.StatusValid, LastFailure: core.FailureTransient,
		}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.change(func(in *core.Integration) {
				in.OAuth2.Errors = core.TokenErrors{
					Permanent: []string{"gone"}, Transient: []string{"busy", "invalid_token"}, RateLimited: []string{"limit"},
					CodePath: "problem.code", OKStatusErrorPath: "status",
				}
			})
			before := w.expired()
			w.refresh(tt.fault)
			_, err := w.token("u", before.ID)
			wants := core.ErrProvider
			if tt.shown.Status == core.StatusInvalid {
				wants = core.ErrReconnect
			}
			w.wantErr("token", err, wants)
			want := before
			want.Status, want.LastFailure, want.FailureCode = tt.shown.Status, tt.shown.LastFailure, tt.shown.FailureCode
			want.RefreshFailures, want.Updated, want.NextAttempt = 1, w.clock.Now(), w.clock.Now().Add(tt.wait)
			if diff := cmp.Diff(want, w.credential("u", before.ID)); diff != "" {
				t.Errorf("credential (-want +got):\n%s", diff)
			}
			if tt.shown.Status == core.StatusInvalid {
				return
			}
			w.refresh(coretest.Fault{})
			w.clock.Advance(tt.wait)
			w.mustToken("u", before.ID)
			want = before
			want.Refreshed, want.Updated, want.ValidUntil = w.clock.Now(), w.clock.Now(), w.clock.Now().Add(time.Hour)
			if diff := cmp.Diff(want, w.credential("u", before.ID)); diff != "" {
				t.Errorf("credential once it works (-want +got):\n%s", diff)
			}
		})
	}
}

// While it is refreshed, a credential says so.
func TestRefreshingShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.expired()
	w.refresh(coretest.Fault{Hold: true})
	result := w.begunToken(w.engine, ada.ID)
	w.held(1)
	if got := w.credential("u", ada.ID); !got.Refreshing || got.Status != core.StatusValid || !got.NextAttempt.IsZero() {
		t.Errorf("credential = %+v, want it to be refreshing", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := w.engine.User("u").Token(ctx, core.Selector{Credential: ada.ID})
	w.wantErr("a caller with little time", err, context.DeadlineExceeded)
	w.refresh(coretest.Fault{})
	if got := <-result; got.err != nil {
		t.Error(got.err)
	}
	if got := w.credential("u", ada.ID); got.Refreshing {
		t.Errorf("credential = %+v, want it to be done", got)
	}
	w.wantRefreshes("in all", 1)
}

// An answer for another account than the one that was connected is refused: nothing of it is stored, it is told once, and
// the account goes on working when the provider has come to its senses.
func TestRefreshOtherAccount(t *testing.T) {
	t.Parallel()
	byToken := core.Identity{Source: core.IdentityToken, SubjectPath: "owner.id", TenantPath: "team"}
	byIDToken := core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub", TenantPath: "tenant", TenantOptional: true}
	own := map[string]any{"owner": map[string]any{"id": "ada"}, "team": "T1"}
	for _, tt := range []struct {
		name           string
		identity       core.Identity // zero: userinfo
		fields, claims map[string]any
		refused        bool
	}{
		{"another sub, known by userinfo", core.Identity{}, nil, map[string]any{"sub": "bob"}, true},
		{"another sub", byIDToken, nil, map[string]any{"sub": "bob"}, true},
		{"another tenant", byIDToken, nil, map[string]any{"tenant": "T2"}, true},
		{"no sub", byIDToken, nil, map[string]any{"sub": nil}, false},
		{"the same, with another name", byIDToken, nil, map[string]any{"name": "bob"}, false},
		{"another id", byToken, map[string]any{"owner": map[string]any{"id": "bob"}, "team": "T1"}, nil, true},
		{"another team", byToken, map[string]any{"owner": map[string]any{"id": "ada"}, "team": "T2"}, nil, true},
		{"no id", byToken, map[string]any{"owner": nil, "team": nil}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.claims(map[string]any{"tenant": "T1"})
			w.fields(own)
			if tt.identity != (core.Identity{}) {
				w.change(func(in *core.Integration) { in.Identity = tt.identity })
			}
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			after := uint64(len(w.events(0)))
			w.clock.Advance(2 * time.Hour)
			before := w.stored("u", ada.ID)
			if tt.fields != nil {
				w.fields(tt.fields)
			}
			if tt.claims != nil {
				w.claims(tt.claims)
			}
			if !tt.refused {
				w.mustToken("u", ada.ID)
				if got := w.credential("u", ada.ID); got.Account != ada.Account {
					t.Errorf("account = %+v, want %+v", got.Account, ada.Account)
				}
				return
			}
			for refusals := 1; refusals <= 3; refusals++ {
				_, err := w.token("u", ada.ID)
				var failed *core.ProviderError
				if !errors.As(err, &failed) || failed.Class != core.FailureTransient || failed.Code != "other_account" {
					t.Errorf("token = %v, want a ProviderError with the code other_account", err)
				}
				got := w.stored("u", ada.ID)
				if !got.RefreshToken.Equal(before.RefreshToken) || !got.AccessToken.Equal(before.AccessToken) || got.Account != before.Account ||
					got.Status != core.StatusValid || got.Failures != refusals || got.FailureCode != "other_account" {
					t.Errorf("credential = %s, %d failures (%s), want it as it was but for the failures", got.Status, got.Failures, got.FailureCode)
				}
				w.clock.Advance(time.Minute)
			}
			w.claims(map[string]any{"tenant": "T1"})
			w.fields(own)
			w.wantAlive(ada.ID)
			told := w.events(after)
			if len(told) != 1 || told[0].Kind != core.EventRefreshRefused || told[0].Result != "other_account" || told[0].Credential != ada.ID {
				t.Errorf("events = %v, want one of %s", told, core.EventRefreshRefused)
			}
		})
	}
}

// Who changes how accounts are known breaks none of those that are connected.
func TestRefreshIdentityChanged(t *testing.T) {
	t.Parallel()
	for name, identity := range map[string]core.Identity{
		"another field": {Source: core.IdentityToken, SubjectPath: "id"},
		"none":          {},
		"a tenant too":  {Source: core.IdentityIDToken, SubjectPath: "sub", TenantPath: "tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.fields(map[string]any{"id": 4711})
			w.claims(map[string]any{"tenant": "T1"})
			ada := w.expired()
			w.change(func(in *core.Integration) { in.Identity = identity })
			w.wantAlive(ada.ID)
		})
	}
}

// What providers say of the lifetime of a token that they refreshed.
func TestRefreshExpiresIn(t *testing.T) {
	t.Parallel()
	const never = time.Duration(0)
	for said, want := range map[coretest.ExpiresIn]time.Duration{
		coretest.ExpiresInAbsent: never, "0": never, "-1": never, "-3600": never, `"soon"`: never, "null": never, "true": never, `""`: never,
		`"3600"`: time.Hour, coretest.ExpiresInString: time.Hour, "3600.5": time.Hour + 500*time.Millisecond, "36e2": time.Hour,
		"315360000": 10 * 365 * 24 * time.Hour, "1e300": 10 * 365 * 24 * time.Hour, "30": 30 * time.Second, "0.0001": time.Millisecond,
	} {
		t.Run(string(said), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			ada := w.expired()
			w.provider.Set(func(sw *coretest.Switches) { sw.ExpiresIn = said })
			w.mustToken("u", ada.ID)
			got := w.credential("u", ada.ID)
			if want == never && !got.ValidUntil.IsZero() || want >= time.Second && !got.ValidUntil.Equal(w.clock.Now().Add(want)) {
				t.Fatalf("valid until %v at %v, want in %v (0: no known end)", got.ValidUntil, w.clock.Now(), want)
			}
			if want == never {
				w.clock.Advance(1000 * time.Hour)
				w.mustToken("u", ada.ID)
				w.engine.Settle("u", ada.ID)
				w.wantRefreshes("of a token without an end", 1)
				if as, err := w.me(w.client(ada.ID)); as != "ada@example.com" { // it has ended, as only a 401 tells
					t.Errorf("as = %q, %v, want a refresh after the 401", as, err)
				}
				w.wantRefreshes("after a 401", 2)
				return
			}
			w.mustToken("u", ada.ID)
			w.engine.Settle("u", ada.ID)
			if want > time.Second { // far from its end
				w.wantRefreshes("right after a refresh", 1)
			}
			w.clock.Advance(want)
			before := w.provider.Calls().Refresh
			w.mustToken("u", ada.ID)
			w.wantRefreshes("when it has ended", before+1)
		})
	}
}
