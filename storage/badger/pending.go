package badger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// openSpace is what opening writes even in an empty directory, with room to spare: the first pages of its files.
const openSpace = 4 << 20

// pending returns how many bytes Badger may write when it opens the store in dir before it removes anything, and how
// many it removes first: the output of compactions that a crash cut short. Nothing may have the store open.
//
// Measured after kill -9 of a process that filled its disk as fast as it could, with just as much left free as this
// returns: 20 to 78 % of it was used. Where a crash at the worst moment leaves less free than that, the store opens once
// more space has been made.
func pending(dir string) (need, leftover uint64, err error) {
	tables, err := manifest(dir)
	if err != nil {
		return 0, 0, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	var levels [maxLevels]level
	var logs int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return 0, 0, err
		}
		if filepath.Ext(e.Name()) == ".mem" && info.Size() > 0 {
			logs++ // the file is a sparse one; a memtable lies in it at most
		}
		id, ok := table.ParseFileID(e.Name())
		if !ok {
			continue
		}
		if t, ok := tables[id]; ok && int(t.Level) < maxLevels {
			levels[t.Level].size += info.Size()
			levels[t.Level].tables++
		} else {
			leftover += uint64(info.Size())
		}
	}
	top := int64(openSpace)
	if logs > 0 {
		top += memTableSize // the table being flushed; its log goes afterwards
	}
	if l0 := levels[0]; l0.tables+logs >= compactTables {
		// The logs become tables of level 0 first, until flushing has to wait for the compaction.
		top += max(l0.size, min(l0.size+logs*memTableSize, stallTables*memTableSize))
	}
	return uint64(top + compaction(levels[:])), leftover, nil
}

// manifest returns the tables that belong to the store in dir; none where there is no store yet.
func manifest(dir string) (map[uint64]badgerdb.TableManifest, error) {
	f, err := os.Open(filepath.Join(dir, badgerdb.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badgerdb.ReplayManifestFile(f, 0, badgerdb.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return m.Tables, nil
}
