package core

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/polycred/polycred/storage/sealed"
)

// maxPolled is how many sessions of one polling key are looked at: the newest.
const maxPolled = 16

// pollingKey is what is stored of a polling key. Each person has keys of their own, so that nobody's sessions get in the way
// of another's.
func pollingKey(person, key string) []byte { return digest("polling key", person+"\x00"+key) }

// polledKey is where a session that has a polling key is noted: newer ones before older ones.
func (r *sessionRecord) polledKey(key string) []string {
	newestFirst := binary.BigEndian.AppendUint64(nil, math.MaxUint64-uint64(r.Created))
	return []string{r.User, string(r.PollingKey), string(newestFirst), key}
}

// ConnectOutcomeOf returns what came of the newest connect session that was begun with a polling key
// (ConnectInput.PollingKey) by this user and the person of the handle, and, where the handle came from a user token, by one
// with the same permissions: what others began is unknown to it, whatever the key (security 11). Where the same key was used
// for several sessions, one that has a credential comes before the others. Asking changes nothing.
// Errors: ErrSession for a key that is unknown, or was given up; else those of ConnectOutcome.
func (u *User) ConnectOutcomeOf(ctx context.Context, key string) (*ConnectResult, error) {
	result, err := u.connectOutcomeOf(ctx, key)
	if err != nil {
		return result, fmt.Errorf("outcome of a connect session: %w", err)
	}
	return result, nil
}

func (u *User) connectOutcomeOf(ctx context.Context, key string) (*ConnectResult, error) {
	records, _, err := u.polled(ctx, key, nil)
	if err != nil {
		return nil, err
	}
	var best *sessionRecord
	for i := range records { // newest first
		if r := &records[i].Value; best == nil || best.Credential == "" && r.Credential != "" {
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
	if err := u.giveUpConnect(ctx, key); err != nil {
		return fmt.Errorf("give up a connect session: %w", err)
	}
	return nil
}

func (u *User) giveUpConnect(ctx context.Context, key string) error {
	for after := []string(nil); ; {
		records, last, err := u.polled(ctx, key, after)
		if err != nil {
			return err
		}
		if len(records) > 0 {
			tx := u.e.db.Begin(ctx)
			for i := range records {
				u.e.tables.polled.Unmark(tx, records[i].Value.polledKey(records[i].Key[0])...)
			}
			if err := u.e.kernel.Apply(ctx, tx); err != nil {
				return err
			}
		}
		if after = last; after == nil {
			return nil
		}
	}
}

// polled reads sessions of a polling key that this handle began, or one with the same rights, newest first, behind an entry
// of the index. The entry to go on behind is nil at the end.
func (u *User) polled(ctx context.Context, key string, after []string) (records []sealed.Row[sessionRecord], last []string, err error) {
	if err := u.check(); err != nil {
		return nil, nil, err
	}
	if key == "" || len(key) > maxExternalID {
		return nil, nil, nil
	}
	own := string(pollingKey(u.person, key))
	entries, more, err := u.e.tables.polled.Scan(ctx, []string{u.id, own}, after, maxPolled)
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		if last = entry; len(entry) != 4 { // entries are not sealed
			continue
		}
		r, rev, err := u.e.session(ctx, entry[3])
		var corrupt *sealed.CorruptError
		switch {
		case errors.Is(err, ErrSession), errors.As(err, &corrupt): // it comes to nothing
		case err != nil:
			return nil, nil, err
		case r.User == u.id && u.began(&r) && string(r.PollingKey) == own:
			records = append(records, sealed.Row[sessionRecord]{Key: []string{entry[3]}, Value: r, Rev: rev})
		}
	}
	if !more {
		last = nil
	}
	return records, last, nil
}
