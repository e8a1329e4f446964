package core_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// health asks an engine how it is. The texts are searched for secrets, as errors are.
func (w *world) health(engine *core.Engine) core.Health {
	w.Helper()
	h, err := engine.Health(w.Context())
	if err != nil {
		w.Fatal(w.note(err))
	}
	text, err := json.Marshal(h)
	if err != nil {
		w.Fatal(err)
	}
	_, _ = w.Write(append(text, '\n'))
	return h
}

// wantProblems fails the test unless the engine has exactly these, in that order.
func (w *world) wantProblems(what string, engine *core.Engine, status core.HealthStatus, want ...core.ProblemCode) core.Health {
	w.Helper()
	h := w.health(engine)
	var got []core.ProblemCode
	for _, p := range h.Problems {
		got = append(got, p.Code)
		if p.Message == "" || p.Runbook != "docs/runbook.md#"+string(p.Code) || p.Status == core.HealthOK {
			w.Errorf("%s: problem %+v does not say what to do", what, p)
		}
	}
	if h.Status != status || !slices.Equal(got, want) {
		w.Errorf("%s: %s with %q, want %s with %q", what, h.Status, got, status, want)
	}
	return h
}

// ran waits until Run has begun on an engine.
func (w *world) ran(engine *core.Engine) {
	w.Helper()
	for w.Context().Err() == nil {
		if h := w.health(engine); h.Running && !h.LastPass.IsZero() {
			return
		}
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), nil)
			w.mustConnect("u", "ada", core.ConnectInput{})
			w.wantProblems("not running", w.engine, core.HealthDegraded, core.ProblemNotRunning)
			stop := w.running(w.engine)
			w.ran(w.engine)
			w.clock.Advance(10 * time.Second)
			h := w.wantProblems("running", w.engine, core.HealthOK)
			if h.StoreRead <= 0 || h.StoreWrite <= 0 {
				t.Errorf("read in %v, written in %v, want both to be known", h.StoreRead, h.StoreWrite)
			}
			want := core.Health{Status: core.HealthOK, Problems: []core.Problem{}, Time: w.clock.Now(), Running: true}
			ignored := cmpopts.IgnoreFields(core.Health{}, "StoreRead", "StoreWrite", "LastPass", "Events", "EventLag")
			if diff := cmp.Diff(want, h, ignored); diff != "" {
				t.Errorf("Health (-want +got):\n%s", diff)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			w.wantProblems("stopped", w.engine, core.HealthDegraded, core.ProblemNotRunning)
		})
	}
}

// moodyHealth is a store that fails as a test says.
type moodyHealth struct {
	storage.Store
	read, write atomic.Pointer[error]
}

func (s *moodyHealth) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if err := s.read.Load(); err != nil {
		return storage.Item{}, *err
	}
	return s.Store.Get(ctx, key)
}

func (s *moodyHealth) Apply(ctx context.Context, b storage.Batch) error {
	if err := s.write.Load(); err != nil {
		return *err
	}
	return s.Store.Apply(ctx, b)
}

func TestHealthOfStore(t *testing.T) {
	t.Parallel()
	store := &moodyHealth{Store: memory.New()}
	w := newWorld(t, store, nil)
	down := errors.New("connection refused: canary-dsn")
	w.wantProblems("at first", w.engine, core.HealthDegraded, core.ProblemNotRunning)

	store.write.Store(&down)
	w.wantProblems("within seconds", w.engine, core.HealthDegraded, core.ProblemNotRunning) // as it was found
	w.clock.Advance(5 * time.Second)
	for range 2 { // a failure is looked at again at once
		w.wantProblems("read-only", w.engine, core.HealthDegraded, core.ProblemStoreNotWritable, core.ProblemNotRunning)
	}
	store.write.Store(&storage.ErrFull)
	w.wantProblems("full", w.engine, core.HealthDegraded, core.ProblemStoreFull, core.ProblemNotRunning)
	store.write.Store(nil)
	w.wantProblems("mended", w.engine, core.HealthDegraded, core.ProblemNotRunning)

	store.read.Store(&down)
	h := w.wantProblems("down", w.engine, core.HealthFailing, core.ProblemStoreUnavailable, core.ProblemNotRunning)
	if h.StoreWrite != 0 {
		t.Errorf("written in %v by a store that is down", h.StoreWrite)
	}
	store.read.Store(nil)
	w.wantProblems("up again", w.engine, core.HealthDegraded, core.ProblemNotRunning)

	w.eachRecord('b', "", func(item storage.Item) storage.Batch {
		item.Value[len(item.Value)-1] ^= 1
		return storage.Batch{Puts: []storage.Put{{Key: item.Key, Value: item.Value, If: item.Rev, Rev: item.Rev + 1}}}
	})
	w.wantProblems("damaged", w.engine, core.HealthFailing, core.ProblemStoreUnreadable, core.ProblemNotRunning)
}

// What waits is counted, and late only when it is.
func TestHealthOfWork(t *testing.T) {
	t.Parallel()
	w := newRevoking(t, nil, core.Revocation{})
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	gone := w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true})
	w.disconnect("u", gone.ID)
	h := w.health(w.engine)
	if h.Revocations != 1 || h.RevocationLag != 0 || h.RefreshLag != 0 || h.Events < 4 || h.EventLag <= 0 || h.EventLag.Std() > time.Minute {
		t.Errorf("Health = %+v, want a revocation, events, and no lag but theirs", h)
	}
	record := w.stored("u", ada.ID)
	w.clock.Set(record.Due.Time().Add(5 * time.Minute))
	if h := w.wantProblems("on the edge", w.engine, core.HealthDegraded, core.ProblemNotRunning); h.RefreshLag.Std() != 5*time.Minute {
		t.Errorf("refreshes are %v behind, want 5m", h.RefreshLag)
	}
	w.clock.Advance(time.Minute)
	w.wantProblems("late", w.engine, core.HealthDegraded, core.ProblemNotRunning, core.ProblemRefreshesBehind)
	w.clock.Advance(time.Hour)
	h = w.wantProblems("later", w.engine, core.HealthDegraded,
		core.ProblemNotRunning, core.ProblemRefreshesBehind, core.ProblemRevocationsBehind)
	if h.RevocationLag.Std() < time.Hour {
		t.Errorf("revocations are %v behind, want more than an hour", h.RevocationLag)
	}
	w.step(w.engine)
	w.clock.Advance(10 * time.Second)
	h = w.wantProblems("done", w.engine, core.HealthDegraded, core.ProblemNotRunning)
	if h.Revocations != 0 || h.Events != 0 || h.EventLag != 0 || !h.LastPass.Equal(w.clock.Now().Add(-10*time.Second)) {
		t.Errorf("Health = %+v, want nothing to wait, and a pass 10 s ago", h)
	}
}

// A token that the store does not take is told at once, and until it is stored.
func TestHealthOfUnsaved(t *testing.T) {
	t.Parallel()
	store := &fillable{Store: memory.New()}
	w := newWorld(t, store, nil)
	w.rotate()
	ada := w.expired()
	w.keepUnsaved(store, ada.ID)
	h := w.wantProblems("full", w.engine, core.HealthDegraded,
		core.ProblemUnsaved, core.ProblemStoreFull, core.ProblemNotRunning, core.ProblemRefreshesBehind)
	if h.Unsaved != 1 {
		t.Errorf("Unsaved = %d, want 1", h.Unsaved)
	}
	store.full.Store(false)
	w.step(w.engine)
	if h := w.wantProblems("stored", w.engine, core.HealthDegraded, core.ProblemNotRunning); h.Unsaved != 0 {
		t.Errorf("Unsaved = %d, want 0", h.Unsaved)
	}
}

func TestSecurity22_HealthOfQuarantine(t *testing.T) {
	t.Parallel()
	store := &movedStore{memory.New(), "here"}
	w := newWorld(t, store, nil)
	w.mustConnect("u", "ada", core.ConnectInput{})
	store.place = "elsewhere"
	quarantined := w.open()
	w.clock.Advance(3 * time.Hour)
	h := w.wantProblems("a copy", quarantined, core.HealthDegraded, core.ProblemQuarantined, core.ProblemNotRunning)
	if !h.Quarantined || h.RefreshLag == 0 {
		t.Errorf("Health = %+v, want it quarantined, and the lag told", h)
	}
	w.opts.TakeOver = true
	taken := w.open()
	w.step(taken)
	w.clock.Advance(10 * time.Second)
	w.wantProblems("taken over", taken, core.HealthDegraded, core.ProblemNotRunning)
}

func TestHealthWithoutTokensKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.keks.Tokens = nil
	w.wantProblems("a policy engine", w.open(), core.HealthFailing, core.ProblemNoTokensKey, core.ProblemNotRunning)
}

func TestHealthErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.engine.Health(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Health of a context that is done = %v, want %v", err, context.Canceled)
	}
	if err := w.engine.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := w.engine.Health(t.Context())
	w.wantErr("Health of a closed engine", err, core.ErrClosed)
}

// A store that hangs is unavailable after a moment, for everybody who asks.
func TestHealthOfAStoreThatHangs(t *testing.T) {
	t.Parallel()
	store := &hangingStore{Store: memory.New()}
	w := newWorld(t, store, nil)
	store.hang.Store(true)
	began := time.Now()
	together(8, func(int) {
		w.wantProblems("hanging", w.engine, core.HealthFailing, core.ProblemStoreUnavailable, core.ProblemNotRunning)
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v, want about 2 seconds", took)
	}
	store.hang.Store(false)
}

// hangingStore does not answer.
type hangingStore struct {
	storage.Store
	hang atomic.Bool
}

func (s *hangingStore) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if s.hang.Load() {
		<-ctx.Done()
		return storage.Item{}, ctx.Err()
	}
	return s.Store.Get(ctx, key)
}

// Background work that fails again and again is a problem, and ends to be one.
func TestHealthOfBackgroundWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	failed := make(chan struct{}, 100)
	w.engine.Kernel().Background(time.Millisecond, func(context.Context) error {
		select {
		case failed <- struct{}{}:
		default:
		}
		return errors.New("it failed: 4711")
	})
	stop := w.running(w.engine)
	for range 10 {
		<-failed
	}
	w.ran(w.engine)
	h := w.health(w.engine)
	if len(h.Problems) != 1 || h.Problems[0].Code != core.ProblemBackgroundFailing || strings.Contains(h.Problems[0].Message, "4711") {
		t.Errorf("problems = %+v, want that background work fails, without the text of its error", h.Problems)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// Asking costs one read, but for once in five seconds.
func TestHealthIsCheap(t *testing.T) {
	t.Parallel()
	store := &spyStore{Store: memory.New()}
	w := newWorld(t, store, nil)
	w.health(w.engine)
	writes := 0
	store.intercept(func(_ storage.Batch, next func() error) error {
		writes++
		return next()
	})
	before := store.reads.Load()
	for range 4 {
		w.health(w.engine)
	}
	if got := store.reads.Load() - before; got > 4 || writes != 0 {
		t.Errorf("4 calls cost %d reads and %d writes, want 4 and none", got, writes)
	}
	w.clock.Advance(5 * time.Second)
	before = store.reads.Load()
	w.health(w.engine)
	if got := store.reads.Load() - before; got > 64 || writes != 2 {
		t.Errorf("a call 5 seconds later costs %d reads and %d writes, want up to 64 and 2", got, writes)
	}
}

// An operator's readiness check: HealthFailing takes the process out of service, everything else that is not HealthOK is
// for a person.
func ExampleEngine_Health() {
	ctx := context.Background()
	kek, err := crypto.NewKEK()
	check(err)
	engine, err := core.Open(ctx, memory.New(), crypto.KEKs{Tokens: kek, Policy: kek}, nil)
	check(err)
	defer func() { check(engine.Close()) }()

	health, err := engine.Health(ctx)
	check(err)
	fmt.Println("ready:", health.Status != core.HealthFailing)
	fmt.Println("all is well:", health.Status == core.HealthOK)
	for _, problem := range health.Problems {
		fmt.Println(problem.Code, "→", problem.Runbook)
	}
	// Output:
	// ready: true
	// all is well: false
	// not_running → docs/runbook.md#not_running
}
