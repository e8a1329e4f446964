package crypto_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/crypto"
)

var update = flag.Bool("update", false, "make golden files that are absent")

const (
	vectorsFile = "testdata/vectors.json"
	kekFile     = "testdata/golden.kek"
)

// vectors are what an earlier version of this package wrote. They are made once: whatever cannot be read any more is
// lost in every store there is.
type vectors struct {
	Associated []byte // of both wrapped keysets
	Keyset     []byte // two keys, the second is primary
	Index      []byte // two keys
	KeyIDs     []uint32
	IndexIDs   []uint32
	Records    []recordVector
	Tokens     []tokenVector
}

type recordVector struct {
	Store     [16]byte
	Table     string
	Key       []byte
	Rev       uint64
	Form      []byte // of the binding
	Plaintext []byte
	Sealed    []byte
}

type tokenVector struct {
	Parts  []string
	Tokens [][]byte
}

func (r recordVector) binding() []byte {
	return crypto.Binding{Store: r.Store, Table: r.Table, Key: r.Key, Rev: r.Rev}.Append(nil)
}

func TestGoldenVectors(t *testing.T) {
	t.Parallel()
	if *update {
		makeVectors(t)
	}
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	ctx, kek := t.Context(), fixedKEK(t)

	set, err := crypto.UnwrapKeyset(ctx, kek, v.Keyset, v.Associated)
	if err != nil {
		t.Fatalf("UnwrapKeyset(golden) = %v, want nil", err)
	}
	if !slices.Equal(set.KeyIDs(), v.KeyIDs) || set.Primary() != v.KeyIDs[1] {
		t.Errorf("KeyIDs() = %v with primary %d, want %v with the second", set.KeyIDs(), set.Primary(), v.KeyIDs)
	}
	if len(v.Records) < 4 {
		t.Errorf("the golden file has %d records, want at least 4", len(v.Records))
	}
	for _, r := range v.Records {
		if got := r.binding(); !bytes.Equal(got, r.Form) {
			t.Errorf("Binding{%x, %q, %q, %d}.Append() = %x, want %x", r.Store, r.Table, r.Key, r.Rev, got, r.Form)
		}
		if got, err := set.Open(r.Sealed, r.Form); err != nil || !bytes.Equal(got, r.Plaintext) {
			t.Errorf("Open(golden %q) = %q, %v, want %q, nil", r.Table, got, err, r.Plaintext)
		}
	}

	index, err := crypto.UnwrapIndex(ctx, kek, v.Index, v.Associated)
	if err != nil {
		t.Fatalf("UnwrapIndex(golden) = %v, want nil", err)
	}
	if !slices.Equal(index.KeyIDs(), v.IndexIDs) {
		t.Errorf("KeyIDs() = %v, want %v", index.KeyIDs(), v.IndexIDs)
	}
	for _, vector := range v.Tokens {
		if diff := cmp.Diff(vector.Tokens, tokens(t, index, vector.Parts...)); diff != "" {
			t.Errorf("Tokens(%q) (-want +got):\n%s", vector.Parts, diff)
		}
	}
}

// The form of a binding, byte by byte.
func TestBindingForm(t *testing.T) {
	t.Parallel()
	store := [16]byte{0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	got := crypto.Binding{Store: store, Table: "credential", Key: []byte("c\x00"), Rev: 0x0102030405060708}.Append(nil)
	want := "\x01" + string(store[:]) + "\x0acredential" + "\x02c\x00" + "\x01\x02\x03\x04\x05\x06\x07\x08"
	if string(got) != want {
		t.Errorf("Append() = %x, want %x", got, want)
	}
}

func makeVectors(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(vectorsFile); err == nil {
		return // never replaced: remove both files to make new ones
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	kek, err := crypto.CreateKEK(kekFile)
	if err != nil {
		t.Fatal(err)
	}
	ctx, v := t.Context(), vectors{Associated: []byte("store and key")}
	first := newKeyset(t)
	added, id, err := first.Add()
	if err != nil {
		t.Fatal(err)
	}
	set, err := added.Promote(id)
	if err != nil {
		t.Fatal(err)
	}
	if v.Keyset, err = set.Wrap(ctx, kek, v.Associated); err != nil {
		t.Fatal(err)
	}
	v.KeyIDs = set.KeyIDs()
	store := [16]byte([]byte("sixteen bytes..."))
	for i, r := range []recordVector{
		{Table: "credential", Key: []byte("c\x00\x01user"), Rev: 1, Plaintext: []byte("under the first key")},
		{Table: "credential", Key: []byte("c\x00\x01user"), Rev: 2, Plaintext: []byte("under the second key")},
		{Table: "", Key: nil, Rev: 1<<62 - 1, Plaintext: nil},
		{Table: "long", Key: bytes.Repeat([]byte{0xff}, 300), Rev: 1 << 61, Plaintext: bytes.Repeat([]byte("0123456789"), 30)},
	} {
		r.Store = store
		r.Form = r.binding()
		sealer := set
		if i == 0 {
			sealer = first
		}
		if r.Sealed, err = sealer.Seal(r.Plaintext, r.Form); err != nil {
			t.Fatal(err)
		}
		v.Records = append(v.Records, r)
	}
	index, _, err := newIndex(t).Add()
	if err != nil {
		t.Fatal(err)
	}
	if v.Index, err = index.Wrap(ctx, kek, v.Associated); err != nil {
		t.Fatal(err)
	}
	v.IndexIDs = index.KeyIDs()
	for _, parts := range [][]string{{"external id", "ada"}, {"account", "https://accounts.example", "", "42"}, {}, {""}} {
		v.Tokens = append(v.Tokens, tokenVector{parts, tokens(t, index, parts...)})
	}
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsFile, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fixedKEKFile is the golden KEK file.
func fixedKEKFile(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(kekFile)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// fixedKEK opens a copy of the golden KEK file, since Git does not keep its mode.
func fixedKEK(t testing.TB) *crypto.LocalKEK {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, fixedKEKFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	kek, err := crypto.OpenKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// fixedKeyBytes are the 32 bytes of the golden KEK, which stand last in the serialized key.
func fixedKeyBytes(t testing.TB) []byte {
	t.Helper()
	var file struct {
		Key []struct{ KeyData struct{ Value []byte } }
	}
	if err := json.Unmarshal(fixedKEKFile(t), &file); err != nil {
		t.Fatal(err)
	}
	value := file.Key[0].KeyData.Value
	return value[len(value)-32:]
}
