package eventlog

import "fmt"

// RemovedError says that entries which the reader has not seen were trimmed. It can go on behind Oldest-1, knowing that
// it missed what came before.
type RemovedError struct {
	Oldest uint64 // the first entry that is kept, or that will be written next when none is
}

func (e *RemovedError) Error() string {
	return fmt.Sprintf("entries of the log were removed before they were read: the oldest one left is %d", e.Oldest)
}

// AheadError says that the reader has seen more than the log ever held: the store was restored from a backup. The same
// numbers will be given again, to other entries; the reader has to start over, or to go on behind Newest.
type AheadError struct {
	Newest uint64 // the last number that was given
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("the log ends at entry %d, before the one that was asked for: it was restored from a backup", e.Newest)
}

// EntryError says that one entry cannot be read: it was altered, it is gone, or a newer program wrote it. Whoever reads
// on behind Number has missed it.
type EntryError struct {
	Number uint64
	Err    error // *sealed.CorruptError, *sealed.FormatError
}

func (e *EntryError) Error() string { return fmt.Sprintf("entry %d of the log: %v", e.Number, e.Err) }

func (e *EntryError) Unwrap() error { return e.Err }
