package storage

import (
	"bytes"
	"fmt"
)

// Validate reports whether b could be applied to any Store at all: ErrInvalid for a malformed batch (a revision that is
// 0 or too large, a value under Any, a key named twice, an empty key), ErrTooLarge for one beyond the limits.
// Every Store calls it first, so that the answer is the same everywhere.
func (b Batch) Validate() error {
	ops := len(b.Puts) + len(b.Deletes) + len(b.Checks)
	if ops > MaxBatchOps {
		return fmt.Errorf("%w: a batch of %d operations, at most %d are allowed", ErrTooLarge, ops, MaxBatchOps)
	}
	size := 0
	for _, p := range b.Puts {
		if err := p.validate(); err != nil {
			return err
		}
		size += len(p.Key) + len(p.Value)
	}
	for _, d := range b.Deletes {
		if err := ValidateKey(d.Key); err != nil {
			return err
		}
		if d.If != Any && (d.If == 0 || d.If >= maxRev) {
			return fmt.Errorf("%w: delete of %x at revision %d", ErrInvalid, d.Key, d.If)
		}
		size += len(d.Key)
	}
	for _, c := range b.Checks {
		if err := ValidateKey(c.Key); err != nil {
			return err
		}
		if c.Rev == 0 || c.Rev >= maxRev {
			return fmt.Errorf("%w: check of %x at revision %d", ErrInvalid, c.Key, c.Rev)
		}
		size += len(c.Key)
	}
	if size > MaxBatch {
		return fmt.Errorf("%w: a batch of %d bytes, at most %d are allowed", ErrTooLarge, size, MaxBatch)
	}
	return b.distinct(ops)
}

func (p Put) validate() error {
	if err := ValidateKey(p.Key); err != nil {
		return err
	}
	switch {
	case len(p.Value) > MaxValue:
		return fmt.Errorf("%w: a value of %d bytes, at most %d are allowed", ErrTooLarge, len(p.Value), MaxValue)
	case p.Rev == 0 || p.Rev >= maxRev:
		return fmt.Errorf("%w: put of %x under revision %d", ErrInvalid, p.Key, p.Rev)
	case p.If == Any && len(p.Value) > 0:
		return fmt.Errorf("%w: put of %x without a condition, but with a value", ErrInvalid, p.Key)
	case p.If != Any && p.If >= maxRev:
		return fmt.Errorf("%w: put of %x expecting revision %d", ErrInvalid, p.Key, p.If)
	}
	return nil
}

// distinct refuses a key that is named twice, whatever the operations are.
func (b Batch) distinct(ops int) error {
	if ops < 2 {
		return nil
	}
	seen := make(map[string]struct{}, ops)
	add := func(key []byte) error {
		if _, twice := seen[string(key)]; twice {
			return fmt.Errorf("%w: key %x is named twice in one batch", ErrInvalid, key)
		}
		seen[string(key)] = struct{}{}
		return nil
	}
	for _, p := range b.Puts {
		if err := add(p.Key); err != nil {
			return err
		}
	}
	for _, d := range b.Deletes {
		if err := add(d.Key); err != nil {
			return err
		}
	}
	for _, c := range b.Checks {
		if err := add(c.Key); err != nil {
			return err
		}
	}
	return nil
}

// ValidateKey returns ErrInvalid for an empty key and ErrTooLarge for one over MaxKey bytes. Every Store calls it for
// the keys of Get and GetMany.
func ValidateKey(key []byte) error {
	switch {
	case len(key) == 0:
		return fmt.Errorf("%w: an empty key", ErrInvalid)
	case len(key) > MaxKey:
		return fmt.Errorf("%w: a key of %d bytes, at most %d are allowed", ErrTooLarge, len(key), MaxKey)
	}
	return nil
}

// Validate returns ErrInvalid for a negative limit. Every Store calls it first.
func (r Range) Validate() error {
	if r.Limit < 0 {
		return fmt.Errorf("%w: a scan of %d items", ErrInvalid, r.Limit)
	}
	return nil
}

// From returns where a Store begins reading: the key to seek to, and whether an item at exactly that key is left out
// because the page before ended with it.
func (r Range) From() (key []byte, skip bool) {
	if r.After == nil || bytes.Compare(r.After, r.Start) < 0 {
		return r.Start, false
	}
	return r.After, true
}

// Max returns the most items that the page may hold.
func (r Range) Max() int {
	if r.Limit == 0 {
		return DefaultLimit
	}
	return r.Limit
}

// PrefixEnd returns the End of the range of all keys that begin with prefix: nil where no key lies behind them.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}
