package core

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

// rawRecord is a record as numbered fields.
type rawRecord = map[int]cbor.RawMessage

// rawTables opens all tables of a store by what is fixed of them.
func rawTables(t *testing.T, store storage.Store, kek *crypto.LocalKEK, project string) map[byte]*sealed.Table[rawRecord] {
	t.Helper()
	db, err := sealed.Open(t.Context(), store, crypto.KEKs{Tokens: kek, Policy: kek}, project, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := map[byte]*sealed.Table[rawRecord]{}
	for _, spec := range goldenSpecs {
		raw[spec.Tag] = sealed.NewTable[rawRecord](db, spec)
	}
	return raw
}

// rawRecords reads all records, by tag.
func rawRecords(t *testing.T, raw map[byte]*sealed.Table[rawRecord]) map[byte][]rawRecord {
	t.Helper()
	records := map[byte][]rawRecord{}
	for tag, table := range raw {
		rows, more, err := table.List(t.Context(), nil, nil, 0)
		if err = complete(more, err); err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			records[tag] = append(records[tag], row.Value)
		}
	}
	return records
}

// swapper moves sealed values about in a store.
type swapper struct {
	*testing.T
	store storage.Store
	raw   map[byte]*sealed.Table[rawRecord]
	tried int
}

// place is where a record lies: its whole key, and the parts of it behind the project.
type place struct {
	item  storage.Item
	parts []string
}

func (p place) tag() byte { return p.item.Key[0] }

// places returns where all records of the project lie, in the order of their keys.
func (s *swapper) places() (all []place) {
	s.Helper()
	for _, item := range scanAll(s.T, s.store) {
		table, isSealed := s.raw[item.Key[0]]
		if !isSealed {
			continue
		}
		rows, more, err := table.Keys(s.Context(), nil, nil, 0)
		if err = complete(more, err); err != nil {
			s.Fatal(err)
		}
		for _, row := range rows {
			if bytes.HasSuffix(item.Key, tuple(row.Key)) && row.Rev == item.Rev { // another project has another revision
				all = append(all, place{item, row.Key})
			}
		}
	}
	return all
}

// refuse puts a value at a key, and fails the test if it opens there.
func (s *swapper) refuse(what string, tag byte, key []byte, parts []string, value []byte, rev storage.Rev) {
	s.Helper()
	s.put(key, value, rev)
	var corrupt *sealed.CorruptError
	if _, _, err := s.raw[tag].Get(s.Context(), parts...); !errors.As(err, &corrupt) {
		s.Errorf("%c %s: Get = %v, want a CorruptError", tag, what, err)
	}
	s.tried++
}

func (s *swapper) put(key, value []byte, rev storage.Rev) {
	s.Helper()
	current, err := s.store.Get(s.Context(), key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		s.Fatal(err)
	}
	p := storage.Put{Key: key, Value: value, If: current.Rev, Rev: rev}
	if err := s.store.Apply(s.Context(), storage.Batch{Puts: []storage.Put{p}}); err != nil {
		s.Fatal(err)
	}
}

// TestSwap moves every sealed value of every table to where another one lies and to other keys, each part of them in
// turn, and puts it under a newer revision of its own key: none opens (design §3).
func TestSwap(t *testing.T) {
	t.Parallel()
	store, kek := loadGolden(t, fmt.Sprint(newestGolden), newestGolden)
	s := &swapper{T: t, store: store, raw: rawTables(t, store, kek, "")}
	all := s.places()
	if want := len(goldenSpecs) + 1; len(all) != want { // there are two marks
		t.Fatalf("%d sealed values, want %d", len(all), want)
	}
	for _, p := range all {
		tag, own := p.tag(), p.item
		s.refuse("under a newer revision", tag, own.Key, p.parts, own.Value, own.Rev+1)
		for _, from := range all {
			if !bytes.Equal(from.item.Key, own.Key) {
				s.refuse(fmt.Sprintf("with the value of %c", from.tag()), tag, own.Key, p.parts, from.item.Value, from.item.Rev)
				s.refuse(fmt.Sprintf("with the value of %c under its own revision", from.tag()), tag, own.Key, p.parts, from.item.Value, own.Rev)
			}
		}
		for i := range p.parts {
			other := slices.Clone(p.parts)
			other[i] += "2"
			moved := append(bytes.TrimSuffix(slices.Clone(own.Key), tuple(p.parts)), tuple(other)...)
			s.refuse(fmt.Sprintf("with another part %d of its key", i), tag, moved, other, own.Value, own.Rev)
		}
		s.put(own.Key, own.Value, own.Rev)
		if _, _, err := s.raw[tag].Get(t.Context(), p.parts...); err != nil {
			t.Errorf("%c put back where it was: %v", tag, err)
		}
	}
}

// TestSwapBetweenProjectsAndStores puts every sealed value where another project of the store, and another store under the
// same key-encryption key, keep theirs.
func TestSwapBetweenProjectsAndStores(t *testing.T) {
	t.Parallel()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	fill := func(store storage.Store, project string) (*swapper, []place) {
		t.Helper()
		newGolden(t, store, kek, project).fill(t)
		s := &swapper{T: t, store: store, raw: rawTables(t, store, kek, project)}
		return s, s.places()
	}
	const one, two = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	store := memory.New()
	_, first := fill(store, one)
	_, elsewhere := fill(memory.New(), two)
	s, own := fill(store, two)
	want := len(goldenSpecs) + 1
	if len(first) != want || len(elsewhere) != want || len(own) != want {
		t.Fatalf("%d, %d and %d sealed values, want %d each", len(first), len(elsewhere), len(own), want)
	}
	for i, p := range own { // in the order of their keys, which is the same everywhere
		for where, from := range map[string]place{"another project": first[i], "another store": elsewhere[i]} {
			if from.tag() != p.tag() {
				t.Fatalf("the value of %c is compared with that of %c", p.tag(), from.tag())
			}
			s.refuse("with the value of "+where, p.tag(), p.item.Key, p.parts, from.item.Value, from.item.Rev)
		}
	}
	if s.tried != 2*want {
		t.Errorf("%d values were tried, want %d", s.tried, 2*want)
	}
}

// tuple is how the parts of a key stand in it.
func tuple(parts []string) []byte {
	var key []byte
	for _, part := range parts {
		key = append(append(key, strings.ReplaceAll(part, "\x00", "\x00\xff")...), 0, 1)
	}
	return key
}
