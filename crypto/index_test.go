package crypto_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/crypto"
)

func tokens(t testing.TB, index *crypto.Index, parts ...string) [][]byte {
	t.Helper()
	got, err := index.Lookups(parts...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestIndexTokens(t *testing.T) {
	t.Parallel()
	ctx, index, kek := t.Context(), newIndex(t), newKEK(t)
	first := tokens(t, index, "external id", canary)
	if len(first) != 1 || len(first[0]) != 4+crypto.LookupSize {
		t.Fatalf("Lookups() = %x, want one of %d bytes", first, 4+crypto.LookupSize)
	}
	if id := binary.BigEndian.Uint32(first[0]); id != index.Primary() {
		t.Errorf("token begins with key id %d, want %d", id, index.Primary())
	}
	wrapped, err := index.Wrap(ctx, kek, nil)
	if err != nil {
		t.Fatal(err)
	}
	reopened, err := crypto.UnwrapIndex(ctx, kek, wrapped, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]*crypto.Index{"the same": index, "a reopened": reopened} {
		if diff := cmp.Diff(first, tokens(t, other, "external id", canary)); diff != "" {
			t.Errorf("Lookups() of %s index (-want +got):\n%s", name, diff)
		}
	}
	if other := tokens(t, newIndex(t), "external id", canary); bytes.Equal(other[0][4:], first[0][4:]) {
		t.Error("Lookups() under another key are the same, want different ones")
	}
}

func TestIndexKeepsPartsApart(t *testing.T) {
	t.Parallel()
	index := newIndex(t)
	seen := map[string][]string{}
	for _, parts := range [][]string{
		nil, {""}, {"", ""},
		{"ab", "c"}, {"a", "bc"}, {"abc"}, {"", "abc"}, {"abc", ""}, {"c", "ab"},
		{"a\x01b"}, {"a", "b"}, {"\x01a\x01b"},
		{strings.Repeat("x", 127)}, {strings.Repeat("x", 128)}, {strings.Repeat("x", 5000)},
	} {
		token := string(tokens(t, index, parts...)[0])
		if other, taken := seen[token]; taken {
			t.Errorf("Tokens(%.20q) = Tokens(%.20q), want different ones", parts, other)
		}
		seen[token] = parts
	}
}

func TestIndexRotation(t *testing.T) {
	t.Parallel()
	first := newIndex(t)
	old := tokens(t, first, "v")

	added, id, err := first.Add()
	if err != nil {
		t.Fatal(err)
	}
	both := tokens(t, added, "v")
	if len(both) != 2 || !bytes.Equal(both[0], old[0]) || binary.BigEndian.Uint32(both[1]) != id {
		t.Errorf("Lookups() after Add = %x, want %x and one under key %d", both, old, id)
	}
	if bytes.Equal(both[0][4:], both[1][4:]) {
		t.Error("Lookups() under two keys are the same, want different ones")
	}
	if got := tokens(t, first, "v"); len(got) != 1 {
		t.Errorf("Lookups() of the index that was added to = %x, want it unchanged", got)
	}

	promoted, err := added.Promote(id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(both, tokens(t, promoted, "v")); diff != "" || promoted.Primary() != id {
		t.Errorf("Lookups() after Promote differ, oldest first is the order (-want +got):\n%s", diff)
	}
	last, err := promoted.Remove(first.Primary())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(both[1:], tokens(t, last, "v")); diff != "" {
		t.Errorf("Lookups() after Remove (-want +got):\n%s", diff)
	}
	if got, want := last.KeyIDs(), []uint32{id}; !slices.Equal(got, want) {
		t.Errorf("KeyIDs() after Remove = %v, want %v", got, want)
	}
	if _, err := last.Remove(id); err == nil {
		t.Error("Remove(primary) = nil, want an error")
	}
	if _, err := last.Promote(first.Primary()); err == nil {
		t.Error("Promote(removed key) = nil, want an error")
	}
}
