package core_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// A host that the provider names may receive code and client secret only if the integration lists exactly that host.
func TestSecurity3_TokenHost(t *testing.T) {
	t.Parallel()
	region := extraProvider(t, coretest.OAuthServerOptions{})
	evil := extraProvider(t, coretest.OAuthServerOptions{})
	w := newWorld(t, nil, reach(region, evil))
	w.provide("zoho", region, func(in *core.Integration) { // consent and token are the region's, as it says itself
		in.OAuth2.TokenURL = evil.URL() + "/token" // never used: the field is not optional
		in.SentHosts = []core.SentHost{{Field: "accounts-server", In: core.SentInCallback, Hosts: []string{region.URL()}, TokenHost: true}}
		in.Identity.URL = "{accounts-server}/userinfo"
	})
	callbackWith := func(sent ...string) core.CallbackInput {
		return with(w.mustBegin("u", "ada", core.ConnectInput{Integration: "zoho"}), "accounts-server", sent...)
	}
	host := region.Host()
	for _, sent := range []string{
		"", evil.URL(), "https://" + host, host, "http://user@" + host, "http://" + host + "@canary.example.com", "http://" + host + "#@canary.example.com",
		"http://" + host + "?x", `http://` + host + `\@canary.example.com`, "http://127.0.0.1", "http://127.0.0.1:1", "http://localhost" + host[strings.Index(host, ":"):],
		"http://" + host + ".canary.example.com", "//" + host, "ftp://" + host, "http://" + host + "\x00", " http://" + host, strings.Repeat("canary", 1000),
		"http://0x7f000001" + host[strings.Index(host, ":"):], "http://2130706433" + host[strings.Index(host, ":"):], "http://[::ffff:127.0.0.1]" + host[strings.Index(host, ":"):],
	} {
		_, err := w.finish(callbackWith(sent))
		var failed *core.ProviderError
		if !errors.As(err, &failed) || failed.Op != "authorize" || !strings.Contains(failed.Reason, "accounts-server") {
			t.Errorf("accounts-server %.60q: error %v, want it refused", sent, err)
		}
	}
	_, err := w.finish(callbackWith())
	w.wantErr("no accounts-server", err, core.ErrProvider)
	for name, p := range map[string]*coretest.OAuthServer{"listed": region, "evil": evil, "first": w.provider} {
		if got := p.Calls().Exchange; got != 0 {
			t.Errorf("the %s server got %d codes, want 0", name, got)
		}
	}

	result, err := w.finish(callbackWith(region.URL() + "/some/path"))
	if err != nil || result.Credential.Account.Subject != "ada" {
		t.Fatalf("Callback() with the listed host = %+v, %v", result, err)
	}
	if region.Calls().Exchange != 1 || evil.Calls() != (coretest.Calls{}) {
		t.Errorf("calls: listed %+v, evil %+v, want one code at the listed", region.Calls(), evil.Calls())
	}
	request, _ := region.Last(coretest.EndpointExchange)
	if request.URL != "/token" {
		t.Errorf("the code went to %s, want the path of TokenURL", request.URL)
	}
	// So does every refresh.
	w.clock.Advance(2 * 3600e9)
	if _, err := w.engine.User("u").Token(t.Context(), core.Selector{Integration: "zoho"}); w.note(err) != nil {
		t.Error(err)
	}
	if region.Calls().Refresh != 1 || evil.Calls() != (coretest.Calls{}) {
		t.Errorf("calls: listed %+v, evil %+v, want the refresh at the listed", region.Calls(), evil.Calls())
	}

	t.Run("a list has exact hosts only", func(t *testing.T) {
		for _, hosts := range [][]string{nil, {"*.zoho.com"}, {"{x}.zoho.com"}, {"https://accounts.zoho.com/oauth"}, {""}} {
			_, err := w.engine.CreateIntegration(t.Context(), w.integration(func(in *core.Integration) {
				in.Name = "wide"
				in.SentHosts = []core.SentHost{{Field: "accounts-server", In: core.SentInCallback, Hosts: hosts, TokenHost: true}}
			}))
			w.wantErr("hosts "+strings.Join(hosts, " "), err, core.ErrInvalid)
		}
		_, err := w.engine.CreateIntegration(t.Context(), w.integration(func(in *core.Integration) {
			in.Name = "wide"
			in.SentHosts = []core.SentHost{{Field: "api", In: core.SentInToken, Hosts: []string{"a.example.com"}, TokenHost: true}}
		}))
		w.wantErr("a token host that comes with the token", err, core.ErrInvalid)
	})
	t.Run("an account is known by the host that answered", func(t *testing.T) {
		w.provide("byToken", region, func(in *core.Integration) {
			in.OAuth2.TokenURL, in.OAuth2.Issuer = evil.URL()+"/token", ""
			in.SentHosts = []core.SentHost{{Field: "accounts-server", In: core.SentInCallback, Hosts: []string{region.URL()}, TokenHost: true}}
			in.Identity = core.Identity{Source: core.IdentityToken, SubjectPath: "id"}
		})
		region.Set(func(sw *coretest.Switches) { sw.ExtraTokenFields = map[string]any{"id": "1"} })
		callback := w.mustBegin("u", "ada", core.ConnectInput{Integration: "byToken"})
		result, err := w.finish(with(callback, "accounts-server", region.URL()))
		if err != nil || result.Credential.Account.Issuer != region.Host() {
			t.Errorf("Callback() = %+v, %v, want an account of %s", result, err, region.Host())
		}
	})
	t.Run("optional", func(t *testing.T) {
		w.provide("optional", region, func(in *core.Integration) {
			in.OAuth2.Issuer, in.Identity = "", core.Identity{} // the region's clock stood still
			in.SentHosts = []core.SentHost{{Field: "accounts-server", In: core.SentInCallback, Hosts: []string{w.provider.URL()}, TokenHost: true, Optional: true}}
		})
		before := region.Calls().Exchange
		if _, err := w.connect("v", "ada", core.ConnectInput{Integration: "optional"}); err != nil {
			t.Errorf("without the field: %v", err)
		}
		if got := region.Calls().Exchange; got != before+1 {
			t.Errorf("%d codes went to TokenURL, want one", got-before)
		}
		callback := w.mustBegin("w", "ada", core.ConnectInput{Integration: "optional"})
		_, err := w.finish(with(callback, "accounts-server", evil.URL()))
		w.wantErr("an optional field that is not listed", err, core.ErrProvider)
	})
}

// steeringHosts are values with which a host might be left.
var steeringHosts = []string{
	"", " ", ".", "..", "-x", "a.b", "evil.com", "evil.com#", "evil.com/", "evil.com?", "evil.com:443", `evil.com\`, "a@evil", "a:b@evil", "evil.com%2f",
	"%2f", "%00", "a/b", "../..", "a?b", "a#b", `a\b`, "a\x00b", "a\r\nHost: evil.com", "a b", "é", "evil。com", "[::1]", "127.0.0.1", "{subdomain}", "}", "*",
	"\xff", strings.Repeat("a", 64), strings.Repeat("a", 100000),
}

func TestSecurity4_TemplatedHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.create(func(in *core.Integration) {
		in.Name = "desk"
		in.Variables = map[string]core.Variable{"subdomain": {}}
		in.OAuth2.AuthorizationURL, in.OAuth2.TokenURL = "https://{subdomain}.example.com/authorize", "https://{subdomain}.example.com/token"
		in.OAuth2.Issuer = ""
		in.Identity = core.Identity{}
	})
	w.create(func(in *core.Integration) { // a pattern cannot widen what a value may do
		in.Name = "wide"
		in.Variables = map[string]core.Variable{"subdomain": {Pattern: "(?s).*"}}
		in.OAuth2.AuthorizationURL, in.OAuth2.TokenURL = "https://{subdomain}.example.com/authorize", "https://{subdomain}.example.com/token"
		in.OAuth2.Issuer = ""
		in.Identity = core.Identity{}
	})
	w.create(func(in *core.Integration) {
		in.Name, in.OAuth2 = "deskKeys", nil
		in.Variables = map[string]core.Variable{"subdomain": {}}
		in.APIKey = &core.APIKey{TestURL: "https://{subdomain}.example.com/me"}
		in.Identity = core.Identity{}
	})
	items := len(w.items())
	for _, value := range steeringHosts {
		vars := map[string]string{"subdomain": value}
		session, err := w.engine.User("u").Connect(t.Context(), core.ConnectInput{Integration: "desk", Browser: "b", Variables: vars})
		w.wantInput("subdomain "+value[:min(len(value), 40)], err, "variables.subdomain")
		if session != nil {
			t.Errorf("subdomain %.40q: session %+v, want none", value, session)
		}
		if err != nil && len(value) > 3 && strings.Contains(err.Error(), value) {
			t.Errorf("subdomain %.40q: the error repeats it: %v", value, err)
		}
		_, err = w.engine.User("u").AddKey(t.Context(), core.KeyInput{Integration: "deskKeys", Key: crypto.NewSecret("canary-key"), Variables: vars})
		w.wantInput("key for subdomain "+value[:min(len(value), 40)], err, "variables.subdomain")
	}
	if got := len(w.items()); got != items {
		t.Errorf("the store has %d items, want %d as before", got, items)
	}
	for _, value := range steeringHosts {
		session, err := w.engine.User("u").Connect(t.Context(), core.ConnectInput{Integration: "wide", Browser: "b", Variables: map[string]string{"subdomain": value}})
		if err != nil {
			w.wantErr("a wide pattern", err, core.ErrInvalid)
			continue
		}
		u, err := url.Parse(session.URL)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" || !strings.HasSuffix(u.Host, ".example.com") || u.EscapedPath() != "/authorize" || u.Fragment != "" {
			t.Errorf("subdomain %.40q leads to %s, want it below example.com", value, session.URL)
		}
		if u.Query().Get("redirect_uri") != callbackURL+"/wide" {
			t.Errorf("subdomain %.40q: redirect_uri = %s", value, u.Query().Get("redirect_uri"))
		}
	}

	session := w.session("u", core.ConnectInput{Integration: "desk", Browser: "b", Variables: map[string]string{"subdomain": "Acme"}})
	if !strings.HasPrefix(session.URL, "https://acme.example.com/authorize?") {
		t.Errorf("URL = %s, want it at acme.example.com", session.URL)
	}
	for _, template := range []string{
		"https://{subdomain}/authorize", "https://{subdomain}.com/authorize", "https://example.com.{subdomain}/", "http://{subdomain}.example.com/",
		"https://{subdomain}.github.io/", "https://{subdomain}@example.com/", "https://example.com:{subdomain}/", "https://{unknown}.example.com/",
	} {
		_, err := w.engine.CreateIntegration(t.Context(), w.integration(func(in *core.Integration) {
			in.Name, in.Variables = "free", map[string]core.Variable{"subdomain": {}}
			in.OAuth2.AuthorizationURL = template
		}))
		w.wantInput("template "+template, err, "oauth2.authorizationUrl")
	}
	for name, variable := range map[string]core.Variable{"sub domain": {}, "x}": {}, "": {}, "bad": {Pattern: "("}} {
		_, err := w.engine.CreateIntegration(t.Context(), w.integration(func(in *core.Integration) {
			in.Name, in.Variables = "bad", map[string]core.Variable{name: variable}
		}))
		w.wantInput("variable "+name, err, "variables."+name)
	}
}

// Hosts that come with the token must be on the integration's list; then they become variables.
func TestSecurity4_SentHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.create(func(in *core.Integration) {
		in.Name = "force"
		in.SentHosts = []core.SentHost{{Field: "instance_url", In: core.SentInToken, Hosts: []string{"*.example.com", w.provider.URL()}}}
		in.Identity.URL = "{instance_url}/userinfo"
		in.AllowedHosts = []string{"{instance_url}"}
	})
	host := w.provider.Host()
	for _, sent := range []any{
		nil, "", 5, "https://evil.com", "https://example.com", "https://evilexample.com", "https://a.example.com.evil.com", "http://a.example.com",
		"https://a.example.com:8443", "https://user@a.example.com", "https://evil.com#.example.com", "https://evil.com?.example.com", `https://evil.com\.example.com`,
		"https://evil.com/.example.com", "https://a@evil.com:443/.example.com", "javascript://a.example.com", "https://.example.com", "https://a..example.com",
		"http://127.0.0.1", "http://127.0.0.1:1", "https://" + host, "http://x@" + host, []string{"https://a.example.com"}, map[string]any{"url": "https://a.example.com"},
		"https://a.example.com\r\nX: canary", "https://" + strings.Repeat("canary.", 1000) + "example.com",
	} {
		callback := w.mustBegin("u", "ada", core.ConnectInput{Integration: "force"})
		w.fields(map[string]any{"instance_url": sent})
		before := w.provider.Calls().UserInfo
		_, err := w.finish(callback)
		var failed *core.ProviderError
		if !errors.As(err, &failed) || failed.Op != "exchange" || failed.Class != core.FailurePermanent || !strings.Contains(failed.Reason, "instance_url") {
			t.Errorf("instance_url %.60v: error %v, want it refused", sent, err)
		}
		if got := w.provider.Calls().UserInfo; got != before {
			t.Errorf("instance_url %.60v: the new token was shown to somebody", sent)
		}
	}
	if page, err := w.engine.User("u").Credentials(t.Context(), core.ListInput{}); err != nil || len(page.Credentials) != 0 {
		t.Errorf("accounts = %v, %v, want none", page.Credentials, err)
	}

	w.fields(map[string]any{"instance_url": w.provider.URL() + "/services/data"})
	credential, err := w.connect("u", "ada", core.ConnectInput{Integration: "force"})
	if err != nil || credential.Account.Subject != "ada" {
		t.Fatalf("connect with a listed host = %+v, %v", credential, err)
	}
	client, err := w.engine.User("u").Client(t.Context(), core.Selector{Credential: credential.ID})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := get(t, client, w.provider.APIURL()+"/me"); err != nil || status != 200 {
		t.Errorf("a request to the sent host = %d, %v, want 200", status, err)
	}
	_, err = get(t, client, "https://a.example.com/")
	w.wantErr("a request to another host of the list", err, core.ErrHostNotAllowed)
	for _, name := range []string{"instance_url", "Instance_url"} {
		_, err = w.engine.User("u").Connect(t.Context(), core.ConnectInput{Integration: "force", Browser: "b", Variables: map[string]string{name: "https://evil.com"}})
		w.wantInput("a sent host as variable", err, "variables."+name)
	}

	t.Run("in the callback", func(t *testing.T) {
		w.create(func(in *core.Integration) {
			in.Name = "shop"
			in.SentHosts = []core.SentHost{{Field: "api_domain", In: core.SentInCallback, Hosts: []string{w.provider.URL()}, Optional: true}}
			in.AllowedHosts = []string{"{api_domain}"}
		})
		callback := w.mustBegin("u", "ada", core.ConnectInput{Integration: "shop"})
		before := w.provider.Calls().Exchange
		_, err := w.finish(with(callback, "api_domain", "http://evil.com"))
		w.wantErr("a host that is not listed", err, core.ErrProvider)
		w.wantExchanges(before)
		for user, sent := range map[string][]string{"sent": {w.provider.URL()}, "absent": nil} {
			callback := w.mustBegin(user, "ada", core.ConnectInput{Integration: "shop"})
			result, err := w.finish(with(callback, "api_domain", sent...))
			if err != nil {
				t.Fatal(err)
			}
			client, err := w.engine.User(user).Client(t.Context(), core.Selector{Credential: result.Credential.ID})
			if err != nil {
				t.Fatal(err)
			}
			_, err = get(t, client, w.provider.APIURL()+"/me")
			if allowed := !errors.Is(err, core.ErrHostNotAllowed); allowed != (user == "sent") {
				t.Errorf("%s: a request to the host = %v", user, w.note(err))
			}
		}
	})
}

func get(t *testing.T, client *http.Client, url string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
