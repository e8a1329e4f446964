// Package input is about typed inputs: what an integration asks a person for, and the values that were given. The settings
// of a configuration and what sets an account up are both declared this way.
//
// An [Input] declares one value, its [Type] says what the value is. [Check] checks declarations, [Merge] applies a change
// to [Values], and [Shown] tells what of them may be read.
//
// Passwords lie apart from the other values, each a crypto.Secret, and [Shown] only says which are set. A mistake is an
// [Error] that names its field and never shows what was given.
//
// The package is pure: it stores nothing, asks nobody and changes nothing that it is given. All functions may be called
// concurrently. What Input, Option and the Types are called in JSON and CBOR is for ever: integrations are stored with them.
package input
