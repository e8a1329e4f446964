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
// Measured after kill -9 of a process that had just filled its disk as fast as it could, with no more left free than
// this returns: 25 to 70 % of it was used.
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
	for _, e := range entries {
		id, ok := table.ParseFileID(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return 0, 0, err
		}
		if t, ok := tables[id]; ok && int(t.Level) < maxLevels {
			levels[t.Level].size += info.Size()
			levels[t.Level].tables++
		} else {
			leftover += uint64(info.Size())
		}
	}
	logs, err := countLogs(dir)
	if err != nil {
		return 0, 0, err
	}
	if levels[0].tables+logs < compactTables {
		// Nothing is there to be merged into the base level, nor to be flushed that would not remove its log.
		return openSpace + uint64(logs*tableSize+compaction(levels[:])-base(levels[:])), leftover, nil
	}
	return openSpace + reserve(levels, logs), leftover, nil
}

// countLogs returns how many memtables have a log in dir. Its size tells nothing: it is a sparse file.
func countLogs(dir string) (logs int64, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".mem" {
			logs++
		}
	}
	return logs, err
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
	defer func() { _ = f.Close() }() // it was only read
	m, _, err := badgerdb.ReplayManifestFile(f, 0, badgerdb.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return m.Tables, nil
}
