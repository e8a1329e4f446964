package core

import (
	"fmt"
	"maps"
	"testing"
	"time"
)

// held is how many counts lie in memory.
func (s *uses) held() int {
	n := 0
	for i := range s.shards {
		n += len(s.shards[i].seen)
	}
	return n
}

// However long the store takes nothing, and whoever comes meanwhile, what is counted in memory stays bounded; what was not
// counted is known.
func TestUsesAreBounded(t *testing.T) {
	t.Parallel()
	var s uses
	now := time.Unix(0, 0)
	const most = 16 * maxUses // of one credential, which is one shard
	total := int64(0)
	come := func(n int) {
		for range n {
			s.add(useKey{credential: "c", tokenID: fmt.Sprint(total)}, now)
			total++
		}
	}
	for range 3 { // the store fails each time, and others come while it is asked
		come(most + 5)
		all := s.take()
		if s.held() != 0 {
			t.Fatalf("%d counts are held after take, want none", s.held())
		}
		come(most / 2)
		s.put(all)
		if got := s.held(); got != most {
			t.Fatalf("%d counts are held, want %d", got, most)
		}
	}
	if got := s.lost.Load(); got != total-most {
		t.Errorf("lost = %d, want %d", got, total-most)
	}
	known := useKey{credential: "c", tokenID: fmt.Sprint(total - 1)}
	for key := range s.take() {
		known = key
	}
	s.add(known, now)
	old := map[useKey]use{known: {count: 4, first: now.Add(-time.Hour), last: now.Add(-time.Minute)}}
	s.put(old)
	want := map[useKey]use{known: {count: 5, first: now.Add(-time.Hour), last: now}}
	if got := s.take(); !maps.Equal(got, want) {
		t.Errorf("what was put back over a newer count = %v, want %v", got, want)
	}
	s.put(old)
	if got := s.take(); !maps.Equal(got, old) {
		t.Errorf("what was put back = %v, want %v", got, old)
	}
}
