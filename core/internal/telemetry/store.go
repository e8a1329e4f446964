package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/polycred/polycred/storage"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type operation int

const (
	opGet operation = iota
	opGetMany
	opScan
	opApply
)

var operations = [...]string{opGet: "get", opGetMany: "get_many", opScan: "scan", opApply: "apply"}

type outcome int

const (
	outcomeOK          outcome = iota
	outcomeNotFound            // nothing lies under the key; how often that is says nothing
	outcomeConflict            // somebody else was first
	outcomeFull                // the store has no room
	outcomeUnknown             // it is open whether a batch was applied
	outcomeUnavailable         // the store could not be reached
	outcomeCanceled            // the caller went, or its time ran out
	outcomeError               // anything else
)

var outcomes = [...]string{
	outcomeOK: ResultOK, outcomeNotFound: "not_found", outcomeConflict: "conflict", outcomeFull: "full",
	outcomeUnknown: "unknown", outcomeUnavailable: "unavailable", outcomeCanceled: "canceled", outcomeError: "error",
}

// storeOptions are made once: a store is asked for every token.
var storeOptions = func() (all [len(operations)][len(outcomes)][]metric.RecordOption) {
	for op, operation := range operations {
		for end, outcome := range outcomes {
			all[op][end] = []metric.RecordOption{metric.WithAttributeSet(
				attribute.NewSet(keyOperation.String(operation), keyOutcome.String(outcome)),
			)}
		}
	}
	return all
}()

func outcomeOf(err error) outcome {
	if _, conflict := errors.AsType[*storage.ConflictError](err); conflict {
		return outcomeConflict
	}
	switch {
	case err == nil:
		return outcomeOK
	case errors.Is(err, storage.ErrNotFound):
		return outcomeNotFound
	case errors.Is(err, storage.ErrFull):
		return outcomeFull
	case errors.Is(err, storage.ErrUnknownOutcome): // before what ended the connection
		return outcomeUnknown
	case errors.Is(err, storage.ErrUnavailable):
		return outcomeUnavailable
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return outcomeCanceled
	default:
		return outcomeError
	}
}

// store measures another one.
type store struct {
	storage.Store
	duration metric.Float64Histogram
}

var (
	_ storage.Store     = (*store)(nil)
	_ storage.Exclusive = (*store)(nil)
	_ storage.Placer    = (*store)(nil)
)

// Store returns s, measured. It has every optional interface of package storage, and Dir; where s has not, it answers what
// means the same: false, and an empty text.
func (i *Instruments) Store(s storage.Store) storage.Store {
	return &store{Store: s, duration: i.store}
}

func (s *store) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if !s.duration.Enabled(ctx) { // reading the clock twice is a good part of what a read takes
		return s.Store.Get(ctx, key)
	}
	started := time.Now()
	item, err := s.Store.Get(ctx, key)
	s.record(ctx, opGet, started, err)
	return item, err
}

func (s *store) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	started := time.Now()
	items, err := s.Store.GetMany(ctx, keys)
	s.record(ctx, opGetMany, started, err)
	return items, err
}

func (s *store) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	started := time.Now()
	page, err := s.Store.Scan(ctx, r)
	s.record(ctx, opScan, started, err)
	return page, err
}

func (s *store) Apply(ctx context.Context, b storage.Batch) error {
	started := time.Now()
	err := s.Store.Apply(ctx, b)
	s.record(ctx, opApply, started, err)
	return err
}

func (s *store) record(ctx context.Context, op operation, started time.Time, err error) {
	s.duration.Record(ctx, time.Since(started).Seconds(), storeOptions[op][outcomeOf(err)]...)
}

// Exclusive is storage.Exclusive.
func (s *store) Exclusive() bool {
	exclusive, ok := s.Store.(storage.Exclusive)
	return ok && exclusive.Exclusive()
}

// Place is storage.Placer.
func (s *store) Place() string {
	if placer, ok := s.Store.(storage.Placer); ok {
		return placer.Place()
	}
	return ""
}

// Dir is the store's directory, where it has one.
func (s *store) Dir() string {
	if dir, ok := s.Store.(interface{ Dir() string }); ok {
		return dir.Dir()
	}
	return ""
}
