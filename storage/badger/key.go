package badger

import (
	"bytes"
	"encoding/binary"

	"github.com/polycred/polycred/storage"
)

// Badger keeps keys that begin with "!badger!" to itself, but a storage.Store takes every key. A key that begins with
// reserved and a byte of at least '!' therefore gets the byte shift between the two. Such keys keep their order, and
// their place among all others, which stay as they are.
var reserved = []byte("!badger")

const shift = '!' + 1

// encodeKey returns the key under which Badger keeps key: key itself, nearly always.
func encodeKey(key []byte) []byte {
	if n := len(reserved); len(key) <= n || key[n] < '!' || !bytes.HasPrefix(key, reserved) {
		return key
	}
	return bytes.Join([][]byte{reserved, key[len(reserved):]}, []byte{shift})
}

// decodeKey returns a copy of the key that encodeKey turned into key.
func decodeKey(key []byte) []byte {
	if n := len(reserved); len(key) <= n || key[n] != shift || !bytes.HasPrefix(key, reserved) {
		return bytes.Clone(key)
	}
	return bytes.Join([][]byte{reserved, key[len(reserved)+1:]}, nil)
}

// revSize is what stands before a value in Badger: its revision, big-endian.
const revSize = 8

func encodeValue(rev storage.Rev, value []byte) []byte {
	b := make([]byte, revSize, revSize+len(value))
	binary.BigEndian.PutUint64(b, uint64(rev))
	return append(b, value...)
}

func decodeRev(b []byte) (storage.Rev, error) {
	if len(b) < revSize {
		return 0, errForeign
	}
	return storage.Rev(binary.BigEndian.Uint64(b)), nil
}
