package core_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
)

// stands is what the error for a conflict with something invisible looks like, whatever it is.
const stands = calendar + ": conflicts with something that is not visible"

// wantHidden fails the test unless err is the neutral error: exactly its text, without anything that describes accounts.
func (g *gate) wantHidden(what string, err error) {
	g.Helper()
	g.wantErr(what, err, core.ErrHiddenConflict)
	if err == nil {
		return
	}
	_, text, _ := strings.Cut(err.Error(), ": ") // what was being done comes first
	if text != stands {
		g.Errorf("%s = %q, want %q", what, text, stands)
	}
	for _, named := range []error{core.ErrAlreadyConnected, core.ErrAccountMismatch, core.ErrAccountConnected, core.ErrExternalID, core.ErrAmbiguous} {
		if errors.Is(err, named) {
			g.Errorf("%s is %v too, which says what stands in the way", what, named)
		}
	}
}

// Rules 1 to 5 see and touch only what the session may write, when it begins and when the account answers.
func TestSecurity9_Connect(t *testing.T) {
	t.Parallel()
	own := ownedBy("ada")
	for _, tt := range []struct {
		name    string
		before  func(g *gate)                   // what the user has already; bob's is invisible to ada
		in      core.ConnectInput               // what ada's narrowed handle asks for
		start   error                           // of Connect
		login   string                          // who answers
		between func(g *gate, own core.May)     // what happens while ada is at the provider
		want    error                           // of the callback
		check   func(*gate, core.Credential)    // of what came of it
		change  func(in *core.Integration)      // of the integration
		policy  core.May                        // of ada's handle; nil: what ada owns
		selects func(g *gate) core.ConnectInput // in place of in
	}{
		{
			name:   "rule 1: an invisible account does not stand in the way",
			before: func(g *gate) { g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{}) },
			login:  "ada", check: func(g *gate, c core.Credential) { g.wantAccounts("bob", "ada") },
		},
		{
			name: "rule 1: an invisible account that ended is not the one to be authorised anew",
			before: func(g *gate) {
				c := g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{})
				g.invalidate("acme", "bob", c.ID)
			},
			login: "ada", check: func(g *gate, c core.Credential) {
				g.wantAccounts("bob", "ada")
				if c.Account.Subject != "ada" || g.everyone()[0].Status != core.StatusInvalid {
					g.Errorf("accounts = %+v, want bob's as it was", g.everyone())
				}
			},
		},
		{
			name: "rule 1: of several that ended, those that may be written count",
			before: func(g *gate) {
				bob := g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{})
				ada := g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{AllowMultiple: true})
				g.invalidate("acme", "bob", bob.ID)
				g.invalidate("acme", "ada", ada.ID)
			},
			login: "ada", check: func(g *gate, c core.Credential) {
				g.wantAccounts("bob", "ada")
				if got := g.everyone(); got[1].Status != core.StatusValid || got[0].Status != core.StatusInvalid || got[1].ID != c.ID {
					g.Errorf("accounts = %+v, want ada's authorised in place", got)
				}
			},
		},
		{
			name:   "rule 1: an account that is connected by another handle in between, and is visible",
			before: func(*gate) {},
			login:  "ada", between: func(g *gate, _ core.May) { g.mustFlow(g.acme("ada"), "cyd", core.ConnectInput{}) },
			want: core.ErrAlreadyConnected,
		},
		{
			name:   "rule 1: one that is connected in between, and invisible",
			before: func(*gate) {},
			login:  "ada", between: func(g *gate, _ core.May) { g.mustFlow(g.acme("bob"), "cyd", core.ConnectInput{}) },
			check: func(g *gate, _ core.Credential) { g.wantAccounts("cyd", "ada") },
		},
		{
			name: "rule 3: into an invisible account", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			in: core.ConnectInput{Into: "home"}, start: core.ErrNotFound,
		},
		{
			name: "rule 3: into an invisible account, by its id", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{})
			},
			selects: func(g *gate) core.ConnectInput { return core.ConnectInput{Into: g.everyone()[0].ID} }, start: core.ErrNotFound,
		},
		{
			name: "rule 3: into one that may only be read", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			policy: may(core.ActRead), in: core.ConnectInput{Into: "home"}, start: core.ErrPermission,
		},
		{
			name: "rule 3: the account that answers is an invisible one", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
				g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{ExternalID: "work", AllowMultiple: true})
			},
			in: core.ConnectInput{Into: "work"}, login: "bob", want: core.ErrAccountMismatch, // as if nobody had it
		},
		{
			name: "rule 3: the same, where another account may replace it", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
				g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{ExternalID: "work", AllowMultiple: true})
			},
			change: func(in *core.Integration) { in.OtherAccount = core.OtherAccountReplace },
			in:     core.ConnectInput{Into: "work"}, login: "bob", want: core.ErrHiddenConflict,
		},
		{
			name: "rule 3: another account answers, a visible one", before: func(g *gate) {
				g.mustFlow(g.acme("ada"), "bob", core.ConnectInput{ExternalID: "home"})
				g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{ExternalID: "work", AllowMultiple: true})
			},
			in: core.ConnectInput{Into: "work"}, login: "bob", want: core.ErrAccountMismatch,
		},
		{
			name: "rule 4: the same account is an invisible one", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			in: core.ConnectInput{AllowMultiple: true}, login: "bob", want: core.ErrHiddenConflict,
		},
		{
			name: "rule 4: the same, where it is refused twice", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			change: func(in *core.Integration) { in.SameAccount = core.SameAccountReject },
			in:     core.ConnectInput{AllowMultiple: true}, login: "bob", want: core.ErrHiddenConflict,
		},
		{
			name: "rule 4: the same, where it is allowed twice", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			change: func(in *core.Integration) { in.SameAccount = core.SameAccountAllow },
			in:     core.ConnectInput{AllowMultiple: true}, login: "bob", check: func(g *gate, c core.Credential) {
				g.wantAccounts("bob", "bob")
				if c.Owner != "ada" || c.ExternalID != "" {
					g.Errorf("credential = %+v, want one of ada's own", c)
				}
			},
		},
		{
			name: "rule 4: the same account, connected in between", before: func(*gate) {},
			in: core.ConnectInput{AllowMultiple: true}, login: "bob",
			between: func(g *gate, _ core.May) { g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"}) },
			want:    core.ErrHiddenConflict,
		},
		{
			name: "rule 4: the same account may only be read", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			policy: func(a core.Action, to core.Thing) bool { return a == core.ActRead || to.Owner == "ada" },
			in:     core.ConnectInput{AllowMultiple: true}, login: "bob", want: core.ErrPermission,
		},
		{
			name: "rule 5: the external id of an invisible account", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			in: core.ConnectInput{AllowMultiple: true, ExternalID: "home"}, start: core.ErrHiddenConflict,
		},
		{
			name: "rule 5: the external id, taken in between", before: func(*gate) {},
			in: core.ConnectInput{AllowMultiple: true, ExternalID: "home"}, login: "ada",
			between: func(g *gate, _ core.May) { g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"}) },
			want:    core.ErrHiddenConflict,
		},
		{
			name: "rule 5: the external id of a visible account", before: func(g *gate) {
				g.mustFlow(g.acme("ada"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			in: core.ConnectInput{AllowMultiple: true, ExternalID: "home"}, start: core.ErrExternalID,
		},
		{
			name: "a new account, where none may be written", before: func(*gate) {},
			policy: may(core.ActRead, core.ActUse, core.ActToken), start: core.ErrPermission,
		},
		{
			name: "a new account under an external id out of reach", before: func(*gate) {},
			policy: only(func(to core.Thing) bool { return to.ExternalID == "work" }),
			in:     core.ConnectInput{ExternalID: "home"}, start: core.ErrPermission,
		},
		{
			name: "a new account under the only external id in reach", before: func(g *gate) {
				g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
			},
			policy: only(func(to core.Thing) bool { return to.ExternalID == "work" }),
			in:     core.ConnectInput{ExternalID: "work"}, login: "ada",
			check: func(g *gate, _ core.Credential) { g.wantAccounts("bob", "ada") },
		},
		{
			name: "an account of its own that would leave its reach by the external id", before: func(g *gate) {
				g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{})
			},
			policy: only(func(to core.Thing) bool { return to.ExternalID == "" }),
			in:     core.ConnectInput{AllowMultiple: true, ExternalID: "work"}, start: core.ErrPermission,
		},
		{
			name: "the same, once the account answered", before: func(g *gate) {
				g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{})
			},
			policy: func(a core.Action, to core.Thing) bool {
				return a == core.ActRead || to.Credential == "" || to.ExternalID == ""
			},
			in: core.ConnectInput{AllowMultiple: true, ExternalID: "work"}, login: "ada", want: core.ErrPermission,
		},
		{
			name: "the rights were taken back in between", before: func(*gate) {}, login: "ada",
			between: func(g *gate, _ core.May) { g.policies.Set("ada's", may(core.ActRead)) },
			want:    core.ErrPermission,
		},
		{
			name: "the rights cannot be read any more", before: func(*gate) {}, login: "ada",
			between: func(g *gate, _ core.May) { g.policies.Set("ada's", nil) },
			want:    core.ErrPermission,
		},
		{
			name: "the account to be authorised anew went out of sight", before: func(g *gate) {
				g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{ExternalID: "work"})
			},
			in: core.ConnectInput{Into: "work"}, login: "ada",
			between: func(g *gate, _ core.May) {
				g.policies.Set("ada's", only(func(to core.Thing) bool { return to.ExternalID == "home" }))
			},
			want: core.ErrNotFound,
		},
		{
			name: "the account to be authorised anew may only be read now", before: func(g *gate) {
				g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{ExternalID: "work"})
			},
			in: core.ConnectInput{Into: "work"}, login: "ada",
			between: func(g *gate, _ core.May) { g.policies.Set("ada's", may(core.ActRead, core.ActUse)) },
			want:    core.ErrPermission,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, nil, nil)
			if tt.change != nil {
				g.world.change(tt.change)
			}
			tt.before(g)
			if tt.policy == nil {
				tt.policy = own
			}
			if tt.selects != nil {
				tt.in = tt.selects(g)
			}
			u := g.narrow("ada", "ada's", tt.policy)
			if tt.start != nil {
				_, err := g.start(u, tt.in)
				if g.wantErr("Connect", err, tt.start); tt.start == core.ErrHiddenConflict { //nolint:errorlint // which of the list it is
					g.wantHidden("Connect", err)
				}
				return
			}
			began := 0 // accounts, once the callback comes
			result, err := g.flow(u, tt.login, tt.in, func() {
				if tt.between != nil {
					tt.between(g, own)
				}
				began = len(g.everyone())
			})
			if tt.want == nil {
				if err != nil {
					t.Fatalf("Callback() = %v", err)
				}
				tt.check(g, result.Credential)
				return
			}
			g.wantErr("Callback", err, tt.want)
			if tt.want == core.ErrHiddenConflict { //nolint:errorlint // which of the list it is
				g.wantHidden("Callback", err)
			}
			if got := len(g.everyone()); got != began {
				t.Errorf("%d accounts after the callback was refused, want %d", got, began)
			}
			if result.Credential.ID != "" {
				t.Errorf("beside the error stands %+v, want no credential", result.Credential)
			}
		})
	}
}

// wantAccounts wants accounts of these subjects, oldest first.
func (g *gate) wantAccounts(subjects ...string) {
	g.Helper()
	var got []string
	for _, c := range g.everyone() {
		got = append(got, c.Account.Subject)
	}
	if strings.Join(got, " ") != strings.Join(subjects, " ") {
		g.Errorf("accounts = %v, want %v", got, subjects)
	}
}

// Keys go by the same rules.
func TestSecurity9_AddKey(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	bob := g.mail(g.acme("bob"), "bob", core.KeyInput{ExternalID: "home"})
	mine := g.mail(g.acme("ada"), "ada", core.KeyInput{ExternalID: "work"})
	u := g.narrow("ada", "own", ownedBy("ada"))
	_, absent := g.tryMail(u, "cyd", core.KeyInput{Into: "nowhere"})
	_, err := g.tryMail(u, "cyd", core.KeyInput{Into: "home"})
	g.wantErr("into an invisible account", err, core.ErrNotFound)
	if got, want := neutral(err, core.Selector{Credential: "home"}), neutral(absent, core.Selector{Credential: "nowhere"}); got != want {
		t.Errorf("into an invisible account = %q, want %q as where there is none", got, want)
	}
	_, err = g.tryMail(u, "cyd", core.KeyInput{Into: bob.ID})
	g.wantErr("into an invisible account by its id", err, core.ErrNotFound)
	_, err = g.tryMail(u, "cyd", core.KeyInput{ExternalID: "home"})
	g.wantErr("the external id of an invisible account", err, core.ErrHiddenConflict)
	_, second := g.tryMail(u, "bob", core.KeyInput{})
	g.wantErr("the account itself", second, core.ErrHiddenConflict)
	_, third := g.tryMail(u, "bob", core.KeyInput{Into: mine.ID})
	_, fourth := g.tryMail(u, "cyd", core.KeyInput{Into: mine.ID})
	g.wantErr("the account itself, into another", third, core.ErrAccountMismatch)
	if err != nil && (err.Error() != second.Error() || third.Error() != fourth.Error()) {
		t.Errorf("errors %q and %q, %q and %q, want the same words for each two", err, second, third, fourth)
	}
	if _, err = g.tryMail(u, "cyd", core.KeyInput{}); err != nil {
		t.Errorf("an account of its own = %v", err)
	}
	reader := g.narrow("ada", "reader", may(core.ActRead, core.ActUse))
	_, err = g.tryMail(reader, "dan", core.KeyInput{})
	g.wantErr("a new account where none may be written", err, core.ErrPermission)
	_, err = g.tryMail(reader, "ada", core.KeyInput{Into: mine.ID})
	g.wantErr("into what may only be read", err, core.ErrPermission)
	if got := g.provider.Calls().API; got != 6 {
		t.Errorf("%d keys were tried at the provider, want 6: none that is refused beforehand", got)
	}
}

// A name that an invisible account has is told in the neutral words, and moves nothing.
func TestSecurity9_Rename(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	bob := g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
	ada := g.mustFlow(g.acme("ada"), "ada", core.ConnectInput{ExternalID: "work", AllowMultiple: true})
	u := g.narrow("ada", "own", ownedBy("ada"))
	for _, name := range []string{"home", " home ", "ext:home"} {
		_, err := u.Rename(t.Context(), core.Selector{Credential: ada.ID}, core.RenameInput{ExternalID: &name})
		g.wantHidden("Rename to "+name, err)
	}
	if got := g.everyone(); got[0].ExternalID != "home" || got[1].ExternalID != "work" || got[0].ID != bob.ID {
		t.Errorf("accounts = %+v, want both as they were", got)
	}
	// Out of its own reach, or into it.
	work := g.narrow("ada", "work", func(a core.Action, to core.Thing) bool {
		return to.ExternalID == "work" || a == core.ActRead && to.ExternalID != "home"
	})
	for _, name := range []string{"other", ""} {
		_, err := work.Rename(t.Context(), core.Selector{Credential: ada.ID}, core.RenameInput{ExternalID: &name})
		g.wantErr(fmt.Sprintf("Rename to %q, out of reach", name), err, core.ErrPermission)
	}
	_, err := work.Rename(t.Context(), core.Selector{Credential: bob.ID}, core.RenameInput{ExternalID: new("work")})
	g.wantErr("Rename of an invisible one, into reach", err, core.ErrNotFound)
	if c, err := work.Rename(t.Context(), core.Selector{Credential: ada.ID}, core.RenameInput{Label: new("Work")}); err != nil || c.Label != "Work" {
		t.Errorf("Rename(label) = %+v, %v", c, err)
	}
}

// A session is what its own handle may: nothing that comes later makes it more, and no other handle learns through it.
func TestSecurity9_SessionsOfOthers(t *testing.T) {
	t.Parallel()
	in := core.ConnectInput{RedirectURL: appPage}
	t.Run("a narrow session, finished by the unrestricted handle", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		bob := g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
		u := g.narrow("ada", "own", ownedBy("ada"))
		session, err := g.start(u, in)
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.complete(g.acme("ada"), g.visit(session, "bob").Get("code"))
		g.wantErr("CompleteConnect with bob's account", err, core.ErrHiddenConflict)
		if got := g.everyone(); len(got) != 1 || !got[0].Updated.Equal(bob.Updated) {
			t.Errorf("accounts = %+v, want only bob's, untouched", got)
		}
		if session, err = g.start(u, in); err != nil {
			t.Fatal(err)
		}
		if _, err := g.complete(g.acme("bob"), "code"); !errors.Is(err, core.ErrSession) {
			t.Errorf("CompleteConnect() by another person = %v, want ErrSession", err)
		}
		result, err := g.complete(g.acme("ada"), g.visit(session, "cyd").Get("code"))
		if err != nil || result.Credential.Owner != "ada" {
			t.Errorf("CompleteConnect() = %+v, %v, want an account that ada owns", result, err)
		}
	})
	t.Run("another's session, finished by a narrow handle", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		g.provider.Set(ignorePKCE)                                                                           // so that only polycred stands between
		g.world.change(func(in *core.Integration) { in.Identity = core.Identity{}; in.OAuth2.Scopes = nil }) // nor can anybody tell whose account it is
		admins := g.mustFlow(g.acme("bob"), "bob", core.ConnectInput{ExternalID: "home"})
		if _, err := g.start(g.acme("bob"), core.ConnectInput{RedirectURL: appPage, Into: "home"}); err != nil {
			t.Fatal(err)
		}
		own, err := g.start(g.acme("ada"), core.ConnectInput{AllowMultiple: true}) // elsewhere: for a code of her own
		if err != nil {
			t.Fatal(err)
		}
		u := g.narrow("ada", "own", ownedBy("ada"))
		_, err = g.complete(u, g.consent(own, "ada", calendar, "").Values.Get("code"))
		g.wantErr("finishing the administrator's session", err, core.ErrSession)
		if got := g.credential("acme", admins.ID); !got.Updated.Equal(admins.Updated) {
			t.Errorf("the administrator's account = %+v, want it untouched", got)
		}
		_, err = g.complete(g.narrow("bob", "own", ownedBy("bob")), "code")
		g.wantErr("finishing it by a narrow handle of the same person", err, core.ErrSession)
	})
	t.Run("outcomes", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		stranger := g.narrow("ada", "own", ownedBy("ada"))
		begin := func(u *core.User, in core.ConnectInput) *core.ConnectSession {
			session, err := g.start(u, in)
			if err != nil {
				t.Fatal(err)
			}
			return session
		}
		finish := func(session *core.ConnectSession, login string) {
			_, _ = g.engine.Callback(t.Context(), g.consent(session, login, calendar, "the browser"))
		}
		made := begin(g.acme("bob"), core.ConnectInput{ExternalID: "home"})
		refused := begin(g.acme("bob"), core.ConnectInput{})
		finish(made, "bob")
		bob := g.everyone()[0]
		finish(refused, "cyd") // rule 1: names bob's account
		if got, err := g.acme("").ConnectOutcome(t.Context(), made.Handle); err != nil || got.Credential.ID != bob.ID {
			t.Errorf("ConnectOutcome() = %+v, %v, want %s", got, err, bob.ID)
		}
		_, err := g.acme("bob").ConnectOutcome(t.Context(), refused.Handle)
		g.wantErr("the outcome for who began", err, core.ErrAlreadyConnected)
		if err == nil || !strings.Contains(err.Error(), bob.ID) {
			t.Errorf("the outcome for who began = %v, want it to name %s", err, bob.ID)
		}
		got, err := stranger.ConnectOutcome(t.Context(), made.Handle)
		g.wantErr("an account that is invisible", err, core.ErrNotFound)
		if got.Credential.ID != "" {
			t.Errorf("beside the error stands %+v", got.Credential)
		}
		_, err = stranger.ConnectOutcome(t.Context(), refused.Handle)
		g.wantErr("a refusal that names an invisible account", err, core.ErrAlreadyConnected)
		if err != nil && strings.Contains(err.Error(), bob.ID) {
			t.Errorf("the outcome for a narrowed handle = %v, which names an invisible account", err)
		}
	})
	t.Run("the outcome of its own session, once it is out of sight", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		u := g.narrow("ada", "work", only(func(to core.Thing) bool { return to.ExternalID == "work" }))
		session, err := g.start(u, core.ConnectInput{ExternalID: "work"})
		if err != nil {
			t.Fatal(err)
		}
		callback := g.consent(session, "ada", calendar, "the browser")
		result, err := g.engine.Callback(t.Context(), callback)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.acme("").Rename(t.Context(), core.Selector{Credential: result.Credential.ID}, core.RenameInput{ExternalID: new("canary-name")}); err != nil {
			t.Fatal(err)
		}
		again, err := g.engine.Callback(t.Context(), callback)
		g.wantErr("the callback again", err, core.ErrNotFound)
		if again.Credential.ID != "" {
			t.Errorf("the callback again = %+v, want nothing of an account out of sight", again.Credential)
		}
		again, err = u.ConnectOutcome(t.Context(), session.Handle)
		g.wantErr("the outcome", err, core.ErrNotFound)
		if again.Credential.ID != "" {
			t.Errorf("the outcome = %+v, want nothing of an account out of sight", again.Credential)
		}
	})
	t.Run("rights that cannot be read", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		_, err := g.start(g.narrow("ada", "", ownedBy("ada")), core.ConnectInput{})
		g.wantErr("a session whose rights would be kept as all rights", err, core.ErrPermission)
		u := g.narrow("ada", "own", ownedBy("ada"))
		session, err := g.start(u, core.ConnectInput{})
		if err != nil {
			t.Fatal(err)
		}
		callback := g.consent(session, "ada", calendar, "the browser")
		callback.Browser = "the browser"
		_, err = g.open().Callback(t.Context(), callback) // an engine that reads no authorities
		g.wantErr("where nobody reads authorities", err, core.ErrPermission)
		g.wantExchanges(0)
		if got := g.everyone(); len(got) != 0 {
			t.Errorf("accounts = %+v, want none", got)
		}
	})
}
