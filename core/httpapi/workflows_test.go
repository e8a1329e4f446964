package httpapi_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
)

const (
	flowID    = "01900000-0000-7000-8000-00000000f10e" // a workflow of the calendar
	eventName = "note.made"
)

// flows is one workflow and one event, kept in memory.
type flows struct {
	run func(http.ResponseWriter, *http.Request) error // what the workflow answers; nil: 202

	mu     sync.Mutex // guards the rest
	states map[string]map[string]httpapi.WorkflowState
	ran    []core.Selector
	told   []core.Selector
}

var _ httpapi.Workflows = (*flows)(nil)

func newFlows() *flows { return &flows{states: map[string]map[string]httpapi.WorkflowState{}} }

func (f *flows) List(_ context.Context, integration string) ([]httpapi.Workflow, error) {
	if integration != calendar {
		return nil, nil
	}
	return []httpapi.Workflow{{ID: flowID, Integration: integration, Description: "Makes notes"}}, nil
}

func (f *flows) States(_ context.Context, c core.Configuration) (map[string]httpapi.WorkflowState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.states[c.ID]), nil
}

func (f *flows) Enable(_ context.Context, _ *core.User, workflow string, c core.Configuration, on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[c.ID] = map[string]httpapi.WorkflowState{workflow: {Enabled: on, Settings: map[string]any{}}}
	return nil
}

func (f *flows) SetStates(_ context.Context, _ *core.User, c core.Configuration, states map[string]httpapi.WorkflowState) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[c.ID] = states
	return nil
}

func (f *flows) Run(w http.ResponseWriter, r *http.Request, _ *core.User, _ string, sel core.Selector) error {
	f.mu.Lock()
	f.ran = append(f.ran, sel)
	f.mu.Unlock()
	if f.run != nil {
		return f.run(w, r)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (f *flows) Event(_ context.Context, _ *core.User, name string, _ any, sel core.Selector) error {
	if name != eventName {
		return fmt.Errorf("event %q: %w", name, core.ErrNotFound)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, sel)
	return nil
}
