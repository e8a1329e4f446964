package badger

import (
	"fmt"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage"
)

// space keeps the file system from running full under Badger, which writes its files through memory maps: when a page
// finds no room on the disk, the kernel kills the process with SIGBUS, and opening the store again kills the next one
// (dgraph-io/badger#1682). Nothing can catch that, so there must always be room for what is going to be written behind
// our back: flushes of memtables, and compactions, which write all of their output before they remove their input.
type space struct {
	dir  string
	min  uint64 // Options.MinFree
	free func(dir string) (uint64, error)
	db   *badgerdb.DB // set once it is open
}

// check returns an error that wraps storage.ErrFull when too little is free to write.
func (s *space) check() error {
	free, err := s.now()
	if err != nil {
		return err
	}
	if s.min > 0 {
		return s.demand(free, s.min)
	}
	levels := levelsOf(s.db)
	if free >= reserve(levels, maxLogs)+restart {
		return nil // as nearly always: no need to look at the files
	}
	logs, err := countLogs(s.dir)
	if err != nil {
		return err
	}
	return s.demand(free, reserve(levels, logs)+restart)
}

// checkOpen does the same for opening the store. Opening adds nothing, but it continues what an earlier process began,
// which the files tell.
func (s *space) checkOpen() error {
	need, leftover, err := pending(s.dir)
	if err != nil {
		return err
	}
	if s.min > 0 {
		need = min(need, s.min)
	}
	free, err := s.now()
	if err != nil {
		return err
	}
	return s.demand(free+leftover, need)
}

// now returns how much is free.
func (s *space) now() (uint64, error) {
	free, err := s.free(s.dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	return free, nil
}

// demand returns an error unless need bytes are free.
func (s *space) demand(free, need uint64) error {
	if free >= need {
		return nil
	}
	const mib = 1 << 20
	return fmt.Errorf("%w: %s has %d MiB free and needs %d MiB; free disk space",
		storage.ErrFull, s.dir, free/mib, (need+mib-1)/mib)
}

// tableSize is how large a memtable and its table on level 0 become: the transaction that fills it may pass its size.
const tableSize = memTableSize + 5<<19

// maxLogs is how many memtables there can be: the one being written, those that wait, and the one being flushed.
const maxLogs = memTables + 2

// restart is what writing demands beyond opening, so that a store that stopped for want of space can be opened again
// and read, even after a crash, which leaves work half done.
const restart = 2 * tableSize

// reserve returns how much Badger may write, at worst, before it removes anything.
//
// A table is being flushed, and its log goes afterwards. What lies in memtables and on level 0 is merged into the base
// level; if that takes two rounds, the second rewrites what the first has written. Meanwhile a compaction runs further
// down.
//
// Measured on file systems of 256 to 700 MiB that 32 writers filled as fast as they could, with values of 1 to 200 KB:
// after the first ErrFull the free space sank by 25 to 180 MiB and never below 76 MiB. With a fixed watermark of 64 MiB
// the process died at 500 MiB.
func reserve(levels [maxLevels]level, logs int64) uint64 {
	return uint64(tableSize + logs*tableSize + levels[0].size + compaction(levels[:]))
}

// level is how many bytes lie in how many tables on one level of Badger's tree.
type level struct{ size, tables int64 }

// levelsOf returns the levels of an open database.
func levelsOf(db *badgerdb.DB) (levels [maxLevels]level) {
	for _, l := range db.Levels() {
		levels[l.Level] = level{l.Size, int64(l.NumTables)}
	}
	return levels
}

func (l level) tableSize() int64 { return l.size / max(l.tables, 1) }

// overlap is how many tables of the next level one table is merged with: ten on average, as each level has ten times
// the size of the one above, and more where keys cluster.
const overlap = 15

// compaction returns how much compactions can write below level 0. Two can run at once: one merges level 0 into the
// base level, the other one table further down into those that it overlaps.
func compaction(levels []level) int64 {
	var deep int64
	for i := 1; i+1 < len(levels); i++ {
		if levels[i].size > 0 {
			below := levels[i+1]
			deep = max(deep, levels[i].tableSize()+min(below.size, overlap*below.tableSize()))
		}
	}
	return base(levels) + deep
}

// base returns how much of the level that level 0 is merged into can lie in its way, by Badger's rules: the level is
// the deepest that should hold baseLevelSize at most, each having a tenth of the one below, unless one above it holds
// something.
func base(levels []level) int64 {
	first := 1
	for first < len(levels) && levels[first].size == 0 {
		first++
	}
	if first >= len(levels) {
		return 0
	}
	deepest := len(levels) - 1
	for target := levels[deepest].size; target > baseLevelSize && deepest > 1; target /= 10 {
		deepest--
	}
	if first <= deepest {
		return levels[first].size
	}
	return min(levels[first].size, baseLevelSize)
}
