package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// maxCandidates is how many accounts an AmbiguousError names.
const maxCandidates = 20

// wish is what was asked for when an account began to be connected.
type wish struct {
	by                *User // with what it may
	user, integration string
	allowMultiple     bool
	into              string // a credential id
	externalID        string // clean
	label             string // clean
	known             bool   // the user had a record when this was asked for
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

func (r *sessionRecord) wish(by *User) wish {
	return wish{
		by: by, user: r.User, integration: r.Integration,
		allowMultiple: r.AllowMultiple, into: r.Into, externalID: r.ExternalID, label: r.Label,
	}
}

// asked is what a caller may ask for beside the integration.
type asked struct {
	allowMultiple           bool
	into, externalID, label string
}

// wish checks what is asked for against the accounts there are, so that nobody is sent to a provider in vain.
func (u *User) wish(ctx context.Context, p *provider, in asked) (wish, error) {
	w := wish{by: u, user: u.id, integration: p.Name, allowMultiple: in.allowMultiple}
	var err error
	if w.label, err = cleanLabel(in.label); err != nil {
		return w, err
	}
	switch {
	case p.deleting:
		return w, fmt.Errorf("integration %s: %w", p.Name, ErrDeleting)
	case in.into != "" && in.externalID != "":
		return w, invalid("externalId", "cannot be given together with into: it names a new account")
	case in.externalID != "":
		if w.externalID, err = cleanExternalID(in.externalID); err != nil {
			return w, err
		}
	case in.into != "":
		record, err := u.find(ctx, Selector{Integration: p.Name, Credential: in.into})
		if err != nil {
			return w, err
		}
		w.into = record.ID
	}
	user, rev, err := u.e.user(ctx, u.id)
	if err == nil {
		err = user.may(u.id)
	}
	if err != nil {
		return w, err
	}
	w.known = rev != 0
	target, _, err := u.e.target(ctx, &w)
	if err != nil || w.externalID == "" {
		return w, err
	}
	holder, _, err := u.e.externalHolder(ctx, u.id, p.Name, w.externalID)
	if err == nil && holder != nil && holder.ID != target {
		err = u.taken(holder)
	}
	return w, err
}

// target applies rules 1 to 3 before it is known which account answers: the credential that is to be authorised anew and
// why, or "" for a new one. What the handle may not see stands in nobody's way here.
func (e *Engine) target(ctx context.Context, w *wish) (id, cause string, err error) {
	if w.into != "" {
		record, _, err := w.by.record(ctx, w.into)
		if err == nil && record.Integration != w.integration {
			err = fmt.Errorf("credential %s: %w at %s", w.into, ErrNotFound, w.integration)
		}
		if err == nil {
			err = w.by.allow(actWrite, &record)
		}
		return w.into, "into", err
	}
	var ended []Credential
	if !w.allowMultiple {
		for row, err := range w.by.accounts(ctx, w.integration) {
			if err != nil {
				return "", "", err
			}
			if row.Status != StatusInvalid { // pending counts as valid
				return "", "", fmt.Errorf("%w: credential %s; ask for AllowMultiple to add another account, or connect into this one", ErrAlreadyConnected, row.ID)
			}
			if w.by.allow(actWrite, row) == nil {
				ended = append(ended, row.public(w.user))
			}
		}
	}
	switch len(ended) {
	case 0:
		return "", "", w.by.allowNew(w.integration, w.externalID)
	case 1:
		return ended[0].ID, "ended", nil
	default:
		return "", "", &AmbiguousError{Integration: w.integration, Candidates: ended[:min(len(ended), maxCandidates)]}
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
		if err := again(ctx, try); err != nil {
			return record, err
		}
	}
}

// again waits a moment before a change that lost is tried once more, so that those who want the same do not keep
// disturbing each other.
func again(ctx context.Context, try int) error {
	return pause(ctx, rand.N(time.Duration(min(try, 20)+1)*time.Millisecond))
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
	claims, err := e.claimsOf(ctx, g.user, g.integration, g.account)
	if err != nil {
		return none, err
	}
	held, err := e.holders(ctx, g.user, g.integration, g.account, claims)
	if err != nil {
		return none, err
	}
	target, cause, err := e.targetOf(ctx, p, g, held)
	if err != nil {
		return none, err
	}

	var record credentialRecord
	var rev storage.Rev
	if target != "" {
		if record, rev, err = g.by.record(ctx, target); err != nil {
			return none, err
		}
	} else {
		record = credentialRecord{Owner: g.by.person, Created: toMillis(e.now())}
		record.ID, record.Integration = newID(), g.integration
	}
	old := record
	tx := e.db.Begin(ctx)
	if err := e.moveClaims(ctx, tx, p, g, &old, rev, claims, held); err != nil {
		return none, err
	}
	switch {
	case g.externalID == "" || g.externalID == record.ExternalID:
	case record.ExternalID != "":
		return none, fmt.Errorf("%w: this account is connected as %q, not %q", ErrExternalID, record.ExternalID, g.externalID)
	default:
		if err := g.by.setExternalID(ctx, tx, g.externalID, &record); err != nil {
			return none, err
		}
	}
	record.authorise(p, g, rev == 0, e.by, e.now())
	if err := g.by.allow(actWrite, &record); err != nil { // as it will be: with its external id
		return none, err
	}
	if err := e.moveGrant(ctx, tx, g.user, &old, &record); err != nil {
		return none, err
	}

	if err := e.joinUser(ctx, tx, &g.wish); err != nil {
		return none, err
	}
	e.tables.integrations.Check(tx, p.rev, p.Name)
	e.schedule(tx, g.user, &record, p)
	next := e.tables.credentials.Put(tx, &record, rev, g.user, record.ID)
	if rev == 0 {
		roster.Count++
		e.tables.byUser.Mark(tx, g.user, g.integration, record.ID)
		e.tables.byIntegration.Mark(tx, g.integration, record.ID, g.user)
		e.putDefaultConfiguration(tx, g.user, &record)
	}
	e.tables.rosters.Put(tx, &roster, rosterRev, g.user, g.integration)
	if err := e.announce(ctx, tx, g, &old, &record, next, rev == 0, cause); err != nil {
		return none, err
	}
	if also != nil {
		also(tx, record.ID)
	}
	return record, e.kernel.Commit(ctx, tx)
}

// announce tells hooks and the event log of an account that was authorised.
func (e *Engine) announce(ctx context.Context, tx *sealed.Tx, g *grant, old, record *credentialRecord, rev storage.Rev, created bool, cause string) error {
	kind, details := EventReconnected, map[string]string{"status": string(record.Status)}
	switch {
	case created:
		kind, cause = EventConnected, "connect"
		if g.key {
			cause = "key"
		}
		details["owner"] = record.Owner
	case ProviderAccount(old.Account).Known() && !ProviderAccount(old.Account).Same(g.account):
		details["account"] = "replaced"
	}
	if record.ExternalID != old.ExternalID {
		details["externalId"] = record.ExternalID
	}
	if record.Label != old.Label {
		details["label"] = record.Label
	}
	g.by.tell(tx, kind, cause, record, rev, details)
	switch {
	case record.Status == StatusPending: // it was never usable
		return nil
	case created || old.Status == StatusPending || old.Incomplete:
		return e.kernel.Connected(ctx, tx, record.hooked(g.user))
	default:
		return e.kernel.Reconnected(ctx, tx, record.hooked(g.user))
	}
}

// hooked is what hooks are told of a credential.
func (r *credentialRecord) hooked(user string) kernel.Credential {
	return kernel.Credential{ID: r.ID, User: user, Integration: r.Integration, ExternalID: r.ExternalID, Owner: r.Owner}
}

// targetOf is target once it is known which account answered: rule 4 comes in.
func (e *Engine) targetOf(ctx context.Context, p *provider, g *grant, held []credentialRecord) (id, cause string, err error) {
	target, cause, err := e.target(ctx, &g.wish)
	if target != "" || len(held) == 0 || p.SameAccount == SameAccountAllow || (err != nil && !errors.Is(err, ErrPermission)) {
		return target, cause, err
	}
	// That the handle may not make a new one does not matter now.
	var seen []Credential
	var mine []*credentialRecord // those that the handle may write
	for i := range held {
		if g.by.sees(&held[i]) {
			seen = append(seen, held[i].public(g.user))
			if g.by.allow(actWrite, &held[i]) == nil {
				mine = append(mine, &held[i])
			}
		}
	}
	switch {
	case len(seen) == 0:
		return "", "", hidden(g.integration)
	case p.SameAccount == SameAccountReject:
		return "", "", fmt.Errorf("%w: it is credential %s", ErrAccountConnected, seen[0].ID)
	case len(mine) == 0:
		return "", "", fmt.Errorf("credential %s: %w", seen[0].ID, ErrPermission)
	case len(mine) > 1: // the integration allowed that once
		return "", "", &AmbiguousError{Integration: g.integration, Candidates: seen[:min(len(seen), maxCandidates)]}
	}
	return mine[0].ID, "same_account", nil
}

// authorise writes an authorisation into a credential, new or there before. An account is complete once it was; later
// ones are PENDING until all that their setup takes is known.
func (r *credentialRecord) authorise(p *provider, g *grant, created bool, by uint64, now time.Time) {
	same := ProviderAccount(r.Account).Same(g.account) && r.ClientID == g.clientID
	pending := created || r.Status == StatusPending || r.Incomplete
	r.Status, r.Scopes, r.Variables, r.ClientID = StatusValid, g.scopes, g.variables, g.clientID
	if r.findMissing(p); pending && len(r.Missing) > 0 {
		r.Status = StatusPending
	}
	r.Incomplete = false
	if g.label != "" {
		r.Label = g.label
	}
	if !created && !ProviderAccount(r.Account).Same(g.account) {
		r.Generation++
	}
	r.Account, r.Identified, r.By = accountRecord(g.account), p.Integration.Identity.fingerprint(), by
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
	r.settled()
}

func cloneMap(m map[string]string) map[string]string {
	clone := make(map[string]string, len(m))
	maps.Copy(clone, m)
	return clone
}
