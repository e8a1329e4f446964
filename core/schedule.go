package core

import (
	"time"

	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/storage/sealed"
)

// keepAlive is how often a refresh token is used that would die of idleness, if nothing else uses it.
const keepAlive = 24 * time.Hour

// schedule adds to tx when the scheduler is to look at a credential, which tx is about to store: when its token is due, or
// its refresh token has idled for long enough, but not before a pause is over. Nil for p means that nothing is known of
// the provider.
func (e *Engine) schedule(tx *sealed.Tx, user string, r *credentialRecord, p *provider) {
	r.Due = e.tables.refreshes.Move(tx, r.Due, due.At(r.nextRefresh(p)), user, r.ID)
}

// nextRefresh is when a credential is to be refreshed ahead of need; zero: never.
func (r *credentialRecord) nextRefresh(p *provider) time.Time {
	if r.Status != StatusValid || r.Disabled || r.RefreshToken.IsZero() {
		return time.Time{}
	}
	at := millis(0)
	if r.ValidUntil != 0 {
		at = r.ValidUntil - r.margin()
	}
	if p != nil && p.OAuth2 != nil && p.OAuth2.Refresh.IdleTTL > 0 {
		often := min(keepAlive, time.Duration(p.OAuth2.Refresh.IdleTTL)/2)
		if idle := r.Refreshed + millis(often/time.Millisecond); at == 0 || idle < at {
			at = idle + millis(often/time.Millisecond)*millis(r.jitter())/1000
		}
	}
	if at == 0 {
		return time.Time{}
	}
	return max(at, r.NextAttempt).time()
}
