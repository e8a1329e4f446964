package crypto_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/polycred/polycred/crypto"
)

// FuzzOpen: only what was sealed opens, and only under its own binding.
func FuzzOpen(f *testing.F) {
	set := newKeyset(f)
	sealed := seal(f, set, canary, "binding")
	f.Add(sealed, []byte("binding"))
	f.Add(sealed, []byte("bindinh"))
	f.Add(sealed[:5], []byte("binding"))
	f.Add(sealed[:len(sealed)-1], []byte("binding"))
	f.Add([]byte{}, []byte{})
	f.Add([]byte{1, 0, 0, 0, 0}, []byte{})
	f.Fuzz(func(t *testing.T, text, binding []byte) {
		given := bytes.Clone(text)
		got, err := set.Open(text, binding)
		if !bytes.Equal(text, given) {
			t.Errorf("Open(%x) changed its argument", given)
		}
		if bytes.Equal(text, sealed) && string(binding) == "binding" {
			if err != nil || string(got) != canary {
				t.Errorf("Open(sealed) = %q, %v, want the plaintext", got, err)
			}
			return
		}
		if got != nil || !errors.Is(err, crypto.ErrNotAuthentic) && !errors.Is(err, crypto.ErrUnknownKey) {
			t.Errorf("Open(%x, %x) = %q, %v, want nil and ErrNotAuthentic or ErrUnknownKey", text, binding, got, err)
		}
	})
}

// FuzzUnwrap: whatever is unwrapped is the keyset that was wrapped. The bytes may differ outside the ciphertext, where
// Tink repeats the ids of the keys for people to read.
func FuzzUnwrap(f *testing.F) {
	kek, set, index := newKEK(f), newKeyset(f), newIndex(f)
	wrappedSet, err := set.Wrap(f.Context(), kek, []byte("here"))
	if err != nil {
		f.Fatal(err)
	}
	wrappedIndex, err := index.Wrap(f.Context(), kek, []byte("here"))
	if err != nil {
		f.Fatal(err)
	}
	for _, wrapped := range [][]byte{wrappedSet, wrappedIndex, wrappedSet[:len(wrappedSet)/2], {}, {0x12}, {0x12, 0xff}} {
		f.Add(wrapped, []byte("here"))
		f.Add(wrapped, []byte("there"))
	}
	f.Fuzz(func(t *testing.T, wrapped, associated []byte) {
		here := string(associated) == "here"
		if got, err := crypto.UnwrapKeyset(t.Context(), kek, wrapped, associated); err == nil && (!here || !slices.Equal(got.KeyIDs(), set.KeyIDs())) {
			t.Errorf("UnwrapKeyset(%x, %x) has keys %v, want an error", wrapped, associated, got.KeyIDs())
		} else if err != nil && bytes.Equal(wrapped, wrappedSet) && here {
			t.Errorf("UnwrapKeyset(wrapped) = %v, want nil", err)
		}
		if got, err := crypto.UnwrapIndex(t.Context(), kek, wrapped, associated); err == nil && (!here || !slices.Equal(got.KeyIDs(), index.KeyIDs())) {
			t.Errorf("UnwrapIndex(%x, %x) has keys %v, want an error", wrapped, associated, got.KeyIDs())
		}
	})
}
