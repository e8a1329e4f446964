package storagetest

import (
	"context"
	"errors"
	"testing"

	"github.com/polycred/polycred/storage"
)

// Fuzz plays tapes of operations on a store of open, which is empty and closed afterwards, and on a model, and wants
// the same answers. It is called from a fuzz test; its seeds run with the ordinary tests.
func Fuzz(f *testing.F, open func(t testing.TB) storage.Store) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := player{t: t, tape: tape(data), store: closing(t, open(t)), model: model{}}
		for len(p.tape) > 0 {
			p.step()
		}
		p.scan(storage.Range{})
	})
}

// seeds reach every kind of operation; the last are noise.
var seeds = []string{
	"",
	"\x00\x00\x00\x00v\x04\x00", // create, get
	"\x00\x00\x00\x00v\x00\x00\x00\x01w\x04\x00\x05\x00", // create, update
	"\x00\x00\x00\x00v\x00\x01\x00\x01\x04\x00",          // create, delete
	"\x02\x00\x01\x00a\x00\x02\x00b\x00\x03\x00c\x06\x00\x00\x00\x01\x06\x01\x05\x02\x02",
	"\x00\x00\x01\x02\x00\x00\x02\x02\x00\x01\x01\x02\x00\x01\x09\x02\x06\x00\x00\x00\x00", // without conditions
	"\x01\x00\x01\x00a\x02\x02\x01\x00\x01\x01\x00b\x02\x02\x03",                           // checks
	"\x03\x00\x01\x00a\x00\x01\x00b\x00\x02\x03x\x01\x05\x01\x04\x01\x05\x07",              // keys twice, wrong revisions
	"the quick brown fox jumps over the lazy dog, and then over the dog's own shadow, twice",
	"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5\xf4\xf3\xf2\xf1\xf0\x10\x20\x30\x40\x50\x60\x70\x80\x90\xa0\xb0\xc0",
	"\x07\x00\x00\x00\x00\x01\x00\x00\x02\x00\x00\x03\x00\x00\x04\x00\x00\x05\x00\x00\x06\x00\x00\x07\x00\x06\x00\x00\x00\x03\x06\x03\x00\x00\x02",
}

// fuzzKeys are few, so that operations meet.
var fuzzKeys = []string{
	"a", "a\x00", "a\x00b", "ab", "b", "!badger!", "!badger\"", "!badger!x", "\x00", "\xff", "\xff\xff", "\xc3\x28", "",
}

// tape is what the fuzzer feeds: bytes, and zeros behind the end.
type tape []byte

func (t *tape) next() byte {
	if len(*t) == 0 {
		return 0
	}
	b := (*t)[0]
	*t = (*t)[1:]
	return b
}

func (t *tape) key() []byte { return []byte(fuzzKeys[int(t.next())%len(fuzzKeys)]) }

// bound is a key or nothing.
func (t *tape) bound() []byte {
	if n := int(t.next()) % (len(fuzzKeys) + 1); n > 0 {
		return []byte(fuzzKeys[n-1])
	}
	return nil
}

type player struct {
	t     *testing.T
	tape  tape
	store storage.Store
	model model
	rev   storage.Rev
}

func (p *player) step() {
	switch op := p.tape.next() % 8; op {
	case 0, 1, 2, 3:
		p.apply(p.batch(int(op) + 1))
	case 4:
		p.get(p.tape.key())
	case 5:
		p.getMany([][]byte{p.tape.key(), p.tape.key(), p.tape.key()})
	default:
		p.scan(storage.Range{
			Start: p.tape.bound(), End: p.tape.bound(), After: p.tape.bound(),
			Limit: int(p.tape.next()%6) - 1, KeysOnly: op == 7,
		})
	}
}

// batch takes n operations from the tape.
func (p *player) batch(n int) (b storage.Batch) {
	for range n {
		kind, key := p.tape.next()%3, p.tape.key()
		have := p.model[string(key)].Rev
		// The condition: mostly a true one, else one that may fail, or none.
		expect := []storage.Rev{have, have, storage.Any, 0, have + 1, 1 << 62}[p.tape.next()%6]
		switch kind {
		case 0:
			p.rev++
			put := storage.Put{Key: key, If: expect, Rev: p.rev}
			if value := p.tape.next(); value%4 > 0 {
				put.Value = []byte{value}
			}
			b.Puts = append(b.Puts, put)
		case 1:
			b.Deletes = append(b.Deletes, storage.Delete{Key: key, If: expect})
		case 2:
			b.Checks = append(b.Checks, storage.Check{Key: key, Rev: expect})
		}
	}
	return b
}

func (p *player) apply(b storage.Batch) {
	p.t.Helper()
	err := p.store.Apply(context.Background(), b)
	switch {
	case b.Validate() != nil:
		if !errors.Is(err, storage.ErrInvalid) {
			p.t.Fatalf("Apply(%s) = %v, want ErrInvalid", text(b), err)
		}
	case p.model.apply(b):
		if err != nil {
			p.t.Fatalf("Apply(%s) = %v, want nil", text(b), err)
		}
	case !isConflict(err, b):
		p.t.Fatalf("Apply(%s) = %v, want a conflict", text(b), err)
	}
}

func (p *player) get(key []byte) {
	p.t.Helper()
	got, err := p.store.Get(context.Background(), key)
	want, ok := p.model[string(key)]
	switch {
	case len(key) == 0:
		if !errors.Is(err, storage.ErrInvalid) {
			p.t.Fatalf("Get(%q) = %v, want ErrInvalid", key, err)
		}
	case !ok:
		if !errors.Is(err, storage.ErrNotFound) {
			p.t.Fatalf("Get(%q) = %v, want ErrNotFound", key, err)
		}
	default:
		if diff := diffItems([]storage.Item{want}, []storage.Item{got}); err != nil || diff != "" {
			p.t.Fatalf("Get(%q) = %v (-want +got):\n%s", key, err, diff)
		}
	}
}

func (p *player) getMany(keys [][]byte) {
	p.t.Helper()
	got, err := p.store.GetMany(context.Background(), keys)
	var want []storage.Item
	for _, key := range keys {
		if len(key) == 0 {
			if !errors.Is(err, storage.ErrInvalid) {
				p.t.Fatalf("GetMany(%q) = %v, want ErrInvalid", keys, err)
			}
			return
		}
		item := p.model[string(key)]
		item.Key = key
		want = append(want, item)
	}
	if diff := diffItems(want, got); err != nil || diff != "" {
		p.t.Fatalf("GetMany(%q) = %v (-want +got):\n%s", keys, err, diff)
	}
}

// scan reads r and the pages that follow it.
func (p *player) scan(r storage.Range) {
	p.t.Helper()
	for {
		page, err := p.store.Scan(context.Background(), r)
		if r.Limit < 0 {
			if !errors.Is(err, storage.ErrInvalid) {
				p.t.Fatalf("Scan(%+v) = %v, want ErrInvalid", r, err)
			}
			return
		}
		want, more := p.model.scan(r)
		if diff := diffItems(want, page.Items); err != nil || diff != "" || more != (page.Next != nil) {
			p.t.Fatalf("Scan(%+v) = Next %q, %v, want more: %t (-want +got):\n%s", r, page.Next, err, more, diff)
		}
		if page.Next == nil {
			return
		}
		r.After = page.Next
	}
}
