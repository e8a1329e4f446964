package core_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

func plainIntegration() core.Integration {
	return core.Integration{
		Name: "acme",
		OAuth2: &core.OAuth2{
			ClientID: "id", ClientSecret: crypto.NewSecret("canary"),
			AuthorizationURL: "https://acme.example.com/authorize", TokenURL: "https://acme.example.com/token",
		},
	}
}

func TestIntegrationIsChecked(t *testing.T) {
	t.Parallel()
	engine := coretest.NewEngine(t, nil)
	for name, c := range map[string]struct {
		change func(*core.Integration)
		field  string
	}{
		"no name":                   {func(in *core.Integration) { in.Name = "" }, "integration"},
		"a long name":               {func(in *core.Integration) { in.Name = strings.Repeat("x", 65) }, "integration"},
		"a name with a slash":       {func(in *core.Integration) { in.Name = "a/b" }, "integration"},
		"a name of dots":            {func(in *core.Integration) { in.Name = ".." }, "integration"},
		"a request object":          {func(in *core.Integration) { in.OAuth2.AuthorizationParams = map[string]string{"request": "x"} }, "oauth2.authorizationParams"},
		"no scheme":                 {func(in *core.Integration) { in.OAuth2 = nil }, "oauth2"},
		"two schemes":               {func(in *core.Integration) { in.APIKey = &core.APIKey{} }, "oauth2"},
		"no client id":              {func(in *core.Integration) { in.OAuth2.ClientID = "" }, "oauth2.clientId"},
		"no token URL":              {func(in *core.Integration) { in.OAuth2.TokenURL = "" }, "oauth2.tokenUrl"},
		"a relative URL":            {func(in *core.Integration) { in.OAuth2.AuthorizationURL = "/authorize" }, "oauth2.authorizationUrl"},
		"an unknown variable":       {func(in *core.Integration) { in.OAuth2.TokenURL = "https://{x}.example.com/t" }, "oauth2.tokenUrl"},
		"a host that can be chosen": {freeHost("https://{x}/t"), "oauth2.tokenUrl"},
		"a public suffix":           {freeHost("https://{x}.co.uk/t"), "oauth2.tokenUrl"},
		"a revocation URL":          {func(in *core.Integration) { in.OAuth2.RevocationURL = "ftp://x" }, "oauth2.revocationUrl"},
		"an issuer":                 {func(in *core.Integration) { in.OAuth2.Issuer = "acme" }, "oauth2.issuer"},
		"no issuer to require":      {func(in *core.Integration) { in.OAuth2.RequireIssuer = true }, "oauth2.issuer"},
		"a client auth":             {func(in *core.Integration) { in.OAuth2.ClientAuth = "jwt" }, "oauth2.clientAuth"},
		"plain PKCE":                {func(in *core.Integration) { in.OAuth2.PKCE = "plain" }, "oauth2.pkce"},
		"no proof at all": {func(in *core.Integration) {
			in.OAuth2.PKCE, in.OAuth2.ClientAuth = core.PKCERefused, core.ClientAuthNone
		}, "oauth2.pkce"},
		"our own parameter":   {func(in *core.Integration) { in.OAuth2.AuthorizationParams = map[string]string{"state": "x"} }, "oauth2.authorizationParams"},
		"our own token param": {func(in *core.Integration) { in.OAuth2.TokenParams = map[string]string{"code": "x"} }, "oauth2.tokenParams"},
		"a scope of two":      {func(in *core.Integration) { in.OAuth2.Scopes = []string{"a b"} }, "oauth2.scopes"},
		"an identity source":  {func(in *core.Integration) { in.Identity.Source = "name" }, "identity.source"},
		"a source of keys":    {func(in *core.Integration) { in.Identity.Source = core.IdentityTest }, "identity.source"},
		"no subject":          {func(in *core.Integration) { in.Identity.Source = core.IdentityToken }, "identity.subjectPath"},
		"half an identity":    {func(in *core.Integration) { in.Identity.SubjectPath = "sub" }, "identity.source"},
		"an identity URL": {func(in *core.Integration) {
			in.Identity = core.Identity{Source: core.IdentityURL, SubjectPath: "sub", URL: "x"}
		}, "identity.url"},
		"a host with a path":    {func(in *core.Integration) { in.AllowedHosts = []string{"api.example.com/v1"} }, "allowedHosts"},
		"every host":            {func(in *core.Integration) { in.AllowedHosts = []string{"*"} }, "allowedHosts"},
		"same account":          {func(in *core.Integration) { in.SameAccount = "merge" }, "sameAccount"},
		"other account":         {func(in *core.Integration) { in.OtherAccount = "merge" }, "otherAccount"},
		"a sent host without a": {func(in *core.Integration) { in.SentHosts = []core.SentHost{{Field: "h", In: "token"}} }, "sentHosts.0.hosts"},
		"a free sent host": {func(in *core.Integration) {
			in.SentHosts = []core.SentHost{{Field: "h", In: core.SentInToken, Hosts: []string{"*"}}}
		}, "sentHosts.0.hosts"},
		"a token host by suffix": {func(in *core.Integration) {
			in.SentHosts = []core.SentHost{{Field: "h", In: core.SentInCallback, Hosts: []string{"*.example.com"}, TokenHost: true}}
		}, "sentHosts.0.hosts"},
		"a token host from the token": {func(in *core.Integration) {
			in.SentHosts = []core.SentHost{{Field: "h", In: core.SentInToken, Hosts: []string{"a.example.com"}, TokenHost: true}}
		}, "sentHosts.0.tokenHost"},
		"a key without a header": {func(in *core.Integration) {
			in.OAuth2, in.APIKey = nil, &core.APIKey{In: core.KeyHeader, TestURL: "https://acme.example.com/me"}
		}, "apiKey.name"},
		"a bearer key with a name": {func(in *core.Integration) {
			in.OAuth2, in.APIKey = nil, &core.APIKey{Name: "X-Key", TestURL: "https://acme.example.com/me"}
		}, "apiKey.name"},
		"a key without a test": {func(in *core.Integration) { in.OAuth2, in.APIKey = nil, &core.APIKey{} }, "apiKey.testUrl"},
		"a header injection": {func(in *core.Integration) {
			in.OAuth2, in.APIKey = nil, &core.APIKey{In: core.KeyHeader, Name: "X-Key", Prefix: "a\r\nb", TestURL: "https://acme.example.com/me"}
		}, "apiKey.prefix"},
		"a setting without an id": {func(in *core.Integration) { in.Settings = []input.Input{{Type: input.Text}} }, "settings.0.id"},
		"setup without a type":    {func(in *core.Integration) { in.Setup = []input.Input{{ID: "site"}} }, "setup.0.type"},
	} {
		in := plainIntegration()
		c.change(&in)
		_, err := engine.CreateIntegration(t.Context(), in)
		var wrong *core.InputError
		if !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: CreateIntegration = %v, want an InputError about %s", name, err, c.field)
		}
		wantClean(t, err)
	}
	if page, err := engine.Integrations(t.Context(), "", 0); err != nil || len(page.Integrations) != 0 {
		t.Errorf("Integrations = %v, %v, want none created", page.Integrations, err)
	}
}

func freeHost(url string) func(*core.Integration) {
	return func(in *core.Integration) {
		in.Variables = map[string]core.Variable{"x": {}}
		in.OAuth2.TokenURL = url
	}
}

func TestIntegrationLifecycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx := t.Context()
	created := w.create(func(in *core.Integration) { in.Name = "acme" })
	if created.Revision == 0 || created.Created.IsZero() || !created.OAuth2.ClientSecret.IsZero() {
		t.Errorf("created = %+v, want a revision, a date and no secret", created)
	}
	read, err := w.engine.Integration(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(created, read, cmp.AllowUnexported()); diff != "" {
		t.Errorf("read differs from created (-created +read):\n%s", diff)
	}
	if text, err := json.Marshal(read); err != nil || strings.Contains(string(text), "ecret\":") {
		t.Errorf("Marshal = %s, %v, want a document without a secret", text, err)
	}
	_, err = w.engine.CreateIntegration(ctx, w.integration(func(in *core.Integration) { in.Name = "acme" }))
	w.wantErr("creating it twice", err, core.ErrExists)

	read.DisplayName = "Acme"
	updated, err := w.engine.UpdateIntegration(ctx, read)
	if err != nil || updated.DisplayName != "Acme" || updated.Revision == read.Revision {
		t.Fatalf("UpdateIntegration = %+v, %v", updated, err)
	}
	_, err = w.engine.UpdateIntegration(ctx, read)
	w.wantErr("updating what was changed since", err, core.ErrConflict)
	w.mustConnect("u", "ada", core.ConnectInput{Integration: "acme"}) // the secret is still there
	w.wantErr("deleting it while it is used", w.engine.DeleteIntegration(ctx, "acme"), core.ErrInUse)
	w.mustConnect("u", "bob", core.ConnectInput{Integration: "acme", AllowMultiple: true}) // and open again
	for _, login := range []string{"ada", "bob"} {
		page, err := w.engine.User("u").Credentials(ctx, core.ListInput{Integration: "acme", Limit: 1})
		if err != nil || len(page.Credentials) != 1 {
			t.Fatalf("%s: %v, %v", login, page, err)
		}
		if err := w.engine.User("u").Disconnect(ctx, core.Selector{Credential: page.Credentials[0].ID}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.engine.DeleteIntegration(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"deleting it twice": w.engine.DeleteIntegration(ctx, "acme"),
		"its secret":        w.engine.SetClientSecret(ctx, "acme", crypto.NewSecret("canary")),
	} {
		w.wantErr(what, err, core.ErrNotFound)
	}
	w.create(func(in *core.Integration) { in.Name = "acme" }) // the name is free again
}

func TestIntegrationsInPages(t *testing.T) {
	t.Parallel()
	engine := coretest.NewEngine(t, nil)
	for _, name := range []string{"c", "a", "b"} {
		in := plainIntegration()
		in.Name = name
		if _, err := engine.CreateIntegration(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for after := ""; ; {
		page, err := engine.Integrations(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range page.Integrations {
			names = append(names, in.Name)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "a b c" {
		t.Errorf("pages of two = %s, want a b c", got)
	}
	if _, err := engine.Integrations(t.Context(), "", 1001); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("a page of 1001 = %v, want %v", err, core.ErrInvalid)
	}
}

// TestDeleteAgainstConnect deletes an integration while accounts are connected: afterwards there is the integration and
// an account, or neither.
func TestDeleteAgainstConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for range 20 {
		w.create(func(in *core.Integration) { in.Name = "acme" })
		var group sync.WaitGroup
		var deleted error
		for i := range 4 {
			group.Go(func() {
				_, err := w.connect(fmt.Sprint("user", i), "ada", core.ConnectInput{Integration: "acme"})
				if err != nil && !errors.Is(err, core.ErrNotFound) && !errors.Is(err, core.ErrDeleting) {
					t.Errorf("connect during the deletion: %v", err)
				}
			})
		}
		group.Go(func() { deleted = w.engine.DeleteIntegration(t.Context(), "acme") })
		group.Wait()
		accounts := 0
		for i := range 4 {
			user := w.engine.User(fmt.Sprint("user", i))
			page, err := user.Credentials(t.Context(), core.ListInput{})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Credentials {
				accounts++
				if err := user.Disconnect(t.Context(), core.Selector{Credential: c.ID}); err != nil {
					t.Fatal(err)
				}
			}
		}
		switch {
		case deleted == nil && accounts > 0:
			t.Fatalf("the integration is gone and %d accounts are left", accounts)
		case errors.Is(deleted, core.ErrInUse), errors.Is(deleted, core.ErrConflict):
			if err := w.engine.DeleteIntegration(t.Context(), "acme"); err != nil {
				t.Fatal(err)
			}
		case deleted != nil:
			t.Fatal(deleted)
		}
	}
}
