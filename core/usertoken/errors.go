package usertoken

import (
	"errors"
	"fmt"
)

var (
	// ErrToken: the token is not one that this project accepts, and repeating the call does not help. The text says why,
	// in words that may be shown to the developer who made the token.
	ErrToken = errors.New("user token refused")
	// ErrExpired: the token was refused because its time is over; it is an ErrToken too. It is found before the signature
	// is looked at, so it says nothing about who made the token.
	ErrExpired = fmt.Errorf("%w: it has expired", ErrToken)
	// ErrUnavailable: whether the token is good cannot be told now, because the keys of its issuer could not be fetched.
	// It is not an ErrToken. The text is for the operator: it may name addresses, but no URL.
	ErrUnavailable = errors.New("the keys of the user token's issuer are not available")
)

// refuse returns an ErrToken with its reason.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrToken, fmt.Errorf(format, args...))
}
