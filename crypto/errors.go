package crypto

import "errors"

// What a caller branches on, with errors.Is. None of them says more than this: Tink tells wrong associated data, a
// wrong key and altered bytes apart as little as we may.
var (
	// ErrWrongKEK: the key-encryption key does not open this keyset. Pass the KEK that the store was made with.
	ErrWrongKEK = errors.New("the key-encryption key does not open this keyset: pass the one it was wrapped with")
	// ErrUnknownKey: the ciphertext names a key that this keyset does not hold. A newer keyset may.
	ErrUnknownKey = errors.New("sealed with a key that this keyset does not hold")
	// ErrNotAuthentic: the ciphertext was altered, or belongs to another binding.
	ErrNotAuthentic = errors.New("does not open: altered, or moved from where it was written")
	// ErrKEKFile: a KEK file cannot be used; the text says why and what to do.
	ErrKEKFile = errors.New("key-encryption key file")
)
