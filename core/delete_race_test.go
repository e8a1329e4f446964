package core_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// slowStore takes a moment for each Apply, so that much happens between what a caller reads and what it writes.
type slowStore struct{ storage.Store }

func (s slowStore) Apply(ctx context.Context, b storage.Batch) error {
	timer := time.NewTimer(rand.N(3 * time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return s.Store.Apply(ctx, b)
	}
}

// An integration is deleted while accounts are connected to it: it goes and none is there, or it stays with all of them. In
// the first round the deletion is over before they begin, in the last one it begins once they are there; between these it
// comes later from round to round.
func TestDeleteRacesConnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowStore{memory.New()}, nil)
	w.people(crowd)
	const rounds = 8
	went, stayed := 0, 0
	for round := range rounds {
		name := fmt.Sprintf("round%d", round)
		w.create(func(in *core.Integration) {
			in.Name, in.OAuth2 = name, nil
			in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
			in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject"}
		})
		begun := w.provider.Calls().API
		var deleted error
		over := make(chan struct{})
		var connecting sync.WaitGroup
		connecting.Add(crowd)
		won := w.contest(crowd+1, func(i int) (core.Credential, error) {
			if i < crowd {
				defer connecting.Done()
				if round == 0 {
					<-over
				}
				return w.putKey(fmt.Sprintf("u%d", i%16), person(i), core.KeyInput{Integration: name, AllowMultiple: true})
			}
			defer close(over)
			if round == rounds-1 {
				connecting.Wait()
			} else if err := w.provider.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.API >= begun+6*round }); err != nil {
				t.Error(err)
			}
			deleted = w.engine.DeleteIntegration(t.Context(), name)
			return core.Credential{}, core.ErrNotFound
		}, core.ErrNotFound, core.ErrDeleting)
		var listed []core.Credential
		for i := range 16 {
			page, err := w.engine.User(fmt.Sprintf("u%d", i)).Credentials(t.Context(), core.ListInput{Integration: name, Limit: 1000})
			if err != nil && (deleted != nil || !errors.Is(err, core.ErrNotFound)) {
				t.Errorf("round %d: Credentials() = %v", round, err)
			}
			listed = append(listed, page.Credentials...)
		}
		if diff := cmp.Diff(idsOf(won), idsOf(listed)); diff != "" {
			t.Errorf("round %d: accounts (-connected +listed):\n%s", round, diff)
		}
		switch {
		case deleted == nil:
			went++
			if len(won) != 0 {
				t.Errorf("round %d: %d accounts were connected to what is gone", round, len(won))
			}
		case errors.Is(w.note(deleted), core.ErrInUse):
			stayed++
			if len(won) == 0 {
				t.Errorf("round %d: DeleteIntegration() = %v without an account", round, deleted)
			}
			if _, err := w.putKey("late", person(0), core.KeyInput{Integration: name}); err != nil {
				t.Errorf("round %d: AddKey() after the deletion was refused = %v", round, err)
			}
		default:
			t.Errorf("round %d: DeleteIntegration() = %v, want nil or %v", round, deleted, core.ErrInUse)
		}
	}
	w.wantWhole("u0", nil)
	if went == 0 || stayed == 0 {
		t.Errorf("the integration went %d times and stayed %d times, want both", went, stayed)
	}
}

// The same over OAuth, where the sessions were begun before.
func TestDeleteRacesCallbacks(t *testing.T) {
	t.Parallel()
	for _, after := range []int{0, crowd / 8, crowd / 2} { // callbacks that came before
		w := newWorld(t, slowStore{memory.New()}, nil)
		w.people(crowd)
		callbacks := w.begun("u", crowd, core.ConnectInput{AllowMultiple: true}, person)
		var deleted error
		won := w.contest(crowd+1, func(i int) (core.Credential, error) {
			if i < crowd {
				return w.callback(callbacks[i])
			}
			if err := w.provider.WaitForCalls(t.Context(), func(c coretest.Calls) bool { return c.Exchange >= after }); err != nil {
				t.Error(err)
			}
			deleted = w.engine.DeleteIntegration(t.Context(), calendar)
			return core.Credential{}, core.ErrDeleting
		}, core.ErrNotFound, core.ErrDeleting, core.ErrSession)
		if (deleted == nil) != (len(won) == 0) || deleted != nil && !errors.Is(w.note(deleted), core.ErrInUse) {
			t.Errorf("DeleteIntegration() = %v beside %d accounts", deleted, len(won))
		}
		w.wantWhole("u", idsOf(won))
		w.wantOwn("u")
		for _, callback := range callbacks { // each session has its outcome
			if result, err := w.finish(callback); result == nil || !result.Replayed || (err == nil) != (result.Credential.ID != "") {
				t.Errorf("Callback() again = %+v, %v, want the outcome", result, err)
			}
		}
	}
}
