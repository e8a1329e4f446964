package crypto_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/polycred/polycred/crypto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

func TestKeysetSealOpen(t *testing.T) {
	t.Parallel()
	set := newKeyset(t)
	for _, plaintext := range []string{"", "a", strings.Repeat("long ", 50_000)} {
		for _, binding := range []string{"", "binding"} {
			sealed := seal(t, set, plaintext, binding)
			got, err := set.Open(sealed, []byte(binding))
			if err != nil || string(got) != plaintext {
				t.Errorf("Open(Seal(%.10q, %q)) = %.10q, %v, want the plaintext, nil", plaintext, binding, got, err)
			}
			if id, ok := crypto.KeyID(sealed); !ok || id != set.Primary() {
				t.Errorf("KeyID(sealed) = %d, %v, want %d, true", id, ok, set.Primary())
			}
			if again := seal(t, set, plaintext, binding); bytes.Equal(again, sealed) {
				t.Errorf("Seal(%.10q) twice gave the same bytes, want another nonce", plaintext)
			}
		}
	}
}

func TestKeysetWrongBinding(t *testing.T) {
	t.Parallel()
	set := newKeyset(t)
	sealed := seal(t, set, canary, "binding")
	for _, binding := range []string{"", "bindin", "binding ", "Binding", "\x00binding"} {
		if got, err := set.Open(sealed, []byte(binding)); !errors.Is(err, crypto.ErrNotAuthentic) || got != nil {
			t.Errorf("Open(sealed, %q) = %q, %v, want nil, ErrNotAuthentic", binding, got, err)
		}
	}
}

func TestKeysetAlteredCiphertext(t *testing.T) {
	t.Parallel()
	set := newKeyset(t)
	sealed := seal(t, set, canary, "binding")
	for i := range sealed {
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			altered := bytes.Clone(sealed)
			altered[i] ^= mask
			want := crypto.ErrNotAuthentic
			if 1 <= i && i < 5 {
				want = crypto.ErrUnknownKey // the key's id stands there
			}
			if got, err := set.Open(altered, []byte("binding")); !errors.Is(err, want) || got != nil {
				t.Errorf("Open with byte %d ^ %#x = %q, %v, want nil, %v", i, mask, got, err, want)
			}
		}
	}
	for n := range sealed {
		if got, err := set.Open(sealed[:n], []byte("binding")); !errors.Is(err, crypto.ErrNotAuthentic) || got != nil {
			t.Errorf("Open of the first %d bytes = %q, %v, want nil, ErrNotAuthentic", n, got, err)
		}
	}
	if got, err := set.Open(append(bytes.Clone(sealed), 0), []byte("binding")); !errors.Is(err, crypto.ErrNotAuthentic) {
		t.Errorf("Open with a byte more = %q, %v, want ErrNotAuthentic", got, err)
	}
}

func TestKeysetUnknownKey(t *testing.T) {
	t.Parallel()
	set, other := newKeyset(t), newKeyset(t)
	sealed := seal(t, other, canary, "binding")
	if got, err := set.Open(sealed, []byte("binding")); !errors.Is(err, crypto.ErrUnknownKey) || errors.Is(err, crypto.ErrNotAuthentic) {
		t.Errorf("Open with another keyset = %q, %v, want ErrUnknownKey", got, err)
	}
	if _, ok := crypto.KeyID([]byte{0, 1, 2, 3, 4}); ok {
		t.Error("KeyID of another prefix = true, want false")
	}
	if _, ok := crypto.KeyID([]byte{1, 1, 2, 3}); ok {
		t.Error("KeyID of four bytes = true, want false")
	}
}

func TestKeysetRotation(t *testing.T) {
	t.Parallel()
	first := newKeyset(t)
	old := seal(t, first, "old", "b")

	added, id, err := first.Add()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := added.KeyIDs(), []uint32{first.Primary(), id}; !slices.Equal(got, want) {
		t.Errorf("KeyIDs() after Add = %v, want %v", got, want)
	}
	if added.Primary() != first.Primary() {
		t.Errorf("Primary() after Add = %d, want %d as before", added.Primary(), first.Primary())
	}
	if got := first.KeyIDs(); len(got) != 1 {
		t.Errorf("KeyIDs() of the keyset that was added to = %v, want it unchanged", got)
	}
	if _, err := added.Remove(added.Primary()); err == nil {
		t.Error("Remove(primary) = nil, want an error")
	}

	promoted, err := added.Promote(id)
	if err != nil {
		t.Fatal(err)
	}
	if promoted.Primary() != id || added.Primary() != first.Primary() {
		t.Errorf("Primary() after Promote = %d and of the one before %d, want %d and %d", promoted.Primary(), added.Primary(), id, first.Primary())
	}
	fresh := seal(t, promoted, "new", "b")
	if got, _ := crypto.KeyID(fresh); got != id {
		t.Errorf("KeyID of what is sealed after Promote = %d, want %d", got, id)
	}
	for name, set := range map[string]*crypto.Keyset{"added": added, "promoted": promoted} {
		for sealed, want := range map[*[]byte]string{&old: "old", &fresh: "new"} {
			if got, err := set.Open(*sealed, []byte("b")); err != nil || string(got) != want {
				t.Errorf("Open(%s) with the %s keyset = %q, %v, want it to open", want, name, got, err)
			}
		}
	}
	if _, err := first.Open(fresh, []byte("b")); !errors.Is(err, crypto.ErrUnknownKey) {
		t.Errorf("Open of the new key's with the first keyset = %v, want ErrUnknownKey", err)
	}

	last, err := promoted.Remove(first.Primary())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := last.KeyIDs(), []uint32{id}; !slices.Equal(got, want) {
		t.Errorf("KeyIDs() after Remove = %v, want %v", got, want)
	}
	if _, err := last.Open(old, []byte("b")); !errors.Is(err, crypto.ErrUnknownKey) {
		t.Errorf("Open of the removed key's = %v, want ErrUnknownKey", err)
	}
	if _, err := last.Promote(first.Primary()); err == nil {
		t.Error("Promote(removed key) = nil, want an error")
	}
	if _, err := last.Remove(first.Primary()); err == nil {
		t.Error("Remove(removed key) = nil, want an error")
	}

	ids := promoted.KeyIDs()
	ids[0]++
	if slices.Equal(ids, promoted.KeyIDs()) {
		t.Error("KeyIDs() returned the keyset's own slice, want a copy")
	}
}

func TestKeysetConcurrently(t *testing.T) {
	t.Parallel()
	set := newKeyset(t)
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			text := fmt.Sprint("text ", i)
			sealed, err := set.Seal([]byte(text), nil)
			if err != nil {
				t.Errorf("Seal = %v, want nil", err)
				return
			}
			if got, err := set.Open(sealed, nil); err != nil || string(got) != text {
				t.Errorf("Open = %q, %v, want %q, nil", got, err, text)
			}
			if _, _, err := set.Add(); err != nil {
				t.Errorf("Add = %v, want nil", err)
			}
		})
	}
	wait.Wait()
}

// wrapper is what Keyset and Index have in common.
type wrapper interface {
	Wrap(context.Context, tink.AEADWithContext, []byte) ([]byte, error)
	Primary() uint32
	KeyIDs() []uint32
}

func TestWrap(t *testing.T) {
	t.Parallel()
	kinds := map[string]struct {
		set    wrapper
		unwrap func(context.Context, tink.AEADWithContext, []byte, []byte) (wrapper, error)
	}{
		"keyset": {newKeyset(t), func(ctx context.Context, kek tink.AEADWithContext, wrapped, associated []byte) (wrapper, error) {
			return crypto.UnwrapKeyset(ctx, kek, wrapped, associated)
		}},
		"index": {newIndex(t), func(ctx context.Context, kek tink.AEADWithContext, wrapped, associated []byte) (wrapper, error) {
			return crypto.UnwrapIndex(ctx, kek, wrapped, associated)
		}},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, kek := t.Context(), newKEK(t)
			remote := &kms{LocalKEK: kek}
			wrapped, err := kind.set.Wrap(ctx, kek, []byte("here"))
			if err != nil {
				t.Fatal(err)
			}
			for name, kek := range map[string]tink.AEADWithContext{"local": kek, "kms": remote} {
				got, err := kind.unwrap(ctx, kek, wrapped, []byte("here"))
				if err != nil {
					t.Fatalf("unwrap with the %s KEK = %v, want nil", name, err)
				}
				if got.Primary() != kind.set.Primary() || !slices.Equal(got.KeyIDs(), kind.set.KeyIDs()) {
					t.Errorf("unwrap with the %s KEK has keys %v, want %v", name, got.KeyIDs(), kind.set.KeyIDs())
				}
			}

			if _, err := kind.unwrap(ctx, newKEK(t), wrapped, []byte("here")); !errors.Is(err, crypto.ErrWrongKEK) {
				t.Errorf("unwrap with another KEK = %v, want ErrWrongKEK", err)
			}
			if _, err := kind.unwrap(ctx, kek, wrapped, []byte("there")); !errors.Is(err, crypto.ErrWrongKEK) {
				t.Errorf("unwrap with other associated data = %v, want ErrWrongKEK", err)
			}
			if _, err := kind.unwrap(ctx, kek, nil, []byte("here")); !errors.Is(err, crypto.ErrWrongKEK) {
				t.Errorf("unwrap of nothing = %v, want ErrWrongKEK", err)
			}
			for i := range wrapped {
				altered := bytes.Clone(wrapped)
				altered[i] ^= 0x40
				// Beside the ciphertext stand the ids in the clear, which are not believed: altered or not, what comes out
				// is the keyset that went in.
				if got, err := kind.unwrap(ctx, kek, altered, []byte("here")); err == nil && !slices.Equal(got.KeyIDs(), kind.set.KeyIDs()) {
					t.Errorf("unwrap with byte %d altered has keys %v, want an error or %v", i, got.KeyIDs(), kind.set.KeyIDs())
				}
			}

			broken := errors.New("kms: quota used up")
			remote = &kms{LocalKEK: kek, err: broken}
			if _, err := kind.unwrap(ctx, remote, wrapped, []byte("here")); !errors.Is(err, broken) || errors.Is(err, crypto.ErrWrongKEK) {
				t.Errorf("unwrap with a failing KMS = %v, want the KMS's error", err)
			}
			if _, err := kind.set.Wrap(ctx, remote, nil); !errors.Is(err, broken) {
				t.Errorf("Wrap with a failing KMS = %v, want the KMS's error", err)
			}
			if _, err := kind.unwrap(ctx, &kms{LocalKEK: newKEK(t)}, wrapped, []byte("here")); err == nil || errors.Is(err, crypto.ErrWrongKEK) {
				t.Errorf("unwrap with another key of a KMS = %v, want what the KMS said", err)
			}
			if _, err := kind.unwrap(ctx, nil, wrapped, []byte("here")); err == nil {
				t.Error("unwrap without a KEK = nil, want an error")
			}
			if _, err := kind.set.Wrap(ctx, nil, nil); err == nil {
				t.Error("Wrap without a KEK = nil, want an error")
			}

			canceled, cancel := context.WithCancel(ctx)
			cancel()
			remote = &kms{LocalKEK: kek}
			if _, err := kind.unwrap(canceled, remote, wrapped, []byte("here")); !errors.Is(err, context.Canceled) {
				t.Errorf("unwrap under a done context = %v, want context.Canceled", err)
			}
			if _, err := kind.set.Wrap(canceled, remote, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("Wrap under a done context = %v, want context.Canceled", err)
			}
			// A KMS client's own deadline is no wrong key either.
			remote = &kms{LocalKEK: kek, err: context.DeadlineExceeded}
			if _, err := kind.unwrap(ctx, remote, wrapped, []byte("here")); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("unwrap with a slow KMS = %v, want context.DeadlineExceeded", err)
			}
		})
	}
}

// A keyset is no index and the other way round, even under the same KEK and associated data.
func TestUnwrapOtherKind(t *testing.T) {
	t.Parallel()
	ctx, kek := t.Context(), newKEK(t)
	set, err := newKeyset(t).Wrap(ctx, kek, nil)
	if err != nil {
		t.Fatal(err)
	}
	index, err := newIndex(t).Wrap(ctx, kek, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crypto.UnwrapKeyset(ctx, kek, index, nil); err == nil {
		t.Error("UnwrapKeyset(an index) = nil, want an error")
	}
	if _, err := crypto.UnwrapIndex(ctx, kek, set, nil); err == nil {
		t.Error("UnwrapIndex(a keyset) = nil, want an error")
	}
}

func TestBinding(t *testing.T) {
	t.Parallel()
	base := crypto.Binding{Store: [16]byte{1}, Table: "ab", Key: []byte("c"), Rev: 1}
	forms := map[string]string{}
	for name, b := range map[string]crypto.Binding{
		"base":            base,
		"zero":            {},
		"store":           {Store: [16]byte{2}, Table: "ab", Key: []byte("c"), Rev: 1},
		"table and key":   {Store: [16]byte{1}, Table: "a", Key: []byte("bc"), Rev: 1},
		"key":             {Store: [16]byte{1}, Table: "ab", Key: []byte("d"), Rev: 1},
		"revision":        {Store: [16]byte{1}, Table: "ab", Key: []byte("c"), Rev: 1 << 56},
		"no table":        {Store: [16]byte{1}, Key: []byte("abc"), Rev: 1},
		"no key":          {Store: [16]byte{1}, Table: "abc", Rev: 1},
		"long key":        {Store: [16]byte{1}, Table: "ab", Key: bytes.Repeat([]byte("c"), 200), Rev: 1},
		"rev in the key":  {Store: [16]byte{1}, Table: "ab", Key: []byte("c\x00\x00\x00\x00\x00\x00\x00\x01")},
		"length in table": {Store: [16]byte{1}, Table: "ab\x01c", Rev: 1},
	} {
		form := string(b.Append(nil))
		if other, taken := forms[form]; taken {
			t.Errorf("Append of %q and %q = %x, want different forms", name, other, form)
		}
		forms[form] = name
	}
	if got, want := string(base.Append([]byte("before"))), "before"+string(base.Append(nil)); got != want {
		t.Errorf("Append(before) = %q, want %q", got, want)
	}
}

// Keys and keysets hold key material in fields that are not exported; printing them must not show it.
func TestKeysNeverPrinted(t *testing.T) {
	t.Parallel()
	kek := fixedKEK(t)
	// The raw key that the file of fixedKEK holds, as fmt would print its first bytes.
	raw := fixedKeyBytes(t)[:6]
	decimals := strings.Trim(fmt.Sprint(raw), "[]")
	set, index := newKeyset(t), newIndex(t)
	for _, v := range []any{kek, *kek, crypto.KEKs{Tokens: kek, Policy: kek}, set, *set, index, *index} {
		got := fmt.Sprintf("%v %+v %#v %s %x", v, v, v, v, v)
		if strings.Contains(got, decimals) || strings.Contains(got, fmt.Sprintf("%x", raw)) || len(got) > 4000 {
			t.Errorf("Sprintf(%T) = %.300q…, want no key material", v, got)
		}
	}
}
