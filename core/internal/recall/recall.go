// Package recall remembers for a short time what was read from a store, for when the store cannot be asked again.
package recall

import (
	"hash/maphash"
	"sync"
	"time"
)

// Options of a Memory.
type Options struct {
	TTL  time.Duration    // how long a value is remembered; 0: nothing is
	Size int              // of how many values at least; twice as many at most
	Now  func() time.Time // the clock
}

// Memory holds the values that were kept last, under an owner and a key. What an owner has is forgotten together. A nil
// Memory remembers nothing. It may be used concurrently.
type Memory[K comparable, V any] struct {
	opts Options
	seed maphash.Seed

	mu     sync.Mutex // guards everything below
	recent generation[K, V]
	before generation[K, V]
	forgot [256]uint64 // how often something was forgotten, by hash of the owner
}

// generation is what was kept within one time to live, or the last Size of it.
type generation[K comparable, V any] struct {
	owners map[string]map[K]kept[V]
	size   int
	begun  time.Time
}

type kept[V any] struct {
	value V
	read  time.Time
}

// Mark is a moment before a value is read: what is forgotten after it was read too early to be kept.
type Mark struct {
	at     time.Time
	forgot uint64
}

// New returns an empty memory, or nil where nothing is to be remembered.
func New[K comparable, V any](o Options) *Memory[K, V] {
	if o.TTL <= 0 || o.Size <= 0 {
		return nil
	}
	return &Memory[K, V]{opts: o, seed: maphash.MakeSeed()}
}

// Begin returns the mark to keep a value under that is read from now on.
func (m *Memory[K, V]) Begin(owner string) Mark {
	if m == nil {
		return Mark{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return Mark{m.opts.Now(), m.forgot[m.slot(owner)]}
}

// Keep remembers a value that was read after mark, unless its owner was forgotten meanwhile.
func (m *Memory[K, V]) Keep(owner string, key K, value V, mark Mark) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.forgot[m.slot(owner)] != mark.forgot {
		return
	}
	if now := m.opts.Now(); m.recent.owners == nil || m.recent.size >= m.opts.Size || now.Sub(m.recent.begun) >= m.opts.TTL {
		m.before = m.recent
		m.recent = generation[K, V]{owners: map[string]map[K]kept[V]{}, begun: now}
	}
	of := m.recent.owners[owner]
	if of == nil {
		of = map[K]kept[V]{}
		m.recent.owners[owner] = of
	}
	if _, again := of[key]; !again {
		m.recent.size++
	}
	of[key] = kept[V]{value, mark.at}
}

// Recall returns what was kept under the key, if it was read no longer ago than the time to live.
func (m *Memory[K, V]) Recall(owner string, key K) (V, bool) {
	var none V
	if m == nil {
		return none, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range []*generation[K, V]{&m.recent, &m.before} {
		if k, ok := g.owners[owner][key]; ok {
			age := m.opts.Now().Sub(k.read)
			if age < 0 || age >= m.opts.TTL {
				return none, false
			}
			return k.value, true
		}
	}
	return none, false
}

// Forget drops all that an owner has, also what is being read just now.
func (m *Memory[K, V]) Forget(owner string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgot[m.slot(owner)]++
	for _, g := range []*generation[K, V]{&m.recent, &m.before} {
		g.size -= len(g.owners[owner])
		delete(g.owners, owner)
	}
}

func (m *Memory[K, V]) slot(owner string) int {
	return int(maphash.String(m.seed, owner) % uint64(len(m.forgot)))
}
