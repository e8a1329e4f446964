package lease

import (
	"fmt"
	"sync"
	"time"
)

// maxWatched bounds what a Watch remembers.
const maxWatched = 4096

// Watch remembers since when things stand still that others change, by the clock of whoever looks: their clocks never
// matter. It may be used concurrently.
type Watch struct {
	keep time.Duration
	gap  time.Duration // 0: any

	mu   sync.Mutex // guards seen
	seen map[string]sight
}

// sight is what was seen of one thing.
type sight struct {
	rev          uint64
	first, again time.Time // when this revision was seen first, and when last
}

// NewWatch returns a Watch that forgets what nobody asked for in a while: four times keep, and only where room is needed.
// Where looks may not be further apart than gap, the first one after a longer gap counts as the first of all; 0: it does
// not matter how seldom somebody looks, because no revision comes twice.
func NewWatch(keep, gap time.Duration) *Watch {
	return &Watch{keep: keep, gap: gap, seen: map[string]sight{}}
}

// Still notes that the thing of that name is at rev, and returns for how long it has been, as far as it was seen: 0 at
// first sight. Where there is no room to remember one more, it is always the first sight.
func (w *Watch) Still(name []string, rev uint64, now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := text(name)
	s, known := w.seen[k]
	longAgo := w.gap > 0 && now.Sub(s.again) > w.gap
	if !known || s.rev != rev || longAgo || now.Before(s.again) { // a clock that went back tells nothing of how long it was
		s = sight{rev: rev, first: now}
	}
	if s.again = now; known || w.roomLocked(now) {
		w.seen[k] = s
	}
	return now.Sub(s.first)
}

// Forget ends the watch of one thing.
func (w *Watch) Forget(name []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.seen, text(name))
}

// roomLocked reports whether one more can be remembered. What nobody asks for any more goes; among the others those that
// came first stay, so that their turn comes.
func (w *Watch) roomLocked(now time.Time) bool {
	if len(w.seen) < maxWatched {
		return true
	}
	for k, s := range w.seen {
		if idle := now.Sub(s.again); idle < 0 || idle > 4*w.keep {
			delete(w.seen, k)
		}
	}
	return len(w.seen) < maxWatched
}

func text(name []string) string { return fmt.Sprintf("%q", name) }
