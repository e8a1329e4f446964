package usertoken

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	remembered    = 5 * time.Second // security 13
	maxRemembered = 4 << 10         // bytes of a token whose claims are remembered, which bounds the whole
)

// digest of a token: what is remembered does not hold the token itself.
type digest = [sha256.Size]byte

// memory remembers verified tokens. It has two generations: when the younger is full, the elder is forgotten, so that
// neither expiry nor size takes any work. A nil memory remembers nothing.
type memory struct {
	half int

	mu           sync.Mutex // guards what follows
	young, elder map[digest]entry
}

type entry struct {
	claims *Claims
	at     time.Time // when it was verified
}

func newMemory(size int) *memory {
	return &memory{half: max(1, size/2), young: make(map[digest]entry)}
}

// get returns the claims of a token that was verified within the last 5 seconds, or nil. Whether they are still valid is
// for the caller to check.
func (m *memory) get(sum digest, now time.Time) *Claims {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.young[sum]
	if !ok {
		e, ok = m.elder[sum]
	}
	if !ok || !within(now, e.at, remembered) {
		return nil
	}
	return e.claims
}

// put remembers claims that were verified at a time. The caller writes to them no more.
func (m *memory) put(sum digest, claims *Claims, at time.Time) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.young[sum]; !ok && len(m.young) >= m.half {
		m.young, m.elder = make(map[digest]entry), m.young
	}
	m.young[sum] = entry{claims, at}
}
