package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core/internal/oauth"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// StoredCredential is a credential as it lies in the store.
type StoredCredential = credentialRecord

// StoredCredential reads one.
func (e *Engine) StoredCredential(ctx context.Context, user, id string) (StoredCredential, error) {
	record, _, err := e.credential(ctx, user, id)
	return record, err
}

// Sweep is what Run does each minute.
func (e *Engine) Sweep(ctx context.Context) error { return e.sweepSessions(ctx) }

// Settle returns when no refresh of a credential is under way.
func (e *Engine) Settle(user, id string) {
	_, _, _ = e.refreshes.Do(flightKey(user, id), func() (any, error) { return flown{}, nil })
}

// Run makes engines that are opened with these options another run of the program, as if in a process of its own.
func (o *Options) Run(boot string) { o.boot = boot }

// Unsaved reports whether the answer to a refresh of a credential lives in memory alone.
func (e *Engine) Unsaved(user, id string) bool {
	_, ok := e.unsaved.Load(flightKey(user, id))
	return ok
}

// RefreshBehind is what a Token call with a token that is due does.
func (e *Engine) RefreshBehind(ctx context.Context, user string, seen *StoredCredential) {
	e.refreshBehind(ctx, user, &seen.tokenRecord)
}

func TestJitter(t *testing.T) {
	t.Parallel()
	seen := make(map[int]bool)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 1000 {
		record := tokenRecord{ID: newID(), Refreshed: toMillis(now)}
		jitter := record.jitter()
		if jitter < -100 || jitter > 100 {
			t.Fatalf("jitter = %d, want -100 to 100", jitter)
		}
		if again := record.jitter(); again != jitter {
			t.Fatalf("jitter = %d and then %d, want the same", jitter, again)
		}
		seen[jitter] = true
	}
	if len(seen) < 150 {
		t.Errorf("1000 credentials have %d kinds of jitter, want most of 201", len(seen))
	}
	record := tokenRecord{ID: newID()}
	for record.Refreshed = 1; record.Refreshed < 1000; record.Refreshed++ {
		if jitter := record.jitter(); jitter < -100 || jitter > 100 {
			t.Fatalf("jitter at %d = %d, want -100 to 100", record.Refreshed, jitter)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	last := time.Duration(0)
	for failures := range 100 {
		wait := backoff(failures)
		if wait < time.Second || wait > maxBackoff || wait < last {
			t.Errorf("backoff(%d) = %v after %v, want it to grow from 1s to %v", failures, wait, last, maxBackoff)
		}
		last = wait
	}
	if last != maxBackoff {
		t.Errorf("backoff ends at %v, want %v", last, maxBackoff)
	}
}

// fullStore refuses every batch once it is full.
type fullStore struct {
	storage.Store
	full func()
}

func (s *fullStore) Apply(ctx context.Context, b storage.Batch) error {
	if s.full == nil {
		return s.Store.Apply(ctx, b)
	}
	s.full()
	return storage.ErrFull
}

// A token that the store does not take in all the time there is still reaches whoever waits for it.
func TestRefreshedTokenThatCannotBeStored(t *testing.T) {
	t.Parallel()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	store := &fullStore{Store: memory.New()}
	e, err := Open(t.Context(), store, crypto.KEKs{Tokens: kek, Policy: kek}, &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	spent := credentialRecord{tokenRecord: tokenRecord{
		ID: newID(), Integration: "x", Status: StatusValid,
		AccessToken: crypto.NewSecret("at-old"), RefreshToken: crypto.NewSecret("rt-old"),
	}}
	tx := e.db.Begin(t.Context())
	rev := e.tables.credentials.Put(tx, &spent, 0, "u", spent.ID)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tries := 0
	store.full = func() {
		if tries++; tries == 3 {
			cancel()
		}
	}
	got, err := e.write(ctx, "u", &spent, rev, unsaved{spent: spent.tokenRecord, at: e.now(), answer: &oauth.Answer{
		AccessToken: crypto.NewSecret("at-new"), RefreshToken: crypto.NewSecret("rt-new"), Lifetime: time.Hour,
	}})
	if err != nil || got.AccessToken.Reveal() != "at-new" {
		t.Errorf("refreshed = %v, %v, want the new token", got.AccessToken.Reveal(), err)
	}
	if tries != 3 {
		t.Errorf("tries = %d, want 3", tries)
	}
	if text := log.String(); !strings.Contains(text, "could not be stored") || strings.Contains(text, "at-") || strings.Contains(text, "rt-") {
		t.Errorf("log = %s, want a line without tokens", text)
	}
	if text := fmt.Sprintf("%v %+v %#v", got, got, &got); strings.Contains(text, "at-new") || strings.Contains(text, "rt-") {
		t.Errorf("a credential record prints its tokens: %s", text)
	}
	if _, err := e.StoredCredential(t.Context(), "u", newID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown credential: error %v, want %v", err, ErrNotFound)
	}
}
