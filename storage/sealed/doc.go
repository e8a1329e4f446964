// Package sealed turns a Store and keysets into typed, encrypted records. It is the only code that sees both plaintext
// and keys.
//
// A [DB] is one project of one store. A [Table] holds records of one Go type under tuple keys; an [Index] holds keys
// without values, for listing. Reads go straight to the store; changes are collected in a [Tx], which becomes one Apply:
//
//	creds := sealed.NewTable[credential](db, sealed.Spec{Tag: 'c', Name: "credential", Plane: sealed.Tokens, Format: 1})
//	v, rev, err := creds.Get(ctx, "user-1", id)
//	tx := db.Begin(ctx)
//	creds.Put(tx, &v, rev, "user-1", id)
//	byUser.Mark(tx, "user-1", "googleCalendar", id)
//	err = tx.Commit(ctx)
//
// What lies in the store: keys are readable (tag, project, then the parts that were given), values are not. A value is
// one version byte and a ciphertext, bound to format, store UUID, table, key and revision (crypto.Binding), so that a
// record that was moved to another key, user, project or store, or an old value under a newer revision, does not open.
// Putting back a complete old row with its own revision is not detected. Not sealed are: the store record (format and
// UUID), the list of projects, index entries (which have no value), and the keysets, which are wrapped under a KEK.
//
// Inside the ciphertext stands one byte with the format of the record, then CBOR with integer keys (RFC 8949). A record
// of a newer format than this program knows is refused when it is read, and therefore never written over: an update
// needs the revision that only a successful read yields.
package sealed
