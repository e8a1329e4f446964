package sealed_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

var update = flag.Bool("update", false, "make golden files that are absent")

const (
	goldenRecord = "testdata/record.hex"
	goldenStore  = "testdata/store.json"
	goldenKEK    = "testdata/golden.kek"
)

// sample is a record with a field of every kind that records have.
type sample struct {
	Text    string                   `cbor:"1,keyasint"`
	Secret  crypto.Secret            `cbor:"2,keyasint"`
	Number  int64                    `cbor:"3,keyasint"`
	Flag    bool                     `cbor:"4,keyasint"`
	Bytes   []byte                   `cbor:"5,keyasint"`
	Secrets []crypto.Secret          `cbor:"6,keyasint"`
	Map     map[string]string        `cbor:"7,keyasint"`
	ByName  map[string]crypto.Secret `cbor:"8,keyasint"`
	Nested  nested                   `cbor:"9,keyasint"`
	List    []nested                 `cbor:"10,keyasint"`
	Pointer *nested                  `cbor:"11,keyasint"`
	Zero    crypto.Secret            `cbor:"12,keyasint"`
	Omitted crypto.Secret            `cbor:"13,keyasint,omitzero"`
	ID      [16]byte                 `cbor:"14,keyasint"`
	Big     uint64                   `cbor:"300,keyasint"`
}

type nested struct {
	Name   string         `cbor:"1,keyasint,omitempty"`
	Secret crypto.Secret  `cbor:"2,keyasint"`
	Any    map[string]any `cbor:"3,keyasint,omitempty"`
}

func newSample() sample {
	return sample{
		Text:    canary + " text, Grüße",
		Secret:  crypto.NewSecret(canary + "-token"),
		Number:  -1_700_000_000_000,
		Flag:    true,
		Bytes:   []byte(canary),
		Secrets: []crypto.Secret{crypto.NewSecret(canary), {}, crypto.NewSecret("second")},
		Map:     map[string]string{"b": "2", "a": "1", "aa": ""},
		ByName:  map[string]crypto.Secret{"client": crypto.NewSecret(canary), "none": {}},
		Nested:  nested{Name: "n", Secret: crypto.NewSecret(canary)},
		List:    []nested{{}, {Name: canary, Any: map[string]any{"x": true, "y": "text"}}},
		ID:      [16]byte{0xa0, 15: 1},
		Big:     1<<64 - 1,
	}
}

// The bytes inside a ciphertext: format, then CBOR. They may change for new fields only.
func TestGoldenRecord(t *testing.T) {
	t.Parallel()
	full, zero := newSample(), sample{}
	var lines []string
	for _, v := range []*sample{&full, &zero} {
		plain, err := sealed.Encode(1, v)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, hex.EncodeToString(plain))
	}
	if *update && absent(goldenRecord) {
		write(t, goldenRecord, []byte(strings.Join(lines, "\n")+"\n"))
	}
	want := strings.Fields(string(read(t, goldenRecord)))
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("encode(sample) (-want +got):\n%s", diff)
	}
	for i, v := range []sample{full, zero} {
		plain, err := hex.DecodeString(want[i])
		if err != nil {
			t.Fatal(err)
		}
		var got sample
		if err := sealed.Decode("sample", 1, plain, &got); err != nil {
			t.Fatalf("decode(golden) = %v, want nil", err)
		}
		if diff := cmp.Diff(v, got); diff != "" {
			t.Errorf("decode(golden) (-want +got):\n%s", diff)
		}
		// Cut short or followed by something, it is not a record.
		for n := range plain {
			if err := sealed.Decode("sample", 1, plain[:n], &got); err == nil {
				t.Errorf("decode(the first %d bytes) = nil, want an error", n)
			}
		}
		if err := sealed.Decode("sample", 1, append(plain, 0), &got); err == nil {
			t.Error("decode(with a byte more) = nil, want an error")
		}
	}
}

// stored is a whole store as an earlier version wrote it.
type stored struct {
	Store, Project string
	Items          []storage.Item
	Token          []byte // of Lookup("external id", "ada")
}

// A store that an earlier version wrote opens, and its records, index entries and tokens are found.
func TestGoldenStore(t *testing.T) {
	t.Parallel()
	if *update && absent(goldenStore) {
		makeGoldenStore(t)
	}
	var golden stored
	if err := json.Unmarshal(read(t, goldenStore), &golden); err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	for _, item := range golden.Items {
		replace(t, store, item)
	}
	kek := openGoldenKEK(t)
	w := open(t, store, crypto.KEKs{Tokens: kek, Policy: kek}, "", nil)
	if w.Store() != golden.Store || w.Project() != golden.Project {
		t.Errorf("Open(golden) = store %s, project %s, want %s, %s", w.Store(), w.Project(), golden.Store, golden.Project)
	}
	wantNote(t, w.notes, "before rotation", "user", "1")
	wantNote(t, w.notes, "after rotation", "user", "2\x00\xff/")
	wantNote(t, w.rules, "rule", "")
	samples := sealed.NewTable[sample](w.DB, sealed.Spec{Tag: 's', Name: "sample", Plane: sealed.Policy, Format: 7})
	got, rev, err := samples.Get(t.Context(), "sample")
	if diff := cmp.Diff(newSample(), got); err != nil || diff != "" {
		t.Errorf("Get(golden sample) = %v (-want +got):\n%s", err, diff)
	}
	entries, more, err := w.marks.Scan(t.Context(), []string{"user"}, nil, 0)
	if diff := cmp.Diff([][]string{{"user", "a"}, {"user", "b"}}, entries); err != nil || more || diff != "" {
		t.Errorf("Scan(golden) = %v, %v (-want +got):\n%s", more, err, diff)
	}
	if tokens, err := w.Lookup(t.Context(), "external id", "ada"); err != nil || len(tokens) != 1 || tokens[0] != string(golden.Token) {
		t.Errorf("Lookup(golden) = %x, %v, want %x", tokens, err, golden.Token)
	}
	wantUnchanged(t, store, golden.Items)

	s := newSample()
	commit(t, w.DB, func(tx *sealed.Tx) { samples.Put(tx, &s, rev, "sample") })
}

func makeGoldenStore(t *testing.T) {
	t.Helper()
	made, err := crypto.CreateKEK(goldenKEK)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	w := open(t, store, crypto.KEKs{Tokens: made, Policy: made}, "", nil)
	put(t, w.DB, w.notes, "before rotation", 0, "user", "1")
	rotate(t, w.DB, sealed.Tokens)
	rev := put(t, w.DB, w.notes, "x", 0, "user", "2\x00\xff/")
	put(t, w.DB, w.notes, "after rotation", rev, "user", "2\x00\xff/")
	put(t, w.DB, w.rules, "rule", 0, "")
	samples := sealed.NewTable[sample](w.DB, sealed.Spec{Tag: 's', Name: "sample", Plane: sealed.Policy, Format: 7})
	s := newSample()
	commit(t, w.DB, func(tx *sealed.Tx) {
		samples.Put(tx, &s, 0, "sample")
		w.marks.Mark(tx, "user", "a")
		w.marks.Mark(tx, "user", "b")
	})
	tokens, err := w.Lookup(t.Context(), "external id", "ada")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(stored{w.Store(), w.Project(), dump(t, store), []byte(tokens[0])}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	write(t, goldenStore, append(text, '\n'))
}

// openGoldenKEK opens a copy of the golden KEK file, since Git does not keep its mode.
func openGoldenKEK(t testing.TB) *crypto.LocalKEK {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, read(t, goldenKEK), 0o600); err != nil {
		t.Fatal(err)
	}
	kek, err := crypto.OpenKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func absent(path string) bool {
	_, err := os.Stat(path)
	return err != nil
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
