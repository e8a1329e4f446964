package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"slices"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

//go:embed pages
var pages embed.FS

var templates = template.Must(template.ParseFS(pages, "pages/*.html"))

// demo is everything around the server that somebody else runs in real life: a provider with its API, and an application with
// its key and its page. It listens on loopback only.
type demo struct {
	provider *coretest.OAuthServer
	api      *upstream
	listener net.Listener // of the application
	key      demoKey
}

// people have accounts at the provider. Their API keys are "key-" and the login.
var people = []coretest.Account{
	{Subject: "ada", Name: "ada@example.com"}, {Subject: "bob", Name: "bob@example.com"}, {Subject: "cyd", Name: "cyd@example.com"},
}

// newDemo starts the provider and adds to the configuration what it needs: integrations, unless it declares those itself, the
// key, and the application's origin.
func newDemo(keyFile string, cfg *config, public string) (d *demo, err error) {
	d = &demo{api: &upstream{}}
	if d.key, err = newDemoKey(keyFile); err != nil {
		return nil, err
	}
	key, err := d.key.public()
	if err != nil {
		return nil, err
	}
	if d.listener, err = listen("the demo application", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	cfg.Project = cfg.projectOr(demoProject)
	cfg.SigningKeys = append(slices.Clone(cfg.SigningKeys), key)
	cfg.AllowedOrigins = append(slices.Clone(cfg.AllowedOrigins), d.url())

	names := []string{"googleCalendar", "slack", "googledrive"}
	for _, in := range cfg.Integrations {
		names = append(names, in.Name)
	}
	redirects := slices.Clone(cfg.RedirectURLs)
	for _, name := range names {
		redirects = append(redirects, public+"/callback/"+name)
	}
	d.provider, err = coretest.NewOAuthServer(&coretest.OAuthServerOptions{
		Accounts: people, RedirectURIs: redirects, Fallback: d.api.handler(d),
		Switches: coretest.Switches{PKCE: coretest.PKCEIgnored}, // so that slack can begin an installation, which has no verifier
	})
	if err != nil {
		_ = d.listener.Close()
		return nil, err
	}
	for _, a := range people {
		d.provider.AddKey("key-"+a.Subject, a.Subject)
	}
	d.api.provider = d.provider.APIURL()
	cfg.PrivateHosts = append(slices.Clone(cfg.PrivateHosts), d.provider.Host())
	for _, in := range d.integrations() {
		if !slices.ContainsFunc(cfg.Integrations, func(own core.Integration) bool { return own.Name == in.Name }) {
			cfg.Integrations = append(cfg.Integrations, in)
		}
	}
	return d, nil
}

func (d *demo) close() {
	_ = d.listener.Close()
	d.provider.Close()
}

// url is the origin of the application.
func (d *demo) url() string { return "http://" + d.listener.Addr().String() }

// integrations are those of the demo: each shows something else.
func (d *demo) integrations() []core.Integration {
	oauth := func(name, title string, more func(*core.Integration)) core.Integration {
		in := d.provider.Integration(name)
		in.DisplayName, in.OAuth2.AuthorizationURL = title, d.provider.URL()+"/consent"
		in.OAuth2.ClientSecret = crypto.NewSecret(d.provider.ClientSecret())
		in.AllowedHosts, in.APIURL = []string{d.provider.URL()}, d.provider.URL()+"/upstream"
		if more != nil {
			more(&in)
		}
		return in
	}
	return []core.Integration{
		oauth("googleCalendar", "Google Calendar", func(in *core.Integration) { // settings of each account
			in.Settings = []input.Input{
				{ID: "calendar", Type: input.DynamicEnum, Title: "Calendar"},
				{ID: "notify", Type: input.Switch, Title: "Tell me about changes", Default: true},
				{ID: "feed", Type: input.Password, Title: "Password of the feed"},
			}
		}),
		oauth("slack", "Slack", func(in *core.Integration) { // its own directory may begin an installation
			in.ProviderInitiated = true
			in.OAuth2.RequireIssuer = false // completeInstall hands over the code and nothing else
		}),
		oauth("googledrive", "Google Drive", func(in *core.Integration) { // a question once it is authorised
			in.PickerTokens = true
			in.Setup = []input.Input{{ID: "folder", Type: input.Text, Title: "Folder", Required: true}}
		}),
		{ // an API key
			Name: "custom.mycrm", DisplayName: "My CRM", APIKey: &core.APIKey{TestURL: d.provider.APIURL() + "/me"},
			Identity:     core.Identity{Source: core.IdentityTest, SubjectPath: "subject", DisplayPath: "account"},
			AllowedHosts: []string{d.provider.URL()}, APIURL: d.provider.URL() + "/upstream",
		},
	}
}

// sources are where inputs get their choices from: here the calendars of the account.
func (d *demo) sources() map[string]map[string]httpapi.Source {
	calendars := func(ctx context.Context, _ *core.Credential, client *http.Client, q httpapi.SourceQuery) (httpapi.SourcePage, error) {
		address := d.provider.URL() + "/upstream/calendars?search=" + url.QueryEscape(q.Search)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return httpapi.SourcePage{}, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return httpapi.SourcePage{}, err
		}
		defer func() { _ = resp.Body.Close() }()
		var answer struct {
			Calendars []struct{ ID, Name string }
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
			return httpapi.SourcePage{}, fmt.Errorf("the provider answered %s: %w", resp.Status, err)
		}
		var page httpapi.SourcePage
		for _, c := range answer.Calendars {
			page.Records = append(page.Records, httpapi.SourceRecord{Label: c.Name, Value: c.ID})
		}
		return page, nil
	}
	return map[string]map[string]httpapi.Source{"googleCalendar": {"calendars": calendars}}
}

// application is the demo application: a page, and the address that gives it a token for whoever is signed in.
func (d *demo) application(at addresses) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		// What an application's page should send: where it may connect to. It must not send Cross-Origin-Opener-Policy:
		// same-origin, or the window in which accounts are connected could not answer.
		w.Header().Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; connect-src 'self' "+at.Public)
		show(w, "application.html", at)
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		token, err := d.key.token(at.Project, "user-1") // a real one looks who is signed in
		if err != nil || r.Host != d.listener.Addr().String() {
			http.Error(w, "no token", http.StatusForbidden)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		_, _ = fmt.Fprint(w, token)
	})
	return mux
}

func show(w http.ResponseWriter, page string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = templates.ExecuteTemplate(w, page, data) // or the browser is gone
}
