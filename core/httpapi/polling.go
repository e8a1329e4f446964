package httpapi

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/internal/kernel"
)

// Polling for the outcome of an OAuth flow: rows 7 and 8. The SDK asks each second for 180 seconds; an answer that is held
// back saves most of that, and one that is held back at the end lets a person take longer.

// lateness is the age of a session from when on a poll is held longer.
const lateness = 150 * time.Second

// pollTimes are how long polls wait.
type pollTimes struct {
	early, late time.Duration
	look        time.Duration // for what other processes did
}

var usualTimes = pollTimes{early: 25 * time.Second, late: 60 * time.Second, look: time.Second}

// bell rings whenever this process has stored the outcome of a connect session. It may be used concurrently.
type bell struct {
	mu   sync.Mutex // guards next
	next chan struct{}
}

func newBell(k *kernel.Kernel) *bell {
	b := &bell{next: make(chan struct{})}
	k.OnEvent(func(ev kernel.Event) {
		switch core.EventKind(ev.Kind) {
		case core.EventConnected, core.EventReconnected, core.EventConnectFailed:
			b.mu.Lock()
			defer b.mu.Unlock()
			close(b.next)
			b.next = make(chan struct{})
		}
	})
	return b
}

// rings returns what is closed when it rings next.
func (b *bell) rings() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next
}

// getSession is row 7. A key that is unknown, or another user's, looks like one whose flow goes on. How long the answer is
// held is decided once: a poll that was begun early ends early enough for the SDK to begin one more, which is held longer.
func (a *api) getSession(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	var over <-chan time.Time
	for last := false; ; {
		ring := a.bell.rings()
		result, err := u.ConnectOutcomeOf(r.Context(), key)
		switch {
		case err == nil:
			a.write(w, http.StatusOK, map[string]string{"connectCredentialId": result.Credential.ID})
			return nil
		case errors.Is(err, core.ErrUnfinished), result == nil && errors.Is(err, core.ErrSession): // it goes on, or is unknown
		case result != nil: // it has failed: row 12 tells why
			a.write(w, http.StatusOK, map[string]string{"connectCredentialId": failedID(key)})
			return nil
		default:
			return err
		}
		if last {
			a.write(w, http.StatusOK, struct{}{})
			return nil
		}
		if over == nil {
			if !a.limits.polls.enter(u.ID()) {
				a.write(w, http.StatusOK, struct{}{})
				return nil
			}
			defer a.limits.polls.leave(u.ID()) // once: over is set below
			hold := a.polls.early
			if result != nil && a.now().Sub(result.Began) >= lateness {
				hold = a.polls.late
			}
			timer := time.NewTimer(hold)
			defer timer.Stop()
			over = timer.C
		}
		more, err := a.wait(r.Context(), over, ring)
		if err == nil { // the token may have been revoked, or its user disabled, meanwhile (security 13)
			u, err = a.caller(r)
		}
		if err != nil {
			return err
		}
		last = !more // looked at once more: the SDK may ask no further
	}
}

// wait waits for the bell, or as long as another process may go unnoticed; more is false when the poll is over.
func (a *api) wait(ctx context.Context, over <-chan time.Time, ring <-chan struct{}) (more bool, err error) {
	look := time.NewTimer(a.polls.look)
	defer look.Stop()
	select {
	case <-ring:
		return true, nil
	case <-look.C:
		return true, nil
	case <-over:
		return false, nil
	case <-a.closing:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// deleteSession is row 8. It is the same for a key that is unknown, or another user's.
func (a *api) deleteSession(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	if err := u.GiveUpConnect(r.Context(), r.PathValue("key")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// failedPrefix begins the ids of attempts that failed, which row 7 gives and row 12 takes.
const failedPrefix = "failed."

func failedID(key string) string {
	return failedPrefix + base64.RawURLEncoding.EncodeToString([]byte(key))
}

func failedKey(id string) (string, bool) {
	text, ok := strings.CutPrefix(id, failedPrefix)
	key, err := base64.RawURLEncoding.DecodeString(text)
	return string(key), ok && err == nil
}
