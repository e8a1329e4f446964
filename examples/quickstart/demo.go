package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/badger"
)

const (
	integration = "demoCalendar"
	user        = "acme-inc"
)

// demo is a host program: a web server with two routes, an engine, and a demo provider in place of a real one.
type demo struct {
	story       io.Writer
	store, kek  string // paths
	clock       *coretest.Clock
	provider    *coretest.OAuthServer
	web         *http.Server
	base        string // of the web server
	opened      *badger.Store
	engine      *core.Engine
	stop        func() // ends the engine's background work
	returnError error  // of the last callback
}

func newDemo(story io.Writer, store, kek string) (*demo, error) {
	d := &demo{story: story, store: store, kek: kek, clock: coretest.NewClock(time.Now())}
	var err error
	if d.provider, err = coretest.NewOAuthServer(&coretest.OAuthServerOptions{Now: d.clock.Now}); err != nil {
		return nil, err
	}
	d.provider.AddAccount(coretest.Account{Subject: "1001", Name: "work@example.com"})
	d.provider.AddAccount(coretest.Account{Subject: "1002", Name: "private@example.com"})
	d.provider.Set(func(s *coretest.Switches) { s.Rotate = true })

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.provider.Close()
		return nil, err
	}
	d.base = "http://" + listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /connect", d.connect)
	mux.HandleFunc("GET /callback/{integration}", d.callback)
	d.web = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = d.web.Serve(listener) }() // ends with close

	if _, err = crypto.CreateKEK(kek); err == nil {
		err = d.open(context.Background())
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// open opens the store and the engine, as the program does each time it starts.
func (d *demo) open(ctx context.Context) (err error) {
	kek, err := crypto.OpenKEK(d.kek)
	if err != nil {
		return err
	}
	if d.opened, err = badger.Open(d.store, nil); err != nil {
		return err
	}
	d.engine, err = core.Open(ctx, d.opened, crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{
		CallbackURL:  d.base + "/callback",
		PrivateHosts: []string{d.provider.Host()}, // the demo provider is on loopback; a real one needs no entry
		Now:          d.clock.Now,
	})
	if err != nil {
		return err
	}
	background, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.engine.Run(background)
	}()
	d.stop = func() {
		cancel()
		<-ended
	}
	return nil
}

// shut closes what open opened.
func (d *demo) shut() (err error) {
	if d.engine != nil {
		d.stop()
		err = d.engine.Close()
	}
	if d.opened != nil {
		err = errors.Join(err, d.opened.Close())
	}
	d.engine, d.opened = nil, nil
	return err
}

func (d *demo) close() error {
	err := errors.Join(d.shut(), d.web.Close())
	d.provider.Close()
	return err
}

// connect sends the browser to the provider. A real program knows the user from its login session.
func (d *demo) connect(w http.ResponseWriter, r *http.Request) {
	browser := rand.Text()
	http.SetCookie(w, &http.Cookie{Name: "browser", Value: browser, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	session, err := d.engine.User(user).Connect(r.Context(), core.ConnectInput{
		Integration: integration, Browser: browser,
		AllowMultiple: r.FormValue("another") != "", ExternalID: r.FormValue("as"),
	})
	if d.returnError = err; err != nil {
		http.Error(w, core.Message(err), http.StatusConflict)
		return
	}
	http.Redirect(w, r, session.URL, http.StatusSeeOther)
}

// callback is where the provider sends the browser back to.
func (d *demo) callback(w http.ResponseWriter, r *http.Request) {
	cookie, err := r.Cookie("browser")
	if err == nil {
		_, err = d.engine.Callback(r.Context(), core.CallbackInput{
			Integration: r.PathValue("integration"), Values: r.URL.Query(), Browser: cookie.Value,
		})
	}
	if d.returnError = err; err != nil {
		http.Error(w, core.Message(err), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintln(w, "Connected. You can close this window.")
}

// whoAmI calls the provider's API as one account and returns what the provider says whose it is.
func (d *demo) whoAmI(ctx context.Context, credential string) (string, error) {
	client, err := d.engine.User(user).Client(ctx, core.Selector{Integration: integration, Credential: credential})
	if err != nil {
		return "", err
	}
	resp, err := client.Get(d.provider.APIURL() + "/me")
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var me struct{ Account string }
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the provider answered %s", resp.Status)
	}
	return me.Account, errors.Join(json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&me), nonEmpty(&me.Account))
}

func nonEmpty(s *string) error {
	if *s == "" {
		return errors.New("the provider did not say whose token it was")
	}
	return nil
}
