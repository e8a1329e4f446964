package sealed_test

import (
	"bytes"
	"fmt"
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
