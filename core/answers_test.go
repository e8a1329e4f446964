package core_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// Token requests carry a JSON object where the integration says so.
func TestTokenEncoding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.provider.Set(func(sw *coretest.Switches) { sw.TokenRequests, sw.Rotate = coretest.TokenRequestsJSON, true })
	_, err := w.connect("u", "ada", core.ConnectInput{})
	w.wantFailed("a form", err, core.ProviderError{Op: "exchange", Class: core.FailureTransient, Status: 400, Code: "invalid_request"})

	for _, auth := range []core.ClientAuth{core.ClientAuthBasic, core.ClientAuthBody} {
		user := string(auth)
		w.change(func(in *core.Integration) {
			in.OAuth2.TokenEncoding, in.OAuth2.ClientAuth, in.OAuth2.TokenParams = core.TokenJSON, auth, map[string]string{"extra": "a&b"}
		})
		credential := w.mustConnect(user, "ada", core.ConnectInput{})
		w.clock.Set(credential.ValidUntil)
		w.mustToken(user, credential.ID)
		for _, e := range []coretest.Endpoint{coretest.EndpointExchange, coretest.EndpointRefresh} {
			r, _ := w.provider.Last(e)
			basic := r.Header.Get("Authorization") != ""
			if r.Header.Get("Content-Type") != "application/json" || r.Form.Get("extra") != "a&b" || basic != (auth == core.ClientAuthBasic) ||
				r.Form.Has("client_secret") != (auth == core.ClientAuthBody) {
				t.Errorf("%s, %s: %s with %v, want JSON with the client as it is told", auth, e, r.Header, r.Form)
			}
		}
	}
}

// Tokens may stand further in; a refresh may answer with them at the top.
func TestTokenPath(t *testing.T) {
	t.Parallel()
	for _, atRefresh := range []string{"authed_user", ""} {
		w := newWorld(t, nil, nil)
		w.change(func(in *core.Integration) {
			in.OAuth2.TokenPath, in.Identity = "authed_user", core.Identity{Source: core.IdentityToken, SubjectPath: "authed_user.id", TenantPath: "team.id"}
			in.OAuth2.Issuer = ""
		})
		w.provider.Set(func(sw *coretest.Switches) {
			sw.NestTokensAtExchange, sw.NestTokensAtRefresh, sw.Rotate = "authed_user", atRefresh, true
			sw.ExtraTokenFields = map[string]any{"ok": true, "team": map[string]any{"id": "T1"}, "authed_user": map[string]any{"id": "U1"}}
		})
		credential := w.mustConnect("u", "ada", core.ConnectInput{})
		if want := (core.ProviderAccount{Issuer: w.provider.Host(), Tenant: "T1", Subject: "U1"}); credential.Account != want {
			t.Errorf("account = %+v, want %+v", credential.Account, want)
		}
		if credential.ValidUntil.IsZero() || len(credential.Scopes) != 2 {
			t.Errorf("credential = %+v, want lifetime and scopes of the inner object", credential)
		}
		first := w.mustToken("u", credential.ID)
		w.clock.Set(credential.ValidUntil)
		second := w.mustToken("u", credential.ID)
		if first.Value.Equal(second.Value) || w.whose(second.Value.Reveal()) != "ada@example.com" {
			t.Errorf("the token was not refreshed from %q", atRefresh)
		}
	}
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) { in.OAuth2.TokenPath = "authed_user" })
	for name, body := range map[string]string{
		"at the top only":  `{"access_token":"at-canary","authed_user":{"id":"U1"}}`,
		"nowhere":          `{"ok":true}`,
		"no object there":  `{"access_token":"at-canary","authed_user":"canary"}`,
		"no text there":    `{"authed_user":{"access_token":5}}`,
		"one level deeper": `{"authed_user":{"authed_user":{"access_token":"at-canary"}}}`,
	} {
		callback := w.mustBegin("u", "ada", core.ConnectInput{})
		w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = jsonAnswer(200, body) })
		_, err := w.finish(callback)
		w.wantFailed(name, err, core.ProviderError{Op: "exchange", Class: core.FailureTransient, Status: 200, Reason: "no access_token"})
		w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = coretest.Fault{} })
	}
}

// A tenant that the callback names is part of who the account is, and must be what the provider says, if it does.
func TestTenantParam(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) {
		in.OAuth2.TenantParam = "realmId"
		in.Identity = core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub", TenantPath: "realm"}
	})
	connect := func(in core.ConnectInput, claim any, values ...string) (core.Credential, error) {
		t.Helper()
		w.claims(map[string]any{"realm": claim})
		callback := w.mustBegin("u", "ada", in)
		result, err := w.finish(with(callback, "realmId", values...))
		if err != nil {
			return core.Credential{}, w.note(err)
		}
		return result.Credential, nil
	}
	many := core.ConnectInput{AllowMultiple: true}
	one, err := connect(many, nil, "1")
	if want := (core.ProviderAccount{Issuer: w.provider.Issuer(), Tenant: "1", Subject: "ada"}); err != nil || one.Account != want {
		t.Fatalf("account = %+v, %v, want %+v", one.Account, err, want)
	}
	if two, err := connect(many, "2", "2"); err != nil || two.ID == one.ID || two.Account.Tenant != "2" {
		t.Errorf("another tenant = %+v, %v, want another account", two, err)
	}
	if again, err := connect(many, "1", "1"); err != nil || again.ID != one.ID {
		t.Errorf("the same tenant = %+v, %v, want the account there is", again, err)
	}
	if number, err := connect(core.ConnectInput{Into: one.ID}, 1, "1"); err != nil || number.ID != one.ID {
		t.Errorf("the tenant as a number = %+v, %v, want the account there is", number, err)
	}
	_, err = connect(core.ConnectInput{Into: one.ID}, nil, "3")
	w.wantErr("into the account of another tenant", err, core.ErrAccountMismatch)

	before := len(w.list("u"))
	for name, tt := range map[string]struct {
		claim  any
		values []string
	}{
		"missing": {nil, nil}, "missing but claimed": {"1", nil}, "empty": {nil, []string{""}}, "twice": {nil, []string{"1", "1"}},
		"another than claimed": {"1", []string{"2"}}, "too long": {nil, []string{strings.Repeat("1", 513)}},
		"a line": {nil, []string{"1\n2"}}, "a space": {nil, []string{"1 2"}}, "not ASCII": {nil, []string{"１"}}, "a NUL": {nil, []string{"\x00"}},
	} {
		_, err := connect(many, tt.claim, tt.values...)
		w.wantFailed(name, err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "the callback"})
	}
	if got := len(w.list("u")); got != before {
		t.Errorf("%d accounts, want %d as before", got, before)
	}
}

// An integration's own codes count at its token endpoint: they are repeated, and decide.
func TestTokenErrors(t *testing.T) {
	t.Parallel()
	const (
		permanent, transient, rateLimited = core.FailurePermanent, core.FailureTransient, core.FailureRateLimited
	)
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) {
		in.OAuth2.Errors = core.TokenErrors{
			Permanent: []string{"GONE", "unauthorized_client", "77"}, Transient: []string{"invalid_grant", "down.today"}, RateLimited: []string{"Access Denied"},
			CodePath: "failure.code", OKStatusErrorPath: "failure.ok_code",
		}
	})
	for i, tt := range []struct {
		name, body       string
		status           int
		refresh          core.FailureClass
		exchange         core.FailureClass
		code             string
		exchangeRejected bool // the operator has to act
	}{
		{"at its place", `{"failure":{"code":"GONE"}}`, 400, permanent, permanent, "GONE", false},
		{"a number", `{"failure":{"code":77}}`, 400, permanent, permanent, "77", false},
		{"where errors stand", `{"error":"GONE"}`, 400, permanent, permanent, "GONE", false},
		{"with status 200", `{"failure":{"ok_code":"GONE"}}`, 200, permanent, permanent, "GONE", false},
		{"with status 200 and a token", `{"access_token":"at-canary","failure":{"ok_code":"GONE"}}`, 200, permanent, permanent, "GONE", false},
		{"in another case", `{"failure":{"code":"gone"}}`, 400, transient, transient, "", false},
		{"with more behind", `{"failure":{"code":"GONE canary"}}`, 400, transient, transient, "", false},
		{"unknown at its place, known beside", `{"failure":{"code":"canary"},"error":"invalid_client"}`, 400, transient, transient, "invalid_client", true},
		{"of the client, at the code", `{"error":"unauthorized_client"}`, 403, permanent, transient, "unauthorized_client", true},
		{"with a space", `{"error":"Access Denied"}`, 400, rateLimited, rateLimited, "Access Denied", false},
		{"with a dot", `{"error":"down.today"}`, 401, transient, transient, "down.today", false},
		{"against the standard", `{"error":"invalid_grant"}`, 400, transient, transient, "invalid_grant", false},
		{"both", `{"failure":{"code":"GONE"},"error":"invalid_grant"}`, 400, permanent, permanent, "GONE", false},
		{"an object", `{"failure":{"code":{"GONE":"canary"}},"error":{"canary":1}}`, 400, transient, transient, "", false},
		{"at a place of status 200 only", `{"failure":{"ok_code":"GONE"}}`, 400, transient, transient, "", false},
	} {
		user := fmt.Sprintf("u%d", i)
		callback := w.mustBegin(user, "ada", core.ConnectInput{})
		w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = jsonAnswer(tt.status, tt.body) })
		_, err := w.finish(callback)
		w.wantFailed(tt.name+" at the code", err, core.ProviderError{Op: "exchange", Class: tt.exchange, Status: tt.status, Code: tt.code})
		if got := errors.Is(err, core.ErrMisconfigured); got != tt.exchangeRejected {
			t.Errorf("%s at the code: misconfigured %t, want %t", tt.name, got, tt.exchangeRejected)
		}
		w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = coretest.Fault{} })

		credential := w.mustConnect(user, "ada", core.ConnectInput{})
		w.clock.Set(credential.ValidUntil)
		w.refresh(jsonAnswer(tt.status, tt.body))
		_, err = w.token(user, credential.ID)
		if tt.refresh == permanent {
			w.wantErr(tt.name+" at the refresh", err, core.ErrReconnect)
		} else {
			w.wantFailed(tt.name+" at the refresh", err, core.ProviderError{Op: "refresh", Class: tt.refresh, Status: tt.status, Code: tt.code})
		}
		w.refresh(coretest.Fault{})
		credential = w.credential(user, credential.ID)
		if invalid := credential.Status == core.StatusInvalid; invalid != (tt.refresh == permanent) || credential.LastFailure != tt.refresh {
			t.Errorf("%s: status %s, last failure %q, want %q", tt.name, credential.Status, credential.LastFailure, tt.refresh)
		}
	}

	// The page that the browser comes from is another endpoint.
	callback := w.mustBegin("v", "ada", core.ConnectInput{})
	_, err := w.finish(with(with(callback, "code"), "error", "GONE"))
	w.wantFailed("at the callback", err, core.ProviderError{Op: "authorize", Class: permanent})
	w.provider.Set(func(sw *coretest.Switches) { sw.UserInfo = jsonAnswer(http.StatusBadRequest, `{"error":"GONE"}`) })
	callback = w.mustBegin("v", "ada", core.ConnectInput{})
	_, err = w.finish(callback)
	w.wantFailed("at userinfo", err, core.ProviderError{Op: "identity", Class: permanent, Status: 400})
}
