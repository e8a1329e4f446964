package sealed

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoTokensKey: the record lies on the tokens plane and the DB was opened without that key-encryption key.
var ErrNoTokensKey = errors.New("opened without the tokens key-encryption key: pass KEKs.Tokens to read or write this")

// CorruptError says that a record does not open: it was altered, cut short, moved from where it was written, or sealed
// with a key that is gone. Nothing was changed. Restore the record from a backup, or delete what it stands for.
type CorruptError struct {
	Table string
	Key   []string // the parts of the record's key
	Err   error    // crypto.ErrNotAuthentic, crypto.ErrUnknownKey, or a decoding error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the %s record %q cannot be read: %v", e.Table, strings.Join(e.Key, "/"), e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// FormatError says that a record, or the whole store, was written by a newer program. Nothing was changed; run a program
// at least as new as the one that wrote it.
type FormatError struct {
	Table         string // "store" for the store itself
	Format, Known int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("the %s record has format %d, this program knows formats up to %d: run a newer version of the program", e.Table, e.Format, e.Known)
}

// ProjectsError says that a store holds several projects and none was named.
type ProjectsError struct{ Projects []string }

func (e *ProjectsError) Error() string {
	return fmt.Sprintf("the store holds %d projects, name one of them: %s", len(e.Projects), strings.Join(e.Projects, ", "))
}
