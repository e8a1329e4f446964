package badger

import badgerdb "github.com/dgraph-io/badger/v4"

// DB returns the database below s.
func (s *Store) DB() *badgerdb.DB { return s.db }

// SetFold bounds what one commit carries.
func (o *Options) SetFold(ops, bytes int) { o.fold = fold{ops, bytes} }

// SetCommit replaces how a transaction is committed. It must be called before the first Apply.
func (s *Store) SetCommit(f func(txn *badgerdb.Txn, ts uint64) error) { s.commits.commit = f }

// Pending is what Open asks of the disk.
func Pending(dir string) (need, leftover uint64, err error) { return pending(dir) }
