package badger

import (
	badgerdb "github.com/dgraph-io/badger/v4"
	"github.com/polycred/polycred/storage"
)

// DB returns the database below s.
func (s *Store) DB() *badgerdb.DB { return s.db }

// SetFold bounds what one commit carries.
func (o *Options) SetFold(ops, bytes int) { o.fold = fold{ops, bytes} }

// SetCommit replaces how a transaction is committed. It must be called before the first Apply.
func (s *Store) SetCommit(f func(txn *badgerdb.Txn, ts uint64) error) { s.commits.commit = f }

// Pending is what Open asks of the disk.
func Pending(dir string) (need, leftover uint64, err error) { return pending(dir) }

// Reader is a read that stays under way until it is ended.
type Reader struct{ r reader }

// Begin begins a read.
func (s *Store) Begin() (Reader, error) {
	r, err := s.begin()
	return Reader{r}, err
}

// Get reads one key as it was when the read began.
func (r Reader) Get(key []byte) (storage.Item, error) { return read(r.r.txn, key) }

// End ends the read.
func (r Reader) End() { r.r.end() }
