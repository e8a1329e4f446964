package core_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// pending begins a session that ends at a page of the application.
func (g *gate) pending(u *core.User, in core.ConnectInput) *core.ConnectSession {
	g.Helper()
	if in.RedirectURL == "" {
		in.RedirectURL = appPage
	}
	session, err := g.start(u, in)
	if err != nil {
		g.Fatal(err)
	}
	return session
}

// A code finishes the session that it belongs to, by that session's own verifier, and nothing else (security 7).
func TestSecurity7_CompleteConnect(t *testing.T) {
	t.Parallel()
	t.Run("the pending session", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		session := g.pending(g.acme("ada"), core.ConnectInput{ExternalID: "work", Label: "Work", ReturnURL: "https://app.example.com/done"})
		values := g.visit(session, "ada")
		result, err := g.complete(g.acme("ada"), values.Get("code"))
		if err != nil {
			t.Fatal(err)
		}
		c := result.Credential
		if c.ExternalID != "work" || c.Label != "Work" || c.Owner != "ada" || c.Account.Subject != "ada" || result.Replayed || result.ReturnURL != "https://app.example.com/done" {
			t.Errorf("CompleteConnect() = %+v, want what the session asked for", result)
		}
		request, _ := g.provider.Last(coretest.EndpointExchange)
		if got := request.Form.Get("redirect_uri"); got != appPage {
			t.Errorf("redirect_uri of the exchange = %q, want %q", got, appPage)
		}
		if got := request.Form.Get("code_verifier"); len(got) < 43 {
			t.Errorf("code_verifier = %q, want the session's", got)
		}
		for range 3 {
			again, err := g.complete(g.acme("ada"), values.Get("code"))
			if err != nil || !again.Replayed || again.Credential.ID != c.ID {
				t.Errorf("the same code again = %+v, %v, want %s again", again, err, c.ID)
			}
		}
		g.wantExchanges(1)
		_, err = g.complete(g.acme("ada"), "code-of-somebody")
		g.wantErr("another code, once nothing waits", err, core.ErrSession)
		_, err = g.complete(g.engine.User("initech"), values.Get("code"))
		g.wantErr("the code at another user", err, core.ErrSession)
		g.wantExchanges(1)
		g.wantAccounts("ada")
	})
	t.Run("a code of another session", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		victim, attacker := g.engine.User("victim"), g.engine.User("attacker")
		waiting := g.pending(victim, core.ConnectInput{})
		stolen := g.visit(g.pending(attacker, core.ConnectInput{}), "bob")
		_, err := g.complete(victim, stolen.Get("code")) // the attacker's account for the victim's
		g.wantErr("an injected code", err, core.ErrProvider)
		if got := g.list("victim"); len(got) != 0 {
			t.Errorf("the victim has %+v", got)
		}
		_, err = g.complete(victim, g.visit(waiting, "ada").Get("code"))
		g.wantErr("the session once a code failed", err, core.ErrSession)
	})
	t.Run("the newest supersedes the older", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		u := g.acme("")
		older := g.visit(g.pending(u, core.ConnectInput{ExternalID: "older"}), "ada")
		newer := g.visit(g.pending(u, core.ConnectInput{ExternalID: "newer"}), "bob")
		elsewhere := g.visit(g.pending(u, core.ConnectInput{RedirectURL: otherPage, ExternalID: "elsewhere"}), "cyd")
		_, err := u.CompleteConnect(t.Context(), core.CompleteInput{Integration: calendar, Code: older.Get("code"), RedirectURL: appPage, Values: older})
		g.wantErr("the older one, with its state", err, core.ErrSession)
		g.wantExchanges(0)
		result, err := g.complete(u, newer.Get("code"))
		if err != nil || result.Credential.ExternalID != "newer" {
			t.Errorf("the newer one = %+v, %v", result, err)
		}
		_, err = g.complete(u, older.Get("code"))
		g.wantErr("the older one after it", err, core.ErrSession)
		g.wantExchanges(1)
		_, err = g.complete(u, elsewhere.Get("code"))
		g.wantErr("one of another page", err, core.ErrSession)
		result, err = u.CompleteConnect(t.Context(), core.CompleteInput{Integration: calendar, Code: elsewhere.Get("code"), RedirectURL: otherPage})
		g.wantErr("one of another page, at that page: rule 1", err, core.ErrAlreadyConnected)
		if result == nil || result.Credential.ID != "" {
			t.Errorf("beside the error stands %+v", result)
		}
	})
	t.Run("an older code in the newer session", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		u := g.acme("")
		older := g.visit(g.pending(u, core.ConnectInput{}), "ada")
		g.pending(u, core.ConnectInput{})
		_, err := g.complete(u, older.Get("code"))
		g.wantErr("a code with another verifier", err, core.ErrProvider)
		if got := g.everyone(); len(got) != 0 {
			t.Errorf("accounts = %+v, want none", got)
		}
	})
	t.Run("in the places of each other", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		u := g.acme("")
		page := g.visit(g.pending(u, core.ConnectInput{}), "ada")
		_, err := g.finish(core.CallbackInput{Integration: calendar, Values: page, Browser: "the browser"})
		g.wantErr("a page's answer at the callback", err, core.ErrSession)
		session, err := g.start(u, core.ConnectInput{})
		if err != nil {
			t.Fatal(err)
		}
		callback := g.consent(session, "bob", calendar, "the browser")
		_, err = u.CompleteConnect(t.Context(), core.CompleteInput{
			Integration: calendar, Code: callback.Values.Get("code"), RedirectURL: appPage, Values: callback.Values,
		})
		g.wantErr("a callback's answer at the page", err, core.ErrSession)
		g.wantExchanges(0)
		if _, err := g.complete(u, page.Get("code")); err != nil {
			t.Errorf("the page's answer in its place = %v", err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		values := g.visit(g.pending(g.acme(""), core.ConnectInput{}), "ada")
		g.clock.Advance(15 * time.Minute)
		_, err := g.complete(g.acme(""), values.Get("code"))
		g.wantErr("too late", err, core.ErrSessionExpired)
		g.clock.Advance(2 * time.Hour)
		if err := coretest.Step(g.engine); err != nil {
			t.Fatal(err)
		}
		_, err = g.complete(g.acme(""), values.Get("code"))
		g.wantErr("once it was swept", err, core.ErrSession)
		g.wantExchanges(0)
	})
	t.Run("the person refuses", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		u := g.acme("")
		g.provider.DenyNext()
		values := g.visit(g.pending(u, core.ConnectInput{}), "ada")
		for range 2 {
			_, err := u.CompleteConnect(t.Context(), core.CompleteInput{Integration: calendar, RedirectURL: appPage, Values: values})
			g.wantErr("a refusal", err, core.ErrDenied)
		}
		_, err := g.complete(u, "code-of-somebody")
		g.wantErr("a code after it", err, core.ErrSession)
		g.wantExchanges(0)
	})
	t.Run("bad input", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		g.pending(g.acme(""), core.ConnectInput{})
		for field, in := range map[string]core.CompleteInput{
			"code":        {Integration: calendar, RedirectURL: appPage},
			"integration": {Integration: "a/b", Code: "x", RedirectURL: appPage},
			"redirectUrl": {Integration: calendar, Code: "x", RedirectURL: appPage + "/"},
			"state":       {Integration: calendar, Code: "x", RedirectURL: appPage, Values: url.Values{"state": {"a", "b"}}},
			"values":      {Integration: calendar, Code: "x", RedirectURL: appPage, Values: url.Values{"canary-name": {strings.Repeat("x", 1<<14)}}},
		} {
			_, err := g.acme("").CompleteConnect(t.Context(), in)
			g.wantInput("CompleteConnect with a bad "+field, err, field)
		}
		_, err := g.acme("").CompleteConnect(t.Context(), core.CompleteInput{Integration: calendar, Code: strings.Repeat("x", 1<<14), RedirectURL: appPage})
		g.wantInput("CompleteConnect with a long code", err, "code")
		_, err = g.acme("").CompleteConnect(t.Context(), core.CompleteInput{Integration: "unknown", Code: "x", RedirectURL: appPage})
		g.wantErr("an unknown integration", err, core.ErrNotFound)
		_, err = g.engine.User("").CompleteConnect(t.Context(), core.CompleteInput{Integration: calendar, Code: "x", RedirectURL: appPage})
		g.wantInput("no user", err, "user")
		_, err = g.start(g.acme(""), core.ConnectInput{RedirectURL: "https://evil.example.com/"})
		g.wantInput("a page that is not listed", err, "redirectUrl")
		// The provider's issuer is checked where it is named.
		_, err = g.acme("").CompleteConnect(t.Context(), core.CompleteInput{Integration: calendar, Code: "x", RedirectURL: appPage, Values: url.Values{"iss": {"https://evil.example.com"}}})
		g.wantErr("another issuer", err, core.ErrProvider)
		g.wantExchanges(0)
	})
}

// installation is a code that came without our session: the provider began.
func (g *gate) installation(login string) string {
	g.Helper()
	at := g.provider.AuthorizationURL() + "?" + url.Values{
		"response_type": {"code"}, "client_id": {g.provider.ClientID()}, "redirect_uri": {appPage}, "state": {"the provider's"},
		"scope": {strings.Join([]string{"openid", "calendar"}, " ")}, "login_hint": {login}, "nonce": {""},
	}.Encode()
	page, err := coretest.NewBrowser().OpenUntil(g.Context(), at, appPage)
	if err != nil {
		g.Fatal(err)
	}
	u, err := url.Parse(page.URL)
	if err != nil || u.Query().Get("code") == "" {
		g.Fatalf("an installation ended at %s", page.URL)
	}
	return u.Query().Get("code")
}

// Without a session a code is good for nothing, unless the integration says that its provider may begin (security 7).
func TestSecurity7_ProviderInitiated(t *testing.T) {
	t.Parallel()
	on := func(in *core.Integration) { in.ProviderInitiated = true }
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		g.provider.Set(ignorePKCE)
		_, err := g.complete(g.acme(""), g.installation("ada"))
		g.wantErr("an installation", err, core.ErrSession)
		g.wantExchanges(0)
		if n := len(g.sessionItems()); n != 0 {
			t.Errorf("%d sessions are stored, want none", n)
		}
	})
	t.Run("on", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		g.provider.Set(ignorePKCE)
		g.world.change(on)
		code := g.installation("ada")
		result, err := g.complete(g.acme("ada"), code)
		if err != nil || result.Credential.Account.Subject != "ada" || result.Credential.Owner != "ada" {
			t.Fatalf("an installation = %+v, %v", result, err)
		}
		if request, _ := g.provider.Last(coretest.EndpointExchange); request.Form.Has("code_verifier") {
			t.Error("the exchange had a code_verifier, which the provider knows nothing of")
		}
		again, err := g.complete(g.acme("ada"), code)
		if err != nil || !again.Replayed || again.Credential.ID != result.Credential.ID {
			t.Errorf("the same again = %+v, %v", again, err)
		}
		g.wantExchanges(1)
		second, err := g.complete(g.acme("ada"), g.installation("ada"))
		if err != nil || second.Replayed || second.Credential.ID != result.Credential.ID {
			t.Errorf("another installation of the same account = %+v, %v, want it updated in place", second, err)
		}
		if third, err := g.complete(g.acme("bob"), g.installation("bob")); err != nil || third.Credential.ID == result.Credential.ID {
			t.Errorf("an installation of another account = %+v, %v, want it added", third, err)
		}
		g.wantAccounts("ada", "bob")
		stored := len(g.sessionItems())
		_, err = g.acme("").CompleteConnect(t.Context(), core.CompleteInput{
			Integration: calendar, Code: g.installation("cyd"), RedirectURL: appPage, Values: url.Values{"state": {"canary-state"}},
		})
		g.wantErr("an installation with a state", err, core.ErrSession)
		if got := len(g.sessionItems()); got != stored {
			t.Errorf("%d sessions are stored after one that was refused, want %d", got, stored)
		}
		if _, err := g.complete(g.acme(""), g.installation("cyd")); err != nil {
			t.Errorf("an installation after one that was refused = %v", err)
		}
	})
	t.Run("while a session waits", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		g.world.change(on)
		g.pending(g.acme(""), core.ConnectInput{})
		g.provider.Set(ignorePKCE)
		code := g.installation("bob")
		g.provider.Set(func(sw *coretest.Switches) { sw.PKCE = coretest.PKCERequired })
		_, err := g.complete(g.acme(""), code)
		g.wantErr("a code without challenge, for the session's verifier", err, core.ErrProvider)
		if got := g.everyone(); len(got) != 0 {
			t.Errorf("accounts = %+v, want none", got)
		}
	})
	t.Run("once a session was left behind", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		g.world.change(on)
		g.pending(g.acme(""), core.ConnectInput{})
		g.clock.Advance(16 * time.Minute)
		g.provider.Set(ignorePKCE)
		if result, err := g.complete(g.acme(""), g.installation("bob")); err != nil || result.Credential.Account.Subject != "bob" {
			t.Errorf("an installation = %+v, %v", result, err)
		}
	})
	t.Run("64 times at once", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		g.provider.Set(ignorePKCE)
		g.world.change(on)
		code := g.installation("ada")
		g.sameOutcome(64, func(int) (*core.ConnectResult, error) { return g.complete(g.acme("ada"), code) })
	})
	t.Run("twice, the second before the first is stored", func(t *testing.T) {
		t.Parallel()
		store := &interrupted{Store: memory.New()}
		g := newGate(t, store, nil)
		g.provider.Set(ignorePKCE)
		g.world.change(on)
		code := g.installation("ada")
		var inner *core.ConnectResult
		do := func() {
			var err error
			if inner, err = g.complete(g.acme("ada"), code); err != nil {
				t.Errorf("the second = %v", err)
			}
		}
		store.next.Store(&do)
		outer, err := g.complete(g.acme("ada"), code)
		if err != nil || inner == nil || outer.Credential.ID != inner.Credential.ID || !outer.Replayed {
			t.Errorf("the first = %+v, %v, want the outcome of the second, %+v", outer, err, inner)
		}
		g.wantExchanges(1)
	})
	t.Run("with keys", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		_, err := g.acme("").CompleteConnect(t.Context(), core.CompleteInput{Integration: "mail", Code: "x", RedirectURL: appPage})
		g.wantErr("an integration with keys", err, core.ErrSession)
	})
}

// interrupted is a store in which something else happens just before the next Apply.
type interrupted struct {
	storage.Store
	next atomic.Pointer[func()]
}

func (s *interrupted) Apply(ctx context.Context, b storage.Batch) error {
	if do := s.next.Swap(nil); do != nil {
		(*do)()
	}
	return s.Store.Apply(ctx, b)
}

// sameOutcome does something many times at once, which has to connect one account with one exchange, and tell all the same.
func (g *gate) sameOutcome(n int, do func(i int) (*core.ConnectResult, error)) {
	g.Helper()
	results := make([]*core.ConnectResult, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			var err error
			if results[i], err = do(i); err != nil {
				g.Errorf("finishing: %v", err)
			}
		})
	}
	all.Wait()
	accounts := g.everyone()
	if len(accounts) != 1 {
		g.Fatalf("%d accounts, want 1", len(accounts))
	}
	first := 0
	for _, result := range results {
		if result == nil || result.Credential.ID != accounts[0].ID {
			g.Errorf("an outcome = %+v, want %s", result, accounts[0].ID)
		} else if !result.Replayed {
			first++
		}
	}
	if first > 1 {
		g.Errorf("%d outcomes are the first, want at most 1", first)
	}
	g.wantExchanges(1)
}

// The nonce of the session is checked wherever the provider sends one: it stands beside PKCE, and for it.
func TestSecurity7_Nonce(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*core.Integration){
		"beside PKCE":      func(*core.Integration) {},
		"in place of PKCE": func(in *core.Integration) { in.OAuth2.PKCE = core.PKCERefused },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, nil, nil)
			g.world.change(change)
			g.provider.Set(ignorePKCE)
			u := g.acme("")
			older := g.visit(g.pending(u, core.ConnectInput{}), "bob")
			newer := g.visit(g.pending(u, core.ConnectInput{}), "ada")
			_, err := g.complete(u, older.Get("code"))
			g.wantErr("a code of another session", err, core.ErrProvider)
			if err == nil || !strings.Contains(err.Error(), "another session") {
				t.Errorf("error = %v, want it to say that the id_token belongs to another session", err)
			}
			_, err = g.complete(u, newer.Get("code"))
			g.wantErr("the session afterwards", err, core.ErrSession)
			if _, err := g.complete(u, g.visit(g.pending(u, core.ConnectInput{}), "ada").Get("code")); err != nil {
				t.Errorf("its own code = %v", err)
			}
			g.wantAccounts("ada")
		})
	}
}

// However often and by whomever a session is finished, it yields one credential (security 8).
func TestSecurity8_FinishedTwice(t *testing.T) {
	t.Parallel()
	t.Run("message and polling", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		session := g.pending(g.acme(""), core.ConnectInput{})
		code := g.visit(session, "ada").Get("code")
		_, err := g.acme("").ConnectOutcome(t.Context(), session.Handle)
		g.wantErr("before it is finished", err, core.ErrUnfinished)
		g.sameOutcome(64, func(i int) (*core.ConnectResult, error) {
			if i%2 == 0 {
				return g.complete(g.acme(""), code)
			}
			for {
				if result, err := g.acme("").ConnectOutcome(t.Context(), session.Handle); !errors.Is(err, core.ErrUnfinished) {
					return result, err
				}
			}
		})
	})
	t.Run("the callback, many times at once, and polling", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		session, err := g.start(g.acme(""), core.ConnectInput{})
		if err != nil {
			t.Fatal(err)
		}
		callback := g.consent(session, "ada", calendar, "the browser")
		g.sameOutcome(64, func(i int) (*core.ConnectResult, error) {
			if i%4 != 0 {
				return g.engine.Callback(t.Context(), callback)
			}
			for {
				if result, err := g.acme("").ConnectOutcome(t.Context(), session.Handle); !errors.Is(err, core.ErrUnfinished) {
					return result, err
				}
			}
		})
		other := callback
		other.Browser = "another browser"
		_, err = g.engine.Callback(t.Context(), other)
		g.wantErr("a second browser", err, core.ErrBrowser)
		g.wantExchanges(1)
	})
	t.Run("two engines", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		engines := []*core.Engine{g.engine, g.open()}
		session, err := g.start(g.acme(""), core.ConnectInput{})
		if err != nil {
			t.Fatal(err)
		}
		callback := g.consent(session, "ada", calendar, "the browser")
		g.sameOutcome(32, func(i int) (*core.ConnectResult, error) { return engines[i%2].Callback(t.Context(), callback) })
	})
	t.Run("a failure is told again too", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, nil, nil)
		g.mustFlow(g.acme(""), "bob", core.ConnectInput{})
		session := g.pending(g.acme(""), core.ConnectInput{AllowMultiple: true})
		code := g.visit(session, "ada").Get("code")
		g.world.change(func(in *core.Integration) { in.OAuth2.TokenURL += "/none" })
		_, first := g.complete(g.acme(""), code)
		_, again := g.complete(g.acme(""), code)
		_, outcome := g.acme("").ConnectOutcome(t.Context(), session.Handle)
		for what, err := range map[string]error{"first": first, "again": again, "outcome": outcome} {
			g.wantErr(what, err, core.ErrSession) // the integration was changed
		}
	})
}

// Whose handle a polling key is decides: anybody else's looks like one that never was (security 11).
func TestSecurity11_ForeignOutcome(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	session, err := g.start(g.acme(""), core.ConnectInput{})
	if err != nil {
		t.Fatal(err)
	}
	stranger := g.engine.User("initech")
	_, unknown := stranger.ConnectOutcome(t.Context(), strings.Repeat("A", len(session.Handle)))
	g.wantErr("an unknown handle", unknown, core.ErrSession)
	ask := func(when string) {
		t.Helper()
		before := g.sessionItems()
		result, err := stranger.ConnectOutcome(t.Context(), session.Handle)
		if result != nil || err == nil || err.Error() != unknown.Error() || !errors.Is(err, core.ErrSession) {
			t.Errorf("a foreign handle %s = %+v, %v, want %v", when, result, err, unknown)
		}
		if after := g.sessionItems(); len(after) != len(before) || !sameRevisions(before, after) {
			t.Errorf("asking for a foreign handle %s changed the session", when)
		}
	}
	ask("before it is finished")
	if _, err := g.engine.Callback(t.Context(), g.consent(session, "ada", calendar, "the browser")); err != nil {
		t.Fatal(err)
	}
	ask("once it is finished")
	for _, handle := range []string{"", "x", session.ID, session.Handle + "A", strings.Repeat("x", 1<<20)} {
		_, err := g.acme("").ConnectOutcome(t.Context(), handle)
		g.wantErr("a handle that is none", err, core.ErrSession)
	}
	if got, err := g.acme("").ConnectOutcome(t.Context(), session.Handle); err != nil || !got.Replayed {
		t.Errorf("its own = %+v, %v", got, err)
	}

	expired, err := g.start(g.acme(""), core.ConnectInput{AllowMultiple: true})
	if err != nil {
		t.Fatal(err)
	}
	g.clock.Advance(15 * time.Minute)
	_, err = g.acme("").ConnectOutcome(t.Context(), expired.Handle)
	g.wantErr("one that expired", err, core.ErrSessionExpired)
}

func sameRevisions(a, b []storage.Item) bool {
	for i := range a {
		if a[i].Rev != b[i].Rev {
			return false
		}
	}
	return true
}

// Without PKCE and nonce nothing but the state binds a code to the session that waits: somebody else's code would connect
// their account here.
func TestSecurity7_StateWhereNothingElseBinds(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	g.world.change(func(in *core.Integration) {
		in.OAuth2.PKCE, in.OAuth2.Scopes, in.OAuth2.Issuer = core.PKCERefused, []string{"calendar"}, ""
	})
	g.provider.Set(func(sw *coretest.Switches) { sw.PKCE = coretest.PKCEIgnored })
	mallory := g.visit(g.pending(g.engine.User("mallory"), core.ConnectInput{}), "bob")
	victim := g.pending(g.acme("ada"), core.ConnectInput{})
	complete := func(values url.Values) (*core.ConnectResult, error) {
		return g.acme("ada").CompleteConnect(t.Context(), core.CompleteInput{
			Integration: calendar, Code: values.Get("code"), RedirectURL: appPage, Values: values,
		})
	}
	_, err := complete(url.Values{"code": mallory["code"]})
	g.wantInput("a code without state", err, "values.state")
	_, err = complete(mallory)
	g.wantErr("a code with the state of its own session", err, core.ErrSession)
	_, err = complete(url.Values{"error": {"access_denied"}})
	g.wantInput("an error without state", err, "values.state")
	if result, err := complete(g.visit(victim, "ada")); err != nil || result.Credential.Account.Subject != "ada" {
		t.Errorf("CompleteConnect() with the session's own answer = %+v, %v", result, err)
	}
	if got := len(g.everyone()); got != 1 {
		t.Errorf("%d accounts, want 1", got)
	}
}
