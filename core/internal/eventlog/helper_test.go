package eventlog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/eventlog"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

// event is the record of these tests.
type event struct {
	Text   string `cbor:"1,keyasint"`
	Writer int    `cbor:"2,keyasint,omitempty"`
	Nth    int    `cbor:"3,keyasint,omitempty"`
}

var (
	spec        = eventlog.Spec{Outbox: 'o', Entries: 'l', Head: 'h', Name: "event", Plane: sealed.Policy, Format: 1}
	outboxSpec  = sealed.Spec{Tag: 'o', Name: "event outbox", Plane: sealed.Policy, Format: 1}
	entriesSpec = sealed.Spec{Tag: 'l', Name: "event", Plane: sealed.Policy, Format: 1}
	marksSpec   = sealed.Spec{Tag: 'h', Name: "event mark", Plane: sealed.Policy, Format: 1}
)

// world is a store that several processes share.
type world struct {
	store *faulty
	keks  crypto.KEKs
	clock clock
}

func newWorld(t testing.TB, store storage.Store) *world {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	return &world{store: &faulty{Store: store}, keks: crypto.KEKs{Tokens: kek, Policy: kek}}
}

func newMemory(t testing.TB) *world { return newWorld(t, memory.New()) }

func (w *world) open(t testing.TB) *sealed.DB { return w.openOver(t, w.store) }

func (w *world) openOver(t testing.TB, store storage.Store) *sealed.DB {
	t.Helper()
	db, err := sealed.Open(t.Context(), store, w.keks, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// process is one process with its log.
type process struct {
	*eventlog.Log[event]
	db *sealed.DB
}

func (w *world) process(t testing.TB) process { return w.over(t, w.store) }

// over is a process whose calls go to store, which is w's or what lies below it.
func (w *world) over(t testing.TB, store storage.Store) process {
	t.Helper()
	s := spec
	s.Now = w.clock.Now
	db := w.openOver(t, store)
	return process{eventlog.New[event](db, s, nil), db}
}

// write appends an event and commits.
func (p process) write(ctx context.Context, v event) error {
	tx := p.db.Begin(ctx)
	p.Append(tx, &v)
	err := tx.Commit(ctx)
	if err == nil {
		p.Notify()
	}
	return err
}

func (p process) mustWrite(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := p.write(t.Context(), event{Text: text}); err != nil {
			t.Fatal(err)
		}
	}
}

// fill moves n events to the log.
func (p process) fill(t testing.TB, n int) {
	t.Helper()
	for range n {
		p.mustWrite(t, "filler")
	}
	wantMoved(t, p, n)
}

func wantMoved(t testing.TB, p process, want int) {
	t.Helper()
	if moved, err := p.Sequence(t.Context()); moved != want || err != nil {
		t.Fatalf("Sequence() = %d, %v, want %d, nil", moved, err, want)
	}
}

// wantTexts wants exactly these entries behind after.
func wantTexts(t testing.TB, p process, after uint64, want ...string) {
	t.Helper()
	entries, err := p.Read(t.Context(), after, 0)
	if err != nil {
		t.Fatalf("Read(%d) = %v, want entries", after, err)
	}
	var got []string
	for i, e := range entries {
		if number := after + uint64(i) + 1; e.Number != number {
			t.Errorf("Read(%d)[%d] has number %d, want %d", after, i, e.Number, number)
		}
		got = append(got, e.Value.Text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read(%d) (-want +got):\n%s", after, diff)
	}
}

func wantBounds(t testing.TB, p process, oldest, newest uint64) {
	t.Helper()
	if o, n, err := p.Bounds(t.Context()); o != oldest || n != newest || err != nil {
		t.Errorf("Bounds() = %d, %d, %v, want %d, %d, nil", o, n, err, oldest, newest)
	}
}

// raw returns what lies in the store under a tag.
func (w *world) raw(t testing.TB, tag byte) []storage.Item {
	t.Helper()
	page, err := w.store.Store.Scan(t.Context(), storage.Range{Start: []byte{tag}, End: []byte{tag + 1}, Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return page.Items
}

// put writes an item over whatever is there; an empty value removes it.
func (w *world) put(t testing.TB, item storage.Item) {
	t.Helper()
	var b storage.Batch
	items, err := w.store.GetMany(t.Context(), [][]byte{item.Key})
	if err != nil {
		t.Fatal(err)
	}
	if len(item.Value) == 0 {
		b.Deletes = append(b.Deletes, storage.Delete{Key: item.Key, If: items[0].Rev})
	} else {
		b.Puts = append(b.Puts, storage.Put{Key: item.Key, Value: item.Value, If: items[0].Rev, Rev: item.Rev})
	}
	if err := w.store.Store.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// damage alters a record so that it does not open.
func (w *world) damage(t testing.TB, item storage.Item) {
	t.Helper()
	item.Value[len(item.Value)-1] ^= 1
	w.put(t, item)
}

// drop puts a record into the outbox under a key of the test's choice, as a writer whose clock is wrong would.
func drop(t testing.TB, w *world, s sealed.Spec, key, text string) {
	t.Helper()
	db := w.open(t)
	tx := db.Begin(t.Context())
	sealed.NewTable[event](db, s).Put(tx, &event{Text: text}, 0, key)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// faulty is a store that fails as a test says, and tells where scans of the outbox began.
type faulty struct {
	storage.Store

	mu    sync.Mutex // guards what follows
	fails func() fault
	began [][]byte // Range.After of each scan of the outbox
}

// fault is what becomes of an Apply.
type fault int

const (
	none fault = iota
	lost
	unknownBefore
	unknownAfter
)

// moody makes an Apply go wrong in each of the three ways with a chance of one in n.
func moody(n int) func() fault {
	return func() fault {
		if k := fault(rand.IntN(n)); k <= unknownAfter {
			return k
		}
		return none
	}
}

func (f *faulty) fail(with func() fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = with
}

func (f *faulty) Apply(ctx context.Context, b storage.Batch) error {
	f.mu.Lock()
	how := none
	if f.fails != nil {
		how = f.fails()
	}
	f.mu.Unlock()
	switch how {
	case lost:
		return fmt.Errorf("apply: %w", storage.ErrFull)
	case unknownBefore:
		return storage.ErrUnknownOutcome
	case unknownAfter:
		if err := f.Store.Apply(ctx, b); err != nil {
			return err
		}
		return storage.ErrUnknownOutcome
	}
	return f.Store.Apply(ctx, b)
}

func (f *faulty) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	if strings.HasPrefix(string(r.Start), "o") {
		f.mu.Lock()
		f.began = append(f.began, r.After)
		f.mu.Unlock()
	}
	return f.Store.Scan(ctx, r)
}

// whole reports whether the first scan of the outbox since the last call began at the very start.
func (f *faulty) whole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.began[0]
	f.began = nil
	return first == nil
}

// clock stands until it is moved, in either direction.
type clock struct {
	mu     sync.Mutex // guards offset
	offset time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Unix(1_800_000_000, 0).Add(c.offset)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}
