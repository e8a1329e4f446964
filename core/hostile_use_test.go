package core_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
)

// A 401 whose body never ends keeps nobody from the answer to the request that is sent again.
func TestUnauthorizedThatNeverEnds(t *testing.T) {
	t.Parallel()
	p := newPeer(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer at-renewed" {
			return
		}
		rw.WriteHeader(http.StatusUnauthorized)
		_, _ = rw.Write([]byte("x"))
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	p.refresh = func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write([]byte(`{"access_token":"at-renewed","expires_in":36000}`))
		return true
	}
	w := newPeerWorld(t, nil, p)
	w.join(p, nil)
	client := w.client(w.connectPeer("a", core.ConnectInput{}).ID)
	w.clock.Advance(5 * time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := w.do(client, w.request(http.MethodGet, p.URL+"/data", nil).WithContext(ctx), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("a request whose 401 never ends = status %d, %v, want 200 after a refresh", resp.StatusCode, err)
	}
}

// While a refresh behind hangs, those who take the token that is still good are not remembered, however many they are.
func TestRefreshBehindRemembersNobody(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan struct{}), make(chan struct{})
	p := newPeer(t, http.NotFound)
	p.set(func() { p.lifetime = 3600 })
	p.refresh = func(http.ResponseWriter, *http.Request) bool {
		close(arrived)
		<-answer
		return false
	}
	w := newPeerWorld(t, nil, p)
	w.join(p, nil)
	id := w.connectPeer("a", core.ConnectInput{}).ID
	w.clock.Advance(58 * time.Minute) // due, and valid
	u := w.engine.User("u")
	for i := range 2000 {
		if _, err := u.Token(t.Context(), core.Selector{Credential: id}); err != nil {
			t.Fatal(w.note(err))
		}
		if i == 0 {
			<-arrived
		}
	}
	if got := w.engine.Joined(); got > 1 {
		t.Errorf("callers that a refresh behind remembers = %d of 2000, want none", got)
	}
	close(answer)
	w.engine.Settle("u", id)
	refreshes := 0
	for _, sent := range p.got() {
		if sent.form.Get("grant_type") == "refresh_token" {
			refreshes++
		}
	}
	if refreshes != 1 {
		t.Errorf("refreshes = %d, want 1", refreshes)
	}
}

// Before a browser is bound to a session, a page can say for whom and what it is.
func TestSecurity1_SessionByHandle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	begin := func() *core.ConnectSession {
		session, err := w.engine.User("mallory").Connect(t.Context(), core.ConnectInput{Integration: calendar})
		if err != nil {
			t.Fatal(w.note(err))
		}
		return session
	}
	session, expiring := begin(), begin()
	for range 2 {
		got, err := w.engine.ConnectSession(t.Context(), session.Handle)
		if err != nil {
			t.Fatal(w.note(err))
		}
		if got.User != "mallory" || got.Integration != calendar || got.ID != session.ID || !got.Expires.Equal(session.Expires) {
			t.Errorf("session by handle = %+v, want that of mallory at %s", got, calendar)
		}
		if got.URL != "" {
			t.Error("session by handle = one with a URL, want none")
		}
	}
	bound, err := w.engine.BeginConnect(t.Context(), session.Handle, "b") // it was not bound so far
	if err != nil || bound.User != "mallory" || bound.Integration != calendar {
		t.Fatalf("begin = %+v, %v, want the session of mallory", bound, w.note(err))
	}
	if got, err := w.engine.ConnectSession(t.Context(), session.Handle); err != nil || got.URL != "" {
		t.Errorf("a bound session by handle = %+v, %v, want it without URL", got, w.note(err))
	}
	for _, handle := range []string{"", "unknown", session.Handle + "x", strings.Repeat("x", 1<<16)} {
		_, err := w.engine.ConnectSession(t.Context(), handle)
		w.wantErr(fmt.Sprintf("unknown handle %.20q", handle), err, core.ErrSession)
	}
	if _, err := w.engine.Callback(t.Context(), w.consent(bound, "ada", calendar, "b")); err != nil {
		t.Fatal(w.note(err))
	}
	_, err = w.engine.ConnectSession(t.Context(), session.Handle)
	w.wantErr("a finished session", err, core.ErrSession)
	w.clock.Set(expiring.Expires)
	_, err = w.engine.ConnectSession(t.Context(), expiring.Handle)
	w.wantErr("an expired session", err, core.ErrSessionExpired)
}

// What was not made as it should be gives errors.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	user := new(core.User)
	open := func(store storage.Store, tokens, policy *crypto.LocalKEK, o *core.Options) func() error {
		return func() error {
			engine, err := core.Open(t.Context(), store, crypto.KEKs{Tokens: tokens, Policy: policy}, o)
			if err == nil {
				_ = engine.Close()
			}
			return err
		}
	}
	for _, tt := range []struct {
		name  string
		input bool // it is an InputError
		call  func() error
	}{
		{"Token of new(User)", true, func() error {
			_, err := user.Token(t.Context(), core.Selector{Integration: calendar})
			return err
		}},
		{"Client of new(User)", true, func() error {
			_, err := user.Client(t.Context(), core.Selector{Integration: calendar})
			return err
		}},
		{"Connect of new(User)", true, func() error {
			_, err := user.Connect(t.Context(), core.ConnectInput{Integration: calendar})
			return err
		}},
		{"Credentials of new(User)", true, func() error {
			_, err := user.Credentials(t.Context(), core.ListInput{})
			return err
		}},
		{"Disconnect of new(User)", true, func() error { return user.Disconnect(t.Context(), core.Selector{Integration: calendar}) }},
		{"a nil *badger.Store", true, open((*badger.Store)(nil), kek, kek, nil)},
		{"no store", true, open(nil, kek, kek, nil)},
		{"an empty KEK", false, open(memory.New(), &crypto.LocalKEK{}, &crypto.LocalKEK{}, nil)},
		{"an empty KEK for the policy", false, open(memory.New(), kek, &crypto.LocalKEK{}, nil)},
		{"a nil *LocalKEK", false, open(memory.New(), nil, nil, nil)},
		{"a timeout of centuries", true, open(memory.New(), kek, kek, &core.Options{ProviderTimeout: 1 << 62})},
		{"a timeout of 11 minutes", true, open(memory.New(), kek, kek, &core.Options{ProviderTimeout: 11 * time.Minute})},
		{"a negative timeout", true, open(memory.New(), kek, kek, &core.Options{ProviderTimeout: -1})},
	} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s = panic %v, want an error", tt.name, r)
				}
			}()
			err := tt.call()
			var input *core.InputError
			if err == nil || tt.input && !errors.As(err, &input) {
				t.Errorf("%s = %v, want an error, an InputError: %t", tt.name, err, tt.input)
			}
		}()
	}
}

// However what holds secrets is printed, also under verbs that are not meant for it, there is none in it.
func TestSecurity27_PrintingUnderEveryVerb(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	u, sel := w.engine.User("u"), core.Selector{Credential: ada.ID}
	source, err := u.TokenSource(t.Context(), sel)
	if err != nil {
		t.Fatal(err)
	}
	token, record, client, in := w.mustToken("u", ada.ID), w.stored("u", ada.ID), w.client(ada.ID), w.integration(nil)
	keyset, err := crypto.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	input := core.KeyInput{Integration: calendar, Key: crypto.NewSecret("canary-key")}
	access := token.Value.Reveal()
	for _, v := range []any{
		w.engine, u, *u, client, *client, client.Transport, source, token, &token, record, &record, ada, in, &in, in.OAuth2, *in.OAuth2,
		input, &input, w.keks, keyset, *keyset,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			text := fmt.Sprintf(verb, v)
			for _, secret := range []string{access, clientSecret, "canary-key"} {
				bare := strings.Trim(fmt.Sprint([]byte(secret)), "[]")
				for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), bare} {
					if strings.Contains(text, form) {
						t.Errorf("%T under %s = a text with a secret, want none", v, verb)
					}
				}
			}
		}
	}
}
