package httpapi

import (
	"context"
	"net/http"

	"github.com/polycred/polycred/core"
)

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
