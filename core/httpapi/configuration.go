package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/polycred/polycred/core"
)

// Configurations: rows 14 to 17.

// etag is the revision of a configuration as HTTP has it.
func etag(c *core.Configuration) string { return `"` + strconv.FormatUint(c.Revision, 10) + `"` }

// ifMatch is the revision that a change is meant for; 0: whatever there is.
func ifMatch(r *http.Request) (uint64, error) {
	text := strings.TrimSpace(r.Header.Get("If-Match"))
	if text == "" || text == "*" {
		return 0, nil
	}
	rev, err := strconv.ParseUint(strings.Trim(strings.TrimPrefix(text, "W/"), `"`), 10, 64)
	if err != nil || rev == 0 {
		return 0, invalid("If-Match is no ETag of a configuration.")
	}
	return rev, nil
}

// errChanged answers a change that was meant for another state (RFC 9110 §15.5.13).
var errChanged = &Error{http.StatusPreconditionFailed, "conflict", "Somebody else changed this at the same time. Look at it again and repeat the change."}

// patchCredential is row 14. It replaces what the body names, sharedSettings or workflowSettings, and leaves the other.
func (a *api) patchCredential(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	var body struct {
		Config map[string]json.RawMessage `json:"config"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	var settings map[string]any
	var states map[string]WorkflowState
	for name, into := range map[string]any{"sharedSettings": &settings, "workflowSettings": &states} {
		if raw, ok := body.Config[name]; ok && json.Unmarshal(raw, into) != nil {
			return invalid("config." + name + " must be an object.")
		}
	}
	if settings == nil && states == nil {
		return invalid("config must hold sharedSettings or workflowSettings.")
	}
	revision, err := ifMatch(r)
	if err != nil {
		return err
	}
	c, err := a.pathCredential(r, u)
	if err != nil {
		return err
	}
	sel, err := selectedConfiguration(r, c.ID)
	if err != nil {
		return err
	}
	if err := a.checkStates(r.Context(), &c, states); err != nil {
		return err
	}
	var configuration core.Configuration
	if settings != nil {
		if configuration, err = replaceSettings(r.Context(), u, sel, settings, revision); err != nil {
			return err
		}
	} else if configuration, err = u.Configuration(r.Context(), sel); err != nil {
		return err
	}
	if states != nil {
		if settings != nil && revision != 0 {
			revision = configuration.Revision // of what has just been changed
		}
		if err := a.setStates(r, u, &configuration, states, revision); err != nil {
			return err
		}
	}
	w.Header().Set("ETag", etag(&configuration))
	return a.writeCredential(w, r, u, &c, http.StatusOK)
}

// replaceSettings makes settings all that a configuration has, but for passwords that are not named: nobody who reads
// settings can send those back (security 17).
func replaceSettings(ctx context.Context, u *core.User, sel core.Selector, settings map[string]any, revision uint64) (core.Configuration, error) {
	for try := 0; ; try++ {
		before, err := u.Configuration(ctx, sel)
		if err != nil {
			return before, err
		}
		if revision != 0 && before.Revision != revision {
			return before, errChanged
		}
		change := make(map[string]any, len(settings)+len(before.Settings))
		for id := range before.Settings {
			change[id] = nil
		}
		for id, value := range settings {
			change[id] = value
		}
		update := core.ConfigurationUpdate{Settings: change, Revision: before.Revision}
		if len(change) == 0 {
			return before, nil
		}
		after, err := u.UpdateConfiguration(ctx, core.Selector{Credential: before.Credential, Configuration: before.ID}, update)
		switch {
		case !errors.Is(err, core.ErrConflict):
			return after, err
		case revision != 0:
			return after, errChanged
		case try == 20:
			return after, err
		}
	}
}

// postConfiguration is row 15.
func (a *api) postConfiguration(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	var body struct {
		ExternalID string         `json:"externalId"`
		Meta       map[string]any `json:"meta"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	c, err := a.pathCredential(r, u)
	if err != nil {
		return err
	}
	made, err := u.CreateConfiguration(r.Context(), core.Selector{Credential: c.ID}, core.ConfigurationInput{ExternalID: body.ExternalID, Meta: body.Meta})
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(&made))
	return a.writeCredential(w, r, u, &c, http.StatusCreated)
}

// pathConfiguration is the configuration that the path names, else the header.
func (a *api) pathConfiguration(r *http.Request, u *core.User) (core.Credential, core.Selector, error) {
	c, err := a.pathCredential(r, u)
	if err != nil {
		return c, core.Selector{}, err
	}
	if named := r.PathValue("configuration"); named != "" {
		return c, core.Selector{Credential: c.ID, Configuration: named}, nil
	}
	sel, err := selectedConfiguration(r, c.ID)
	return c, sel, err
}

// patchConfiguration is row 16.
func (a *api) patchConfiguration(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	var body struct {
		Meta       map[string]any `json:"meta"`
		ExternalID *string        `json:"externalId"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	revision, err := ifMatch(r)
	if err != nil {
		return err
	}
	c, sel, err := a.pathConfiguration(r, u)
	if err != nil {
		return err
	}
	changed, err := u.UpdateConfiguration(r.Context(), sel, core.ConfigurationUpdate{Meta: body.Meta, ExternalID: body.ExternalID, Revision: revision})
	if errors.Is(err, core.ErrConflict) && revision != 0 {
		return errChanged
	} else if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(&changed))
	return a.writeCredential(w, r, u, &c, http.StatusOK)
}

// deleteConfiguration is row 17.
func (a *api) deleteConfiguration(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	_, sel, err := a.pathConfiguration(r, u)
	if err != nil {
		return err
	}
	if err := u.DeleteConfiguration(r.Context(), sel); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
