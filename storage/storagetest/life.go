package storagetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/polycred/polycred/storage"
)

var lifeTests = map[string]func(t *testing.T, h Harness){
	"Closed":     testClosed,
	"Reopen":     testReopen,
	"Deleted":    testDeletedStays,
	"SecondOpen": testSecondOpen,
	"Place":      testPlace,
}

func testClosed(t *testing.T, h Harness) {
	s, ctx := h.open(t), context.Background()
	create(t, s, "a", "1")
	for range 3 {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
	}
	if _, err := s.Get(ctx, []byte("a")); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Get(a) after Close = %v, want ErrClosed", err)
	}
	if _, err := s.GetMany(ctx, [][]byte{[]byte("a")}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("GetMany(a) after Close = %v, want ErrClosed", err)
	}
	if _, err := s.Scan(ctx, storage.Range{}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Scan() after Close = %v, want ErrClosed", err)
	}
	if err := s.Apply(ctx, put("b", "1", 0, 1)); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Apply(put b) after Close = %v, want ErrClosed", err)
	}
	if err := s.Apply(ctx, storage.Batch{}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Apply(nothing) after Close = %v, want ErrClosed", err)
	}
}

func testReopen(t *testing.T, h Harness) {
	s := h.open(t)
	for round := range 3 {
		for i := range 20 {
			create(t, s, fmt.Sprintf("%d %02d", round, i), "value")
		}
		rev := create(t, s, fmt.Sprintf("%d gone", round), "x")
		apply(t, s, del(fmt.Sprintf("%d gone", round), rev))
		before := contents(t, s, 0)
		s = h.reopen(t, s)
		if diff := diffItems(before, contents(t, s, 0)); diff != "" {
			t.Fatalf("round %d: the store after reopening (-before +after):\n%s", round, diff)
		}
		conflicts(t, s, put(fmt.Sprintf("%d 00", round), "x", 0, 1)) // revisions survive as well
	}
}

// testDeletedStays follows deleted and replaced keys through compaction and reopening.
func testDeletedStays(t *testing.T, h Harness) {
	s := h.open(t)
	settle := func() {
		if h.Reopen != nil {
			s = h.reopen(t, s)
		}
		if h.Compact != nil {
			s = closing(t, h.Compact(t, s))
		}
	}
	const n = 50
	key := func(i int) string { return fmt.Sprintf("key %02d", i) }
	for i := range n {
		apply(t, s, put(key(i), "old", 0, 1))
	}
	settle()
	for i := range n {
		switch i % 3 {
		case 0:
			apply(t, s, del(key(i), 1))
		case 1:
			apply(t, s, put(key(i), "new", 1, 2))
		}
	}
	for range 3 {
		for i := range n {
			switch i % 3 {
			case 0:
				lacks(t, s, key(i))
			case 1:
				holds(t, s, key(i), "new", 2)
			case 2:
				holds(t, s, key(i), "old", 1)
			}
		}
		settle()
	}
	for i := range n {
		if i%3 == 0 {
			apply(t, s, put(key(i), "again", 0, 5))
			holds(t, s, key(i), "again", 5)
		}
	}
}

func testSecondOpen(t *testing.T, h Harness) {
	s := h.open(t)
	e, ok := s.(storage.Exclusive)
	if exclusive := ok && e.Exclusive(); exclusive != (h.SecondOpen != nil) {
		t.Fatalf("Exclusive() is %t, but SecondOpen is set: %t", exclusive, h.SecondOpen != nil)
	}
	if h.SecondOpen == nil {
		return
	}
	rev := create(t, s, "a", "1")
	for range 2 { // failing must not loosen the lock
		err := h.SecondOpen(t, s)
		locked, ok := errors.AsType[*storage.LockedError](err)
		if !ok || locked.PID != os.Getpid() || locked.Path == "" {
			t.Errorf("opening twice = %v, want a *LockedError with a path and PID %d", err, os.Getpid())
		}
	}
	holds(t, s, "a", "1", rev)
	apply(t, s, put("a", "2", rev, rev+1))
}

// testPlace wants a store to be in the same place after reopening, and no two stores in one.
func testPlace(t *testing.T, h Harness) {
	s := h.open(t)
	p, ok := s.(storage.Placer)
	if !ok {
		return
	}
	here := p.Place()
	if here == "" {
		return // unknown is an answer
	}
	if other, _ := h.open(t).(storage.Placer); other.Place() == here && h.SecondOpen != nil {
		t.Errorf("Place() of two stores = %q twice", here)
	}
	if h.Reopen == nil {
		return
	}
	if again := h.reopen(t, s).(storage.Placer).Place(); again != here {
		t.Errorf("Place() after reopening = %q, want %q", again, here)
	}
}
