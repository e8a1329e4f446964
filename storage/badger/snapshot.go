package badger

import (
	"sync"
	"sync/atomic"

	badgerdb "github.com/dgraph-io/badger/v4"
)

// snapshots decides what readers see, and what Badger may forget.
//
// Badger numbers commits. Left to itself it makes a new reader wait until the commit under way is synced, a
// millisecond or more on the way to every token; it therefore runs in managed mode here, where a reader takes the
// number of the last commit that is on disk and waits for nobody. The price is that Badger must be told which old
// versions no reader can want any more (the discard number), or compaction could take a version from under a reader.
//
// Readers are counted in two generations, each a read lock. When nobody of the older one is left, all readers began
// after the newer one did, and what the last commit was at that time may be discarded; then the two change places.
type snapshots struct {
	db   *badgerdb.DB
	last atomic.Uint64 // the newest commit on disk

	current atomic.Uint32 // its lowest bit says which generation new readers join
	gens    [2]sync.RWMutex
	began   uint64 // last when the current generation began; only the committer uses it
}

func newSnapshots(db *badgerdb.DB) *snapshots {
	s := &snapshots{db: db, began: db.MaxVersion()}
	s.last.Store(s.began)
	db.SetDiscardTs(s.began)
	return s
}

// reader is one read under way.
type reader struct {
	txn *badgerdb.Txn
	gen *sync.RWMutex
}

// begin starts a read of what is on disk now, or tells why the store refuses it. The reader must be ended.
func (s *Store) begin() (reader, error) {
	for {
		if err := s.refusal(); err != nil {
			return reader{}, err
		}
		now := s.reads.current.Load()
		gen := &s.reads.gens[now&1]
		gen.RLock()
		if s.reads.current.Load() == now && s.failure.Load() == nil {
			return reader{s.db.NewTransactionAt(s.reads.last.Load(), false), gen}, nil
		}
		gen.RUnlock() // the generations changed places, or the store was closed, between the two looks
	}
}

func (r reader) end() {
	r.txn.Discard()
	r.gen.RUnlock()
}

// advance makes commit number ts visible. The committer calls it after each commit.
func (s *snapshots) advance(ts uint64) {
	s.last.Store(ts)
	now := s.current.Load()
	older := &s.gens[(now+1)&1]
	if !older.TryLock() {
		return // somebody still reads there; the next commit tries again
	}
	older.Unlock()
	s.db.SetDiscardTs(s.began)
	s.began = ts
	s.current.Store(now + 1)
}

// wait returns when no reader is left. The store refuses new ones by then.
func (s *snapshots) wait() {
	for i := range s.gens {
		s.gens[i].Lock()
		s.gens[i].Unlock() //nolint:staticcheck // having had the lock is the point
	}
}
