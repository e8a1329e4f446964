// Package usage counts in memory what happens too often to be written down each time. A [Counter] counts uses by key,
// until Tell hands over what was counted since it was last called; what could not be told is kept and told later.
//
// Promises: no use is counted twice, and none is lost but with the process, or when so many keys are held that there is
// no room for one more, which Lost admits. Memory is bounded, however long nothing can be told.
package usage

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shards = 16
	full   = 1024      // keys in one shard, before they should be told early
	most   = 16 * full // keys in one shard, while nothing can be told
)

// Use is what was counted of one key.
type Use struct {
	Count       int64
	First, Last time.Time
}

// Counter counts until it is told. New makes one; its methods may be called concurrently.
type Counter[K comparable] struct {
	by     func(K) string
	seed   maphash.Seed
	shards [shards]shard[K]

	telling sync.Mutex   // held while uses are told
	lost    atomic.Int64 // uses of keys for which there was no room
}

type shard[K comparable] struct {
	sync.Mutex // guards seen
	seen       map[K]Use
}

// New returns an empty Counter. By names what a key is of: keys of the same name share the room for 16,384 keys that
// each of 16 shards has.
func New[K comparable](by func(K) string) *Counter[K] {
	return &Counter[K]{by: by, seed: maphash.MakeSeed()}
}

func (c *Counter[K]) shard(key K) *shard[K] {
	return &c.shards[maphash.String(c.seed, c.by(key))%shards]
}

// Add counts one use of key, at now, and reports whether so many keys are held that they should be told now: once for
// each key that comes when there are 1,024 of them in its shard, or for which there is no room.
func (c *Counter[K]) Add(key K, now time.Time) (tell bool) {
	s := c.shard(key)
	s.Lock()
	defer s.Unlock()
	u, known := s.seen[key]
	if !known {
		if len(s.seen) >= most {
			c.lost.Add(1)
			return true
		}
		u.First = now
	}
	u.Count, u.Last = u.Count+1, now
	s.setLocked(key, u)
	return !known && len(s.seen) >= full
}

func (s *shard[K]) setLocked(key K, u Use) {
	if s.seen == nil {
		s.seen = map[K]Use{}
	}
	s.seen[key] = u
}

// Tell calls tell with what was counted since it was last told, up to limit keys at a time, until all of it is. When
// that fails, it keeps what is not told yet, and returns the error. One call tells at a time; others wait.
func (c *Counter[K]) Tell(limit int, tell func(batch map[K]Use) error) error {
	c.telling.Lock()
	defer c.telling.Unlock()
	all := c.take()
	for len(all) > 0 {
		batch := make(map[K]Use, min(limit, len(all)))
		for key, u := range all {
			if batch[key] = u; len(batch) >= limit {
				break
			}
		}
		if err := tell(batch); err != nil {
			c.put(all)
			return err
		}
		for key := range batch {
			delete(all, key)
		}
	}
	return nil
}

// Telling reports whether a call of Tell is under way.
func (c *Counter[K]) Telling() bool {
	if !c.telling.TryLock() {
		return true
	}
	c.telling.Unlock()
	return false
}

// Lost returns how many uses were not counted since it was last called.
func (c *Counter[K]) Lost() int64 { return c.lost.Swap(0) }

// take empties the count.
func (c *Counter[K]) take() map[K]Use {
	all := map[K]Use{}
	for i := range c.shards {
		s := &c.shards[i]
		s.Lock()
		for key, u := range s.seen {
			all[key] = u
		}
		s.seen = nil
		s.Unlock()
	}
	return all
}

// put gives back what could not be told.
func (c *Counter[K]) put(all map[K]Use) {
	for key, old := range all {
		s := c.shard(key)
		s.Lock()
		u, known := s.seen[key]
		switch {
		case known:
		case len(s.seen) >= most: // others came in the meantime
			c.lost.Add(old.Count)
			s.Unlock()
			continue
		default:
			u.Last = old.Last
		}
		u.Count, u.First = u.Count+old.Count, old.First
		s.setLocked(key, u)
		s.Unlock()
	}
}
