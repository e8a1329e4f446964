package core_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// minimal is an integration that leaves all it can to the catalog.
func minimal(provider string, scopes ...string) core.Integration {
	return core.Integration{
		Name: "it", Provider: provider,
		OAuth2: &core.OAuth2{ClientID: "id", ClientSecret: crypto.NewSecret(clientSecret), Scopes: scopes},
	}
}

var asDeclared = cmp.Options{ // what polycred sets, and what it never gives back
	cmpopts.IgnoreFields(core.Integration{}, "Created", "Updated", "Revision"),
	cmpopts.IgnoreFields(core.OAuth2{}, "ClientSecret"),
}

func TestProviderReadsBackAsDeclared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	in := minimal("google", "https://www.googleapis.com/auth/calendar")
	created, err := w.engine.CreateIntegration(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	read, err := w.engine.Integration(t.Context(), "it")
	if err != nil {
		t.Fatal(err)
	}
	created.DisplayName = "Calendar"
	updated, err := w.engine.UpdateIntegration(t.Context(), created)
	if err != nil {
		t.Fatal(err)
	}
	page, err := w.engine.Integrations(t.Context(), "h", 0)
	if err != nil {
		t.Fatal(err)
	}
	changed := in
	changed.DisplayName = "Calendar"
	for what, pair := range map[string][2]core.Integration{
		"created": {in, read}, "updated": {changed, updated}, "listed": {changed, page.Integrations[0]},
	} {
		if diff := cmp.Diff(pair[0], pair[1], asDeclared); diff != "" {
			t.Errorf("%s: differs from what was declared (-declared +read):\n%s", what, diff)
		}
	}
	text, err := json.Marshal(updated)
	if err != nil {
		t.Fatal(err)
	}
	var back core.Integration
	if err := json.Unmarshal(text, &back); err != nil || strings.Contains(string(text), "Url") {
		t.Errorf("JSON = %s, %v, want only what was declared", text, err)
	}
	if diff := cmp.Diff(updated, back, cmp.Comparer(crypto.Secret.Equal)); diff != "" {
		t.Errorf("JSON differs (-before +after):\n%s", diff)
	}
}

func TestUnknownProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for _, name := range []string{"Google", "nobody", "goo gle", strings.Repeat("x", 1000)} {
		_, err := w.engine.CreateIntegration(t.Context(), minimal(name))
		w.wantInput("provider "+name[:3], err, "provider")
		if !strings.Contains(err.Error(), strings.Join(catalog.Names(), ", ")) || strings.Contains(err.Error(), name) {
			t.Errorf("provider %.10s: error %v, want the names there are, and not that one", name, err)
		}
	}
}

// What is given wins, field by field; what comes out can be changed without harm.
func TestResolve(t *testing.T) {
	t.Parallel()
	in := minimal("atlassian", "own", "offline_access")
	in.DisplayName = "Jira"
	in.AllowedHosts = []string{"own.example.com"}
	in.Identity.DisplayPath = "name"
	o := in.OAuth2
	o.ClientAuth, o.TokenURL, o.Issuer, o.ScopeSeparator = core.ClientAuthBasic, "https://own.example.com/t", "https://own.example.com", ","
	o.AuthorizationParams = map[string]string{"prompt": "", "more": "yes", "nothing": ""}
	o.TokenParams = map[string]string{"extra": "1"}
	o.RevocationURL = "https://own.example.com/revoke/{client_id}"
	o.Refresh = core.RefreshTokens{Rotation: core.RotationReusable, Grace: catalog.Duration(time.Hour)}
	o.Errors = core.TokenErrors{Permanent: []string{"own_code"}, CodePath: "error.code"}
	o.TokensPerUser = 7

	got, err := core.Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	want := core.Integration{
		Name: "it", Provider: "atlassian", DisplayName: "Jira", AllowedHosts: []string{"own.example.com"},
		OAuth2: &core.OAuth2{
			ClientID: "id", ClientAuth: core.ClientAuthBasic, AuthorizationURL: "https://auth.atlassian.com/authorize",
			TokenURL: "https://own.example.com/t", RevocationURL: "https://own.example.com/revoke/{client_id}", Issuer: "https://own.example.com",
			Scopes: []string{"read:me", "offline_access", "own"}, ScopeSeparator: ",",
			AuthorizationParams: map[string]string{"audience": "api.atlassian.com", "more": "yes"}, TokenParams: map[string]string{"extra": "1"},
			TokenEncoding: core.TokenJSON,
			Refresh: core.RefreshTokens{
				Rotation: core.RotationReusable, Grace: catalog.Duration(time.Hour),
				IdleTTL: catalog.Duration(90 * 24 * time.Hour), MaxTTL: catalog.Duration(365 * 24 * time.Hour),
			},
			Errors: core.TokenErrors{Permanent: []string{"own_code"}, CodePath: "error.code"}, TokensPerUser: 7,
		},
		Identity: core.Identity{Source: core.IdentityURL, URL: "https://api.atlassian.com/me", SubjectPath: "account_id", DisplayPath: "name"},
	}
	equal := cmp.Options{cmp.Comparer(crypto.Secret.Equal), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("Resolve differs (-want +got):\n%s", diff)
	}

	got.OAuth2.Scopes[0], got.OAuth2.AuthorizationParams["more"], got.AllowedHosts[0], got.OAuth2.Errors.Permanent[0] = "damaged", "damaged", "damaged", "damaged"
	got.OAuth2.TokenParams["extra"] = "damaged"
	if again, err := core.Resolve(in); err != nil || !cmp.Equal(want, again, equal) {
		t.Errorf("Resolve differs after its result was changed (-want +got):\n%s", cmp.Diff(want, again, equal))
	}
	if o.AuthorizationURL != "" || o.TokenEncoding != "" || !slices.Equal(o.Scopes, []string{"own", "offline_access"}) || len(o.AuthorizationParams) != 3 {
		t.Errorf("Resolve changed what it was given: %+v", *o)
	}
}

func TestResolveMerges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		provider string
		change   func(*core.Integration)
		check    func(*core.Integration) bool
	}{
		{"an identity of another source is whole", "google", func(in *core.Integration) {
			in.Identity = core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub"}
		}, func(in *core.Integration) bool {
			return in.Identity == core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub"}
		}},
		{"the same source keeps the rest", "google", func(in *core.Integration) {
			in.Identity = core.Identity{Source: core.IdentityURL, URL: "https://me.example.com/"}
		}, func(in *core.Integration) bool {
			return in.Identity == core.Identity{Source: core.IdentityURL, URL: "https://me.example.com/", SubjectPath: "sub", DisplayPath: "email"}
		}},
		{"a variable field by field", "salesforce", func(in *core.Integration) {
			in.Variables = map[string]core.Variable{"login": {Default: "acme.my"}, "own": {}}
		}, func(in *core.Integration) bool {
			login := in.Variables["login"]
			return login.Default == "acme.my" && strings.HasPrefix(login.Pattern, "login|test") && len(in.Variables) == 2
		}},
		{"sent hosts are replaced whole", "zoho", func(in *core.Integration) {
			in.SentHosts = []core.SentHost{{Field: "accounts-server", In: core.SentInCallback, Hosts: []string{"accounts.zoho.eu"}, TokenHost: true}}
			in.AllowedHosts = []string{"www.zohoapis.eu"}
		}, func(in *core.Integration) bool { return len(in.SentHosts) == 1 && len(in.SentHosts[0].Hosts) == 1 }},
		{"sent hosts come over", "zoho", nil, func(in *core.Integration) bool {
			return len(in.SentHosts) == 2 && in.SentHosts[0].TokenHost && !in.SentHosts[0].Optional && in.SentHosts[1].Optional
		}},
		{"the top of the answer again", "slack", func(in *core.Integration) { in.OAuth2.TokenPath, in.OAuth2.ScopeParam = ".", "scope" }, func(in *core.Integration) bool {
			return in.OAuth2.TokenPath == "." && in.OAuth2.ScopeParam == "scope" && in.OAuth2.ScopeSeparator == ","
		}},
		{"a tenant from the callback", "quickbooks", nil, func(in *core.Integration) bool {
			return in.OAuth2.TenantParam == "realmId" && in.Identity.TenantPath == "realmid"
		}},
		{"revocation with a client id in its path", "github", nil, func(in *core.Integration) bool {
			return in.OAuth2.Revocation == core.Revocation{Style: core.RevocationDelete, Scope: core.RevokesGrant} && in.OAuth2.Refresh.Rotation == core.RotationSingleUse
		}},
		{"a limit", "salesforce", nil, func(in *core.Integration) bool {
			return in.OAuth2.TokensPerUser == 5 && in.OAuth2.Refresh.Rotation == core.RotationNever
		}},
		{"a pause", "zoho", nil, func(in *core.Integration) bool { return in.OAuth2.Refresh.MinInterval.Std() == time.Minute }},
		{"without provider nothing comes", "", func(in *core.Integration) {
			in.OAuth2.AuthorizationURL, in.OAuth2.TokenURL = "https://a.example.com/", "https://a.example.com/"
			in.OAuth2.TokenParams = map[string]string{"empty": ""}
		}, func(in *core.Integration) bool {
			_, kept := in.OAuth2.TokenParams["empty"]
			return kept && in.DisplayName == "" && in.OAuth2.Refresh == core.RefreshTokens{}
		}},
	} {
		in := minimal(tt.provider)
		if tt.change != nil {
			tt.change(&in)
		}
		got, err := core.Resolve(in)
		if err != nil || !tt.check(&got) {
			t.Errorf("%s: Resolve = %+v, %v", tt.name, got, err)
			if got.OAuth2 != nil {
				t.Logf("%+v", *got.OAuth2)
			}
		}
		if got.OAuth2 != nil && !got.OAuth2.ClientSecret.IsZero() {
			t.Errorf("%s: the client secret came along", tt.name)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, field string
		change      func(*core.Integration)
	}{
		{"a key beside", "provider", func(in *core.Integration) {
			in.OAuth2, in.APIKey = nil, &core.APIKey{TestURL: "https://a.example.com/"}
		}},
		{"no client", "oauth2", func(in *core.Integration) { in.OAuth2 = nil }},
		{"no client id", "oauth2.clientId", func(in *core.Integration) { in.OAuth2.ClientID = "" }},
		{"a default that is no value", "variables.v.default", func(in *core.Integration) {
			in.Variables = map[string]core.Variable{"v": {Default: "a/b"}}
		}},
		{"a default against the catalog's pattern", "variables.login.default", func(in *core.Integration) {
			in.Variables = map[string]core.Variable{"login": {Default: "evil.example"}}
		}},
		{"an encoding", "oauth2.tokenEncoding", func(in *core.Integration) { in.OAuth2.TokenEncoding = "xml" }},
		{"a token path", "oauth2.tokenPath", func(in *core.Integration) { in.OAuth2.TokenPath = "a..b" }},
		{"a token path with a space", "oauth2.tokenPath", func(in *core.Integration) { in.OAuth2.TokenPath = "a b" }},
		{"a scope parameter of ours", "oauth2.scopeParam", func(in *core.Integration) { in.OAuth2.ScopeParam = "state" }},
		{"a scope parameter that is none", "oauth2.scopeParam", func(in *core.Integration) { in.OAuth2.ScopeParam = "a b" }},
		{"a tenant parameter of the protocol", "oauth2.tenantParam", func(in *core.Integration) { in.OAuth2.TenantParam = "code" }},
		{"a tenant parameter that is none", "oauth2.tenantParam", func(in *core.Integration) { in.OAuth2.TenantParam = "a=b" }},
		{"a code", "oauth2.errors.permanent", func(in *core.Integration) { in.OAuth2.Errors.Permanent = []string{"a\nb"} }},
		{"an empty code", "oauth2.errors.transient", func(in *core.Integration) { in.OAuth2.Errors.Transient = []string{""} }},
		{"a long code", "oauth2.errors.rateLimited", func(in *core.Integration) { in.OAuth2.Errors.RateLimited = []string{strings.Repeat("a", 65)} }},
		{"a code in two classes", "oauth2.errors", func(in *core.Integration) {
			in.OAuth2.Errors.Permanent, in.OAuth2.Errors.Transient = []string{"a"}, []string{"a"}
		}},
		{"a code path", "oauth2.errors.codePath", func(in *core.Integration) { in.OAuth2.Errors.CodePath = "." }},
		{"a path at status 200", "oauth2.errors.okStatusErrorPath", func(in *core.Integration) { in.OAuth2.Errors.OKStatusErrorPath = "a/b" }},
		{"a style", "oauth2.revocation.style", func(in *core.Integration) { in.OAuth2.Revocation.Style = "post" }},
		{"a scope of revocation", "oauth2.revocation.scope", func(in *core.Integration) { in.OAuth2.Revocation.Scope = "all" }},
		{"a revocation URL with an unknown variable", "oauth2.revocationUrl", func(in *core.Integration) { in.OAuth2.RevocationURL = "https://a.example.com/{secret}" }},
		{"a rotation", "oauth2.refresh.rotation", func(in *core.Integration) { in.OAuth2.Refresh.Rotation = "sometimes" }},
		{"a negative duration", "oauth2.refresh", func(in *core.Integration) { in.OAuth2.Refresh.MinInterval = -1 }},
		{"a negative limit", "oauth2.tokensPerUser", func(in *core.Integration) { in.OAuth2.TokensPerUser = -1 }},
	} {
		in := minimal("salesforce")
		tt.change(&in)
		var refused *core.InputError
		if got, err := core.Resolve(in); !errors.As(err, &refused) || refused.Field != tt.field {
			t.Errorf("%s: Resolve = %+v, %v, want an InputError on %s", tt.name, got, err, tt.field)
		}
	}
	in := minimal("")
	in.OAuth2.AuthorizationURL, in.OAuth2.TokenURL, in.OAuth2.TenantParam = "https://a.example.com/", "https://a.example.com/", "realmId"
	if _, err := core.Resolve(in); err == nil || !strings.Contains(err.Error(), "oauth2.tenantParam") {
		t.Errorf("a tenant without identity: error %v, want one", err)
	}
}

// A variable has its default where the person gives none.
func TestVariableDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for _, tt := range []struct {
		provider  string
		variables map[string]string
		want      string // host and path of the page; empty: refused
	}{
		{"salesforce", nil, "login.salesforce.com/services/oauth2/authorize"},
		{"salesforce", map[string]string{"login": ""}, "login.salesforce.com/services/oauth2/authorize"},
		{"salesforce", map[string]string{"login": "test"}, "test.salesforce.com/services/oauth2/authorize"},
		{"salesforce", map[string]string{"login": "acme--dev.sandbox.my"}, "acme--dev.sandbox.my.salesforce.com/services/oauth2/authorize"},
		{"salesforce", map[string]string{"login": "evil.example.com/"}, ""},
		{"salesforce", map[string]string{"login": "elsewhere"}, ""},
		{"microsoft", nil, "login.microsoftonline.com/common/oauth2/v2.0/authorize"},
		{"microsoft", map[string]string{"tenant": "contoso.onmicrosoft.com"}, "login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/authorize"},
		{"microsoft", map[string]string{"tenant": ".."}, ""},
	} {
		if _, err := w.engine.Integration(t.Context(), tt.provider); err != nil {
			in := minimal(tt.provider)
			in.Name = tt.provider
			if _, err := w.engine.CreateIntegration(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		session, err := w.engine.User("u").Connect(t.Context(), core.ConnectInput{
			Integration: tt.provider, Browser: "b", AllowMultiple: true, Variables: tt.variables,
		})
		if tt.want == "" {
			for name := range tt.variables {
				w.wantInput(tt.provider, err, "variables."+name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s with %v: %v", tt.provider, tt.variables, err)
			continue
		}
		if u, err := url.Parse(session.URL); err != nil || u.Host+u.Path != tt.want {
			t.Errorf("%s with %v: the page is %s, want %s", tt.provider, tt.variables, session.URL, tt.want)
		}
	}
}

// TestSecurity3_CatalogTokenHosts: the host that a callback names gets the code and the client secret only when the catalog lists it.
func TestSecurity3_CatalogTokenHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	if _, err := w.engine.CreateIntegration(t.Context(), core.Integration{
		Name: "zoho", Provider: "zoho", OAuth2: &core.OAuth2{
			ClientID: w.provider.ClientID(), ClientSecret: crypto.NewSecret(clientSecret),
			AuthorizationURL: w.provider.AuthorizationURL(), TokenURL: w.provider.TokenURL(),
		},
	}); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{
		"", "https://accounts.zoho.com.evil.example", "https://accounts.zoho.evil", "http://accounts.zoho.com", "https://accounts.zoho.com:8443",
		"https://evil@accounts.zoho.com", "https://accounts.zoho.com@evil.example", w.provider.URL(),
	} {
		w.provider.Set(func(sw *coretest.Switches) { sw.ExtraCallbackParams = map[string]string{"accounts-server": host} })
		callback, err := w.begin("u", "ada", core.ConnectInput{Integration: "zoho"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.finish(callback)
		var failed *core.ProviderError
		if !errors.As(w.note(err), &failed) || failed.Class != core.FailurePermanent || failed.Op != "authorize" {
			t.Errorf("accounts-server %q: error %v, want it refused", host, err)
		}
	}
	w.wantExchanges(0)
}
