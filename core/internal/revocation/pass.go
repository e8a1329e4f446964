package revocation

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
	"golang.org/x/sync/errgroup"
)

const (
	pause = time.Minute // how long, and that again at most, a provider that does not answer is left alone

	integrations = 8 // that are asked at a time
	each         = 4 // records of one integration at a time
)

// pass is one walk over what is due.
type pass struct {
	c *Config

	mu     sync.Mutex           // guards what is below
	paused map[string]time.Time // of the Revoker
	silent map[string]bool      // by origin: did not answer in this pass
}

// row is a record as it was read.
type row = sealed.Row[Record]

// page carries out what is due of one page, and leaves what ctx leaves no time for.
func (p *pass) page(ctx context.Context, page []due.Entry) (left []due.Entry, err error) {
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
	g.SetLimit(integrations)
	for _, indexes := range work {
		g.Go(func() error {
			var next atomic.Int64
			workers, ctx := errgroup.WithContext(ctx)
			for range min(each, len(indexes)) {
				workers.Go(func() error {
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
			return workers.Wait()
		})
	}
	err = g.Wait()
	return left, err
}

// read returns the records of a page. One that cannot be read keeps no other: its row has neither key nor revision.
func (p *pass) read(ctx context.Context, page []due.Entry) ([]row, error) {
	keys := make([][]string, len(page))
	for i := range page {
		keys[i] = page[i].Key
	}
	rows, err := p.c.Records.GetMany(ctx, keys)
	if !unreadable(err) {
		return rows, err
	}
	rows = make([]row, len(page))
	for i, key := range keys {
		value, rev, err := p.c.Records.Get(ctx, key...)
		switch {
		case unreadable(err):
			p.c.Kernel.Log().ErrorContext(ctx, "a revocation cannot be read and is not carried out", "error", err)
			continue
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return nil, err
		}
		rows[i] = row{Key: key, Value: value, Rev: rev}
	}
	return rows, nil
}

// unreadable reports whether err says that a record is there and does not open.
func unreadable(err error) bool {
	var corrupt *sealed.CorruptError
	return errors.As(err, &corrupt) || newer(err)
}

// newer reports whether err says that a record was written by a newer program.
func newer(err error) bool {
	var format *sealed.FormatError
	return errors.As(err, &format)
}

// forget removes entries whose record is gone, or says another time.
func (p *pass) forget(ctx context.Context, page []due.Entry, rows []row, stale []int) error {
	for _, i := range stale {
		tx := p.c.Kernel.DB().Begin(ctx)
		p.c.Due.Move(tx, page[i].At, 0, page[i].Key...)
		if rows[i].Rev != 0 {
			p.c.Records.Check(tx, rows[i].Rev, page[i].Key...)
		}
		if err := p.c.Kernel.Apply(ctx, tx); err != nil && !conflicted(err) {
			return err
		}
	}
	return nil
}

// held returns until when a provider is not to be asked, zero when it may be.
func (p *pass) held(provider string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent[provider] {
		return p.c.now().Add(pause)
	}
	until, paused := p.paused[provider]
	if paused && !p.c.now().Before(until) {
		delete(p.paused, provider)
		return time.Time{}
	}
	return until
}

// hold notes what a failure says about the provider: the other records need not learn it one by one.
func (p *pass) hold(provider string, failed *oauth.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case failed.Class == oauth.RateLimited:
		p.paused[provider] = p.c.now().Add(cmp.Or(failed.RetryAfter, pause))
	case failed.Err != nil: // of the transport
		p.silent[provider] = true
	}
}

// carryOut does with one record what is to be done. Errors are those of the store.
func (p *pass) carryOut(ctx context.Context, read row) error {
	a := &attempt{c: p.c, r: read.Value, rev: read.Rev}
	err := p.try(ctx, a)
	if newer(err) { // an account that shares the grant, perhaps; who wrote it can tell
		p.c.Kernel.Log().WarnContext(ctx, "a revocation waits for a newer program", "credential", a.r.Credential, "error", err)
		return a.postpone(ctx, p.c.now().Add(pause+rand.N(pause)))
	}
	return err
}

func (p *pass) try(ctx context.Context, a *attempt) error {
	if until := p.held(origin(a.r.Endpoint.URL)); !until.IsZero() {
		return a.postpone(ctx, until.Add(rand.N(pause)))
	}
	live, err := p.c.Live(ctx, &a.r)
	switch {
	case errors.Is(err, ErrNotRevoked):
		return a.end(ctx, ResultNotRevoked, "")
	case err != nil:
		return err
	}
	before := a.r.Endpoint
	a.at = merged(&before, live)
	shared, err := a.shared(ctx)
	switch {
	case err != nil:
		return err
	case shared:
		return a.end(ctx, ResultOK, "shared")
	}
	if ok, err := a.claim(ctx); !ok {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, p.c.Timeout)
	defer cancel()
	shared, err = a.traced(asking)
	var failed *oauth.Error
	switch {
	case ctx.Err() != nil && err != nil:
		a.r.Attempts--
		return a.postpone(ctx, p.c.now())
	case shared:
		return a.end(ctx, ResultOK, "shared")
	case err == nil:
		return a.end(ctx, ResultOK, "")
	case !errors.As(err, &failed):
		return err // of the store, which the claim outlives
	}
	p.hold(origin(a.at.URL), failed)
	return a.failed(ctx, failed)
}
