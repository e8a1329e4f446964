package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/polycred/polycred/core/internal/job"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/revocation"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// RevokeCredentialsOptions of RevokeCredentials. Nil means those of the zero value.
type RevokeCredentialsOptions struct {
	// DryRun changes nothing, and returns what there is to do now.
	DryRun bool
	// Progress is called after each credential, never twice at a time, and holds the work up; nil: nobody wants to
	// know.
	Progress func(Progress)
}

// RevokeCredentials ends the authorisation of every account that an integration has, for when its client secret
// leaked: set another secret first (SetClientSecret), then call this. Each credential, disabled ones too, becomes
// INVALID, its tokens or its key are erased, and revoked at the provider from a queue. It stays where it is: the
// person who connects it again has it back under the same id, with its settings. One that is connected while this is
// at work may have to be connected once more; those connected later than a few minutes after it began are left alone,
// also where it is carried on later.
//
// For being cut short, for several callers, and for ctx, what DeleteUser says counts. Errors: InputError, ErrNotFound
// for the integration, *sealed.FormatError for a credential that a newer program wrote. What was done stays done.
func (e *Engine) RevokeCredentials(ctx context.Context, integration string, o *RevokeCredentialsOptions) (Report, error) {
	report, err := e.revokeCredentials(ctx, integration, o)
	if err != nil {
		return Report{}, fmt.Errorf("revoke the credentials of %s: %w", clip(integration), err)
	}
	return report, nil
}

func (e *Engine) revokeCredentials(ctx context.Context, integration string, o *RevokeCredentialsOptions) (Report, error) {
	if err := e.usable(); err != nil {
		return Report{}, err
	}
	if _, _, err := e.integration(ctx, integration); err != nil {
		return Report{}, err
	}
	tell := func(Progress) {}
	if o != nil && o.Progress != nil {
		tell = o.Progress
	}
	if o != nil && o.DryRun {
		report, err := e.jobs.DryRun(ctx, &revoking{e: e, integration: integration, until: until()}, telling(tell))
		return report.public(), err
	}
	for try := 0; ; try++ {
		id, rev, err := e.jobs.Running(ctx, jobRevoke, integration)
		switch {
		case err != nil:
			return Report{}, err
		case id != "": // it is carried on
			return e.finishJob(ctx, jobRevoke, integration, id, tell)
		}
		tx := e.db.Begin(ctx)
		id = e.jobs.Add(tx, rev, jobRevoke, integration, until())
		if err = e.kernel.Apply(ctx, tx); err == nil {
			return e.finishJob(ctx, jobRevoke, integration, id, tell)
		} else if !conflicted(err) {
			return Report{}, err
		}
		if err := again(ctx, try); err != nil {
			return Report{}, err
		}
	}
}

// until returns the last id that a credential can have which is there now, wherever it was connected: clocks differ.
// Ids go by real time, whatever the engine's clock says.
func until() string {
	var id uuid.UUID
	ms := uint64(time.Now().Add(mostSkew).UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	for i := 6; i < len(id); i++ {
		id[i] = 0xff
	}
	return id.String()
}

// revoking is the job that ends the authorisation of an integration's accounts.
type revoking struct {
	e                  *Engine
	integration, until string
}

func (r *revoking) Page(ctx context.Context, after []string, limit int) (items []job.Item, last []string, more bool, err error) {
	entries, more, err := r.e.tables.byIntegration.Scan(ctx, []string{r.integration}, after, limit)
	for _, entry := range entries {
		last = entry
		switch {
		case len(entry) != 3: // entries are not sealed
		case entry[1] > r.until:
			return items, last, false, err
		default:
			items = append(items, job.Item{ID: entry[1], Of: entry[2]})
		}
	}
	return items, last, more, err
}

func (r *revoking) Before(context.Context, *job.Run[reportRecord]) error { return nil }
func (r *revoking) After(context.Context, *job.Run[reportRecord]) error  { return nil }

func (r *revoking) Do(ctx context.Context, tx *sealed.Tx, item job.Item) (reportRecord, error) {
	e := r.e
	record, rev, err := e.tables.credentials.Get(ctx, item.Of, item.ID)
	var corrupt *sealed.CorruptError
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return reportRecord{}, job.ErrUnchanged
	case errors.As(err, &corrupt):
		e.log.WarnContext(ctx, "a credential cannot be read, and its tokens not be revoked", "credential", item.ID, "integration", r.integration)
		return reportRecord{Damaged: 1}, nil
	case err != nil:
		return reportRecord{}, err
	case record.Integration != r.integration, record.Status == StatusInvalid && !record.holdsTokens():
		return reportRecord{}, job.ErrUnchanged
	}
	report, err := e.fate(ctx, &record, func(holder grantHolder) bool {
		return holder.Integration == r.integration && holder.ID <= r.until
	})
	if err != nil {
		return reportRecord{}, err
	}
	if err := e.queueRevocation(ctx, tx, item.Of, &record); err != nil {
		return reportRecord{}, err
	}
	was := record.Status
	record.revoked(e.now())
	e.schedule(tx, item.Of, &record, nil)
	next := e.tables.credentials.Put(tx, &record, rev, item.Of, item.ID)
	if was != StatusInvalid {
		e.kernel.Emit(tx, kernel.Event{
			Kind: string(EventInvalidated), Actor: string(ActorOperator), User: item.Of, Integration: r.integration, Credential: item.ID,
			Revision: uint64(next), Cause: "revoke", Result: CodeRevoked,
		})
	}
	return report, nil
}

func (r *revoking) End(_ context.Context, tx *sealed.Tx, report *reportRecord) error {
	r.e.tellOperator(tx, EventIntegrationRevoked, "request", r.integration, report.details())
	return nil
}

// revoked takes a credential its authorisation.
func (r *credentialRecord) revoked(now time.Time) {
	r.settled()
	r.Incomplete = r.Incomplete || r.Status == StatusPending
	r.Status, r.LastFailure, r.FailureCode, r.Updated = StatusInvalid, FailurePermanent, CodeRevoked, toMillis(now)
	r.AccessToken, r.RefreshToken, r.ValidUntil = crypto.Secret{}, crypto.Secret{}, 0
	r.PreviousRefreshToken, r.PreviousUntil = crypto.Secret{}, 0
}

// fate is what a report says of the authorisation of a credential whose tokens go, before they do: queueRevocation asks
// the same. Other holders of the grant that go too do not share it.
func (e *Engine) fate(ctx context.Context, record *credentialRecord, goes func(grantHolder) bool) (reportRecord, error) {
	report := reportRecord{Integrations: map[string]int{record.Integration: 1}}
	if record.ClientID == "" || !record.holdsTokens() {
		report.Unrevocable = 1
		return report, nil
	}
	at, _, err := e.revocationEndpoint(ctx, record.Integration, record.ClientID, record.Variables)
	switch {
	case errors.Is(err, revocation.ErrNotRevoked), errors.Is(err, errRevocationURL):
		report.Unrevocable = 1
		return report, nil
	case err != nil:
		return report, err
	}
	if at.Scope == revocation.ScopeGrant {
		for holder, err := range e.grantHolders(ctx, record.ClientID, ProviderAccount(record.Account)) {
			var corrupt *sealed.CorruptError
			switch {
			case errors.As(err, &corrupt): // not by what can be known
			case err != nil:
				return report, err
			case holder.ID != record.ID && !goes(holder):
				report.Shared = 1
				return report, nil
			}
		}
	}
	report.Queued = 1
	return report, nil
}
