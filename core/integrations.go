package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// maxCreates is how often creating an integration starts again: when others do the same, or the store lost its answer.
const maxCreates = 10

// maxSecrets is how many client secrets of one integration may live at a time.
const maxSecrets = 8

// CreateIntegration declares a provider and returns the integration as it is stored, without its client secret.
// Errors: InputError, ErrExists.
func (e *Engine) CreateIntegration(ctx context.Context, in Integration) (Integration, error) {
	p, err := e.newProvider(in)
	if err != nil {
		return Integration{}, fmt.Errorf("create integration: %w", err)
	}
	if e.ending.Load() {
		return Integration{}, ErrClosed
	}
	created, err := e.createIntegration(ctx, p, in)
	if err != nil {
		return Integration{}, fmt.Errorf("create integration %s: %w", in.Name, err)
	}
	return created, nil
}

func (e *Engine) createIntegration(ctx context.Context, p *provider, in Integration) (Integration, error) {
	now := toMillis(e.now())
	record := integrationRecord{Integration: p.declared(in), Created: now, Updated: now}
	for try := 0; ; try++ {
		// Read first, so that the event is made behind that of a deletion before.
		switch _, _, err := e.integration(ctx, in.Name); {
		case err == nil:
			return Integration{}, ErrExists
		case !errors.Is(err, ErrNotFound):
			return Integration{}, err
		}
		tx := e.db.Begin(ctx)
		rev := e.tables.integrations.Put(tx, &record, 0, in.Name)
		if o := in.OAuth2; o != nil && !o.ClientSecret.IsZero() {
			e.tables.clientSecrets.Put(tx, &clientSecretsRecord{Secrets: []crypto.Secret{o.ClientSecret}, Updated: now}, 0, in.Name)
		}
		e.tellOperator(tx, EventIntegrationCreated, "request", in.Name, nil)
		err := e.kernel.Commit(ctx, tx)
		if !conflicted(err) || try == maxCreates {
			return record.public(rev), err
		}
		if err := again(ctx, try); err != nil {
			return Integration{}, err
		}
	}
}

// declared is an integration as it is stored: what the operator wrote, without the catalog's part, and inputs in their
// normal form.
func (p *provider) declared(in Integration) Integration {
	in.Settings, in.Setup = p.Settings, p.Setup
	return in
}

// changedFields names the fields in which two states of an integration differ, as JSON names them, those of oauth2 and
// apiKey one by one, with commas between. It never shows a value.
func changedFields(before, after *Integration) string {
	fields := func(in *Integration) map[string]string {
		flat := map[string]string{}
		var add func(prefix string, raw []byte)
		add = func(prefix string, raw []byte) {
			var object map[string]json.RawMessage
			if json.Unmarshal(raw, &object) != nil {
				return
			}
			for name, value := range object {
				if name == "oauth2" || name == "apiKey" {
					add(name+".", value)
				} else if name != "dateUpdated" && name != "dateCreated" {
					flat[prefix+name] = string(value)
				}
			}
		}
		if raw, err := json.Marshal(in); err == nil {
			add("", raw)
		}
		return flat
	}
	old, now := fields(before), fields(after)
	var changed []string
	for name, value := range now {
		if old[name] != value {
			changed = append(changed, name)
		}
	}
	for name := range old {
		if _, still := now[name]; !still {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return strings.Join(changed, ",")
}

// UpdateIntegration replaces the integration of in.Name, whose Revision must be the stored one, and returns it as it is
// stored now. A ClientSecret in it replaces the live client secrets; without one they stay. Other processes follow
// within 5 seconds. Errors: InputError, ErrNotFound, ErrConflict.
func (e *Engine) UpdateIntegration(ctx context.Context, in Integration) (Integration, error) {
	p, err := e.newProvider(in)
	if err == nil && in.Revision == 0 {
		err = invalid("revision", "is empty: read the integration first, and change what was read")
	}
	if err != nil {
		return Integration{}, fmt.Errorf("update integration: %w", err)
	}
	old, rev, err := e.integration(ctx, in.Name)
	if err != nil {
		return Integration{}, fmt.Errorf("update integration %s: %w", in.Name, err)
	}
	if uint64(rev) != in.Revision {
		return Integration{}, fmt.Errorf("update integration %s: %w", in.Name, ErrConflict)
	}
	record := integrationRecord{Integration: p.declared(in), Created: old.Created, Updated: toMillis(e.now()), Deleting: old.Deleting}
	tx := e.db.Begin(ctx)
	next := e.tables.integrations.Put(tx, &record, rev, in.Name)
	before, after := old.public(0), record.public(0)
	details := map[string]string{"changed": changedFields(&before, &after)}
	if o := in.OAuth2; o != nil && !o.ClientSecret.IsZero() {
		details["secret"] = "replaced"
		_, secretsRev, err := e.secrets(ctx, in.Name)
		if err != nil {
			return Integration{}, fmt.Errorf("update integration %s: %w", in.Name, err)
		}
		e.tables.clientSecrets.Put(tx, &clientSecretsRecord{Secrets: []crypto.Secret{o.ClientSecret}, Updated: record.Updated}, secretsRev, in.Name)
	}
	if details["changed"] == "" {
		delete(details, "changed")
	}
	e.tellOperator(tx, EventIntegrationUpdated, "request", in.Name, details)
	err = e.kernel.Commit(ctx, tx)
	e.providers.Delete(in.Name)
	switch {
	case conflicted(err):
		return Integration{}, fmt.Errorf("update integration %s: %w", in.Name, ErrConflict)
	case err != nil:
		return Integration{}, fmt.Errorf("update integration %s: %w", in.Name, err)
	}
	return record.public(next), nil
}

// SetClientSecret replaces the live client secrets of an OAuth integration, at least one and at most eight. The first is
// used; the next ones are tried in turn when the provider rejects the one before, so that a secret can be replaced
// without a pause. They are never read back. Errors: InputError, ErrNotFound, ErrConflict.
func (e *Engine) SetClientSecret(ctx context.Context, integration string, secrets ...crypto.Secret) error {
	if len(secrets) == 0 || len(secrets) > maxSecrets || slices.ContainsFunc(secrets, crypto.Secret.IsZero) {
		return fmt.Errorf("set client secret of %s: %w", clip(integration), invalid("clientSecret", fmt.Sprintf("takes one to %d secrets, none of them empty", maxSecrets)))
	}
	record, rev, err := e.integration(ctx, integration)
	if err != nil {
		return fmt.Errorf("set client secret of %s: %w", clip(integration), err)
	}
	if record.Integration.OAuth2 == nil {
		return fmt.Errorf("set client secret of %s: %w", integration, invalid("clientSecret", "is only for OAuth integrations"))
	}
	_, secretsRev, err := e.secrets(ctx, integration)
	if err != nil {
		return fmt.Errorf("set client secret of %s: %w", integration, err)
	}
	tx := e.db.Begin(ctx)
	e.tables.integrations.Check(tx, rev, integration)
	e.tables.clientSecrets.Put(tx, &clientSecretsRecord{Secrets: slices.Clone(secrets), Updated: toMillis(e.now())}, secretsRev, integration)
	e.tellOperator(tx, EventClientSecretSet, "request", integration, map[string]string{"count": strconv.Itoa(len(secrets))})
	switch err := e.kernel.Commit(ctx, tx); {
	case conflicted(err):
		return fmt.Errorf("set client secret of %s: %w", integration, ErrConflict)
	case err != nil:
		return fmt.Errorf("set client secret of %s: %w", integration, err)
	}
	return nil
}

// Integration returns the integration of that name, without its client secrets. Errors: InputError, ErrNotFound.
func (e *Engine) Integration(ctx context.Context, name string) (Integration, error) {
	record, rev, err := e.integration(ctx, name)
	if err != nil {
		return Integration{}, fmt.Errorf("integration %s: %w", clip(name), err)
	}
	return record.public(rev), nil
}

// IntegrationPage is one page of integrations, ordered by name. Next is passed on as after; empty means the end.
type IntegrationPage struct {
	Integrations []Integration
	Next         string
}

// Integrations returns up to limit integrations (0: 100, at most 1,000) behind the name after. Errors: InputError.
func (e *Engine) Integrations(ctx context.Context, after string, limit int) (IntegrationPage, error) {
	if e.ending.Load() {
		return IntegrationPage{}, ErrClosed
	}
	limit, err := pageLimit(limit)
	if err != nil {
		return IntegrationPage{}, err
	}
	var behind []string
	if after != "" {
		if err := checkName(after); err != nil {
			return IntegrationPage{}, err
		}
		behind = []string{after}
	}
	rows, more, err := e.tables.integrations.List(ctx, nil, behind, limit)
	if err != nil {
		return IntegrationPage{}, fmt.Errorf("list integrations: %w", err)
	}
	var page IntegrationPage
	for _, row := range rows {
		page.Integrations = append(page.Integrations, row.Value.public(row.Rev))
	}
	if more {
		page.Next = rows[len(rows)-1].Value.Integration.Name
	}
	return page, nil
}

// DeleteIntegration removes an integration that has no credentials left, with its client secrets. It first marks the
// integration, so that no account can be connected while it looks; where it is cut short, the integration stays marked,
// and deleting it again goes on. Errors: InputError, ErrNotFound, ErrInUse, ErrConflict.
func (e *Engine) DeleteIntegration(ctx context.Context, name string) error {
	record, rev, err := e.mark(ctx, name)
	if err != nil {
		return fmt.Errorf("delete integration %s: %w", clip(name), err)
	}
	used, _, err := e.tables.byIntegration.Scan(ctx, []string{name}, nil, 1)
	if err != nil {
		return fmt.Errorf("delete integration %s: %w", name, err)
	}
	tx := e.db.Begin(ctx)
	if len(used) > 0 {
		record.Deleting = false
		e.tables.integrations.Put(tx, &record, rev, name)
	} else {
		e.tables.integrations.Delete(tx, rev, name)
		_, secretsRev, err := e.secrets(ctx, name)
		if err != nil {
			return fmt.Errorf("delete integration %s: %w", name, err)
		}
		if secretsRev != 0 {
			e.tables.clientSecrets.Delete(tx, secretsRev, name)
		}
		e.tellOperator(tx, EventIntegrationDeleted, "request", name, nil)
	}
	err = e.kernel.Commit(ctx, tx)
	e.providers.Delete(name)
	e.telemetry.Forget(name)
	switch {
	case conflicted(err):
		return fmt.Errorf("delete integration %s: %w", name, ErrConflict)
	case err != nil:
		return fmt.Errorf("delete integration %s: %w", name, err)
	case len(used) > 0:
		return fmt.Errorf("delete integration %s: %w: disconnect its accounts first", name, ErrInUse)
	}
	return nil
}

// mark stops connects. An integration that is marked already stays so: the deletion before did not get to its end.
func (e *Engine) mark(ctx context.Context, name string) (integrationRecord, storage.Rev, error) {
	for {
		record, rev, err := e.integration(ctx, name)
		if err != nil || record.Deleting {
			return record, rev, err
		}
		record.Deleting = true
		tx := e.db.Begin(ctx)
		next := e.tables.integrations.Put(tx, &record, rev, name)
		if err = e.kernel.Apply(ctx, tx); conflicted(err) {
			continue
		}
		return record, next, err
	}
}

func (r *integrationRecord) public(rev storage.Rev) Integration {
	in := r.Integration
	if in.OAuth2 != nil { // a copy without the secret
		o := *in.OAuth2
		o.ClientSecret = crypto.Secret{}
		in.OAuth2 = &o
	}
	in.Created, in.Updated, in.Revision = r.Created.time(), r.Updated.time(), uint64(rev)
	return in
}

// integration reads an integration from the store.
func (e *Engine) integration(ctx context.Context, name string) (integrationRecord, storage.Rev, error) {
	if err := checkName(name); err != nil {
		return integrationRecord{}, 0, err
	}
	if e.ending.Load() {
		return integrationRecord{}, 0, ErrClosed
	}
	return e.readIntegration(ctx, name)
}

// readIntegration is integration also while the engine closes, for work that Close waits for.
func (e *Engine) readIntegration(ctx context.Context, name string) (integrationRecord, storage.Rev, error) {
	record, rev, err := e.tables.integrations.Get(ctx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return record, 0, ErrNotFound
	}
	return record, rev, err
}

// secrets reads the live client secrets; revision 0 says that there are none.
func (e *Engine) secrets(ctx context.Context, name string) ([]crypto.Secret, storage.Rev, error) {
	record, rev, err := e.tables.clientSecrets.Get(ctx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, 0, nil
	}
	return record.Secrets, rev, err
}

// provider returns an integration ready for use, at most cacheTTL old.
func (e *Engine) provider(ctx context.Context, name string) (*provider, error) {
	cached, ok := e.providers.Load(name)
	if !ok {
		return e.freshProvider(ctx, name)
	}
	before := cached.(*provider)
	if age := e.now().Sub(before.loaded); age >= 0 && age < cacheTTL {
		return before, nil
	}
	p, err := e.freshProvider(ctx, name)
	if e.bridges(err, before.loaded) {
		return before, nil
	}
	return p, err
}

// freshProvider returns an integration as the store has it now.
func (e *Engine) freshProvider(ctx context.Context, name string) (*provider, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("integration %s: %w", clip(name), err)
	}
	record, rev, err := e.readIntegration(ctx, name)
	if err != nil {
		if !errors.Is(err, storage.ErrUnavailable) {
			e.providers.Delete(name)
		}
		return nil, fmt.Errorf("integration %s: %w", clip(name), err)
	}
	p, err := newProvider(record.Integration)
	if err != nil { // it was valid when it was written
		return nil, &sealed.CorruptError{Table: "integration", Key: []string{name}, Err: err}
	}
	p.rev, p.deleting, p.loaded = rev, record.Deleting, e.now()
	e.providers.Store(name, p)
	return p, nil
}

// pageLimit fills in and checks the size of a page.
func pageLimit(limit int) (int, error) {
	switch {
	case limit == 0:
		return 100, nil
	case limit < 0 || limit > 1000:
		return 0, invalid("limit", "must be between 1 and 1000, or 0 for 100")
	}
	return limit, nil
}
