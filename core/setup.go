package core

import (
	"context"
	"fmt"
	"strings"

	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Setup is what was said to set up an account, by the ids of Integration.Setup.
type Setup struct {
	// Values have defaults where none was given, and no passwords: Passwords names those that are set, User.Password reads
	// one. Missing names the required ones without value, also those that an operator asks for only now.
	Values    map[string]any `json:"values"`
	Passwords []string       `json:"passwords,omitempty"`
	Missing   []string       `json:"missing,omitempty"`
}

// Setup returns what was said to set up the account that sel names, whatever its status; when sel names none, the only
// one there is. Errors: InputError, ErrNotFound, ErrNotConnected, AmbiguousError.
func (u *User) Setup(ctx context.Context, sel Selector) (Setup, error) {
	s, err := u.setup(ctx, sel)
	if err != nil {
		return Setup{}, fmt.Errorf("setup of %s: %w", sel, err)
	}
	return s, nil
}

func (u *User) setup(ctx context.Context, sel Selector) (s Setup, err error) {
	id, err := u.pick(ctx, sel)
	if err != nil {
		return s, err
	}
	record, _, err := u.record(ctx, id)
	if err != nil {
		return s, err
	}
	p, err := u.e.provider(ctx, record.Integration)
	if err != nil {
		return s, err
	}
	s.Values, s.Passwords, s.Missing = input.Shown(p.Setup, input.Values{Open: record.Setup, Secrets: record.SetupSecrets})
	return s, nil
}

// CompleteSetup gives values for Integration.Setup to the account that sel names, when sel names none to the only one
// there is, and returns it. Values merge: nil takes one away, the others stay; package core/input says what each may be. A
// PENDING account becomes VALID, and takes only what completes it: all that it misses, at once. A VALID or INVALID one
// keeps its status, and lets no required value be taken away.
//
// Errors: InputError, which names "setup." and the input where a value is wrong or missing, ErrNotFound, ErrNotConnected,
// AmbiguousError, ErrPermission.
func (u *User) CompleteSetup(ctx context.Context, sel Selector, change map[string]any) (Credential, error) {
	record, err := u.completeSetup(ctx, sel, change)
	if err != nil {
		return Credential{}, fmt.Errorf("complete the setup of %s: %w", sel, err)
	}
	return record.public(u.id), nil
}

func (u *User) completeSetup(ctx context.Context, sel Selector, change map[string]any) (credentialRecord, error) {
	var none credentialRecord
	e := u.e
	id, err := u.pick(ctx, sel)
	if err != nil {
		return none, err
	}
	return u.change(ctx, id, func(tx *sealed.Tx, record *credentialRecord, rev storage.Rev) error {
		p, err := e.freshProvider(ctx, record.Integration)
		if err != nil {
			return err
		}
		merged, err := input.Merge("setup", p.Setup, input.Values{Open: record.Setup, Secrets: record.SetupSecrets}, change)
		if err != nil {
			return wrongInput(err)
		}
		if len(change) == 0 && record.Status != StatusPending {
			return errUnchanged
		}
		record.Setup, record.SetupSecrets, record.Updated = merged.Open, merged.Secrets, toMillis(e.now())
		record.findMissing(p)
		kind, details := EventSetupChanged, map[string]string{"setup": names(change)}
		switch {
		case record.Status != StatusPending:
			for _, id := range record.Missing {
				if _, taken := change[id]; taken { // what an operator asks for only now is nobody's mistake
					return invalid("setup."+clip(id), "is required and cannot be taken away")
				}
			}
		case len(record.Missing) > 0:
			return invalid("setup."+record.Missing[0], "is missing; needed are: "+strings.Join(record.Missing, ", "))
		default:
			record.Status = StatusValid
			e.schedule(tx, u.id, record, p)
			if err := e.kernel.Connected(ctx, tx, record.hooked(u.id)); err != nil {
				return err
			}
			kind, details = EventCompleted, nil
		}
		e.tables.integrations.Check(tx, p.rev, p.Name)
		next := e.tables.credentials.Put(tx, record, rev, u.id, record.ID)
		u.tell(tx, kind, "setup", record, next, details)
		return nil
	})
}

// findMissing notes which required values of Integration.Setup the credential lacks.
func (r *credentialRecord) findMissing(p *provider) {
	_, _, r.Missing = input.Shown(p.Setup, input.Values{Open: r.Setup, Secrets: r.SetupSecrets})
}
