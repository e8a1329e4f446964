package core

import (
	"context"
	"errors"
	"maps"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/revocation"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// What is to be revoked is decided here, and carried out by package revocation: who disconnects an account does not wait
// for its provider.

func (e *Engine) newRevoker() *revocation.Revoker {
	return revocation.New(revocation.Config{
		Kernel: e.kernel, Records: e.tables.revocations, Due: e.tables.revokes, Do: e.out.Do, Telemetry: e.telemetry,
		Timeout: 2 * e.exchangeTime(), // tokens, secrets, and a live access token first
		Skew:    mostSkew,
		Live:    e.revocationNow, Shared: e.revocationShared, Tell: e.tellRevoked, Code: codeOf,
	})
}

// revokeDue carries out the revocations that are due. It returns when they were tried, or soon after ctx is done or the
// engine closes, and does nothing while another call does the same. Errors are those of the store.
func (e *Engine) revokeDue(ctx context.Context) error {
	if e.quarantined || e.usable() != nil {
		return nil
	}
	done, err := e.begin()
	if err != nil {
		return nil
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.closed, cancel)() // what is cut off is done by the next engine
	if err := e.revoker.Pass(ctx); !e.ending.Load() {
		return err
	}
	return nil
}

// queueRevocation adds to tx that the tokens of a credential are to be revoked at the provider, if it knows how. It does
// not ask the provider. Where the integration cannot say how, an event tells that the tokens were not revoked: an account
// can be disconnected all the same.
func (e *Engine) queueRevocation(ctx context.Context, tx *sealed.Tx, user string, r *credentialRecord) error {
	if r.ClientID == "" || !r.holdsTokens() { // a key is not ours to end
		return nil
	}
	record := revocation.Record{
		ID: newID(), User: user, Credential: r.ID, Integration: r.Integration, ClientID: r.ClientID, Account: revocation.Account(r.Account),
		Variables: maps.Clone(r.Variables), Created: int64(toMillis(e.now())),
		AccessToken: r.AccessToken, ValidUntil: int64(r.ValidUntil), RefreshToken: r.RefreshToken,
	}
	record.Account.Display = ""
	at, _, err := e.revocationEndpoint(ctx, r.Integration, r.ClientID, r.Variables)
	switch {
	case errors.Is(err, revocation.ErrNotRevoked):
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
	e.revoker.Add(tx, &record)
	return nil
}

var errRevocationURL = errors.New("the integration has no revocation URL for this account")

// revocationEndpoint returns how an integration revokes, at this moment, tokens that were given to that client for an
// account with those variables, and the integration where it can be read. Errors: revocation.ErrNotRevoked,
// errRevocationURL, and those of the store.
func (e *Engine) revocationEndpoint(
	ctx context.Context, integration, clientID string, vars map[string]string,
) (*revocation.Endpoint, *provider, error) {
	// Read before the integration, see clientSecrets: those that are set later may be for other hosts.
	secrets, _, err := e.secrets(ctx, integration)
	var p *provider
	if err == nil {
		p, err = e.freshProvider(ctx, integration)
	}
	switch {
	case errors.Is(err, ErrNotFound), damaged(err):
		return nil, nil, errors.Join(errRevocationURL, err)
	case err != nil:
		return nil, nil, err
	case p.OAuth2 == nil, p.revocation == nil, p.OAuth2.Revocation.Style == RevocationNone:
		return nil, p, revocation.ErrNotRevoked
	}
	u, err := p.revocation.Expand(p.withClientID(clientID, vars))
	if err != nil {
		return nil, p, errors.Join(errRevocationURL, valueError(err))
	}
	o := p.OAuth2
	at := &revocation.Endpoint{
		URL: u.String(), Style: string(o.Revocation.Style), Scope: string(o.Revocation.Scope), ClientAuth: string(o.ClientAuth),
		Encoding: string(o.TokenEncoding), Errors: revocation.Codes(o.Errors.codes()), TokenParams: o.TokenParams, TokenPath: o.TokenPath,
	}
	if at.TokenURL, err = p.tokenURL(vars); err != nil {
		at.TokenURL = ""
	}
	if p.isClient(clientID) && o.ClientAuth != ClientAuthNone {
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

// revocationNow is revocation.Config.Live.
func (e *Engine) revocationNow(ctx context.Context, r *revocation.Record) (*revocation.Endpoint, error) {
	at, p, err := e.revocationEndpoint(ctx, r.Integration, r.ClientID, r.Variables)
	var newer *sealed.FormatError
	switch {
	case errors.Is(err, errRevocationURL), errors.As(err, &newer):
		return nil, nil
	case err != nil && !errors.Is(err, revocation.ErrNotRevoked):
		return nil, err
	case !p.isClient(r.ClientID):
		return nil, nil
	}
	return at, err
}

// revocationShared is revocation.Config.Shared. The last account to go has a revocation of its own, so nothing is lost by
// doing nothing; and whoever connects the account again before this is carried out keeps it.
func (e *Engine) revocationShared(ctx context.Context, r *revocation.Record, whole bool) (bool, error) {
	touches := func(c *credentialRecord) bool {
		return whole || same(r.RefreshToken, c.RefreshToken) || same(r.AccessToken, c.AccessToken)
	}
	account := ProviderAccount(r.Account)
	for holder, err := range e.grantHolders(ctx, r.ClientID, account) {
		if damaged(err) {
			continue
		} else if err != nil {
			return false, err
		}
		if touches(holder.credentialRecord) {
			return true, nil
		}
	}
	if account.Known() {
		return false, nil
	}
	// Unknown equals nothing; but that the same credential was connected again says enough.
	record, _, err := e.tables.credentials.Get(ctx, r.User, r.Credential)
	switch {
	case errors.Is(err, storage.ErrNotFound), damaged(err):
		return false, nil
	case err != nil:
		return false, err
	}
	return record.ClientID == r.ClientID && record.holdsTokens() && touches(&record), nil
}

// same reports whether two secrets are there and equal.
func same(a, b crypto.Secret) bool { return !a.IsZero() && a.Equal(b) }

// resultMisconfigured is the result of a revocation that cannot be asked for; package revocation has the others.
const resultMisconfigured = "misconfigured"

// tellRevoked adds to tx how the revocation of a record ended.
func (e *Engine) tellRevoked(tx *sealed.Tx, r *revocation.Record, result string, details map[string]string) {
	e.kernel.Emit(tx, kernel.Event{
		Kind: string(EventRevoked), Actor: string(ActorEngine), User: r.User, Integration: r.Integration, Credential: r.Credential,
		Cause: "revocation", Result: result, Details: details,
	})
}

// revokeAnswer queues the revocation of tokens that nobody can use any more: what a refresh answered for an account that
// was disconnected, or whose tokens were given back, before the answer could be stored. Until the store takes that, the
// answer is kept as one that is not stored yet, and comes here again.
func (e *Engine) revokeAnswer(ctx context.Context, user string, k *unsaved) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	late := *k.of
	late.AccessToken, late.ValidUntil = k.answer.AccessToken, 0
	if k.answer.Lifetime > 0 {
		late.ValidUntil = toMillis(k.at.Add(k.answer.Lifetime))
	}
	if late.RefreshToken = k.answer.RefreshToken; late.RefreshToken.IsZero() {
		late.RefreshToken = k.spent.RefreshToken
	}
	key := flightKey(user, late.ID)
	for try := 0; ; try++ {
		tx := e.db.Begin(ctx)
		err := e.queueRevocation(ctx, tx, user, &late)
		if err == nil {
			err = e.kernel.Commit(ctx, tx)
		}
		switch {
		case err == nil:
			e.unsaved.Delete(key)
			return
		case conflicted(err) && again(ctx, try) == nil:
			continue
		}
		told := k.gone
		k.err, k.gone = err, true
		e.unsaved.Store(key, *k)
		if !told {
			e.log.ErrorContext(ctx, "tokens that came after their account was disconnected could not be queued for revocation yet",
				"credential", late.ID, "integration", late.Integration, "error", err)
		}
		return
	}
}
