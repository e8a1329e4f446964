package core_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// wantFailed fails the test unless err is a ProviderError like want, whose Reason is a part of its text.
func (w *world) wantFailed(what string, err error, want core.ProviderError) {
	w.Helper()
	var failed *core.ProviderError
	if !errors.As(w.note(err), &failed) || !errors.Is(err, core.ErrProvider) {
		w.Errorf("%s: error %v, want a ProviderError", what, err)
		return
	}
	if failed.Integration != calendar || failed.Op != want.Op || failed.Class != want.Class || failed.Status != want.Status ||
		failed.Code != want.Code || failed.RetryAfter != want.RetryAfter || !strings.Contains(failed.Reason, want.Reason) {
		w.Errorf("%s: error %+v\n%v\nwant op %s, class %s, status %d, code %q, retry after %v, reason %q", what,
			*failed, err, want.Op, want.Class, want.Status, want.Code, want.RetryAfter, want.Reason)
	}
	// What no repetition mends is for the operator, and says so.
	cause, forOperator := core.ErrProvider, errors.Is(err, core.ErrMisconfigured)
	if forOperator {
		cause = core.ErrMisconfigured
	}
	if got, want := core.Message(err), core.Message(cause); got != want || got == "" {
		w.Errorf("%s: Message() = %q, want %q", what, got, want)
	}
	if want.Op == "identity" && want.Class == core.FailurePermanent && !forOperator {
		w.Errorf("%s: error %v, want it to be %v too", what, err, core.ErrMisconfigured)
	}
	if want.Op == "exchange" && want.Class == core.FailureTransient && want.Status >= 500 && forOperator {
		w.Errorf("%s: error %v is %v, want only %v", what, err, cause, core.ErrProvider)
	}
}

// wantNothing fails the test unless a user has no account, and can connect one without AllowMultiple.
func (w *world) wantNothing(what, user string) {
	w.Helper()
	if got := w.list(user); len(got) != 0 {
		w.Errorf("%s: accounts = %v, want none", what, got)
	}
	if _, err := w.connect(user, "ada", core.ConnectInput{}); err != nil {
		w.Errorf("%s: connecting afterwards: %v", what, err)
	}
}

func jsonAnswer(status int, body string) coretest.Fault {
	return coretest.Fault{Garbage: &coretest.Garbage{Status: status, ContentType: "application/json", Body: body}}
}

func TestExchangeFailures(t *testing.T) {
	t.Parallel()
	elsewhere := extraProvider(t, coretest.OAuthServerOptions{})
	w := newWorld(t, nil, reach(elsewhere))
	transient, lost := core.FailureTransient, core.FailureIndeterminate
	for i, tt := range []struct {
		name   string
		fault  coretest.Fault
		fields map[string]any
		ok     bool // errors come with status 200
		form   bool // answers come as a form
		want   core.ProviderError
	}{
		{name: "500", fault: jsonAnswer(500, `canary-body`), want: core.ProviderError{Class: transient, Status: 500}},
		{name: "500 in HTML", fault: coretest.Fault{Garbage: &coretest.Garbage{Status: 500, Body: "<b>canary at-0123</b>"}}, want: core.ProviderError{Class: transient, Status: 500}},
		{name: "503 with Retry-After", fault: coretest.Fault{Garbage: &coretest.Garbage{Status: 503, Header: map[string]string{"Retry-After": "120"}}}, want: core.ProviderError{Class: transient, Status: 503, RetryAfter: 2 * time.Minute}},
		{name: "429", fault: jsonAnswer(429, `{"error":"canary"}`), want: core.ProviderError{Class: core.FailureRateLimited, Status: 429}},
		{name: "HTML", fault: coretest.Fault{Garbage: &coretest.Garbage{Body: "<html>canary</html>"}}, want: core.ProviderError{Class: transient, Status: 200}},
		{name: "HTML that says JSON", fault: jsonAnswer(200, "<html>canary</html>"), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "empty", fault: jsonAnswer(200, ""), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "204", fault: jsonAnswer(204, ""), want: core.ProviderError{Class: transient, Status: 204}},
		{name: "null", fault: jsonAnswer(200, "null"), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "list", fault: jsonAnswer(200, `["canary"]`), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "text", fault: jsonAnswer(200, `"canary"`), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "truncated", fault: jsonAnswer(200, `{"access_token":"at-canary","expires_in":36`), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "deep", fault: jsonAnswer(200, strings.Repeat(`{"a":`, 20000)), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "malformed form", fault: coretest.Fault{Garbage: &coretest.Garbage{ContentType: "application/x-www-form-urlencoded", Body: "access_token=at-canary&%zz"}}, want: core.ProviderError{Class: transient, Status: 200}},
		{name: "huge", fault: coretest.Fault{Garbage: &coretest.Garbage{ContentType: "application/json", Body: `{"access_token":"at-canary"}`, Size: 4 << 20}}, want: core.ProviderError{Class: lost, Reason: "too large"}},
		{name: "lost reply", fault: coretest.Fault{LostReply: true}, want: core.ProviderError{Class: lost}},
		{name: "redirect", fault: coretest.Fault{Garbage: &coretest.Garbage{Status: 307, Header: map[string]string{"Location": elsewhere.TokenURL()}}}, want: core.ProviderError{Class: transient, Status: 307}},
		{name: "redirect after the fact", fault: coretest.Fault{WorkFirst: true, Garbage: &coretest.Garbage{Status: 302, Header: map[string]string{"Location": elsewhere.TokenURL() + "?canary"}}}, want: core.ProviderError{Class: transient, Status: 302}},

		{name: "no token", fields: map[string]any{"access_token": nil}, want: core.ProviderError{Class: transient, Status: 200, Reason: "no access_token"}},
		{name: "token null", fault: jsonAnswer(200, `{"access_token":null}`), want: core.ProviderError{Class: transient, Status: 200, Reason: "no access_token"}},
		{name: "token number", fields: map[string]any{"access_token": 12345}, want: core.ProviderError{Class: transient, Status: 200, Reason: "no access_token"}},
		{name: "token object", fields: map[string]any{"access_token": map[string]any{"value": "canary"}}, want: core.ProviderError{Class: transient, Status: 200, Reason: "no access_token"}},
		{name: "token empty", fields: map[string]any{"access_token": ""}, want: core.ProviderError{Class: transient, Status: 200, Reason: "no access_token"}},
		{name: "token with newline", fields: map[string]any{"access_token": "at-canary\r\nX-Evil: 1"}, want: core.ProviderError{Class: transient, Status: 200, Reason: "no header"}},
		{name: "token outside of ASCII", fields: map[string]any{"access_token": "at-cänary"}, want: core.ProviderError{Class: transient, Status: 200, Reason: "no header"}},
		{name: "token with NUL", fields: map[string]any{"access_token": "at-canary\x00"}, want: core.ProviderError{Class: transient, Status: 200, Reason: "no header"}},
		{name: "token of 40 KB", fields: map[string]any{"access_token": strings.Repeat("canary", 7000)}, want: core.ProviderError{Class: transient, Status: 200, Reason: "too long"}},
		{name: "refresh token of 40 KB", fields: map[string]any{"refresh_token": strings.Repeat("canary", 7000)}, want: core.ProviderError{Class: transient, Status: 200, Reason: "too long"}},
		{name: "scopes of 300 KB", fields: map[string]any{"scope": strings.Repeat("canary ", 43000)}, want: core.ProviderError{Class: transient, Status: 200, Reason: "too long"}},
		{name: "form without token", form: true, fields: map[string]any{"access_token": nil}, want: core.ProviderError{Class: transient, Status: 200, Reason: "no access_token"}},

		{name: "invalid_grant", fault: coretest.Fault{Error: "invalid_grant"}, want: core.ProviderError{Class: core.FailurePermanent, Status: 400, Code: "invalid_grant"}},
		{name: "invalid_grant in a form", form: true, fault: coretest.Fault{Error: "invalid_grant"}, want: core.ProviderError{Class: core.FailurePermanent, Status: 400, Code: "invalid_grant"}},
		{name: "invalid_grant with 200", ok: true, fault: coretest.Fault{Error: "invalid_grant"}, want: core.ProviderError{Class: core.FailurePermanent, Status: 200, Code: "invalid_grant"}},
		{name: "invalid_grant with 200 in a form", ok: true, form: true, fault: coretest.Fault{Error: "invalid_grant"}, want: core.ProviderError{Class: core.FailurePermanent, Status: 200, Code: "invalid_grant"}},
		{name: "invalid_client", fault: coretest.Fault{Error: "invalid_client"}, want: core.ProviderError{Class: transient, Status: 401, Code: "invalid_client", Reason: "client id or secret"}},
		{name: "bare 401", fault: jsonAnswer(401, `{"message":"canary"}`), want: core.ProviderError{Class: transient, Status: 401, Reason: "client id or secret"}},
		{name: "bare 403", fault: jsonAnswer(403, `{"message":"canary"}`), want: core.ProviderError{Class: transient, Status: 403}},
		{name: "slow_down", fault: coretest.Fault{Error: "slow_down"}, want: core.ProviderError{Class: core.FailureRateLimited, Status: 400, Code: "slow_down"}},
		{name: "server_error", fault: coretest.Fault{Error: "server_error"}, want: core.ProviderError{Class: transient, Status: 400, Code: "server_error"}},
		{name: "error beside a token", fault: jsonAnswer(200, `{"access_token":"at-canary","error":"invalid_grant"}`), want: core.ProviderError{Class: core.FailurePermanent, Status: 200, Code: "invalid_grant"}},
		{name: "canary as error", fault: coretest.Fault{Error: "canary"}, want: core.ProviderError{Class: transient, Status: 400}},
		{name: "token as error", fault: coretest.Fault{Error: "rt-0123456789abcdef"}, want: core.ProviderError{Class: transient, Status: 400}},
		{name: "strange error", fault: coretest.Fault{Error: "canary\r\n<b>"}, want: core.ProviderError{Class: transient, Status: 400}},
		{name: "error object", fault: jsonAnswer(400, `{"error":{"message":"canary"}}`), want: core.ProviderError{Class: transient, Status: 400}},
		{name: "not ok with 200", fault: jsonAnswer(200, `{"ok":false,"error":"invalid_code","access_token":"at-canary"}`), want: core.ProviderError{Class: core.FailurePermanent, Status: 200, Code: "invalid_code"}},
		{name: "not ok without error", fault: jsonAnswer(200, `{"ok":false,"access_token":"at-canary"}`), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "not ok with a canary", fault: jsonAnswer(200, `{"ok":false,"error":"canary"}`), want: core.ProviderError{Class: transient, Status: 200}},
		{name: "GitHub's wrong secret", fault: jsonAnswer(200, `{"error":"incorrect_client_credentials"}`), want: core.ProviderError{Class: transient, Status: 200, Code: "incorrect_client_credentials", Reason: "client id or secret"}},
	} {
		user := fmt.Sprintf("u%d", i)
		callback := w.mustBegin(user, "ada", core.ConnectInput{ReturnURL: returnURL})
		w.provider.Set(func(sw *coretest.Switches) {
			sw.Exchange, sw.ExtraTokenFields, sw.OKWithError, sw.FormEncoded = tt.fault, tt.fields, tt.ok, tt.form
		})
		result, err := w.finish(callback)
		tt.want.Op = "exchange"
		w.wantFailed(tt.name, err, tt.want)
		if result == nil || result.User != user || result.ReturnURL != returnURL || result.Credential.ID != "" {
			t.Errorf("%s: result = %+v, want only user and return URL", tt.name, result)
		}
		w.provider.Set(func(sw *coretest.Switches) { *sw = coretest.Switches{} })
		w.wantNothing(tt.name, user)
	}
	if got := elsewhere.Calls(); got != (coretest.Calls{}) {
		t.Errorf("the other provider got %+v, want nothing: redirects are not followed", got)
	}
}

func TestExchangeHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(o *core.Options) { o.ProviderTimeout = 200 * time.Millisecond })
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = coretest.Fault{Hang: true} })
	_, err := w.finish(callback)
	w.wantFailed("a provider that hangs", err, core.ProviderError{Op: "exchange", Class: core.FailureIndeterminate, Reason: "timed out"})
	w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = coretest.Fault{} })
	w.opts.ProviderTimeout = 0 // what has to work has time
	w.engine = w.open()
	w.wantNothing("a provider that hangs", "u")
}

func TestExchangeUnreachable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	w.provider.Close()
	_, err := w.finish(callback)
	w.wantFailed("a provider that is down", err, core.ProviderError{Op: "exchange", Class: core.FailureTransient, Reason: "could not be reached"})

	t.Run("not on the list", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		callback := w.mustBegin("u", "ada", core.ConnectInput{})
		w.opts.PrivateHosts = nil
		w.engine = w.open()
		_, err := w.finish(callback)
		w.wantFailed("a provider on a private address", err, core.ProviderError{Op: "exchange", Class: core.FailureTransient})
		w.wantExchanges(0)
	})
}

func TestExchangeSlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = coretest.Fault{Slow: 50 * time.Millisecond} })
	w.mustConnect("u", "ada", core.ConnectInput{})
}

func TestExchangeLifetimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	const decade = 10 * 365 * 24 * time.Hour
	for i, tt := range []struct {
		sent coretest.ExpiresIn
		want time.Duration // 0: no known end
	}{
		{coretest.ExpiresInNumber, time.Hour},
		{coretest.ExpiresInString, time.Hour},
		{coretest.ExpiresInAbsent, 0},
		{"0", 0},
		{"-1", 0},
		{"null", 0},
		{"true", 0},
		{"[3600]", 0},
		{`"soon"`, 0},
		{`""`, 0},
		{`" 3600 "`, time.Hour},
		{`"3600s"`, 0},
		{"1e3", 1000 * time.Second},
		{"3600.0", time.Hour},
		{"0.5", 500 * time.Millisecond},
		{"315360000", decade},
		{"1e300", decade},
		{"1e999", 0},
		{`"Infinity"`, 0},
		{`"NaN"`, 0},
		{`"0x10p4"`, 0},
	} {
		w.provider.Set(func(sw *coretest.Switches) { sw.ExpiresIn = tt.sent })
		user := fmt.Sprintf("u%d", i)
		got := w.mustConnect(user, "ada", core.ConnectInput{}).ValidUntil
		if tt.want == 0 && !got.IsZero() || tt.want != 0 && !got.Equal(w.clock.Now().Add(tt.want)) {
			t.Errorf("expires_in %s: valid until %v, want %v from %v", tt.sent, got, tt.want, w.clock.Now())
		}
		if as, err := w.as(user, ""); as != "ada@example.com" {
			t.Errorf("expires_in %s: as = %q, %v", tt.sent, as, err)
		}
	}
}

func TestExchangeScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for i, tt := range []struct {
		name string
		sent any // nil: not at all
		want []string
	}{
		{"as asked for", "openid calendar", []string{"openid", "calendar"}},
		{"absent", nil, []string{"openid", "calendar"}},
		{"fewer", "calendar", []string{"calendar"}},
		{"more", "openid calendar mail", []string{"openid", "calendar", "mail"}},
		{"none", "", nil},
		{"commas", "a,b,c", []string{"a", "b", "c"}},
		{"commas and spaces", " a, b  c,", []string{"a", "b", "c"}},
		{"a list", []string{"a", "b"}, []string{"a", "b"}},
		{"an empty list", []string{}, nil},
		{"a list of other things", []any{"a", 1, nil}, []string{"a"}},
		{"a number", 5, []string{"openid", "calendar"}},
	} {
		w.provider.Set(func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"scope": tt.sent} })
		if got := w.mustConnect(fmt.Sprintf("u%d", i), "ada", core.ConnectInput{}).Scopes; !slices.Equal(got, tt.want) {
			t.Errorf("%s: scopes = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestExchangeFormEncoded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.provider.Set(func(sw *coretest.Switches) { sw.FormEncoded = true })
	got := w.mustConnect("u", "ada", core.ConnectInput{})
	if !got.ValidUntil.Equal(w.clock.Now().Add(time.Hour)) || !slices.Equal(got.Scopes, []string{"openid", "calendar"}) || got.Account.Subject != "ada" {
		t.Errorf("connected from a form = %+v", got)
	}
	w.clock.Advance(2 * time.Hour)
	if as, err := w.as("u", ""); as != "ada@example.com" {
		t.Errorf("as, after a refresh = %q, %v", as, err)
	}
}

func TestExchangeTokenTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for sent, want := range map[string]string{"Bearer": "Bearer", "bot": "bot", "bearer\r\nX: 1": "", "": "", strings.Repeat("x", 65): ""} {
		w.provider.Set(func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"token_type": sent} })
		user := "user " + sent
		w.mustConnect(user, "ada", core.ConnectInput{})
		token, err := w.engine.User(user).Token(t.Context(), core.Selector{Integration: calendar})
		if err != nil || token.Type != want {
			t.Errorf("token_type %q: %q, %v, want %q", sent, token.Type, err, want)
		}
	}
}

// strangeSecret has everything that a header or a form could trip over.
const strangeSecret = "canary +%&=:/?#é~\"'\\\x7f%2B"

func TestClientAuth(t *testing.T) {
	t.Parallel()
	strange := extraProvider(t, coretest.OAuthServerOptions{ClientID: "client:id +%é&", ClientSecret: strangeSecret})
	w := newWorld(t, nil, reach(strange))
	for _, tt := range []struct {
		auth  core.ClientAuth
		basic bool
	}{{"", true}, {core.ClientAuthBasic, true}, {core.ClientAuthBody, false}} {
		t.Run(string(tt.auth), func(t *testing.T) {
			name := "strange." + string(tt.auth)
			w.create(func(in *core.Integration) {
				in.Name, in.Identity = name, core.Identity{}
				in.OAuth2.ClientID, in.OAuth2.ClientSecret, in.OAuth2.ClientAuth = strange.ClientID(), crypto.NewSecret(strangeSecret), tt.auth
				in.OAuth2.AuthorizationURL, in.OAuth2.TokenURL, in.OAuth2.Issuer = strange.AuthorizationURL(), strange.TokenURL(), strange.Issuer()
				in.OAuth2.TokenParams = map[string]string{"audience": "api & more"}
			})
			w.mustConnect("u", "ada", core.ConnectInput{Integration: name})
			request, _ := strange.Last(coretest.EndpointExchange)
			if got := request.Header.Get("Authorization") != ""; got != tt.basic {
				t.Errorf("Authorization sent = %v, want %v", got, tt.basic)
			}
			if got := request.Form.Has("client_secret"); got == tt.basic {
				t.Errorf("client_secret in the form = %v, want %v", got, !tt.basic)
			}
			if got := request.Form.Get("client_id"); !tt.basic && got != strange.ClientID() {
				t.Errorf("client_id = %q, want %q", got, strange.ClientID())
			}
			if got := request.Form.Get("audience"); got != "api & more" || strings.Contains(request.URL, "?") {
				t.Errorf("audience = %q, URL %s, want it in the body", got, request.URL)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		w.create(func(in *core.Integration) {
			in.Name, in.OAuth2.ClientAuth, in.OAuth2.ClientSecret = "public", core.ClientAuthNone, crypto.Secret{}
			in.Identity = core.Identity{}
		})
		callback := w.mustBegin("u", "ada", core.ConnectInput{Integration: "public"})
		// The server registers no public client, so that its answer is given.
		w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = jsonAnswer(200, `{"access_token":"at-public"}`) })
		if _, err := w.finish(callback); err != nil {
			t.Error(err)
		}
		request, _ := w.provider.Last(coretest.EndpointExchange)
		if request.Header.Get("Authorization") != "" || request.Form.Has("client_secret") || request.Form.Get("client_id") != w.provider.ClientID() || request.Form.Get("code_verifier") == "" {
			t.Errorf("request of a public client = %+v, want client_id and code_verifier alone", request)
		}
	})
	t.Run("no secret", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.create(func(in *core.Integration) { in.Name, in.OAuth2.ClientSecret = "bare", crypto.Secret{} })
		_, err := w.connect("u", "ada", core.ConnectInput{Integration: "bare"})
		var failed *core.ProviderError
		if !errors.As(err, &failed) || failed.Op != "authorize" || !strings.Contains(err.Error(), "SetClientSecret") {
			t.Errorf("connect without a client secret: %v, want a ProviderError that names SetClientSecret", err)
		}
		w.wantExchanges(0)
	})
}

func TestClientSecretRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	set := func(secrets ...string) {
		t.Helper()
		var list []crypto.Secret
		for _, s := range secrets {
			list = append(list, crypto.NewSecret(s))
		}
		if err := w.note(w.engine.SetClientSecret(t.Context(), calendar, list...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, auth := range []core.ClientAuth{core.ClientAuthBasic, core.ClientAuthBody} {
		w.change(func(in *core.Integration) { in.OAuth2.ClientAuth = auth })
		set("canary-next", "canary-previous", clientSecret)
		before := w.provider.Calls().Exchange
		w.mustConnect("u "+string(auth), "ada", core.ConnectInput{})
		w.wantExchanges(before + 3)
		w.clock.Advance(2 * time.Hour) // a refresh goes the same way
		if as, err := w.as("u "+string(auth), ""); as != "ada@example.com" {
			t.Errorf("as, after a refresh = %q, %v", as, err)
		}

		set("canary-next", "canary-other")
		callback := w.mustBegin("v", "ada", core.ConnectInput{})
		_, err := w.finish(callback)
		w.wantFailed("two rejected secrets", err, core.ProviderError{
			Op: "exchange", Class: core.FailureTransient, Status: http.StatusUnauthorized, Code: "invalid_client", Reason: "client id or secret",
		})
		if got := w.list("v"); len(got) != 0 {
			t.Errorf("accounts = %v, want none", got)
		}
	}

	t.Run("answers with status 200", func(t *testing.T) {
		set("canary-next", clientSecret)
		callback := w.mustBegin("w", "ada", core.ConnectInput{})
		fault := jsonAnswer(200, `{"error":"incorrect_client_credentials"}`)
		fault.Times = 1
		w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = fault })
		before := w.provider.Calls().Exchange
		if _, err := w.finish(callback); err != nil {
			t.Errorf("Callback() = %v, want the second secret to be tried", err)
		}
		w.wantExchanges(before + 2)
	})
	t.Run("only a rejected client is asked again", func(t *testing.T) {
		set("canary-next", clientSecret)
		for i, fault := range []coretest.Fault{
			{Error: "invalid_grant"}, {Error: "server_error"}, jsonAnswer(500, ""), jsonAnswer(403, ""), {LostReply: true}, jsonAnswer(429, ""),
		} {
			callback := w.mustBegin("x", "ada", core.ConnectInput{})
			w.provider.Set(func(sw *coretest.Switches) { sw.Exchange = fault })
			before := w.provider.Calls().Exchange
			_, err := w.finish(callback)
			w.wantErr(fmt.Sprintf("fault %d", i), err, core.ErrProvider)
			w.wantExchanges(before + 1)
		}
	})
}

// The answer of an identity call that fails stores nothing, although the code is spent.
func TestIdentityCallFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for i, tt := range []struct {
		name  string
		fault coretest.Fault
		want  core.ProviderError
	}{
		{"500", jsonAnswer(500, "canary"), core.ProviderError{Class: core.FailureTransient, Status: 500}},
		{"401", jsonAnswer(401, `{"error":"canary"}`), core.ProviderError{Class: core.FailurePermanent, Status: 401}},
		{"429", jsonAnswer(429, ""), core.ProviderError{Class: core.FailureRateLimited, Status: 429}},
		{"redirect", coretest.Fault{Garbage: &coretest.Garbage{Status: 302, Header: map[string]string{"Location": "/canary"}}}, core.ProviderError{Class: core.FailureTransient, Status: 302}},
		{"HTML", coretest.Fault{Garbage: &coretest.Garbage{Body: "<b>canary"}}, core.ProviderError{Class: core.FailureTransient, Status: 200}},
		{"empty", jsonAnswer(200, ""), core.ProviderError{Class: core.FailureTransient, Status: 200}},
		{"list", jsonAnswer(200, `[{"sub":"ada"}]`), core.ProviderError{Class: core.FailureTransient, Status: 200}},
		{"null", jsonAnswer(200, `null`), core.ProviderError{Class: core.FailurePermanent, Reason: "no sub"}},
		{"huge", coretest.Fault{Garbage: &coretest.Garbage{ContentType: "application/json", Body: `{"sub":"ada"}`, Size: 2 << 20}}, core.ProviderError{Class: core.FailureTransient}},
		{"no subject", jsonAnswer(200, `{"name":"canary"}`), core.ProviderError{Class: core.FailurePermanent, Reason: "no sub"}},
		{"empty subject", jsonAnswer(200, `{"sub":""}`), core.ProviderError{Class: core.FailurePermanent, Reason: "no sub"}},
		{"object as subject", jsonAnswer(200, `{"sub":{"id":"canary"}}`), core.ProviderError{Class: core.FailurePermanent, Reason: "no sub"}},
		{"true as subject", jsonAnswer(200, `{"sub":true}`), core.ProviderError{Class: core.FailurePermanent, Reason: "no sub"}},
		{"long subject", jsonAnswer(200, `{"sub":"`+strings.Repeat("canary", 100)+`"}`), core.ProviderError{Class: core.FailurePermanent, Reason: "too long"}},
		{"cut", coretest.Fault{Garbage: &coretest.Garbage{Status: 200, ContentType: "application/json", Header: map[string]string{"Content-Length": "100"}, Body: `{"sub":"ada"}`}}, core.ProviderError{Class: core.FailureTransient}},
	} {
		user := fmt.Sprintf("u%d", i)
		callback := w.mustBegin(user, "ada", core.ConnectInput{})
		w.provider.Set(func(sw *coretest.Switches) { sw.UserInfo = tt.fault })
		_, err := w.finish(callback)
		tt.want.Op = "identity"
		w.wantFailed(tt.name, err, tt.want)
		w.provider.Set(func(sw *coretest.Switches) { sw.UserInfo = coretest.Fault{} })
		w.wantNothing(tt.name, user)
	}
}
