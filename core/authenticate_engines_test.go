package core_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// A session that a token began may no more than that token, whichever engine the callback comes to, also after the token's
// time.
func TestSecurity9_SessionsOfTokens(t *testing.T) {
	t.Parallel()
	const owner = `{"integration:*": {"credential:owner": true}}`
	for name, tt := range map[string]struct {
		claim  string
		person string
		login  string // who consents; bob is connected by kim
		want   error
	}{
		"owner":                        {owner, "pat", "ada", nil},
		"owner, to another's account":  {owner, "pat", "bob", core.ErrHiddenConflict},
		"write":                        {`{"integration:googleCalendar": ["credential:read", "credential:write"]}`, "", "ada", nil},
		"write, to a visible account":  {`{"integration:googleCalendar": ["credential:read", "credential:write"]}`, "", "bob", nil},
		"write, but not that account":  {`{"integration:*": {"credential:*": true, "credential:ext:kims": false}}`, "pat", "bob", core.ErrHiddenConflict},
		"everything":                   {`{"integration:*": true}`, "pat", "bob", nil},
		"everything of no one at once": {`{"integration:*": {"credential:*": true}}`, "", "ada", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newEntrance(t, nil, nil)
			kims := d.mustFlow(d.engine.User("acme").As("kim"), "bob", core.ConnectInput{ExternalID: "kims"})
			u := d.enter(usertoken.MintInput{Person: tt.person, Permissions: raw(tt.claim), Lifetime: time.Minute})
			session, err := d.start(u, core.ConnectInput{AllowMultiple: true})
			if err != nil {
				t.Fatal(err)
			}
			other := d.open()
			d.clock.Advance(5 * time.Minute) // the token has expired, and the session has not
			callback := d.consent(session, tt.login, calendar, "the browser")
			result, err := other.Callback(t.Context(), callback)
			d.wantErr("Callback", err, tt.want)
			_, again := d.engine.Callback(t.Context(), callback)
			d.wantErr("Callback, again", again, tt.want)
			want := 1
			if tt.want == nil && tt.login == "ada" {
				if want = 2; result.Credential.Owner != tt.person {
					t.Errorf("Owner = %q, want %q", result.Credential.Owner, tt.person)
				}
			}
			all := d.everyone()
			if len(all) != want || all[0].ID != kims.ID || all[0].Owner != "kim" {
				t.Errorf("accounts = %v, want %d, the first of them kim's", all, want)
			}
		})
	}
}

// What an operator ends is ended at once in the same engine, and within 5 seconds in another one, also for tokens that both
// have just verified (security 13).
func TestSecurity13_Revocation(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		end  func(ctx context.Context, d *entrance) error
		want error
	}{
		"revoke the key":    {func(ctx context.Context, d *entrance) error { return d.engine.RevokeSigningKey(ctx, d.key.ID) }, usertoken.ErrToken},
		"delete the policy": {func(ctx context.Context, d *entrance) error { return d.engine.DeletePolicy(ctx, "p") }, usertoken.ErrToken},
		"disable the user":  {func(ctx context.Context, d *entrance) error { return d.engine.DisableUser(ctx, "acme") }, core.ErrDisabled},
		"replace the policy": {func(ctx context.Context, d *entrance) error {
			return d.replacePolicy(`{"integration:*": {"credential:ext:{{claims.none}}": true}}`)
		}, usertoken.ErrToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newEntrance(t, nil, nil)
			if _, err := d.engine.SetPolicy(t.Context(), core.Policy{Name: "p", Document: []byte(`{"integration:*": true}`)}); err != nil {
				t.Fatal(err)
			}
			other, token := d.open(), d.mint(usertoken.MintInput{Policy: "p"})
			for _, e := range []*core.Engine{d.engine, other, d.engine, other} {
				d.refused("before", e, token, nil)
			}
			if err := tt.end(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			d.refused("at once", d.engine, token, tt.want)
			d.clock.Advance(5 * time.Second)
			d.refused("in another engine, 5 seconds later", other, token, tt.want)
		})
	}
}

func (d *entrance) replacePolicy(document string) error {
	policies, err := d.engine.Policies(d.Context())
	if err != nil || len(policies) != 1 {
		return fmt.Errorf("Policies() = %v, %w, want one", policies, err)
	}
	policies[0].Document = []byte(document)
	_, err = d.engine.SetPolicy(d.Context(), policies[0])
	return err
}

// A policy that is edited narrows the next request of every token that names it; a handle lasts for one request, and a
// session keeps what its token was allowed.
func TestSecurity13_EditedPolicy(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	ada := d.mail(d.engine.User("acme"), "ada", core.KeyInput{})
	if _, err := d.engine.SetPolicy(t.Context(), core.Policy{Name: "p", Document: []byte(`{"integration:*": true}`)}); err != nil {
		t.Fatal(err)
	}
	other, token := d.open(), d.mint(usertoken.MintInput{Policy: "p"})
	enter := func(e *core.Engine) *core.User {
		t.Helper()
		u, err := d.try(e, token)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	d.wantSeen("before", enter(d.engine), ada)
	u := enter(other)
	d.wantSeen("before, elsewhere", u, ada)
	session, err := d.start(u, core.ConnectInput{AllowMultiple: true})
	if err != nil {
		t.Fatal(err)
	}
	callback := d.consent(session, "bob", calendar, "the browser")
	if err := d.replacePolicy(`{"integration:googleCalendar": ["credential:read"]}`); err != nil {
		t.Fatal(err)
	}
	d.wantSeen("at once", enter(d.engine))
	d.clock.Advance(5 * time.Second)
	d.wantSeen("elsewhere, 5 seconds later", enter(other))
	result, err := other.Callback(t.Context(), callback)
	if err != nil {
		t.Fatalf("Callback of a session from before = %v", err)
	}
	d.wantSeen("at last", enter(other), result.Credential)
	_, err = d.start(enter(other), core.ConnectInput{AllowMultiple: true})
	d.wantErr("beginning another", err, core.ErrPermission)
}

// A key that is added is known at once here, and within 5 seconds elsewhere; one that is revoked and added again lets
// nothing in that was not verified anew.
func TestAddedKeyElsewhere(t *testing.T) {
	t.Parallel()
	d := newEntrance(t, nil, nil)
	other, token := d.open(), d.mintWith(1, usertoken.MintInput{})
	for _, e := range []*core.Engine{d.engine, other} {
		d.refused("before", e, token, usertoken.ErrToken)
	}
	key := d.addKeyOf(d.engine, 1)
	d.refused("at once", d.engine, token, nil)
	d.clock.Advance(5 * time.Second)
	d.refused("elsewhere, 5 seconds later", other, token, nil)
	if err := other.RevokeSigningKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(5 * time.Second)
	for _, e := range []*core.Engine{d.engine, other} {
		d.refused("after it was revoked", e, token, usertoken.ErrToken)
		d.refused("the other key's", e, d.mint(usertoken.MintInput{}), nil)
	}
}

// While the store cannot be read, nobody is let in for longer than what was read counts.
func TestSecurity13_StoreAway(t *testing.T) {
	t.Parallel()
	store := &distant{Store: memory.New()}
	d := newEntrance(t, store, nil)
	token := d.mint(usertoken.MintInput{})
	d.refused("before", d.engine, token, nil)
	store.gone.Store(true)
	d.clock.Advance(5 * time.Second)
	d.refused("5 seconds after", d.engine, token, storage.ErrUnavailable)
	store.gone.Store(false)
	d.refused("when it is back", d.engine, token, nil)
}

// Two projects of one store, each with the same users, the same names and the same signing key: a token of one user of one
// project leads to nothing of any other.
func TestNothingCrossesProjects(t *testing.T) {
	t.Parallel()
	const second = "0192f0c1-7e3a-7000-8000-00000000000b"
	d := newEntrance(t, nil, nil)
	ctx := t.Context()
	opts := d.opts
	opts.Project = second
	there, err := core.Open(ctx, d.store, d.keks, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = there.Close() })
	d.addKeyOf(there, 0)
	mail, err := d.engine.Integration(ctx, "mail")
	if err != nil {
		t.Fatal(err)
	}
	mail.Revision, mail.Created, mail.Updated = 0, time.Time{}, time.Time{}
	if _, err := there.CreateIntegration(ctx, mail); err != nil {
		t.Fatal(err)
	}
	type home struct {
		engine *core.Engine
		user   string
	}
	homes := []home{{d.engine, "acme"}, {d.engine, "initech"}, {there, "acme"}, {there, "initech"}}
	accounts := map[home]core.Credential{}
	for i, h := range homes {
		login := fmt.Sprintf("login%d", i)
		d.provider.AddKey("canary-key-of-"+login, login)
		c, err := h.engine.User(h.user).AddKey(ctx, core.KeyInput{
			Integration: "mail", Key: crypto.NewSecret("canary-key-of-" + login), ExternalID: "work",
		})
		if err != nil {
			t.Fatal(d.note(err))
		}
		accounts[h] = c
	}
	for _, at := range homes {
		for form, in := range map[string]usertoken.MintInput{
			"everything":  {},
			"with tokens": claims(`{"integration:*": ["credential:read", "credential:write", "credential:token", "configuration:read", "configuration:write", "proxy"]}`),
			"a person's":  {Person: "pat", Permissions: raw(`{"integration:*": {"credential:owner": true}}`)},
		} {
			in.User, in.Project = at.user, at.engine.Project()
			token := d.mint(in)
			for _, e := range []*core.Engine{d.engine, there} {
				u, err := d.try(e, token)
				if e != at.engine {
					d.wantErr(form+": a token of the other project", err, usertoken.ErrToken)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				for h, account := range accounts {
					own := h == at && form != "a person's"
					for name, sel := range map[string]core.Selector{"id": {Credential: account.ID}, "configuration": {Configuration: account.ID}} {
						got, err := u.Credential(ctx, sel)
						if (err == nil && got.ID == account.ID) != own {
							t.Errorf("%s of %s: Credential(%s of %s) = %s, %v, want found: %t", form, at.user, name, h.user, got.ID, err, own)
						}
						if own {
							continue
						}
						for method, c := range guarded {
							if c.own || method == "CreateConfiguration" && sel.Configuration != "" {
								continue
							}
							d.wantErr(form+": "+method+" of another's by "+name, c.do(ctx, u, sel), core.ErrNotFound)
						}
					}
				}
				got, err := u.Upstream(ctx, core.Selector{Integration: "mail", Credential: "work"})
				if form == "a person's" {
					d.wantErr("Upstream(work)", err, core.ErrNotFound)
				} else if err != nil || got.Credential() != accounts[at].ID {
					t.Errorf("%s of %s: Upstream(work) = %v, %v, want the account of its own", form, at.user, got, err)
				}
			}
		}
	}
	for h, account := range accounts { // and nothing was changed
		if got, err := h.engine.User(h.user).Credential(ctx, core.Selector{Credential: account.ID}); !cmp.Equal(got, account) {
			t.Errorf("account of %s = %+v, %v, want it as it was", h.user, got, err)
		}
	}
}
