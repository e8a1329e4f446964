package sealed

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// keys are the keysets of a project as they were loaded; a change is a new value.
type keys struct {
	tokens, policy *crypto.Keyset // tokens is nil without that KEK
	index          *crypto.Index
	revs           [3]storage.Rev // of the wrapped keysets, in the order of purposes
	loaded         time.Time
}

// The purposes, as they stand in keys and in the associated data of the wrapped keysets.
var purposes = [...]string{"tokens", "policy", "index"}

func (db *DB) kek(purpose string) tink.AEADWithContext {
	if purpose == "tokens" {
		return db.keks.Tokens
	}
	return db.keks.Policy
}

func (k *keys) plane(p Plane) (*crypto.Keyset, error) {
	switch {
	case p == Policy:
		return k.policy, nil
	case p != Tokens:
		return nil, fmt.Errorf("there is no plane %d", p)
	case k.tokens == nil:
		return nil, ErrNoTokensKey
	}
	return k.tokens, nil
}

// openKeys loads the keysets and makes those that are missing.
func (db *DB) openKeys(ctx context.Context) error {
	for {
		missing, err := db.loadKeys(ctx)
		if err != nil || len(missing) == 0 {
			return err
		}
		if err := db.createKeysets(ctx, missing); err != nil {
			return err
		}
	}
}

// createKeysets makes all that are missing in one batch: of first openers with different KEKs, each would otherwise
// make some, and none of them could open the store.
func (db *DB) createKeysets(ctx context.Context, missing []string) error {
	var batch storage.Batch
	for _, purpose := range missing {
		var made wrapper
		var err error
		if purpose == "index" {
			made, err = crypto.NewIndex()
		} else {
			made, err = crypto.NewKeyset()
		}
		if err != nil {
			return err
		}
		p, err := db.wrap(ctx, purpose, 0, made)
		if err != nil {
			return err
		}
		batch.Puts = append(batch.Puts, p)
	}
	err := db.store.Apply(ctx, batch)
	var lost *storage.ConflictError
	if errors.As(err, &lost) {
		return nil // another opener was first; its keysets count
	}
	if err != nil {
		return fmt.Errorf("write new keysets: %w", err)
	}
	return nil
}

// wrapper is a keyset of any kind.
type wrapper interface {
	Wrap(context.Context, tink.AEADWithContext, []byte) ([]byte, error)
}

// wrap returns the change that replaces revision rev of a keyset.
func (db *DB) wrap(ctx context.Context, purpose string, rev storage.Rev, set wrapper) (storage.Put, error) {
	key := db.key(tagKeyset, []string{purpose})
	wrapped, err := set.Wrap(ctx, db.kek(purpose), db.keysetBinding(key))
	if err != nil {
		return storage.Put{}, err
	}
	next := rev + 1
	if rev == 0 {
		next = creationRev()
	}
	return storage.Put{Key: key, Value: append([]byte{envelopeVersion}, wrapped...), If: rev, Rev: next}, nil
}

// keysetBinding binds a wrapped keyset to its store and key. Its revision is not bound: a keyset grows, and an older one
// only knows fewer keys.
func (db *DB) keysetBinding(key []byte) []byte {
	return crypto.Binding{Store: db.id, Table: "keyset", Key: key}.Append(nil)
}

// loadKeys reads the keysets and unwraps those whose revision changed, so that a KMS is asked only then. It returns the
// purposes that have no keyset yet and for which this DB holds the KEK.
func (db *DB) loadKeys(ctx context.Context) (missing []string, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.loadKeysLocked(ctx)
}

func (db *DB) loadKeysLocked(ctx context.Context) (missing []string, err error) {
	lookup := make([][]byte, len(purposes))
	for i, purpose := range purposes {
		lookup[i] = db.key(tagKeyset, []string{purpose})
	}
	next := keys{loaded: db.now()} // before reading: a slow read must not make the cache live longer
	items, err := db.store.GetMany(ctx, lookup)
	if err != nil {
		return nil, fmt.Errorf("read keysets: %w", err)
	}
	if old := db.keys.Load(); old != nil {
		next.tokens, next.policy, next.index, next.revs = old.tokens, old.policy, old.index, old.revs
	}
	for i, purpose := range purposes {
		switch {
		case db.kek(purpose) == nil:
		case items[i].Rev == 0 && next.revs[i] != 0:
			return nil, &CorruptError{Table: "keyset", Key: []string{purpose}, Err: errors.New("it is gone")}
		case items[i].Rev == 0:
			missing = append(missing, purpose)
		case items[i].Rev != next.revs[i]:
			if err := db.unwrap(ctx, &next, purpose, lookup[i], items[i].Value); err != nil {
				return nil, err
			}
			next.revs[i] = items[i].Rev
		}
	}
	if len(missing) == 0 {
		db.keys.Store(&next)
	}
	return missing, nil
}

func (db *DB) unwrap(ctx context.Context, into *keys, purpose string, key, value []byte) error {
	wrapped, err := ciphertext(value)
	if err != nil {
		return &CorruptError{Table: "keyset", Key: []string{purpose}, Err: err}
	}
	binding := db.keysetBinding(key)
	switch purpose {
	case "tokens":
		into.tokens, err = crypto.UnwrapKeyset(ctx, db.keks.Tokens, wrapped, binding)
	case "policy":
		into.policy, err = crypto.UnwrapKeyset(ctx, db.keks.Policy, wrapped, binding)
	case "index":
		into.index, err = crypto.UnwrapIndex(ctx, db.keks.Policy, wrapped, binding)
	}
	if err != nil {
		return fmt.Errorf("open the %s keyset: %w", purpose, err)
	}
	return nil
}

// freshKeys returns the keysets, asking the store whether they changed when they are older than the cache lifetime.
func (db *DB) freshKeys(ctx context.Context) (*keys, error) {
	k := db.keys.Load()
	if age := db.now().Sub(k.loaded); age >= 0 && age < db.ttl {
		return k, nil
	}
	return db.reload(ctx, k)
}

// reload loads the keysets again unless somebody did since seen was taken.
func (db *DB) reload(ctx context.Context, seen *keys) (*keys, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if k := db.keys.Load(); k != seen {
		return k, nil
	}
	if _, err := db.loadKeysLocked(ctx); err != nil {
		return nil, err
	}
	return db.keys.Load(), nil
}

// AddKey adds a key to the keyset of a plane, under which nothing is sealed until PromoteKey. Wait two cache lifetimes
// in between, so that every process can open what will be sealed with it. A concurrent change of the same keyset is a
// *storage.ConflictError: try again.
func (db *DB) AddKey(ctx context.Context, p Plane) (id uint32, err error) {
	err = db.changeKeyset(ctx, p, func(set *crypto.Keyset) (next *crypto.Keyset, err error) {
		next, id, err = set.Add()
		return next, err
	})
	return id, err
}

// PromoteKey makes a key that AddKey added the one that seals. Other processes follow within a cache lifetime.
func (db *DB) PromoteKey(ctx context.Context, p Plane, id uint32) error {
	return db.changeKeyset(ctx, p, func(set *crypto.Keyset) (*crypto.Keyset, error) { return set.Promote(id) })
}

func (db *DB) changeKeyset(ctx context.Context, p Plane, change func(*crypto.Keyset) (*crypto.Keyset, error)) error {
	k, err := db.reload(ctx, db.keys.Load())
	if err != nil {
		return err
	}
	set, err := k.plane(p)
	if err != nil {
		return err
	}
	next, err := change(set)
	if err != nil {
		return err
	}
	purpose := int(p - Tokens)
	write, err := db.wrap(ctx, purposes[purpose], k.revs[purpose], next)
	if err != nil {
		return err
	}
	if err := db.store.Apply(ctx, storage.Batch{Puts: []storage.Put{write}}); err != nil {
		return fmt.Errorf("write %s keyset: %w", purposes[purpose], err)
	}
	_, err = db.reload(ctx, k)
	return err
}

// creationRev draws the revision of a new record: random, so that a record that was deleted and made again is not taken
// for the one that was read, and below half the range, so that updates can count up.
func creationRev() storage.Rev {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return storage.Rev(binary.BigEndian.Uint64(b[:])>>3) | 1
}
