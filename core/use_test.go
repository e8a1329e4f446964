package core_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// usage is what a summary of uses says, and of whom.
type usage struct{ Credential, Person, TokenID, Cause, Count string }

// summaries returns the summaries among the events behind a number.
func (w *world) summaries(after uint64) []usage {
	w.Helper()
	var all []usage
	for _, ev := range w.events(after) {
		if ev.Kind == core.EventUsed {
			all = append(all, usage{ev.Credential, ev.Actor.Person, ev.Actor.TokenID, ev.Cause, ev.Details["count"]})
		}
	}
	return all
}

// counted adds summaries up.
func counted(all []usage) map[usage]int {
	sum := map[usage]int{}
	for _, u := range all {
		n, err := strconv.Atoi(u.Count)
		if err != nil || n < 1 {
			panic(fmt.Sprintf("%+v has no count", u))
		}
		u.Count = ""
		sum[u] += n
	}
	return sum
}

// tokens takes the token of an account n times.
func (g *gate) tokens(u *core.User, credential string, n int) {
	g.Helper()
	for range n {
		if _, err := u.Token(g.Context(), core.Selector{Credential: credential}); err != nil {
			g.Fatal(err)
		}
	}
}

// Each use counts for whoever did it, and for nobody where it was the program itself (rule 10).
func TestRule10Attribution(t *testing.T) {
	t.Parallel()
	store := newCounter(nil)
	g := newGate(t, store, nil)
	a, b := g.mail(g.acme(""), "ada", core.KeyInput{}).ID, g.mail(g.acme(""), "bob", core.KeyInput{}).ID
	after := uint64(len(g.events(0)))
	token := g.narrow("", "all", may(everything...))
	both := g.narrow("ada", "more", may(everything...))

	before := store.applies.Load()
	g.tokens(g.acme(""), a, 3) // the program's own
	g.tokens(g.acme("ada"), a, 4)
	g.tokens(g.acme("bob"), a, 2)
	g.tokens(g.acme("ada"), b, 1)
	g.tokens(token, a, 5)
	g.tokens(both, b, 6)
	source, err := g.acme("ada").TokenSource(t.Context(), core.Selector{Credential: a})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := source.Token(); err != nil {
			t.Fatal(err)
		}
	}
	client, err := g.acme("ada").Client(t.Context(), core.Selector{Credential: a})
	if err != nil {
		t.Fatal(err)
	}
	for range 7 {
		if _, err := g.me(client); err != nil {
			t.Fatal(err)
		}
	}
	// What is refused is no use.
	if _, err := g.acme("cyd").Token(t.Context(), core.Selector{Integration: "mail"}); err == nil {
		t.Error("Token where two fit = nil, want an error")
	}
	if req := g.request("GET", "https://elsewhere.example.com/", nil); true {
		_, err := client.Do(req) //nolint:bodyclose // there is no response
		g.wantErr("a request elsewhere", err, core.ErrHostNotAllowed)
	}
	if got := store.applies.Load() - before; got != 0 {
		t.Errorf("%d writes for uses, want none", got)
	}
	want := map[usage]int{
		{a, "ada", "", "token", ""}: 6, {a, "bob", "", "token", ""}: 2, {b, "ada", "", "token", ""}: 1,
		{a, "", "token of all", "token", ""}: 5, {b, "ada", "token of more", "token", ""}: 6, {a, "ada", "", "client", ""}: 7,
	}
	told := g.summaries(after)
	if diff := cmp.Diff(want, counted(told)); diff != "" || len(told) != len(want) {
		t.Errorf("%d summaries, want %d (-want +got):\n%s", len(told), len(want), diff)
	}
	if told := g.summaries(after + uint64(len(told))); len(told) != 0 {
		t.Errorf("told again: %v, want nothing", told)
	}
}

// 64 goroutines use accounts while they are told: nothing is lost, and nothing counted twice.
func TestRule10Race(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	var ids []string
	for i := range 4 {
		ids = append(ids, g.mail(g.acme(""), fmt.Sprintf("login%d", i), core.KeyInput{}).ID)
	}
	after := uint64(len(g.events(0)))
	var working sync.WaitGroup
	for i := range 64 {
		working.Go(func() {
			u := g.acme(fmt.Sprintf("person%d", i%8))
			for n := range 50 {
				g.tokens(u, ids[(i/8+n)%4], 1)
			}
		})
	}
	stop := make(chan struct{})
	var telling sync.WaitGroup
	for range 2 {
		telling.Go(func() {
			for {
				if err := coretest.Step(g.engine); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	working.Wait()
	close(stop)
	telling.Wait()
	sum := counted(g.summaries(after))
	if len(sum) != 4*8 {
		t.Errorf("%d actors and accounts, want %d", len(sum), 4*8)
	}
	for of, n := range sum {
		if n != 8*50/4 {
			t.Errorf("%+v = %d uses, want %d", of, n, 8*50/4)
		}
	}
}

// While the store takes nothing, uses are kept, and told once it does.
func TestRule10StoreDown(t *testing.T) {
	t.Parallel()
	store := &fillable{Store: memory.New()}
	g := newGate(t, store, nil)
	id := g.mail(g.acme(""), "ada", core.KeyInput{}).ID
	after := uint64(len(g.events(0)))
	store.full.Store(true)
	for i := range 250 { // more than one batch
		g.tokens(g.acme(fmt.Sprintf("person%d", i)), id, 1)
	}
	first := g.clock.Now()
	for range 3 {
		g.clock.Advance(time.Minute)
		g.tokens(g.acme("person0"), id, 1)
		g.wantErr("Step while the store is full", coretest.Step(g.engine), storage.ErrFull)
	}
	store.full.Store(false)
	g.clock.Advance(time.Minute)
	events := g.events(after)
	sum := 0
	for _, ev := range events {
		n, err := strconv.Atoi(ev.Details["count"])
		if err != nil {
			t.Fatal(err)
		}
		if sum += n; ev.Actor.Person == "person0" {
			want := map[string]string{
				"count": "4", "first": first.Format(time.RFC3339), "last": first.Add(3 * time.Minute).Format(time.RFC3339),
			}
			if diff := cmp.Diff(want, ev.Details); diff != "" {
				t.Errorf("uses over all the time (-want +got):\n%s", diff)
			}
		}
	}
	if len(events) != 250 || sum != 253 {
		t.Errorf("%d summaries of %d uses, want 250 of 253", len(events), sum)
	}
}

// Run tells each minute, and Close what is left.
func TestRule10Close(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	id := g.mail(g.acme(""), "ada", core.KeyInput{}).ID
	g.tokens(g.acme("bob"), id, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- g.engine.Run(ctx) }()
	for ev, err := range g.engine.Subscribe(t.Context(), 0) { // the telling of the first minute
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == core.EventUsed {
			break
		}
	}
	for range 5 {
		g.tokens(g.acme("ada"), id, 20)
		g.wantErr("Rename", ignore(g.acme("").Rename(t.Context(), core.Selector{Credential: id}, core.RenameInput{Label: new(newLabel())})), nil)
	}
	renames := 0
	for ev, err := range g.engine.Subscribe(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == core.EventUsed && ev.Actor.Person != "bob" {
			t.Errorf("told within the minute: %s", ev)
		}
		if ev.Kind == core.EventRenamed {
			if renames++; renames == 5 {
				break
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil once its context is done", err)
	}
	if err := g.engine.Close(); err != nil {
		t.Fatal(err)
	}
	g.engine = g.open()
	want := []usage{{id, "bob", "", "token", "1"}, {id, "ada", "", "token", "100"}}
	if diff := cmp.Diff(want, g.summaries(0)); diff != "" {
		t.Errorf("summaries after Close (-want +got):\n%s", diff)
	}
}

// Where nobody calls Run, many actors are told of all the same, before they fill the memory.
func TestRule10ManyActors(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	id := g.mail(g.acme(""), "ada", core.KeyInput{}).ID
	const actors = 3000
	for i := range actors {
		g.tokens(g.acme(fmt.Sprintf("person%d", i)), id, 1)
	}
	if err := g.engine.Close(); err != nil { // waits for what is told behind
		t.Fatal(err)
	}
	g.engine = g.open()
	if got := len(counted(g.summaries(0))); got != actors {
		t.Errorf("%d actors are told of, want %d", got, actors)
	}
}

// ignore is the error of what returns something else too.
func ignore[T any](_ T, err error) error { return err }
