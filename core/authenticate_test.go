package core_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/permission"
	"github.com/polycred/polycred/core/usertoken"
)

// see lists what a handle sees, in the order in which it was connected.
func (d *entrance) see(u *core.User) []string {
	d.Helper()
	page, err := u.Credentials(d.Context(), core.ListInput{Limit: 1000})
	if err != nil {
		d.Fatal(d.note(err))
	}
	return idsOf(page.Credentials)
}

// wantSeen fails the test unless a handle sees exactly these accounts.
func (d *entrance) wantSeen(what string, u *core.User, want ...core.Credential) {
	d.Helper()
	if diff := cmp.Diff(idsOf(want), d.see(u)); diff != "" {
		d.Errorf("%s: accounts (-want +got):\n%s", what, diff)
	}
}

// A token that says nothing about permissions may do everything with the accounts of its user, but take tokens out.
func TestAuthenticate(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ctx, u := t.Context(), d.enter(usertoken.MintInput{})
	if u.ID() != "acme" {
		t.Errorf("ID() = %q, want acme", u.ID())
	}
	d.mail(d.engine.User("initech"), "bob", core.KeyInput{}) // nobody's business
	ada := d.mail(u, "ada", core.KeyInput{ExternalID: "work"})
	cyd := d.mustFlow(u, "cyd", core.ConnectInput{})
	d.wantSeen("without a claim", u, ada, cyd)
	sel := core.Selector{Integration: "mail", Credential: "work"}
	client, err := u.Client(ctx, sel)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.me(client); err != nil || got != "ada@example.com" {
		t.Errorf("a request as work = %q, %v, want ada's", got, err)
	}
	for what, do := range map[string]func() error{
		"Upstream":   func() error { return ignore(u.Upstream(ctx, sel)) },
		"Authorize":  func() error { return ignore(u.Authorize(ctx, permission.Workflow, sel)) },
		"Rename":     func() error { return ignore(u.Rename(ctx, sel, core.RenameInput{Label: new("At work")})) },
		"UpdateMeta": func() error { return ignore(u.UpdateMeta(ctx, map[string]any{"Name": "Ada"})) },
		"UpdateConfiguration": func() error {
			return ignore(u.UpdateConfiguration(ctx, sel, core.ConfigurationUpdate{Settings: map[string]any{"folder": "inbox", "secret": "canary-secret"}}))
		},
	} {
		if err := do(); err != nil {
			t.Errorf("%s() = %v", what, err)
		}
	}
	if err := u.Disconnect(ctx, core.Selector{Credential: cyd.ID}); err != nil {
		t.Errorf("Disconnect() = %v", err)
	}
	d.wantSeen("after a disconnect", u, ada)
	// The program's own switches are for no token.
	d.wantErr("Disable", u.Disable(ctx, sel), core.ErrPermission)
	_, err = u.As("bob").Credentials(ctx, core.ListInput{})
	d.wantErr("acting as somebody else", err, core.ErrPermission)
}

// Tokens and passwords leave with credential:token, which has to be named.
func TestSecurity16_RawTokens(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ctx := t.Context()
	for _, account := range []core.Credential{
		d.mail(d.engine.User("acme"), "ada", core.KeyInput{}), d.mustConnect("acme", "bob", core.ConnectInput{Integration: calendar}),
	} {
		_, err := d.engine.User("acme").UpdateConfiguration(ctx, core.Selector{Credential: account.ID},
			core.ConfigurationUpdate{Settings: map[string]any{"secret": "canary-secret"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		claim          string
		mail, calendar bool
	}{
		"no claim":          {"", false, false},
		"true":              {`{"integration:*": true}`, false, false},
		"true, deeper":      {`{"integration:mail": {"credential:*": {"configuration:*": true}}, "integration:*": {"credential:*": true}}`, false, false},
		"a list without it": {`{"integration:*": ["credential:read", "credential:write", "configuration:read", "proxy"]}`, false, false},
		"named":             {`{"integration:*": ["credential:read", "configuration:read", "credential:token"]}`, true, true},
		"named for one":     {`{"integration:*": true, "integration:mail": {"credential:*": ["credential:read", "configuration:read", "credential:token"]}}`, true, false},
		"taken back":        {`{"integration:*": ["credential:read", "configuration:read", "credential:token"], "integration:mail": true}`, false, true},
	} {
		in := usertoken.MintInput{}
		if tt.claim != "" {
			in = claims(tt.claim)
		}
		u := d.enter(in)
		for integration, want := range map[string]bool{"mail": tt.mail, calendar: tt.calendar} {
			sel := core.Selector{Integration: integration}
			var wantErr error
			if !want {
				wantErr = core.ErrPermission
			}
			token, err := u.Token(ctx, sel)
			d.wantErr(name+": Token of "+integration, err, wantErr)
			if leaked := !token.Value.IsZero(); leaked != want {
				t.Errorf("%s: Token of %s gave one: %t, want %t", name, integration, leaked, want)
			}
			source, err := u.TokenSource(ctx, sel)
			d.wantErr(name+": TokenSource of "+integration, err, wantErr)
			if (source != nil) != want {
				t.Errorf("%s: TokenSource of %s = %v", name, integration, source)
			}
			if _, err = u.Password(ctx, sel, "settings.secret"); !strings.Contains(tt.claim, "credential:token") {
				d.wantErr(name+": Password of "+integration, err, core.ErrPermission)
			}
		}
	}
}

// A claim says what there is for its token, and the same as JSON in a text says the same.
func TestAuthenticateNarrows(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ctx := t.Context()
	ada := d.mail(d.engine.User("acme"), "ada", core.KeyInput{ExternalID: "work"})
	bob := d.mail(d.engine.User("acme"), "bob", core.KeyInput{ExternalID: "home"})
	cyd := d.mustConnect("acme", "cyd", core.ConnectInput{})
	for name, tt := range map[string]struct {
		claim    string
		sees     []core.Credential
		uses     []core.Credential
		connects []string
	}{
		"nothing":         {`{}`, nil, nil, nil},
		"false":           {`{"integration:*": false}`, nil, nil, nil},
		"read":            {`{"integration:*": ["credential:read"]}`, []core.Credential{ada, bob, cyd}, nil, nil},
		"use":             {`{"integration:mail": ["credential:read", "proxy"]}`, []core.Credential{ada, bob}, []core.Credential{ada, bob}, nil},
		"use, not seeing": {`{"integration:*": ["proxy"]}`, nil, nil, nil},
		"one account": {
			`{"integration:mail": {"credential:ext:work": ["credential:read", "proxy:request"]}}`, []core.Credential{ada}, []core.Credential{ada}, nil,
		},
		"all but one": {
			`{"integration:*": true, "integration:mail": {"credential:*": true, "credential:` + bob.ID + `": false}}`,
			[]core.Credential{ada, cyd}, []core.Credential{ada, cyd}, []string{"mail", calendar},
		},
		"connect": {`{"integration:mail": ["credential:read", "credential:write"]}`, []core.Credential{ada, bob}, nil, []string{"mail"}},
	} {
		for form, in := range map[string]usertoken.MintInput{"object": claims(tt.claim), "text": {Permissions: tt.claim}} {
			u := d.enter(in)
			what := name + " as " + form
			d.wantSeen(what, u, tt.sees...)
			for _, account := range []core.Credential{ada, bob, cyd} {
				sel := core.Selector{Credential: account.ID}
				var want error
				switch {
				case !slices.Contains(idsOf(tt.sees), account.ID):
					want = core.ErrNotFound
				case !slices.Contains(idsOf(tt.uses), account.ID):
					want = core.ErrPermission
				}
				d.wantErr(what+": Client of "+account.ExternalID, ignore(u.Client(ctx, sel)), want)
				d.wantErr(what+": Upstream of "+account.ExternalID, ignore(u.Upstream(ctx, sel)), want)
			}
			for _, integration := range []string{"mail", calendar} {
				var want error
				if !slices.Contains(tt.connects, integration) {
					want = core.ErrPermission
				}
				var err error
				if integration == "mail" {
					var c core.Credential
					if c, err = d.tryMail(u, "login of "+what, core.KeyInput{}); err == nil {
						err = d.engine.User("acme").Disconnect(ctx, core.Selector{Credential: c.ID})
					}
				} else {
					_, err = d.start(u, core.ConnectInput{AllowMultiple: true})
				}
				d.wantErr(what+": connecting "+integration, err, want)
			}
		}
	}
}

// What a person connected is theirs: with credential:owner they make, see and use it, and what others of the same user
// connected is not there for them.
func TestAuthenticateOwner(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ctx := t.Context()
	own := func(person string) *core.User {
		return d.enter(usertoken.MintInput{Person: person, Permissions: raw(`{"integration:*": {"credential:owner": true}}`)})
	}
	pat, kim := own("pat"), own("kim")
	hers := d.mail(pat, "ada", core.KeyInput{ExternalID: "hers"})
	his := d.mail(kim, "bob", core.KeyInput{ExternalID: "his"})
	oauth := d.mustFlow(pat, "cyd", core.ConnectInput{})
	if hers.Owner != "pat" || his.Owner != "kim" || oauth.Owner != "pat" {
		t.Errorf("owners = %q, %q, %q, want pat, kim, pat", hers.Owner, his.Owner, oauth.Owner)
	}
	d.wantSeen("pat", pat, hers, oauth)
	d.wantSeen("kim", kim, his)
	d.wantSeen("everybody", d.enter(usertoken.MintInput{}), hers, his, oauth)
	for name, sel := range map[string]core.Selector{
		"id": {Credential: hers.ID}, "external id": {Integration: "mail", Credential: "hers"}, "configuration": {Configuration: hers.ID},
	} {
		for method, c := range guarded {
			if c.own || method == "CreateConfiguration" {
				continue
			}
			d.wantErr(method+" of pat's account by "+name, c.do(ctx, kim, sel), core.ErrNotFound)
		}
	}
	if got, err := kim.Credential(ctx, core.Selector{Integration: "mail"}); err != nil || got.ID != his.ID {
		t.Errorf("the only account that kim sees = %s, %v, want %s", got.ID, err, his.ID)
	}
	_, err := d.tryMail(kim, "ada", core.KeyInput{}) // the same provider account
	d.wantErr("connecting what is pat's", err, core.ErrHiddenConflict)
	d.wantSeen("pat, after that", pat, hers, oauth)

	// A token that names no person owns nothing, and can make nothing.
	nobody := d.enter(claims(`{"integration:*": {"credential:owner": true}}`))
	d.wantSeen("nobody", nobody)
	_, err = d.tryMail(nobody, "dan", core.KeyInput{})
	d.wantErr("connecting as nobody", err, core.ErrPermission)
}

// Who is not let in is told why, as one of few kinds.
func TestAuthenticateRefuses(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	e, good := d.engine, d.mint(usertoken.MintInput{})
	for name, tt := range map[string]struct {
		token string
		want  error
	}{
		"nothing":             {"", usertoken.ErrToken},
		"no token":            {"not a token", usertoken.ErrToken},
		"another key":         {d.mintWith(1, usertoken.MintInput{}), usertoken.ErrToken},
		"another project":     {d.mint(usertoken.MintInput{Project: "0192f0c1-7e3a-7000-8000-000000000001"}), usertoken.ErrToken},
		"a long life":         {d.mint(usertoken.MintInput{Lifetime: 24*time.Hour + time.Second}), usertoken.ErrToken},
		"an iss of its own":   {d.mint(usertoken.MintInput{Claims: map[string]any{"iss": "https://app.example.com"}}), nil},
		"an unknown policy":   {d.mint(usertoken.MintInput{Policy: "nobody"}), usertoken.ErrToken},
		"a cut token":         {good[:len(good)-2], usertoken.ErrToken},
		"an unknown scope":    {d.mint(claims(`{"integrations:*": true}`)), core.ErrPermission},
		"an unknown action":   {d.mint(claims(`{"integration:*": ["read"]}`)), core.ErrPermission},
		"user:write, misused": {d.mint(claims(`{"integration:mail": ["user:write"]}`)), core.ErrPermission},
		"a number":            {d.mint(claims(`7`)), core.ErrPermission},
		"a text that is none": {d.mint(usertoken.MintInput{Permissions: "all"}), core.ErrPermission},
	} {
		d.refused(name, e, tt.token, tt.want)
	}
	for _, want := range []error{nil, usertoken.ErrExpired} {
		d.refused("as time goes by", e, good, want)
		d.clock.Advance(time.Hour)
	}
	if err := e.DisableUser(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	d.refused("a disabled user", e, d.mint(usertoken.MintInput{}), core.ErrDisabled)
	d.refused("another user", e, d.mint(usertoken.MintInput{User: "initech"}), nil)

	// What is malformed is nobody's fault but the token's: no error of the engine, and no permission.
	_, err := d.try(e, d.mint(claims(`{"integration:*": ["credential:everything"]}`)))
	if err == nil || !strings.Contains(err.Error(), "integration:*") {
		t.Errorf("Authenticate(an unknown permission) = %v, want an error that says where", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	d.refused("a closed engine", e, d.mint(usertoken.MintInput{User: "initech"}), core.ErrClosed)
}

// A project says how long its tokens may live.
func TestSecurity13_TokenLifetime(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, func(o *core.Options) { o.TokenLifetime = 7 * 24 * time.Hour })
	d.refused("a week", d.engine, d.mint(usertoken.MintInput{Lifetime: 7 * 24 * time.Hour}), nil)
	d.refused("more than a week", d.engine, d.mint(usertoken.MintInput{Lifetime: 7*24*time.Hour + time.Second}), usertoken.ErrToken)
}

// A policy stands in for a claim, filled with what the token says.
func TestAuthenticatePolicy(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ctx := t.Context()
	red := d.mail(d.engine.User("acme"), "ada", core.KeyInput{ExternalID: "team-red"})
	blue := d.mail(d.engine.User("acme"), "bob", core.KeyInput{ExternalID: "team-blue"})
	hers := d.mail(d.engine.User("acme").As("pat"), "cyd", core.KeyInput{})
	if _, err := d.engine.SetPolicy(ctx, core.Policy{Name: "member", Document: []byte(
		`{"integration:*": {"credential:owner": true, "credential:ext:team-{{claims.team}}": ["credential:read", "proxy"]}}`,
	)}); err != nil {
		t.Fatal(err)
	}
	member := func(claims map[string]any) usertoken.MintInput {
		return usertoken.MintInput{Policy: "member", Person: "pat", Claims: claims}
	}
	d.wantSeen("red", d.enter(member(map[string]any{"team": "red"})), red, hers)
	u := d.enter(member(map[string]any{"team": "blue"}))
	d.wantSeen("blue", u, blue, hers)
	_, err := u.Rename(ctx, core.Selector{Credential: blue.ID}, core.RenameInput{Label: new("ours")})
	d.wantErr("Rename of the team's", err, core.ErrPermission)
	if _, err := u.Rename(ctx, core.Selector{Credential: hers.ID}, core.RenameInput{Label: new("mine")}); err != nil {
		t.Errorf("Rename of one's own = %v", err)
	}
	for name, claims := range map[string]map[string]any{
		"missing": {}, "empty": {"team": ""}, "star": {"team": "*"}, "number": {"team": 7}, "list": {"team": []any{"red"}}, "keyword": {"team": "owner"},
		"null": {"team": nil},
	} {
		token := d.mint(member(claims))
		d.refused("policy with a claim that is "+name, d.engine, token, usertoken.ErrToken)
		if _, err := d.try(d.engine, token); err == nil || !strings.Contains(err.Error(), "team") {
			t.Errorf("Authenticate(%s) = %v, want an error that names the claim", name, err)
		}
	}
}

// What is done with a token is told under its person and id, and so is what a session comes to that it began.
func TestSecurity25_TokensInEvents(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ctx := t.Context()
	u := d.enter(usertoken.MintInput{Person: "pat", Claims: map[string]any{"jti": "token-7"}})
	after := uint64(len(d.events(0)))
	account := d.mail(u, "ada", core.KeyInput{})
	d.mustFlow(u, "bob", core.ConnectInput{})
	if _, err := u.UpdateMeta(ctx, map[string]any{"Name": "Pat"}); err != nil {
		t.Fatal(err)
	}
	client, err := u.Client(ctx, core.Selector{Credential: account.ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.me(client); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(time.Minute)
	kinds := map[core.EventKind]int{}
	for _, ev := range d.events(after) {
		if kinds[ev.Kind]++; ev.Actor != (core.Actor{Type: core.ActorUser, Person: "pat", TokenID: "token-7"}) {
			t.Errorf("%s is told of %+v, want pat with token-7", ev.Kind, ev.Actor)
		}
	}
	want := map[core.EventKind]int{core.EventConnected: 2, core.EventUserUpdated: 1, core.EventUsed: 1}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// May is the first check, before anything is read.
func TestMay(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	u := d.enter(claims(`{"integration:mail": {"credential:ext:work": ["proxy", "credential:read"]}}`))
	for _, tt := range []struct {
		p           permission.Permission
		integration string
		want        bool
	}{
		{permission.Proxy, "mail", true}, {permission.Proxy, "", true}, {permission.Proxy, calendar, false},
		{permission.Workflow, "mail", false}, {permission.CredentialToken, "", false}, {permission.UserWrite, "", false},
	} {
		if got := u.May(tt.p, tt.integration); got != tt.want {
			t.Errorf("May(%s, %q) = %t, want %t", tt.p, tt.integration, got, tt.want)
		}
	}
	all := d.enter(usertoken.MintInput{})
	if !all.May(permission.UserWrite, "") || !all.May(permission.Sync, calendar) || all.May(permission.CredentialToken, "") {
		t.Error("May of a token without claim: want everything but credential:token")
	}
	if !d.engine.User("acme").May(permission.CredentialToken, "mail") {
		t.Error("May of the unrestricted handle = false")
	}
	// The one that counts is Authorize.
	work := d.mail(d.engine.User("acme"), "ada", core.KeyInput{ExternalID: "work"})
	home := d.mail(d.engine.User("acme"), "bob", core.KeyInput{ExternalID: "home"})
	if got, err := u.Authorize(t.Context(), permission.Proxy, core.Selector{Integration: "mail"}); err != nil || got.ID != work.ID {
		t.Errorf("Authorize(proxy, mail) = %s, %v, want %s", got.ID, err, work.ID)
	}
	d.wantErr("Authorize(workflow)", ignore(u.Authorize(t.Context(), permission.Workflow, core.Selector{Credential: work.ID})), core.ErrPermission)
	d.wantErr("Authorize(invisible)", ignore(u.Authorize(t.Context(), permission.Proxy, core.Selector{Credential: home.ID})), core.ErrNotFound)
}
