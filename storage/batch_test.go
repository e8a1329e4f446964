package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/polycred/polycred/storage"
)

func TestBatchValidate(t *testing.T) {
	t.Parallel()
	key := func(n int) []byte { return bytes.Repeat([]byte("k"), n) }
	many := func(n int) (b storage.Batch) {
		for i := range n {
			b.Checks = append(b.Checks, storage.Check{Key: fmt.Append(nil, i), Rev: 1})
		}
		return b
	}
	heavy := func(last int) (b storage.Batch) { // four values of 256 KiB less their keys, and one more of last bytes
		for i := range 4 {
			b.Puts = append(b.Puts, storage.Put{Key: fmt.Append(nil, i), Value: make([]byte, storage.MaxValue-1), Rev: 1})
		}
		b.Puts = append(b.Puts, storage.Put{Key: []byte("x"), Value: make([]byte, last), Rev: 1})
		b.Puts[0].Value = b.Puts[0].Value[1:]
		return b
	}
	put := func(p storage.Put) storage.Batch { return storage.Batch{Puts: []storage.Put{p}} }
	del := func(d storage.Delete) storage.Batch { return storage.Batch{Deletes: []storage.Delete{d}} }
	check := func(c storage.Check) storage.Batch { return storage.Batch{Checks: []storage.Check{c}} }
	const tooFar = storage.Rev(1) << 62
	k := []byte("k")

	for _, tt := range []struct {
		name string
		b    storage.Batch
		want error
	}{
		{"nothing", storage.Batch{}, nil},
		{"a creation", put(storage.Put{Key: k, Value: k, Rev: tooFar - 1}), nil},
		{"an update", put(storage.Put{Key: k, Value: k, If: 1, Rev: 2}), nil},
		{"an index entry", put(storage.Put{Key: k, If: storage.Any, Rev: 1}), nil},
		{"a delete", del(storage.Delete{Key: k, If: 1}), nil},
		{"a delete without condition", del(storage.Delete{Key: k, If: storage.Any}), nil},
		{"the longest key", check(storage.Check{Key: key(storage.MaxKey), Rev: 1}), nil},
		{"the largest value", put(storage.Put{Key: k, Value: make([]byte, storage.MaxValue), Rev: 1}), nil},
		{"the most operations", many(storage.MaxBatchOps), nil},
		{"the largest batch", heavy(0), nil},

		{"put under revision 0", put(storage.Put{Key: k, Value: k}), storage.ErrInvalid},
		{"put under a revision too large", put(storage.Put{Key: k, Value: k, Rev: tooFar}), storage.ErrInvalid},
		{"put expecting a revision too large", put(storage.Put{Key: k, Value: k, If: tooFar, Rev: 1}), storage.ErrInvalid},
		{"put without condition, with a value", put(storage.Put{Key: k, Value: k, If: storage.Any, Rev: 1}), storage.ErrInvalid},
		{"put of an empty key", put(storage.Put{Rev: 1}), storage.ErrInvalid},
		{"delete at revision 0", del(storage.Delete{Key: k}), storage.ErrInvalid},
		{"delete at a revision too large", del(storage.Delete{Key: k, If: tooFar}), storage.ErrInvalid},
		{"delete of an empty key", del(storage.Delete{If: 1}), storage.ErrInvalid},
		{"check at revision 0", check(storage.Check{Key: k}), storage.ErrInvalid},
		{"check of any revision", check(storage.Check{Key: k, Rev: storage.Any}), storage.ErrInvalid},
		{"check of an empty key", check(storage.Check{Rev: 1}), storage.ErrInvalid},
		{"a key put and deleted", storage.Batch{
			Puts: []storage.Put{{Key: k, Rev: 1}}, Deletes: []storage.Delete{{Key: k, If: 1}},
		}, storage.ErrInvalid},
		{"a key checked twice", storage.Batch{Checks: []storage.Check{{Key: k, Rev: 1}, {Key: k, Rev: 1}}}, storage.ErrInvalid},

		{"a key too long", check(storage.Check{Key: key(storage.MaxKey + 1), Rev: 1}), storage.ErrTooLarge},
		{"a value too large", put(storage.Put{Key: k, Value: make([]byte, storage.MaxValue+1), Rev: 1}), storage.ErrTooLarge},
		{"too many operations", many(storage.MaxBatchOps + 1), storage.ErrTooLarge},
		{"a batch too large", heavy(1), storage.ErrTooLarge},
	} {
		if err := tt.b.Validate(); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("Validate() of %s = %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestPrefixEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ prefix, want []byte }{
		{nil, nil}, {[]byte{0xff, 0xff}, nil}, {[]byte("a"), []byte("b")}, {[]byte{'a', 0xff}, []byte("b")}, {[]byte{0}, []byte{1}},
	} {
		given := bytes.Clone(tt.prefix)
		if got := storage.PrefixEnd(given); !bytes.Equal(got, tt.want) || (got == nil) != (tt.want == nil) || !bytes.Equal(given, tt.prefix) {
			t.Errorf("PrefixEnd(%x) = %x, want %x and the prefix unchanged", tt.prefix, got, tt.want)
		}
	}
}

func TestLockedErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for pid, want := range map[int]string{0: "another process", 4711: "process 4711", os.Getpid(): "this process"} {
		err := &storage.LockedError{Path: "dir/lock", PID: pid}
		if text := err.Error(); !strings.Contains(text, want) || !strings.Contains(text, "dir/lock") {
			t.Errorf("Error() with PID %d = %q, want it to name %q and the file", pid, text, want)
		}
	}
}
