package core

import (
	"context"
	"fmt"
	"slices"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// claim is the record that says which credentials stand for a provider account, under one live key of the index.
type claim struct {
	key    string
	record claimRecord
	rev    storage.Rev
}

// claimsOf reads the claims on an account; none when it is unknown.
func (e *Engine) claimsOf(ctx context.Context, w *wish, account ProviderAccount) ([]claim, error) {
	if !account.Known() {
		return nil, nil
	}
	tokens, err := e.db.Lookup(ctx, "account", w.user, w.integration, account.Issuer, account.Tenant, account.Subject)
	if err != nil {
		return nil, err
	}
	keys := make([][]string, len(tokens))
	for i, token := range tokens {
		keys[i] = []string{w.user, w.integration, token}
	}
	rows, err := e.tables.claims.GetMany(ctx, keys)
	if err != nil {
		return nil, err
	}
	claims := make([]claim, len(rows))
	for i, row := range rows {
		claims[i] = claim{key: tokens[i], record: row.Value, rev: row.Rev}
	}
	return claims, nil
}

// holders are the credentials that any of the claims names, oldest first.
func holders(claims []claim) []string {
	var ids []string
	for _, c := range claims {
		for _, id := range c.record.Credentials {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// putClaims adds to tx that exactly these credentials hold the claims.
func (e *Engine) putClaims(tx *sealed.Tx, w *wish, claims []claim, ids []string) {
	for _, c := range claims {
		switch {
		case len(ids) > 0:
			e.tables.claims.Put(tx, &claimRecord{Credentials: ids}, c.rev, w.user, w.integration, c.key)
		case c.rev != 0:
			e.tables.claims.Delete(tx, c.rev, w.user, w.integration, c.key)
		}
	}
}

// moveClaims makes the credential a holder of the account that answered, after rule 3 allowed that it is another one
// than before.
func (e *Engine) moveClaims(ctx context.Context, tx *sealed.Tx, p *provider, g *grant, old *credentialRecord, rev storage.Rev, claims []claim) error {
	before := ProviderAccount(old.Account)
	if rev != 0 && before.Known() && !before.Same(g.account) {
		others := slices.DeleteFunc(holders(claims), func(id string) bool { return id == old.ID })
		switch {
		case len(others) > 0:
			return fmt.Errorf("%w: it is connected already, as credential %s", ErrAccountMismatch, others[0])
		case p.OtherAccount != OtherAccountReplace:
			return fmt.Errorf("%w than the one of credential %s", ErrAccountMismatch, old.ID)
		}
		if err := e.dropClaims(ctx, tx, &g.wish, old); err != nil {
			return err
		}
	}
	if rev != 0 && !before.Known() && len(holders(claims)) > 0 && p.SameAccount != SameAccountAllow {
		return fmt.Errorf("%w: it is connected already, as credential %s", ErrAccountMismatch, holders(claims)[0])
	}
	ids := holders(claims)
	if !slices.Contains(ids, old.ID) {
		ids = append(ids, old.ID)
	}
	e.putClaims(tx, &g.wish, claims, ids)
	return nil
}

// dropClaims takes a credential off the claims on its account.
func (e *Engine) dropClaims(ctx context.Context, tx *sealed.Tx, w *wish, record *credentialRecord) error {
	claims, err := e.claimsOf(ctx, w, ProviderAccount(record.Account))
	if err != nil {
		return err
	}
	e.putClaims(tx, w, claims, slices.DeleteFunc(holders(claims), func(id string) bool { return id == record.ID }))
	return nil
}

// externalHolder returns the credential that an external id means, "" when it is free, with its claims.
func (e *Engine) externalHolder(ctx context.Context, w *wish) (string, []sealed.Row[externalIDRecord], error) {
	keys, err := e.externalKeys(ctx, w.user, w.integration, w.externalID)
	if err != nil {
		return "", nil, err
	}
	rows, err := e.tables.externalIDs.GetMany(ctx, keys)
	if err != nil {
		return "", nil, err
	}
	for _, row := range rows {
		if row.Rev != 0 {
			return row.Value.Credential, rows, nil
		}
	}
	return "", rows, nil
}

func (e *Engine) externalKeys(ctx context.Context, user, integration, externalID string) ([][]string, error) {
	tokens, err := e.db.Lookup(ctx, "external id", user, integration, externalID)
	if err != nil {
		return nil, err
	}
	keys := make([][]string, len(tokens))
	for i, token := range tokens {
		keys[i] = []string{user, integration, token}
	}
	return keys, nil
}

// setExternalID labels the credential (rules 4 and 5).
func (e *Engine) setExternalID(ctx context.Context, tx *sealed.Tx, g *grant, record *credentialRecord) error {
	switch {
	case g.externalID == "" || g.externalID == record.ExternalID:
		return nil
	case record.ExternalID != "":
		return fmt.Errorf("%w: this account is connected as %q, not %q", ErrExternalID, record.ExternalID, g.externalID)
	}
	holder, rows, err := e.externalHolder(ctx, &g.wish)
	if err != nil {
		return err
	}
	if holder != "" && holder != record.ID {
		return fmt.Errorf("%w: %q is another account of this user", ErrExternalID, g.externalID)
	}
	for _, row := range rows {
		e.tables.externalIDs.Put(tx, &externalIDRecord{Credential: record.ID}, row.Rev, row.Key...)
	}
	record.ExternalID = g.externalID
	return nil
}
