package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/crypto"
)

// maxKey is the most bytes that an API key may have.
const maxKey = 32 << 10

// KeyInput says which account is to be connected with which key.
type KeyInput struct {
	Integration   string            // its name; it has to be one with APIKey
	Key           crypto.Secret     // as the person copied it; surrounding space is cut off
	AllowMultiple bool              // as in ConnectInput
	Into          string            // as in ConnectInput
	ExternalID    string            // as in ConnectInput
	Label         string            // as in ConnectInput
	Variables     map[string]string // as in ConnectInput
}

// AddKey connects an account with an API key and returns its credential. The key is tried at APIKey.TestURL first and
// stored only when the provider accepts it; the rules are those of Connect.
//
// Errors: InputError, ErrKeyRejected, ProviderError, ErrNotFound, ErrDeleting, ErrDisabled for a user who is, ErrConflict
// when the integration became one with OAuth meanwhile, ErrAlreadyConnected, AmbiguousError, ErrAccountMismatch,
// ErrAccountConnected, ErrExternalID, ErrTooMany when the integration says SameAccountAllow and this account is connected
// as often as that lets it be, ErrPermission, ErrHiddenConflict.
func (u *User) AddKey(ctx context.Context, in KeyInput) (Credential, error) {
	record, err := u.addKey(ctx, in)
	if err != nil {
		return Credential{}, fmt.Errorf("add key for %s: %w", clip(in.Integration), err)
	}
	return record.public(u.id), nil
}

func (u *User) addKey(ctx context.Context, in KeyInput) (credentialRecord, error) {
	var none credentialRecord
	done, err := u.e.begin()
	if err != nil {
		return none, err
	}
	defer done()
	if err := u.check(); err != nil {
		return none, err
	}
	p, err := u.e.freshProvider(ctx, in.Integration)
	switch {
	case err != nil:
		return none, err
	case p.APIKey == nil:
		return none, invalid("integration", "is connected over OAuth: call Connect")
	}
	record, err := traced(ctx, u.e, telemetry.SpanKey, p.Name, func(ctx context.Context) (credentialRecord, error) {
		return u.addKeyOf(ctx, p, in)
	})
	u.e.telemetry.Connected(ctx, p.Name, connectResult(err))
	return record, err
}

// addKeyOf is addKey once the integration is known.
func (u *User) addKeyOf(ctx context.Context, p *provider, in KeyInput) (credentialRecord, error) {
	var none credentialRecord
	key := strings.TrimSpace(in.Key.Reveal())
	switch {
	case key == "":
		return none, invalid("key", "is empty")
	case len(key) > maxKey:
		return none, invalid("key", "is too long")
	case strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r > 0x7e }):
		return none, invalid("key", "has characters that no header may carry: copy it again")
	}
	g := &grant{key: true, access: crypto.NewSecret(key)}
	if err := p.checkGiven(in.Variables); err != nil {
		return none, err
	}
	var err error
	if g.wish, err = u.wish(ctx, p, asked{in.AllowMultiple, in.Into, in.ExternalID, in.Label}); err != nil {
		return none, err
	}
	if g.variables, err = u.variables(ctx, p, &g.wish, in.Variables); err != nil {
		return none, err
	}
	g.account, err = traced(ctx, u.e, telemetry.SpanIdentify, p.Name, func(ctx context.Context) (ProviderAccount, error) {
		return u.e.tryKey(ctx, p, g)
	})
	if err != nil {
		return none, err
	}
	return u.e.commit(ctx, g, nil)
}

// tryKey makes the live test call and finds out whose key it is.
func (e *Engine) tryKey(ctx context.Context, p *provider, g *grant) (ProviderAccount, error) {
	var none ProviderAccount
	u, err := p.test.Expand(g.variables)
	if err != nil {
		return none, valueError(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return none, p.problem("test", FailurePermanent, "the test URL cannot be called")
	}
	p.inject(req, g.access)
	req.Header.Set("Accept", "application/json")
	fields, err := e.ask(ctx, p, "test", req)
	var failed *ProviderError
	if errors.As(err, &failed) {
		switch {
		case failed.Status == http.StatusUnauthorized || failed.Status == http.StatusForbidden:
			return none, fmt.Errorf("%s: %w (status %d)", p.Name, ErrKeyRejected, failed.Status)
		case failed.Status >= 200 && failed.Status < 300 && p.Integration.Identity.Source != IdentityTest:
			err = nil // accepted; only the status was needed
		}
	}
	if err != nil {
		return none, err
	}
	switch p.Integration.Identity.Source {
	case IdentityTest:
		return p.account(fields, u.Host)
	case IdentityURL:
		fields, host, err := e.whoAmI(ctx, p, g.access, g.variables)
		if err != nil {
			return none, err
		}
		return p.account(fields, host)
	default:
		return none, nil
	}
}
