//go:build long

package proof_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
)

const (
	callbackURL = "http://127.0.0.1:1/callback" // nobody serves it
	onBadger    = "badger"
	onPostgres  = "postgres"
)

// setup is what a process is started with.
type setup struct {
	Store    string        `json:"store"` // onBadger or onPostgres
	Place    string        `json:"place"` // the directory, or the data source name
	KEK      string        `json:"kek"`   // a file
	Logs     string        `json:"logs"`  // the directory for what children log
	Offset   time.Duration `json:"offset"`
	Skew     time.Duration `json:"skew"`
	LeaseTTL time.Duration `json:"leaseTtl"` // 0: the default
	Bridge   time.Duration `json:"bridge"`   // core.Options.OutageTTL
	Hosts    []string      `json:"hosts"`    // of the providers
	TakeOver bool          `json:"takeOver"`
}

// shift is a clock that runs with real time, ahead of it.
type shift struct{ offset atomic.Int64 }

func (s *shift) now() time.Time { return time.Now().Add(time.Duration(s.offset.Load())) }

// agent is one process that uses polycred: a store, an engine on it, a clock. Children have one; a proof may have one in
// the parent too. Its methods may be called concurrently.
type agent struct {
	setup  setup
	clock  shift
	full   atomic.Bool // the store has no room
	store  *mined
	engine *core.Engine
	client http.Client // to ask providers with, beside the engine

	stop func() error // ends Run
}

// open opens the store and an engine on it.
func open(ctx context.Context, s setup, log io.Writer) (*agent, error) {
	a := &agent{setup: s, stop: func() error { return nil }}
	a.clock.offset.Store(int64(s.Offset + s.Skew))
	a.client.Transport = &http.Transport{MaxIdleConnsPerHost: 128}
	kek, err := crypto.OpenKEK(s.KEK)
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, &s, &a.full)
	if err != nil {
		return nil, err
	}
	a.store = &mined{Store: store}
	a.engine, err = core.Open(ctx, a.store, crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{
		CallbackURL: callbackURL, PrivateHosts: s.Hosts, Now: a.clock.now, LeaseTTL: s.LeaseTTL, OutageTTL: s.Bridge, TakeOver: s.TakeOver,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return a, nil
}

func (a *agent) close() error {
	err := a.stop()
	err = errors.Join(err, a.engine.Close(), a.store.Close())
	a.client.CloseIdleConnections()
	return err
}

// nothing is the result, or the arguments, of what has none.
type nothing struct{}

// setTime sets how far the clocks of all are ahead of real time; this process keeps its skew.
func (a *agent) setTime(_ context.Context, offset time.Duration) (nothing, error) {
	a.clock.offset.Store(int64(offset + a.setup.Skew))
	return nothing{}, nil
}

// arm lays a mine for the next refresh.
func (a *agent) arm(_ context.Context, m mine) (nothing, error) {
	a.store.lay(m)
	return nothing{}, nil
}

// run begins the engine's background work.
func (a *agent) run(context.Context, nothing) (nothing, error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.engine.Run(ctx) }()
	a.stop = func() error {
		cancel()
		return <-ended
	}
	return nothing{}, nil
}

// step does n times what Run does.
func (a *agent) step(_ context.Context, n int) (nothing, error) {
	var err error
	for range n {
		err = errors.Join(err, coretest.Step(a.engine))
	}
	return nothing{}, err
}

// quarantine reports whether the engine takes its store for a copy.
func (a *agent) quarantine(context.Context, nothing) (bool, error) {
	return a.engine.Quarantined(), nil
}

// account names one account of a user.
type account struct {
	User        string `json:"user"`
	Integration string `json:"integration"`
	Login       string `json:"login"`      // at the provider
	Credential  string `json:"credential"` // its id, once it is connected; or "ext:" and its external id

	// What it is to be connected with.
	Key        string `json:"key,omitempty"` // of an account with an API key
	ExternalID string `json:"externalId,omitempty"`
	Into       string `json:"into,omitempty"`
}

func (c *account) selector() core.Selector {
	return core.Selector{Integration: c.Integration, Credential: c.Credential}
}

// connect goes through the whole flow, browser and all, and returns the credential's id.
func (a *agent) connect(ctx context.Context, in account) (string, error) {
	const browser = "a browser"
	session, err := a.engine.User(in.User).Connect(ctx, core.ConnectInput{
		Integration: in.Integration, AllowMultiple: in.Into == "", Into: in.Into, ExternalID: in.ExternalID, Browser: browser,
	})
	if err != nil {
		return "", err
	}
	page, err := coretest.NewBrowser().OpenUntil(ctx, session.URL+"&login_hint="+url.QueryEscape(in.Login), callbackURL)
	if err != nil {
		return "", err
	}
	at, err := url.Parse(page.URL)
	if err != nil {
		return "", err
	}
	result, err := a.engine.Callback(ctx, core.CallbackInput{Integration: in.Integration, Values: at.Query(), Browser: browser})
	if err != nil {
		return "", err
	}
	return result.Credential.ID, nil
}

// addKey connects an account with its key and returns the credential's id.
func (a *agent) addKey(ctx context.Context, in account) (string, error) {
	credential, err := a.engine.User(in.User).AddKey(ctx, core.KeyInput{
		Integration: in.Integration, Key: crypto.NewSecret(in.Key), AllowMultiple: true,
	})
	return credential.ID, err
}

// disconnect removes an account.
func (a *agent) disconnect(ctx context.Context, in account) (nothing, error) {
	return nothing{}, a.engine.User(in.User).Disconnect(ctx, in.selector())
}

// enable switches an account on again.
func (a *agent) enable(ctx context.Context, in account) (nothing, error) {
	return nothing{}, a.engine.User(in.User).Enable(ctx, in.selector())
}

// list returns the accounts of a user at an integration.
func (a *agent) list(ctx context.Context, in account) ([]core.Credential, error) {
	page, err := a.engine.User(in.User).Credentials(ctx, core.ListInput{Integration: in.Integration, Limit: 1000})
	return page.Credentials, err
}

// handed is a token that was given out, and what the provider says of it at once.
type handed struct {
	Token string `json:"token"`
	Whose string `json:"whose"` // empty: it is dead
}

// token gets a token and asks the provider's API, whose address is in.Me, whose it is.
func (a *agent) token(ctx context.Context, in use) (handed, error) {
	token, err := a.engine.User(in.User).Token(ctx, in.selector())
	if err != nil {
		return handed{}, err
	}
	whose, err := a.whose(ctx, in.Me, token.Value.Reveal())
	return handed{Token: token.Value.Reveal(), Whose: whose}, err
}

// use is an account and where the provider tells whose a token is.
type use struct {
	account
	Me string `json:"me"`
}

// whose asks the provider, not through polycred.
func (a *agent) whose(ctx context.Context, me, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, me, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := a.client.Do(req)
	if err != nil {
		return "", err
	}
	return accountIn(resp)
}

// accountIn reads the answer of the provider's API: empty where it refused the token.
func accountIn(resp *http.Response) (string, error) {
	defer resp.Body.Close()
	var me struct{ Subject string }
	err := json.NewDecoder(resp.Body).Decode(&me)
	switch {
	case err != nil:
		return "", err
	case resp.StatusCode == http.StatusUnauthorized:
		return "", nil
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the provider's API answered %d", resp.StatusCode)
	}
	return cmp.Or(me.Subject, "nobody"), nil
}

// credential is what the engine says of an account.
func (a *agent) credential(ctx context.Context, in account) (core.Credential, error) {
	return a.engine.User(in.User).Credential(ctx, in.selector())
}
