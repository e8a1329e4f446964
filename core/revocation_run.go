package core

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
	"golang.org/x/sync/errgroup"
)

// A revocation is claimed before the provider is asked: its record is due later then, so that another process comes by
// only when this one has died. Asking twice does no harm all the same.

const (
	revokeBackoff    = 10 * time.Second   // after the first failure; each further one doubles it
	revokeMaxBackoff = 6 * time.Hour      // at most
	revokeFor        = 3 * 24 * time.Hour // the first failure after that is the last

	revokePause = time.Minute // how long, and that again at most, a provider that does not answer is left alone

	revokeIntegrations = 8 // that are asked at a time
	revokeEach         = 4 // revocations of one integration at a time
)

// revoker carries out revocations, for one process. The zero value is ready.
type revoker struct {
	mu      sync.Mutex // held while they are carried out; guards the fields below
	scanner *due.Scanner
	paused  map[string]time.Time // by origin: until then the provider wants to be left alone
}

// revokeDue carries out the revocations that are due. It returns when they were tried, or soon after ctx is done or the
// engine closes, and does nothing while another call does the same. What the provider answers is no error; errors are
// those of the store.
func (e *Engine) revokeDue(ctx context.Context) error {
	if e.quarantined || e.usable() != nil || !e.revoker.mu.TryLock() {
		return nil
	}
	defer e.revoker.mu.Unlock()
	done, err := e.begin()
	if err != nil {
		return nil
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.closed, cancel)() // what is cut off is done by the next engine
	if e.revoker.scanner == nil {
		e.revoker.scanner, e.revoker.paused = e.tables.revokes.Scanner(e.log), map[string]time.Time{}
	}
	pass := &revocationPass{e: e, paused: e.revoker.paused, silent: map[string]bool{}}
	err = e.revoker.scanner.Pass(ctx, e.now(), pass.page)
	if e.ending.Load() {
		return nil
	}
	return err
}

// revocationPass is one walk over what is due.
type revocationPass struct {
	e *Engine

	mu     sync.Mutex           // guards what is below
	paused map[string]time.Time // of the revoker
	silent map[string]bool      // by origin: did not answer in this pass
}

// revocationRow is a record as it was read.
type revocationRow = sealed.Row[revocationRecord]

// page carries out what is due of one page, and leaves what ctx leaves no time for.
func (p *revocationPass) page(ctx context.Context, page []due.Entry) (left []due.Entry, err error) {
	rows, err := p.read(ctx, page)
	if err != nil {
		return nil, err
	}
	var stale []int
	work := map[string][]int{} // by integration
	for i := range rows {
		switch r := &rows[i]; {
		case r.Rev == 0 && r.Key != nil, r.Rev != 0 && r.Value.Due != page[i].At:
			stale = append(stale, i)
		case r.Rev != 0:
			work[r.Value.Integration] = append(work[r.Value.Integration], i)
		}
	}
	if err := p.forget(ctx, page, rows, stale); err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards left
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(revokeIntegrations)
	for _, indexes := range work {
		g.Go(func() error {
			var next atomic.Int64
			each, ctx := errgroup.WithContext(ctx)
			for range min(revokeEach, len(indexes)) {
				each.Go(func() error {
					for n := next.Add(1); n <= int64(len(indexes)); n = next.Add(1) {
						if i := indexes[n-1]; ctx.Err() != nil {
							mu.Lock()
							left = append(left, page[i])
							mu.Unlock()
						} else if err := p.carryOut(ctx, rows[i]); err != nil {
							return err
						}
					}
					return nil
				})
			}
			return each.Wait()
		})
	}
	err = g.Wait()
	return left, err
}

// read returns the records of a page. One that cannot be read keeps no other: its row has neither key nor revision.
func (p *revocationPass) read(ctx context.Context, page []due.Entry) ([]revocationRow, error) {
	keys := make([][]string, len(page))
	for i := range page {
		keys[i] = page[i].Key
	}
	table := p.e.tables.revocations
	rows, err := table.GetMany(ctx, keys)
	if !unreadable(err) {
		return rows, err
	}
	rows = make([]revocationRow, len(page))
	for i, key := range keys {
		value, rev, err := table.Get(ctx, key...)
		switch {
		case unreadable(err):
			p.e.log.ErrorContext(ctx, "a revocation cannot be read and is not carried out", "error", err)
			continue
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return nil, err
		}
		rows[i] = revocationRow{Key: key, Value: value, Rev: rev}
	}
	return rows, nil
}

// unreadable reports whether err says that a record is there and does not open.
func unreadable(err error) bool {
	var newer *sealed.FormatError
	return damaged(err) || errors.As(err, &newer)
}

// forget removes entries whose record is gone, or says another time.
func (p *revocationPass) forget(ctx context.Context, page []due.Entry, rows []revocationRow, stale []int) error {
	for _, i := range stale {
		tx := p.e.db.Begin(ctx)
		p.e.tables.revokes.Move(tx, page[i].At, 0, page[i].Key...)
		if rows[i].Rev != 0 {
			p.e.tables.revocations.Check(tx, rows[i].Rev, page[i].Key...)
		}
		if err := p.e.kernel.Apply(ctx, tx); err != nil && !conflicted(err) {
			return err
		}
	}
	return nil
}

// held returns until when a provider is not to be asked, zero when it may be.
func (p *revocationPass) held(provider string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent[provider] {
		return p.e.now().Add(revokePause)
	}
	until, paused := p.paused[provider]
	if paused && !p.e.now().Before(until) {
		delete(p.paused, provider)
		return time.Time{}
	}
	return until
}

// hold notes what a failure says about the provider: the other revocations need not learn it one by one.
func (p *revocationPass) hold(provider string, failed *ProviderError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case failed.Class == FailureRateLimited:
		p.paused[provider] = p.e.now().Add(cmp.Or(failed.RetryAfter, revokePause))
	case failed.err != nil: // of the transport
		p.silent[provider] = true
	}
}

// carryOut does with one record what is to be done. Errors are those of the store.
func (p *revocationPass) carryOut(ctx context.Context, row revocationRow) error {
	v := &revocation{e: p.e, r: row.Value, rev: row.Rev}
	err := p.try(ctx, v)
	var newer *sealed.FormatError
	if errors.As(err, &newer) { // an account that shares the grant, perhaps; who wrote it can tell
		p.e.log.WarnContext(ctx, "a revocation waits for a newer program", "credential", v.r.Credential, "error", err)
		return v.postpone(ctx, p.e.now().Add(revokePause+rand.N(revokePause)))
	}
	return err
}

func (p *revocationPass) try(ctx context.Context, v *revocation) error {
	e := p.e
	if until := p.held(origin(v.r.Endpoint.URL)); !until.IsZero() {
		return v.postpone(ctx, until.Add(rand.N(revokePause)))
	}
	at, err := e.endpointOf(ctx, &v.r)
	switch {
	case errors.Is(err, errNotRevoked):
		return v.end(ctx, resultNotRevoked, "")
	case err != nil:
		return err
	}
	v.at = at
	shared, err := v.shared(ctx)
	switch {
	case err != nil:
		return err
	case shared:
		return v.end(ctx, resultOK, "shared")
	}
	if ok, err := v.claim(ctx); !ok {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, e.revokeTime())
	defer cancel()
	shared, err = v.revokeTraced(asking)
	var failed *ProviderError
	switch {
	case ctx.Err() != nil && err != nil:
		v.r.Attempts--
		return v.postpone(ctx, e.now())
	case shared:
		return v.end(ctx, resultOK, "shared")
	case err == nil:
		return v.end(ctx, resultOK, "")
	case !errors.As(err, &failed):
		return err // of the store, which the claim outlives
	}
	p.hold(origin(v.at.URL), failed)
	return v.failed(ctx, failed)
}

// revokeTime bounds what one attempt takes: tokens, secrets, and a live access token first.
func (e *Engine) revokeTime() time.Duration { return 2 * e.exchangeTime() }

// retryIn is how long to wait after so many attempts, with jitter: those that failed together come back one by one.
func retryIn(attempts int) time.Duration {
	wait := revokeMaxBackoff
	if attempts < 16 {
		wait = min(revokeBackoff<<max(attempts-1, 0), revokeMaxBackoff)
	}
	return wait + rand.N(wait/4)
}

// revocation is one of them being carried out.
type revocation struct {
	e   *Engine
	r   revocationRecord
	rev storage.Rev
	at  *revocationEndpoint

	left string // what could not be ended, and runs out by itself
}

// put adds to a Tx that the record is as it is here, and due in that minute.
func (v *revocation) put(tx *sealed.Tx, at due.Minute) storage.Rev {
	v.r.Due = v.e.tables.revokes.Move(tx, v.r.Due, at, v.r.ID)
	return v.e.tables.revocations.Put(tx, &v.r, v.rev, v.r.ID)
}

// claim notes that the provider is about to be asked. False says that somebody else is about to.
func (v *revocation) claim(ctx context.Context) (bool, error) {
	v.r.Attempts++
	tx := v.e.db.Begin(ctx)
	until := v.e.now().Add(max(retryIn(v.r.Attempts), v.e.revokeTime()+mostSkew))
	next := v.put(tx, due.At(until))
	if err := v.e.kernel.Apply(ctx, tx); err != nil {
		if conflicted(err) {
			err = nil
		}
		return false, err
	}
	v.rev = next
	return true, nil
}

// write is claim's counterpart: it stores what came of it, also when ctx is done. Change returns the revision of the
// record then. Who loses to somebody else was too slow, and that is no error.
func (v *revocation) write(ctx context.Context, change func(tx *sealed.Tx) storage.Rev) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	tx := v.e.db.Begin(ctx)
	next := change(tx)
	switch err := v.e.kernel.Commit(ctx, tx); {
	case err == nil:
		v.rev = next
	case !conflicted(err):
		return err
	}
	return nil
}

// end removes the record: it was carried out, or nobody tries any more.
func (v *revocation) end(ctx context.Context, result, grant string) error {
	details := map[string]string{}
	if v.r.Attempts > 0 {
		details["attempts"] = strconv.Itoa(v.r.Attempts)
	}
	if grant != "" {
		details["grant"] = grant
	}
	if v.left != "" {
		details["left"] = v.left
	}
	return v.write(ctx, func(tx *sealed.Tx) storage.Rev {
		v.e.tables.revocations.Delete(tx, v.rev, v.r.ID)
		v.e.tables.revokes.Move(tx, v.r.Due, 0, v.r.ID)
		v.e.tellRevoked(tx, &v.r, result, details)
		return 0
	})
}

// postpone puts the record off, without counting that as an attempt.
func (v *revocation) postpone(ctx context.Context, until time.Time) error {
	return v.write(ctx, func(tx *sealed.Tx) storage.Rev { return v.put(tx, due.At(until)) })
}

// failed writes down that the provider did not do it, or that it never will.
func (v *revocation) failed(ctx context.Context, failed *ProviderError) error {
	v.r.LastFailure, v.r.FailureCode = failed.Class, failed.Code
	now, wait := v.e.now(), max(failed.RetryAfter, retryIn(v.r.Attempts))
	args := []any{
		"credential", v.r.Credential, "integration", v.r.Integration, "class", failed.Class, "attempts", v.r.Attempts, "error", failed,
	}
	if failed.Class == FailurePermanent || !now.Before(v.r.Created.time().Add(revokeFor)) {
		v.e.telemetry.Revoked(ctx, v.r.Integration, telemetry.RevocationGaveUp)
		v.e.log.ErrorContext(ctx, "tokens of an account that is disconnected could not be revoked; nobody tries again", args...)
		return v.end(ctx, cmp.Or(failed.Code, string(failed.Class)), "")
	}
	v.e.log.WarnContext(ctx, "tokens of an account that is disconnected could not be revoked yet", args...)
	v.e.telemetry.Revoked(ctx, v.r.Integration, telemetry.RevocationFailed)
	return v.postpone(ctx, now.Add(wait))
}

// shared reports whether to revoke would end another account, of whatever user: one that stands for the same grant where
// the provider ends grants, or one that has the very same token. The last one to go has a revocation of its own, so
// nothing is lost by doing nothing; and whoever connects the account again before this is carried out keeps it.
func (v *revocation) shared(ctx context.Context) (bool, error) {
	r, whole := &v.r, v.at.Scope == RevokesGrant
	account := ProviderAccount(r.Account)
	for holder, err := range v.e.grantHolders(ctx, r.ClientID, account) {
		if damaged(err) {
			continue
		} else if err != nil {
			return false, err
		}
		if whole || same(r.RefreshToken, holder.RefreshToken) || same(r.AccessToken, holder.AccessToken) {
			return true, nil
		}
	}
	if account.Known() {
		return false, nil
	}
	// Unknown equals nothing; but that the same credential was connected again says enough.
	record, _, err := v.e.tables.credentials.Get(ctx, r.User, r.Credential)
	switch {
	case errors.Is(err, storage.ErrNotFound), damaged(err):
		return false, nil
	case err != nil:
		return false, err
	}
	again := record.ClientID == r.ClientID && record.holdsTokens()
	return again && (whole || same(r.RefreshToken, record.RefreshToken) || same(r.AccessToken, record.AccessToken)), nil
}

// same reports whether two secrets are there and equal.
func same(a, b crypto.Secret) bool { return !a.IsZero() && a.Equal(b) }
