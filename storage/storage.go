// Package storage is the contract between polycred and the place where its bytes lie.
//
// A Store keeps opaque values under ordered keys. Every key carries one revision, and every change is one Batch:
// a set of puts, deletes and checks, each with the revision it expects, that is applied all or nothing. There are no
// closures and no interactive transactions, so no user code ever runs inside a commit, and leases, uniqueness and
// fencing need no further primitive: they are conditions on other keys.
//
// Packages memory, badger and postgres implement the interface; package storagetest holds the conformance suite that
// every implementation passes. Values are sealed before they come here (package storage/sealed): a Store may be trusted
// with availability, never with secrets. Keys are not: who reads them reads user ids and names of integrations.
package storage

import "context"

// Rev is the revision of one key: an equality token chosen by the writer, below 1<<62. Zero means "absent".
//
// A writer creates a key under a random revision below 1<<61 and adds one at each update, so that a key that was
// deleted and created again is never mistaken for the one that was read before.
type Rev uint64

// Any is no condition at all, for index entries: a Put may carry it only with an empty value, a Delete always. What lies
// under the key is not looked at.
const Any = ^Rev(0)

// Limits, equal in every Store, checked by [Batch.Validate] and [ValidateKey].
const (
	MaxKey      = 1 << 10   // bytes of a key
	MaxValue    = 256 << 10 // bytes of a value
	MaxBatchOps = 256       // puts, deletes and checks of a batch together
	MaxBatch    = 1 << 20   // bytes of a batch: its keys and values together

	maxRev = Rev(1) << 62
)

// DefaultLimit is how many items a [Range] with Limit 0 yields at most.
const DefaultLimit = 1000

// Item is one key with its value and revision.
type Item struct {
	Key, Value []byte
	Rev        Rev
}

// Put replaces revision If of Key by Value under revision Rev. If 0 means that the key must be absent.
type Put struct {
	Key, Value []byte
	If, Rev    Rev
}

// Delete removes Key, whose revision must be If. With [Any], a key that is already absent is no conflict.
type Delete struct {
	Key []byte
	If  Rev
}

// Check demands that Key is at Rev, without changing it. Rev is never 0: absence can be demanded only of a key that
// the same batch puts, because an absent row cannot be locked in PostgreSQL.
type Check struct {
	Key []byte
	Rev Rev
}

// Batch is one change: all of it happens, or nothing does. An empty batch is valid and does nothing.
type Batch struct {
	Puts    []Put
	Deletes []Delete
	Checks  []Check
}

// Range selects the keys from Start up to, but not including, End, in bytewise order.
type Range struct {
	Start []byte // the first key that counts; nil begins at the first key there is
	End   []byte // nil: no end
	After []byte // continue behind this key; before Start it counts as Start, nil begins at Start
	Limit int    // the most items of the page; 0 means DefaultLimit, below 0 is ErrInvalid

	KeysOnly bool // leave Item.Value nil; Rev is set all the same
}

// Page is what a [Range] yielded, in order. Next is passed on as Range.After for the page that follows; nil says that
// nothing lay behind the last item.
type Page struct {
	Items []Item
	Next  []byte
}

// Store keeps bytes. All methods may be called concurrently. A Store neither keeps nor changes the slices it is given,
// and the slices it returns belong to the caller. A context that is done before a call began its work ends it with the
// context's error and without effect.
type Store interface {
	// Get returns the item at key, or ErrNotFound.
	Get(ctx context.Context, key []byte) (Item, error)

	// GetMany returns one item for each key, in the same order; Key is always set, Rev is 0 where the key is absent.
	// The items are not one snapshot.
	GetMany(ctx context.Context, keys [][]byte) ([]Item, error)

	// Scan returns one page of a range. Each page is consistent in itself; keys put or deleted between two pages are
	// seen or not, and no other key is skipped or repeated for it.
	Scan(ctx context.Context, r Range) (Page, error)

	// Apply commits b durably, or changes nothing. A condition that does not hold is a *ConflictError, a batch that can
	// never be applied ErrInvalid or ErrTooLarge, a store without room ErrFull, one that is out of reach ErrUnavailable.
	// Only ErrUnknownOutcome leaves open whether the batch was applied: read again and compare the bytes written.
	Apply(ctx context.Context, b Batch) error

	// Close ends the store. Calls under way finish or get ErrClosed, later ones get ErrClosed. Closing twice is no error.
	Close() error
}

// Exclusive is implemented by a Store that at most one process can have open at a time, so that whatever an earlier
// process left claimed is stale at once.
type Exclusive interface{ Exclusive() bool }

// Placer is implemented by a Store that can tell where it lives. A copy of the store lies elsewhere and answers
// something else; an empty answer means unknown.
type Placer interface{ Place() string }
