package sealed

import (
	"reflect"

	"github.com/google/uuid"
	"github.com/polycred/polycred/storage"
)

// RawKey returns the whole key of a record or an entry.
func RawKey(db *DB, tag byte, parts ...string) []byte { return db.key(tag, parts) }

// RawParts undoes RawKey.
func RawParts(db *DB, key []byte) ([]string, error) { return db.parts(key) }

// Elsewhere returns a DB with the keysets of db over another store, store UUID or project: nothing but the binding then
// tells a record of one from a record of the other.
func Elsewhere(db *DB, store storage.Store, id, project string) *DB {
	other := &DB{
		store: store, id: uuid.MustParse(id), project: uuid.MustParse(project),
		keks: db.keks, now: db.now, ttl: 1 << 62, tags: map[byte]string{},
	}
	other.keys.Store(db.keys.Load())
	return other
}

// Encode and Decode are the codec of records, without the sealing.
func Encode(format int, v any) ([]byte, error) {
	return encode(format, v, holdsAny(reflect.TypeOf(v), map[reflect.Type]bool{}))
}

// Decode undoes Encode.
func Decode(table string, known int, plain []byte, v any) error {
	return decode(decoder, table, known, plain, v)
}
