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

// maxHolders is how many credentials of a user may stand for one provider account, where the integration allows several.
const maxHolders = 256

// named are the credentials that any of the claims names, oldest first.
func named(claims []claim) []string {
	var ids []string
	seen := map[string]bool{}
	for _, c := range claims {
		for _, id := range c.record.Credentials {
			if !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// holders are the credentials that stand for an account, oldest first. A claim is believed only where the credential says
// the same: one under a key of the index that not every process knew yet may be out of date.
func (e *Engine) holders(ctx context.Context, user, integration string, account ProviderAccount, claims []claim) ([]credentialRecord, error) {
	ids := named(claims)
	keys := make([][]string, len(ids))
	for i, id := range ids {
		keys[i] = []string{user, id}
	}
	rows, err := e.tables.credentials.GetMany(ctx, keys)
	if err != nil {
		return nil, err
	}
	var held []credentialRecord
	for i := range rows {
		r := &rows[i].Value
		if rows[i].Rev != 0 && r.Integration == integration && ProviderAccount(r.Account).Same(account) {
			held = append(held, *r)
		}
	}
	return held, nil
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
func (e *Engine) moveClaims(ctx context.Context, tx *sealed.Tx, p *provider, g *grant, old *credentialRecord, rev storage.Rev, claims []claim, held []credentialRecord) error {
	before := ProviderAccount(old.Account)
	var ids []string
	for i := range held {
		ids = append(ids, held[i].ID)
	}
	switch {
	case rev == 0 || before.Same(g.account):
	case before.Known():
		others := slices.DeleteFunc(held, func(r credentialRecord) bool { return r.ID == old.ID })
		switch {
		case len(others) > 0 && (p.OtherAccount == OtherAccountReplace || g.by.sees(&others[0])):
			return g.elsewhere(&others[0])
		case p.OtherAccount != OtherAccountReplace: // whether or not somebody else has it, unseen
			return fmt.Errorf("%w than the one of credential %s", ErrAccountMismatch, old.ID)
		}
		if err := e.dropClaims(ctx, tx, g.user, old); err != nil {
			return err
		}
	case len(held) > 0 && p.SameAccount != SameAccountAllow:
		return g.elsewhere(&held[0])
	}
	if !slices.Contains(ids, old.ID) {
		ids = append(ids, old.ID)
	}
	if len(ids) > maxHolders {
		return fmt.Errorf("%w: one provider account can be connected %d times", ErrTooMany, maxHolders)
	}
	e.putClaims(tx, g.user, g.integration, claims, ids)
	return nil
}

// elsewhere says that the account which answered is connected as another credential, if the handle may know that.
func (g *grant) elsewhere(holder *credentialRecord) error {
	if !g.by.sees(holder) {
		return hidden(g.integration)
	}
	return fmt.Errorf("%w: it is connected already, as credential %s", ErrAccountMismatch, holder.ID)
}

// dropClaims takes a credential off the claims on its account.
func (e *Engine) dropClaims(ctx context.Context, tx *sealed.Tx, user string, record *credentialRecord) error {
	claims, err := e.claimsOf(ctx, user, record.Integration, ProviderAccount(record.Account))
	if err != nil {
		return err
	}
	e.putClaims(tx, user, record.Integration, claims, slices.DeleteFunc(named(claims), func(id string) bool { return id == record.ID }))
	return nil
}
