package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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

// authorise writes an authorisation into a credential, new or there before.
func (r *credentialRecord) authorise(g *grant, now time.Time) {
	same := ProviderAccount(r.Account).Same(g.account) && r.ClientID == g.clientID
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
