package httpapi

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"strings"

	"github.com/polycred/polycred/core"
)

// features are what the SDK asks for before it connects without a page, or maps fields.
var features = []string{"headless-cp", "dfm"}

// headerUserMeta is JSON about the user, of SDKs before 2.1.
const headerUserMeta = "X-Paragon-User-Metadata"

// wireProject is what rows 1 and 3 say of the project.
type wireProject struct {
	ID       string   `json:"id"`
	Plan     string   `json:"billingPlan"`
	Features []string `json:"accessibleFeatures"`
}

// wireMe is row 1.
type wireMe struct {
	Authenticated bool               `json:"authenticated"`
	UserID        string             `json:"userId"`
	Person        string             `json:"person,omitempty"`
	Project       wireProject        `json:"project"`
	Integrations  map[string]*wireIn `json:"integrations"`
	Meta          map[string]any     `json:"meta"`
	Resources     []any              `json:"resources"`
}

// wireIn is one integration of row 1: all accounts, and at its top level what is so of the one account that is meant when
// none is named.
type wireIn struct {
	Enabled          bool                     `json:"enabled"`
	All              []wireCredential         `json:"allCredentials"`
	AllConfigs       []wireConfiguration      `json:"allConfigurations"`
	CredentialID     string                   `json:"credentialId,omitempty"`
	CredentialStatus core.Status              `json:"credentialStatus,omitempty"`
	ProviderID       string                   `json:"providerId,omitempty"`
	ProviderData     map[string]any           `json:"providerData,omitzero"`
	ConfigID         string                   `json:"credentialConfigId,omitempty"`
	Workflows        map[string]WorkflowState `json:"workflowSettings,omitzero"` // there, if empty, with an account
	Configured       map[string]WorkflowState `json:"configuredWorkflows,omitzero"`
	Settings         map[string]any           `json:"sharedSettings,omitzero"`
	Meta             map[string]any           `json:"configMeta,omitzero"`
	ExternalID       string                   `json:"externalId,omitempty"`
}

func (a *api) project() wireProject { return wireProject{a.engine.Project(), "", features} }

// getProject is row 3, of SDKs before 1.0.40.
func (a *api) getProject(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	if err := a.headerMeta(r, u); err != nil {
		return err
	}
	a.write(w, http.StatusOK, a.project())
	return nil
}

// getMe is row 1.
func (a *api) getMe(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	if err := a.headerMeta(r, u); err != nil {
		return err
	}
	return a.writeMe(w, r, u)
}

// headerMeta stores what SDKs before 2.1 tell of the user in a header of rows 1 and 3, instead of row 2. What cannot be
// stored is passed over: it must keep nobody from signing in.
func (a *api) headerMeta(r *http.Request, u *core.User) error {
	var change map[string]any
	if json.Unmarshal([]byte(r.Header.Get(headerUserMeta)), &change) != nil {
		return nil //nolint:nilerr // there is none, or it is broken
	}
	known, err := u.Meta(r.Context())
	if err != nil {
		return err
	}
	maps.DeleteFunc(change, func(name string, value any) bool { return value == nil || reflect.DeepEqual(known[name], value) })
	if len(change) == 0 {
		return nil
	}
	_, _ = u.UpdateMeta(r.Context(), change)
	return r.Context().Err()
}

func (a *api) writeMe(w http.ResponseWriter, r *http.Request, u *core.User) error {
	meta, err := u.Meta(r.Context())
	if err != nil {
		return err
	}
	all, err := a.known.all(r.Context(), a)
	if err != nil {
		return err
	}
	me := wireMe{
		Authenticated: true, UserID: u.ID(), Person: u.Person(), Project: a.project(), Integrations: make(map[string]*wireIn, len(all)),
		Meta: meta, Resources: []any{},
	}
	for _, in := range all { // also those without an account: the SDK looks each of them up
		me.Integrations[in.Name] = &wireIn{All: []wireCredential{}, AllConfigs: []wireConfiguration{}}
	}
	accounts, err := allCredentials(r.Context(), u)
	if err != nil {
		return err
	}
	for i := range accounts {
		in := me.Integrations[accounts[i].Integration]
		if in == nil { // declared since
			continue
		}
		wired, err := a.whole(r.Context(), u, &accounts[i])
		if errors.Is(err, core.ErrNotFound) { // it has just been disconnected
			continue
		} else if err != nil {
			return err
		}
		in.All = append(in.All, wired)
		in.AllConfigs = append(in.AllConfigs, wired.Configs...)
		in.Enabled = in.Enabled || wired.Status == core.StatusValid
	}
	for _, in := range me.Integrations {
		in.choose(a.engine.Unselected())
	}
	a.write(w, http.StatusOK, me)
	return nil
}

// choose fills in the top level: the only account, or the oldest one where the host has asked for that habit. With several
// accounts it stays empty, so that a client which names none gets an error, and not whatever comes first (rule 7).
func (in *wireIn) choose(unselected core.Unselected) {
	var chosen *wireCredential
	switch {
	case len(in.All) == 1:
		chosen = &in.All[0]
	case unselected == core.Oldest:
		for i := range in.All {
			if c := &in.All[i]; chosen == nil || !chosen.usable() && c.usable() {
				chosen = c
			}
		}
	}
	if chosen == nil {
		return
	}
	in.CredentialID, in.CredentialStatus = chosen.ID, chosen.Status
	in.ProviderID, in.ProviderData = chosen.ProviderID, chosen.ProviderData
	in.Enabled = chosen.Status == core.StatusValid
	for _, c := range chosen.Configs {
		if c.Default {
			in.ConfigID, in.Workflows, in.Configured, in.Settings, in.Meta = c.ID, c.Workflows, c.Workflows, c.Settings, c.Meta
			in.ExternalID = c.ExternalID
		}
	}
}

// patchMe is row 2.
func (a *api) patchMe(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	var body struct {
		Meta map[string]any `json:"meta"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	change := make(map[string]any, len(body.Meta))
	for name, value := range body.Meta { // keys are trimmed, as front ends know it
		change[strings.TrimSpace(name)] = value
	}
	if _, err := u.UpdateMeta(r.Context(), change); err != nil {
		return err
	}
	return a.writeMe(w, r, u)
}
