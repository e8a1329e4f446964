package sealed

import (
	"bytes"
	"cmp"
	"slices"
	"testing"

	"github.com/polycred/polycred/storage"
)

func encodeParts(parts []string) []byte {
	key := []byte{'t'}
	for _, part := range parts {
		key = appendPart(key, part)
	}
	return key
}

// cut makes parts out of what a fuzzer gives.
func cut(a, b string, n uint8) []string {
	switch n % 4 {
	case 0:
		return []string{a}
	case 1:
		return []string{a, b}
	case 2:
		return []string{b, "", a}
	}
	return nil
}

// FuzzKey: keys are read back as they were written, sort as their parts do, and begin with another key exactly when
// their parts begin with its parts.
func FuzzKey(f *testing.F) {
	parts := []string{"", "a", "ab", "a\x00", "\x00", "\x00\x01", "\x00\xff", "\x01", "\xff", "\xff\xff", "a/b"}
	for i, a := range parts {
		for j, b := range parts {
			f.Add(a, b, b, a, uint8(i), uint8(j))
		}
	}
	f.Fuzz(func(t *testing.T, a, b, c, d string, m, n uint8) {
		left, right := cut(a, b, m), cut(c, d, n)
		x, y := encodeParts(left), encodeParts(right)
		got, err := splitParts(x[1:])
		if err != nil || !slices.Equal(got, left) {
			t.Errorf("splitParts(%x) = %q, %v, want %q", x, got, err, left)
		}
		if got, want := bytes.Compare(x, y), slices.Compare(left, right); cmp.Compare(got, 0) != cmp.Compare(want, 0) {
			t.Errorf("order of the keys of %q and %q = %d, want %d as of the parts", left, right, got, want)
		}
		begins := len(left) <= len(right) && slices.Equal(left, right[:len(left)])
		if got := bytes.HasPrefix(y, x); got != begins {
			t.Errorf("key of %q begins with that of %q = %v, want %v", right, left, got, begins)
		}
		if end := storage.PrefixEnd(x); (bytes.Compare(x, y) <= 0 && bytes.Compare(y, end) < 0) != begins {
			t.Errorf("key of %q lies in the range of %q = %v, want %v", right, left, !begins, begins)
		}
	})
}

// FuzzSplitParts: any bytes are either refused, or the one form of the parts that come out.
func FuzzSplitParts(f *testing.F) {
	for _, key := range []string{"", "a", "a\x00\x01", "\x00\x01", "\x00", "\x00\x02", "a\x00\xff\x00\x01b", "\x00\x01\x00", "\xff\x00\xff"} {
		f.Add([]byte(key))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		parts, err := splitParts(key)
		if err == nil && !bytes.Equal(encodeParts(parts)[1:], key) {
			t.Errorf("splitParts(%x) = %q, which is written %x", key, parts, encodeParts(parts)[1:])
		}
	})
}

func TestCreationRev(t *testing.T) {
	t.Parallel()
	seen := map[storage.Rev]bool{}
	for range 1000 {
		rev := creationRev()
		if rev == 0 || rev >= 1<<61 {
			t.Fatalf("creationRev() = %d, want between 0 and 1<<61", rev)
		}
		if seen[rev] {
			t.Fatalf("creationRev() = %d twice", rev)
		}
		seen[rev] = true
	}
}
