package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/polycred/polycred/core/internal/job"
)

// The kinds of job: what is done to many credentials, and can be cut short. What they do stands in delete_user.go and
// revoke_credentials.go.
const (
	jobDelete = "delete" // of a user
	jobRevoke = "revoke" // of the credentials of an integration
)

// jobRecord is a job as it is stored. Its items are credentials, each of a user.
type jobRecord = job.Record[reportRecord]

// kindOf returns what a stored job does.
func (e *Engine) kindOf(kind, subject, until string) job.Kind[reportRecord] {
	if kind == jobDelete {
		return &deletion{e: e, user: subject}
	}
	return &revoking{e: e, integration: subject, until: until}
}

// finishJob carries a job on until it has ended, or waits for whoever does, and returns its report.
func (e *Engine) finishJob(ctx context.Context, kind, subject, id string, tell func(Progress)) (Report, error) {
	report, err := e.jobs.Finish(ctx, kind, subject, id, telling(tell))
	if errors.Is(err, job.ErrGone) {
		err = fmt.Errorf("its report is gone: %w", ErrConflict)
	}
	return report.public(), err
}

// telling returns what tells progress to those outside.
func telling(tell func(Progress)) func(job.Progress) {
	return func(p job.Progress) { tell(Progress(p)) }
}

// resumeJobs carries on what was cut short.
func (e *Engine) resumeJobs(ctx context.Context) error {
	if e.quarantined || e.usable() != nil {
		return nil
	}
	return e.jobs.Resume(ctx)
}
