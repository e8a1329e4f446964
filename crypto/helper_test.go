package crypto_test

import (
	"context"
	"testing"

	"github.com/polycred/polycred/crypto"
)

func newKEK(t testing.TB) *crypto.LocalKEK {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func newKeyset(t testing.TB) *crypto.Keyset {
	t.Helper()
	set, err := crypto.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func newIndex(t testing.TB) *crypto.Index {
	t.Helper()
	index, err := crypto.NewIndex()
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func seal(t testing.TB, set *crypto.Keyset, plaintext, binding string) []byte {
	t.Helper()
	sealed, err := set.Seal([]byte(plaintext), []byte(binding))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// kms is a key-encryption key that is no LocalKEK: it fails with err when there is one, and obeys contexts.
type kms struct {
	*crypto.LocalKEK
	err error
}

func (k *kms) fail(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return k.err
}

func (k *kms) EncryptWithContext(ctx context.Context, plaintext, associated []byte) ([]byte, error) {
	if err := k.fail(ctx); err != nil {
		return nil, err
	}
	return k.LocalKEK.EncryptWithContext(ctx, plaintext, associated)
}

func (k *kms) DecryptWithContext(ctx context.Context, ciphertext, associated []byte) ([]byte, error) {
	if err := k.fail(ctx); err != nil {
		return nil, err
	}
	return k.LocalKEK.DecryptWithContext(ctx, ciphertext, associated)
}
