//go:build long

package proof_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// process is a child as its parent sees it.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log string // a file with what it writes to its standard error

	in    sync.Mutex // keeps requests whole
	stdin io.WriteCloser

	mu      sync.Mutex // guards the following
	last    int
	waiting map[int]chan reply
	notes   []json.RawMessage
	gone    bool
	noted   chan struct{} // closed and replaced when a note comes

	opened chan reply    // the first line
	died   chan struct{} // closed when its output has ended and it was waited for
}

// start starts a child and returns when it has opened its store. It ends with the test at the latest.
func start(t *testing.T, s setup) *process {
	t.Helper()
	p, err := tryStart(t, s)
	if err != nil {
		t.Fatalf("start a child: %v", err)
	}
	return p
}

// tryStart is start for a child that may not succeed in opening its store.
func tryStart(t *testing.T, s setup) (*process, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	log, err := os.CreateTemp(s.Logs, "child-*.log")
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{
		t: t, cmd: cmd, log: log.Name(), stdin: stdin, waiting: map[int]chan reply{}, noted: make(chan struct{}),
		opened: make(chan reply, 1), died: make(chan struct{}),
	}
	go p.read(stdout)
	t.Cleanup(func() { p.kill() })
	select {
	case first := <-p.opened:
		if first.Error != "" {
			<-p.died
			return nil, &childError{do: "open", text: first.Error, kind: kinds[first.Kind]}
		}
		return p, nil
	case <-p.died:
		return nil, errDied
	}
}

// read takes replies until the child's output ends.
func (p *process) read(stdout io.Reader) {
	lines := bufio.NewReader(stdout)
	for first := true; ; first = false {
		line, err := lines.ReadBytes('\n')
		var r reply
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		if err != nil {
			break // it ended, in the middle of a line perhaps
		}
		if first {
			p.opened <- r
			continue
		}
		p.mu.Lock()
		if r.ID == 0 {
			p.notes = append(p.notes, r.Result)
			close(p.noted)
			p.noted = make(chan struct{})
		} else {
			p.waiting[r.ID] <- r
			delete(p.waiting, r.ID)
		}
		p.mu.Unlock()
	}
	_ = p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	for _, waiting := range p.waiting {
		close(waiting)
	}
	close(p.died)
}

// limit is longer than anything takes that a child is asked for, and that a proof waits for: what hangs fails.
const limit = 3 * time.Minute

// ask has the child carry out a request. The error is a *childError, errDied, or that of ctx.
func ask[Out any](ctx context.Context, p *process, do string, args any) (Out, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var result Out
	text, err := json.Marshal(args)
	if err != nil {
		return result, err
	}
	answer := make(chan reply, 1)
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return result, errDied
	}
	p.last++
	r := request{ID: p.last, Do: do, Args: text}
	p.waiting[r.ID] = answer
	p.mu.Unlock()

	line, err := json.Marshal(r)
	if err != nil {
		return result, err
	}
	p.in.Lock()
	_, err = p.stdin.Write(append(line, '\n'))
	p.in.Unlock()
	if err != nil {
		<-p.died
		return result, errDied
	}
	select {
	case r, ok := <-answer:
		if !ok {
			return result, errDied
		}
		if len(r.Result) > 0 {
			err = json.Unmarshal(r.Result, &result)
		}
		if r.Error != "" {
			err = errors.Join(err, &childError{do: do, text: r.Error, kind: kinds[r.Kind]})
		}
		return result, err
	case <-ctx.Done():
		return result, fmt.Errorf("%s in a child: %w", do, context.Cause(ctx))
	}
}

// must is ask for what has to succeed.
func must[Out any](p *process, do string, args any) Out {
	p.t.Helper()
	result, err := ask[Out](p.t.Context(), p, do, args)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", do, err, p.tail())
	}
	return result
}

// kill ends the child with SIGKILL, if it has not ended yet, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.died
}

// end lets the child close its store and returns when it is gone. It fails the test when that fails.
func (p *process) end() {
	p.t.Helper()
	_ = p.stdin.Close()
	<-p.died
	if !p.cmd.ProcessState.Success() {
		p.t.Errorf("a child ended with %v\n%s", p.cmd.ProcessState, p.tail())
	}
}

// waitNotes returns the notes so far, when there are at least n or the child has died.
func (p *process) waitNotes(n int) []json.RawMessage {
	for {
		p.mu.Lock()
		notes, noted, gone := p.notes, p.noted, p.gone
		p.mu.Unlock()
		if len(notes) >= n || gone {
			return notes
		}
		select {
		case <-noted:
		case <-p.died:
		}
	}
}

// tail is the end of the child's log.
func (p *process) tail() string { return tail(p.log) }

// tail is the end of a log file.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s ends with:\n%s", filepath.Base(path), text[max(0, len(text)-4000):])
}
