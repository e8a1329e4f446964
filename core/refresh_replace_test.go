package core_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
)

// joining is a context that tells when somebody waits on it: a refresh does, once it has joined the one under way.
type joining struct {
	context.Context
	once   sync.Once
	joined chan struct{}
}

func (c *joining) Done() <-chan struct{} {
	c.once.Do(func() { close(c.joined) })
	return c.Context.Done()
}

// replaceable lets another account take the place of the one in a credential.
func (w *world) replaceable() {
	w.change(func(in *core.Integration) { in.OtherAccount = core.OtherAccountReplace })
}

// A refresh that began for the account before does not answer for the one that has taken its place.
func TestReplaceUnderRefresh(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]coretest.Fault{
		"it succeeds": {},
		"it ended":    {Error: "invalid_grant", Times: 1},
		"it fails":    {Error: "temporarily_unavailable", Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &spyStore{Store: memory.New()}
			w := newWorld(t, store, nil)
			w.replaceable()
			ada := w.expired()
			w.refresh(fault)
			written, answer := make(chan struct{}), make(chan struct{})
			writes := 0
			store.intercept(func(b storage.Batch, next func() error) error {
				err := next()
				if slices.ContainsFunc(b.Puts, func(put storage.Put) bool { return put.Key[0] == 'c' }) {
					if writes++; writes == 2 { // the first is the intent
						close(written)
						<-answer
					}
				}
				return err
			})
			first := w.begunToken(w.engine, ada.ID)
			<-written
			store.intercept(nil)
			w.provider.Set(func(sw *coretest.Switches) { sw.ExpiresIn = "1" })
			w.mustConnect("u", "bob", core.ConnectInput{Into: ada.ID})
			w.clock.Advance(2 * time.Second)

			ctx := &joining{Context: t.Context(), joined: make(chan struct{})}
			second := make(begun, 1)
			go func() {
				token, err := w.engine.User("u").Token(ctx, core.Selector{Credential: ada.ID})
				second <- begunResult{token, w.note(err)}
			}()
			<-ctx.joined
			close(answer)
			<-first
			got := <-second
			if as := w.whose(got.token.Value.Reveal()); got.err != nil || as != "bob@example.com" {
				t.Errorf("a token of bob's credential acts as %q, %v, want bob", as, got.err)
			}
		})
	}
}

// A process that has an integration in its cache sends no token of an account that was connected later to where that
// integration was.
func TestStaleIntegration(t *testing.T) {
	t.Parallel()
	type places struct{ old, renewed *peer }
	for name, move := range map[string]func(w *world, at places) (id string){
		"made anew": func(w *world, at places) string {
			w.join(at.old, nil)
			_, err := w.engine.User("u").Token(w.Context(), core.Selector{Integration: "peer"}) // has the cache filled
			w.wantErr("no account", err, core.ErrNotConnected)
			operator := w.open()
			if err := operator.DeleteIntegration(w.Context(), "peer"); err != nil {
				w.Fatal(w.note(err))
			}
			stale := w.engine
			w.engine = operator
			w.join(at.renewed, nil)
			id := w.connectPeer("new", core.ConnectInput{}).ID
			w.engine = stale
			return id
		},
		"changed": func(w *world, at places) string {
			in := w.join(at.old, nil)
			id := w.connectPeer("old", core.ConnectInput{}).ID
			if _, err := get(w.T, w.client(id), at.old.URL+"/data"); err != nil {
				w.Error(err)
			}
			stale := w.engine
			w.engine = w.open()
			in.OAuth2.AuthorizationURL, in.OAuth2.TokenURL = at.renewed.URL+"/authorize", at.renewed.URL+"/token"
			in.AllowedHosts = []string{at.renewed.URL}
			if _, err := w.engine.UpdateIntegration(w.Context(), in); err != nil {
				w.Fatal(w.note(err))
			}
			w.connectPeer("new", core.ConnectInput{Into: id})
			w.engine = stale
			return id
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := places{newPeer(t, http.NotFound), newPeer(t, http.NotFound)}
			w := newPeerWorld(t, nil, at.old, at.renewed)
			at.renewed.set(func() { at.renewed.lifetime = 1 })
			id := move(w, at)
			_, err := get(t, w.client(id), at.old.URL+"/data")
			w.wantErr("a request to the old host", err, core.ErrHostNotAllowed)
			w.clock.Advance(2 * time.Second)
			token, err := w.engine.User("u").Token(t.Context(), core.Selector{Credential: id})
			if err != nil || token.Value.Reveal() != "at-new" {
				t.Errorf("token = %v, want it refreshed at the new host", w.note(err))
			}
			at.old.wantNever(t, "the old host", "at-new")
			at.old.wantNever(t, "the old host", "rt-new")
		})
	}
}

// A request that began as one account does not go on as another: it is neither repeated nor redirected as the one that
// was connected meanwhile.
func TestReplaceUnderRequest(t *testing.T) {
	t.Parallel()
	unknown := func(in *core.Integration) { in.Identity = core.Identity{} }
	for _, tt := range []struct {
		name, login string
		change      func(*core.Integration)
		same        bool
	}{
		{"another account", "bob", func(in *core.Integration) { in.OtherAccount = core.OtherAccountReplace }, false},
		{"who knows", "ada", unknown, false},
		{"the same account", "ada", func(*core.Integration) {}, true},
	} {
		for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTemporaryRedirect} {
			t.Run(tt.name+", "+strconv.Itoa(status), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil, nil)
				w.change(tt.change)
				ada := w.mustConnect("u", "ada", core.ConnectInput{})
				w.clock.Advance(10 * time.Minute)
				target, fault := "/echo", coretest.Fault{Hold: true, Times: 1}
				if status == http.StatusTemporaryRedirect {
					target = "/redirect?status=307&to=" + url.QueryEscape(w.provider.APIURL()+target)
				} else {
					fault.Garbage = &coretest.Garbage{Status: status}
				}
				w.provider.Set(func(sw *coretest.Switches) { sw.API = fault })
				client, got, failed := w.client(ada.ID), make(chan int, 1), make(chan error, 1)
				before := w.provider.Calls().API
				go func() {
					resp, err := w.do(client, w.request(http.MethodPost, target, strings.NewReader("for ada")), nil)
					got <- resp.StatusCode
					failed <- err
				}()
				w.held(1)
				w.mustConnect("u", tt.login, core.ConnectInput{Into: ada.ID})
				w.clock.Advance(10 * time.Minute)
				w.provider.Set(func(sw *coretest.Switches) { sw.API.Hold = false })

				code, err, calls := <-got, <-failed, 1
				switch {
				case tt.same:
					calls = 2
					if code != http.StatusOK || err != nil {
						t.Errorf("answer = %d, %v, want 200", code, err)
					}
				case status == http.StatusTemporaryRedirect:
					w.wantErr("a redirect", err, core.ErrConflict)
				case code != status || err != nil:
					t.Errorf("answer = %d, %v, want the first, %d", code, err, status)
				}
				if n := w.provider.Calls().API - before; n != calls {
					t.Errorf("the API was called %d times, want %d", n, calls)
				}
				if resp, err := w.do(client, w.request(http.MethodPost, "/echo", nil), nil); err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("the next request = %d, %v, want 200", resp.StatusCode, err)
				}
			})
		}
	}
}

// A late answer puts nothing old over what a reconnect brought; but a new refresh token in it is the only live one.
func TestRefreshOverReconnect(t *testing.T) {
	t.Parallel()
	for _, rotate := range []bool{false, true} {
		t.Run("rotating "+strconv.FormatBool(rotate), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, nil)
			w.provider.Set(func(sw *coretest.Switches) { sw.Rotate, sw.ReuseRevokes = rotate, true })
			ada := w.expired()
			spent := w.stored("u", ada.ID).RefreshToken
			w.refresh(coretest.Fault{Hold: true, WorkFirst: true, Times: 1})
			result := w.begunToken(w.engine, ada.ID)
			w.held(1)
			w.change(func(in *core.Integration) { in.OAuth2.Scopes = append(in.OAuth2.Scopes, "write") })
			w.provider.Set(func(sw *coretest.Switches) { sw.OmitRefreshTokenAtExchange = true })
			w.clock.Advance(time.Second)
			w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID})
			connected := w.stored("u", ada.ID)
			w.refresh(coretest.Fault{})
			if got := <-result; got.err != nil || !got.token.Value.Equal(connected.AccessToken) {
				t.Errorf("token = %+v, %v, want the one of the new consent", got.token, got.err)
			}
			now := w.stored("u", ada.ID)
			if !now.AccessToken.Equal(connected.AccessToken) || now.Refreshed != connected.Refreshed || !slices.Contains(now.Scopes, "write") {
				t.Errorf("scopes = %q, refreshed %d, want what the new consent brought", now.Scopes, now.Refreshed)
			}
			if kept := now.RefreshToken.Equal(spent); kept == rotate {
				t.Errorf("the spent refresh token is still stored: %t, want %t", kept, !rotate)
			}
			w.wantAlive(ada.ID)
		})
	}
}

// keepUnsaved refreshes the token of an account that has ended while the store is full: the answer lives in memory.
func (w *world) keepUnsaved(store *fillable, id string) {
	w.Helper()
	w.refresh(coretest.Fault{Hold: true, Times: 1})
	result := w.begunToken(w.engine, id)
	w.held(1)
	store.full.Store(true)
	w.refresh(coretest.Fault{})
	if got := <-result; got.err != nil {
		w.Fatalf("token while the store is full: %v", got.err)
	}
}

// The refresh token that lives in memory outlives a reconnect which brings none.
func TestUnsavedOverReconnect(t *testing.T) {
	t.Parallel()
	store := &fillable{Store: memory.New()}
	w := newWorld(t, store, nil)
	w.rotate()
	ada := w.expired()
	w.keepUnsaved(store, ada.ID)
	store.full.Store(false)
	w.clock.Advance(time.Second)
	w.provider.Set(func(sw *coretest.Switches) { sw.OmitRefreshTokenAtExchange = true })
	w.mustConnect("u", "ada", core.ConnectInput{Into: ada.ID})
	connected := w.stored("u", ada.ID)
	if err := coretest.Step(w.engine); err != nil {
		t.Error(w.note(err))
	}
	now := w.stored("u", ada.ID)
	if !now.AccessToken.Equal(connected.AccessToken) || now.Refreshed != connected.Refreshed || now.RefreshToken.Equal(connected.RefreshToken) {
		t.Error("want the access token of the reconnect, and the refresh token that was kept")
	}
	w.clock.Advance(2 * time.Hour)
	w.wantAlive(ada.ID)
}

// A token that lives in memory and ends there is not lost, and its refresh token is not spent before it is stored.
func TestUnsavedEnds(t *testing.T) {
	t.Parallel()
	store := &fillable{Store: memory.New()}
	w := newWorld(t, store, nil)
	w.rotate()
	ada := w.expired()
	w.keepUnsaved(store, ada.ID)
	w.clock.Advance(2 * time.Hour)
	_, err := w.token("u", ada.ID)
	w.wantErr("a token that ended in memory", err, storage.ErrFull)
	w.wantRefreshes("while the store is full", 1)
	store.full.Store(false)
	w.wantAlive(ada.ID)
}

// What was made while an account was good does not use it once it has ended, though its token has time left.
func TestInvalidIsNeverUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	source, err := w.engine.User("u").TokenSource(t.Context(), core.Selector{Credential: ada.ID})
	if err != nil {
		t.Fatal(w.note(err))
	}
	client := w.client(ada.ID)
	w.clock.Advance(5 * time.Minute)
	w.provider.Revoke("ada")
	w.wantStatus("a request with a token that was revoked", client, w.request(http.MethodGet, "/me", nil), http.StatusUnauthorized)
	if got := w.credential("u", ada.ID); got.Status != core.StatusInvalid || !got.ValidUntil.After(w.clock.Now()) {
		t.Fatalf("credential = %+v, want it INVALID before its token's time", got)
	}
	calls := w.provider.Calls()
	_, tokenErr := source.Token()
	_, clientErr := w.me(client)
	for what, err := range map[string]error{"token source": tokenErr, "client": clientErr} {
		w.wantErr("a "+what+" from before", err, core.ErrReconnect)
		if errors.Is(err, core.ErrProvider) {
			t.Errorf("%s: %v, want no ProviderError: nobody was asked", what, err)
		}
	}
	if after := w.provider.Calls(); after.API != calls.API || after.Refresh != calls.Refresh {
		t.Errorf("calls = %+v after %+v, want none more", after, calls)
	}
}
