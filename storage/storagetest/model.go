package storagetest

import (
	"bytes"
	"maps"
	"slices"

	"github.com/polycred/polycred/storage"
)

// model is what a Store should do, written to be obviously right.
type model map[string]storage.Item

// apply changes the model by b, which is well formed, and reports whether it could.
func (m model) apply(b storage.Batch) bool {
	holds := func(key []byte, want storage.Rev) bool {
		return want == storage.Any || m[string(key)].Rev == want
	}
	for _, p := range b.Puts {
		if !holds(p.Key, p.If) {
			return false
		}
	}
	for _, d := range b.Deletes {
		if !holds(d.Key, d.If) {
			return false
		}
	}
	for _, c := range b.Checks {
		if !holds(c.Key, c.Rev) {
			return false
		}
	}
	for _, p := range b.Puts {
		m[string(p.Key)] = storage.Item{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value), Rev: p.Rev}
	}
	for _, d := range b.Deletes {
		delete(m, string(d.Key))
	}
	return true
}

// scan returns the items of a page of r, and whether more follow.
func (m model) scan(r storage.Range) (items []storage.Item, more bool) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		switch {
		case key < string(r.Start):
			continue
		case r.After != nil && bytes.Compare(r.After, r.Start) >= 0 && key <= string(r.After):
			continue
		case r.End != nil && key >= string(r.End):
			return items, false
		case len(items) == r.Max():
			return items, true
		}
		item := m[key]
		if r.KeysOnly {
			item.Value = nil
		}
		items = append(items, item)
	}
	return items, false
}
