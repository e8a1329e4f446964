package crypto

import "encoding/binary"

// bindingVersion is the first byte of every binding, so that its form can change without ever meaning something else.
const bindingVersion = 1

// Binding says what a sealed record is: its associated data. A ciphertext opens only under the binding it was sealed
// with, so a record that was moved to another key or store, or that is put back under a newer revision, does not open.
type Binding struct {
	Store [16]byte // UUID of the store
	Table string   // name of the table
	Key   []byte   // the whole key
	Rev   uint64   // revision of the record
}

// Append appends the canonical form of b to dst and returns it: the version byte, the store, the table and the key,
// each of the two behind its length, the revision. No two bindings have the same form.
func (b Binding) Append(dst []byte) []byte {
	dst = append(dst, bindingVersion)
	dst = append(dst, b.Store[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(b.Table)))
	dst = append(dst, b.Table...)
	dst = binary.AppendUvarint(dst, uint64(len(b.Key)))
	dst = append(dst, b.Key...)
	return binary.BigEndian.AppendUint64(dst, b.Rev)
}
