package core

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/sealed"
)

// Who disconnects an account does not wait for its provider: what is to be revoked is a record, stored in the same Apply,
// which the engine carries out in the background, see revokeDue. It holds all that this takes, because credential and
// integration may be gone by then.

// revocationRecord is a grant that the provider is to be told to end.
type revocationRecord struct {
	ID          string            `cbor:"1,keyasint"`
	User        string            `cbor:"2,keyasint"`
	Credential  string            `cbor:"3,keyasint"`
	Integration string            `cbor:"4,keyasint"`
	ClientID    string            `cbor:"5,keyasint"` // that the grant was given to
	Account     accountRecord     `cbor:"6,keyasint"` // whose grant it is, without Display
	Variables   map[string]string `cbor:"7,keyasint,omitempty"`
	Created     millis            `cbor:"8,keyasint"`

	Attempts    int          `cbor:"10,keyasint,omitempty"` // begun
	LastFailure FailureClass `cbor:"11,keyasint,omitempty"`
	FailureCode string       `cbor:"12,keyasint,omitempty"`
	Due         due.Minute   `cbor:"13,keyasint"` // where its entry in the due queue stands

	AccessToken  crypto.Secret `cbor:"20,keyasint"`
	ValidUntil   millis        `cbor:"21,keyasint,omitempty"`
	RefreshToken crypto.Secret `cbor:"22,keyasint"`           // empty once it is known to be dead
	RefreshEnded bool          `cbor:"23,keyasint,omitempty"` // the provider has ended the refresh token

	Endpoint revocationEndpoint `cbor:"30,keyasint"` // as it was when the record was made
}

// revocationEndpoint is where and how the tokens of one account are given back.
type revocationEndpoint struct {
	URL        string          `cbor:"1,keyasint"` // expanded
	Style      RevocationStyle `cbor:"2,keyasint,omitempty"`
	Scope      RevocationScope `cbor:"3,keyasint,omitempty"`
	ClientAuth ClientAuth      `cbor:"4,keyasint,omitempty"`
	Encoding   TokenEncoding   `cbor:"5,keyasint,omitempty"`
	Errors     TokenErrors     `cbor:"6,keyasint,omitempty"`
	Secrets    []crypto.Secret `cbor:"7,keyasint,omitempty"` // of the client, the one to use first in front

	// Where a live access token comes from, for styles that need one. Expanded; empty: from nowhere.
	TokenURL    string            `cbor:"10,keyasint,omitempty"`
	TokenParams map[string]string `cbor:"11,keyasint,omitempty"`
	TokenPath   string            `cbor:"12,keyasint,omitempty"`
}

// queueRevocation adds to tx that the tokens of a credential are to be revoked at the provider, if it knows how. It does
// not ask the provider. Where the integration cannot say how, an event tells that the tokens were not revoked: an account
// can be disconnected all the same.
func (e *Engine) queueRevocation(ctx context.Context, tx *sealed.Tx, user string, r *credentialRecord) error {
	if r.ClientID == "" || !r.holdsTokens() { // a key is not ours to end
		return nil
	}
	record := revocationRecord{
		ID: newID(), User: user, Credential: r.ID, Integration: r.Integration, ClientID: r.ClientID, Account: r.Account,
		Variables: maps.Clone(r.Variables), Created: toMillis(e.now()),
		AccessToken: r.AccessToken, ValidUntil: r.ValidUntil, RefreshToken: r.RefreshToken,
	}
	record.Account.Display = ""
	at, _, err := e.revocationEndpoint(ctx, &record)
	switch {
	case errors.Is(err, errNotRevoked):
		return nil
	case errors.Is(err, errRevocationURL):
		e.log.WarnContext(ctx, "tokens cannot be revoked: the integration does not say how",
			"credential", r.ID, "integration", r.Integration, "error", err)
		e.tellRevoked(tx, &record, resultMisconfigured, nil)
		return nil
	case err != nil:
		return err
	}
	record.Endpoint = *at
	record.Due = e.tables.revokes.Move(tx, 0, due.At(e.now()), record.ID)
	e.tables.revocations.Put(tx, &record, 0, record.ID)
	return nil
}

var (
	errNotRevoked    = errors.New("the integration does not revoke tokens")
	errRevocationURL = errors.New("the integration has no revocation URL for this account")
)

// revocationEndpoint returns how the integration revokes the tokens of a record at this moment, and the integration where
// it can be read. Errors: errNotRevoked, errRevocationURL, and those of the store.
func (e *Engine) revocationEndpoint(ctx context.Context, r *revocationRecord) (*revocationEndpoint, *provider, error) {
	// Read before the integration, see clientSecrets: those that are set later may be for other hosts.
	secrets, _, err := e.secrets(ctx, r.Integration)
	var p *provider
	if err == nil {
		p, err = e.freshProvider(ctx, r.Integration)
	}
	switch {
	case errors.Is(err, ErrNotFound), damaged(err):
		return nil, nil, errors.Join(errRevocationURL, err)
	case err != nil:
		return nil, nil, err
	case p.OAuth2 == nil, p.revocation == nil, p.OAuth2.Revocation.Style == RevocationNone:
		return nil, p, errNotRevoked
	}
	u, err := p.revocation.Expand(p.withClientID(r.ClientID, r.Variables))
	if err != nil {
		return nil, p, errors.Join(errRevocationURL, valueError(err))
	}
	o := p.OAuth2
	at := &revocationEndpoint{
		URL: u.String(), Style: o.Revocation.Style, Scope: o.Revocation.Scope, ClientAuth: o.ClientAuth, Encoding: o.TokenEncoding,
		Errors: o.Errors, TokenParams: o.TokenParams, TokenPath: o.TokenPath,
	}
	if at.TokenURL, err = p.tokenURL(r.Variables); err != nil {
		at.TokenURL = ""
	}
	if p.isClient(r.ClientID) && o.ClientAuth != ClientAuthNone {
		at.Secrets = secrets
	}
	return at, p, nil
}

// isClient reports whether an integration is about that OAuth client.
func (p *provider) isClient(id string) bool { return p.OAuth2 != nil && p.OAuth2.ClientID == id }

// withClientID are the values for a revocation URL: in it {client_id} is the client, unless accounts have a variable of
// that name.
func (p *provider) withClientID(clientID string, vars map[string]string) map[string]string {
	values := cloneMap(vars)
	if _, declared := p.values["client_id"]; !declared {
		values["client_id"] = clientID
	}
	return values
}

// endpointOf returns where to revoke the tokens of a record: as the integration says now, if that is about the same client
// at the same hosts, else as it was said before. Errors: errNotRevoked, when the operator does not want it any more, and
// those of the store.
func (e *Engine) endpointOf(ctx context.Context, r *revocationRecord) (*revocationEndpoint, error) {
	before := r.Endpoint
	now, p, err := e.revocationEndpoint(ctx, r)
	var newer *sealed.FormatError
	switch {
	case errors.Is(err, errRevocationURL), errors.As(err, &newer):
		return &before, nil
	case err != nil && !errors.Is(err, errNotRevoked):
		return nil, err
	case !p.isClient(r.ClientID):
		return &before, nil
	case err != nil:
		return nil, err
	case origin(now.URL) != origin(before.URL), origin(now.TokenURL) != origin(before.TokenURL):
		return &before, nil
	}
	for _, secret := range before.Secrets { // last: it may be dead, or the only one that the provider knows yet
		if !slices.ContainsFunc(now.Secrets, secret.Equal) {
			now.Secrets = append(slices.Clip(now.Secrets), secret)
		}
	}
	return now, nil
}

// origin is scheme, host and port of a URL of ours.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// ask returns the endpoint for requests to raw, one of its URLs.
func (at *revocationEndpoint) ask(e *Engine, raw, clientID string) *oauth.Endpoint {
	auth := oauth.Basic
	if at.ClientAuth != "" {
		auth = oauth.Auth(at.ClientAuth)
	}
	return &oauth.Endpoint{
		URL: raw, ClientID: clientID, Secrets: at.Secrets, Auth: auth, Params: at.TokenParams,
		JSON: at.Encoding == TokenJSON, TokenPath: strings.TrimPrefix(at.TokenPath, "."), Codes: at.Errors.codes(),
		Do: e.out.Do, Now: e.now,
	}
}

func (c *TokenErrors) codes() oauth.Codes {
	return oauth.Codes{
		Permanent: c.Permanent, Transient: c.Transient, RateLimited: c.RateLimited, Path: c.CodePath, OKPath: c.OKStatusErrorPath,
	}
}

// Results of revocations that nobody was asked for.
const (
	resultMisconfigured = "misconfigured"
	resultNotRevoked    = "not_revoked"
)

// tellRevoked adds to tx how the revocation of a record ended.
func (e *Engine) tellRevoked(tx *sealed.Tx, r *revocationRecord, result string, details map[string]string) {
	e.kernel.Emit(tx, kernel.Event{
		Kind: string(EventRevoked), Actor: string(ActorEngine), User: r.User, Integration: r.Integration, Credential: r.Credential,
		Cause: "revocation", Result: result, Details: details,
	})
}

// revokeAnswer queues the revocation of tokens that came too late: what a refresh answered for an account that was
// disconnected, or whose tokens were given back, while the provider was being asked. R is the account as the refresh
// began with it.
func (e *Engine) revokeAnswer(ctx context.Context, user string, r *credentialRecord, k *unsaved) {
	late := *r
	late.AccessToken, late.ValidUntil = k.answer.AccessToken, 0
	if k.answer.Lifetime > 0 {
		late.ValidUntil = toMillis(k.at.Add(k.answer.Lifetime))
	}
	if late.RefreshToken = k.answer.RefreshToken; late.RefreshToken.IsZero() {
		late.RefreshToken = k.spent.RefreshToken
	}
	for try := 0; ; try++ {
		tx := e.db.Begin(ctx)
		err := e.queueRevocation(ctx, tx, user, &late)
		if err == nil {
			err = e.kernel.Commit(ctx, tx)
		}
		if conflicted(err) && again(ctx, try) == nil {
			continue
		}
		if err != nil {
			e.log.ErrorContext(ctx, "tokens that came after their account was disconnected could not be queued for revocation",
				"credential", r.ID, "integration", r.Integration, "error", err)
		}
		return
	}
}
