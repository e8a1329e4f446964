package httpapi

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/internal/telemetry"
)

// headerRequestID names a request in answers and in the log.
const headerRequestID = "X-Request-Id"

// entry is what the access log says of a request. It never holds the path or the query as they came: the SDK puts user tokens
// and answers of providers there (security 27).
type entry struct {
	id         string
	route      string // the pattern that matched
	code       string // of the error
	user       string
	tokenID    string
	credential string // that was used
}

type entryKey struct{}

func entryOf(r *http.Request) *entry {
	e, _ := r.Context().Value(entryKey{}).(*entry)
	if e == nil {
		return &entry{}
	}
	return e
}

func requestID(r *http.Request) string          { return entryOf(r).id }
func noteRoute(r *http.Request, pattern string) { entryOf(r).route = pattern }
func noteFailure(r *http.Request, code string)  { entryOf(r).code = code }
func noteCredential(r *http.Request, id string) { entryOf(r).credential = id }
func noteUser(r *http.Request, u *core.User) {
	e := entryOf(r)
	e.user, e.tokenID = u.ID(), u.TokenID()
}

// logged serves a request and writes its line. A handler that panics is a line too, and a 500 where nothing was answered yet.
func (a *api) logged(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request)) {
	began := time.Now()
	e := &entry{id: newRequestID()}
	ctx, span := a.told.Start(context.WithValue(r.Context(), entryKey{}, e), telemetry.SpanServed, "", "")
	defer span.End()
	r = r.WithContext(ctx)
	seen := &observed{ResponseWriter: w}
	seen.Header().Set(headerRequestID, e.id)
	defer func() {
		p := recover()
		aborted := p == http.ErrAbortHandler //nolint:errorlint // the very value, as net/http documents
		switch {
		case aborted:
			e.code = cmp.Or(e.code, "aborted")
			defer panic(p) // when all is told
		case p != nil:
			a.log.Error("a request ended in a panic", "requestId", e.id, "route", e.route, "stack", string(debug.Stack())) // not what it says
			if seen.status == 0 {
				a.fail(seen, r, errPanic)
			}
		}
		if seen.status == 0 {
			seen.status = http.StatusOK // as net/http answers for a handler that says nothing
		}
		path := pathOf(e.route)
		span.Method(r.Method)
		span.Credential(e.credential)
		span.Served(path, seen.status)
		a.told.Served(ctx, path, r.Method, seen.status, time.Since(began))
		if !a.log.Enabled(ctx, slog.LevelInfo) {
			return
		}
		a.log.LogAttrs(ctx, slog.LevelInfo, "request", slog.String("requestId", e.id), slog.String("method", method(r.Method)),
			slog.String("route", e.route), slog.Int("status", seen.status), slog.Int64("bytes", seen.bytes),
			slog.Duration("took", time.Since(began)), slog.String("user", e.user), slog.String("token", e.tokenID),
			slog.String("credential", e.credential), slog.String("code", e.code))
	}()
	serve(seen, r)
}

var errPanic = &Error{http.StatusInternalServerError, "internal", "Something went wrong. Try again, and tell the operator if it happens again."}

// pathOf is the path of a pattern, without its method.
func pathOf(pattern string) string {
	if _, path, ok := strings.Cut(pattern, " "); ok {
		return path
	}
	return pattern
}

// method is a method as the log shows it: those that are not usual are the client's own words.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

func newRequestID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// observed counts what is answered.
type observed struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (o *observed) WriteHeader(status int) {
	if status >= 200 && o.status == 0 {
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Write(p []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	n, err := o.ResponseWriter.Write(p)
	o.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }
