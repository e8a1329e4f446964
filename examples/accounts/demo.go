package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/badger"
)

const (
	calendar = "demoCalendar"
	crm      = "demoCRM"
	callback = "http://127.0.0.1:8080/callback" // nobody serves it: the browser of this story stops in front of it
	browser  = "the login session of this browser"
)

// demo is a host program with its accounts: an encrypted store, an engine, and a demo provider in place of real ones.
type demo struct {
	story
	clock    *coretest.Clock
	provider *coretest.OAuthServer
	store    *badger.Store
	engine   *core.Engine

	options       core.Options
	calendar      core.Integration
	crm           core.Integration
	keks          crypto.KEKs
	acme          *core.User // the connected user: a company
	ada, bob      *core.User // the same company, when one of its people acts
	a, b, c, crmA core.Credential
}

func newDemo(out io.Writer, dir string) (*demo, error) {
	d := &demo{story: story{out: out, labels: map[string]string{}}, clock: coretest.NewClock(time.Time{})}
	var err error
	if d.provider, err = coretest.NewOAuthServer(&coretest.OAuthServerOptions{Now: d.clock.Now}); err != nil {
		return nil, err
	}
	for _, name := range []string{"work", "private", "team"} {
		d.provider.AddAccount(coretest.Account{Subject: name, Name: name + "@example.com"})
	}
	kek, err := crypto.CreateKEK(filepath.Join(dir, "kek"))
	if err == nil {
		d.keks = crypto.KEKs{Tokens: kek, Policy: kek}
		d.store, err = badger.Open(filepath.Join(dir, "store"), nil)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.options = core.Options{
		CallbackURL: callback, PrivateHosts: []string{d.provider.Host()}, Now: d.clock.Now,
		Logger: slog.New(slog.DiscardHandler), // every refusal is logged too, but here they are what is shown
	}
	d.calendar = d.provider.Integration(calendar)
	d.calendar.Settings = []input.Input{
		{ID: "folder", Type: input.Text, Default: "inbox"},
		{ID: "days", Type: input.Number, Title: "How many days back", Default: 7},
		{ID: "pin", Type: input.Password},
	}
	d.crm = d.provider.Integration(crm)
	d.crm.Setup = []input.Input{{
		ID: "region", Type: input.Enum, Required: true, Options: []input.Option{{Value: "eu"}, {Value: "us"}},
	}}
	return d, nil
}

// open opens the engine and declares the integrations, as a program does when it starts for the first time.
func (d *demo) open(ctx context.Context) (err error) {
	if d.engine, err = core.Open(ctx, d.store, d.keks, &d.options); err != nil {
		return err
	}
	for _, in := range []core.Integration{d.calendar, d.crm} {
		if _, err := d.engine.CreateIntegration(ctx, in); err != nil {
			return err
		}
	}
	d.acme = d.engine.User("acme")
	d.ada, d.bob = d.acme.As("ada"), d.acme.As("bob")
	return nil
}

func (d *demo) close() (err error) {
	if d.engine != nil {
		err = d.engine.Close()
	}
	if d.store != nil {
		err = errors.Join(err, d.store.Close())
	}
	d.provider.Close()
	return err
}

// connect is the whole flow: who signs in at the provider is the account, and the browser carries code and state back.
func (d *demo) connect(ctx context.Context, by *core.User, account string, in core.ConnectInput) (core.Credential, error) {
	if in.Integration == "" {
		in.Integration = calendar
	}
	in.Browser = browser
	session, err := by.Connect(ctx, in)
	if err != nil {
		return core.Credential{}, err
	}
	d.provider.SignIn(account)
	page, err := coretest.NewBrowser().OpenUntil(ctx, session.URL, callback)
	if err != nil {
		return core.Credential{}, err
	}
	back, err := url.Parse(page.URL)
	if err != nil {
		return core.Credential{}, err
	}
	result, err := d.engine.Callback(ctx, core.CallbackInput{Integration: in.Integration, Values: back.Query(), Browser: browser})
	if err != nil {
		return core.Credential{}, err
	}
	return result.Credential, nil
}

// seenAs calls the provider's API through one account and returns whom the provider saw.
func (d *demo) seenAs(ctx context.Context, by *core.User, sel core.Selector) (string, error) {
	client, err := by.Client(ctx, sel)
	if err != nil {
		return "", err
	}
	resp, err := client.Get(d.provider.APIURL() + "/me")
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the provider answered %s", resp.Status)
	}
	var me struct{ Account string }
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&me)
	return me.Account, err
}

func of(credential string) core.Selector {
	return core.Selector{Integration: calendar, Credential: credential}
}
