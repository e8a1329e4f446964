package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/permission"
	"github.com/polycred/polycred/storage"
)

// Policy is a named document of permissions: a user token that names it (the claim urn:polycred:policy) may do what it says.
type Policy struct {
	Name string `json:"name"` // 1 to 64 bytes of letters, digits, '.', '-' and '_'
	// Document has the form of a permissions claim, with templates for claims of the token: see permission.Policy.
	Document json.RawMessage `json:"document"`
	Created  time.Time       `json:"dateCreated,omitzero"` // set by polycred, as are the next two
	Updated  time.Time       `json:"dateUpdated,omitzero"`
	Revision uint64          `json:"revision,omitempty"`
}

// SetPolicy declares a policy, or replaces the one of which Revision is the stored one, and returns it as it is stored: in
// canonical form. It counts for the next request of every token that names it, in other processes within 5 seconds. A
// connect session that such a token began keeps what the policy was. Errors: InputError, ErrConflict (Revision 0: it is there
// already), ErrTooMany for more than 500.
func (e *Engine) SetPolicy(ctx context.Context, in Policy) (Policy, error) {
	out, err := e.setPolicy(ctx, in)
	if err != nil {
		return Policy{}, fmt.Errorf("set policy %s: %w", clip(in.Name), err)
	}
	return out, nil
}

func (e *Engine) setPolicy(ctx context.Context, in Policy) (Policy, error) {
	if e.ending.Load() {
		return Policy{}, ErrClosed
	}
	if checkName(in.Name) != nil {
		return Policy{}, invalid("name", "must be 1 to 64 bytes of letters, digits, '.', '-' and '_', and more than dots")
	}
	parsed, err := permission.ParsePolicy(in.Document)
	if err != nil {
		return Policy{}, invalid("document", err.Error())
	}
	now := int64(toMillis(e.now()))
	record := access.Policy{Name: in.Name, Document: parsed.AppendJSON(nil), Created: now, Updated: now}
	if in.Revision != 0 {
		old, rev, err := e.door.Policies.Get(ctx, in.Name)
		if errors.Is(err, storage.ErrNotFound) || err == nil && uint64(rev) != in.Revision {
			err = ErrConflict
		}
		if err != nil {
			return Policy{}, err
		}
		record.Created = old.Created
	}
	rev, err := e.door.Policies.Put(ctx, in.Name, &record, storage.Rev(in.Revision),
		e.operator(EventPolicySet, map[string]string{"policy": in.Name}))
	e.door.Forget()
	return publicPolicy(&record, rev), declaring(err)
}

func publicPolicy(r *access.Policy, rev storage.Rev) Policy {
	return Policy{
		Name: r.Name, Document: r.Document, Created: millis(r.Created).time(), Updated: millis(r.Updated).time(), Revision: uint64(rev),
	}
}

// Policies returns those that are declared, ordered by name.
func (e *Engine) Policies(ctx context.Context) ([]Policy, error) {
	if e.ending.Load() {
		return nil, ErrClosed
	}
	rows, err := e.door.Policies.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	policies := make([]Policy, len(rows))
	for i := range rows {
		policies[i] = publicPolicy(&rows[i].Value, rows[i].Rev)
	}
	return policies, nil
}

// DeletePolicy removes a policy: tokens that name it are refused from then on, in this process at once, in others within 5
// seconds. Errors: ErrNotFound.
func (e *Engine) DeletePolicy(ctx context.Context, name string) error {
	err := e.undeclare(ctx, func(ctx context.Context) error {
		rev, err := e.door.Policies.Rev(ctx, name)
		if err != nil {
			return err
		}
		return e.door.Policies.Delete(ctx, name, rev, e.operator(EventPolicyDeleted, map[string]string{"policy": name}))
	})
	if err != nil {
		return fmt.Errorf("delete policy %s: %w", clip(name), err)
	}
	return nil
}
