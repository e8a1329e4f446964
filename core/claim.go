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
func (e *Engine) claimsOf(ctx context.Context, user, integration string, account ProviderAccount) ([]claim, error) {
	if !account.Known() {
		return nil, nil
	}
	tokens, err := e.db.Lookup(ctx, "account", user, integration, account.Issuer, account.Tenant, account.Subject)
	if err != nil {
		return nil, err
	}
	keys := make([][]string, len(tokens))
	for i, token := range tokens {
		keys[i] = []string{user, integration, token}
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
func (e *Engine) putClaims(tx *sealed.Tx, user, integration string, claims []claim, ids []string) {
	for _, c := range claims {
		switch {
		case len(ids) > 0:
			e.tables.claims.Put(tx, &claimRecord{Credentials: ids}, c.rev, user, integration, c.key)
		case c.rev != 0:
			e.tables.claims.Delete(tx, c.rev, user, integration, c.key)
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
			return g.elsewhere(ctx, others[0])
		case p.OtherAccount != OtherAccountReplace:
			return fmt.Errorf("%w than the one of credential %s", ErrAccountMismatch, old.ID)
		}
		if err := e.dropClaims(ctx, tx, g.user, old); err != nil {
			return err
		}
	}
	if rev != 0 && !before.Known() && len(holders(claims)) > 0 && p.SameAccount != SameAccountAllow {
		return g.elsewhere(ctx, holders(claims)[0])
	}
	ids := holders(claims)
	if !slices.Contains(ids, old.ID) {
		ids = append(ids, old.ID)
	}
	e.putClaims(tx, g.user, g.integration, claims, ids)
	return nil
}

// elsewhere says that the account which answered is connected as another credential, if the handle may know that.
func (g *grant) elsewhere(ctx context.Context, holder string) error {
	if _, _, err := g.by.record(ctx, holder); err != nil {
		return hidden(g.integration)
	}
	return fmt.Errorf("%w: it is connected already, as credential %s", ErrAccountMismatch, holder)
}

// dropClaims takes a credential off the claims on its account.
func (e *Engine) dropClaims(ctx context.Context, tx *sealed.Tx, user string, record *credentialRecord) error {
	claims, err := e.claimsOf(ctx, user, record.Integration, ProviderAccount(record.Account))
	if err != nil {
		return err
	}
	e.putClaims(tx, user, record.Integration, claims, slices.DeleteFunc(holders(claims), func(id string) bool { return id == record.ID }))
	return nil
}
