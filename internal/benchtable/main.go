// Benchtable measures the speed that polycred promises, and prints it as a table.
//
// A promise is never an absolute time: it is the ratio of two benchmarks, or a figure that a benchmark counts itself.
// Both sides of a ratio run in every round, one after the other, and what is judged is the median of the rounds'
// ratios, so that what else the machine does hits both sides alike. The rows stand in rows.go.
//
// Benchtable runs in the root of the module and ends with status 1 if a promise is missed or cannot be measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

// run measures the chosen rows and prints them. It returns an error if a bound is missed.
func run(ctx context.Context) error {
	count := flag.Int("count", 5, "rounds to take the median of")
	benchtime := flag.Duration("benchtime", time.Second, "how long each benchmark runs in a round")
	only := flag.String("rows", "", "measure only the rows whose name matches this regular expression")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *count < 1 || *benchtime <= 0 {
		return fmt.Errorf("-count and -benchtime must be above zero")
	}
	name, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-rows: %w", err)
	}
	var chosen []row
	for _, r := range rows {
		if name.MatchString(r.name) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no row matches %q", *only)
	}
	rounds, err := measure(ctx, chosen, *count, *benchtime)
	if err != nil {
		return err
	}
	fmt.Printf("medians of %d rounds, %s each\n\n", *count, *benchtime)
	missed, err := report(os.Stdout, chosen, rounds)
	if err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d promises missed", missed, len(chosen))
	}
	return nil
}
