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
	dir    string
	min    uint64 // Options.MinFree
	free   func(dir string) (uint64, error)
	levels func() []badgerdb.LevelInfo // nil before Badger is open
}

func newSpace(dir string, opts Options) *space {
	return &space{dir: dir, min: opts.MinFree, free: opts.FreeSpace}
}

// check returns an error that wraps storage.ErrFull when too little is free to write.
func (s *space) check() error {
	need := s.min
	if need == 0 {
		need = reserve(s.levels())
	}
	return s.atLeast(need)
}

// checkOpen does the same for opening the store. Opening continues what was under way and adds nothing, so it needs
// less than writing does: a store that stopped for want of space can be opened again and read.
func (s *space) checkOpen() error {
	need := s.min
	if need == 0 {
		need = reserve(nil)
	}
	return s.atLeast(need / 2)
}

func (s *space) atLeast(need uint64) error {
	free, err := s.free(s.dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	if free < need {
		return fmt.Errorf("%w: %s has %d MiB free, and %d MiB must be", storage.ErrFull, s.dir, free>>20, (need+1<<20-1)>>20)
	}
	return nil
}

// overlap is how many tables of the next level a table is merged with: ten on average, as each level has ten times the
// size of the one above, and some more where keys cluster.
const overlap = 15

// reserve returns how much Badger may write, at worst, before it frees anything.
//
// Two compactions can run at once: one of level 0 into the base level, with all the tables that level 0 may hold and
// one that is being flushed meanwhile, and one table further down with those that it overlaps.
func reserve(levels []badgerdb.LevelInfo) uint64 {
	top := int64((stallTables + 1) * memTableSize)
	var base, deep int64
	for i := 1; i < len(levels); i++ {
		if levels[i].IsBaseLevel {
			base = levels[i].Size
		}
		if i+1 < len(levels) && levels[i].Size > 0 {
			deep = max(deep, levels[i].TargetFileSize+min(levels[i+1].Size, overlap*levels[i+1].TargetFileSize))
		}
	}
	return uint64(top + base + deep)
}
