//go:build long

package proof_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/catalog"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

// lifetime is how long access tokens live.
const lifetime = time.Hour

// house is a provider with its clock, and what processes need to use it.
type house struct {
	*testing.T
	name     string // of the integration
	provider *coretest.OAuthServer
	clock    *shift
	kek      string
	logs     string

	mu     sync.Mutex // guards logins
	logins int
}

// newHouse starts a provider. Several in one test may share a store, and then take the key of the first.
func newHouse(t *testing.T, name string, sw coretest.Switches, first *house) *house {
	t.Helper()
	h := &house{T: t, name: name, clock: &shift{}}
	if first != nil {
		h.kek, h.logs = first.kek, first.logs
	} else {
		h.logs = t.TempDir()
		h.kek = filepath.Join(t.TempDir(), "kek")
		if _, err := crypto.CreateKEK(h.kek); err != nil {
			t.Fatal(err)
		}
	}
	provider, err := coretest.NewOAuthServer(&coretest.OAuthServerOptions{
		Now: h.clock.now, TokenLifetime: lifetime, Switches: sw,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	h.provider = provider
	return h
}

// rotating is the provider that forgives nothing: each refresh brings a new refresh token, and a spent one that comes
// again ends the whole grant.
var rotating = coretest.Switches{Rotate: true, ReuseRevokes: true}

// setup is that of a process on a store.
func (h *house) setup(store, place string) setup {
	return setup{
		Store: store, Place: place, KEK: h.kek, Logs: h.logs, Hosts: []string{h.provider.Host()},
		Offset: time.Duration(h.clock.offset.Load()),
	}
}

// found makes the store and declares the provider in it. grace is what the integration says about spent refresh tokens.
func (h *house) found(s setup, grace time.Duration) {
	h.Helper()
	h.inside(s, func(a *agent) {
		in := h.provider.Integration(h.name)
		in.OAuth2.Refresh = core.RefreshTokens{Rotation: core.RotationSingleUse}
		in.OAuth2.Refresh.Grace = catalog.Duration(grace)
		if _, err := a.engine.CreateIntegration(h.Context(), in); err != nil {
			h.Fatal(err)
		}
	})
}

// inside opens the store in this process for as long as do takes.
func (h *house) inside(s setup, do func(*agent)) {
	h.Helper()
	log, err := os.CreateTemp(h.logs, "inside-*.log")
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	a, err := open(h.Context(), s, log)
	if err != nil {
		h.Fatal(err)
	}
	defer func() {
		if h.Failed() {
			h.Log(tail(log.Name()))
		}
	}()
	defer func() {
		if err := a.close(); err != nil {
			h.Error(err)
		}
	}()
	do(a)
}

// somebody is a new user who has an account at the provider.
func (h *house) somebody() account {
	h.mu.Lock()
	h.logins++
	login := fmt.Sprintf("%s-%d", h.name, h.logins)
	h.mu.Unlock()
	h.provider.AddAccount(coretest.Account{Subject: login})
	return account{User: "user of " + login, Integration: h.name, Login: login}
}

// me is the address that tells whose a token is.
func (h *house) me() string { return h.provider.APIURL() + "/me" }

// use is what a process needs to get and try a token.
func (h *house) use(c account) use { return use{account: c, Me: h.me()} }

// advance moves the clocks of the provider and of all processes, and returns when all have.
func (h *house) advance(d time.Duration, processes ...*process) {
	h.Helper()
	offset := time.Duration(h.clock.offset.Add(int64(d)))
	var wg sync.WaitGroup
	errs := make([]error, len(processes))
	for i, p := range processes {
		wg.Go(func() { _, errs[i] = ask[nothing](h.Context(), p, "time", offset) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			h.Fatalf("set the clock: %v\n%s", err, processes[i].tail())
		}
	}
}

// waitCalls returns when cond holds for the provider's counts, and fails the test when that takes longer than anything may.
func (h *house) waitCalls(cond func(coretest.Calls) bool) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), limit)
	defer cancel()
	if err := h.provider.WaitForCalls(ctx, cond); err != nil {
		h.Fatalf("%v; they are %+v", err, h.provider.Calls())
	}
}

// works fails the test unless a process gets a token of the account that the provider takes as its.
func (h *house) works(ctx context.Context, p *process, c account) bool {
	h.Helper()
	got, err := ask[handed](ctx, p, "token", h.use(c))
	if err != nil || got.Whose != c.Login {
		h.Errorf("token of %s = for %q, %v, want one that works\n%s", c.Login, got.Whose, err, p.tail())
		return false
	}
	return true
}

// short is an error on one line.
func short(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text[:min(len(text), 200)]
}
