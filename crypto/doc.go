// Package crypto holds the keys of polycred and the three things done with them: sealing records, hiding look-up
// values, and keeping secrets out of sight.
//
// There are two layers of keys. A key-encryption key (KEK) stays outside the store: in a KMS, reached through Tink's
// AEADWithContext interface, or in a file ([CreateKEK], [OpenKEK]). It wraps the keysets, which lie in the store beside
// the records they seal: a [Keyset] encrypts records with XAES-256-GCM, an [Index] turns look-up values into tokens
// with a PRF. Every ciphertext is bound by a [Binding] to the place it was written for.
//
// [KEKs] names the two KEKs of a store. One key may serve as both:
//
//	kek, err := crypto.CreateKEK("/etc/app/polycred.kek")
//	keks := crypto.KEKs{Tokens: kek, Policy: kek}
//
// A [Secret] is a string that prints a placeholder wherever it is printed, and that no general encoder can write.
//
// There is no unencrypted mode. What Tink cannot promise this package does not either: key material is not wiped from
// memory, and a putting back of a complete old record under its own key and revision is not noticed.
//
// The package does no I/O of its own but reading and writing a KEK file; wrapping and unwrapping a keyset asks the KEK,
// which may be a KMS. It imports nothing else of polycred.
package crypto
