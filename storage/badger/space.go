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
	need := s.min
	if need == 0 {
		need = reserve(s.db.Levels())
	}
	return s.demand(need, 0)
}

// checkOpen does the same for opening the store. Opening adds nothing, but it continues what an earlier process began,
// which the files tell: as a rule less than writing could begin, so that a store that stopped for want of space can
// be opened again and read.
func (s *space) checkOpen() error {
	need, leftover, err := pending(s.dir)
	if err != nil {
		return err
	}
	if s.min > 0 {
		need = min(need, s.min)
	}
	return s.demand(need, leftover)
}

// demand returns an error unless need bytes are free, or will be when Badger has removed leftover bytes.
func (s *space) demand(need, leftover uint64) error {
	free, err := s.free(s.dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	if free+leftover < need {
		const mib = 1 << 20
		return fmt.Errorf("%w: %s has %d MiB free and needs %d MiB; free disk space",
			storage.ErrFull, s.dir, free/mib, (need+mib-1)/mib)
	}
	return nil
}

// reserve returns how much Badger may write, at worst, before it removes anything, if it is given one more batch.
//
// Level 0 may hold stallTables tables when all of it is merged into the next level, and one more is being flushed
// meanwhile. Measured on file systems of 256 and 700 MiB, filled as fast as possible with values of 100 bytes to 200 KB:
// from the first ErrFull on, the free space sank by 30 to 136 MiB, which was at most 55 % of the reserve, and never below
// 70 MiB. A fixed watermark of 64 MiB was overrun.
func reserve(levels []badgerdb.LevelInfo) uint64 {
	sizes := make([]level, len(levels))
	for i, l := range levels {
		sizes[i] = level{l.Size, int64(l.NumTables)}
	}
	return uint64((stallTables+1)*memTableSize + compaction(sizes))
}

// level is how many bytes lie in how many tables on one level of Badger's tree.
type level struct{ size, tables int64 }

func (l level) tableSize() int64 { return l.size / max(l.tables, 1) }

// overlap is how many tables of the next level one table is merged with: ten on average, as each level has ten times the
// size of the one above, and more where keys cluster.
const overlap = 15

// compaction returns how much compactions can write below level 0. Two can run at once: one merges level 0 into the base
// level, the other one table further down into those that it overlaps.
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

// base returns how much of the level that level 0 is merged into can lie in its way, by Badger's rules: the level is the
// deepest that should hold baseLevelSize at most, each having a tenth of the one below, unless one above it holds
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
