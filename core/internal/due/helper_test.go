package due_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
	"github.com/tidwall/btree"
)

const (
	entriesTag = 'd'
	markTag    = 'w'

	shards = 16
	page   = 500
)

// begun is when the stories of these tests begin: somewhere within the minute first.
var begun = time.Unix(1_800_000_000, 0).Add(25 * time.Second)

var first = due.At(begun) - 1

// world is a store that several processes share: each opens it by itself.
type world struct {
	*watched
	keks crypto.KEKs
}

func newWorld(t testing.TB, store storage.Store) *world {
	t.Helper()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	return &world{watched: &watched{Store: store}, keks: crypto.KEKs{Policy: kek}}
}

func newMemory(t testing.TB) *world { return newWorld(t, memory.New()) }

func (w *world) open(t testing.TB) *sealed.DB {
	t.Helper()
	db, err := sealed.Open(t.Context(), w.watched, w.keks, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// process is one process with its queue, its Scanner, and its clock, which stands until it is moved.
type process struct {
	*due.Queue
	*due.Scanner
	db  *sealed.DB
	now time.Time
	log *bytes.Buffer
}

func (w *world) process(t testing.TB) *process {
	t.Helper()
	p := &process{db: w.open(t), now: begun, log: &bytes.Buffer{}}
	p.Queue = due.New(p.db, due.Spec{
		Entries: entriesTag,
		Mark:    markTag,
		Name:    "work",
		Now:     func() time.Time { return p.now },
	})
	p.Scanner = p.Queue.Scanner(slog.New(slog.NewTextHandler(p.log, nil)))
	return p
}

// move commits one move.
func (p *process) move(t testing.TB, from, to due.Minute, key ...string) due.Minute {
	t.Helper()
	tx := p.db.Begin(t.Context())
	at := p.Move(tx, from, to, key...)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return at
}

// add adds n entries, due in minute to.
func (p *process) add(t testing.TB, to due.Minute, n int, name string) {
	t.Helper()
	for i := range n {
		p.move(t, 0, to, name, fmt.Sprint(i))
	}
}

// pass is what one pass showed.
func (p *process) pass(t testing.TB, do func(e due.Entry) (left bool)) (shown []due.Entry) {
	t.Helper()
	err := p.Pass(t.Context(), p.now, func(_ context.Context, page []due.Entry) (left []due.Entry, err error) {
		shown = append(shown, page...)
		return slices.DeleteFunc(page, func(e due.Entry) bool { return !do(e) }), nil
	})
	if err != nil {
		t.Fatalf("Pass() = %v, want nil", err)
	}
	slices.SortFunc(shown, compare)
	return shown
}

// done removes the entry, as if its work were done.
func (p *process) done(t testing.TB) func(e due.Entry) bool {
	return func(e due.Entry) bool {
		p.move(t, e.At, 0, e.Key...)
		return false
	}
}

func left(due.Entry) bool    { return true }
func ignored(due.Entry) bool { return false }

func compare(a, b due.Entry) int {
	if a.At != b.At {
		return int(a.At - b.At)
	}
	return slices.Compare(a.Key, b.Key)
}

func entries(at due.Minute, keys ...string) (all []due.Entry) {
	for _, key := range keys {
		all = append(all, due.Entry{At: at, Key: []string{key}})
	}
	return all
}

func want(t testing.TB, what string, got []due.Entry, all ...[]due.Entry) {
	t.Helper()
	if diff := cmp.Diff(slices.Concat(all...), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// watched counts what passes cost, and fails when a test says so.
type watched struct {
	storage.Store

	mu                       sync.Mutex // guards what follows
	fail                     func(r *storage.Range, b *storage.Batch) error
	graves                   *btree.BTreeG[[]byte] // keys that were removed; nil: nobody asked
	pages, keys, dead, marks int
}

var errDown = errors.New("the store is down")

// count is what happened since the last call: pages read, the mark among them, keys on them, removed keys that a store which keeps those walks
// over, and how often the mark was written.
func (s *watched) count() (pages, keys, dead, marks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pages, keys, dead, marks = s.pages, s.keys, s.dead, s.marks
	s.pages, s.keys, s.dead, s.marks = 0, 0, 0, 0
	return pages, keys, dead, marks
}

func (s *watched) bury() {
	s.graves = btree.NewBTreeG(func(a, b []byte) bool { return bytes.Compare(a, b) < 0 })
}

// failing makes calls fail for which fail returns an error; nil ends that.
func (s *watched) failing(fail func(r *storage.Range, b *storage.Batch) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *watched) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if key[0] == markTag {
		s.mu.Lock()
		s.pages++
		s.mu.Unlock()
	}
	return s.Store.Get(ctx, key)
}

func (s *watched) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(&r, nil); err != nil {
			return storage.Page{}, err
		}
	}
	page, err := s.Store.Scan(ctx, r)
	if s.pages++; err != nil || r.Start[0] != entriesTag {
		return page, err
	}
	s.keys += len(page.Items)
	if s.graves != nil {
		from, _ := r.From()
		end := r.End
		if page.Next != nil {
			end = page.Next
		}
		s.graves.Ascend(from, func(key []byte) bool {
			if bytes.Compare(key, end) >= 0 {
				return false
			}
			s.dead++
			return true
		})
	}
	return page, err
}

func (s *watched) Apply(ctx context.Context, b storage.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(nil, &b); err != nil {
			return err
		}
	}
	if err := s.Store.Apply(ctx, b); err != nil {
		return err
	}
	for _, put := range b.Puts {
		if put.Key[0] == markTag {
			s.marks++
		}
		if s.graves != nil {
			s.graves.Delete(put.Key)
		}
	}
	for _, d := range b.Deletes {
		if s.graves != nil {
			s.graves.Set(d.Key)
		}
	}
	return nil
}
