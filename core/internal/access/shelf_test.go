package access_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/polycred/polycred/core/internal/access"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/storage"
)

// A shelf takes so many records, each once, and changes what is still as it was; each change is an event.
func TestShelf(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ctx, shelf := t.Context(), p.door.Issuers
	event := kernel.Event{Kind: "token_issuer.set", Actor: "operator", Cause: "request", Result: "ok"}
	put := func(name string, rev storage.Rev) (storage.Rev, error) {
		return shelf.Put(ctx, name, &access.Issuer{Issuer: name, Audiences: []string{"a"}, KeysURL: "https://i.example.com"}, rev, event)
	}
	revs := map[string]storage.Rev{}
	for i := range access.MostIssuers {
		name := fmt.Sprintf("issuer %02d", i)
		rev, err := put(name, 0)
		if err != nil || rev == 0 {
			t.Fatalf("Put(%s) = %d, %v", name, rev, err)
		}
		revs[name] = rev
	}
	for _, tt := range []struct {
		name string
		rev  storage.Rev
		want error
	}{
		{"one more", 0, access.ErrFull}, {"issuer 07", 0, access.ErrConflict}, {"issuer 07", revs["issuer 07"] + 1, access.ErrConflict},
		{"absent", 7, access.ErrConflict}, {"issuer 07", revs["issuer 07"], nil},
	} {
		if _, err := put(tt.name, tt.rev); !errors.Is(err, tt.want) {
			t.Errorf("Put(%s, %d) = %v, want %v", tt.name, tt.rev, err, tt.want)
		}
	}
	if rev, err := shelf.Rev(ctx, "issuer 07"); err != nil || rev != revs["issuer 07"]+1 {
		t.Errorf("Rev(issuer 07) = %d, %v, want %d", rev, err, revs["issuer 07"]+1)
	}
	for _, absent := range []string{"issuer", "issuer 0", "absent"} { // no other begins like that
		if _, err := shelf.Rev(ctx, absent); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Rev(%s) = %v, want %v", absent, err, storage.ErrNotFound)
		}
	}
	if err := shelf.Delete(ctx, "issuer 07", revs["issuer 07"], event); !errors.Is(err, access.ErrConflict) {
		t.Errorf("Delete(an old revision) = %v, want %v", err, access.ErrConflict)
	}
	if err := shelf.Delete(ctx, "issuer 07", revs["issuer 07"]+1, event); err != nil {
		t.Errorf("Delete() = %v", err)
	}
	if _, err := put("one more", 0); err != nil {
		t.Errorf("Put() in the place of one that went = %v", err)
	}
	rows, err := shelf.All(ctx)
	if err != nil || len(rows) != access.MostIssuers || rows[0].Key[0] != "issuer 00" || rows[len(rows)-1].Key[0] != "one more" {
		t.Errorf("All() = %d records, %v, want %d in order", len(rows), err, access.MostIssuers)
	}
	if moved, err := p.kernel.Events().Sequence(ctx); err != nil || moved != access.MostIssuers+3 {
		t.Errorf("%d events, %v, want one for each of %d changes", moved, err, access.MostIssuers+3)
	}
}

// There are many more policies, each up to what a policy may be.
func TestManyPolicies(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range access.MostPolicies {
		name := fmt.Sprintf("p%03d", i)
		stored(p, p.tables.Policies, access.Policy{Name: name, Document: []byte(`{"integration:*":true}`)}, name)
	}
	_, err := p.door.Policies.Put(t.Context(), "q", &access.Policy{Name: "q"}, 0, kernel.Event{Kind: "policy.set"})
	if !errors.Is(err, access.ErrFull) {
		t.Errorf("Put(one too many) = %v, want %v", err, access.ErrFull)
	}
	if rows, err := p.door.Policies.All(t.Context()); err != nil || len(rows) != access.MostPolicies {
		t.Errorf("All() = %d, %v, want all %d", len(rows), err, access.MostPolicies)
	}
}

// What does not open can be removed, and stands in the way of nothing else.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ctx := t.Context()
	p.add(0)
	p.damage('8', p.key(0).ID)
	if _, err := p.door.Keys.All(ctx); err == nil {
		t.Error("All() = nil, want what does not open")
	}
	p.add(1)
	rev, err := p.door.Keys.Rev(ctx, p.key(0).ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.door.Keys.Delete(ctx, p.key(0).ID, rev, kernel.Event{Kind: "signing_key.revoked"}); err != nil {
		t.Errorf("Delete() = %v", err)
	}
	if rows, err := p.door.Keys.All(ctx); err != nil || len(rows) != 1 {
		t.Errorf("All() = %v, %v, want the other key", rows, err)
	}
}
