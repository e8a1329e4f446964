package core_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// sentinels are the errors that a person may see; that none is missing is for TestCodes to say.
var sentinels = []error{
	core.ErrInvalid, core.ErrNotFound, core.ErrExists, core.ErrConflict, core.ErrInUse, core.ErrDeleting,
	core.ErrAlreadyConnected, core.ErrAmbiguous, core.ErrAccountMismatch, core.ErrAccountConnected, core.ErrExternalID,
	core.ErrSession, core.ErrSessionExpired, core.ErrBrowser, core.ErrDenied,
	core.ErrNotConnected, core.ErrReconnect, core.ErrPending, core.ErrKeyRejected, core.ErrProvider, core.ErrHostNotAllowed,
	core.ErrQuarantined, core.ErrKEKInStore, core.ErrNoTokens, core.ErrClosed,
	storage.ErrFull, context.DeadlineExceeded,
}

// technical are words that a person at the screen has no use for.
var technical = []string{
	"token", "oauth", "http", "url", "json", "api", "refresh", "credential", "selector", "record", "session", "callback", "state", "nonce",
	"engine", "kek", "encryption", "encrypt", "database", "badger", "commit", "revision", "transaction", "timeout", "context", "null", "nil",
	"error", "exception", "failed", "invalid", "status", "provideraccount", "external id", "uuid", "%", "\"", "{", "\n",
}

func TestMessage(t *testing.T) {
	t.Parallel()
	if got := core.Message(nil); got != "" {
		t.Errorf("Message(nil) = %q, want nothing", got)
	}
	general := core.Message(errors.New("canary"))
	seen := map[string]error{general: errors.New("an unknown error")}
	for _, err := range sentinels {
		message := core.Message(err)
		if other, ok := seen[message]; ok {
			t.Errorf("%v has the message of %v, want its own: %s", err, other, message)
		}
		seen[message] = err
		for name, wrapped := range map[string]error{
			"wrapped": fmt.Errorf("refresh credential 0192: %w", err), "joined": errors.Join(io.EOF, err),
			"twice": fmt.Errorf("a: %w", fmt.Errorf("canary: %w", err)),
		} {
			if got := core.Message(wrapped); got != message {
				t.Errorf("Message(%s %v) = %q, want %q", name, err, got, message)
			}
		}
	}
	for message, err := range seen {
		sentences := strings.Split(strings.TrimSuffix(message, "."), ". ")
		if len(sentences) != 2 || !strings.HasSuffix(message, ".") {
			t.Errorf("Message(%v) = %q, want two sentences: what happened, and what to do next", err, message)
			continue
		}
		for _, sentence := range sentences {
			if sentence == "" || sentence[:1] != strings.ToUpper(sentence[:1]) {
				t.Errorf("Message(%v) = %q, want sentences that begin in upper case", err, message)
			}
		}
		for _, word := range technical {
			for _, got := range strings.FieldsFunc(strings.ToLower(message), func(r rune) bool { return r == ' ' || r == '.' || r == ',' }) {
				if got == word || strings.Contains(word, " ") && strings.Contains(strings.ToLower(message), word) || len(word) == 1 && strings.Contains(got, word) {
					t.Errorf("Message(%v) = %q, want it without %q", err, message, word)
				}
			}
		}
	}
}

// The order counts where an error is several things.
func TestMessageOfErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"an InputError", &core.InputError{Field: "canary", Reason: "canary"}, core.ErrInvalid},
		{"an AmbiguousError", &core.AmbiguousError{Integration: "canary"}, core.ErrAmbiguous},
		{"a ProviderError", &core.ProviderError{Integration: "canary", Code: "canary", Reason: "canary"}, core.ErrProvider},
		{"a provider that took too long", errors.Join(context.DeadlineExceeded, core.ErrProvider), core.ErrProvider},
		{"an account that ended", errors.Join(&core.ProviderError{}, core.ErrReconnect), core.ErrReconnect},
		{"no such record in the store", storage.ErrNotFound, io.EOF},
		{"a store that is closed", storage.ErrClosed, io.EOF},
		{"a wrong key", crypto.ErrWrongKEK, io.EOF},
		{"somebody who left", context.Canceled, io.EOF},
		{"nothing known", errors.New("canary"), io.EOF},
	} {
		if got, want := core.Message(tt.err), core.Message(tt.want); got != want || strings.Contains(got, "canary") {
			t.Errorf("%s: Message = %q, want %q", tt.name, got, want)
		}
	}
}
