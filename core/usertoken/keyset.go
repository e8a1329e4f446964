package usertoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// How long key sets are good for, and how often they are asked for.
const (
	keysFresh = 10 * time.Minute // after that they are fetched again
	keysStale = time.Hour        // until then they are used when that fails
	// The least time between two requests to one URL: after a set that came, after a failure while there is a set to go
	// on with, and after one while there is none (security 28).
	keysPause = 30 * time.Second
	keysRetry = 5 * time.Second

	maxKeysBody = 256 << 10
	maxKeySets  = 100 // remembered by one KeySets
)

// KeySetsOptions of KeySets; the zero value is fine.
type KeySetsOptions struct {
	// PlainHTTP are the exact "host:port" ("127.0.0.1:9000") that may be asked over plain http. Empty means none.
	PlainHTTP []string
	// Timeout bounds one request; 0 means 5 seconds, a minute is the most.
	Timeout time.Duration
	// Now is the clock; nil means time.Now. It is called concurrently.
	Now func() time.Time
}

// KeySets fetches the JWK sets of issuers and remembers them by their URL. They outlive a Verifier: pass the same KeySets
// to the one that takes its place, so that a change of the project's own keys does not have everything fetched again.
//
// A set is fetched when a token needs it, and by one request however many tokens wait. It is fetched again when it is 10
// minutes old, and when a token names a key that is not in it, but never within 30 seconds of the last time; within 5
// seconds where that failed and nothing is there to go on with. One that cannot be fetched again is used until it is an
// hour old. An answer has to be a 200 of at most 256 KiB and 100 keys; redirects are not followed. What the server says
// about caching does not count.
//
// There is no work in the background, and so no Close: a request ends after the timeout at the latest, also when nobody
// waits for it any more. All methods may be called concurrently.
type KeySets struct {
	transport http.RoundTripper
	opts      KeySetsOptions

	mu   sync.Mutex // guards what follows
	sets map[string]*keySet
}

// NewKeySets returns KeySets whose requests go through transport, which alone decides which addresses they may reach: it
// should be one that dials no private ones. It has to honour the context of a request, as http.RoundTripper asks.
// Without a transport or with a timeout out of bounds that is an error.
func NewKeySets(transport http.RoundTripper, opts *KeySetsOptions) (*KeySets, error) {
	if transport == nil {
		return nil, errors.New("key sets need a transport")
	}
	s := &KeySets{transport: transport, sets: make(map[string]*keySet)}
	if opts != nil {
		s.opts = *opts
	}
	s.opts.PlainHTTP = slices.Clone(s.opts.PlainHTTP)
	s.opts.Timeout = cmp.Or(s.opts.Timeout, 5*time.Second)
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	if s.opts.Timeout < 0 || s.opts.Timeout > time.Minute {
		return nil, errors.New("the timeout of key sets must be between 0 and a minute")
	}
	return s, nil
}

// open returns the set at a URL.
func (s *KeySets) open(rawURL string) (*keySet, error) {
	if err := checkKeysURL(rawURL, s.opts.PlainHTTP); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if set := s.sets[rawURL]; set != nil {
		return set, nil
	}
	if len(s.sets) >= maxKeySets { // URLs that were configured once; a Verifier that uses one keeps it
		clear(s.sets)
	}
	set := &keySet{url: rawURL, owner: s}
	s.sets[rawURL] = set
	return set, nil
}

// keySet is the JWK set at one URL.
type keySet struct {
	url   string
	owner *KeySets

	mu      sync.Mutex // guards what follows
	keys    []candidate
	fetched time.Time     // when the request for keys began; zero: there are none
	asked   time.Time     // when the last request ended; zero: there was none
	failed  error         // what became of it; nil: keys
	flight  chan struct{} // closed when the request under way has ended; nil: none is
}

// find returns the keys that may have signed a token with this header, at least one. It fetches what it must, and waits
// for that no longer than ctx. An error is an ErrToken when there is no such key, and otherwise says why there are none.
func (s *keySet) find(ctx context.Context, h header) ([]candidate, error) {
	for {
		found, flight, err := s.look(ctx, h)
		if flight == nil {
			return found, err
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// look returns what is there, or the request to wait for before looking again. Who finds a set that is due waits for the
// new one; who comes while it is under way goes on with the old.
func (s *keySet) look(ctx context.Context, h header) ([]candidate, chan struct{}, error) {
	now := s.owner.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	usable := within(now, s.fetched, keysStale)
	if !usable {
		s.keys = nil
	}
	due := s.dueLocked(now, usable)
	found := match(s.keys, h.method, h.kid)
	if len(found) > 0 && (within(now, s.fetched, keysFresh) || s.flight != nil || !due) {
		return found, nil, nil
	}
	if s.flight == nil && due {
		s.fetchLocked(ctx, now)
	}
	if s.flight != nil {
		return nil, s.flight, nil
	}
	// A kid that is in no key of the set may still mean one of those that have none (RFC 7515 §4.1.4: it is a hint).
	if found = unnamed(s.keys, h.method); len(found) > 0 {
		return found, nil, nil
	}
	switch {
	case s.failed != nil:
		return nil, nil, s.failed
	case !usable:
		return nil, nil, errors.New("they are too old")
	case h.kid == "":
		return nil, nil, refuse("its issuer has no %s key", h.method.Alg())
	}
	return nil, nil, refuse("its issuer has no %s key with the kid %s", h.method.Alg(), clip(h.kid))
}

// dueLocked reports whether the set may be asked for now.
func (s *keySet) dueLocked(now time.Time, usable bool) bool {
	pause := keysPause
	if s.failed != nil && !usable {
		pause = keysRetry
	}
	return !within(now, s.asked, pause)
}

// fetchLocked begins the request that everybody waits for; so it does not end with the caller that happened to be first.
func (s *keySet) fetchLocked(ctx context.Context, began time.Time) {
	flight := make(chan struct{})
	s.flight = flight
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer close(flight)
		keys, err := s.owner.get(ctx, s.url)
		now := s.owner.opts.Now()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flight, s.asked, s.failed = nil, now, err
		if err == nil {
			s.keys, s.fetched = keys, began
		}
	}()
}

// get asks for a JWK set. Errors hold no URL, which may hold an API key (security 27).
func (s *KeySets) get(ctx context.Context, rawURL string) ([]candidate, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, errors.New("the keys URL cannot be asked for")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	// Not through an http.Client, which follows redirects and keeps cookies.
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer has the status %d, want 200; redirects are not followed", res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeysBody+1))
	switch {
	case err != nil:
		return nil, s.explain(ctx, err)
	case len(body) > maxKeysBody:
		return nil, fmt.Errorf("the answer has more than %d KiB", maxKeysBody>>10)
	}
	return parseKeySet(body)
}

func (s *KeySets) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("there was no answer within %s", s.opts.Timeout)
	}
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return err
}

// within reports whether t is less than d before now. A time that is after now is not: the clock was set back, and how
// long ago it really was cannot be told.
func within(now, t time.Time, d time.Duration) bool {
	return !t.IsZero() && !now.Before(t) && now.Sub(t) < d
}
