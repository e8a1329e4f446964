package core

import "fmt"

// What leads to an engine prints as one short name, under every verb: fmt would walk into the engine by reflection, which
// races with the goroutines that work there, and show its innards in a log.

// Format writes which project it is.
func (e *Engine) Format(f fmt.State, _ rune) {
	if e == nil || e.db == nil {
		_, _ = fmt.Fprint(f, "core.Engine()")
		return
	}
	_, _ = fmt.Fprintf(f, "core.Engine(%s)", e.db.Project())
}

// Format writes whose handle it is.
func (u User) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "core.User(%s)", clip(u.id)) }

// Format writes as which account it acts.
func (t *transport) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "core.transport(%s)", t.sel) }

// Format writes of which account the tokens are.
func (s tokenSource) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "core.tokenSource(%s)", s.sel)
}
