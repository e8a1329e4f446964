// Package permission decides what a user token may do: it parses the permissions of a token, answers questions about them,
// and says why.
//
// [ParseJSON] and [Parse] turn a claim into a [Set], [ParsePolicy] turns an operator's document into a [Policy], whose Fill
// makes a Set of it and of a token's claims. [Set.Allows] answers for one [Target], [Set.Explain] says why, [Set.Any] and
// [Set.Reaches] are the coarse check before anything is read. A token without a claim has the permissions of [All]; a nil
// *Set allows nothing, so that a forgotten error does not open everything.
//
// # The claim
//
// A claim is an object, or a text that holds one in JSON. Its keys are scopes. The value of a scope is
//
//   - true: every permission that the scope accepts, but never credential:token, which is granted by name only;
//   - a list of permissions: exactly these;
//   - false, an empty list or an empty object: nothing;
//   - an object of narrower scopes: to the scope itself it grants nothing.
//
// Scopes stand inside each other, in three levels and no other way, from broad to specific:
//
//	integration:*                at the top
//	integration:<name>           at the top
//	credential:*                 inside an integration scope
//	credential:owner             inside an integration scope: what the token's person connected
//	credential:ext:<id>          inside an integration scope
//	credential:<uuid>            inside an integration scope
//	configuration:*              inside a credential scope
//	configuration:ext:<id>       inside a credential scope
//
// External ids stand there as they are stored: without blanks around them, and with "ext:" once. An external id "*", or one
// that contains "{{", "}}" or the character U+FFFD, cannot be named, nor can a configuration without external id.
//
// Permissions are in this table; what others call them is accepted as well.
//
//	permission           accepted in                            also called
//	credential:read      every scope
//	credential:write     integration and credential scopes
//	credential:token     integration and credential scopes
//	configuration:read   every scope
//	configuration:write  every scope
//	user:write           integration:*
//	proxy                every scope                            proxy:request, proxy_api
//	event                every scope                            event:send, app_event
//	workflow             every scope                            workflow:run, workflow:trigger
//	actionkit            every scope                            actionkit:run
//	sync                 every scope                            managed_sync
//
// # The decision
//
// At each level the most specific scope that matches the target is taken, in the order of the table of scopes from below:
// a credential's UUID before its external id, that before its owner, that before all. Only the scope taken counts: it
// replaces what broader ones say, with all that they hold, and nothing is added up. What lies below a scope with true or a
// list inherits that. Where a scope holds narrower scopes and none of them matches, nothing is allowed, nor where no scope
// matches at all.
//
// A credential that is about to be created has no UUID. It is matched by the external id it will have, by its owner, who is
// the person of the token, and by credential:*, so that credential:owner with credential:write includes connecting.
//
// Anything else is refused with an [Error], never ignored: an unknown scope or permission, a scope or permission where it
// means nothing, a scope twice, a claim above 16 KiB or with more than 1,000 scopes.
//
// The package is pure: it does no I/O and keeps nothing. Sets and Policies are immutable; all functions may be called
// concurrently. The names of scopes and permissions are for ever: tokens, sessions and policies hold them.
package permission
