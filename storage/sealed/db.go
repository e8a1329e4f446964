package sealed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// Tags of what this package keeps for itself; no Table or Index may use them.
const (
	tagStore   = 'm' // the store record
	tagProject = 'p' // one empty entry for each project
	tagKeyset  = 'k' // wrapped keysets, by project and purpose
)

// CacheTTL is how long a keyset is used before a transaction asks the store whether it changed, unless Options say
// otherwise. Rotation waits two of these before it promotes a key.
const CacheTTL = 5 * time.Second

// Plane says which key-encryption key a table lies under.
type Plane uint8

// The planes: who can open Policy only, can declare integrations but never reads a token.
const (
	Tokens Plane = iota + 1
	Policy
)

// Options of a DB. The zero value is useful.
type Options struct {
	Now      func() time.Time // nil: time.Now
	CacheTTL time.Duration    // 0: CacheTTL
}

// DB is one project of a store, with its keysets open. It may be used concurrently. It does not own the store: closing
// that is the caller's.
type DB struct {
	store   storage.Store
	id      uuid.UUID
	project uuid.UUID
	keks    crypto.KEKs
	now     func() time.Time
	ttl     time.Duration

	keys atomic.Pointer[keys]

	mu   sync.Mutex // guards loading keys, and tags
	tags map[byte]string
}

// Open opens a project of store: the one named, which is made when it is absent, or with project "" the store's only
// one, which is made when there is none. It writes the store record and the keysets when it is the first to hold their
// key-encryption keys; any number of processes may race to be first.
//
// Errors: crypto.ErrWrongKEK, *FormatError, *CorruptError, *ProjectsError, and those of the store.
func Open(ctx context.Context, store storage.Store, keks crypto.KEKs, project string, o *Options) (*DB, error) {
	if keks.Policy == nil {
		return nil, errors.New("open: KEKs.Policy is needed: without it nothing in the store can be read")
	}
	if o == nil {
		o = &Options{}
	}
	db := &DB{store: store, keks: keks, now: o.Now, ttl: cmp.Or(o.CacheTTL, CacheTTL), tags: map[byte]string{
		tagStore: "store", tagProject: "project", tagKeyset: "keyset",
	}}
	if db.now == nil {
		db.now = time.Now
	}
	var err error
	if db.id, db.project, err = openProject(ctx, store, project); err != nil {
		return nil, err
	}
	if err := db.openKeys(ctx); err != nil {
		return nil, err
	}
	return db, nil
}

// Store returns the UUID of the store, which is part of every binding.
func (db *DB) Store() string { return db.id.String() }

// Project returns the UUID of the project.
func (db *DB) Project() string { return db.project.String() }

// HasTokens reports whether the DB was opened with the tokens key-encryption key.
func (db *DB) HasTokens() bool { return db.keks.Tokens != nil }

// Lookup returns the blind-index look-ups of a value, one for each live key, oldest first. Use them as key parts: look
// under each, and claim under each. Name in the first part what kind of value it is. Errors are those of the store, when
// the keysets had to be read again.
func (db *DB) Lookup(ctx context.Context, parts ...string) ([]string, error) {
	k, err := db.freshKeys(ctx)
	if err != nil {
		return nil, err
	}
	lookups, err := k.index.Lookups(parts...)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(lookups))
	for i, lookup := range lookups {
		texts[i] = string(lookup)
	}
	return texts, nil
}

// claim keeps two tables from sharing a tag, whose records could then be taken for each other's.
func (db *DB) claim(tag byte, name string) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if holder, taken := db.tags[tag]; taken {
		panic(fmt.Sprintf("sealed: tag %q of table %s is taken by %s", tag, name, holder))
	}
	db.tags[tag] = name
}

// key builds a whole key: tag, project, parts.
func (db *DB) key(tag byte, parts []string) []byte {
	size := 1 + 2*len(db.project) + 2
	for _, part := range parts {
		size += len(part) + 2
	}
	key := append(make([]byte, 0, size), tag)
	key = appendPart(key, string(db.project[:]))
	for _, part := range parts {
		key = appendPart(key, part)
	}
	return key
}

// partsIn is parts for a key that a store returned for r, and refuses one that does not begin as r does.
func (db *DB) partsIn(r storage.Range, key []byte) ([]string, error) {
	if !bytes.HasPrefix(key, r.Start) {
		return nil, errKeyForm
	}
	return db.parts(key)
}

// parts undoes key.
func (db *DB) parts(key []byte) ([]string, error) {
	parts, err := splitParts(key[1:])
	if err != nil || len(parts) == 0 {
		return nil, errKeyForm
	}
	return slices.Clip(parts[1:]), nil
}
