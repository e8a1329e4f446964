// Package oauth speaks to token endpoints: the authorization code grant and the refresh of RFC 6749 with RFC 7636; and to
// revocation endpoints, of RFC 7009 and others. It knows what providers answer in place of what those say, and nothing of
// users and accounts.
//
// An answer that cannot be used is an *Error with a Class, and never carries what the provider wrote.
package oauth
