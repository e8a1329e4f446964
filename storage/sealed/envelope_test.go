package sealed_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

func TestEnvelopeAltered(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, w := newMemory(t)
	put(t, w.DB, w.notes, "n", 0, "k")
	item := rawItem(t, store, sealed.RawKey(w.DB, 'n', "k"))
	try := func(what string, value []byte) {
		t.Helper()
		replace(t, store, storage.Item{Key: item.Key, Value: value, Rev: item.Rev})
		_, _, err := w.notes.Get(ctx, "k")
		wantCorrupt(t, "Get with "+what, err)
		_, err = w.notes.GetMany(ctx, [][]string{{"k"}})
		wantCorrupt(t, "GetMany with "+what, err)
		_, _, err = w.notes.List(ctx, nil, nil, 0)
		wantCorrupt(t, "List with "+what, err)
	}
	for n := range item.Value {
		try(fmt.Sprintf("the first %d bytes", n), item.Value[:n])
		for _, mask := range []byte{0x01, 0x80} {
			altered := bytes.Clone(item.Value)
			altered[n] ^= mask
			try(fmt.Sprintf("byte %d ^ %#x", n, mask), altered)
		}
	}
	try("a byte more", append(bytes.Clone(item.Value), 0))
	try("the plaintext in its place", append([]byte{1, 1}, "plain"...))
	for _, version := range []byte{0, 2, 0xff} {
		try(fmt.Sprintf("version %d", version), append([]byte{version}, item.Value[1:]...))
	}
	replace(t, store, item)
	wantNote(t, w.notes, "n", "k")
}

// FuzzEnvelope: no bytes but those that were written open under a record's key.
func FuzzEnvelope(f *testing.F) {
	store := memory.New()
	w := open(f, store, newKEKs(f), "", nil)
	put(f, w.DB, w.notes, "n", 0, "k")
	put(f, w.DB, w.notes, "other", 0, "other")
	item := rawItem(f, store, sealed.RawKey(w.DB, 'n', "k"))
	f.Add(item.Value)
	f.Add(rawItem(f, store, sealed.RawKey(w.DB, 'n', "other")).Value)
	f.Add(item.Value[:6])
	f.Add(item.Value[1:])
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add([]byte{1, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > storage.MaxValue {
			return
		}
		replace(t, store, storage.Item{Key: item.Key, Value: value, Rev: item.Rev})
		if bytes.Equal(value, item.Value) {
			wantNote(t, w.notes, "n", "k")
			return
		}
		got, rev, err := w.notes.Get(t.Context(), "k")
		wantCorrupt(t, "Get", err)
		if diff := cmp.Diff(note{}, got); diff != "" || rev != 0 {
			t.Errorf("Get(%x) = revision %d and a record, want nothing", value, rev)
		}
	})
}

// security.md wants secrets readable by nobody but sealed: they lie in the store, and in no readable form.
func TestSecretsAtRest(t *testing.T) {
	t.Parallel()
	store, w := newMemory(t)
	many := sealed.NewTable[sample](w.DB, sealed.Spec{Tag: 's', Name: "sample", Plane: sealed.Tokens, Format: 1})
	for i := range 100 {
		put(t, w.DB, w.notes, fmt.Sprint(i), 0, "user", fmt.Sprint(i))
		put(t, w.DB, w.rules, fmt.Sprint(i), 0, "user", fmt.Sprint(i))
		s := newSample()
		commit(t, w.DB, func(tx *sealed.Tx) {
			many.Put(tx, &s, 0, fmt.Sprint(i))
			w.marks.Mark(tx, "user", fmt.Sprint(i))
		})
	}
	tokens, err := w.Lookup(t.Context(), "external id", canary)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, w.DB, func(tx *sealed.Tx) { w.marks.Mark(tx, tokens...) })
	wantNoCanary(t, store)
	if got, _, err := many.Get(t.Context(), "7"); err != nil || got.Secret.Reveal() != canary+"-token" {
		t.Errorf("Get = %v, %v, want the secret back", got.Secret.Reveal(), err)
	}

	// The test can fail: the canary is found where it lies open.
	open := memory.New()
	replace(t, open, storage.Item{Key: []byte("k"), Value: []byte("x" + canary), Rev: 1})
	if found := dump(t, open)[0].Value; !bytes.Contains(found, []byte(canary)) {
		t.Error("the canary was not found in an open value: the test is blind")
	}
}

// What a record holds comes back as it was, whatever bytes a provider sent.
func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	_, w := newMemory(t)
	table := sealed.NewTable[sample](w.DB, sealed.Spec{Tag: 's', Name: "sample", Plane: sealed.Tokens, Format: 1})
	odd := newSample()
	odd.Text, odd.Secret = "\xff\xfe not UTF-8\x00", crypto.NewSecret("\x80\x00\xff"+canary)
	odd.Map = map[string]string{"\xff": "\xfe", "": ""}
	empty := sample{Secrets: []crypto.Secret{}, Map: map[string]string{}, Bytes: []byte{}, ByName: map[string]crypto.Secret{}}
	for name, want := range map[string]sample{"full": newSample(), "zero": {}, "empty": empty, "odd": odd} {
		commit(t, w.DB, func(tx *sealed.Tx) { table.Put(tx, &want, 0, name) })
		got, _, err := table.Get(t.Context(), name)
		if err != nil {
			t.Errorf("Get(%s) = %v, want the record", name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Get(%s) (-want +got):\n%s", name, diff)
		}
	}
}

// settings is a record with a field for what JSON brings.
type settings struct {
	Values map[string]any `cbor:"1,keyasint,omitempty"`
	Any    any            `cbor:"2,keyasint"`
}

// What a field of type any holds comes back as encoding/json would have it, whatever its shortest encoding was.
func TestAnyRoundTrip(t *testing.T) {
	t.Parallel()
	_, w := newMemory(t)
	table := sealed.NewTable[settings](w.DB, sealed.Spec{Tag: 's', Name: "settings", Plane: sealed.Policy, Format: 1})
	type text string
	for _, tt := range []struct {
		name      string
		put, want any
	}{
		{"nothing", nil, nil},
		{"text", "Grüße", "Grüße"},
		{"no text", "", ""},
		{"text of a type", text("x"), "x"},
		{"not UTF-8", "\xff\xfe\x00", "\xff\xfe\x00"},
		{"true", true, true},
		{"5.0", 5.0, 5.0},
		{"0.0", 0.0, 0.0},
		{"-1.0", -1.0, -1.0},
		{"0.5", 0.5, 0.5},
		{"0.1", 0.1, 0.1},
		{"65504, the largest of 16 bits", 65504.0, 65504.0},
		{"65505", 65505.0, 65505.0},
		{"2^24+1", 1<<24 + 1.0, 1<<24 + 1.0},
		{"2^53", float64(1 << 53), float64(1 << 53)},
		{"the largest", math.MaxFloat64, math.MaxFloat64},
		{"the smallest", math.SmallestNonzeroFloat64, math.SmallestNonzeroFloat64},
		{"infinite", math.Inf(-1), math.Inf(-1)},
		{"float32", float32(0.5), 0.5},
		{"int", 5, uint64(5)},
		{"int below 0", int8(-5), int64(-5)},
		{"the largest uint64", uint64(math.MaxUint64), uint64(math.MaxUint64)},
		{"the smallest int64", int64(math.MinInt64), int64(math.MinInt64)},
		{"bytes", []byte{0, 0xff}, []byte{0, 0xff}},
		{"object", map[string]any{"b": 2.0, "a": map[string]any{"\xff": nil}, "": []any{}}, map[string]any{"b": 2.0, "a": map[string]any{"\xff": nil}, "": []any{}}},
		{"empty object", map[string]any{}, map[string]any{}},
		{"object of texts", map[string]string{"a": "b"}, map[string]any{"a": "b"}},
		{"list", []any{1.0, "a", false, nil, []any{map[string]any{"k": 5.0}}}, []any{1.0, "a", false, nil, []any{map[string]any{"k": 5.0}}}},
		{"list of texts", []string{"a", ""}, []any{"a", ""}},
	} {
		record := settings{Values: map[string]any{"k": tt.put}, Any: tt.put}
		commit(t, w.DB, func(tx *sealed.Tx) { table.Put(tx, &record, 0, tt.name) })
		got, _, err := table.Get(t.Context(), tt.name)
		if err != nil {
			t.Errorf("Get(%s) = %v, want the record", tt.name, err)
			continue
		}
		if diff := cmp.Diff(settings{Values: map[string]any{"k": tt.want}, Any: tt.want}, got); diff != "" {
			t.Errorf("Get(%s) (-want +got):\n%s", tt.name, diff)
		}
	}
	record := settings{Any: math.NaN()}
	commit(t, w.DB, func(tx *sealed.Tx) { table.Put(tx, &record, 0, "not a number") })
	got, _, err := table.Get(t.Context(), "not a number")
	if f, ok := got.Any.(float64); err != nil || !ok || !math.IsNaN(f) {
		t.Errorf("Get = %v, %v, want %v", got.Any, err, math.NaN())
	}
}

// Equal values encode alike, in whatever order a map gives its keys.
func TestAnyDeterministic(t *testing.T) {
	t.Parallel()
	record := settings{Values: map[string]any{}}
	for i := range 100 {
		record.Values[fmt.Sprint(i)] = map[string]any{"a": float64(i), "b": []any{fmt.Sprint(i)}}
	}
	want, err := sealed.Encode(1, &record)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got, err := sealed.Encode(1, &settings{Values: maps.Clone(record.Values)}); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("Encode = %x, %v, want %x", got, err, want)
		}
	}
}

// What an any holds and could not be read again is not written.
func TestAnyRefused(t *testing.T) {
	t.Parallel()
	nest := func(n int) (v any) {
		v = "x"
		for range n {
			v = map[string]any{"k": v}
		}
		return v
	}
	for _, tt := range []struct {
		name  string
		value any
		ok    bool
	}{
		{"nested 31 deep", nest(31), true}, // 32 with the record around it
		{"nested 32 deep", nest(32), false},
		{"a map with numbers for keys", map[int]string{1: "x"}, false},
		{"a map with anything for keys", map[any]any{"a": 1.0, 2: "b"}, false},
		{"a map with texts for keys only", map[any]any{"a": 1.0}, true},
		{"a number of any size", new(big.Int).Lsh(big.NewInt(1), 100), false}, // needs a tag
		{"a channel", make(chan int), false},
		{"a function", func() {}, false},
	} {
		plain, err := sealed.Encode(1, &settings{Any: tt.value})
		if (err == nil) != tt.ok {
			t.Errorf("Encode(%s) = %v, want success: %t", tt.name, err, tt.ok)
		}
		var got settings
		if err == nil && sealed.Decode("settings", 1, plain, &got) != nil {
			t.Errorf("Decode(%s) fails on what Encode wrote", tt.name)
		}
	}
}
