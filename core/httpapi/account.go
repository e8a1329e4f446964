package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/polycred/polycred/core"
)

// Accounts: rows that show one, and the one that disconnects.

// whole returns an account with its configurations.
func (a *api) whole(ctx context.Context, u *core.User, c *core.Credential) (wireCredential, error) {
	configurations, err := u.Configurations(ctx, core.Selector{Credential: c.ID})
	if err != nil {
		return wireCredential{}, err
	}
	found := make([]wireConfiguration, 0, len(configurations))
	for i := range configurations {
		wired, err := a.configuration(ctx, &configurations[i])
		if err != nil {
			return wireCredential{}, err
		}
		found = append(found, wired)
	}
	return a.credential(c, found), nil
}

func (a *api) configuration(ctx context.Context, c *core.Configuration) (wireConfiguration, error) {
	states := map[string]WorkflowState{}
	if a.opts.Workflows != nil {
		known, err := a.opts.Workflows.States(ctx, *c)
		if err != nil {
			return wireConfiguration{}, err
		}
		if known != nil {
			states = known
		}
	}
	return wireConfiguration{
		ID: c.ID, Credential: c.Credential, Default: c.Default, Workflows: states, Settings: c.Settings, Passwords: c.Passwords,
		Missing: c.Missing, Meta: c.Meta, ExternalID: c.ExternalID, Created: c.Created, Updated: c.Updated, ETag: etag(c),
	}, nil
}

// writeCredential answers with an account, as it is now.
func (a *api) writeCredential(w http.ResponseWriter, r *http.Request, u *core.User, c *core.Credential, status int) error {
	wired, err := a.whole(r.Context(), u, c)
	if err != nil {
		return err
	}
	noteCredential(r, c.ID)
	a.write(w, status, wired)
	return nil
}

// pathCredential is the account that the path names, in any of the three forms; a bare external id is looked for in every
// integration.
func (a *api) pathCredential(r *http.Request, u *core.User) (core.Credential, error) {
	return a.named(r.Context(), u, r.PathValue("credential"))
}

// named returns the account that a text names by itself: a UUID, or an external id that only one integration has.
func (a *api) named(ctx context.Context, u *core.User, text string) (core.Credential, error) {
	if isUUID(strings.TrimSpace(text)) {
		return u.Credential(ctx, core.Selector{Credential: text})
	}
	all, err := a.known.all(ctx, a)
	if err != nil {
		return core.Credential{}, err
	}
	var found []core.Credential
	for _, in := range all {
		c, err := u.Credential(ctx, core.Selector{Integration: in.Name, Credential: text})
		switch {
		case err == nil:
			found = append(found, c)
		case !errors.Is(err, core.ErrNotFound):
			return core.Credential{}, err
		}
	}
	switch len(found) {
	case 0:
		return core.Credential{}, errNotFound
	case 1:
		return found[0], nil
	}
	return core.Credential{}, &core.AmbiguousError{Integration: "several integrations", Candidates: found}
}

// getCredential is row 12. An id that row 7 gave for an attempt that failed tells why.
func (a *api) getCredential(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	if key, ok := failedKey(r.PathValue("credential")); ok {
		result, err := u.ConnectOutcomeOf(r.Context(), key)
		if err == nil {
			return a.writeCredential(w, r, u, &result.Credential, http.StatusOK)
		}
		switch {
		case errors.Is(err, core.ErrUnfinished), errors.Is(err, core.ErrSession) && result == nil:
			return errNotFound
		case result == nil: // it says nothing of the attempt
			return err
		}
		return &Error{http.StatusUnprocessableEntity, core.Code(err), core.Message(err)} // never 401 or 403: that logs people out
	}
	c, err := a.pathCredential(r, u)
	if err != nil {
		return err
	}
	wired, err := a.whole(r.Context(), u, &c)
	if err != nil {
		return err
	}
	for _, configuration := range wired.Configs {
		if configuration.Default {
			w.Header().Set("ETag", configuration.ETag)
		}
	}
	noteCredential(r, c.ID)
	a.write(w, http.StatusOK, wired)
	return nil
}

// getAccount is row 13: an integration with one of its accounts, and with its token where a file picker may have it.
func (a *api) getAccount(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	name := r.URL.Query().Get("integration")
	if name == "" {
		return a.listCredentials(w, r, u)
	}
	in, err := a.known.find(r.Context(), a, name)
	if err != nil {
		return err
	}
	sel, err := selected(r, in.Name)
	if err != nil {
		return err
	}
	c, err := u.Credential(r.Context(), sel)
	if err != nil {
		return err
	}
	wired, err := a.integration(r.Context(), &in)
	if err != nil {
		return err
	}
	account, err := a.whole(r.Context(), u, &c)
	if err != nil {
		return err
	}
	wired.SelectedAccount, wired.Provider, wired.HasCredential = &account, account.ProviderData, true
	if r.URL.Query().Get("includeAccountAuth") == "true" {
		token, err := u.PickerToken(r.Context(), core.Selector{Credential: c.ID})
		if err != nil {
			return err
		}
		wired.AccountAuth = map[string]string{"OAUTH_ACCESS_TOKEN": token.Value.Reveal()}
	}
	noteCredential(r, c.ID)
	a.write(w, http.StatusOK, wired)
	return nil
}

// listCredentials is row 13 without an integration, as the REST API has it: all accounts.
func (a *api) listCredentials(w http.ResponseWriter, r *http.Request, u *core.User) error {
	all, err := allCredentials(r.Context(), u)
	if err != nil {
		return err
	}
	wired := make([]wireCredential, 0, len(all))
	for i := range all {
		one, err := a.whole(r.Context(), u, &all[i])
		if errors.Is(err, core.ErrNotFound) { // it has just been disconnected
			continue
		} else if err != nil {
			return err
		}
		wired = append(wired, one)
	}
	a.write(w, http.StatusOK, wired)
	return nil
}

// mostAccounts bounds what one answer lists.
const mostAccounts = 10_000

func allCredentials(ctx context.Context, u *core.User) ([]core.Credential, error) {
	var all []core.Credential
	for after := ""; ; {
		page, err := u.Credentials(ctx, core.ListInput{After: after, Limit: 1000})
		if err != nil {
			return nil, err
		}
		all = append(all, page.Credentials...)
		if after = page.Next; after == "" || len(all) >= mostAccounts {
			return all, nil
		}
	}
}

// deleteIntegration is row 18: it disconnects an account.
func (a *api) deleteIntegration(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	in, err := a.known.find(r.Context(), a, r.PathValue("integration"))
	if err != nil {
		return err
	}
	sel, err := selected(r, in.Name)
	if err != nil {
		return err
	}
	if sel.Credential == "" && sel.Configuration != "" { // or the only account would go, whatever this names
		return invalid("A configuration does not name the account to remove. Send " + sdkCredential + ".")
	}
	if err := u.Disconnect(r.Context(), sel); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
