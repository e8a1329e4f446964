// Server is a complete host program: it serves the HTTP API that the browser SDK @useparagon/connect speaks, for the
// integrations, keys and origins of one file.
//
//	go run ./examples/server -demo
//	go run ./examples/server -data DIR -config FILE -http 127.0.0.1:8480 -tls 127.0.0.1:8443
//	go run ./examples/server -data DIR -demo -mint user-1
//
// With -demo it starts a provider, an API behind it and an application on loopback, so that somebody new can click; nothing
// leaves the machine. docs/integration.md describes the file, docs/http-api.md what is served.
//
// The store lies in DIR, and its key-encryption key beside it, in DIR.kek: a backup holds one of the two. The HTTPS port has
// a certificate for localhost and *.localhost that is made when the program starts; in production a reverse proxy, or a
// certificate of yours, stands in its place.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// flags are what the command line says.
type flags struct {
	data, config   string
	http, tls      string
	demo           bool
	demoKey, mint  string
	json, takeOver bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// errUsage ends a command line that is wrong; what is wrong has been said.
var errUsage = errors.New("usage")

// run is the program.
func run(ctx context.Context, args []string, out, complain io.Writer) error {
	f, err := parse(args, complain)
	if err != nil {
		return err
	}
	cfg := &config{}
	if f.config != "" {
		if cfg, err = loadConfig(f.config); err != nil {
			return err
		}
	}
	if f.mint != "" {
		return mint(out, f, cfg)
	}
	return serve(ctx, out, f, cfg)
}

func parse(args []string, complain io.Writer) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet("server", flag.ContinueOnError)
	set.SetOutput(complain)
	set.StringVar(&f.data, "data", "", "keep the store in this `directory`, and its key in DIRECTORY.kek; empty keeps everything in memory")
	set.StringVar(&f.config, "config", "", "read integrations, signing keys and origins from this `file`, see docs/integration.md")
	set.StringVar(&f.http, "http", "127.0.0.1:8480", "serve http on this `address`; port 0 is any that is free, empty is none")
	set.StringVar(&f.tls, "tls", "127.0.0.1:8443", "serve https on this `address`, with a certificate made for localhost and *.localhost; empty is none")
	set.BoolVar(&f.demo, "demo", false, "start a demo provider and a demo application as well, with integrations to try")
	set.StringVar(&f.demoKey, "demo-key", "", "the `file` of the key with which -demo and -mint sign user tokens; empty is DIRECTORY.demo-key")
	set.StringVar(&f.mint, "mint", "", "only print a token of this `user`, signed with the demo key")
	set.BoolVar(&f.json, "json", false, "print the addresses as one line of JSON, for programs")
	set.BoolVar(&f.takeOver, "take-over", false, "confirm that a store that was copied or moved is the one to go on with; for one start")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	refuse := func(text string) (*flags, error) {
		_, _ = fmt.Fprintf(complain, "server: %s; see -help\n", text)
		return nil, errUsage
	}
	switch {
	case set.NArg() > 0:
		return refuse(fmt.Sprintf("unknown argument %q", set.Arg(0)))
	case f.demoKey == "" && f.data != "":
		f.demoKey = beside(f.data, ".demo-key")
	case f.mint != "" && f.demoKey == "":
		return refuse("-mint needs the key that the server has: name its -data or -demo-key")
	}
	switch {
	case f.mint != "":
	case f.http == "" && f.tls == "":
		return refuse("there is nothing to serve: -http and -tls are both empty")
	case f.config == "" && !f.demo:
		return refuse("name a file with -config, or try it with -demo")
	}
	return f, nil
}
