package core_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// fields sets what the provider adds to its token answers.
func (w *world) fields(fields map[string]any) {
	w.provider.Set(func(sw *coretest.Switches) { sw.ExtraTokenFields = fields })
}

// claims sets what the provider adds to its id_tokens.
func (w *world) claims(claims map[string]any) {
	w.provider.Set(func(sw *coretest.Switches) { sw.ExtraClaims = claims })
}

func TestIdentityFromUserInfo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	want := core.ProviderAccount{Issuer: w.provider.Issuer(), Subject: "ada", Display: "ada@example.com"}
	if got := w.mustConnect("u", "ada", core.ConnectInput{}).Account; got != want {
		t.Errorf("account = %+v, want %+v", got, want)
	}
	t.Run("without issuer the host stands for it", func(t *testing.T) {
		w.change(func(in *core.Integration) { in.OAuth2.Issuer = "" })
		want.Issuer = w.provider.Host()
		if got := w.mustConnect("v", "ada", core.ConnectInput{}).Account; got != want {
			t.Errorf("account = %+v, want %+v", got, want)
		}
	})
	t.Run("about another account than the id_token", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		callback := w.mustBegin("u", "ada", core.ConnectInput{})
		w.provider.Set(func(sw *coretest.Switches) { sw.UserInfo = jsonAnswer(200, `{"sub":"bob"}`) })
		_, err := w.finish(callback)
		w.wantFailed("userinfo about bob", err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "different accounts"})
		w.provider.Set(func(sw *coretest.Switches) { sw.UserInfo = coretest.Fault{} })
		w.wantNothing("userinfo about bob", "u")
	})
	t.Run("of another kind than the id_token", func(t *testing.T) { // "who am I" that has no sub is compared with nothing
		w := newWorld(t, nil, nil)
		w.change(func(in *core.Integration) {
			in.Identity = core.Identity{Source: core.IdentityURL, URL: w.provider.APIURL() + "/me", SubjectPath: "account"}
		})
		if got := w.mustConnect("u", "ada", core.ConnectInput{}).Account.Subject; got != "ada@example.com" {
			t.Errorf("subject = %q, want the account's name", got)
		}
	})
}

func TestIdentityFromIDToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.provider.AddAccount(coretest.Account{Login: "ada.corp", Subject: "ada", Tenant: "corp", Name: "Ada"})
	w.change(func(in *core.Integration) {
		in.Identity = core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub", TenantPath: "tenant", DisplayPath: "name", TenantOptional: true}
	})
	home := w.mustConnect("u", "ada", core.ConnectInput{})
	corp := w.mustConnect("u", "ada.corp", core.ConnectInput{AllowMultiple: true})
	if want := (core.ProviderAccount{Issuer: w.provider.Issuer(), Tenant: "corp", Subject: "ada", Display: "Ada"}); corp.Account != want {
		t.Errorf("account = %+v, want %+v", corp.Account, want)
	}
	if home.ID == corp.ID || home.Account.Tenant != "" {
		t.Errorf("the same subject in two tenants is %s and %s, want two accounts", home.ID, corp.ID)
	}
	if got := w.provider.Calls().UserInfo; got != 0 {
		t.Errorf("userinfo was called %d times, want 0", got)
	}
	w.claims(map[string]any{"tenant": "elsewhere"})
	_, err := w.connect("u", "ada", core.ConnectInput{Into: corp.ID})
	w.wantErr("the same subject of another tenant", err, core.ErrAccountMismatch)
	w.claims(nil)

	now := w.clock.Now().Unix()
	for i, tt := range []struct {
		name   string
		claims map[string]any
		reason string // empty: accepted
	}{
		{"another issuer", map[string]any{"iss": "https://canary.example.com"}, "another issuer"},
		{"an issuer with a slash more", map[string]any{"iss": w.provider.Issuer() + "/"}, "another issuer"},
		{"no issuer", map[string]any{"iss": nil}, "issuer"},
		{"a number as issuer", map[string]any{"iss": 5}, "issuer"},
		{"another audience", map[string]any{"aud": "canary"}, "another client"},
		{"no audience", map[string]any{"aud": nil}, "another client"},
		{"an empty audience", map[string]any{"aud": []string{}}, "another client"},
		{"an audience of several", map[string]any{"aud": []string{"other", w.provider.ClientID()}}, ""},
		{"an audience of others", map[string]any{"aud": []string{"other", "more"}}, "another client"},
		{"expired", map[string]any{"exp": now - 121}, "expired"},
		{"expired within the leeway", map[string]any{"exp": now - 119}, ""},
		{"expired long ago", map[string]any{"exp": 1}, "expired"},
		{"no end", map[string]any{"exp": nil}, "expired"},
		{"an end in words", map[string]any{"exp": "tomorrow"}, "expired"},
		{"another nonce", map[string]any{"nonce": "canary"}, "another session"},
		{"an empty nonce", map[string]any{"nonce": ""}, "another session"},
		{"a number as nonce", map[string]any{"nonce": 5}, "another session"},
		{"no subject", map[string]any{"sub": nil}, "no sub"},
		{"an empty subject", map[string]any{"sub": ""}, "no sub"},
		{"a list as subject", map[string]any{"sub": []string{"canary"}}, "no sub"},
		{"a number as subject", map[string]any{"sub": json.Number("9007199254740993")}, ""},
	} {
		user := fmt.Sprintf("u%d", i)
		callback := w.mustBegin(user, "ada", core.ConnectInput{})
		w.claims(tt.claims)
		result, err := w.finish(callback)
		w.claims(nil)
		if tt.reason == "" {
			if err != nil {
				t.Errorf("%s: %v, want it accepted", tt.name, err)
			} else if _, number := tt.claims["sub"]; number && result.Credential.Account.Subject != "9007199254740993" {
				t.Errorf("%s: subject = %q, want it exact", tt.name, result.Credential.Account.Subject)
			}
			continue
		}
		w.wantFailed(tt.name, err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: tt.reason})
		w.wantNothing(tt.name, user)
	}

	for i, raw := range []any{nil, "", "canary", "a.b.c", "..", 5, "eyJhbGciOiJFUzI1NiJ9.e30.x", strings.Repeat("canary.", 3)} {
		user := fmt.Sprintf("raw%d", i)
		callback := w.mustBegin(user, "ada", core.ConnectInput{})
		w.fields(map[string]any{"id_token": raw})
		_, err := w.finish(callback)
		w.fields(nil)
		w.wantFailed(fmt.Sprintf("id_token %v", raw), err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "id_token"})
		w.wantNothing(fmt.Sprintf("id_token %v", raw), user)
	}
}

// Where no issuer is configured, the id_token has to name one: a subject means nothing without (security 10).
func TestSecurity10_IDTokenWithoutIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) {
		in.OAuth2.Issuer, in.Identity = "", core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub"}
	})
	for _, iss := range []any{nil, "", 5} {
		callback := w.mustBegin("u", "ada", core.ConnectInput{})
		w.claims(map[string]any{"iss": iss})
		_, err := w.finish(callback)
		w.wantFailed(fmt.Sprintf("iss %v", iss), err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "issuer"})
	}
	w.claims(map[string]any{"iss": "https://one.example.com"})
	one := w.mustConnect("u", "ada", core.ConnectInput{})
	w.claims(map[string]any{"iss": "https://two.example.com"})
	two := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true})
	if one.ID == two.ID || one.Account.Issuer != "https://one.example.com" || two.Account.Issuer != "https://two.example.com" {
		t.Errorf("one subject of two issuers = %+v and %+v, want two accounts", one, two)
	}
}

func TestIdentityFromTokenAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) {
		in.OAuth2.Issuer = ""
		in.Identity = core.Identity{Source: core.IdentityToken, SubjectPath: "authed_user.id", TenantPath: "team.id", DisplayPath: "team.name"}
	})
	answer := func(user, team any) map[string]any {
		return map[string]any{"authed_user": map[string]any{"id": user}, "team": map[string]any{"id": team, "name": "Team"}}
	}
	w.fields(answer(json.Number("9007199254740993"), "T1"))
	first := w.mustConnect("u", "ada", core.ConnectInput{})
	if want := (core.ProviderAccount{Issuer: w.provider.Host(), Tenant: "T1", Subject: "9007199254740993", Display: "Team"}); first.Account != want {
		t.Errorf("account = %+v, want %+v", first.Account, want)
	}
	// Next to it, which a float cannot tell apart.
	w.fields(answer(json.Number("9007199254740992"), "T1"))
	second := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true})
	w.fields(answer(json.Number("9007199254740993"), "T2"))
	third := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true})
	w.fields(answer("9007199254740993", "T1"))
	again := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true})
	if first.ID == second.ID || first.ID == third.ID || second.ID == third.ID || again.ID != first.ID {
		t.Errorf("credentials %s, %s, %s and %s, want three, the last one the first again", first.ID, second.ID, third.ID, again.ID)
	}
	// The parts of an identity do not run into each other.
	w.fields(answer("1", "T1"))
	a := w.mustConnect("v", "ada", core.ConnectInput{})
	w.fields(answer("", "T11"))
	_, err := w.connect("v", "ada", core.ConnectInput{AllowMultiple: true})
	w.wantFailed("no subject", err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "authed_user.id"})
	w.fields(answer("11", "T"))
	if b := w.mustConnect("v", "ada", core.ConnectInput{AllowMultiple: true}); a.ID == b.ID {
		t.Errorf("two accounts are one credential, %s", a.ID)
	}

	for name, fields := range map[string]map[string]any{
		"nothing":      {},
		"not nested":   {"authed_user": "canary", "authed_user.id": "canary"},
		"another name": {"authed_user": map[string]any{"ID": "canary"}},
		"null":         answer(nil, "T1"),
		"a list":       answer([]string{"canary"}, "T1"),
	} {
		w.fields(fields)
		_, err := w.connect("w", "ada", core.ConnectInput{})
		w.wantFailed(name, err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "authed_user.id"})
	}
	w.fields(answer("1", strings.Repeat("canary", 100)))
	_, err = w.connect("w", "ada", core.ConnectInput{})
	w.wantFailed("a long tenant", err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "too long"})
	w.fields(answer("1", "T1"))
	w.wantNothing("answers without a subject", "w")
}

func TestDisplayName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) {
		in.Identity = core.Identity{Source: core.IdentityToken, SubjectPath: "id", DisplayPath: "name"}
	})
	for i, tt := range []struct {
		sent any
		want string
	}{
		{"  Ada Lovelace  ", "Ada Lovelace"},
		{"Ada\r\nLovelace\t\x00\x1b[31m", "AdaLovelace[31m"},
		{"Ada\u202eecalevoL\u200b\u2028", "AdaecalevoL"},
		{"愛達 Ünïcode 👩‍💻", "愛達 Ünïcode 👩💻"},
		{strings.Repeat("ä", 500), strings.Repeat("ä", 200)},
		{strings.Repeat("x", 200000), strings.Repeat("x", 200)},
		{" \n ", ""},
		{"<b>x</b>", "<b>x</b>"}, // escaping is the page's
		{nil, ""},
		{[]string{"x"}, ""},
		{42, "42"},
	} {
		w.fields(map[string]any{"id": "ada", "name": tt.sent})
		if got := w.mustConnect(fmt.Sprintf("u%d", i), "ada", core.ConnectInput{}).Account.Display; got != tt.want {
			t.Errorf("display of %.40q = %q, want %q", tt.sent, got, tt.want)
		}
	}
	w.provider.Set(func(sw *coretest.Switches) { sw.FormEncoded = true })
	w.fields(map[string]any{"id": "a\xffb", "name": "A\xffb"})
	got := w.mustConnect("form", "ada", core.ConnectInput{}).Account
	if got.Display != "Ab" && got.Display != "A�b" {
		t.Errorf("display of what is no UTF-8 = %q, want it cleaned", got.Display)
	}
	if list := w.list("form"); len(list) != 1 || list[0].Account != got {
		t.Errorf("listed = %+v, want %+v", list, got)
	}
}

// An id_token that nobody asked for and nobody needs is not looked at.
func TestIDTokenNotNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) { in.OAuth2.Issuer, in.Identity.SubjectPath = "", "sub" })
	w.fields(map[string]any{"id_token": "garbage"})
	w.mustConnect("u", "ada", core.ConnectInput{})

	w.fields(nil)
	w.change(func(in *core.Integration) { in.OAuth2.Issuer = w.provider.Issuer() })
	callback := w.mustBegin("v", "ada", core.ConnectInput{})
	w.clock.Advance(30 * time.Second)
	w.fields(map[string]any{"id_token": "garbage"})
	_, err := w.finish(callback)
	w.wantFailed("garbage where an issuer is known", err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "cannot be read"})
}
