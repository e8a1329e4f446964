package eventlog

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

const (
	// slack is how long a writer may take from Append to the end of Commit, and how far its clock may be behind ours, so
	// that the next pass comes by what it wrote.
	slack = 2 * time.Second

	// wholeEvery is how often a pass begins at the very start, come what may: for writers that took longer.
	wholeEvery = time.Minute

	// wholeIdle is how often it does so while there is nothing to do.
	wholeIdle = 5 * time.Second
)

// trail remembers where the next pass over the outbox begins. A removed key is not free: on Badger every scan that
// begins before it walks over what is left of it, until that is compacted away, so beginning at the start each time costs
// more and more. What a pass leaves out is late, never lost: at the latest a pass a minute later begins at the start.
type trail struct {
	from  string    // behind this key; empty: at the very start
	next  string    // what from becomes when the pass under way has come to its end
	whole time.Time // when a pass last began at the very start
	idle  bool      // the last pass found nothing
}

// begin returns the key behind which a pass at now begins; nil is the very start.
func (t *trail) begin(now time.Time) (after []string) {
	t.next = keyAt(time.Now().Add(-slack)) // keys are made by this clock, whatever now is
	age := now.Sub(t.whole)                // below 0 the clock went back, and tells nothing
	if t.from == "" || age < 0 || age >= wholeEvery || (t.idle && age >= wholeIdle) {
		t.from, t.whole = "", now
		return nil
	}
	return []string{t.from}
}

// end notes how the pass went. Who knows how far one that failed came: the next one begins where it did.
func (t *trail) end(moved int, err error) {
	if t.idle = err == nil && moved == 0; err == nil {
		t.from = t.next
	}
}

// keyAt returns a key that sorts before every UUIDv7 made at that time or later.
func keyAt(at time.Time) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(at.UnixMilli())<<16) // RFC 9562 §5.7: 48 bits of milliseconds come first
	return string(id[:])
}
