//go:build long

package proof_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/storage"
)

// request is a line to a child, reply a line from it. Requests are carried out side by side.
type request struct {
	ID   int             `json:"id"`
	Do   string          `json:"do"`
	Args json.RawMessage `json:"args,omitempty"`
}

// reply answers the request of the same ID. One with ID 0 is a note: what happened meanwhile.
type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	Kind   string          `json:"kind,omitempty"` // which of kinds the error is
}

// kinds are the errors that a parent branches on.
var kinds = map[string]error{
	"reconnect":     core.ErrReconnect,
	"quarantined":   core.ErrQuarantined,
	"provider":      core.ErrProvider,
	"not found":     core.ErrNotFound,
	"disabled":      core.ErrDisabled,
	"not connected": core.ErrNotConnected,
	"full":          storage.ErrFull,
	"deadline":      context.DeadlineExceeded,
}

func kindOf(err error) string {
	for kind, sentinel := range kinds {
		if errors.Is(err, sentinel) {
			return kind
		}
	}
	return ""
}

// childError is an error that happened in a child.
type childError struct {
	do, text string
	kind     error
}

func (e *childError) Error() string { return e.do + " in a child: " + e.text }

func (e *childError) Unwrap() error { return e.kind }

// errDied says that a child ended before it replied.
var errDied = errors.New("the child died")

// op is what a child does for a request.
type op func(ctx context.Context, a *agent, args json.RawMessage) (any, error)

// on makes an op of a method.
func on[In, Out any](method func(*agent, context.Context, In) (Out, error)) op {
	return func(ctx context.Context, a *agent, args json.RawMessage) (any, error) {
		var in In
		if err := json.Unmarshal(args, &in); err != nil {
			return nil, fmt.Errorf("arguments: %w", err)
		}
		return method(a, ctx, in)
	}
}

var ops = map[string]op{
	"time":       on((*agent).setTime),
	"connect":    on((*agent).connect),
	"add key":    on((*agent).addKey),
	"token":      on((*agent).token),
	"credential": on((*agent).credential),
	"rush":       on((*agent).rush),
	"arm":        on((*agent).arm),
	"run":        on((*agent).run),
	"connects":   on((*agent).connects),
	"quarantine": on((*agent).quarantine),
	"step":       on((*agent).step),
	"disconnect": on((*agent).disconnect),
	"enable":     on((*agent).enable),
	"list":       on((*agent).list),
	"soak":       on((*agent).soak),
	"chase":      on((*agent).chase),
}
