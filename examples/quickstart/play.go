package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// result is what -json prints.
type result struct {
	Accounts        []account `json:"accounts"`
	Calls           []call    `json:"calls"`
	Refused         string    `json:"refused"`
	Refreshed       bool      `json:"refreshed"`
	AfterDisconnect []account `json:"afterDisconnect"`
}

type account struct {
	ID          string      `json:"id"`
	Integration string      `json:"integration"`
	ExternalID  string      `json:"externalId"`
	Status      core.Status `json:"status"`
	Account     string      `json:"account"`
}

type call struct {
	Credential string `json:"credential"`
	As         string `json:"as"`
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.story, format+"\n", args...) }

// play is the story.
func (d *demo) play(ctx context.Context) (*result, error) {
	r := &result{}
	for _, step := range []func(context.Context, *result) error{
		d.declare, d.connectTwo, d.refuseThird, d.callAsEach, d.refresh, d.disconnectOne, d.reopen,
	} {
		if err := step(ctx, r); err != nil {
			return nil, err
		}
	}
	d.say("\nDone.")
	return r, nil
}

func (d *demo) declare(ctx context.Context, _ *result) error {
	d.say("An encrypted store is open, and a demo provider runs at %s.", d.provider.URL())
	_, err := d.engine.CreateIntegration(ctx, core.Integration{
		Name: integration,
		OAuth2: &core.OAuth2{
			ClientID:         d.provider.ClientID(),
			ClientSecret:     crypto.NewSecret(d.provider.ClientSecret()),
			AuthorizationURL: d.provider.AuthorizationURL(),
			TokenURL:         d.provider.TokenURL(),
			Issuer:           d.provider.Issuer(),
			RequireIssuer:    true,
			Scopes:           []string{"openid", "calendar"},
		},
		Identity: core.Identity{
			Source: core.IdentityURL, URL: d.provider.UserInfoURL(), SubjectPath: "sub", DisplayPath: "name",
		},
		AllowedHosts: []string{d.provider.URL()},
	})
	if err == nil {
		d.say("The integration %s is declared. The user is %q.", integration, user)
	}
	return err
}

func (d *demo) connectTwo(ctx context.Context, r *result) error {
	d.say("\nThe user connects two accounts in the browser, over OAuth with PKCE:")
	for _, in := range []struct{ login, query string }{{"1001", "?as=work"}, {"1002", "?another=1&as=private"}} {
		d.provider.SignIn(in.login)
		page, err := coretest.NewBrowser().Open(ctx, d.base+"/connect"+in.query)
		if err != nil {
			return err
		}
		if page.Status != 200 {
			return fmt.Errorf("connecting failed: %w", d.returnError)
		}
	}
	var err error
	r.Accounts, err = d.list(ctx)
	return err
}

// list prints the user's accounts.
func (d *demo) list(ctx context.Context) ([]account, error) {
	page, err := d.engine.User(user).Credentials(ctx, core.ListInput{Integration: integration})
	if err != nil {
		return nil, err
	}
	var accounts []account
	for _, c := range page.Credentials {
		d.say("  %-8s %-20s %s  %s", c.ExternalID, c.Account.Display, c.Status, c.ID)
		accounts = append(accounts, account{c.ID, c.Integration, c.ExternalID, c.Status, c.Account.Display})
	}
	return accounts, nil
}

func (d *demo) refuseThird(ctx context.Context, r *result) error {
	d.say("\nA third connect, which does not ask to add an account, is refused:")
	if _, err := coretest.NewBrowser().Open(ctx, d.base+"/connect"); err != nil {
		return err
	}
	if !errors.Is(d.returnError, core.ErrAlreadyConnected) {
		return fmt.Errorf("a third account was not refused: %w", d.returnError)
	}
	r.Refused = core.Message(d.returnError)
	d.say("  %s", r.Refused)
	return nil
}

func (d *demo) callAsEach(ctx context.Context, r *result) error {
	d.say("\nThe program calls the provider's API through the account it names:")
	for _, a := range r.Accounts {
		as, err := d.whoAmI(ctx, a.ID)
		if err != nil {
			return err
		}
		if as != a.Account {
			return fmt.Errorf("the call as %s was made as %s", a.Account, as)
		}
		d.say("  as %-8s the provider sees %s", a.ExternalID, as)
		r.Calls = append(r.Calls, call{a.ID, as})
	}
	if _, err := d.whoAmI(ctx, ""); !errors.Is(err, core.ErrAmbiguous) {
		return fmt.Errorf("a call that names no account was not refused: %w", err)
	}
	d.say("  a call that names none is refused: nothing falls through to another account")
	return nil
}

func (d *demo) refresh(ctx context.Context, r *result) error {
	d.say("\nTwo hours pass, and the tokens expire. The next call gets a new one, unless the background work has it already:")
	d.clock.Advance(2 * time.Hour)
	as, err := d.whoAmI(ctx, "work")
	if err != nil {
		return err
	}
	work, err := d.engine.User(user).Credential(ctx, core.Selector{Integration: integration, Credential: "work"})
	if err != nil {
		return err
	}
	r.Refreshed = work.Refreshed.Sub(work.Created) >= 2*time.Hour && as == r.Accounts[0].Account
	if !r.Refreshed {
		return fmt.Errorf("the token is of %v, and the call was made as %s", work.Refreshed, as)
	}
	d.say("  as work, the provider sees %s, with a token that was refreshed", as)
	return nil
}

func (d *demo) disconnectOne(ctx context.Context, r *result) error {
	d.say("\nThe account private is disconnected. The other one goes on working:")
	sel := core.Selector{Integration: integration, Credential: "private"}
	if err := d.engine.User(user).Disconnect(ctx, sel); err != nil {
		return err
	}
	var err error
	if r.AfterDisconnect, err = d.list(ctx); err != nil {
		return err
	}
	if len(r.AfterDisconnect) != 1 {
		return fmt.Errorf("%d accounts are left, not one", len(r.AfterDisconnect))
	}
	return d.stillWorks(ctx, r)
}

func (d *demo) reopen(ctx context.Context, r *result) error {
	d.say("\nThe program ends, and starts again with the same store and key:")
	if err := d.shut(); err != nil {
		return err
	}
	if err := d.open(ctx); err != nil {
		return err
	}
	return d.stillWorks(ctx, r)
}

// stillWorks calls as the account that is left; it needs no name, because there is only one.
func (d *demo) stillWorks(ctx context.Context, r *result) error {
	as, err := d.whoAmI(ctx, "")
	if err != nil {
		return err
	}
	if as != r.Accounts[0].Account {
		return fmt.Errorf("the call was made as %s", as)
	}
	d.say("  the provider sees %s", as)
	return nil
}
