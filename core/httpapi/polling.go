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

const (
	pollHold = 25 * time.Second
	lastHold = 60 * time.Second
	lateness = 150 * time.Second // of a session, from when on a poll is held longer
	lookAt   = time.Second       // for what other processes did
)

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

// getSession is row 7. A key that is unknown, or another user's, looks like one whose flow goes on.
func (a *api) getSession(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	began := time.Now()
	for {
		ring := a.bell.rings()
		result, err := u.ConnectOutcomeOf(r.Context(), key)
		hold := pollHold
		switch {
		case err == nil:
			a.write(w, http.StatusOK, map[string]string{"connectCredentialId": result.Credential.ID})
			return nil
		case result == nil && errors.Is(err, core.ErrSession): // unknown
		case errors.Is(err, core.ErrUnfinished):
			if a.now().Sub(result.Began) >= lateness {
				hold = lastHold
			}
		case result != nil: // it has failed: row 12 tells why
			a.write(w, http.StatusOK, map[string]string{"connectCredentialId": failedID(key)})
			return nil
		default:
			return err
		}
		left := hold - time.Since(began)
		if left <= 0 {
			a.write(w, http.StatusOK, struct{}{})
			return nil
		}
		if err := wait(r.Context(), min(left, lookAt), ring); err != nil {
			return err
		}
	}
}

// wait waits for the bell, or that long.
func wait(ctx context.Context, d time.Duration, ring <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ring:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
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
