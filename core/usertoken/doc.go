// Package usertoken verifies and mints user tokens: the JWTs (RFC 7519) that an application signs for its users, and the
// tokens of identity providers that stand in for them.
//
// A [Verifier] accepts a token in one of two ways, and the token's iss alone says which:
//
//   - From an [Issuer], when iss is exactly the name of one that is configured. Its keys come from its JWK set
//     (RFC 7517), which [KeySets] fetches and remembers. iss and aud have to be exact, and the user is sub.
//   - Under a signing key of the project, a [Key], in every other case. aud may be missing; where there is one it has to
//     name the project, under whatever host. The user is sub or, where there is no sub, id.
//
// Neither way is tried for the other's tokens: a key of an issuer signs nothing but what that issuer may say, and a
// signing key of the project cannot speak for an issuer.
//
// # What is always refused
//
// Algorithms other than RS256, ES256 and EdDSA with Ed25519, and an algorithm that is not the key's own (RFC 8725 §3.1,
// §3.2); crit, whatever it holds (RFC 7515 §4.1.11); a typ other than JWT and at+jwt (RFC 8725 §3.11); a name that
// stands twice in the header or in any object of the claims (RFC 7515 §4, RFC 7519 §4); text that is not UTF-8; tokens
// over 16 KiB; a token without exp, or one that lives longer than Options.MaxLifetime. A claim of those below that is
// present has to be of its type, also where it is optional: null is not absent. The header's jku, x5u, jwk and x5c are
// never looked at (RFC 8725 §3.10). Nothing is logged, and no error holds the token or what a claim says.
//
// # Claims
//
// Beside the registered ones: urn:polycred:person names the person behind a user who is an organisation;
// urn:polycred:permissions, or urn:useparagon:connect:permissions for tokens that exist already, says what the token may
// do; urn:polycred:policy names a policy that says so instead. At most one of the last three may stand in a token.
//
// Users are not told apart by issuer: sub "42" is the same user whoever says it. Configure several issuers only where
// they know the same users under the same ids.
//
// # Revocation
//
// A Verifier is immutable; when keys or issuers of the project change, make a new one and drop the old, and with it
// every verification that it remembered. A verified token is remembered for 5 seconds at most. A key that an issuer
// withdraws is accepted until the set is fetched again: 10 minutes, or an hour while the issuer cannot be reached.
package usertoken
