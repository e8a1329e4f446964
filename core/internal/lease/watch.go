package lease

import (
	"fmt"
	"sync"
	"time"

	"github.com/polycred/polycred/storage"
)

// maxWatched bounds what a Table remembers: leases of others that it was refused.
const maxWatched = 4096

// watch remembers since when the leases of others stand still.
type watch struct {
	ttl time.Duration

	mu   sync.Mutex // guards seen
	seen map[string]sight
}

// sight is what was seen of one lease.
type sight struct {
	rev          storage.Rev
	first, again time.Time // when this revision was seen first, and when last
}

func newWatch(ttl time.Duration) *watch { return &watch{ttl: ttl, seen: map[string]sight{}} }

// stoodStill notes that the lease of that name is at rev, and reports whether it was there a TTL ago. No revision comes
// twice, so it does not matter how seldom somebody looked.
func (w *watch) stoodStill(name []string, rev storage.Rev, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := text(name)
	s, known := w.seen[k]
	if !known || s.rev != rev || now.Before(s.again) { // a clock that went back tells nothing of how long it was
		s = sight{rev: rev, first: now}
	}
	if s.again = now; known || w.roomLocked(now) {
		w.seen[k] = s
	}
	return now.Sub(s.first) >= w.ttl
}

// forget ends the watch: nobody else holds that lease.
func (w *watch) forget(name []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.seen, text(name))
}

// roomLocked reports whether one more can be remembered. What nobody asks for any more goes; among the others those that
// came first stay, so that their turn comes.
func (w *watch) roomLocked(now time.Time) bool {
	if len(w.seen) < maxWatched {
		return true
	}
	for k, s := range w.seen {
		if idle := now.Sub(s.again); idle < 0 || idle > 4*w.ttl {
			delete(w.seen, k)
		}
	}
	return len(w.seen) < maxWatched
}

func text(name []string) string { return fmt.Sprintf("%q", name) }
