package core

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Some providers keep one grant for each client and account, and revoke it whole. The index of grants tells which
// credentials, of any user, share one (rule 8). Look-ups are blind: the entries say neither client nor account.

// grantKeys returns the look-ups of a credential's grant, none where its account is unknown or no OAuth client was
// involved.
func (e *Engine) grantKeys(ctx context.Context, r *credentialRecord) ([]string, error) {
	return e.grantKeysOf(ctx, r.ClientID, ProviderAccount(r.Account))
}

func (e *Engine) grantKeysOf(ctx context.Context, clientID string, account ProviderAccount) ([]string, error) {
	if !account.Known() || clientID == "" {
		return nil, nil
	}
	return e.db.Lookup(ctx, "grant", clientID, account.Issuer, account.Tenant, account.Subject)
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
	for holder, err := range e.grantHolders(ctx, r.ClientID, ProviderAccount(r.Account)) {
		if damaged(err) {
			continue
		} else if err != nil {
			return false, err
		}
		if holder.user != user || holder.ID != r.ID {
			return true, nil
		}
	}
	return false, nil
}

// grantHolder is a credential that stands for a grant.
type grantHolder struct {
	user string
	*credentialRecord
}

// grantHolders walks over the credentials, of whatever user, that stand for the grant of an account to a client. One
// whose tokens were given back stands for nothing. One that is damaged comes as its error, and the walk goes on: it could
// stand for a grant only if it could be read.
func (e *Engine) grantHolders(ctx context.Context, clientID string, account ProviderAccount) iter.Seq2[grantHolder, error] {
	return func(yield func(grantHolder, error) bool) {
		keys, err := e.grantKeysOf(ctx, clientID, account)
		if err != nil {
			yield(grantHolder{}, err)
			return
		}
		for _, key := range keys {
			for after, more := []string(nil), true; more; {
				var entries [][]string
				if entries, more, err = e.tables.grants.Scan(ctx, []string{key}, after, 100); err != nil {
					yield(grantHolder{}, err)
					return
				}
				for _, entry := range entries {
					if after = entry; len(entry) != 3 {
						continue
					}
					record, err := e.standsFor(ctx, entry[1], entry[2], keys)
					if (record != nil || err != nil) && !yield(grantHolder{entry[1], record}, err) {
						return
					}
				}
			}
		}
	}
}

// standsFor returns a credential that stands for the grant of those look-ups, as an entry of the index says, nil when it
// does not: entries are not sealed, and one under a key that not every process knew yet may be out of date.
func (e *Engine) standsFor(ctx context.Context, user, credential string, keys []string) (*credentialRecord, error) {
	record, _, err := e.tables.credentials.Get(ctx, user, credential)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	own, err := e.grantKeys(ctx, &record)
	if err != nil || len(own) == 0 || !slices.Contains(keys, own[0]) || !record.holdsTokens() {
		return nil, err
	}
	return &record, nil
}

// holdsTokens reports whether there is anything to use or to refresh with.
func (r *tokenRecord) holdsTokens() bool { return !r.AccessToken.IsZero() || !r.RefreshToken.IsZero() }

// damaged reports whether err says that a record is there and can be read by nobody.
func damaged(err error) bool {
	var corrupt *sealed.CorruptError
	return errors.As(err, &corrupt)
}

// unreadable reports whether err says that a record is there and does not open: it is damaged, or of a newer program.
func unreadable(err error) bool {
	var newer *sealed.FormatError
	return damaged(err) || errors.As(err, &newer)
}
