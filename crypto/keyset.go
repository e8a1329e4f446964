package crypto

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyset seals records with XAES-256-GCM, whose 192-bit nonces may be drawn at random without counting messages. One of
// its keys is primary and seals; all of them open. A Keyset is immutable and may be used concurrently: changing one
// returns another.
type Keyset struct {
	ring
	aead tink.AEAD
}

// NewKeyset returns a keyset with one new key.
func NewKeyset() (*Keyset, error) {
	handle, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make keyset: %w", err)
	}
	return newKeyset(handle)
}

func newKeyset(handle *keyset.Handle) (*Keyset, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("use keyset: %w", err)
	}
	return &Keyset{newRing(handle), primitive}, nil
}

// UnwrapKeyset reads a keyset that Wrap wrote under the same kek and associated data. Otherwise the error is ErrWrongKEK
// with a LocalKEK, and what the KMS said with any other.
func UnwrapKeyset(ctx context.Context, kek tink.AEADWithContext, wrapped, associated []byte) (*Keyset, error) {
	handle, err := unwrap(ctx, kek, wrapped, associated)
	if err != nil {
		return nil, err
	}
	return newKeyset(handle)
}

// Seal encrypts plaintext under the primary key, bound to binding. The result begins with Tink's prefix of 0x01 and the
// key's id, which [KeyID] reads.
func (k *Keyset) Seal(plaintext, binding []byte) ([]byte, error) {
	sealed, err := k.aead.Encrypt(plaintext, binding)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed, nil
}

// Open decrypts what Seal returned for the same binding. ErrUnknownKey says that the keyset lacks the key,
// ErrNotAuthentic anything else.
func (k *Keyset) Open(sealed, binding []byte) ([]byte, error) {
	plaintext, err := k.aead.Decrypt(sealed, binding)
	if err == nil {
		return plaintext, nil
	}
	if id, ok := KeyID(sealed); ok && !slices.Contains(k.ids, id) {
		return nil, ErrUnknownKey
	}
	return nil, ErrNotAuthentic
}

// Add returns a keyset with one key more, which opens but does not seal until it is promoted, and the key's id.
func (k *Keyset) Add() (*Keyset, uint32, error) {
	handle, id, err := k.add(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return nil, 0, err
	}
	next, err := newKeyset(handle)
	return next, id, err
}

// Promote returns a keyset whose primary key is id. A key that the keyset does not hold is an error.
func (k *Keyset) Promote(id uint32) (*Keyset, error) {
	handle, err := k.promote(id)
	if err != nil {
		return nil, err
	}
	return newKeyset(handle)
}

// Remove returns a keyset without the key id. What it sealed can never be opened again. The primary key, and one that the
// keyset does not hold, are errors.
func (k *Keyset) Remove(id uint32) (*Keyset, error) {
	handle, err := k.remove(id)
	if err != nil {
		return nil, err
	}
	return newKeyset(handle)
}

// KeyID returns the id of the key that sealed a ciphertext, without opening it; false says that there is none.
func KeyID(sealed []byte) (uint32, bool) {
	if len(sealed) < 5 || sealed[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:5]), true
}

// ring is what every keyset is: Tink's handle and the ids of its keys.
type ring struct {
	handle  *keyset.Handle
	primary uint32
	ids     []uint32 // in the order they were added
}

func newRing(handle *keyset.Handle) ring {
	info := handle.KeysetInfo()
	r := ring{handle: handle, primary: info.GetPrimaryKeyId()}
	for _, key := range info.GetKeyInfo() {
		r.ids = append(r.ids, key.GetKeyId())
	}
	return r
}

// Primary returns the id of the key that new things are made under.
func (r ring) Primary() uint32 { return r.primary }

// KeyIDs returns the ids of all keys, oldest first.
func (r ring) KeyIDs() []uint32 { return slices.Clone(r.ids) }

// Wrap returns the keyset encrypted under kek and bound to associated.
func (r ring) Wrap(ctx context.Context, kek tink.AEADWithContext, associated []byte) ([]byte, error) {
	var buf bytes.Buffer
	if kek == nil {
		return nil, errNoKEK
	}
	asked := &witness{AEADWithContext: kek}
	if err := r.handle.WriteWithContext(ctx, keyset.NewBinaryWriter(&buf), asked, associated); err != nil {
		return nil, fmt.Errorf("wrap keyset: %w", cmp.Or(asked.err, err))
	}
	return buf.Bytes(), nil
}

func unwrap(ctx context.Context, kek tink.AEADWithContext, wrapped, associated []byte) (*keyset.Handle, error) {
	if kek == nil {
		return nil, errNoKEK
	}
	asked := &witness{AEADWithContext: kek}
	handle, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(wrapped)), asked, associated)
	if err == nil {
		return handle, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("unwrap keyset: %w", ctx.Err())
	}
	if _, local := kek.(*LocalKEK); local {
		return nil, ErrWrongKEK
	}
	return nil, fmt.Errorf("unwrap keyset: the KMS refused, or could not be reached: %w", cmp.Or(asked.err, err))
}

var errNoKEK = errors.New("a keyset cannot be wrapped or unwrapped without a key-encryption key")

// witness keeps the error of a key-encryption key: Tink passes on its text only, and callers ask errors.Is.
type witness struct {
	tink.AEADWithContext
	err error
}

func (w *witness) EncryptWithContext(ctx context.Context, plaintext, associated []byte) (out []byte, err error) {
	out, w.err = w.AEADWithContext.EncryptWithContext(ctx, plaintext, associated)
	return out, w.err
}

func (w *witness) DecryptWithContext(ctx context.Context, ciphertext, associated []byte) (out []byte, err error) {
	out, w.err = w.AEADWithContext.DecryptWithContext(ctx, ciphertext, associated)
	return out, w.err
}

func (r ring) add(template *tinkpb.KeyTemplate) (*keyset.Handle, uint32, error) {
	manager := keyset.NewManagerFromHandle(r.handle)
	id, err := manager.Add(template)
	if err != nil {
		return nil, 0, fmt.Errorf("add key: %w", err)
	}
	handle, err := manager.Handle()
	if err != nil {
		return nil, 0, fmt.Errorf("add key: %w", err)
	}
	return handle, id, nil
}

func (r ring) promote(id uint32) (*keyset.Handle, error) {
	manager := keyset.NewManagerFromHandle(r.handle)
	if err := manager.SetPrimary(id); err != nil {
		return nil, fmt.Errorf("promote key %d: %w", id, err)
	}
	return manager.Handle()
}

func (r ring) remove(id uint32) (*keyset.Handle, error) {
	manager := keyset.NewManagerFromHandle(r.handle)
	if err := manager.Delete(id); err != nil {
		return nil, fmt.Errorf("remove key %d: %w", id, err)
	}
	return manager.Handle()
}
