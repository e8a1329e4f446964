// Accounts shows the rules by which polycred keeps a user's accounts apart, each of them in a step or two of one story:
//
//	go run ./examples/accounts
//
// It needs no arguments, no network and no other program: the provider is a demo on loopback, everything else is real.
// Each step says what is tried and, behind the arrow, what happened; above the steps stands the rule that says so. The
// program checks what it prints, and ends with status 1 as soon as a rule does not hold.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "accounts: takes no arguments")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "accounts:", err)
		os.Exit(1)
	}
}

// run plays the story in a temporary directory and prints it to out.
func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "polycred-accounts-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d, err := newDemo(out, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return d.play(ctx)
}
