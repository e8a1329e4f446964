package core

import (
	"context"
	"fmt"
	"strings"
)

// Selector names one account of a user (rules 6 and 7).
type Selector struct {
	// Integration is its name. It may be empty only when Credential is a UUID.
	Integration string
	// Credential is the credential's UUID, its external id, or "ext:" and its external id; an external id that looks like
	// a UUID is reachable only with "ext:". Empty: the only valid account of the integration, or what Options.Unselected
	// says when there are several.
	Credential string
	// Configuration is the id or external id ("ext:" before it is allowed) of a configuration, which names its account too;
	// beside Credential it has to belong to that account. Empty: the account's default configuration, where one matters.
	Configuration string
}

// String returns the selector as errors show it.
func (s Selector) String() string {
	switch {
	case s.Credential == "":
		return clip(s.Integration)
	case s.Integration == "":
		return clip(s.Credential)
	}
	return clip(s.Integration) + "/" + clip(s.Credential)
}

// find returns the account that sel names, whatever its status; without a name, a usable one.
func (u *User) find(ctx context.Context, sel Selector) (credentialRecord, error) {
	id, err := u.locate(ctx, sel)
	if err != nil {
		return credentialRecord{}, err
	}
	record, _, err := u.e.credential(ctx, u.id, id)
	if err == nil {
		err = sel.fits(id, record.Integration)
	}
	if err != nil {
		return credentialRecord{}, err
	}
	return record, nil
}

// locate returns the id of the account that sel names, which whoever reads it checks with fits.
func (u *User) locate(ctx context.Context, sel Selector) (string, error) {
	if err := u.check(); err != nil {
		return "", err
	}
	if sel.Credential == "" {
		return u.only(ctx, sel.Integration)
	}
	if id, ok := canonicalUUID(strings.TrimSpace(sel.Credential)); ok {
		return id, nil
	}
	return u.byExternalID(ctx, sel.Integration, sel.Credential)
}

// fits says that a credential is not found when it belongs to another integration than sel names.
func (s Selector) fits(id, integration string) error {
	if s.Integration != "" && s.Integration != integration {
		return fmt.Errorf("credential %s: %w at %s", id, ErrNotFound, clip(s.Integration))
	}
	return nil
}

// resolve returns the id of an account of an integration that is named in one of the three forms.
func (u *User) resolve(ctx context.Context, integration, credential string) (string, error) {
	record, err := u.find(ctx, Selector{Integration: integration, Credential: credential})
	return record.ID, err
}

// byExternalID returns the id of the credential that an external id means, with or without "ext:".
func (u *User) byExternalID(ctx context.Context, integration, externalID string) (string, error) {
	if integration == "" {
		return "", invalid("integration", "is empty: an external id means something only within an integration")
	}
	if err := checkName(integration); err != nil {
		return "", err
	}
	clean, err := cleanExternalID(externalID)
	if err != nil {
		return "", invalid("credential", strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": externalId "))
	}
	id, _, err := u.e.externalHolder(ctx, &wish{user: u.id, integration: integration, externalID: clean})
	if err == nil && id == "" {
		if _, err = u.e.provider(ctx, integration); err == nil {
			err = fmt.Errorf("external id %q: %w", clean, ErrNotFound)
		}
	}
	return id, err
}

// only returns the id of the account to use when none was named (rule 7): nothing falls through to another one.
func (u *User) only(ctx context.Context, integration string) (string, error) {
	if integration == "" {
		return "", invalid("integration", "is empty: name the integration, or a credential by its UUID")
	}
	if err := checkName(integration); err != nil {
		return "", err
	}
	var valid []Credential
	ended, pending := 0, 0
	for record, err := range u.e.accounts(ctx, u.id, integration) {
		switch {
		case err != nil:
			return "", err
		case record.Status == StatusInvalid:
			ended++
		case record.Status == StatusPending:
			pending++
		default:
			valid = append(valid, record.public(u.id))
		}
		if len(valid) == maxCandidates || (len(valid) > 0 && u.e.opts.Unselected == Oldest) {
			break
		}
	}
	switch {
	case len(valid) == 1, len(valid) > 1 && u.e.opts.Unselected == Oldest:
		return valid[0].ID, nil
	case len(valid) > 1:
		return "", &AmbiguousError{Integration: integration, Candidates: valid}
	case ended > 0:
		return "", fmt.Errorf("%w: every account of %s has lost its authorisation", ErrReconnect, integration)
	case pending > 0:
		return "", fmt.Errorf("%w: the account of %s", ErrPending, integration)
	}
	return "", u.e.notConnected(ctx, integration)
}

// notConnected tells an integration without accounts from one that does not exist.
func (e *Engine) notConnected(ctx context.Context, integration string) error {
	if _, err := e.provider(ctx, integration); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", integration, ErrNotConnected)
}

// pick returns the id of the account to disconnect: the one named, or the only one there is, whatever its status.
func (u *User) pick(ctx context.Context, sel Selector) (string, error) {
	if sel.Credential != "" {
		record, err := u.find(ctx, sel)
		return record.ID, err
	}
	if err := u.check(); err != nil {
		return "", err
	}
	if err := checkName(sel.Integration); err != nil {
		return "", err
	}
	var records []credentialRecord
	for record, err := range u.e.accounts(ctx, u.id, sel.Integration) {
		if err != nil {
			return "", err
		}
		if records = append(records, *record); len(records) == maxCandidates {
			break
		}
	}
	switch {
	case len(records) == 0:
		return "", u.e.notConnected(ctx, sel.Integration)
	case len(records) == 1:
		return records[0].ID, nil
	}
	ambiguous := &AmbiguousError{Integration: sel.Integration}
	for i := range records {
		ambiguous.Candidates = append(ambiguous.Candidates, records[i].public(u.id))
	}
	return "", ambiguous
}
