package job_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/job"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/lease"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

const ttl = 30 * time.Second

// report is what painting reports.
type report struct {
	Painted  int            `cbor:"1,keyasint,omitempty"`
	Of       map[string]int `cbor:"2,keyasint,omitempty"`
	Unhinged int            `cbor:"3,keyasint,omitempty"`
}

func (r report) Plus(more report) report {
	sum := report{r.Painted + more.Painted, maps.Clone(r.Of), r.Unhinged + more.Unhinged}
	for of, n := range more.Of {
		if sum.Of == nil {
			sum.Of = map[string]int{}
		}
		sum.Of[of] += n
	}
	return sum
}

// wall is an item, and whatever else the tests store.
type wall struct {
	Coats int `cbor:"1,keyasint"` // how often it was painted
}

// world is a store that several processes share, with a house in it: each wall is to be painted once, each door to be
// unhinged before, each scrap to be swept away behind, and then a sign says how often all of it was done.
type world struct {
	*testing.T
	store *faulty
	keks  crypto.KEKs
	*process
	others []*process
}

// process opens the world's store by itself.
type process struct {
	*job.Jobs[report]
	kernel  *kernel.Kernel
	records *sealed.Table[job.Record[report]]
	walls   *sealed.Table[wall] // house, id
	doors   *sealed.Table[wall] // house, id
	scraps  *sealed.Index       // house, id
	signs   *sealed.Table[wall] // house
	clock   *clock

	leases *lease.Table
	ending atomic.Bool
	// at is called at each step of a job, when all was read that it changes.
	at func(ctx context.Context, step string) error
}

var errEnding = errors.New("the process ends")

func newWorld(t *testing.T) *world {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, store: &faulty{Store: memory.New()}, keks: crypto.KEKs{Policy: kek}}
	w.store.left.Store(-1)
	w.process = w.open(lease.Options{})
	return w
}

// open returns a process of its own; what o leaves out is filled in.
func (w *world) open(o lease.Options) *process {
	w.Helper()
	db, err := sealed.Open(w.Context(), w.store, w.keks, "", nil)
	if err != nil {
		w.Fatal(err)
	}
	p := &process{
		walls: sealed.NewTable[wall](db, sealed.Spec{Tag: 'w', Name: "wall", Plane: sealed.Policy, Format: 1}),
		doors: sealed.NewTable[wall](db, sealed.Spec{Tag: 'd', Name: "door", Plane: sealed.Policy, Format: 1}),
		signs: sealed.NewTable[wall](db, sealed.Spec{Tag: 's', Name: "sign", Plane: sealed.Policy, Format: 1}),

		scraps: sealed.NewIndex(db, 'x', "scraps"), records: job.NewTable[report](db),
		clock: &clock{now: time.Unix(1_800_000_000, 0)},
		at:    func(context.Context, string) error { return nil },
	}
	o.Boot, o.Now, o.TTL = fmt.Sprint("boot ", len(w.others)), p.clock.Now, ttl
	p.kernel = kernel.New(db, p.clock.Now, slog.New(slog.DiscardHandler))
	p.leases = lease.New(db, o)
	p.start(time.Hour) // by the clock of the tests nothing has to be renewed
	w.others = append(w.others, p)
	return p
}

// start makes the jobs, which renew leases of that length in real time.
func (p *process) start(length time.Duration) {
	p.Jobs = job.New(p.kernel, p.leases, p.records, job.Options[report]{
		Kind: func(kind, subject, until string) job.Kind[report] {
			if kind != "paint" {
				panic("a job of kind " + kind)
			}
			return &painting{p, subject, until}
		},
		Begin: func() (func(), error) {
			if p.ending.Load() {
				return nil, errEnding
			}
			return func() {}, nil
		},
		TTL: length,
	})
}

// painting is the Kind of the tests.
type painting struct {
	*process
	house, until string
}

func (k *painting) Page(
	ctx context.Context, after []string, limit int,
) (items []job.Item, last []string, more bool, err error) {
	rows, more, err := k.walls.Keys(ctx, []string{k.house}, after, limit)
	for _, row := range rows {
		if k.until != "" && row.Key[1] > k.until {
			return items, row.Key, false, err
		}
		last = row.Key
		items = append(items, job.Item{ID: row.Key[1], Of: k.house})
	}
	return items, last, more, errors.Join(err, k.at(ctx, "page"))
}

func (k *painting) Before(ctx context.Context, r *job.Run[report]) error {
	rows, _, err := k.doors.Keys(ctx, []string{k.house}, nil, 0)
	for _, row := range rows {
		err = errors.Join(err, r.Apply(ctx, func(tx *sealed.Tx) (report, error) {
			_, rev, err := k.doors.Get(ctx, row.Key...)
			if errors.Is(err, storage.ErrNotFound) {
				return report{}, job.ErrUnchanged
			}
			k.doors.Delete(tx, rev, row.Key...)
			return report{Unhinged: 1}, errors.Join(err, k.at(ctx, "before"))
		}))
	}
	return err
}

func (k *painting) Do(ctx context.Context, tx *sealed.Tx, item job.Item) (report, error) {
	v, rev, err := k.walls.Get(ctx, item.Of, item.ID)
	switch {
	case err != nil:
		return report{}, err
	case v.Coats < 0:
		return report{}, job.ErrUnchanged
	}
	v.Coats++
	k.walls.Put(tx, &v, rev, item.Of, item.ID)
	return report{Painted: 1, Of: map[string]int{item.Of: 1}}, k.at(ctx, "do")
}

func (k *painting) After(ctx context.Context, r *job.Run[report]) error {
	return r.Sweep(ctx, func(tx *sealed.Tx) (bool, error) {
		scraps, _, err := k.scraps.Scan(ctx, []string{k.house}, nil, 2)
		for _, scrap := range scraps {
			k.scraps.Unmark(tx, scrap...)
		}
		return len(scraps) > 0, errors.Join(err, k.at(ctx, "after"))
	})
}

func (k *painting) End(ctx context.Context, tx *sealed.Tx, _ *report) error {
	sign, rev, err := k.signs.Get(ctx, k.house)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	sign.Coats++
	k.signs.Put(tx, &sign, rev, k.house)
	return k.at(ctx, "end")
}

// build makes a house with so many walls, three doors and five scraps.
func (w *world) build(house string, walls int) {
	w.Helper()
	tx := w.kernel.DB().Begin(w.Context())
	for i := range walls {
		w.walls.Put(tx, &wall{}, 0, house, id(i))
		if i%100 == 99 {
			w.apply(tx)
			tx = w.kernel.DB().Begin(w.Context())
		}
	}
	for i := range 3 {
		w.doors.Put(tx, &wall{}, 0, house, fmt.Sprint(i))
	}
	for i := range 5 {
		w.scraps.Mark(tx, house, fmt.Sprint(i))
	}
	w.apply(tx)
}

func (w *world) apply(tx *sealed.Tx) {
	w.Helper()
	if err := w.kernel.Apply(w.Context(), tx); err != nil {
		w.Fatal(err)
	}
}

// id is that of a wall: they are spread over all parts.
func id(i int) string { return fmt.Sprintf("%04x", i) }

// order makes a job to paint a house.
func (w *world) order(house, until string) (id string) {
	w.Helper()
	id, rev, err := w.Running(w.Context(), "paint", house)
	if err != nil || id != "" {
		w.Fatalf("Running() = %q, %v, want none", id, err)
	}
	tx := w.kernel.DB().Begin(w.Context())
	id = w.Add(tx, rev, "paint", house, until)
	w.apply(tx)
	return id
}

// finish carries the job on and returns its report.
func (p *process) finish(t *testing.T, house, id string) report {
	t.Helper()
	got, err := p.Finish(t.Context(), "paint", house, id, func(job.Progress) {})
	if err != nil {
		t.Fatalf("Finish() = %v, want nil", err)
	}
	return got
}

// later is finish in a goroutine of its own.
func (p *process) later(t *testing.T, house, id string) <-chan report {
	ended := make(chan report, 1)
	go func() {
		got, err := p.Finish(t.Context(), "paint", house, id, func(job.Progress) {})
		if err != nil {
			t.Errorf("Finish() = %v, want nil", err)
		}
		ended <- got
	}()
	return ended
}

// whole is the report of a house with so many walls.
func whole(house string, walls int) report {
	return report{Painted: walls, Of: map[string]int{house: walls}, Unhinged: 3}
}

func (w *world) wantReport(got, want report) {
	w.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("report (-want +got):\n%s", diff)
	}
}

// wantPainted fails the test unless everything was done to the house once, and the job with that id has said so.
func (w *world) wantPainted(house, id string, walls int) {
	w.Helper()
	ctx := w.Context()
	seen := 0
	for after, more := []string(nil), true; more; {
		rows, next, err := w.walls.List(ctx, []string{house}, after, 0)
		if err != nil {
			w.Fatal(err)
		}
		for _, row := range rows {
			after = row.Key
			if seen++; row.Value.Coats != 1 {
				w.Errorf("wall %v has %d coats, want 1", row.Key, row.Value.Coats)
			}
		}
		more = next
	}
	doors, _, err := w.doors.Keys(ctx, []string{house}, nil, 0)
	if err != nil {
		w.Fatal(err)
	}
	scraps, _, err := w.scraps.Scan(ctx, []string{house}, nil, 0)
	if err != nil {
		w.Fatal(err)
	}
	if seen != walls || len(doors) != 0 || len(scraps) != 0 {
		w.Errorf("%d walls, %d doors and %d scraps, want %d, none and none", seen, len(doors), len(scraps), walls)
	}
	if sign, _, err := w.signs.Get(ctx, house); err != nil || sign.Coats != 1 {
		w.Errorf("sign = %v, %v, want the job to end once", sign, err)
	}
	rows, _, err := w.records.List(ctx, []string{"paint", house}, nil, 0)
	if err != nil || len(rows) != 1 || rows[0].Value.ID != id || rows[0].Value.Ended == 0 {
		w.Fatalf("records = %+v, %v, want the one of job %s, which ended", rows, err, id)
	}
	w.wantReport(rows[0].Value.Report, whole(house, walls))
}

// items are what the store holds, but for leases: the revisions, by key.
func (w *world) items() map[string]storage.Rev {
	w.Helper()
	page, err := w.store.Scan(w.Context(), storage.Range{})
	if err != nil || page.Next != nil {
		w.Fatalf("Scan() = %v, want all at once", err)
	}
	items := map[string]storage.Rev{}
	for _, item := range page.Items {
		if item.Key[0] != 'v' {
			items[string(item.Key)] = item.Rev
		}
	}
	return items
}

// faulty is a store that fails, in one of several ways, once a number of batches were applied. Those of leases do not
// count.
type faulty struct {
	storage.Store
	left    atomic.Int64 // batches until it fails; below 0 it does not
	how     failure
	failed  atomic.Bool
	applied atomic.Int64 // batches, but for those of leases
	leases  atomic.Bool  // fail as well

	looked   func() // called, if it is there, when somebody looks at a lease
	released func() // called, if it is there, before somebody releases one
}

type failure string

const (
	forGood      failure = "a store that fails" // from then on it takes nothing
	onceLost     failure = "an answer that is lost"
	onceVanished failure = "a batch that is lost" // and nobody can say so
)

var errFailing = errors.New("the store fails")

func (s *faulty) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if key[0] == 'v' && s.looked != nil {
		s.looked()
	}
	return s.Store.Get(ctx, key)
}

func (s *faulty) Apply(ctx context.Context, b storage.Batch) error {
	if len(b.Puts) > 0 && b.Puts[0].Key[0] == 'v' || len(b.Deletes) > 0 && b.Deletes[0].Key[0] == 'v' {
		if s.leases.Load() {
			return errFailing
		}
		if len(b.Deletes) > 0 && s.released != nil {
			s.released()
		}
		return s.Store.Apply(ctx, b)
	}
	s.applied.Add(1)
	if s.left.Load() < 0 {
		return s.Store.Apply(ctx, b)
	}
	switch left := s.left.Add(-1); {
	case left >= 0:
		return s.Store.Apply(ctx, b)
	case s.how == forGood:
		s.failed.Store(true)
		s.left.Store(0)
		return errFailing
	case s.how == onceLost:
		if err := s.Store.Apply(ctx, b); err != nil {
			return err
		}
	}
	s.failed.Store(true)
	return storage.ErrUnknownOutcome
}

// clock stands until it is moved.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
