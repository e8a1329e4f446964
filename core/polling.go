package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/storage/sealed"
)

// maxPolled is how many sessions of one polling key are looked at.
const maxPolled = 16

func pollingKey(key string) []byte { return digest("polling key", key) }

// ConnectOutcomeOf returns what came of the newest connect session that was begun with a polling key
// (ConnectInput.PollingKey) by this user, and person where there is one, and with the same rights: what others began is
// unknown to it, whatever the key (security 11). Where the same key was used for several sessions, one that has a
// credential comes before the others. Asking changes nothing.
// Errors: ErrSession for a key that is unknown, or was given up; else those of ConnectOutcome.
func (u *User) ConnectOutcomeOf(ctx context.Context, key string) (*ConnectResult, error) {
	result, err := u.connectOutcomeOf(ctx, key)
	if err != nil {
		return result, fmt.Errorf("outcome of a connect session: %w", err)
	}
	return result, nil
}

func (u *User) connectOutcomeOf(ctx context.Context, key string) (*ConnectResult, error) {
	records, err := u.polled(ctx, key)
	if err != nil {
		return nil, err
	}
	var best *sessionRecord
	for i := range records {
		r := &records[i].Value
		newer := best == nil || r.Created > best.Created
		if good := r.Credential != ""; best == nil || good && (best.Credential == "" || newer) || newer && best.Credential == "" {
			best = r
		}
	}
	if best == nil {
		return nil, errNoSession
	}
	return u.outcomeOf(ctx, best)
}

// GiveUpConnect makes a polling key mean nothing any more; the sessions themselves go on. A key that is unknown, or
// somebody else's, is no error and nothing is changed. Errors: those of the store.
func (u *User) GiveUpConnect(ctx context.Context, key string) error {
	records, err := u.polled(ctx, key)
	if err == nil && len(records) > 0 {
		tx := u.e.db.Begin(ctx)
		for _, r := range records {
			u.e.tables.polled.Unmark(tx, u.id, string(pollingKey(key)), r.Key[0])
		}
		err = u.e.kernel.Apply(ctx, tx)
	}
	if err != nil {
		return fmt.Errorf("give up a connect session: %w", err)
	}
	return nil
}

// polled reads the sessions of a polling key that this handle began, or one that may know all that it did.
func (u *User) polled(ctx context.Context, key string) ([]sealed.Row[sessionRecord], error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	if key == "" || len(key) > maxExternalID {
		return nil, nil
	}
	entries, _, err := u.e.tables.polled.Scan(ctx, []string{u.id, string(pollingKey(key))}, nil, maxPolled)
	if err != nil {
		return nil, err
	}
	var records []sealed.Row[sessionRecord]
	for _, entry := range entries {
		if len(entry) != 3 { // entries are not sealed
			continue
		}
		r, rev, err := u.e.session(ctx, entry[2])
		switch {
		case errors.Is(err, ErrSession):
		case err != nil:
			return nil, err
		case r.User == u.id && u.began(&r) && string(r.PollingKey) == entry[1]:
			records = append(records, sealed.Row[sessionRecord]{Key: []string{entry[2]}, Value: r, Rev: rev})
		}
	}
	return records, nil
}
