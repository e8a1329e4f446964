package core

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
)

func benchUser(i int) string { return fmt.Sprintf("user-%d", i/4) }

// seed writes n credentials past the rules, the i-th one for user(i).
func seed(dir string, kek *crypto.LocalKEK, n int, user func(i int) string) (ids []string, err error) {
	store, err := badger.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }()
	return seedStore(store, kek, n, user)
}

func seedStore(store storage.Store, kek *crypto.LocalKEK, n int, user func(i int) string) (ids []string, err error) {
	ctx := context.Background()
	e, err := Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	ids = make([]string, n)
	for i := range ids {
		ids[i] = newID()
	}
	const batch = 64
	errs := make(chan error)
	for worker := range 16 {
		go func() {
			for from := worker * batch; from < n; from += 16 * batch {
				tx := e.db.Begin(ctx)
				for i := from; i < min(from+batch, n); i++ {
					e.tables.credentials.Put(tx, benchRecord(ids[i], now), 0, user(i), ids[i])
					e.tables.byUser.Mark(tx, user(i), "googleCalendar", ids[i])
				}
				if err := tx.Commit(ctx); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 16 {
		if failed := <-errs; failed != nil {
			err = failed
		}
	}
	return ids, err
}

// openBare opens a store's directory with Badger itself, under the options of storage/badger.
func openBare(dir string) (*badgerdb.DB, error) {
	return badgerdb.Open(badgerdb.DefaultOptions(dir).WithLogger(nil).WithMemTableSize(16 << 20).
		WithNumMemtables(2).WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithValueThreshold(1 << 20).WithValueLogFileSize(64 << 20).WithMetricsEnabled(false))
}

// flatten finishes the compactions that filling the store began, so that they do not run beside what is measured first.
func flatten(dir string) error {
	db, err := openBare(dir)
	if err != nil {
		return err
	}
	return errors.Join(db.Flatten(2), db.Close())
}

// benchRecord is a credential as large as a usual one: a JWT as access token, an opaque refresh token.
func benchRecord(id string, now time.Time) *credentialRecord {
	r := &credentialRecord{
		tokenRecord: tokenRecord{
			ID: id, Integration: "googleCalendar", Status: StatusValid,
			TokenType: "Bearer", Refreshed: toMillis(now), ValidUntil: toMillis(now.Add(24 * time.Hour)),
		},
		ExternalID: "work",
		Account:    accountRecord{Issuer: "https://accounts.example.com", Subject: "108124129812904121", Display: "someone@example.com"},
		Scopes:     []string{"openid", "email", "profile", "https://www.example.com/auth/calendar"},
		Created:    toMillis(now), Updated: toMillis(now),
	}
	r.AccessToken = crypto.NewSecret(strings.Repeat(newNonce(), 10))
	r.RefreshToken = crypto.NewSecret(strings.Repeat(newNonce(), 2))
	return r
}
