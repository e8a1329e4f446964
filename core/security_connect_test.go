package core_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// provide makes a provider another integration of the world.
func (w *world) provide(name string, p *coretest.OAuthServer, change func(*core.Integration)) {
	w.Helper()
	w.create(func(in *core.Integration) {
		in.Name = name
		in.OAuth2.ClientID, in.OAuth2.ClientSecret = p.ClientID(), crypto.NewSecret(p.ClientSecret())
		in.OAuth2.AuthorizationURL, in.OAuth2.TokenURL, in.OAuth2.Issuer = p.AuthorizationURL(), p.TokenURL(), p.Issuer()
		in.Identity.URL = p.UserInfoURL()
		if change != nil {
			change(in)
		}
	})
}

// Consent cannot be forwarded: neither a link that somebody else began, nor a callback that somebody else received.
func TestSecurity1_BrowserBinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	const attacker, victim = "browser of the attacker", "browser of the victim"

	t.Run("the victim consents to the attacker's session", func(t *testing.T) {
		session := w.session("attacker", core.ConnectInput{Browser: attacker})
		callback := w.consent(session, "ada", calendar, victim)
		result, err := w.finish(callback)
		w.wantErr("the callback in the victim's browser", err, core.ErrBrowser)
		if result != nil {
			t.Errorf("result = %+v, want none: it would name another user", result)
		}
		if got := w.list("attacker"); len(got) != 0 {
			t.Errorf("the attacker has %v", got)
		}
	})
	t.Run("the victim's browser gets the attacker's callback", func(t *testing.T) { // login CSRF
		callback := w.mustBegin("attacker", "bob", core.ConnectInput{Browser: attacker})
		callback.Browser = victim
		_, err := w.finish(callback)
		w.wantErr("the attacker's callback", err, core.ErrBrowser)
	})
	t.Run("a handle that both open", func(t *testing.T) {
		session := w.session("attacker", core.ConnectInput{})
		if session.URL != "" {
			t.Fatalf("URL = %s without a browser, want none", session.URL)
		}
		begun, err := w.engine.BeginConnect(t.Context(), session.Handle, attacker)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.engine.BeginConnect(t.Context(), session.Handle, victim)
		w.wantErr("the victim beginning", err, core.ErrBrowser)
		_, err = w.finish(w.consent(begun, "ada", calendar, victim))
		w.wantErr("the victim finishing", err, core.ErrBrowser)
	})
	t.Run("values that look like the browser", func(t *testing.T) {
		callback := w.mustBegin("u", "ada", core.ConnectInput{Browser: victim})
		for _, browser := range []string{"", " ", victim + " ", " " + victim, strings.ToUpper(victim), victim[:len(victim)-1], victim + "\x00", "\x00"} {
			callback.Browser = browser
			_, err := w.finish(callback)
			w.wantErr("callback from "+browser, err, core.ErrBrowser)
		}
		w.wantExchanges(0)
		callback.Browser = victim
		if _, err := w.finish(callback); err != nil {
			t.Errorf("callback from the right browser: %v", err)
		}
	})
}

// A hostile authorization server, itself an integration, tries to get hold of the honest one's codes (RFC 9700 §4.4.1).
func TestSecurity3_MixUp(t *testing.T) {
	t.Parallel()
	honest := extraProvider(t, coretest.OAuthServerOptions{RedirectURIs: []string{callbackURL + "/honest"}})
	sloppy := extraProvider(t, coretest.OAuthServerOptions{}) // honest, but takes every redirect URI
	evil := extraProvider(t, coretest.OAuthServerOptions{})
	w := newWorld(t, nil, reach(honest, sloppy, evil))
	w.provide("honest", honest, nil)
	w.provide("sloppy", sloppy, nil)
	w.provide("evil", evil, nil)
	w.provide("evilStrict", evil, func(in *core.Integration) { in.OAuth2.RequireIssuer = true })

	// redirectTo is what the hostile server does with the browser: it sends it on to another one, as that one's client.
	redirectTo := func(session *core.ConnectSession, p *coretest.OAuthServer, callback string) url.Values {
		t.Helper()
		u, err := url.Parse(session.URL)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set("client_id", p.ClientID())
		q.Set("redirect_uri", callbackURL+"/"+callback)
		page, err := coretest.NewBrowser().OpenUntil(t.Context(), p.AuthorizationURL()+"?"+q.Encode(), callbackURL)
		if err != nil {
			t.Fatal(err)
		}
		if page.Status == http.StatusBadRequest {
			return nil // the honest server refuses
		}
		at, err := url.Parse(page.URL)
		if err != nil {
			t.Fatal(err)
		}
		return at.Query()
	}
	start := func(name string) *core.ConnectSession {
		return w.session("u", core.ConnectInput{Integration: name, Browser: "b"})
	}

	if values := redirectTo(start("evil"), honest, "evil"); values != nil {
		t.Errorf("the honest server redirected to the evil callback: %v", values)
	}
	t.Run("to the honest callback", func(t *testing.T) {
		values := redirectTo(start("evil"), honest, "honest")
		if values.Get("code") == "" {
			t.Fatal("no code to steal")
		}
		_, err := w.finish(core.CallbackInput{Integration: "honest", Values: values, Browser: "b"})
		w.wantErr("the evil state at the honest path", err, core.ErrSession)
	})
	t.Run("to the evil callback", func(t *testing.T) {
		values := redirectTo(start("evil"), sloppy, "evil")
		if values.Get("code") == "" {
			t.Fatal("no code to steal")
		}
		_, err := w.finish(core.CallbackInput{Integration: "evil", Values: values, Browser: "b"})
		var failed *core.ProviderError
		if !errors.As(err, &failed) || failed.Op != "authorize" || !strings.Contains(failed.Reason, "another issuer") {
			t.Errorf("the honest issuer at the evil path: %v, want another issuer", err)
		}
	})
	t.Run("to the evil callback, without iss", func(t *testing.T) {
		sloppy.Set(func(sw *coretest.Switches) { sw.OmitIssuer = true })
		defer sloppy.Set(func(sw *coretest.Switches) { sw.OmitIssuer = false })
		values := redirectTo(start("evilStrict"), sloppy, "evilStrict")
		_, err := w.finish(core.CallbackInput{Integration: "evilStrict", Values: values, Browser: "b"})
		w.wantErr("no issuer where one is required", err, core.ErrProvider)
	})
	t.Run("the evil code at the honest callback", func(t *testing.T) { // the attacker's account for the victim's
		session := start("honest")
		values := redirectTo(session, evil, "honest")
		_, err := w.finish(core.CallbackInput{Integration: "honest", Values: values, Browser: "b"})
		w.wantErr("the evil issuer at the honest path", err, core.ErrProvider)
	})
	for name, p := range map[string]*coretest.OAuthServer{"honest": honest, "sloppy": sloppy, "evil": evil} {
		if got := p.Calls(); got.Exchange != 0 || got.UserInfo != 0 {
			t.Errorf("the %s server was called: %+v, want no code sent anywhere", name, got)
		}
	}

	t.Run("iss", func(t *testing.T) {
		for _, iss := range []string{"https://canary.example.com", honest.Issuer() + "/", strings.ToUpper(honest.Issuer()), " " + honest.Issuer()} {
			session := start("honest")
			values := redirectTo(session, honest, "honest")
			values.Set("iss", iss)
			_, err := w.finish(core.CallbackInput{Integration: "honest", Values: values, Browser: "b"})
			w.wantErr("iss "+iss, err, core.ErrProvider)
			// Of an error too: it may be the other server's.
			session = start("honest")
			_, err = w.finish(core.CallbackInput{
				Integration: "honest", Browser: "b",
				Values: url.Values{"state": {w.params(session).Get("state")}, "iss": {iss}, "error": {"access_denied"}},
			})
			w.wantErr("an error of iss "+iss, err, core.ErrProvider)
		}
		if got := honest.Calls().Exchange; got != 0 {
			t.Errorf("%d codes were spent, want 0", got)
		}
		// Without it, where it is not required.
		session := start("honest")
		values := redirectTo(session, honest, "honest")
		values.Del("iss")
		if _, err := w.finish(core.CallbackInput{Integration: "honest", Values: values, Browser: "b"}); err != nil {
			t.Errorf("no iss: %v, want it accepted", err)
		}
	})
	t.Run("the token endpoint is the session's", func(t *testing.T) {
		session := start("sloppy")
		values := redirectTo(session, sloppy, "sloppy")
		for name, value := range map[string]string{
			"token_endpoint": evil.TokenURL(), "token_url": evil.TokenURL(), "accounts-server": evil.URL(), "issuer": evil.Issuer(), "client_id": "x", "redirect_uri": "x",
		} {
			values.Set(name, value)
		}
		if _, err := w.finish(core.CallbackInput{Integration: "sloppy", Values: values, Browser: "b"}); err != nil {
			t.Errorf("Callback() = %v, want parameters that nobody declared to count for nothing", err)
		}
		if got := evil.Calls().Exchange; got != 0 {
			t.Errorf("%d codes went to the evil server", got)
		}
	})
}

func TestSecurity5_PKCE(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	seen := map[string]bool{}
	for _, pkce := range []coretest.PKCE{coretest.PKCERequired, coretest.PKCEIgnored} { // sent also where it is ignored
		w.provider.Set(func(sw *coretest.Switches) { sw.PKCE = pkce })
		user := "u " + string(pkce)
		w.mustConnect(user, "ada", core.ConnectInput{})
		q := w.provider.LastAuthorization()
		request, _ := w.provider.Last(coretest.EndpointExchange)
		verifier := request.Form.Get("code_verifier")
		if len(verifier) < 43 || len(verifier) > 128 || seen[verifier] || strings.Trim(verifier, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") != "" {
			t.Errorf("code_verifier has %d characters, used before %v; want 43 to 128, fresh (RFC 7636 §4.1)", len(verifier), seen[verifier])
		}
		seen[verifier] = true
		if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == verifier || q.Has("code_verifier") {
			t.Errorf("authorization request = %v, want S256 and no verifier", q)
		}
		if request.Form.Get("redirect_uri") != callbackURL+"/"+calendar || request.Form.Get("grant_type") != "authorization_code" {
			t.Errorf("token request = %v", request.Form)
		}
	}
	w.provider.Set(func(sw *coretest.Switches) { sw.PKCE = coretest.PKCERequired })

	t.Run("a code of another session", func(t *testing.T) { // code injection (RFC 9700 §4.5)
		victim := w.mustBegin("victim", "ada", core.ConnectInput{})
		attacker := w.mustBegin("attacker", "bob", core.ConnectInput{})
		_, err := w.finish(with(attacker, "code", victim.Values.Get("code")))
		w.wantFailed("a stolen code", err, core.ProviderError{Op: "exchange", Class: core.FailurePermanent, Status: 400, Code: "invalid_grant"})
		w.wantNothing("a stolen code", "attacker")
	})
	t.Run("refused by the provider", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.provider.Set(func(sw *coretest.Switches) { sw.PKCE = coretest.PKCERefused })
		_, err := w.connect("u", "ada", core.ConnectInput{})
		w.wantErr("PKCE is not dropped by itself", err, core.ErrProvider)

		w.change(func(in *core.Integration) { in.OAuth2.PKCE = core.PKCERefused })
		w.mustConnect("u", "ada", core.ConnectInput{})
		q := w.provider.LastAuthorization()
		raw, err := base64.RawURLEncoding.DecodeString(q.Get("nonce"))
		if err != nil || len(raw) < 16 || q.Has("code_challenge") || q.Has("code_challenge_method") {
			t.Errorf("authorization request = %v, want a nonce in place of a challenge", q)
		}
		request, _ := w.provider.Last(coretest.EndpointExchange)
		if request.Form.Has("code_verifier") {
			t.Error("code_verifier was sent")
		}

		// The nonce then does what PKCE does.
		victim := w.mustBegin("victim", "ada", core.ConnectInput{})
		attacker := w.mustBegin("attacker", "bob", core.ConnectInput{})
		_, err = w.finish(with(attacker, "code", victim.Values.Get("code")))
		w.wantFailed("a stolen code", err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "another session"})
		for name, claims := range map[string]map[string]any{"no nonce": {"nonce": nil}, "empty nonce": {"nonce": ""}} {
			callback := w.mustBegin("attacker", "bob", core.ConnectInput{})
			w.claims(claims)
			_, err = w.finish(callback)
			w.claims(nil)
			w.wantFailed(name, err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "another session"})
		}
		callback := w.mustBegin("attacker", "bob", core.ConnectInput{})
		w.fields(map[string]any{"id_token": nil})
		_, err = w.finish(callback)
		w.wantFailed("no id_token", err, core.ProviderError{Op: "identity", Class: core.FailurePermanent, Reason: "missing"})
		w.fields(nil)
		w.wantNothing("the nonce", "attacker")

		// Where OpenID Connect is not asked for, there is none to check: secret and browser binding are left.
		w.change(func(in *core.Integration) { in.OAuth2.Scopes = []string{"calendar"} })
		w.mustConnect("plain", "ada", core.ConnectInput{})
		if q := w.provider.LastAuthorization(); q.Get("nonce") == "" || q.Has("code_challenge") {
			t.Errorf("authorization request = %v, want a nonce all the same", q)
		}
	})
	t.Run("configuration", func(t *testing.T) {
		for field, change := range map[string]func(*core.OAuth2){
			"oauth2.pkce":                func(o *core.OAuth2) { o.PKCE = "plain" },
			"oauth2.authorizationParams": func(o *core.OAuth2) { o.AuthorizationParams = map[string]string{"code_challenge_method": "plain"} },
			"oauth2.addAccountParams":    func(o *core.OAuth2) { o.AddAccountParams = map[string]string{"state": "x"} },
			"oauth2.tokenParams":         func(o *core.OAuth2) { o.TokenParams = map[string]string{"code_verifier": "x"} },
		} {
			_, err := w.engine.CreateIntegration(t.Context(), w.integration(func(in *core.Integration) {
				in.Name = "bad"
				change(in.OAuth2)
			}))
			w.wantInput(field, err, field)
		}
		_, err := w.engine.CreateIntegration(t.Context(), w.integration(func(in *core.Integration) {
			in.Name, in.OAuth2.PKCE, in.OAuth2.ClientAuth = "bad", core.PKCERefused, core.ClientAuthNone
		}))
		w.wantInput("neither PKCE nor a secret", err, "oauth2.pkce")
	})
}

// A session is good for one exchange, and a code that was replayed at the provider hurts nobody.
func TestSecurity5_SingleUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	callback := w.mustBegin("u", "ada", core.ConnectInput{})
	first, err := w.finish(callback)
	if err != nil {
		t.Fatal(err)
	}
	other := w.mustBegin("u", "bob", core.ConnectInput{AllowMultiple: true}) // a good code of another session
	for _, in := range []core.CallbackInput{callback, with(callback, "code", other.Values.Get("code")), with(with(callback, "code"), "error", "access_denied")} {
		again, err := w.finish(in)
		if err != nil || !again.Replayed || again.Credential.ID != first.Credential.ID {
			t.Errorf("replay = %+v, %v, want the stored outcome", again, err)
		}
		in.Browser = "attacker"
		_, err = w.finish(in)
		w.wantErr("replay in another browser", err, core.ErrBrowser)
	}
	w.wantExchanges(1)
	if as, err := w.as("u", ""); as != "ada@example.com" {
		t.Errorf("as = %q, %v: the grant must have survived", as, err)
	}
	if _, err := w.finish(other); err != nil {
		t.Errorf("the other session: %v, want its code unspent", err)
	}
}

// Redirect URI and return URL are configuration.
func TestSecurity6_RedirectAndReturnURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(o *core.Options) {
		o.ReturnURLs = []string{returnURL, "https://app.example.com/done?x=1"}
	})
	for _, bad := range []string{
		"https://app.example.com", "https://app.example.com/", "https://app.example.com/done/", "https://app.example.com/done#", "https://app.example.com/done?",
		"https://app.example.com/done?x=2", "https://app.example.com/done/../done", "https://APP.example.com/done", "HTTPS://app.example.com/done", "http://app.example.com/done",
		"https://app.example.com:443/done", "https://user@app.example.com/done", "https://app.example.com.evil.com/done", "https://evil.com/https://app.example.com/done",
		"//app.example.com/done", "/done", "done", " " + returnURL, returnURL + " ", returnURL + "\n", "javascript:alert(1)", `https:\\app.example.com\done`, "https://app.example.com/%64one",
	} {
		session, err := w.engine.User("u").Connect(t.Context(), core.ConnectInput{Integration: calendar, Browser: "b", ReturnURL: bad})
		w.wantInput("return URL "+bad, err, "returnUrl")
		if session != nil {
			t.Errorf("return URL %s: session %+v, want none", bad, session)
		}
	}
	for _, good := range []string{"", returnURL, "https://app.example.com/done?x=1"} {
		callback := w.mustBegin("u "+good, "ada", core.ConnectInput{ReturnURL: good})
		// What the browser brings does not decide where it goes.
		callback = with(with(callback, "return_url", "https://evil.com"), "redirect_uri", "https://evil.com")
		result, err := w.finish(callback)
		if err != nil || result.ReturnURL != good {
			t.Errorf("return URL %q = %+v, %v", good, result, err)
		}
		request, _ := w.provider.Last(coretest.EndpointExchange)
		if got, want := request.Form.Get("redirect_uri"), callbackURL+"/"+calendar; got != want || w.provider.LastAuthorization().Get("redirect_uri") != want {
			t.Errorf("redirect_uri = %q, want %q at both endpoints", got, want)
		}
	}

	t.Run("options", func(t *testing.T) {
		for _, bad := range []string{
			"http://app.example.com/callback", "http://127.0.0.1.evil.com/", "http://192.168.1.1/callback", "http://0.0.0.0/callback", "ftp://localhost/", "/callback", "app.example.com/callback",
			"https://user:canary@app.example.com/", "https://app.example.com/?x=canary", "https://app.example.com/#canary", "https://", "https:///callback", ":", "http://localhost.evil.com/",
		} {
			opts := w.opts
			opts.CallbackURL = bad
			_, err := core.Open(t.Context(), w.store, w.keks, &opts)
			w.wantInput("callback URL "+strings.ReplaceAll(bad, "canary", "…"), err, "callbackUrl")
		}
		for _, good := range []string{"https://app.example.com", "https://app.example.com/", "https://app.example.com:8443/a/b/", "http://localhost:8080/callback", "http://127.0.0.1/callback", "http://[::1]:1/callback"} {
			opts := w.opts
			opts.CallbackURL = good
			engine, err := core.Open(t.Context(), w.store, w.keks, &opts)
			if err != nil {
				t.Errorf("callback URL %s: %v", good, err)
				continue
			}
			session, err := engine.User("u3").Connect(t.Context(), core.ConnectInput{Integration: calendar, Browser: "b"})
			if err != nil {
				t.Error(err)
			} else if got, want := w.params(session).Get("redirect_uri"), strings.TrimRight(good, "/")+"/"+calendar; got != want {
				t.Errorf("redirect_uri = %q, want %q", got, want)
			}
			if err := engine.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Message and polling, the same callback in two requests, two processes: one credential.
func TestSecurity8_FinishingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) { in.Identity = core.Identity{} }) // nothing but the session can tell
	engines := []*core.Engine{w.engine, w.open(), w.open()}
	callback := w.mustBegin("u", "ada", core.ConnectInput{AllowMultiple: true})
	ids := w.race(24, func(i int) (core.Credential, error) {
		result, err := engines[i%3].Callback(context.WithoutCancel(t.Context()), callback)
		if w.note(err) != nil {
			return core.Credential{}, err
		}
		return result.Credential, nil
	})
	if len(ids) != 1 || len(w.list("u")) != 1 {
		t.Errorf("24 callbacks of one session made credentials %v, %d are listed, want 1", ids, len(w.list("u")))
	}
	w.wantExchanges(1)
	// What a browser carries is no token and no code of ours.
	for _, name := range []string{"access_token", "token", "credential", "id_token"} {
		again := with(core.CallbackInput{Integration: calendar, Browser: callback.Browser, Values: url.Values{"state": {"x"}}}, name, "at-canary")
		_, err := w.finish(again)
		w.wantErr(name+" in the callback", err, core.ErrSession)
	}
	session := w.session("v", core.ConnectInput{Browser: "b"})
	_, err := w.finish(core.CallbackInput{Integration: calendar, Browser: "b", Values: url.Values{"state": {w.params(session).Get("state")}, "access_token": {"at-canary"}}})
	w.wantInput("a token in place of a code", err, "code")
}

// Unknown identity equals nothing, not even itself; a half known one is not stored.
func TestSecurity10_UnknownIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.change(func(in *core.Integration) { in.Identity = core.Identity{} })
	a := w.mustConnect("u", "ada", core.ConnectInput{ExternalID: "a"})
	b := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true})
	if a.ID == b.ID || a.Account.Known() || a.Account.Same(b.Account) || a.Account.Same(a.Account) {
		t.Errorf("credentials %+v and %+v, want two unknown ones", a, b)
	}
	for _, how := range []core.SameAccount{core.SameAccountUpdate, core.SameAccountReject} {
		w.change(func(in *core.Integration) { in.SameAccount = how })
		if c := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true}); c.ID == a.ID || c.ID == b.ID {
			t.Errorf("%s: the third = %s, want another credential", how, c.ID)
		}
	}
	// Known from now on: that gives the unknown ones no identity, and takes none from them.
	w.change(func(in *core.Integration) { in.Identity, in.SameAccount = w.integration(nil).Identity, "" })
	d := w.mustConnect("u", "ada", core.ConnectInput{AllowMultiple: true})
	if d.ID == a.ID || d.ID == b.ID || !d.Account.Known() {
		t.Errorf("the known one = %+v, want a credential of its own", d)
	}
	_, err := w.connect("u", "ada", core.ConnectInput{Into: a.ID})
	w.wantErr("an unknown account turning out to be one that is connected", err, core.ErrAccountMismatch)
	bob := w.mustConnect("u", "bob", core.ConnectInput{Into: a.ID})
	if bob.ID != a.ID || bob.Account.Subject != "bob" || bob.ExternalID != "a" {
		t.Errorf("an unknown account made known = %+v, want %s as bob", bob, a.ID)
	}
	// And unknown again: a known account is not authorised by an answer that does not say whose it is.
	w.change(func(in *core.Integration) { in.Identity = core.Identity{} })
	_, err = w.connect("u", "ada", core.ConnectInput{Into: d.ID})
	w.wantErr("a known account answered for by an unknown one", err, core.ErrAccountMismatch)
}
