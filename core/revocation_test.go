package core_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// newRevoking is a world whose integration revokes tokens in that way.
func newRevoking(t *testing.T, store storage.Store, way core.Revocation) *world {
	t.Helper()
	w := newWorld(t, store, nil)
	w.change(func(in *core.Integration) {
		in.OAuth2.RevocationURL, in.OAuth2.Revocation = w.provider.RevocationURL(), way
	})
	switch way.Style {
	case core.RevocationBearer:
		w.provider.Set(func(sw *coretest.Switches) { sw.RevokeRequests, sw.RevokeGrant = coretest.RevokeRequestsBearer, true })
	case core.RevocationDelete:
		w.provider.Set(func(sw *coretest.Switches) { sw.RevokeRequests, sw.RevokeGrant = coretest.RevokeRequestsDelete, true })
		w.change(func(in *core.Integration) { in.OAuth2.RevocationURL = w.provider.RevocationURL() + "/{client_id}" })
	}
	if way.Scope == core.RevokesGrant {
		w.provider.Set(func(sw *coretest.Switches) { sw.RevokeGrant = true })
	}
	return w
}

// disconnect removes an account.
func (w *world) disconnect(user, id string) {
	w.Helper()
	if err := w.engine.User(user).Disconnect(w.Context(), core.Selector{Credential: id}); err != nil {
		w.Fatal(w.note(err))
	}
}

// carryOut does what is due after some time, a minute at least.
func (w *world) carryOut(after time.Duration) {
	w.Helper()
	w.clock.Advance(max(after, time.Minute))
	if err := w.engine.RevokeDue(w.Context()); err != nil {
		w.Error(w.note(err))
	}
}

// revokeFault sets what goes wrong with revocations.
func (w *world) revokeFault(fault coretest.Fault) {
	w.provider.Set(func(sw *coretest.Switches) { sw.Revoke = fault })
}

// queued are the revocations that were not carried out.
func (w *world) queued() []core.QueuedRevocation {
	w.Helper()
	queued, err := w.engine.Revocations(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return queued
}

// wantRevoked fails the test unless so many requests reached the revocation endpoint.
func (w *world) wantRevoked(what string, want int) {
	w.Helper()
	if got := w.provider.Calls().Revoke; got != want {
		w.Errorf("revocations at the provider %s = %d, want %d", what, got, want)
	}
}

// wantEnd fails the test unless all is carried out and the revocations ended as these events say, in any order.
func (w *world) wantEnd(want ...core.Event) {
	w.Helper()
	var got []core.Event
	for _, ev := range w.events(0) {
		if ev.Kind == core.EventRevoked {
			got = append(got, ev)
		}
	}
	for i := range want {
		want[i].Kind, want[i].Actor.Type, want[i].Cause, want[i].Integration = core.EventRevoked, core.ActorEngine, "revocation", calendar
	}
	order := cmpopts.SortSlices(func(a, b core.Event) bool { return a.Credential < b.Credential })
	if diff := cmp.Diff(want, got, order, cmpopts.IgnoreFields(core.Event{}, "Number", "ID", "Time")); diff != "" {
		w.Errorf("events (-want +got):\n%s", diff)
	}
	if queued := w.queued(); len(queued) != 0 {
		w.Errorf("%d revocations are still queued, want none: %+v", len(queued), queued)
	}
	for _, item := range w.items() {
		if item.Key[0] == '5' {
			w.Errorf("an entry is left in the queue: %q", item.Key)
		}
	}
}

// ended is the event of a revocation.
func ended(c core.Credential, result string, details ...string) core.Event {
	ev := core.Event{User: c.User, Credential: c.ID, Result: result}
	for i := 0; i < len(details); i += 2 {
		if ev.Details == nil {
			ev.Details = map[string]string{}
		}
		ev.Details[details[i]] = details[i+1]
	}
	return ev
}

// Each style asks as often as it takes, and in the end the tokens are dead.
func TestRevocationStyles(t *testing.T) {
	t.Parallel()
	form, bearer, del := core.RevocationForm, core.RevocationBearer, core.RevocationDelete
	never := func(sw *coretest.Switches) { sw.ExpiresIn = coretest.ExpiresInAbsent }
	none := func(sw *coretest.Switches) { sw.OmitRefreshTokenAtExchange = true }
	for _, tt := range []struct {
		name              string
		style             core.RevocationStyle
		provider          func(*coretest.Switches)
		integration       func(*core.Integration)
		later             time.Duration // until it is disconnected
		dead              bool          // at the provider, before
		revokes, refreshs int
	}{
		{name: "both tokens", style: form, revokes: 2},
		{name: "both tokens by default", revokes: 2},
		{name: "an access token that ended", style: form, later: 2 * time.Hour, revokes: 1},
		{name: "an access token without an end", style: form, provider: never, later: 2 * time.Hour, revokes: 2},
		{name: "no refresh token", style: form, provider: none, revokes: 1},
		{name: "no refresh token, and ended", style: form, provider: none, later: 2 * time.Hour, revokes: 1},
		{name: "dead before", style: form, dead: true, revokes: 2},
		{
			name: "JSON", style: form, revokes: 2, integration: func(in *core.Integration) { in.OAuth2.TokenEncoding = core.TokenJSON },
			provider: func(sw *coretest.Switches) { sw.TokenRequests = coretest.TokenRequestsJSON },
		},
		{name: "client in the body", style: form, revokes: 2, integration: func(in *core.Integration) { in.OAuth2.ClientAuth = core.ClientAuthBody }},
		{name: "a live token", style: bearer, revokes: 1},
		{name: "an ended token", style: bearer, later: 2 * time.Hour, revokes: 1, refreshs: 1},
		{name: "a token that ended unseen", style: bearer, provider: never, later: 2 * time.Hour, revokes: 2, refreshs: 1},
		{name: "an ended token and nothing else", style: bearer, provider: none, later: 2 * time.Hour, revokes: 1},
		{name: "dead before", style: bearer, dead: true, revokes: 1, refreshs: 1},
		{name: "ended and dead", style: bearer, dead: true, later: 2 * time.Hour, revokes: 1, refreshs: 1},
		{name: "a live token", style: del, revokes: 1},
		{name: "an ended token", style: del, later: 2 * time.Hour, revokes: 1, refreshs: 1},
		{name: "a token that ended unseen", style: del, provider: never, later: 2 * time.Hour, revokes: 2, refreshs: 1},
		{name: "dead before", style: del, dead: true, revokes: 1, refreshs: 1},
	} {
		t.Run(string(tt.style)+": "+tt.name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, nil, core.Revocation{Style: tt.style})
			w.rotate()
			if tt.integration != nil {
				w.change(tt.integration)
			}
			if tt.provider != nil {
				w.provider.Set(tt.provider)
			}
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			token := w.mustToken("u", ada.ID).Value.Reveal()
			stored := w.stored("u", ada.ID)
			w.clock.Advance(tt.later)
			if tt.dead {
				w.provider.Revoke("ada")
			}
			w.disconnect("u", ada.ID)
			w.wantRevoked("when it is disconnected", 0)
			w.wantSealed(map[string]string{"the access token": token, "the client secret": clientSecret})

			w.carryOut(time.Minute)
			w.wantRevoked("in the end", tt.revokes)
			w.wantRefreshes("to revoke", tt.refreshs)
			w.wantEnd(ended(ada, "ok", "attempts", "1"))
			w.wantDead(token, stored.RefreshToken)
		})
	}
}

// wantDead fails the test unless the provider takes neither token any more.
func (w *world) wantDead(access string, refresh crypto.Secret) {
	w.Helper()
	if whose := w.whose(access); whose != "" {
		w.Errorf("the access token still works, for %s", whose)
	}
	if refresh.IsZero() {
		return
	}
	in := w.integration(nil)
	req := w.request(http.MethodPost, w.provider.TokenURL(), strings.NewReader("grant_type=refresh_token&refresh_token="+refresh.Reveal()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(in.OAuth2.ClientID, clientSecret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusOK {
		w.Error("the refresh token still works")
	}
}

// What is not to be revoked, or cannot be, is not queued.
func TestNothingToRevoke(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*core.Integration){
		"no URL": func(in *core.Integration) { in.OAuth2.RevocationURL = "" },
		"none":   func(in *core.Integration) { in.OAuth2.Revocation.Style = core.RevocationNone },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, nil, core.Revocation{})
			w.change(change)
			w.disconnect("u", w.mustConnect("u", "ada", core.ConnectInput{}).ID)
			w.carryOut(0)
			w.wantRevoked("in the end", 0)
			w.wantEnd()
		})
	}
	t.Run("a key", func(t *testing.T) {
		t.Parallel()
		w := newRevoking(t, nil, core.Revocation{})
		w.disconnect("u", w.addKey(core.APIKey{}, "canary-key", "ada"))
		w.wantEnd()
	})
	t.Run("a URL that lacks a value", func(t *testing.T) {
		t.Parallel()
		w := newRevoking(t, nil, core.Revocation{})
		ada := w.mustConnect("u", "ada", core.ConnectInput{})
		w.change(func(in *core.Integration) {
			in.Variables = map[string]core.Variable{"site": {}}
			in.OAuth2.RevocationURL = "https://{site}.example.com/revoke"
		})
		w.disconnect("u", ada.ID)
		w.wantEnd(ended(ada, "misconfigured"))
	})
}

// What fails is tried again, with pauses, until it is done, or refused for good, or three days are over.
func TestRevocationFails(t *testing.T) {
	t.Parallel()
	once := func(f coretest.Fault) coretest.Fault { f.Times = 1; return f }
	for _, tt := range []struct {
		name     string
		fault    coretest.Fault
		attempts string
		result   string
	}{
		{"down once", once(garbage(500, "", "canary")), "2", "ok"},
		{"unavailable once", once(coretest.Fault{Error: "temporarily_unavailable"}), "2", "ok"},
		{"an answer that is lost", coretest.Fault{LostReply: true, Times: 1}, "2", "ok"},
		{"a redirect", once(garbage(302, "", "")), "2", "ok"},
		{"the client is refused once", coretest.Fault{Error: "invalid_client", Times: 1}, "2", "ok"},
		{"dead already", coretest.Fault{Error: "invalid_token"}, "1", "ok"},
		{"a type that is not revoked", coretest.Fault{Error: "unsupported_token_type"}, "1", "unsupported_token_type"},
		{"refused", garbage(400, "application/json", `{"error":"canary"}`), "1", "permanent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, nil, core.Revocation{})
			ada := w.mustConnect("u", "ada", core.ConnectInput{})
			w.disconnect("u", ada.ID)
			w.revokeFault(tt.fault)
			w.carryOut(0)
			w.carryOut(5 * time.Minute)
			w.wantEnd(ended(ada, tt.result, "attempts", tt.attempts))
		})
	}
}

// A provider that ends refresh tokens only is told of the access token too, and what it says to that is no failure.
func TestRevocationOfAccessTokenUnsupported(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.disconnect("u", ada.ID)
	w.revokeFault(coretest.Fault{Hold: true, Times: 1})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.carryOut(0)
	}()
	w.held(1) // with the refresh token
	w.revokeFault(coretest.Fault{Error: "unsupported_token_type"})
	<-done
	w.wantRevoked("for both tokens", 2)
	w.wantEnd(ended(ada, "ok", "attempts", "1", "left", "access_token"))
}

// What was done is not asked for again.
func TestRevocationGoesOn(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.disconnect("u", ada.ID)
	w.revokeFault(coretest.Fault{Hold: true, Times: 1})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.carryOut(0)
	}()
	w.held(1)
	w.revokeFault(garbage(500, "", ""))
	<-done
	w.wantRevoked("for both tokens", 2)
	queued := w.queued()
	if len(queued) != 1 || !queued[0].RefreshToken.IsZero() || queued[0].AccessToken.IsZero() {
		t.Fatalf("queued = %+v, want one, with the access token only", queued)
	}
	w.revokeFault(coretest.Fault{})
	w.carryOut(5 * time.Minute)
	if last, _ := w.provider.Last(coretest.EndpointRevoke); last.Form.Get("token_type_hint") != "access_token" {
		t.Errorf("last request = %v, want the access token", last.Form)
	}
	w.wantRevoked("in all", 3)
	w.wantEnd(ended(ada, "ok", "attempts", "2"))
}

func TestRevocationGivesUp(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	w.disconnect("u", ada.ID)
	w.revokeFault(garbage(500, "", "canary"))
	began := w.clock.Now()
	var pauses []time.Duration
	for asked, last := 0, began; len(w.queued()) > 0; {
		w.carryOut(time.Minute)
		if now := w.provider.Calls().Revoke; now > asked {
			pauses, asked, last = append(pauses, w.clock.Now().Sub(last)), now, w.clock.Now()
		}
		if w.clock.Now().Sub(began) > 5*24*time.Hour {
			t.Fatal("nobody gives up")
		}
	}
	if took := w.clock.Now().Sub(began); took < 3*24*time.Hour || took > 3*24*time.Hour+8*time.Hour {
		t.Errorf("given up after %v, want soon after three days", took)
	}
	for i := 5; i < len(pauses); i++ {
		if pauses[i] > 8*time.Hour || (pauses[i] < pauses[i-1] && pauses[i] < 6*time.Hour) {
			t.Errorf("pauses = %v, want them to grow to 6 hours and some", pauses)
			break
		}
	}
	if n := len(pauses); n < 15 || n > 30 {
		t.Errorf("%d attempts, want some 20: %v", n, pauses)
	}
	events := w.events(0)
	i := slices.IndexFunc(events, func(ev core.Event) bool { return ev.Kind == core.EventRevoked })
	if i < 0 || events[i].Result != "transient" || events[i].Details["attempts"] == "" {
		t.Errorf("events = %v, want one that says that it was given up", events)
	}
}

// A provider that wants to be left alone is, also by the revocations of other accounts.
func TestRevocationRetryAfter(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]coretest.Fault{
		"429": {Times: 1, Garbage: &coretest.Garbage{Status: 429, Header: map[string]string{"Retry-After": "3600"}}},
		"503": {Times: 1, Garbage: &coretest.Garbage{Status: 503, Header: map[string]string{"Retry-After": "3600"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRevoking(t, nil, core.Revocation{})
			ada, bob := w.mustConnect("u", "ada", core.ConnectInput{}), w.mustConnect("v", "bob", core.ConnectInput{})
			w.clock.Advance(2 * time.Hour) // one request each
			w.disconnect("u", ada.ID)
			w.revokeFault(fault)
			w.carryOut(0)
			w.disconnect("v", bob.ID)
			w.carryOut(0)
			others := 1
			if name == "503" { // it speaks of the request, not of the client
				others = 2
			}
			w.wantRevoked("at first", others)
			w.carryOut(50 * time.Minute)
			w.wantRevoked("within the hour", others)
			w.carryOut(30 * time.Minute)
			w.wantRevoked("in all", 3)
			w.wantEnd(ended(ada, "ok", "attempts", "2"), ended(bob, "ok", "attempts", "1"))
		})
	}
}
