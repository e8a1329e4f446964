// Package httpapi serves an engine's HTTP API: the one that the public browser SDK @useparagon/connect speaks, and that
// REST clients of the same form use. New returns one http.Handler for all of it, to be mounted at the root of a server whose
// public URL is Options.PublicURL.
//
// Every request shows a user token (Engine.Authenticate) and can do no more than that says: handlers hold a *core.User and
// nothing else. What is not visible to a token reads as what does not exist, in the same words.
//
//   - The users API: who am I, which integrations and accounts there are, connecting, settings, disconnecting.
//   - The Proxy API: requests to a provider's API as one account.
//   - The pages of an OAuth flow: the window that opens, the hop to the provider, the callback.
//
// docs/http-api.md has the routes, and how to move an existing front end to them.
//
// # Which account is meant
//
// A call that uses or manages an account takes X-Paragon-Credential and X-Paragon-Configuration-Id, or
// X-Polycred-Credential and X-Polycred-Configuration: a credential's UUID, its external id, or "ext:" and its external id.
// Without one the only account is meant; several are 409, with the candidates. Where the path or the body names the account
// the header is ignored.
//
// # Errors
//
// An error is JSON: {"message", "code", "status", "meta": {"requestId"}}. The message is for people; the code is the one that
// core.Message's table has, or "7210" for what the token may not do, which the SDK knows. 401 says that the token is not
// accepted, 403 that it may not do this.
package httpapi
