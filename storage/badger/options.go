package badger

import (
	"cmp"
	"log/slog"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Options of Open. The zero value is good for production.
type Options struct {
	// Logger receives what Badger and the store have to say. Nil means slog.Default.
	Logger *slog.Logger

	// MinFree is how many bytes must be free on the directory's file system for Apply to write; Open needs this, or
	// less where little is left to finish. Zero means what Badger's background work can need at worst, which follows
	// from the state of the store: about 75 MiB for an empty one, 160 MiB at 100 MB, 320 MiB at 500 MB, and more while
	// much is being written. With a smaller value the process can die: Badger is killed by SIGBUS when the disk is
	// full.
	MinFree uint64

	// FreeSpace returns how many bytes are free for the directory. Where it fails, Apply and Open fail with its error
	// before anything is written, since writing blindly could kill the process. Nil asks the file system.
	FreeSpace func(dir string) (uint64, error)

	// CloseTimeout is how long Close waits. Zero means 30 seconds.
	CloseTimeout time.Duration

	fold fold // bounds of a commit; tests change it
}

func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	opts.Logger = cmp.Or(opts.Logger, slog.Default())
	opts.CloseTimeout = cmp.Or(opts.CloseTimeout, 30*time.Second)
	opts.fold = cmp.Or(opts.fold, defaultFold)
	if opts.FreeSpace == nil {
		opts.FreeSpace = freeSpace
	}
	return opts
}

const (
	memTableSize  = 16 << 20
	memTables     = 2 // that may wait to be flushed
	compactTables = 2 // tables on level 0 at which Badger merges them into the next
	stallTables   = 4 // at which it makes writers wait for that
	maxLevels     = 7
	baseLevelSize = 10 << 20
)

// tuned returns Badger's options for small values in a library: no cache and no compression, so that a block is read
// straight from the page cache, small tables, so that memory stays low, and every commit synced.
func (o Options) tuned(dir string) badgerdb.Options {
	return badgerdb.LSMOnlyOptions(dir). // values stay in the tree: ValueThreshold is 1 MiB, ours are 256 KiB at most
						WithLogger(logger{o.Logger}).
						WithMetricsEnabled(false). // they would be global to the process
						WithSyncWrites(true).
						WithDetectConflicts(false). // the committer is the only writer
						WithCompression(options.None).
						WithBlockCacheSize(0).
						WithIndexCacheSize(0).
						WithMemTableSize(memTableSize).
						WithNumMemtables(memTables).
						WithNumLevelZeroTables(compactTables).
						WithNumLevelZeroTablesStall(stallTables).
						WithMaxLevels(maxLevels).
						WithBaseLevelSize(baseLevelSize).
						WithNumCompactors(2).
						WithNumVersionsToKeep(1).
						WithCompactL0OnClose(false). // Close should be quick
						WithValueLogFileSize(64 << 20)
}
