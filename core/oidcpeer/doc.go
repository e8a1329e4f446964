// Package oidcpeer holds no code, only tests: package core connects and refreshes accounts at an OpenID provider that
// nobody here wrote, the op package of github.com/zitadel/oidc with the storage, the users and the login form of its
// example server. It is a module of its own so that the provider's dependencies stay out of polycred's go.mod.
//
// What these tests know of the provider they have from its discovery document. Tokens run out by the engine's clock
// alone, which is moved; the provider goes by real time.
package oidcpeer
