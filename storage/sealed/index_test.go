package sealed_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

func TestIndexRange(t *testing.T) {
	t.Parallel()
	store, w := newMemory(t)
	all := [][]string{{"a"}, {"a", ""}, {"a", "1"}, {"a", "2"}, {"ab", "1"}, {"b"}, {"c", "1"}}
	commit(t, w.DB, func(tx *sealed.Tx) {
		for _, entry := range all {
			w.marks.Mark(tx, entry...)
		}
	})
	// Other projects and tables lie around them.
	other := open(t, store, newKEKs(t), "0199aaaa-0000-7000-8000-000000000001", nil)
	commit(t, other.DB, func(tx *sealed.Tx) { other.marks.Mark(tx, "a", "1") })

	torn := func(n int) {
		for i := range n {
			replace(t, store, storage.Item{Key: append(sealed.RawKey(w.DB, 'x', "a", "1"), fmt.Sprint("no end", i)...), Rev: 1})
		}
	}
	tests := []struct {
		name       string
		after, end []string
		want       [][]string
		torn       bool // what is torn lies in between
	}{
		{"all", nil, []string{"z"}, all, true},
		{"nothing", []string{"c", "1"}, []string{"z"}, nil, false},
		{"not after itself, but what is below", []string{"a"}, []string{"ab"}, all[1:4], true},
		{"not the end", []string{"a"}, []string{"a", "1"}, all[1:2], false},
		{"between what is not there", []string{"a", "0"}, []string{"aa"}, all[2:4], true},
		{"the end before the start", []string{"b"}, []string{"a"}, nil, false},
		{"behind what is torn", []string{"a", "2"}, []string{"c"}, all[4:6], false},
	}
	for _, damage := range []int{0, 1, 3} {
		torn(damage)
		for _, test := range tests {
			for _, limit := range []int{0, 1, 2, 3} {
				t.Run(fmt.Sprint(test.name, ", limit ", limit, ", torn ", damage), func(t *testing.T) {
					var got [][]string
					odd, after := 0, test.after
					for more := true; more; {
						var page [][]string
						var passed int
						var err error
						if page, passed, more, err = w.marks.Range(t.Context(), after, test.end, limit); err != nil {
							t.Fatal(err)
						}
						if limit > 0 && len(page) > limit || more && len(page) == 0 {
							t.Fatalf("Range(limit %d) returned %d entries, and more: %v", limit, len(page), more)
						}
						if got, odd = append(got, page...), odd+passed; more {
							after = page[len(page)-1]
						}
					}
					if diff := cmp.Diff(test.want, got); diff != "" {
						t.Errorf("Range() (-want +got):\n%s", diff)
					}
					want := 0
					if test.torn {
						want = damage
					}
					if odd != want {
						t.Errorf("Range() counted %d keys that are no entries, want %d", odd, want)
					}
				})
			}
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := w.marks.Range(t.Context(), nil, []string{"z"}, 0); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Range() of a closed store = %v, want ErrClosed", err)
	}
}
