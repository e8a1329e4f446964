package core

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// sessionRetention is how long the outcome of a connect session can be asked for after the session expired.
const sessionRetention = time.Hour

// sessionPhase is how far a connect session is.
type sessionPhase uint8

const (
	sessionUnbound    sessionPhase = iota // no browser yet
	sessionOpen                           // bound; the person is at the provider
	sessionExchanging                     // the callback came; its code is being spent
	sessionDone                           // it has an outcome, good or bad
)

// sessionRecord is one attempt to connect an account. It is used up by one callback; what came of it stays until it is
// swept, so that the same browser can ask again.
type sessionRecord struct {
	ID          string            `cbor:"1,keyasint"`
	User        string            `cbor:"2,keyasint"`
	Integration string            `cbor:"3,keyasint"`
	Phase       sessionPhase      `cbor:"4,keyasint"`
	Browser     []byte            `cbor:"5,keyasint,omitempty"` // digest of what only that browser can present
	Created     millis            `cbor:"6,keyasint"`
	Expires     millis            `cbor:"7,keyasint"`
	Owner       string            `cbor:"8,keyasint,omitempty"`
	Variables   map[string]string `cbor:"9,keyasint,omitempty"`
	ReturnURL   string            `cbor:"10,keyasint,omitempty"`

	AllowMultiple bool   `cbor:"11,keyasint,omitempty"`
	Into          string `cbor:"12,keyasint,omitempty"`
	ExternalID    string `cbor:"13,keyasint,omitempty"`

	Label     string `cbor:"14,keyasint,omitempty"` // since format 2, as are the next five
	TokenID   string `cbor:"15,keyasint,omitempty"` // of the user token that began it
	Authority []byte `cbor:"16,keyasint,omitempty"` // what that token may; empty: everything
	Redirect  bool   `cbor:"17,keyasint,omitempty"` // RedirectURI is the application's own, see User.CompleteConnect

	// ProviderInitiated: the provider began, so there is no verifier and no nonce.
	ProviderInitiated bool   `cbor:"18,keyasint,omitempty"`
	Spent             []byte `cbor:"19,keyasint,omitempty"` // digest of the code that it was finished with

	// What the code is spent with was fixed when the session began: nothing of it comes from the answer.
	Verifier    crypto.Secret `cbor:"20,keyasint"`
	Nonce       crypto.Secret `cbor:"21,keyasint"`
	TokenURL    string        `cbor:"22,keyasint"`
	RedirectURI string        `cbor:"23,keyasint"`
	ClientID    string        `cbor:"24,keyasint"`

	Exchanging millis `cbor:"30,keyasint,omitempty"` // since when
	Credential string `cbor:"31,keyasint,omitempty"` // the outcome: a credential, or
	Code       string `cbor:"32,keyasint,omitempty"` // the code of an error and
	Text       string `cbor:"33,keyasint,omitempty"` // its text

	PollingKey []byte `cbor:"34,keyasint,omitempty"` // digest, see User.ConnectOutcomeOf; since format 3
}

// stateOf returns the state parameter of the session that a handle names. The store holds only a digest of the state.
func stateOf(handle string) string {
	return base64.RawURLEncoding.EncodeToString(digest("state", handle))
}

func sessionKey(state string) string { return string(digest("session", state)) }

// putSession stores a new session. One that comes back to a redirect URL of the application takes the place of the one
// before it there.
func (e *Engine) putSession(ctx context.Context, record *sessionRecord, key string) error {
	for {
		tx := e.db.Begin(ctx)
		e.tables.sessions.Put(tx, record, 0, key)
		e.tables.expiries.Mark(tx, record.sweepAt(), key)
		e.tables.waiting.Mark(tx, record.waitingKey(key)...)
		if len(record.PollingKey) > 0 {
			e.tables.polled.Mark(tx, record.polledKey(key)...)
		}
		if record.Redirect {
			_, rev, err := e.tables.redirects.Get(ctx, record.redirectKey()...)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			e.tables.redirects.Put(tx, &redirectRecord{Session: key}, rev, record.redirectKey()...)
		}
		if err := e.kernel.Apply(ctx, tx); !conflicted(err) || e.tables.sessions.Conflicted(err, key) {
			return err
		}
	}
}

// waitingKey is where a session counts that has no outcome yet.
func (r *sessionRecord) waitingKey(key string) []string {
	return []string{r.User, timeKey(r.Expires.time()), key}
}

// closeSession adds to tx the outcome of a session, which is in record.
func (e *Engine) closeSession(tx *sealed.Tx, record *sessionRecord, rev storage.Rev, key string) {
	record.Phase = sessionDone
	e.tables.sessions.Put(tx, record, rev, key)
	e.tables.waiting.Unmark(tx, record.waitingKey(key)...)
}

// mayWait reports why a user may begin no more sessions, if so: too many of theirs have neither an outcome nor expired. It
// is a bound and no exact number: sessions that begin at once are counted without each other.
func (e *Engine) mayWait(ctx context.Context, user string) error {
	behind := []string{user, timeKey(e.now().Add(time.Millisecond))} // one that expires now has expired
	open, _, err := e.tables.waiting.Scan(ctx, []string{user}, behind, e.opts.OpenSessions)
	if err == nil && len(open) >= e.opts.OpenSessions {
		err = fmt.Errorf("%w: %d connect sessions of the user wait for an answer; finish one, or wait until they expire", ErrTooMany, len(open))
	}
	return err
}

// redirectKey is where the newest session of a redirect URL is noted.
func (r *sessionRecord) redirectKey() []string {
	return []string{r.User, r.Integration, string(digest("redirect", r.Owner+"\x00"+r.RedirectURI))}
}

var errNoSession = fmt.Errorf("%w: it is unknown, or was finished long ago; start again", ErrSession)

// session reads a session; ErrSession says that there is none.
func (e *Engine) session(ctx context.Context, key string) (sessionRecord, storage.Rev, error) {
	if err := e.usable(); err != nil {
		return sessionRecord{}, 0, err
	}
	record, rev, err := e.tables.sessions.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return record, 0, errNoSession
	}
	return record, rev, err
}

// needsNonce reports whether only a nonce binds the id_token to the session: there is no PKCE. Where the provider began,
// there is neither.
func (r *sessionRecord) needsNonce() bool { return r.Verifier.IsZero() && !r.ProviderInitiated }

// sweepAt is when the session may go, as a key part that sorts by time.
func (r *sessionRecord) sweepAt() string { return timeKey(r.Expires.time().Add(sessionRetention)) }

func timeKey(t time.Time) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(max(t.UnixMilli(), 0))))
}

// sweepSessions removes the sessions whose outcome nobody can ask for any more. A batch holds a few dozen of them.
func (e *Engine) sweepSessions(ctx context.Context) error {
	if e.usable() != nil {
		return nil
	}
	due := timeKey(e.now())
	for after := []string(nil); ; {
		entries, more, err := e.tables.expiries.Scan(ctx, nil, after, 64)
		if err != nil {
			return err
		}
		tx := e.db.Begin(ctx)
		swept := 0
		for _, entry := range entries {
			if len(entry) > 0 && entry[0] > due {
				more = false
				break
			}
			after = entry
			if len(entry) != 2 { // entries are not sealed: whoever writes to the store can put anything there
				e.tables.expiries.Unmark(tx, entry...)
				swept++
				continue
			}
			record, rev, err := e.tables.sessions.Get(ctx, entry[1])
			var corrupt *sealed.CorruptError
			switch {
			case errors.As(err, &corrupt): // it stays where it is, and keeps no other one
				e.log.WarnContext(ctx, "a connect session cannot be read and is never swept", "error", err)
			case err == nil:
				e.tables.sessions.Delete(tx, rev, entry[1])
				e.tables.waiting.Unmark(tx, record.waitingKey(entry[1])...)
				if len(record.PollingKey) > 0 {
					e.tables.polled.Unmark(tx, record.polledKey(entry[1])...)
				}
			case !errors.Is(err, storage.ErrNotFound):
				return err
			}
			e.tables.expiries.Unmark(tx, entry...)
			swept++
		}
		if swept == 0 && !more {
			return nil
		}
		if err := e.kernel.Apply(ctx, tx); err != nil && !conflicted(err) { // after a conflict the next minute tries again
			return err
		}
		if !more {
			return nil
		}
	}
}
