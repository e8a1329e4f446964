package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// maxCandidates is how many accounts an AmbiguousError names.
const maxCandidates = 20

// wish is what was asked for when an account began to be connected.
type wish struct {
	user, integration string
	owner             string
	allowMultiple     bool
	into              string // a credential id
	externalID        string // clean
}

// grant is an authorisation that was given: a wish, and what the provider answered.
type grant struct {
	wish
	key             bool // given by an API key, not over OAuth
	account         ProviderAccount
	variables       map[string]string
	scopes          []string
	clientID        string // empty for an API key
	access, refresh crypto.Secret
	tokenType       string
	lifetime        time.Duration // 0: no known end
	session         string        // key of the connect session it came by; empty for an API key
}

func (r *sessionRecord) wish() wish {
	return wish{
		user: r.User, integration: r.Integration, owner: r.Owner,
		allowMultiple: r.AllowMultiple, into: r.Into, externalID: r.ExternalID,
	}
}

// wish checks what is asked for against the accounts there are, so that nobody is sent to a provider in vain.
func (u *User) wish(ctx context.Context, p *provider, allowMultiple bool, into, externalID string) (wish, error) {
	w := wish{user: u.id, integration: p.Name, owner: u.person, allowMultiple: allowMultiple}
	var err error
	switch {
	case p.deleting:
		return w, fmt.Errorf("integration %s: %w", p.Name, ErrDeleting)
	case into != "" && externalID != "":
		return w, invalid("externalId", "cannot be given together with into: it labels a new account")
	case externalID != "":
		if w.externalID, err = cleanExternalID(externalID); err != nil {
			return w, err
		}
	case into != "":
		if w.into, err = u.resolve(ctx, p.Name, into); err != nil {
			return w, err
		}
	}
	target, err := u.e.target(ctx, &w)
	if err != nil || w.externalID == "" {
		return w, err
	}
	holder, _, err := u.e.externalHolder(ctx, &w)
	if err == nil && holder != "" && holder != target {
		err = fmt.Errorf("%w: %q is another account of this user; connect into %q instead, or choose another", ErrExternalID, w.externalID, externalPrefix+w.externalID)
	}
	return w, err
}

// target applies rules 1 to 3 before it is known which account answers: the credential that is to be authorised anew, or
// "" for a new one.
func (e *Engine) target(ctx context.Context, w *wish) (string, error) {
	if w.into != "" {
		record, _, err := e.credential(ctx, w.user, w.into)
		if err == nil && record.Integration != w.integration {
			err = fmt.Errorf("credential %s: %w at %s", w.into, ErrNotFound, w.integration)
		}
		return w.into, err
	}
	if w.allowMultiple {
		return "", nil
	}
	var ended []Credential
	for row, err := range e.accounts(ctx, w.user, w.integration) {
		if err != nil {
			return "", err
		}
		if row.Status != StatusInvalid { // pending counts as valid
			return "", fmt.Errorf("%w: credential %s; ask for AllowMultiple to add another account, or connect into this one", ErrAlreadyConnected, row.ID)
		}
		if ended = append(ended, row.public(w.user)); len(ended) > maxCandidates {
			break
		}
	}
	switch len(ended) {
	case 0:
		return "", nil
	case 1:
		return ended[0].ID, nil
	default:
		return "", &AmbiguousError{Integration: w.integration, Candidates: ended[:min(len(ended), maxCandidates)]}
	}
}

// commit applies the rules to an answer and stores the account, all in one Apply, together with what also adds. A change
// by somebody else in between is not an error: the rules are applied again to what is there then.
func (e *Engine) commit(ctx context.Context, g *grant, also func(tx *sealed.Tx, credential string)) (credentialRecord, error) {
	for try := 0; ; try++ {
		record, err := e.tryCommit(ctx, g, also)
		if !conflicted(err) {
			return record, err
		}
		if g.session != "" && e.tables.sessions.Conflicted(err, g.session) {
			return record, fmt.Errorf("%w: it ended in the meantime; start again", ErrSession)
		}
		if err := pause(ctx, rand.N(time.Duration(min(try, 20)+1)*time.Millisecond)); err != nil {
			return record, err
		}
	}
}

func (e *Engine) tryCommit(ctx context.Context, g *grant, also func(*sealed.Tx, string)) (credentialRecord, error) {
	var none credentialRecord
	p, err := e.freshProvider(ctx, g.integration)
	switch {
	case err != nil:
		return none, err
	case p.deleting:
		return none, fmt.Errorf("integration %s: %w", g.integration, ErrDeleting)
	case g.key && p.APIKey == nil:
		return none, fmt.Errorf("integration %s: %w", g.integration, ErrConflict)
	case !g.key && p.OAuth2 == nil:
		return none, fmt.Errorf("%w: the integration was changed; start again", ErrSession)
	}
	roster, rosterRev, err := e.tables.rosters.Get(ctx, g.user, g.integration)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return none, err
	}
	claims, err := e.claimsOf(ctx, &g.wish, g.account)
	if err != nil {
		return none, err
	}
	target, err := e.targetOf(ctx, p, g, claims)
	if err != nil {
		return none, err
	}

	var record credentialRecord
	var rev storage.Rev
	if target != "" {
		if record, rev, err = e.credential(ctx, g.user, target); err != nil {
			return none, err
		}
	} else {
		record = credentialRecord{Owner: g.owner, Created: toMillis(e.now())}
		record.ID, record.Integration = newID(), g.integration
	}
	old := record
	tx := e.db.Begin(ctx)
	if err := e.moveClaims(ctx, tx, p, g, &old, rev, claims); err != nil {
		return none, err
	}
	if err := e.setExternalID(ctx, tx, g, &record); err != nil {
		return none, err
	}
	record.authorise(g, e.now())

	e.tables.integrations.Check(tx, p.rev, p.Name)
	e.tables.credentials.Put(tx, &record, rev, g.user, record.ID)
	if rev == 0 {
		roster.Count++
		e.tables.byUser.Mark(tx, g.user, g.integration, record.ID)
		e.tables.byIntegration.Mark(tx, g.integration, record.ID, g.user)
	}
	e.tables.rosters.Put(tx, &roster, rosterRev, g.user, g.integration)
	if also != nil {
		also(tx, record.ID)
	}
	return record, tx.Commit(ctx)
}

// targetOf is target once it is known which account answered: rule 4 comes in.
func (e *Engine) targetOf(ctx context.Context, p *provider, g *grant, claims []claim) (string, error) {
	target, err := e.target(ctx, &g.wish)
	if err != nil || target != "" || len(holders(claims)) == 0 {
		return target, err
	}
	switch p.SameAccount {
	case SameAccountReject:
		return "", fmt.Errorf("%w: it is credential %s", ErrAccountConnected, holders(claims)[0])
	case SameAccountAllow:
		return "", nil
	default:
		return holders(claims)[0], nil
	}
}

// claim is the record that says which credentials stand for a provider account, under one live key of the index.
type claim struct {
	key    string
	record claimRecord
	rev    storage.Rev
}

// claimsOf reads the claims on an account; none when it is unknown.
func (e *Engine) claimsOf(ctx context.Context, w *wish, account ProviderAccount) ([]claim, error) {
	if !account.Known() {
		return nil, nil
	}
	tokens, err := e.db.Lookup(ctx, "account", w.integration, account.Issuer, account.Tenant, account.Subject)
	if err != nil {
		return nil, err
	}
	keys := make([][]string, len(tokens))
	for i, token := range tokens {
		keys[i] = []string{w.user, w.integration, token}
	}
	rows, err := e.tables.claims.GetMany(ctx, keys)
	if err != nil {
		return nil, err
	}
	claims := make([]claim, len(rows))
	for i, row := range rows {
		claims[i] = claim{key: tokens[i], record: row.Value, rev: row.Rev}
	}
	return claims, nil
}

// holders are the credentials that any of the claims names, oldest first.
func holders(claims []claim) []string {
	var ids []string
	for _, c := range claims {
		for _, id := range c.record.Credentials {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// putClaims adds to tx that exactly these credentials hold the claims.
func (e *Engine) putClaims(tx *sealed.Tx, w *wish, claims []claim, ids []string) {
	for _, c := range claims {
		switch {
		case len(ids) > 0:
			e.tables.claims.Put(tx, &claimRecord{Credentials: ids}, c.rev, w.user, w.integration, c.key)
		case c.rev != 0:
			e.tables.claims.Delete(tx, c.rev, w.user, w.integration, c.key)
		}
	}
}

// moveClaims makes the credential a holder of the account that answered, after rule 3 allowed that it is another one
// than before.
func (e *Engine) moveClaims(ctx context.Context, tx *sealed.Tx, p *provider, g *grant, old *credentialRecord, rev storage.Rev, claims []claim) error {
	before := ProviderAccount(old.Account)
	if rev != 0 && before.Known() && !before.Same(g.account) {
		others := slices.DeleteFunc(holders(claims), func(id string) bool { return id == old.ID })
		switch {
		case len(others) > 0:
			return fmt.Errorf("%w: it is connected already, as credential %s", ErrAccountMismatch, others[0])
		case p.OtherAccount != OtherAccountReplace:
			return fmt.Errorf("%w than the one of credential %s", ErrAccountMismatch, old.ID)
		}
		if err := e.dropClaims(ctx, tx, &g.wish, old); err != nil {
			return err
		}
	}
	if rev != 0 && !before.Known() && len(holders(claims)) > 0 && p.SameAccount != SameAccountAllow {
		return fmt.Errorf("%w: it is connected already, as credential %s", ErrAccountMismatch, holders(claims)[0])
	}
	ids := holders(claims)
	if !slices.Contains(ids, old.ID) {
		ids = append(ids, old.ID)
	}
	e.putClaims(tx, &g.wish, claims, ids)
	return nil
}

// dropClaims takes a credential off the claims on its account.
func (e *Engine) dropClaims(ctx context.Context, tx *sealed.Tx, w *wish, record *credentialRecord) error {
	claims, err := e.claimsOf(ctx, w, ProviderAccount(record.Account))
	if err != nil {
		return err
	}
	e.putClaims(tx, w, claims, slices.DeleteFunc(holders(claims), func(id string) bool { return id == record.ID }))
	return nil
}

// externalHolder returns the credential that an external id means, "" when it is free, with its claims.
func (e *Engine) externalHolder(ctx context.Context, w *wish) (string, []sealed.Row[externalIDRecord], error) {
	keys, err := e.externalKeys(ctx, w.user, w.integration, w.externalID)
	if err != nil {
		return "", nil, err
	}
	rows, err := e.tables.externalIDs.GetMany(ctx, keys)
	if err != nil {
		return "", nil, err
	}
	for _, row := range rows {
		if row.Rev != 0 {
			return row.Value.Credential, rows, nil
		}
	}
	return "", rows, nil
}

func (e *Engine) externalKeys(ctx context.Context, user, integration, externalID string) ([][]string, error) {
	tokens, err := e.db.Lookup(ctx, "external id", integration, externalID)
	if err != nil {
		return nil, err
	}
	keys := make([][]string, len(tokens))
	for i, token := range tokens {
		keys[i] = []string{user, integration, token}
	}
	return keys, nil
}

// setExternalID labels the credential (rules 4 and 5).
func (e *Engine) setExternalID(ctx context.Context, tx *sealed.Tx, g *grant, record *credentialRecord) error {
	switch {
	case g.externalID == "" || g.externalID == record.ExternalID:
		return nil
	case record.ExternalID != "":
		return fmt.Errorf("%w: this account is connected as %q, not %q", ErrExternalID, record.ExternalID, g.externalID)
	}
	holder, rows, err := e.externalHolder(ctx, &g.wish)
	if err != nil {
		return err
	}
	if holder != "" && holder != record.ID {
		return fmt.Errorf("%w: %q is another account of this user", ErrExternalID, g.externalID)
	}
	for _, row := range rows {
		e.tables.externalIDs.Put(tx, &externalIDRecord{Credential: record.ID}, row.Rev, row.Key...)
	}
	record.ExternalID = g.externalID
	return nil
}

// authorise writes an authorisation into a credential, new or there before.
func (r *credentialRecord) authorise(g *grant, now time.Time) {
	same := ProviderAccount(r.Account).Same(g.account)
	r.Status, r.Scopes, r.Variables, r.ClientID = StatusValid, g.scopes, g.variables, g.clientID
	r.Account = accountRecord(g.account)
	r.AccessToken, r.TokenType = g.access, g.tokenType
	r.Refreshed, r.ValidUntil, r.Updated = toMillis(now), 0, toMillis(now)
	if g.lifetime > 0 {
		r.ValidUntil = toMillis(now.Add(g.lifetime))
	}
	// Some providers give a refresh token only the first time an account consents; the one we have stays good then.
	if !g.refresh.IsZero() || !same {
		r.RefreshToken = g.refresh
	}
	r.PreviousRefreshToken, r.PreviousUntil = crypto.Secret{}, 0
	r.Intent, r.Failures, r.LastFailure, r.NextAttempt = nil, 0, FailureNone, 0
}

func cloneMap(m map[string]string) map[string]string {
	clone := make(map[string]string, len(m))
	maps.Copy(clone, m)
	return clone
}
