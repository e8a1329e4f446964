package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/usertoken"
	"github.com/polycred/polycred/storage"
)

// SigningKey is a public key under which the application signs user tokens, see Engine.Authenticate. Several may live at a
// time, so that one can be replaced without a pause.
type SigningKey struct {
	ID        string    `json:"id"`        // usertoken.KeyID
	PublicKey string    `json:"publicKey"` // in PEM
	Label     string    `json:"label,omitempty"`
	Created   time.Time `json:"dateCreated"`
	Revision  uint64    `json:"revision"`
}

// SigningKeyInput is a key to be added.
type SigningKeyInput struct {
	// PublicKey is in PEM: RSA of 2048 bits or more, ECDSA on P-256, or Ed25519. The private half stays with the application.
	PublicKey string
	Label     string // what people call it; may be empty. One line of at most 255 bytes
}

// AddSigningKey accepts user tokens that are signed with a key from now on, in other processes within 5 seconds, and returns
// it. One that is there already is returned as it is. Errors: InputError, ErrTooMany for more than 20.
func (e *Engine) AddSigningKey(ctx context.Context, in SigningKeyInput) (SigningKey, error) {
	key, err := e.addSigningKey(ctx, in)
	if err != nil {
		return SigningKey{}, fmt.Errorf("add signing key: %w", err)
	}
	return key, nil
}

func (e *Engine) addSigningKey(ctx context.Context, in SigningKeyInput) (SigningKey, error) {
	if e.ending.Load() {
		return SigningKey{}, ErrClosed
	}
	public, err := usertoken.ParsePublicKey(in.PublicKey)
	if err != nil {
		return SigningKey{}, invalid("publicKey", err.Error())
	}
	id, err := usertoken.KeyID(public)
	if err != nil {
		return SigningKey{}, invalid("publicKey", err.Error())
	}
	label, err := cleanLabel(in.Label)
	if err != nil {
		return SigningKey{}, err
	}
	for try := 0; ; try++ {
		record, rev, err := e.door.Keys.Get(ctx, id)
		if err == nil {
			return publicKey(&record, rev), nil
		} else if !errors.Is(err, storage.ErrNotFound) {
			return SigningKey{}, err
		}
		record = access.Key{ID: id, PublicKey: in.PublicKey, Label: label, Created: int64(toMillis(e.now()))}
		rev, err = e.door.Keys.Put(ctx, id, &record, 0, e.operator(EventSigningKeyAdded, map[string]string{"key": id}))
		e.door.Forget()
		if !errors.Is(err, access.ErrConflict) {
			return publicKey(&record, rev), declaring(err)
		}
		if err := again(ctx, try); err != nil {
			return SigningKey{}, err
		}
	}
}

func publicKey(r *access.Key, rev storage.Rev) SigningKey {
	return SigningKey{ID: r.ID, PublicKey: r.PublicKey, Label: r.Label, Created: millis(r.Created).time(), Revision: uint64(rev)}
}

// SigningKeys returns those that live, ordered by id.
func (e *Engine) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	if e.ending.Load() {
		return nil, ErrClosed
	}
	rows, err := e.door.Keys.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	keys := make([]SigningKey, len(rows))
	for i := range rows {
		keys[i] = publicKey(&rows[i].Value, rows[i].Rev)
	}
	return keys, nil
}

// RevokeSigningKey ends a key: no token that is signed with it is accepted any more, in this process at once, in others
// within 5 seconds, whether it was seen before or not (security 13). Errors: ErrNotFound.
func (e *Engine) RevokeSigningKey(ctx context.Context, id string) error {
	err := e.undeclare(ctx, func(ctx context.Context) error {
		rev, err := e.door.Keys.Rev(ctx, id)
		if err != nil {
			return err
		}
		return e.door.Keys.Delete(ctx, id, rev, e.operator(EventSigningKeyRevoked, map[string]string{"key": id}))
	})
	if err != nil {
		return fmt.Errorf("revoke signing key %s: %w", clip(id), err)
	}
	return nil
}

// undeclare removes something that was declared; where somebody changed it meanwhile, that goes too.
func (e *Engine) undeclare(ctx context.Context, remove func(context.Context) error) error {
	defer e.door.Forget()
	for try := 0; ; try++ {
		if e.ending.Load() {
			return ErrClosed
		}
		err := remove(ctx)
		if !errors.Is(err, access.ErrConflict) {
			return declaring(err)
		}
		if err := again(ctx, try); err != nil {
			return err
		}
	}
}

// declaring turns an error of package access into one of ours.
func declaring(err error) error {
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return ErrNotFound
	case errors.Is(err, access.ErrConflict):
		return ErrConflict
	case errors.Is(err, access.ErrFull):
		return fmt.Errorf("%w: %v", ErrTooMany, err)
	}
	return err
}
