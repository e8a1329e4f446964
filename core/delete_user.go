package core

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/polycred/polycred/core/internal/job"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// DeleteUserOptions of DeleteUser. Nil means those of the zero value.
type DeleteUserOptions struct {
	// DryRun changes nothing, and returns what there is to do now.
	DryRun bool
	// Progress is called after each credential, never twice at a time, and holds the work up; nil: nobody wants to
	// know.
	Progress func(Progress)
}

// DeleteUser removes a user and all that is theirs: their credentials with configurations and passwords, whose
// authorisation is revoked at the providers from a queue, and their connect sessions; a switch of the user goes too.
// It first marks the user, so that nothing is connected beside it: connects get ErrDeleting from then on. Once it is
// done the id is free again.
//
// It is one piece of work however often it is cut short: calling it again carries it on, and so does Run, within a
// minute, in whichever process; the report counts everything once. Who calls it while another call, or process, is at
// it waits for that one, and gets the same report. It deals with 16 credentials at a time, in memory that does not
// grow with their number, and with ctx it ends promptly, between two of them. It reads every connect session that is
// open on the store. What stays for a while, and names the user: the report, for an hour; tokens that are being revoked,
// for about three days at most; events, for Options.EventRetention.
//
// Records that do not open keep nobody from being deleted, see Report.Damaged. Errors: InputError, ErrNotFound for a
// user that ConnectedUser does not know, *sealed.FormatError for a credential that a newer program wrote. What was
// done stays done.
func (e *Engine) DeleteUser(ctx context.Context, user string, o *DeleteUserOptions) (Report, error) {
	report, err := e.deleteUser(ctx, user, o)
	if err != nil {
		return Report{}, fmt.Errorf("delete user %s: %w", clip(user), err)
	}
	return report, nil
}

func (e *Engine) deleteUser(ctx context.Context, user string, o *DeleteUserOptions) (Report, error) {
	if err := e.usable(); err != nil {
		return Report{}, err
	}
	if err := checkID("user", user); err != nil {
		return Report{}, err
	}
	tell := func(Progress) {}
	if o != nil && o.Progress != nil {
		tell = o.Progress
	}
	if o != nil && o.DryRun {
		return e.wouldDelete(ctx, user, tell)
	}
	defer e.forgetDisabled()
	id, err := e.markDeleting(ctx, user)
	if err != nil {
		return Report{}, err
	}
	return e.finishJob(ctx, jobDelete, user, id, tell)
}

func (e *Engine) wouldDelete(ctx context.Context, user string, tell func(Progress)) (Report, error) {
	_, rev, err := e.userAnyway(ctx, user)
	if err == nil && rev == 0 {
		err = e.anyAccount(ctx, user)
	}
	if err != nil {
		return Report{}, err
	}
	report, err := e.jobs.DryRun(ctx, &deletion{e: e, user: user}, telling(tell))
	if err != nil {
		return Report{}, err
	}
	err = e.sessionsOf(ctx, user, func(rows []sealed.Row[sessionRecord]) error {
		report.Sessions += len(rows)
		return nil
	})
	return report.public(), err
}

// userAnyway is user, but that one whose record does not open is there all the same.
func (e *Engine) userAnyway(ctx context.Context, user string) (userRecord, storage.Rev, error) {
	record, rev, err := e.user(ctx, user)
	var corrupt *sealed.CorruptError
	if !errors.As(err, &corrupt) {
		return record, rev, err
	}
	rows, _, err := e.tables.users.Keys(ctx, []string{user}, nil, 1)
	if err == nil && len(rows) > 0 {
		rev = rows[0].Rev
	}
	return userRecord{Disabled: true}, rev, err // nobody knows that it was not
}

// markDeleting stops connects and makes the job, or finds the one that did not get to its end. It returns the job's id.
func (e *Engine) markDeleting(ctx context.Context, user string) (string, error) {
	for try := 0; ; try++ {
		record, rev, err := e.userAnyway(ctx, user)
		if err == nil && rev == 0 {
			err = e.anyAccount(ctx, user)
		}
		if err != nil {
			return "", err
		}
		id, jobRev, err := e.jobs.Running(ctx, jobDelete, user)
		if err != nil || id != "" {
			return id, err
		}
		record.Deleting = true
		tx := e.db.Begin(ctx)
		e.tables.users.Put(tx, &record, rev, user)
		id = e.jobs.Add(tx, jobRev, jobDelete, user, "")
		if err := e.kernel.Apply(ctx, tx); !conflicted(err) {
			return id, err
		}
		if err := again(ctx, try); err != nil {
			return "", err
		}
	}
}

// deletion is the job that removes a user.
type deletion struct {
	e    *Engine
	user string
}

// Page goes by the keys of the records themselves, so that none is missed because of what an index says, or because it
// does not open.
func (d *deletion) Page(ctx context.Context, after []string, limit int) (items []job.Item, last []string, more bool, err error) {
	rows, more, err := d.e.tables.credentials.Keys(ctx, []string{d.user}, after, limit)
	for _, row := range rows {
		if last = row.Key; len(row.Key) == 2 {
			items = append(items, job.Item{ID: row.Key[1], Of: d.user})
		}
	}
	return items, last, more, err
}

// Before removes connect sessions: none of them comes to an account any more.
func (d *deletion) Before(ctx context.Context, run *job.Run[reportRecord]) error {
	return d.e.sessionsOf(ctx, d.user, func(rows []sealed.Row[sessionRecord]) error {
		for _, row := range rows {
			err := run.Apply(ctx, func(tx *sealed.Tx) (reportRecord, error) {
				record, rev, err := d.e.tables.sessions.Get(ctx, row.Key...)
				if errors.Is(err, storage.ErrNotFound) {
					return reportRecord{}, job.ErrUnchanged
				}
				d.e.tables.sessions.Delete(tx, rev, row.Key...)
				d.e.tables.expiries.Unmark(tx, record.sweepAt(), row.Key[0])
				return reportRecord{Sessions: 1}, err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// sessionsOf gives the connect sessions of a user, page by page. No index leads to them: they are few, and gone
// within the hour.
func (e *Engine) sessionsOf(ctx context.Context, user string, do func([]sealed.Row[sessionRecord]) error) error {
	for after, more := []string(nil), true; more; {
		keys, next, err := e.tables.sessions.Keys(ctx, nil, after, 250)
		if err != nil {
			return err
		}
		var theirs []sealed.Row[sessionRecord]
		for _, row := range keys {
			after = row.Key
			record, rev, err := e.tables.sessions.Get(ctx, row.Key...)
			var corrupt *sealed.CorruptError
			switch {
			case errors.Is(err, storage.ErrNotFound), errors.As(err, &corrupt): // it comes to nothing, whosever it is
			case err != nil:
				return err
			case record.User == user:
				theirs = append(theirs, sealed.Row[sessionRecord]{Key: row.Key, Value: record, Rev: rev})
			}
		}
		if err := do(theirs); err != nil {
			return err
		}
		more = next
	}
	return nil
}

// Do removes a credential, and what leads to it from outside the user's own keys. Nobody can connect beside it, so that
// what lies under those keys goes in the end, all at once, whatever the record says.
func (d *deletion) Do(ctx context.Context, tx *sealed.Tx, item job.Item) (reportRecord, error) {
	e := d.e
	record, rev, err := e.tables.credentials.Get(ctx, d.user, item.ID)
	var corrupt *sealed.CorruptError
	switch {
	case errors.Is(err, storage.ErrNotFound): // disconnected meanwhile
		return reportRecord{}, job.ErrUnchanged
	case errors.As(err, &corrupt):
		return d.damaged(ctx, tx, item.ID)
	case err != nil:
		return reportRecord{}, err
	}
	report, err := e.fate(ctx, &record, func(holder grantHolder) bool { return holder.user == d.user })
	if err != nil {
		return reportRecord{}, err
	}
	e.tables.credentials.Delete(tx, rev, d.user, item.ID)
	e.tables.refreshes.Move(tx, record.Due, 0, d.user, item.ID)
	if err := e.queueRevocation(ctx, tx, d.user, &record); err != nil {
		return reportRecord{}, err
	}
	if err := e.moveGrant(ctx, tx, d.user, &record, nil); err != nil {
		return reportRecord{}, err
	}
	details := map[string]string{}
	if record.ExternalID != "" {
		details["externalId"] = record.ExternalID
	}
	if record.Owner != "" {
		details["owner"] = record.Owner
	}
	if report.Shared > 0 {
		details["grant"] = "shared"
	}
	return report, d.gone(ctx, tx, &record, rev, details)
}

// damaged removes a credential whose record does not open: what it held is lost anyway. Entries that only it could
// tell of lead nowhere from then on, which whoever follows them finds out.
func (d *deletion) damaged(ctx context.Context, tx *sealed.Tx, id string) (reportRecord, error) {
	rows, _, err := d.e.tables.credentials.Keys(ctx, []string{d.user, id}, nil, 1)
	if err == nil && len(rows) == 0 {
		err = job.ErrUnchanged
	}
	if err != nil {
		return reportRecord{}, err
	}
	var record credentialRecord
	record.ID = id
	for after, more := []string(nil), true; more && record.Integration == ""; {
		var entries [][]string
		if entries, more, err = d.e.tables.byUser.Scan(ctx, []string{d.user}, after, 0); err != nil {
			return reportRecord{}, err
		}
		for _, entry := range entries {
			if after = entry; len(entry) == 3 && entry[2] == id {
				record.Integration = entry[1]
			}
		}
	}
	d.e.tables.credentials.Delete(tx, rows[0].Rev, d.user, id)
	return reportRecord{Damaged: 1}, d.gone(ctx, tx, &record, rows[0].Rev, map[string]string{"record": "damaged"})
}

// gone adds to tx what is told of a credential that goes, and that the indexes of accounts have it no more.
func (d *deletion) gone(ctx context.Context, tx *sealed.Tx, record *credentialRecord, rev storage.Rev, details map[string]string) error {
	e := d.e
	if record.Integration != "" {
		e.tables.byUser.Unmark(tx, d.user, record.Integration, record.ID)
		e.tables.byIntegration.Unmark(tx, record.Integration, record.ID, d.user)
	}
	e.kernel.Emit(tx, kernel.Event{
		Kind: string(EventDisconnected), Actor: string(ActorOperator), User: d.user, Integration: record.Integration, Credential: record.ID,
		Revision: uint64(rev + 1), Cause: "delete_user", Result: resultOK, Details: details,
	})
	return e.kernel.Disconnected(ctx, tx, record.hooked(d.user))
}

// After removes everything that lies under the user's own keys.
func (d *deletion) After(ctx context.Context, run *job.Run[reportRecord]) error {
	t, own := &d.e.tables, []string{d.user}
	for _, rest := range []func(*sealed.Tx) (bool, error){
		// Configurations first: whoever creates one beside this needs the default one, and what hangs on it comes then.
		sweeper(ctx, t.configurations, own), sweeper(ctx, t.configurationIDs, own), sweeper(ctx, t.passwords, own),
		sweeper(ctx, t.externalIDs, own), sweeper(ctx, t.claims, own), sweeper(ctx, t.rosters, own), sweeper(ctx, t.redirects, own),
		unmarker(ctx, t.byConfig, own),
		func(tx *sealed.Tx) (bool, error) { // of credentials that were not there any more
			entries, _, err := t.byUser.Scan(ctx, own, nil, sweepSize/2)
			for _, entry := range entries {
				t.byUser.Unmark(tx, entry...)
				if len(entry) == 3 {
					t.byIntegration.Unmark(tx, entry[1], entry[2], d.user)
				}
			}
			return len(entries) > 0, err
		},
		unmarker(ctx, t.waiting, own), unmarker(ctx, t.polled, own),
	} {
		if err := run.Sweep(ctx, rest); err != nil {
			return err
		}
	}
	return nil
}

const sweepSize = 200 // operations of one batch

// sweeper returns what adds to a transaction that records under a prefix go, and reports whether there were any.
func sweeper[T any](ctx context.Context, table *sealed.Table[T], prefix []string) func(*sealed.Tx) (bool, error) {
	return func(tx *sealed.Tx) (bool, error) {
		rows, _, err := table.Keys(ctx, prefix, nil, sweepSize)
		for _, row := range rows {
			table.Delete(tx, row.Rev, row.Key...)
		}
		return len(rows) > 0, err
	}
}

// unmarker is sweeper for the entries of an index.
func unmarker(ctx context.Context, index *sealed.Index, prefix []string) func(*sealed.Tx) (bool, error) {
	return func(tx *sealed.Tx) (bool, error) {
		entries, _, err := index.Scan(ctx, prefix, nil, sweepSize)
		for _, entry := range entries {
			index.Unmark(tx, entry...)
		}
		return len(entries) > 0, err
	}
}

// End removes the user's own record, and that they are disabled.
func (d *deletion) End(ctx context.Context, tx *sealed.Tx, report *reportRecord) error {
	e := d.e
	record, rev, err := e.userAnyway(ctx, d.user)
	switch {
	case err != nil:
		return err
	case rev == 0: // it went together with the job
		return job.ErrOver
	}
	e.tables.users.Delete(tx, rev, d.user)
	if record.Disabled {
		if err := e.markDisabled(ctx, tx, d.user, false); err != nil {
			return err
		}
	}
	details := report.details()
	details["sessions"] = strconv.Itoa(report.Sessions)
	e.tellUser(tx, EventUserDeleted, d.user, details)
	return nil
}
