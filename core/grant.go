package core

import (
	"context"
	"errors"
	"slices"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Some providers keep one grant for each client and account, and revoke it whole. The index of grants tells which
// credentials, of any user, share one (rule 8). Look-ups are blind: the entries say neither client nor account.

// grantKeys returns the look-ups of a credential's grant, none where its account is unknown or no OAuth client was
// involved.
func (e *Engine) grantKeys(ctx context.Context, r *credentialRecord) ([]string, error) {
	account := ProviderAccount(r.Account)
	if !account.Known() || r.ClientID == "" {
		return nil, nil
	}
	return e.db.Lookup(ctx, "grant", r.ClientID, account.Issuer, account.Tenant, account.Subject)
}

// moveGrant adds to tx that a credential stands for the grant of after in place of that of before. Either may be nil.
func (e *Engine) moveGrant(ctx context.Context, tx *sealed.Tx, user string, before, after *credentialRecord) error {
	var old, now []string
	var err error
	if before != nil {
		if old, err = e.grantKeys(ctx, before); err != nil {
			return err
		}
	}
	if after != nil {
		if now, err = e.grantKeys(ctx, after); err != nil {
			return err
		}
		for _, key := range now { // also where nothing changed: a key of the index may be new
			e.tables.grants.Mark(tx, key, user, after.ID)
		}
	}
	for _, key := range old {
		if !slices.Contains(now, key) {
			e.tables.grants.Unmark(tx, key, user, before.ID)
		}
	}
	return nil
}

// grantShared reports whether another credential, of whatever user, stands for the same grant.
func (e *Engine) grantShared(ctx context.Context, user string, r *credentialRecord) (bool, error) {
	keys, err := e.grantKeys(ctx, r)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		for after, more := []string(nil), true; more; {
			var entries [][]string
			if entries, more, err = e.tables.grants.Scan(ctx, []string{key}, after, 100); err != nil {
				return false, err
			}
			for _, entry := range entries {
				if after = entry; len(entry) != 3 || entry[1] == user && entry[2] == r.ID {
					continue
				}
				if shared, err := e.sharesGrant(ctx, entry[1], entry[2], keys); shared || err != nil {
					return shared, err
				}
			}
		}
	}
	return false, nil
}

// sharesGrant reports whether a credential stands for the grant of those look-ups, as an entry of the index says: entries
// are not sealed, and one under a key that not every process knew yet may be out of date.
func (e *Engine) sharesGrant(ctx context.Context, user, credential string, keys []string) (bool, error) {
	record, _, err := e.tables.credentials.Get(ctx, user, credential)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	own, err := e.grantKeys(ctx, &record)
	return len(own) > 0 && slices.Contains(keys, own[0]), err
}
