package httpapi

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/permission"
)

// Workflows, triggers and events: rows 14 (workflowSettings), 19, 21 to 23, 25 and 29. They need Options.Workflows; without
// it nothing that they name exists.

// Workflow is a workflow of an integration as front ends show it.
type Workflow struct {
	ID          string `json:"id"` // a UUID
	Integration string `json:"-"`  // by name
	Description string `json:"description"`
}

// WorkflowState is what one configuration says of one workflow.
type WorkflowState struct {
	Enabled  bool           `json:"enabled"`
	Settings map[string]any `json:"settings"`
}

// Workflows is who runs workflows. Handlers have checked that the token may see the configuration and do what is asked
// before they call it. An error that wraps core.ErrNotFound says that there is no such workflow, or event.
type Workflows interface {
	// List returns the workflows of an integration.
	List(ctx context.Context, integration string) ([]Workflow, error)
	// States returns what a configuration says of each workflow, by id; those it says nothing of may be missing.
	States(ctx context.Context, c core.Configuration) (map[string]WorkflowState, error)
	// Enable switches a workflow on or off for a configuration. Doing it twice is no error.
	Enable(ctx context.Context, u *core.User, workflow string, c core.Configuration, on bool) error
	// SetStates replaces all that a configuration says of workflows.
	SetStates(ctx context.Context, u *core.User, c core.Configuration, states map[string]WorkflowState) error
	// Run answers a request that triggers a workflow. A zero configuration: the token may use the account, and none was named.
	Run(w http.ResponseWriter, r *http.Request, u *core.User, workflow string, sel core.Selector) error
	// Event tells an event; without anything in sel it is for every visible account that wants it.
	Event(ctx context.Context, u *core.User, name string, payload any, sel core.Selector) error
}

// errWorkflow answers for a workflow that there is not.
var errWorkflow = &Error{http.StatusNotFound, "not_found", "There is no such workflow."}

// errEvent answers for an event that there is not.
var errEvent = &Error{http.StatusNotFound, "not_found", "There is no such event."}

// checkStates reports a workflow that the account's integration does not have, before anything is changed.
func (a *api) checkStates(ctx context.Context, c *core.Credential, states map[string]WorkflowState) error {
	var flows []Workflow
	if len(states) > 0 && a.opts.Workflows != nil {
		var err error
		if flows, err = a.opts.Workflows.List(ctx, c.Integration); err != nil {
			return err
		}
	}
	for id := range states {
		if !slices.ContainsFunc(flows, func(f Workflow) bool { return f.ID == id }) {
			return errWorkflow
		}
	}
	return nil
}

// setStates replaces what a configuration says of workflows.
func (a *api) setStates(r *http.Request, u *core.User, c *core.Configuration, states map[string]WorkflowState, revision uint64) error {
	sel := core.Selector{Credential: c.Credential, Configuration: c.ID}
	if _, err := u.UpdateConfiguration(r.Context(), sel, core.ConfigurationUpdate{Revision: revision}); err != nil { // may they?
		if errors.Is(err, core.ErrConflict) {
			return errChanged
		}
		return err
	}
	if a.opts.Workflows == nil {
		return nil
	}
	return a.opts.Workflows.SetStates(r.Context(), u, *c, states)
}

func (a *api) enableWorkflow(w http.ResponseWriter, r *http.Request) error {
	return a.switchWorkflow(w, r, true)
}
func (a *api) disableWorkflow(w http.ResponseWriter, r *http.Request) error {
	return a.switchWorkflow(w, r, false)
}

// workflowCall is who calls, which workflow the path names, and which account the headers do.
func (a *api) workflowCall(r *http.Request) (u *core.User, id string, sel core.Selector, err error) {
	if u, err = a.caller(r); err != nil {
		return nil, "", sel, err
	}
	id = r.PathValue("workflow")
	integration, err := a.integrationOf(r.Context(), id)
	if err == nil {
		sel, err = selected(r, integration)
	}
	return u, id, sel, err
}

// switchWorkflow is row 19.
func (a *api) switchWorkflow(w http.ResponseWriter, r *http.Request, on bool) error {
	u, id, sel, err := a.workflowCall(r)
	if err != nil {
		return err
	}
	// Nothing changes here, but it says whether the token may: enablement is part of a configuration, as for row 14.
	c, err := u.UpdateConfiguration(r.Context(), sel, core.ConfigurationUpdate{})
	if err != nil {
		return err
	}
	noteCredential(r, c.Credential)
	if err := a.opts.Workflows.Enable(r.Context(), u, id, c, on); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// integrationOf returns the integration that a workflow belongs to.
func (a *api) integrationOf(ctx context.Context, workflow string) (string, error) {
	if a.opts.Workflows == nil {
		return "", errWorkflow
	}
	all, err := a.known.all(ctx, a)
	if err != nil {
		return "", err
	}
	for _, in := range all {
		flows, err := a.opts.Workflows.List(ctx, in.Name)
		if err != nil {
			return "", err
		}
		for _, flow := range flows {
			if flow.ID == workflow {
				return in.Name, nil
			}
		}
	}
	return "", errWorkflow
}

// runWorkflow is row 22.
func (a *api) runWorkflow(w http.ResponseWriter, r *http.Request) error {
	u, id, sel, err := a.workflowCall(r)
	if err != nil {
		return err
	}
	c, err := u.Authorize(r.Context(), permission.Workflow, sel)
	if err != nil {
		return err
	}
	noteCredential(r, c.ID)
	answer := &relayed{ResponseWriter: w, own: w.Header().Clone()}
	err = a.opts.Workflows.Run(answer, r, u, id, core.Selector{Integration: sel.Integration, Credential: c.ID, Configuration: sel.Configuration})
	switch {
	case err != nil && answer.begun: // the client must not take what came for all
		panic(http.ErrAbortHandler)
	case err != nil:
		answer.clean()
		return err
	case !answer.begun:
		answer.WriteHeader(http.StatusOK)
	}
	return nil
}

// relayed is an answer that a workflow wrote: nothing of it acts on our origin in a browser (security 20).
type relayed struct {
	http.ResponseWriter
	own   http.Header // what we had set before
	begun bool
}

func (w *relayed) WriteHeader(status int) {
	if !w.begun {
		w.begun = status >= 200
		w.clean()
		secure(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

// clean takes away the headers that are not a workflow's to set, and puts ours back.
func (w *relayed) clean() {
	h := w.Header()
	maps.DeleteFunc(h, func(name string, _ []string) bool { return among(http.CanonicalHeaderKey(name), silenced, silencedBy) })
	maps.Copy(h, w.own)
}

// FlushError is for http.ResponseController, which would else flush what is below.
func (w *relayed) FlushError() error {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *relayed) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *relayed) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// postEvent is row 23. Without a selection the event goes to every visible account that wants it.
func (a *api) postEvent(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	var body struct {
		Name    string `json:"name"`
		Payload any    `json:"payload"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	sel, err := selected(r, "")
	if err != nil {
		return err
	}
	if !u.May(permission.Event, "") {
		return core.ErrPermission
	}
	if body.Name == "" {
		return invalid("name is missing: which event it is.")
	}
	if a.opts.Workflows == nil {
		return errEvent
	}
	if sel.Credential != "" || sel.Configuration != "" {
		c, err := a.eventAccount(r.Context(), u, sel)
		if err != nil {
			return err
		}
		sel.Credential, sel.Integration = c.ID, c.Integration
	}
	if err := a.opts.Workflows.Event(r.Context(), u, body.Name, body.Payload, sel); err != nil {
		return err
	}
	a.write(w, http.StatusCreated, struct{}{})
	return nil
}

// eventAccount is the account that the headers of an event name; they do not name its integration.
func (a *api) eventAccount(ctx context.Context, u *core.User, sel core.Selector) (core.Credential, error) {
	if sel.Credential == "" {
		return u.Authorize(ctx, permission.Event, sel)
	}
	c, err := a.named(ctx, u, sel.Credential)
	if err != nil {
		return c, err
	}
	return u.Authorize(ctx, permission.Event, core.Selector{Integration: c.Integration, Credential: c.ID, Configuration: sel.Configuration})
}

// getTriggers is row 25: none, until there are any.
func (a *api) getTriggers(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.caller(r); err != nil {
		return err
	}
	triggers := map[string]any{}
	if name := r.URL.Query().Get("integrations"); name != "" {
		in, err := a.known.find(r.Context(), a, name)
		if err != nil {
			return err
		}
		triggers[in.Name] = []any{}
	}
	a.write(w, http.StatusOK, map[string]any{"triggers": triggers, "errors": []any{}})
	return nil
}

// noResource is row 21: there are no resources.
func (a *api) noResource(_ http.ResponseWriter, r *http.Request) error {
	if _, err := a.caller(r); err != nil {
		return err
	}
	return errNotFound
}

// noTrigger is row 29: nobody has made a webhook.
func (a *api) noTrigger(http.ResponseWriter, *http.Request) error { return errNotFound }
