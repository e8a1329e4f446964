package eventlog

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	// overlap is how many of the newest keys that were moved are walked again by each pass. A key is older than others
	// that were moved before it when its writer took longer between Append and the end of Commit, so what is usual is as
	// many as there are writers at a time.
	overlap = 512

	// wholeEvery is how often a pass begins at the very start, come what may: for writers whose clock is far behind.
	wholeEvery = time.Minute

	// wholeIdle is how often it does so while there is nothing to do.
	wholeIdle = 5 * time.Second
)

// trail remembers where the next pass over the outbox begins. A removed key is not free: on Badger every scan that
// begins before it walks over what is left of it, until that is compacted away, so beginning at the start each time costs
// more and more. What a pass leaves out is late, never lost: at the latest a pass a minute later begins at the start.
type trail struct {
	keys  []string  // the newest that were moved, sorted, overlap at most
	floor string    // while there are fewer: a key from some time before the last pass that began at the very start
	whole time.Time // when a pass last began at the very start
	idle  bool      // the last pass found nothing
}

// begin returns the key behind which a pass at now begins; nil is the very start.
func (t *trail) begin(now time.Time) (after []string) {
	age := now.Sub(t.whole) // below 0 the clock went back, and tells nothing
	if t.floor == "" || age < 0 || age >= wholeEvery || (t.idle && age >= wholeIdle) {
		t.floor, t.whole = keyAt(time.Now().Add(-wholeEvery)), now // keys are made by this clock, whatever now is
		return nil
	}
	if len(t.keys) < overlap {
		return []string{t.floor}
	}
	return []string{t.keys[0]}
}

// keyAt returns a text that sorts before every UUIDv7 made at that time or later.
func keyAt(at time.Time) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(at.UnixMilli())<<16) // RFC 9562 §5.7: 48 bits of milliseconds come first
	return id.String()
}

// end notes how the pass went.
func (t *trail) end(moved int, err error) {
	t.idle = err == nil && moved == 0
	if err != nil {
		t.floor = "" // who knows how far it came: the next one begins at the start
	}
}

// add notes keys that were moved.
func (t *trail) add(keys []string) {
	t.keys = append(t.keys, keys...)
	slices.Sort(t.keys) // late ones are among them
	if n := len(t.keys) - overlap; n > 0 {
		t.keys = slices.Delete(t.keys, 0, n)
	}
}
