package coretest

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault is what goes wrong at one endpoint. Several may be set: first the request waits (Slow, Hold, Hang), then its
// connection is cut (LostReply), or it is answered by Garbage, or by Error, or as it should be.
//
// Unless WorkFirst is set, a request that waits has changed nothing yet, and one that is answered by Garbage or Error
// changes nothing at all.
type Fault struct {
	// Times is how many requests meet the fault; 0 means all. When they have, it is -1, and the fault is over until
	// Times is set again.
	Times int `json:"times"`

	// WorkFirst does what the request asks before the fault strikes, and keeps the answer back: a code or refresh
	// token is spent although the client has not heard of it.
	WorkFirst bool `json:"workFirst"`

	// Slow is a delay, in real time. It ends early when the client leaves, or the server is reset or closed.
	Slow time.Duration `json:"slow"`

	// Hold keeps requests waiting until it is switched off again: a delay whose end the test decides. A request
	// whose client has left meanwhile goes on too if the server has not noticed; [Calls].Waiting tells.
	Hold bool `json:"hold"`

	// Hang never answers: the request ends when the client leaves, or the server is reset or closed.
	Hang bool `json:"hang"`

	// LostReply does what the request asks and then cuts the connection. Note that [http.Transport] repeats a GET
	// by itself when that happens on a connection that it used before.
	LostReply bool `json:"lostReply"`

	// Error is an OAuth error code, such as temporarily_unavailable, that answers the request: in the redirect at
	// Authorize, else in a JSON object with status 400 (invalid_client: 401).
	Error string `json:"error"`

	// Garbage answers the request with anything; nil means not.
	Garbage *Garbage `json:"garbage"`
}

// Garbage is an answer that is not made by the server but given: an error page, a limit (status 429 with the header
// Retry-After), or an error in the provider's own words (see [Switches].TokenErrors).
type Garbage struct {
	Status      int               `json:"status"`      // 0 means 200
	ContentType string            `json:"contentType"` // empty means text/html
	Header      map[string]string `json:"header"`      // further headers, such as Retry-After
	Body        string            `json:"body"`
	Size        int64             `json:"size"` // in bytes; spaces before Body fill a larger answer up to it
}

// clone returns a copy that shares nothing with g.
func (g Garbage) clone() Garbage {
	g.Header = maps.Clone(g.Header)
	return g
}

// take returns the fault as it applies to the next request, and counts that request.
func (f *Fault) take() Fault {
	now := *f
	switch {
	case f.Times < 0:
		return Fault{}
	case f.Times == 1:
		f.Times = -1
	case f.Times > 1:
		f.Times--
	}
	return now
}

// maxRequest is the limit of a request's body, which is read whole: only then does the server notice a client that
// leaves.
const maxRequest = 16 << 20

// handle runs one endpoint behind its fault. An empty e is the token endpoint, whose name depends on the form.
func (s *OAuthServer) handle(w http.ResponseWriter, r *http.Request, e Endpoint, h http.HandlerFunc, methods ...string) {
	if len(methods) > 0 && !slices.Contains(methods, r.Method) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		writeJSON(w, http.StatusMethodNotAllowed, map[string]any{"error": "method_not_allowed"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		writeJSON(w, http.StatusRequestEntityTooLarge, map[string]any{"error": "request_too_large"})
		return
	} else if err != nil {
		panic(http.ErrAbortHandler) // the client has left
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_ = r.ParseForm() // what is malformed is missing from the form
	if e == EndpointAPI {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if (e == "" || e == EndpointRevoke) && isJSON(r) {
		r.PostForm = formOf(body)
		for name, values := range r.PostForm {
			r.Form[name] = append(r.Form[name], values...)
		}
	}
	if e == "" {
		e = EndpointExchange
		if r.PostForm.Get("grant_type") == "refresh_token" {
			e = EndpointRefresh
		}
	}

	f, reset := s.arrive(e, r)
	var answer *keptAnswer
	if f.WorkFirst {
		answer = newKeptAnswer()
		h(answer, r)
	}
	s.wait(r, e, f, reset)
	switch {
	case f.LostReply:
		if answer == nil {
			h(newKeptAnswer(), r)
		}
		panic(http.ErrAbortHandler)
	case f.Garbage != nil:
		f.Garbage.write(w)
	case f.Error != "":
		s.writeFault(w, r, e, f.Error)
	case answer != nil:
		answer.write(w)
	default:
		h(w, r)
	}
}

// wait keeps a request waiting as its fault says, and abandons it when the client leaves, or the server is closed or
// reset: reset is s.reset at the time when the request arrived.
func (s *OAuthServer) wait(r *http.Request, e Endpoint, f Fault, reset chan struct{}) {
	if f.Slow <= 0 && !f.Hold && !f.Hang {
		return
	}
	s.waits(1)
	defer s.waits(-1)
	if f.Slow > 0 {
		t := time.NewTimer(f.Slow)
		defer t.Stop()
		select {
		case <-t.C:
		case <-reset:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-s.done:
			panic(http.ErrAbortHandler)
		}
	}
	for f.Hang || f.Hold {
		s.mu.Lock()
		held, switched, old := s.switches.fault(e).Hold, s.switched, s.reset != reset
		s.mu.Unlock()
		switch {
		case old: // a reset switches Hold off too, but lets nothing go on
			panic(http.ErrAbortHandler)
		case !held && !f.Hang:
			return
		}
		select {
		case <-switched: // by Reset too
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-s.done:
			panic(http.ErrAbortHandler)
		}
	}
}

// writeFault answers with the error that a fault names.
func (s *OAuthServer) writeFault(w http.ResponseWriter, r *http.Request, e Endpoint, code string) {
	err := &oauthError{Code: code, Description: "the switches of the test server say so"}
	switch e {
	case EndpointAuthorize:
		s.refuseAuthorization(w, r, err)
	case EndpointExchange, EndpointRefresh:
		s.writeTokenError(w, r, err)
	default:
		writeJSON(w, err.status(), err)
	}
}

// write sends the garbage.
func (g *Garbage) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", cmp.Or(g.ContentType, "text/html"))
	for k, v := range g.Header {
		h.Set(k, v)
	}
	w.WriteHeader(cmp.Or(g.Status, http.StatusOK))
	spaces := bytes.Repeat([]byte(" "), 32<<10)
	for left := g.Size - int64(len(g.Body)); left > 0; {
		n, err := w.Write(spaces[:min(left, int64(len(spaces)))])
		if err != nil {
			return // the client has had enough
		}
		left -= int64(n)
	}
	_, _ = io.WriteString(w, g.Body)
}
