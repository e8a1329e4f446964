// Quickstart shows what polycred is for, in one run and without a network: a user connects two accounts of one
// integration, and the program acts through exactly the one it names.
//
//	go run ./examples/quickstart
//
// It needs no arguments and no other program. The provider is a demo on loopback, the accounts and their tokens are
// real records in an encrypted store on disk. With -json it prints only the result; with -data DIR it keeps the store
// (DIR/store) and its key (DIR/kek).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

func main() {
	asJSON := flag.Bool("json", false, "print only one JSON object with the result")
	data := flag.String("data", "", "keep store and key in this `directory`, which must be empty or absent")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unknown argument %q; see -help\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *asJSON, *data); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run plays the story in dir and prints it to out.
func run(ctx context.Context, out io.Writer, asJSON bool, dir string) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "polycred-quickstart-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := prepare(dir); err != nil {
		return err
	}
	story := io.Discard
	if !asJSON {
		story = out
	}
	d, err := newDemo(story, filepath.Join(dir, "store"), filepath.Join(dir, "kek"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	result, err := d.play(ctx)
	if err != nil || !asJSON {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// prepare makes a directory, or sees to it that it is empty.
func prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty: name a directory that is, or one that does not exist yet", dir)
	}
	return err
}
