//go:build long

package proof_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
)

// child is the whole life of a child: it opens its store and carries out requests until its standard input ends, which
// it does when the parent is gone. It returns the exit code.
func child(text string) int {
	var s setup
	err := json.Unmarshal([]byte(text), &s)
	var a *agent
	if err == nil {
		a, err = open(context.Background(), s, os.Stderr)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "child:", err)
		writeLine(reply{Error: err.Error(), Kind: kindOf(err)})
		return 1
	}
	writeLine(reply{}) // open

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "child:", err)
			return 1
		}
		wg.Go(func() { writeLine(carryOut(ctx, a, &r)) })
	}
	cancel()
	wg.Wait()
	if err := a.close(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

func carryOut(ctx context.Context, a *agent, r *request) reply {
	do := ops[r.Do]
	if do == nil {
		return reply{ID: r.ID, Error: "no such request: " + r.Do}
	}
	result, err := do(ctx, a, r.Args)
	text, failed := json.Marshal(result)
	if err = errors.Join(err, failed); err != nil {
		return reply{ID: r.ID, Result: text, Error: err.Error(), Kind: kindOf(err)}
	}
	return reply{ID: r.ID, Result: text}
}

// out guards the standard output of a child.
var out sync.Mutex

// writeLine writes a reply at once and whole: what the parent has read was acknowledged.
func writeLine(r reply) {
	line, err := json.Marshal(r)
	if err != nil {
		panic(err) // never: it holds texts and JSON
	}
	out.Lock()
	defer out.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n')) // the parent may be gone
}

// note tells the parent something that it did not ask for.
func note(v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		writeLine(reply{Result: text})
	}
	return err
}
