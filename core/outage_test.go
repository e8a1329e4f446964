package core_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// distant is a store that can be out of reach.
type distant struct {
	storage.Store
	gone atomic.Bool
}

func (s *distant) err() error {
	if s.gone.Load() {
		return storage.ErrUnavailable
	}
	return nil
}

func (s *distant) Get(ctx context.Context, key []byte) (storage.Item, error) {
	if err := s.err(); err != nil {
		return storage.Item{}, err
	}
	return s.Store.Get(ctx, key)
}

func (s *distant) GetMany(ctx context.Context, keys [][]byte) ([]storage.Item, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.GetMany(ctx, keys)
}

func (s *distant) Scan(ctx context.Context, r storage.Range) (storage.Page, error) {
	if err := s.err(); err != nil {
		return storage.Page{}, err
	}
	return s.Store.Scan(ctx, r)
}

func (s *distant) Apply(ctx context.Context, b storage.Batch) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Apply(ctx, b)
}

// outage is a world whose store goes away.
type outage struct {
	*world
	store *distant
}

func newOutage(t *testing.T, ttl time.Duration) outage {
	t.Helper()
	store := &distant{Store: memory.New()}
	return outage{newWorld(t, store, func(o *core.Options) { o.OutageTTL = ttl }), store}
}

// want asks for the token of each selector, and then makes a request as it. Empty: none, because the store is away.
func (o outage) want(when, account string, sels ...core.Selector) {
	o.Helper()
	u := o.engine.User("u")
	for _, sel := range sels {
		token, err := u.Token(o.Context(), sel)
		got := ""
		if err == nil {
			got = o.whose(token.Value.Reveal())
		} else {
			o.wantErr(when+": Token("+sel.String()+")", err, storage.ErrUnavailable)
		}
		if got != account {
			o.Errorf("%s: the token of %s is of %q, want %q", when, sel, got, account)
		}
		client, err := u.Client(o.Context(), sel)
		if err != nil {
			continue // it looks for the account first
		}
		if resp, err := client.Get(o.provider.APIURL() + "/me"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK || account == "" {
				o.Errorf("%s: a request as %s was answered %d, want account %q", when, sel, resp.StatusCode, account)
			}
		}
	}
}

// While the store is away, whoever used an account just before goes on using it, however it is named, and nothing else
// works. It ends with OutageTTL, and with the token.
func TestOutage(t *testing.T) {
	t.Parallel()
	o := newOutage(t, 10*time.Minute)
	ada := o.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
	sels := []core.Selector{
		{Credential: ada.ID}, {Integration: calendar}, {Integration: calendar, Credential: "work"},
		{Integration: calendar, Configuration: ada.ID},
	}
	client, err := o.engine.User("u").Client(t.Context(), sels[0])
	if err != nil {
		t.Fatal(err)
	}
	o.clock.Advance(6 * time.Second) // an integration that was read before the account was connected may be another one
	o.want("before", "ada@example.com", sels...)
	o.store.gone.Store(true)
	for _, after := range []time.Duration{0, 6 * time.Second, 9 * time.Minute} {
		o.clock.Advance(after)
		o.want("while the store is away", "ada@example.com", sels...)
		resp, err := client.Get(o.provider.APIURL() + "/me")
		if err != nil {
			t.Errorf("a client that was made before, after %v: %v", after, err)
			continue
		}
		_ = resp.Body.Close()
	}
	o.wantRefreshes("while the store is away", 0)
	o.want("a selector that nobody used", "", core.Selector{Integration: calendar, Credential: "ext:work"})
	_, err = o.engine.User("u").Credential(t.Context(), sels[0])
	o.wantErr("Credential", err, storage.ErrUnavailable)
	_, err = o.as("v", ada.ID)
	o.wantErr("another user", err, storage.ErrUnavailable)
	o.clock.Advance(time.Minute)
	o.want("after OutageTTL", "", sels...)
	o.store.gone.Store(false)
	o.want("when the store is back", "ada@example.com", sels...)
}

// A token that has ended is given to nobody, however long it might be remembered.
func TestOutageToken(t *testing.T) {
	t.Parallel()
	o := newOutage(t, time.Hour)
	sel := core.Selector{Credential: o.mustConnect("u", "ada", core.ConnectInput{}).ID}
	o.clock.Advance(30 * time.Minute) // of the hour that the token lives
	o.want("before", "ada@example.com", sel)
	o.store.gone.Store(true)
	o.clock.Advance(25 * time.Minute)
	o.want("a token that is due", "ada@example.com", sel)
	o.clock.Advance(5 * time.Minute)
	o.want("a token that has ended", "", sel)
}

// Without an option it is as long as changes may take to be noticed anyway, and it can be switched off.
func TestOutageTTL(t *testing.T) {
	t.Parallel()
	for ttl, longest := range map[time.Duration]time.Duration{0: 5 * time.Second, -1: 0} {
		o := newOutage(t, ttl)
		sel := core.Selector{Credential: o.mustConnect("u", "ada", core.ConnectInput{}).ID}
		o.want("before", "ada@example.com", sel)
		o.store.gone.Store(true)
		if longest > 0 {
			o.clock.Advance(longest - 1)
			o.want("within the time", "ada@example.com", sel)
			o.clock.Advance(1)
		}
		o.want("after it", "", sel)
	}
	_, err := core.Open(t.Context(), memory.New(), newWorld(t, nil, nil).keks, &core.Options{OutageTTL: 2 * time.Hour})
	if want := "open engine: invalid input: outageTtl must be at most an hour, or 0 for 5 seconds"; err == nil || err.Error() != want {
		t.Errorf("Open = %v, want %s", err, want)
	}
}

// What this process has changed about an account counts at once, also when the store goes away right after.
func TestSecurity13_OutageAfterChange(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(ctx context.Context, e *core.Engine, sel core.Selector) error{
		"disconnect": func(ctx context.Context, e *core.Engine, sel core.Selector) error {
			return e.User("u").Disconnect(ctx, sel)
		},
		"disable": func(ctx context.Context, e *core.Engine, sel core.Selector) error {
			return e.User("u").Disable(ctx, sel)
		},
		"disable the user": func(ctx context.Context, e *core.Engine, _ core.Selector) error {
			return e.DisableUser(ctx, "u")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutage(t, time.Hour)
			sel := core.Selector{Integration: calendar, Credential: "ext:work"}
			o.mustConnect("u", "ada", core.ConnectInput{ExternalID: "work"})
			o.want("before", "ada@example.com", sel)
			if err := change(t.Context(), o.engine, sel); err != nil {
				t.Fatal(err)
			}
			o.store.gone.Store(true)
			o.want("after it", "", sel)
		})
	}
}

// What another process has changed counts within 5 seconds, as everywhere, unless the host has asked for longer.
func TestSecurity13_OutageAfterChangeElsewhere(t *testing.T) {
	t.Parallel()
	o := newOutage(t, 0)
	sel := core.Selector{Credential: o.mustConnect("u", "ada", core.ConnectInput{}).ID}
	other := o.open()
	o.want("before", "ada@example.com", sel)
	if err := other.DisableUser(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	o.store.gone.Store(true)
	o.clock.Advance(5 * time.Second)
	o.want("5 seconds later", "", sel)
}

// A token that the store could not take any more is given out while the store is away, by the process that has it.
func TestOutageUnsaved(t *testing.T) {
	t.Parallel()
	o := newOutage(t, time.Hour)
	sel := core.Selector{Credential: o.mustConnect("u", "ada", core.ConnectInput{}).ID}
	o.clock.Advance(30 * time.Minute)
	o.want("before", "ada@example.com", sel)
	o.provider.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{Hold: true} })
	o.clock.Advance(30 * time.Minute) // the token has ended
	got := make(chan error)
	go func() {
		_, err := o.engine.User("u").Token(t.Context(), sel)
		got <- err
	}()
	o.waitFor(1)
	o.store.gone.Store(true)
	o.provider.Set(func(sw *coretest.Switches) { sw.Refresh = coretest.Fault{} })
	if err := <-got; err != nil {
		t.Errorf("Token while the store went away = %v, want the token that the provider gave", err)
	}
	o.clock.Advance(20 * time.Minute) // within OutageTTL of the last read
	o.want("while the store is away", "ada@example.com", sel)
	o.store.gone.Store(false)
	o.want("when the store is back", "ada@example.com", sel)
	o.wantRefreshes("all in all", 1)
}
