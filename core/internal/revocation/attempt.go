package revocation

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/core/internal/telemetry"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// A record is claimed before the provider is asked: it is due later then, so that another process comes by only when this
// one has died. Asking twice does no harm all the same.

const (
	firstWait = 10 * time.Second   // after the first failure; each further one doubles it
	maxWait   = 6 * time.Hour      // at most
	tryFor    = 3 * 24 * time.Hour // the first failure after that is the last

	storeTime = 2 * time.Second // how long the store is waited for once ctx is done
)

// attempt is one record being carried out.
type attempt struct {
	c   *Config
	r   Record
	rev storage.Rev
	at  *Endpoint // where and how, by now

	left string // what could not be ended, and runs out by itself
}

// retryIn is how long to wait after so many attempts, with jitter: those that failed together come back one by one.
func retryIn(attempts int) time.Duration {
	wait := maxWait
	if attempts < 16 {
		wait = min(firstWait<<max(attempts-1, 0), maxWait)
	}
	return wait + rand.N(wait/4)
}

// shared reports whether somebody else would lose by it.
func (a *attempt) shared(ctx context.Context) (bool, error) {
	return a.c.Shared(ctx, &a.r, a.at.Scope == ScopeGrant)
}

// put adds to a Tx that the record is as it is here, and due in that minute.
func (a *attempt) put(tx *sealed.Tx, at due.Minute) storage.Rev {
	a.r.Due = a.c.Due.Move(tx, a.r.Due, at, a.r.ID)
	return a.c.Records.Put(tx, &a.r, a.rev, a.r.ID)
}

// claim notes that the provider is about to be asked. False says that somebody else is about to.
func (a *attempt) claim(ctx context.Context) (bool, error) {
	a.r.Attempts++
	tx := a.c.Kernel.DB().Begin(ctx)
	until := a.c.now().Add(max(retryIn(a.r.Attempts), a.c.Timeout+a.c.Skew))
	next := a.put(tx, due.At(until))
	if err := a.c.Kernel.Apply(ctx, tx); err != nil {
		if conflicted(err) {
			err = nil
		}
		return false, err
	}
	a.rev = next
	return true, nil
}

// write is claim's counterpart: it stores what came of it, also when ctx is done. Change returns the revision of the
// record then. Who loses to somebody else was too slow, and that is no error.
func (a *attempt) write(ctx context.Context, change func(tx *sealed.Tx) storage.Rev) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	tx := a.c.Kernel.DB().Begin(ctx)
	next := change(tx)
	switch err := a.c.Kernel.Commit(ctx, tx); {
	case err == nil:
		a.rev = next
	case !conflicted(err):
		return err
	}
	return nil
}

// conflicted reports whether err says that somebody else changed a record first.
func conflicted(err error) bool {
	var conflict *storage.ConflictError
	return errors.As(err, &conflict)
}

// end removes the record: it was carried out, or nobody tries any more.
func (a *attempt) end(ctx context.Context, result, grant string) error {
	details := map[string]string{}
	if a.r.Attempts > 0 {
		details["attempts"] = strconv.Itoa(a.r.Attempts)
	}
	if grant != "" {
		details["grant"] = grant
	}
	if a.left != "" {
		details["left"] = a.left
	}
	return a.write(ctx, func(tx *sealed.Tx) storage.Rev {
		a.c.Records.Delete(tx, a.rev, a.r.ID)
		a.c.Due.Move(tx, a.r.Due, 0, a.r.ID)
		a.c.Tell(tx, &a.r, result, details)
		return 0
	})
}

// postpone puts the record off, without counting that as an attempt.
func (a *attempt) postpone(ctx context.Context, until time.Time) error {
	return a.write(ctx, func(tx *sealed.Tx) storage.Rev { return a.put(tx, due.At(until)) })
}

// failed writes down that the provider did not do it, or that it never will.
func (a *attempt) failed(ctx context.Context, failed *oauth.Error) error {
	a.r.LastFailure, a.r.FailureCode = string(failed.Class), failed.Code
	now, wait := a.c.now(), max(failed.RetryAfter, retryIn(a.r.Attempts))
	args := []any{
		"credential", a.r.Credential, "integration", a.r.Integration, "class", failed.Class, "attempts", a.r.Attempts, "error", failed,
	}
	if failed.Class == oauth.Permanent || !now.Before(time.UnixMilli(a.r.Created).Add(tryFor)) {
		a.c.Telemetry.Revoked(ctx, a.r.Integration, telemetry.RevocationGaveUp)
		a.c.Kernel.Log().ErrorContext(ctx, "tokens of an account that is disconnected could not be revoked; nobody tries again", args...)
		return a.end(ctx, cmp.Or(failed.Code, string(failed.Class)), "")
	}
	a.c.Kernel.Log().WarnContext(ctx, "tokens of an account that is disconnected could not be revoked yet", args...)
	a.c.Telemetry.Revoked(ctx, a.r.Integration, telemetry.RevocationFailed)
	return a.postpone(ctx, now.Add(wait))
}
