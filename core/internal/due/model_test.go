package due_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/due"
	"github.com/polycred/polycred/storage/sealed"
)

// TestModel lets processes whose clocks differ by up to ten minutes move entries, commit them late, look at what is due,
// fail at it, and crash, at random, and holds what they are shown against the records.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := newModel(t, seed)
			for range 6000 {
				m.step()
				if t.Failed() {
					return
				}
			}
			m.settle()
			t.Logf("moved %d, shown %d, stale %d, crashes %d, shown at most %v late, by the mover itself in the next pass %d times",
				m.moves, m.shown, m.stale, m.crashes, m.latest, m.usual)
		})
	}
}

const (
	modelKeys = 60

	// late is what the full pass each hour leaves: clocks that differ by 10 minutes make the hour longer, and one that is
	// behind sees 5 minutes later that something is due; and passes that fail or are ended come in between.
	late = (60 + 10 + 5 + 10) * time.Minute
)

// model is the truth.
type model struct {
	t         *testing.T
	rnd       *rand.Rand
	world     *world
	time      time.Time // the true one
	processes []*skewed
	records   []record
	pending   []pending

	moves, shown, stale, crashes, usual int
	latest                              time.Duration
}

// record is what the owner of the work keeps.
type record struct {
	due   due.Minute
	rev   int       // changes with it
	since time.Time // when it could be shown, or was shown last
	by    *skewed   // who moved it; nil: it was committed late, or by one that crashed since
}

// skewed is a process whose clock is off.
type skewed struct {
	*process
	off time.Duration
}

// pending is a transaction that was not committed yet.
type pending struct {
	tx   *sealed.Tx
	key  int
	rev  int
	due  due.Minute
	when time.Time
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), world: newMemory(t), time: begun, records: make([]record, modelKeys)}
	for range 3 {
		m.processes = append(m.processes, m.start(time.Duration(m.rnd.IntN(600)-300)*time.Second))
	}
	return m
}

func (m *model) start(off time.Duration) *skewed {
	return &skewed{process: m.world.process(m.t), off: off}
}

// step is one thing that happens.
func (m *model) step() {
	m.time = m.time.Add(time.Duration(m.rnd.IntN(20_000)) * time.Millisecond)
	i := m.rnd.IntN(len(m.processes))
	p := m.processes[i]
	p.now = m.time.Add(p.off)
	switch n := m.rnd.IntN(100); {
	case n < 35:
		m.move(p, m.rnd.IntN(modelKeys))
	case n < 40 && len(m.pending) > 0:
		m.commit()
	case n < 95:
		m.pass(p)
	case n == 99 && m.rnd.IntN(5) == 0:
		m.crashes++
		for k := range m.records {
			if m.records[k].by == p {
				m.records[k].by = nil
			}
		}
		m.processes[i] = m.start(p.off)
	}
	for k, r := range m.records {
		if r.due > 0 && m.time.Sub(r.since) > late {
			m.t.Errorf("key %d was due in minute %d, and was not shown for %v", k, r.due, m.time.Sub(r.since))
		}
	}
}

// move has p change when key is due: soon, later, never, or already.
func (m *model) move(p *skewed, key int) {
	r := &m.records[key]
	to := due.Minute(0)
	if m.rnd.IntN(6) > 0 {
		to = due.At(p.now.Add(time.Duration(m.rnd.IntN(5400)-600) * time.Second))
	}
	tx := p.db.Begin(m.t.Context())
	to = p.Move(tx, r.due, to, name(key)...)
	if m.rnd.IntN(10) == 0 {
		m.pending = append(m.pending, pending{tx, key, r.rev, to, m.time})
		return
	}
	m.write(tx, key, to, p)
}

// commit ends a transaction that was begun some time ago, unless the record changed since.
func (m *model) commit() {
	late := m.pending[0]
	m.pending = m.pending[1:]
	if m.records[late.key].rev != late.rev {
		return
	}
	m.write(late.tx, late.key, late.due, nil)
}

func (m *model) write(tx *sealed.Tx, key int, to due.Minute, by *skewed) {
	if err := tx.Commit(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	m.moves++
	r := &m.records[key]
	r.due, r.by, r.since = to, by, m.time
	if at := to.Time(); at.After(m.time) {
		r.since = at
	}
	r.rev++
}

var errModel = errors.New("failed at random")

// pass has p look at what is due, and checks that it sees all that it moved itself, when nothing comes in between.
func (m *model) pass(p *skewed) {
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	trouble := m.rnd.IntN(40) // 0: it is ended, 1: it fails
	seen := map[int]bool{}
	mine := map[int]due.Minute{}
	for k, r := range m.records {
		if r.by == p && r.due > 0 && !p.now.Before(r.due.Time()) {
			mine[k] = r.due
		}
	}
	err := p.Pass(ctx, p.now, func(ctx context.Context, page []due.Entry) (left []due.Entry, err error) {
		if m.rnd.IntN(8) == 0 {
			switch trouble {
			case 0:
				cancel()
				return nil, ctx.Err()
			case 1:
				return nil, errModel
			}
		}
		for _, e := range page {
			key := number(m.t, e.Key)
			if e.At.Time().After(p.now) {
				m.t.Errorf("key %d was shown before minute %d", key, e.At)
			}
			r := &m.records[key]
			if r.due != e.At {
				m.stale++
				tx := p.db.Begin(ctx)
				p.Move(tx, e.At, 0, e.Key...)
				if err := tx.Commit(ctx); err != nil {
					return nil, err
				}
				continue
			}
			if seen[key] {
				m.t.Errorf("key %d was shown twice in one pass", key)
			}
			seen[key] = true
			m.shown++
			m.latest = max(m.latest, m.time.Sub(r.since))
			if r.since = m.time; m.rnd.IntN(4) == 0 {
				left = append(left, e)
			} else {
				m.move(p, key) // when that is not committed, or is due again before it was, then it comes again
			}
			if r.due == e.At && r.by == p && !isLeft(left, e) {
				r.by = nil // it counts as done, and only the full pass comes by again
			}
		}
		return left, nil
	})
	if err != nil {
		if !errors.Is(err, errModel) && !errors.Is(err, context.Canceled) {
			m.t.Fatal(err)
		}
		return
	}
	for k, at := range mine {
		if !seen[k] {
			m.t.Errorf("key %d is due in minute %d since %v: the pass of who moved it did not show it", k, at, p.now.Sub(at.Time()))
		}
		m.usual++
	}
}

func isLeft(left []due.Entry, e due.Entry) bool {
	return len(left) > 0 && compare(left[len(left)-1], e) == 0
}

// settle ends what is pending, and wants the queue to hold what the records say, and nothing else.
func (m *model) settle() {
	for len(m.pending) > 0 {
		m.commit()
	}
	p := m.start(0)
	p.now = m.time.Add(240 * time.Hour)
	got, want := map[string]due.Minute{}, map[string]due.Minute{}
	for _, e := range p.pass(m.t, ignored) {
		got[fmt.Sprint(e.Key)] += e.At // two for one key would not be equal
	}
	for k, r := range m.records {
		if r.due > 0 {
			want[fmt.Sprint(name(k))] = r.due
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.t.Errorf("the queue (-records +entries):\n%s", diff)
	}
}

func name(key int) []string { return []string{"user", fmt.Sprintf("key %d", key)} }

func number(t *testing.T, key []string) (n int) {
	if _, err := fmt.Sscanf(key[1], "key %d", &n); err != nil || len(key) != 2 {
		t.Fatalf("key %q was shown, which nobody added", key)
	}
	return n
}
