package crypto

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// LookupSize is the length in bytes of a look-up's PRF output; the key's id stands before it.
const LookupSize = 16

// Index is a blind index: it turns a value that is looked up by equality (an external id, a provider account) into bytes
// that say nothing about the value to who lacks the key, a look-up. A PRF output carries no key id, so a look-up is the id
// of the PRF key, four bytes, followed by LookupSize bytes of HMAC-SHA-256.
//
// While a key is being replaced several are live: reads and claims go under each of [Index.Lookups]. An Index is
// immutable and may be used concurrently.
type Index struct {
	ring
	set *prf.Set
}

// NewIndex returns an index with one new key.
func NewIndex() (*Index, error) {
	handle, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make index keyset: %w", err)
	}
	return newIndex(handle)
}

func newIndex(handle *keyset.Handle) (*Index, error) {
	set, err := prf.NewPRFSet(handle)
	if err != nil {
		return nil, fmt.Errorf("use index keyset: %w", err)
	}
	return &Index{newRing(handle), set}, nil
}

// UnwrapIndex reads an index that Wrap wrote under the same kek and associated data, with the errors of UnwrapKeyset.
func UnwrapIndex(ctx context.Context, kek tink.AEADWithContext, wrapped, associated []byte) (*Index, error) {
	handle, err := unwrap(ctx, kek, wrapped, associated)
	if err != nil {
		return nil, err
	}
	return newIndex(handle)
}

// Lookups returns the look-up of a value under every live key, oldest key first. The parts are kept apart: ("ab", "c") and
// ("a", "bc") have different look-ups. Name what is looked up in the first part, so that equal values of different kinds
// differ.
func (x *Index) Lookups(parts ...string) ([][]byte, error) {
	input := make([]byte, 0, 128)
	for _, part := range parts {
		input = binary.AppendUvarint(input, uint64(len(part)))
		input = append(input, part...)
	}
	lookups := make([][]byte, 0, len(x.ids))
	for _, id := range x.ids {
		out, err := x.set.PRFs[id].ComputePRF(input, LookupSize)
		if err != nil {
			return nil, fmt.Errorf("index look-up: %w", err)
		}
		lookup := binary.BigEndian.AppendUint32(make([]byte, 0, 4+LookupSize), id)
		lookups = append(lookups, append(lookup, out...))
	}
	return lookups, nil
}

// Add returns an index with one key more, under which look-ups and claims go too, and the key's id.
func (x *Index) Add() (*Index, uint32, error) {
	handle, id, err := x.add(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		return nil, 0, err
	}
	next, err := newIndex(handle)
	return next, id, err
}

// Promote returns an index whose primary key is id, so that the one before can be removed. A key that the index does not
// hold is an error.
func (x *Index) Promote(id uint32) (*Index, error) {
	handle, err := x.promote(id)
	if err != nil {
		return nil, err
	}
	return newIndex(handle)
}

// Remove returns an index without the key id. The primary key, and one that the index does not hold, are errors.
func (x *Index) Remove(id uint32) (*Index, error) {
	handle, err := x.remove(id)
	if err != nil {
		return nil, err
	}
	return newIndex(handle)
}
