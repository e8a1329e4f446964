package core_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
)

func TestPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx, e := t.Context(), w.engine
	set := func(p core.Policy) (core.Policy, error) {
		t.Helper()
		out, err := e.SetPolicy(ctx, p)
		return out, w.note(err)
	}
	created := w.clock.Now()
	reader, err := set(core.Policy{Name: "reader", Document: []byte(` { "integration:*" : [ "proxy_api", "credential:read" ] } `)})
	if err != nil {
		t.Fatal(err)
	}
	want := core.Policy{Name: "reader", Document: []byte(`{"integration:*":["credential:read","proxy"]}`), Created: created, Updated: created, Revision: reader.Revision}
	if diff := cmp.Diff(want, reader); diff != "" || reader.Revision == 0 {
		t.Errorf("SetPolicy(reader) (-want +got):\n%s", diff)
	}
	_, err = set(core.Policy{Name: "reader", Document: []byte(`{}`)})
	w.wantErr("declaring it again", err, core.ErrConflict)
	w.clock.Advance(time.Hour)
	changed := reader
	changed.Document, changed.Created = []byte(`{}`), time.Time{}
	if changed, err = set(changed); err != nil || !changed.Created.Equal(created) || !changed.Updated.Equal(w.clock.Now()) || changed.Revision == reader.Revision {
		t.Errorf("SetPolicy(reader, changed) = %+v, %v, want it created at %v and updated now", changed, err, created)
	}
	_, err = set(reader)
	w.wantErr("a revision from before", err, core.ErrConflict)
	_, err = set(core.Policy{Name: "absent", Document: []byte(`{}`), Revision: 7})
	w.wantErr("a revision of what is not there", err, core.ErrConflict)

	admin, err := set(core.Policy{Name: "admin", Document: []byte(`{"integration:*":true}`)})
	if err != nil {
		t.Fatal(err)
	}
	listed, err := w.open().Policies(ctx)
	if diff := cmp.Diff([]core.Policy{admin, changed}, listed); diff != "" || err != nil {
		t.Errorf("Policies() = %v (-want +got):\n%s", err, diff)
	}
	if err := e.DeletePolicy(ctx, "reader"); err != nil {
		t.Fatal(err)
	}
	w.wantErr("DeletePolicy(twice)", e.DeletePolicy(ctx, "reader"), core.ErrNotFound)
	_, err = set(changed)
	w.wantErr("changing what was deleted", err, core.ErrConflict)

	for _, name := range []string{"", "a b", "ü", "..", strings.Repeat("x", 65)} {
		_, err := set(core.Policy{Name: name, Document: []byte(`{}`)})
		w.wantInput(fmt.Sprintf("SetPolicy(%q)", name), err, "name")
	}
	for _, document := range []string{"", "null", "[]", `{"integration:*": "all"}`, `{"integration:*": ["everything"]}`, `{"integration:{{claims.x}}y": 1}`, `{} {}`} {
		_, err := set(core.Policy{Name: "bad", Document: []byte(document)})
		w.wantInput("SetPolicy("+document+")", err, "document")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = set(core.Policy{Name: "late", Document: []byte(`{}`)})
	w.wantErr("SetPolicy(closed)", err, core.ErrClosed)
	w.wantErr("Policies(closed)", ignore(e.Policies(ctx)), core.ErrClosed)
	w.wantErr("DeletePolicy(closed)", e.DeletePolicy(ctx, "admin"), core.ErrClosed)
}

// Of all who change the same revision, or declare the same name, one wins; whoever deletes wins against all.
func TestPoliciesRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx, engines := t.Context(), []*core.Engine{w.engine, w.open()}
	revision := uint64(0)
	for round := range 3 {
		var won atomic.Uint64
		together(crowd, func(i int) {
			out, err := engines[i%2].SetPolicy(ctx, core.Policy{
				Name: "p", Document: fmt.Appendf(nil, `{"integration:i%d":true}`, i), Revision: revision,
			})
			switch {
			case err == nil && !won.CompareAndSwap(0, out.Revision):
				t.Errorf("round %d: SetPolicy(revision %d) won twice", round, revision)
			case err != nil && !errors.Is(err, core.ErrConflict):
				t.Errorf("round %d: SetPolicy() = %v, want nil or %v", round, err, core.ErrConflict)
			}
		})
		all, err := w.engine.Policies(ctx)
		if err != nil || len(all) != 1 || all[0].Revision != won.Load() {
			t.Fatalf("round %d: Policies() = %v, %v, want the one that won", round, all, err)
		}
		revision = all[0].Revision
	}
	together(crowd, func(i int) {
		if i == 0 {
			if err := engines[1].DeletePolicy(ctx, "p"); err != nil {
				t.Errorf("DeletePolicy() = %v", err)
			}
			return
		}
		_, err := engines[i%2].SetPolicy(ctx, core.Policy{Name: "p", Document: []byte(`{}`), Revision: revision})
		if err != nil && !errors.Is(err, core.ErrConflict) {
			t.Errorf("SetPolicy() = %v", err)
		}
	})
	if all, err := w.engine.Policies(ctx); err != nil || len(all) != 0 {
		t.Errorf("Policies() = %v, %v, want none", all, err)
	}
}
