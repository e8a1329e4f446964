package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/polycred/polycred/core/coretest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// config is what the flags say.
type config struct {
	opts  coretest.OAuthServerOptions
	start time.Time // where the clock stands; zero: it runs
	stdin bool
}

// run is the program: it serves until ctx ends, and returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cfg, err := parse(args, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // parse has said why
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	clock := newClock(cfg.start)
	control := newControl(clock, log)
	cfg.opts.Now, cfg.opts.Fallback = clock.now, control
	server, err := coretest.NewOAuthServer(&cfg.opts)
	if err != nil {
		log.Error("cannot start", "err", err)
		return 1
	}
	defer server.Close()
	control.serve(server)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if cfg.stdin {
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			cancel()
		}()
	}
	if err := announce(stdout, server); err != nil {
		log.Error("cannot tell the addresses", "err", err)
		return 1
	}
	log.Info("ready", "url", server.URL())
	<-ctx.Done()
	log.Info("ended")
	return 0
}

// parse reads the flags. When they are wrong, or ask for help, it has printed what there is to say.
func parse(args []string, stdout, stderr io.Writer) (*config, error) {
	cfg := &config{}
	o := &cfg.opts
	f := flag.NewFlagSet("oauthserver", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {} // it would follow each error
	f.Func("port", "listen on this `port` of 127.0.0.1; 0, the default, is a free one", func(s string) error {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return errors.New("it must be a port number; the address is always 127.0.0.1")
		}
		o.Port = int(n)
		return nil
	})
	f.StringVar(&o.ClientID, "client-id", "demo-client", "`id` of the registered client")
	f.StringVar(&o.ClientSecret, "client-secret", "demo-secret", "`secret` of the registered client")
	f.DurationVar(&o.TokenLifetime, "token-lifetime", time.Hour, "how long an access token lives")
	f.BoolVar(&cfg.stdin, "stdin", false, "end when standard input is closed")
	f.Func("redirect-uri", "`URI` that redirects may go to; may be repeated; none: any on loopback", func(s string) error {
		o.RedirectURIs = append(o.RedirectURIs, s)
		return nil
	})
	f.Func("account", "`login` of an account, or a JSON object as for POST accounts; may be repeated; the first one is signed in",
		func(s string) error {
			a := coretest.Account{Subject: s}
			if strings.HasPrefix(strings.TrimSpace(s), "{") {
				a = coretest.Account{}
				if err := decode([]byte(s), &a); err != nil {
					return err
				}
			}
			o.Accounts = append(o.Accounts, a)
			return nil
		})
	f.Func("switches", "initial switches, a `JSON` object as for PATCH switches", func(s string) error {
		return decode([]byte(s), &o.Switches)
	})
	f.Func("clock", "let the clock stand at this `time`, such as 2026-01-01T00:00:00Z", func(s string) error {
		var err error
		cfg.start, err = time.Parse(time.RFC3339, s)
		return err
	})

	err := f.Parse(args)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
		fmt.Fprintln(stderr, err)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help(), "\nFlags\n\n")
		f.SetOutput(stdout)
		f.PrintDefaults()
	case err != nil:
		fmt.Fprintln(stderr, "oauthserver -h tells more")
	}
	return cfg, err
}

// announce prints the line that says that the server is ready, and where.
func announce(w io.Writer, s *coretest.OAuthServer) error {
	return json.NewEncoder(w).Encode(struct {
		URL              string `json:"url"`
		Issuer           string `json:"issuer"`
		AuthorizationURL string `json:"authorizationUrl"`
		TokenURL         string `json:"tokenUrl"`
		UserInfoURL      string `json:"userInfoUrl"`
		RevocationURL    string `json:"revocationUrl"`
		JWKSURL          string `json:"jwksUrl"`
		APIURL           string `json:"apiUrl"`
		ClientID         string `json:"clientId"`
		ClientSecret     string `json:"clientSecret"`
		ControlURL       string `json:"controlUrl"`
	}{
		s.URL(), s.Issuer(), s.AuthorizationURL(), s.TokenURL(), s.UserInfoURL(), s.RevocationURL(), s.JWKSURL(),
		s.APIURL(), s.ClientID(), s.ClientSecret(), s.URL() + controlPath,
	})
}
