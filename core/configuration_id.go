package core

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// locateConfiguration returns the account and the configuration that sel names, which whoever reads them checks.
func (u *User) locateConfiguration(ctx context.Context, sel Selector) (credential, configuration string, err error) {
	if sel.Credential != "" {
		if credential, _, err = u.locate(ctx, Selector{Integration: sel.Integration, Credential: sel.Credential}); err != nil {
			return "", "", err
		}
	}
	id, isID := canonicalUUID(strings.TrimSpace(sel.Configuration))
	switch {
	case !isID:
		return u.byConfigurationID(ctx, sel, credential)
	case credential == "":
		if credential, err = u.e.holderOf(ctx, u.id, id); err != nil {
			return "", "", err
		}
	}
	if credential == id && u.authority == nil { // a default one is there when its account is, as reading that will show
		return credential, id, nil
	}
	if _, err = u.readConfiguration(ctx, credential, id, actReadConfiguration); errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("configuration %s: %w", id, ErrNotFound) // not naming an account that may be invisible
	}
	return credential, id, err
}

// holderOf returns the account of a configuration. A default configuration has the account's id.
func (e *Engine) holderOf(ctx context.Context, user, configuration string) (string, error) {
	entries, _, err := e.tables.byConfig.Scan(ctx, []string{user, configuration}, nil, 1)
	switch {
	case err != nil:
		return "", err
	case len(entries) == 0:
		return configuration, nil // or there is none, as reading it will show
	case len(entries[0]) != 3:
		return "", &sealed.CorruptError{Table: "configurations by id", Key: entries[0], Err: errEntry}
	}
	return entries[0][2], nil
}

// byConfigurationID finds a configuration by its external id: within the account, "" for all of the integration.
func (u *User) byConfigurationID(ctx context.Context, sel Selector, credential string) (string, string, error) {
	clean, err := selectorID("configuration", sel.Configuration)
	if err != nil {
		return "", "", err
	}
	integration := sel.Integration
	if credential != "" {
		record, _, err := u.record(ctx, credential)
		if err != nil {
			return "", "", err
		}
		integration = record.Integration
	}
	if integration == "" {
		return "", "", invalid("integration", "is empty: an external id means something only within an integration")
	}
	if err := checkName(integration); err != nil {
		return "", "", err
	}
	tokens, err := u.e.db.Lookup(ctx, "configuration external id", u.id, integration, clean)
	if err != nil {
		return "", "", err
	}
	found := map[string]string{} // by credential
	var candidates []Credential
	for _, token := range tokens {
		prefix := []string{u.id, integration, token}
		if credential != "" {
			prefix = append(prefix, credential)
		}
		var after []string
		for more := true; more && len(candidates) < maxCandidates; {
			var rows []sealed.Row[configurationIDRecord]
			if rows, more, err = u.e.tables.configurationIDs.List(ctx, prefix, after, 100); err != nil {
				return "", "", err
			}
			for i := range rows {
				after = rows[i].Key
				holder := after[len(after)-1]
				if _, twice := found[holder]; twice || len(candidates) == maxCandidates {
					continue
				}
				c, err := u.readConfiguration(ctx, holder, rows[i].Value.Configuration, actReadConfiguration)
				switch {
				case errors.Is(err, ErrNotFound): // invisible, or gone in between
					continue
				case err != nil:
					return "", "", err
				case c.record.ExternalID != clean: // out of date, see externalHolder
					continue
				}
				found[holder] = rows[i].Value.Configuration
				candidates = append(candidates, c.credential.public(u.id))
			}
		}
	}
	switch len(candidates) {
	case 0:
		return "", "", fmt.Errorf("configuration with external id %q: %w", clean, ErrNotFound)
	case 1:
		return candidates[0].ID, found[candidates[0].ID], nil
	}
	return "", "", &AmbiguousError{Integration: integration, Candidates: candidates}
}

// claimConfiguration adds to tx that a configuration's external id means it, if it has one and that is free.
func (u *User) claimConfiguration(ctx context.Context, tx *sealed.Tx, credential *credentialRecord, record *configurationRecord) error {
	if record.ExternalID == "" {
		return nil
	}
	rows, err := u.e.configurationIDs(ctx, u.id, credential, record.ExternalID)
	if err != nil {
		return err
	}
	for _, row := range rows {
		taken, err := u.e.configurationHas(ctx, u.id, credential.ID, row, record)
		if err != nil {
			return err
		}
		if taken {
			if !u.mayConfigure(actReadConfiguration, credential, record) { // that one has the same name, and is judged by it
				return hidden(credential.Integration)
			}
			return fmt.Errorf("%w: %q is another configuration of this account", ErrExternalID, record.ExternalID)
		}
		u.e.tables.configurationIDs.Put(tx, &configurationIDRecord{Configuration: record.ID}, row.Rev, row.Key...)
	}
	return nil
}

// configurationHas reports whether a row says truly that another configuration has the external id of record. One under a
// key of the index that not every process knew yet may be out of date.
func (e *Engine) configurationHas(ctx context.Context, user, credential string, row sealed.Row[configurationIDRecord], record *configurationRecord) (bool, error) {
	if row.Rev == 0 || row.Value.Configuration == record.ID {
		return false, nil
	}
	other, _, err := e.tables.configurations.Get(ctx, user, credential, row.Value.Configuration)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return other.ExternalID == record.ExternalID, err
}

// configurationIDs reads which configuration of a credential an external id means, under each live key.
func (e *Engine) configurationIDs(ctx context.Context, user string, credential *credentialRecord, externalIDs ...string) ([]sealed.Row[configurationIDRecord], error) {
	var keys [][]string
	for _, externalID := range externalIDs {
		tokens, err := e.db.Lookup(ctx, "configuration external id", user, credential.Integration, externalID)
		if err != nil {
			return nil, err
		}
		for _, token := range tokens {
			keys = append(keys, []string{user, credential.Integration, token, credential.ID})
		}
	}
	return e.tables.configurationIDs.GetMany(ctx, keys)
}

// renameConfiguration adds to tx that a configuration has another external id; empty: none.
func (u *User) renameConfiguration(ctx context.Context, tx *sealed.Tx, c *configured, next *configurationRecord, externalID string) error {
	var err error
	if externalID != "" {
		if externalID, err = cleanExternalID(externalID); err != nil {
			return err
		}
	}
	switch {
	case externalID == c.record.ExternalID:
		return nil
	case c.record.ID == c.credential.ID:
		return invalid("externalId", "is not for the default configuration: its account names it")
	}
	if err := u.e.dropConfigurationIDs(ctx, tx, u.id, &c.credential, map[string]string{c.record.ID: c.record.ExternalID}); err != nil {
		return err
	}
	next.ExternalID = externalID
	if !u.mayConfigure(actWriteConfiguration, &c.credential, next) { // under its new name too
		return fmt.Errorf("configuration %s: %w", next.ID, ErrPermission)
	}
	return u.claimConfiguration(ctx, tx, &c.credential, next)
}

// dropConfigurationIDs adds to tx that the external ids of configurations, by the configurations' ids, are free.
func (e *Engine) dropConfigurationIDs(ctx context.Context, tx *sealed.Tx, user string, credential *credentialRecord, of map[string]string) error {
	var externalIDs []string
	for _, externalID := range of {
		if externalID != "" {
			externalIDs = append(externalIDs, externalID)
		}
	}
	rows, err := e.configurationIDs(ctx, user, credential, externalIDs...)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if _, goes := of[row.Value.Configuration]; goes && row.Rev != 0 {
			e.tables.configurationIDs.Delete(tx, row.Rev, row.Key...)
		}
	}
	return nil
}

// commitConfiguration commits a change of a configuration whose account must still be there. Where the configuration has
// a record, its revision says so: a disconnect takes it along.
func (u *User) commitConfiguration(ctx context.Context, tx *sealed.Tx, c *configured) error {
	if c.rev == 0 {
		u.e.tables.credentials.Check(tx, c.credentialRev, u.id, c.credential.ID)
	}
	return u.e.kernel.Commit(ctx, tx)
}
