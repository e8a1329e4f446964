package endpoint

import (
	"errors"
	"strconv"
	"strings"
)

// What a caller branches on, with errors.Is.
var (
	// ErrPattern: a template, host pattern or list is malformed or too wide. It is a mistake in the configuration.
	ErrPattern = errors.New("invalid endpoint pattern")
	// ErrValue: the value of a variable is missing or refused. Who connects the account can correct it.
	ErrValue = errors.New("invalid value of an endpoint variable")
	// ErrNotAllowed: the host is not on the integration's list.
	ErrNotAllowed = errors.New("host is not allowed")
	// ErrURL: the URL is malformed or ambiguous, whatever its host.
	ErrURL = errors.New("invalid request URL")
)

// Error says what was refused and why. It never holds the value of a variable, a path, a query or userinfo.
type Error struct {
	Err      error  // one of the sentinels of this package
	Pattern  string // the template, host pattern or list concerned; may be empty
	Variable string // the name of the variable concerned; may be empty
	Host     string // the host concerned, as host:port; may be empty
	Problem  string // what is wrong, and where it helps, what to do
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Err.Error())
	if e.Pattern != "" {
		b.WriteByte(' ')
		b.WriteString(strconv.QuoteToASCII(e.Pattern))
	}
	if e.Variable != "" {
		b.WriteString(": variable {" + e.Variable + "}")
	}
	if e.Host != "" {
		b.WriteString(": " + strconv.QuoteToASCII(e.Host))
	}
	if e.Problem != "" {
		b.WriteString(": " + e.Problem)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// shown returns as much of a raw pattern as an error may repeat: somebody may have pasted a password or a key into it.
func shown(raw string) string {
	if i := strings.IndexAny(raw, "?#"); i >= 0 {
		raw = raw[:i] + "…"
	}
	if i := strings.LastIndexByte(raw, '@'); i >= 0 {
		raw = "…" + raw[i:]
	}
	if len(raw) > 200 {
		raw = raw[:200] + "…"
	}
	return raw
}

func patternError(raw, problem string) error {
	return &Error{Err: ErrPattern, Pattern: shown(raw), Problem: problem}
}
