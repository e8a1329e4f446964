package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Key is a public key under which the application signs user tokens.
type Key struct {
	ID        string `cbor:"1,keyasint"` // usertoken.KeyID, by which it is stored
	PublicKey string `cbor:"2,keyasint"` // PEM
	Label     string `cbor:"3,keyasint,omitempty"`
	Created   int64  `cbor:"4,keyasint"` // milliseconds since 1970 UTC, as all times here
}

// Issuer is an identity provider whose tokens are taken as user tokens, stored by its name.
type Issuer struct {
	Issuer     string   `cbor:"1,keyasint"`
	Audiences  []string `cbor:"2,keyasint"`
	KeysURL    string   `cbor:"3,keyasint"`
	Algorithms []string `cbor:"4,keyasint,omitempty"`
	Created    int64    `cbor:"5,keyasint"`
	Updated    int64    `cbor:"6,keyasint"`
}

func (i *Issuer) verifies() usertoken.Issuer {
	return usertoken.Issuer{Issuer: i.Issuer, Audiences: i.Audiences, KeysURL: i.KeysURL, Algorithms: i.Algorithms}
}

// Policy is a document of permissions, stored by its name.
type Policy struct {
	Name     string `cbor:"1,keyasint"`
	Document []byte `cbor:"2,keyasint"` // JSON, in canonical form
	Created  int64  `cbor:"3,keyasint"`
	Updated  int64  `cbor:"4,keyasint"`
}

// Tables hold what is declared.
type Tables struct {
	Keys     *sealed.Table[Key]    // id
	Issuers  *sealed.Table[Issuer] // name
	Policies *sealed.Table[Policy] // name
}

// NewTables returns the sealed tables with the tags '8', '9' and '0'. It panics when one is taken.
func NewTables(db *sealed.DB) Tables {
	return Tables{
		Keys:     sealed.NewTable[Key](db, sealed.Spec{Tag: '8', Name: "signing key", Plane: sealed.Policy, Format: 1}),
		Issuers:  sealed.NewTable[Issuer](db, sealed.Spec{Tag: '9', Name: "token issuer", Plane: sealed.Policy, Format: 1}),
		Policies: sealed.NewTable[Policy](db, sealed.Spec{Tag: '0', Name: "policy", Plane: sealed.Policy, Format: 1}),
	}
}

// What a change of a Shelf may end with, beside the errors of the store.
var (
	ErrConflict = errors.New("it is of another revision")
	ErrFull     = errors.New("there are too many of them")
)

// Shelf keeps the few records of one kind that an operator has declared. It may be used concurrently.
type Shelf[T any] struct {
	kernel  *kernel.Kernel
	records *sealed.Table[T]
	what    string // one of them
	most    int

	adding sync.Mutex // one at a time is counted and added
}

// spare is how many more than a Shelf takes are read all the same: several processes may each have added one at a time.
const spare = 20

// All returns every record, in the order of their keys.
func (s *Shelf[T]) All(ctx context.Context) ([]sealed.Row[T], error) {
	rows, _, err := s.records.List(ctx, nil, nil, s.most+spare)
	return rows, err
}

// unreadable is a record that does not open: damaged, or of a newer program.
type unreadable struct {
	what, key string
	rev       storage.Rev
	err       error
}

// readable is All, apart from records that do not open.
func (s *Shelf[T]) readable(ctx context.Context) (rows []sealed.Row[T], damaged []unreadable, err error) {
	if rows, err = s.All(ctx); !unopened(err) {
		return rows, nil, err
	}
	keys, _, err := s.records.Keys(ctx, nil, nil, s.most+spare)
	if err != nil {
		return nil, nil, err
	}
	rows = rows[:0]
	for _, row := range keys {
		value, rev, err := s.records.Get(ctx, row.Key...)
		switch {
		case errors.Is(err, storage.ErrNotFound): // since
		case unopened(err):
			damaged = append(damaged, unreadable{s.what, strings.Join(row.Key, " "), row.Rev, err})
		case err != nil:
			return nil, nil, err
		default:
			rows = append(rows, sealed.Row[T]{Key: row.Key, Value: value, Rev: rev})
		}
	}
	return rows, damaged, nil
}

// unopened reports whether err is about one record, and not about the store.
func unopened(err error) bool {
	var corrupt *sealed.CorruptError
	var format *sealed.FormatError
	return errors.As(err, &corrupt) || errors.As(err, &format)
}

// Rev returns the revision of a record, also of one that does not open. Errors: storage.ErrNotFound.
func (s *Shelf[T]) Rev(ctx context.Context, key string) (storage.Rev, error) {
	rows, _, err := s.records.Keys(ctx, []string{key}, nil, 1)
	if err == nil && len(rows) == 0 {
		err = storage.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return rows[0].Rev, nil
}

// Get returns one record. Errors: storage.ErrNotFound.
func (s *Shelf[T]) Get(ctx context.Context, key string) (T, storage.Rev, error) {
	return s.records.Get(ctx, key)
}

// Put stores a record in the place of revision rev, 0: as a new one, with an event, and returns its revision. Errors:
// ErrConflict where rev is not what is stored, ErrFull.
func (s *Shelf[T]) Put(ctx context.Context, key string, record *T, rev storage.Rev, ev kernel.Event) (storage.Rev, error) {
	if rev == 0 {
		s.adding.Lock()
		defer s.adding.Unlock()
		rows, _, err := s.records.Keys(ctx, nil, nil, s.most+spare)
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(rows, func(row sealed.Row[T]) bool { return slices.Equal(row.Key, []string{key}) }) {
			return 0, ErrConflict
		}
		if len(rows) >= s.most {
			return 0, fmt.Errorf("%w: at most %d", ErrFull, s.most)
		}
	}
	tx := s.kernel.DB().Begin(ctx)
	next := s.records.Put(tx, record, rev, key)
	s.kernel.Emit(tx, ev)
	return next, s.commit(ctx, tx)
}

// Delete removes the record of revision rev, with an event. Errors: ErrConflict.
func (s *Shelf[T]) Delete(ctx context.Context, key string, rev storage.Rev, ev kernel.Event) error {
	tx := s.kernel.DB().Begin(ctx)
	s.records.Delete(tx, rev, key)
	s.kernel.Emit(tx, ev)
	return s.commit(ctx, tx)
}

func (s *Shelf[T]) commit(ctx context.Context, tx *sealed.Tx) error {
	err := s.kernel.Commit(ctx, tx)
	if conflict := (*storage.ConflictError)(nil); errors.As(err, &conflict) {
		return ErrConflict
	}
	return err
}
