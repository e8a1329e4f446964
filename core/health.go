package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/storage"
)

// HealthStatus says in one word how an engine is.
type HealthStatus string

// How an engine may be, from good to bad.
const (
	HealthOK       HealthStatus = "ok"       // there is nothing to do
	HealthDegraded HealthStatus = "degraded" // valid tokens are given out, but somebody has to look at something
	HealthFailing  HealthStatus = "failing"  // no token is given out by this engine
)

// ProblemCode names a kind of problem; docs/runbook.md has a section for each. Later versions have more.
type ProblemCode string

// The problems, the worst first.
const (
	ProblemStoreUnavailable  ProblemCode = "store_unavailable"  // failing: the store cannot be read
	ProblemStoreUnreadable   ProblemCode = "store_unreadable"   // failing: what lies in the store does not open
	ProblemNoTokensKey       ProblemCode = "no_tokens_key"      // failing: opened without KEKs.Tokens
	ProblemQuarantined       ProblemCode = "quarantined"        // see Engine.Quarantined
	ProblemUnsaved           ProblemCode = "unsaved"            // refreshed tokens live in memory alone
	ProblemStoreFull         ProblemCode = "store_full"         // the store has no room
	ProblemStoreNotWritable  ProblemCode = "store_not_writable" // the store does not take what is written
	ProblemNotRunning        ProblemCode = "not_running"        // Run is not running on this engine
	ProblemBackgroundFailing ProblemCode = "background_failing" // background work failed again, less than 2 minutes ago
	ProblemRefreshesBehind   ProblemCode = "refreshes_behind"   // a refresh ahead of expiry is overdue by more than 5 minutes
	ProblemRevocationsBehind ProblemCode = "revocations_behind" // a revocation is overdue by more than an hour
	ProblemEventsBehind      ProblemCode = "events_behind"      // an event has waited for its number for more than a minute
)

// What is late by less than this is no problem.
const (
	refreshesLate   = 5 * time.Minute
	revocationsLate = time.Hour
	eventsLate      = time.Minute
)

// Problem is something that an operator has to look at.
type Problem struct {
	Code    ProblemCode  `json:"code"`
	Status  HealthStatus `json:"status"`  // what it alone makes of the engine
	Message string       `json:"message"` // what is wrong, and what to do
	Runbook string       `json:"runbook"` // where polycred's documentation says more: "docs/runbook.md#unsaved"
}

// Health is how an engine and its store are; see Engine.Health. It holds no ids, no secrets, and no text of an error. In
// JSON the durations are texts such as "1.5ms". What could not be found out, as problems then say, is zero.
type Health struct {
	Status   HealthStatus `json:"status"`   // the worst of the problems, or HealthOK
	Problems []Problem    `json:"problems"` // the worst first; empty when there are none
	Time     time.Time    `json:"time"`     // by the engine's clock

	// StoreRead is how long it took to read and decrypt a record now, StoreWrite how long it took to write one, durably, in
	// the last seconds. 0: unknown.
	StoreRead  catalog.Duration `json:"storeRead"`
	StoreWrite catalog.Duration `json:"storeWrite"`

	Quarantined bool `json:"quarantined"` // see Engine.Quarantined
	// Running says that Run is running on this engine; LastPass when it, or coretest.Step, last came by all accounts that
	// were due to be refreshed, by the engine's clock. That does not wait for the providers.
	Running  bool      `json:"running"`
	LastPass time.Time `json:"dateLastPass,omitzero"`

	// Unsaved counts the refreshed tokens that live in this engine's memory alone, because the store did not take them yet:
	// do not end the process while there are any.
	Unsaved int `json:"unsaved"`

	// What waits in the store, for whichever process. Revocations and Events are counted up to 1,000. A lag is by how much
	// the oldest is overdue, to the minute for refreshes and revocations; it is 0 when nothing is.
	RefreshLag    catalog.Duration `json:"refreshLag"`    // of refreshes ahead of expiry
	Revocations   int              `json:"revocations"`   // grants that providers are still to be asked to end
	RevocationLag catalog.Duration `json:"revocationLag"` // of those whose next attempt is due
	Jobs          int              `json:"jobs"`          // Engine.DeleteUser, Engine.RevokeCredentials: begun and not ended, perhaps cut short
	Events        int              `json:"events"`        // without a number yet
	EventLag      catalog.Duration `json:"eventLag"`      // by the machine's clock
}

// Health says how the engine and its store are, for a readiness check and for alerts: each problem says what to do, and
// where docs/runbook.md says more. It is about the whole; how one account is, Credential tells.
//
// It may be called each second: it reads one record, and once in 5 seconds it writes one and counts what waits in the
// store, all of which is bounded. A store that does not answer within 2 seconds is unavailable.
//
// Do not end a process because of its health: ending it loses what Unsaved counts. Take a process out of service while
// its Status is HealthFailing, and tell somebody when it is not HealthOK.
//
// That the store fails is a problem and no error. Errors: ErrClosed, and ctx's.
func (e *Engine) Health(ctx context.Context) (Health, error) {
	if e.ending.Load() {
		return Health{}, fmt.Errorf("health: %w", ErrClosed)
	}
	h := Health{
		Status: HealthOK, Problems: []Problem{}, Time: e.now(), Quarantined: e.quarantined,
		Running: e.health.running.Load() > 0, LastPass: millis(e.health.passed.Load()).time(), Unsaved: int(e.countUnsaved()),
	}
	took, err := e.tryRead(ctx)
	h.StoreRead = catalog.Duration(took)
	var s *survey
	if err == nil {
		s, err = e.survey(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return Health{}, fmt.Errorf("health: %w", ctx.Err())
	case errors.Is(err, ErrClosed), errors.Is(err, storage.ErrClosed) && e.ending.Load():
		return Health{}, fmt.Errorf("health: %w", ErrClosed)
	case unreadable(err):
		h.add(ProblemStoreUnreadable)
	case err != nil:
		h.add(ProblemStoreUnavailable)
	default:
		h.survey(s)
	}
	if !e.db.HasTokens() {
		h.add(ProblemNoTokensKey)
	}
	if h.Quarantined {
		h.add(ProblemQuarantined)
	}
	if h.Unsaved > 0 {
		h.add(ProblemUnsaved)
	}
	if !h.Running {
		h.add(ProblemNotRunning)
	} else if age := time.Since(time.UnixMilli(e.health.failed.Load())); age < failing {
		h.add(ProblemBackgroundFailing)
	}
	h.sort()
	return h, nil
}

// tryRead reads a record that opens with the most important key there is.
func (e *Engine) tryRead(ctx context.Context) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	if e.db.HasTokens() {
		_, _, err = e.tables.boots.Get(ctx)
	} else {
		_, _, err = e.tables.switches.Get(ctx)
	}
	if errors.Is(err, storage.ErrNotFound) { // the store was full when it was first opened
		err = nil
	}
	return time.Since(began), err
}

// survey adds what is known of the store.
func (h *Health) survey(s *survey) {
	h.StoreWrite = catalog.Duration(s.write)
	h.RefreshLag, h.RevocationLag = catalog.Duration(s.refreshLag), catalog.Duration(s.revocationLag)
	h.Revocations, h.Jobs, h.Events, h.EventLag = s.revocations, s.jobs, s.events, catalog.Duration(s.eventLag)
	switch {
	case errors.Is(s.writeErr, storage.ErrFull):
		h.add(ProblemStoreFull)
	case s.writeErr != nil:
		h.add(ProblemStoreNotWritable)
	}
	if s.refreshLag > refreshesLate && !h.Quarantined {
		h.add(ProblemRefreshesBehind)
	}
	if s.revocationLag > revocationsLate && !h.Quarantined {
		h.add(ProblemRevocationsBehind)
	}
	if s.eventLag > eventsLate {
		h.add(ProblemEventsBehind)
	}
}

// problems are all there are, the worst first, with what is told of them.
var problems = []Problem{
	{Code: ProblemStoreUnavailable, Status: HealthFailing, Message: "The store cannot be read. Look whether it is up and reachable; " +
		"what is under way is tried again by itself."},
	{Code: ProblemStoreUnreadable, Status: HealthFailing, Message: "Something in the store does not open: it is damaged, or of a newer program. " +
		"Look whether the right program runs on the right store; else restore a backup."},
	{Code: ProblemNoTokensKey, Status: HealthFailing, Message: "This engine was opened without the tokens key. Pass KEKs.Tokens to core.Open where accounts are used."},
	{Code: ProblemQuarantined, Status: HealthDegraded, Message: "This store was copied or moved, so nothing is refreshed or revoked. " +
		"Make sure that no other copy is in use, then start once with Options.TakeOver."},
	{Code: ProblemUnsaved, Status: HealthDegraded, Message: "Refreshed tokens live in memory alone, because the store did not take them. " +
		"Do not end this process; mend the store, and they are stored within a minute."},
	{Code: ProblemStoreFull, Status: HealthDegraded, Message: "The store is full. Make room; until then nothing is refreshed or connected."},
	{Code: ProblemStoreNotWritable, Status: HealthDegraded, Message: "The store can be read but not written. Look for a read-only or overloaded store; " +
		"until it is mended nothing is refreshed or connected."},
	{Code: ProblemNotRunning, Status: HealthDegraded, Message: "Engine.Run is not running here. Call it in a goroutine, in every process; " +
		"look at what it returned if it was."},
	{Code: ProblemBackgroundFailing, Status: HealthDegraded, Message: "Background work keeps failing. " +
		"Look for \"background work failed; trying again\" and \"events could not be numbered; trying again\" in the log."},
	{Code: ProblemRefreshesBehind, Status: HealthDegraded, Message: "Refreshes ahead of expiry are late. See that Engine.Run runs and that providers answer; " +
		"else raise Options.RefreshLimit or add a process."},
	{Code: ProblemRevocationsBehind, Status: HealthDegraded, Message: "Revocations are not carried out. See that Engine.Run runs, and whether a provider hangs."},
	{Code: ProblemEventsBehind, Status: HealthDegraded, Message: "Events wait for their numbers, and subscribers for them. See that Engine.Run runs in a process."},
}

func (h *Health) add(code ProblemCode) {
	for _, p := range problems {
		if p.Code == code {
			p.Runbook = "docs/runbook.md#" + string(code)
			h.Problems = append(h.Problems, p)
		}
	}
}

// sort puts the problems in order, and takes the status of the worst.
func (h *Health) sort() {
	place := func(p Problem) int {
		return slices.IndexFunc(problems, func(known Problem) bool { return known.Code == p.Code })
	}
	slices.SortFunc(h.Problems, func(a, b Problem) int { return place(a) - place(b) })
	if len(h.Problems) > 0 {
		h.Status = h.Problems[0].Status
	}
}
