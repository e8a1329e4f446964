package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/badger"
	"github.com/polycred/polycred/storage/memory"
	"golang.org/x/sync/errgroup"
)

// addresses are what the program tells whoever started it; -json prints it as one line.
type addresses struct {
	Public   string `json:"publicUrl"`
	HTTP     string `json:"http,omitempty"`
	TLS      string `json:"tls,omitempty"`
	Project  string `json:"project"`
	Provider string `json:"provider,omitempty"` // of the demo
	App      string `json:"application,omitempty"`
}

// serve runs the program until ctx ends.
func serve(ctx context.Context, out io.Writer, f *flags, cfg *config) (err error) {
	plain, err := listen("-http", f.http)
	if err != nil {
		return err
	}
	secure, err := listen("-tls", f.tls)
	if err != nil {
		return errors.Join(err, closeAll(plain))
	}
	defer func() { err = errors.Join(err, closeAll(plain, secure)) }()
	at := addresses{HTTP: urlOf("http", plain), TLS: urlOf("https", secure)}
	if at.Public, err = cfg.publicURL(addressOf(plain), addressOf(secure)); err != nil {
		return err
	}

	options := &httpapi.Options{PublicURL: at.Public, Application: cfg.Application, LegacyNavigation: cfg.LegacyNavigation}
	if header := cfg.ClientAddressHeader; header != "" {
		options.ClientAddress = func(r *http.Request) string { return r.Header.Get(header) }
	}
	var d *demo
	if f.demo {
		if d, err = newDemo(f.demoKey, cfg, at.Public); err != nil {
			return err
		}
		defer d.close()
		at.Provider, at.App = d.provider.URL(), d.url()
		options.Application, options.Sources = cmp.Or(options.Application, "The demo application"), d.sources()
	}
	options.AllowedOrigins = cfg.AllowedOrigins

	store, kek, err := openStore(f.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	engine, err := core.Open(ctx, store, crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{
		Project: cfg.Project, CallbackURL: at.Public + "/callback", RedirectURLs: cfg.RedirectURLs, Unselected: cfg.Unselected,
		PrivateHosts: cfg.PrivateHosts, TakeOver: f.takeOver,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	at.Project = engine.Project()
	declared := ""
	if f.data != "" {
		declared = beside(f.data, ".declared")
	}
	if err := declare(ctx, engine, cfg, openSecrets(ctx, declared, kek)); err != nil {
		return err
	}
	handler, err := httpapi.New(engine, options)
	if err != nil {
		return err
	}
	if err := tell(out, f, at); err != nil {
		return err
	}

	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return engine.Run(ctx) })
	if plain != nil {
		running.Go(func() error { return serveHTTP(ctx, httpapi.Server(handler), plain) })
	}
	if secure != nil {
		certificate, err := newCertificate()
		if err != nil {
			return err
		}
		server := httpapi.Server(handler)
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		running.Go(func() error { return serveHTTP(ctx, server, secure) })
	}
	if d != nil {
		running.Go(func() error { return serveHTTP(ctx, httpapi.Server(d.application(at)), d.listener) })
	}
	return running.Wait()
}

// serveHTTP serves until ctx ends, and then lets requests that are under way come to their end, for some seconds.
func serveHTTP(ctx context.Context, server *http.Server, l net.Listener) error {
	ended := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			ended <- server.ServeTLS(l, "", "")
			return
		}
		ended <- server.Serve(l)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(soon); err != nil { // somebody polls, or downloads
		_ = server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// openStore opens the store and its key-encryption key, or makes both.
func openStore(dir string) (storage.Store, *crypto.LocalKEK, error) {
	if dir == "" {
		kek, err := crypto.NewKEK()
		return memory.New(), kek, err
	}
	file := beside(dir, ".kek")
	kek, err := crypto.OpenKEK(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Stat(dir); gone == nil {
			return nil, nil, fmt.Errorf("%s is there and its key is not: put %s back. Without it nothing in the store can be read", dir, file)
		}
		kek, err = crypto.CreateKEK(file)
	}
	if err != nil {
		return nil, nil, err
	}
	store, err := badger.Open(dir, nil)
	if err != nil {
		return nil, nil, err
	}
	return store, kek, nil
}

// listen takes an address; it is nil for an empty one.
func listen(name, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: name another address, or port 0 for any that is free", name, err)
	}
	return l, nil
}

func closeAll(all ...net.Listener) (err error) {
	for _, l := range all {
		if l == nil {
			continue
		}
		if failed := l.Close(); !errors.Is(failed, net.ErrClosed) { // the server has closed it otherwise
			err = errors.Join(err, failed)
		}
	}
	return err
}

func addressOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

func urlOf(scheme string, l net.Listener) string {
	if l == nil {
		return ""
	}
	return scheme + "://" + l.Addr().String()
}

// tell says where everything is.
func tell(out io.Writer, f *flags, at addresses) error {
	if f.json {
		return json.NewEncoder(out).Encode(at)
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	say("The HTTP API of project %s is at %s", at.Project, at.Public)
	for _, address := range []string{at.HTTP, at.TLS} {
		if address != "" && address != at.Public {
			say("  also served on %s", address)
		}
	}
	if f.demo {
		say("")
		say("Open %s to connect accounts and act as each.", at.App)
		say("The demo provider, with its API, is at %s", at.Provider)
		if f.demoKey != "" {
			say("In another terminal, with the same flags, -mint user-1 prints a token for your own requests:")
			say(`  curl -H "Authorization: Bearer $TOKEN" %s/projects/%s/sdk/me`, at.Public, at.Project)
		}
	}
	say("")
	say("Press Ctrl-C to stop.")
	return nil
}
