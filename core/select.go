package core

import (
	"context"
	"fmt"
	"strings"
)

// Selector names one account of a user (rules 6 and 7).
//
// One that names none, neither by Credential nor by Configuration, means the only one of the integration. To use an
// account (User.Credential, Token, TokenSource, Client) that is the only VALID one that is not disabled; when there are
// several, Options.Unselected says what happens; when there are only others, that is ErrReconnect, ErrPending or, where all
// of them are disabled, ErrDisabled. To manage one
// (every other method that takes a Selector) it is the only one there is, whatever its status: several are an
// AmbiguousError, also when just one of them is VALID, and whatever Options.Unselected says.
//
// Errors of all these methods: InputError for a selector that is malformed, ErrNotFound for an integration, account or
// configuration that does not exist or that the handle may not see, ErrNotConnected when none is named and there is none,
// AmbiguousError when several fit.
type Selector struct {
	// Integration is its name. It may be empty only when Credential or Configuration is a UUID.
	Integration string
	// Credential is the credential's UUID, its external id, or "ext:" and its external id; an external id that looks like
	// a UUID is reachable only with "ext:". External ids are compared byte by byte. Empty: the only one, see above.
	Credential string
	// Configuration is the UUID or external id of a configuration, in the same three forms; it names its account too, and
	// beside Credential it has to belong to that account. Several accounts that each have one of that external id are an
	// AmbiguousError. Empty: the account's default configuration, where one matters.
	Configuration string
}

// String returns the selector as errors show it.
func (s Selector) String() string {
	text := s.Integration
	switch {
	case s.Integration == "":
		text = s.Credential
	case s.Credential != "":
		text = clip(s.Integration) + "/" + clip(s.Credential)
		if s.Configuration == "" {
			return text
		}
	}
	if s.Configuration != "" {
		return strings.TrimSpace(clip(text) + " configuration " + clip(s.Configuration))
	}
	return clip(text)
}

// find returns the account that sel names, whatever its status; without a name, a usable one. An account that the handle
// may not see does not exist.
func (u *User) find(ctx context.Context, sel Selector) (credentialRecord, error) {
	if sel.byName() {
		if err := u.check(); err != nil {
			return credentialRecord{}, err
		}
		record, err := u.byExternalID(ctx, sel.Integration, sel.Credential)
		if err != nil {
			return credentialRecord{}, err
		}
		return *record, nil
	}
	id, _, err := u.locate(ctx, sel)
	if err != nil {
		return credentialRecord{}, err
	}
	record, _, err := u.record(ctx, id)
	if err == nil {
		err = sel.fits(id, record.Integration)
	}
	if err != nil {
		return credentialRecord{}, err
	}
	return record, nil
}

// byName reports whether sel names an account by its external id, so that finding it reads it.
func (s Selector) byName() bool {
	if s.Configuration != "" || s.Credential == "" {
		return false
	}
	_, isID := canonicalUUID(strings.TrimSpace(s.Credential))
	return !isID
}

// locate returns the id of the account that sel names, which whoever reads it checks with fits, and that of the
// configuration, empty when sel names none.
func (u *User) locate(ctx context.Context, sel Selector) (credential, configuration string, err error) {
	if err := u.check(); err != nil {
		return "", "", err
	}
	switch {
	case sel.Configuration != "":
		return u.locateConfiguration(ctx, sel)
	case sel.Credential == "":
		credential, err = u.only(ctx, sel.Integration)
		return credential, "", err
	}
	if id, ok := canonicalUUID(strings.TrimSpace(sel.Credential)); ok {
		return id, "", nil
	}
	record, err := u.byExternalID(ctx, sel.Integration, sel.Credential)
	if err != nil {
		return "", "", err
	}
	return record.ID, "", nil
}

// fits says that a credential is not found when it belongs to another integration than sel names.
func (s Selector) fits(id, integration string) error {
	if s.Integration != "" && s.Integration != integration {
		return fmt.Errorf("credential %s: %w at %s", id, ErrNotFound, clip(s.Integration))
	}
	return nil
}

// byExternalID returns the credential that an external id means, with or without "ext:", if the handle may see it.
func (u *User) byExternalID(ctx context.Context, integration, externalID string) (*credentialRecord, error) {
	if integration == "" {
		return nil, invalid("integration", "is empty: an external id means something only within an integration")
	}
	if err := checkName(integration); err != nil {
		return nil, err
	}
	clean, err := selectorID("credential", externalID)
	if err != nil {
		return nil, err
	}
	holder, _, err := u.e.externalHolder(ctx, u.id, integration, clean)
	if err != nil {
		return nil, err
	}
	if holder == nil || !u.sees(holder) { // both in the same words
		if _, err = u.e.provider(ctx, integration); err == nil {
			err = fmt.Errorf("external id %q: %w", clean, ErrNotFound)
		}
		return nil, err
	}
	return holder, nil
}

// selectorID cleans an external id that stands in a field of a selector.
func selectorID(field, externalID string) (string, error) {
	clean, err := cleanExternalID(externalID)
	if err != nil && strings.TrimSpace(externalID) == "" {
		return "", invalid(field, "is empty: leave it out, or name one")
	}
	if err != nil {
		return "", invalid(field, strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": externalId "))
	}
	return clean, nil
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
	ended, pending, disabled := 0, 0, 0
	for record, err := range u.accounts(ctx, integration) {
		switch {
		case err != nil:
			return "", err
		case record.Disabled:
			disabled++
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
		return "", fmt.Errorf("%w: every account of %s that could be used has lost its authorisation", ErrReconnect, integration)
	case pending > 0:
		return "", fmt.Errorf("the account of %s: %w: CompleteSetup takes what is missing", integration, ErrPending)
	case disabled > 0:
		return "", fmt.Errorf("every account of %s %w", integration, ErrDisabled)
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

// pick returns the id of the account to change: the one named, or the only one there is, whatever its status.
func (u *User) pick(ctx context.Context, sel Selector) (string, error) {
	if sel.Credential != "" || sel.Configuration != "" {
		record, err := u.find(ctx, sel)
		return record.ID, err
	}
	if err := u.check(); err != nil {
		return "", err
	}
	if err := checkName(sel.Integration); err != nil {
		return "", err
	}
	var candidates []Credential
	for record, err := range u.accounts(ctx, sel.Integration) {
		if err != nil {
			return "", err
		}
		if candidates = append(candidates, record.public(u.id)); len(candidates) == maxCandidates {
			break
		}
	}
	switch len(candidates) {
	case 0:
		return "", u.e.notConnected(ctx, sel.Integration)
	case 1:
		return candidates[0].ID, nil
	}
	return "", &AmbiguousError{Integration: sel.Integration, Candidates: candidates}
}
