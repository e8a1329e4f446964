package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/input"
)

// integrations are those of the project, as they were read no longer ago than knownFor. The zero value is ready.
type integrations struct {
	seen atomic.Pointer[listed]
	mu   sync.Mutex // keeps two from reading at once
}

// listed are integrations as they were read. It does not change.
type listed struct {
	list []core.Integration
	by   map[string]*core.Integration // name, and id
	at   time.Time                    // real
}

const knownFor = 2 * time.Second // half of what a change may take to be seen: the engine keeps them as well

// all returns every integration of the project, ordered by name.
func (k *integrations) all(ctx context.Context, a *api) ([]core.Integration, error) {
	seen, err := k.read(ctx, a)
	if err != nil {
		return nil, err
	}
	return seen.list, nil
}

func (k *integrations) read(ctx context.Context, a *api) (*listed, error) {
	if seen := k.seen.Load(); seen != nil && time.Since(seen.at) < knownFor {
		return seen, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if seen := k.seen.Load(); seen != nil && time.Since(seen.at) < knownFor { // somebody else has just read them
		return seen, nil
	}
	now := &listed{list: []core.Integration{}, by: map[string]*core.Integration{}, at: time.Now()}
	for after := ""; ; {
		page, err := a.engine.Integrations(ctx, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, in := range page.Integrations {
			resolved, err := core.Resolve(in)
			if err != nil { // it was good when it was declared
				a.log.ErrorContext(ctx, "an integration does not mean anything any more", "integration", in.Name, "error", err)
				continue
			}
			now.list = append(now.list, resolved)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	for i := range now.list {
		in := &now.list[i]
		now.by[in.Name], now.by[a.engine.IntegrationID(in.Name)] = in, in
	}
	k.seen.Store(now)
	return now, nil
}

// find returns the integration that a front end names, by the id of core.Engine.IntegrationID or by name.
func (k *integrations) find(ctx context.Context, a *api, text string) (core.Integration, error) {
	seen, err := k.read(ctx, a)
	if err != nil {
		return core.Integration{}, err
	}
	in, ok := seen.by[text]
	if !ok && isUUID(text) {
		in, ok = seen.by[strings.ToLower(text)]
	}
	if !ok {
		return core.Integration{}, errNotFound
	}
	return *in, nil
}

// getIntegrations is row 4.
func (a *api) getIntegrations(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.caller(r); err != nil {
		return err
	}
	all, err := a.known.all(r.Context(), a)
	if err != nil {
		return err
	}
	wired := make([]wireIntegration, 0, len(all))
	for i := range all {
		one, err := a.integration(r.Context(), &all[i])
		if err != nil {
			return err
		}
		wired = append(wired, one)
	}
	a.write(w, http.StatusOK, wired)
	return nil
}

// getMetadata lists what pages show of integrations.
func (a *api) getMetadata(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.caller(r); err != nil {
		return err
	}
	all, err := a.known.all(r.Context(), a)
	if err != nil {
		return err
	}
	type metadata struct {
		Type       string `json:"type"`
		Name       string `json:"name"`
		BrandColor string `json:"brandColor"`
		Icon       string `json:"icon"`
	}
	found := make([]metadata, len(all))
	for i, in := range all {
		found[i] = metadata{in.Name, cmp.Or(in.DisplayName, in.Name), brandColor, a.iconURL(in.Name)}
	}
	a.write(w, http.StatusOK, found)
	return nil
}

// brandColor is the neutral colour of every integration.
const brandColor = "#4b5563"

const customPrefix = "custom."

// integration returns an integration as the SDK reads it.
func (a *api) integration(ctx context.Context, in *core.Integration) (wireIntegration, error) {
	id, name := a.engine.IntegrationID(in.Name), cmp.Or(in.DisplayName, in.Name)
	wired := wireIntegration{
		ID: id, Type: in.Name, Name: name, BrandColor: brandColor, Active: true, AuthType: "basic", Workflows: []wireWorkflow{},
		Created: in.Created, Updated: in.Updated,
		SDK: wireSDKConfig{
			AccountTypes: []any{}, AuthConfig: []wireInput{}, OAuth: []wireInput{}, PostOAuth: inputsOf(in.Setup),
			DataSources: map[string]any{}, SchemeOptions: map[string]any{},
		},
	}
	variables := variableInputs(in)
	if in.OAuth2 != nil {
		wired.AuthType, wired.SDK.OAuth = "oauth", variables
		wired.NeedPreOauth = slices.ContainsFunc(variables, func(i wireInput) bool { return i.Required })
	} else {
		key := wireInput{ID: keyInput, Type: string(input.Password), Title: "API key", Required: true}
		wired.SDK.AuthConfig, wired.NeedPreOauth = append([]wireInput{key}, variables...), true
	}
	if strings.HasPrefix(in.Name, customPrefix) {
		wired.Type, wired.CustomID = "custom", &id
		wired.Custom = &wireCustom{ID: id, Name: name, Slug: in.Name, Icon: a.iconURL(in.Name), InputFields: wired.SDK.AuthConfig}
	}
	values := wireConfigValues{Shared: wireSharedMeta{Inputs: inputsOf(in.Settings)}, Workflows: map[string]workflowMeta{}}
	if a.opts.Workflows != nil {
		flows, err := a.opts.Workflows.List(ctx, in.Name)
		if err != nil {
			return wired, err
		}
		for i, flow := range flows {
			wired.Workflows = append(wired.Workflows, wireWorkflow{flow.ID, flow.Description, id})
			values.Workflows[flow.ID] = workflowMeta{ID: flow.ID, Inputs: []wireInput{}, Order: i}
		}
	}
	wired.Configs = []wireConfig{{Values: values}}
	return wired, nil
}

// variableInputs are the variables of an integration as inputs of a form, ordered by name.
func variableInputs(in *core.Integration) []wireInput {
	inputs := []wireInput{}
	for name, v := range in.Variables {
		wired := wireInput{ID: name, Type: string(input.Text), Title: name, Required: v.Default == ""}
		if v.Default != "" {
			wired.Default = v.Default
		}
		inputs = append(inputs, wired)
	}
	slices.SortFunc(inputs, func(a, b wireInput) int { return strings.Compare(a.ID, b.ID) })
	return inputs
}
