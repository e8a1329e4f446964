package coretest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// Endpoint names a place of the server where requests are counted and faults are set.
type Endpoint string

// The endpoints of an [OAuthServer]. The token endpoint is two of them, by its grant type: Refresh is refresh_token,
// Exchange is everything else.
const (
	EndpointAuthorize Endpoint = "authorize"
	EndpointExchange  Endpoint = "exchange"
	EndpointRefresh   Endpoint = "refresh"
	EndpointUserInfo  Endpoint = "userInfo"
	EndpointRevoke    Endpoint = "revoke"
	EndpointAPI       Endpoint = "api"
)

var endpoints = []Endpoint{
	EndpointAuthorize, EndpointExchange, EndpointRefresh, EndpointUserInfo, EndpointRevoke, EndpointAPI,
}

// Calls are how many requests have arrived at each endpoint, whatever they were answered. A request is counted once
// it is read and before anything is done about it, so one that hangs is counted too.
//
// Waiting is the exception: it is how many requests are kept waiting by a [Fault] at this moment. With WorkFirst, their
// work is done by then.
type Calls struct {
	Authorize int `json:"authorize"`
	Exchange  int `json:"exchange"`
	Refresh   int `json:"refresh"`
	UserInfo  int `json:"userInfo"`
	Revoke    int `json:"revoke"`
	API       int `json:"api"`
	Waiting   int `json:"waiting"`
}

// Request is a request as it arrived.
type Request struct {
	Method string      `json:"method"`
	URL    string      `json:"url"` // path and query, as they were sent
	Header http.Header `json:"header"`
	Form   url.Values  `json:"form"` // parameters of the query and of a form, or of a token request's JSON, in the body
}

// Calls are the counts so far.
func (s *OAuthServer) Calls() Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// WaitForCalls returns when cond holds for the counts, and fails when ctx ends or the server is closed before. It is
// how a test knows that a request is under way, without sleeping. Cond must not call the server.
func (s *OAuthServer) WaitForCalls(ctx context.Context, cond func(Calls) bool) error {
	for {
		s.mu.Lock()
		ok, counted := cond(s.calls), s.counted
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-counted:
		case <-ctx.Done():
			return fmt.Errorf("wait for calls of OAuth server: %w", context.Cause(ctx))
		case <-s.done:
			return fmt.Errorf("wait for calls of OAuth server: %w", http.ErrServerClosed)
		}
	}
}

// Last is the request that arrived last at an endpoint; false if none has.
func (s *OAuthServer) Last(e Endpoint) (Request, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.last[e]
	return Request{Method: r.Method, URL: r.URL, Header: r.Header.Clone(), Form: cloneValues(r.Form)}, ok
}

// LastAuthorization are the parameters of the last authorization request, also of one that was refused; nil if there
// was none.
func (s *OAuthServer) LastAuthorization() url.Values {
	r, _ := s.Last(EndpointAuthorize)
	return r.Form
}

// arrive counts and records a request, whose form has been parsed, and returns the fault that applies to it, and what
// the next Reset closes.
func (s *OAuthServer) arrive(e Endpoint, r *http.Request) (Fault, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e {
	case EndpointAuthorize:
		s.calls.Authorize++
	case EndpointExchange:
		s.calls.Exchange++
	case EndpointRefresh:
		s.calls.Refresh++
	case EndpointUserInfo:
		s.calls.UserInfo++
	case EndpointRevoke:
		s.calls.Revoke++
	case EndpointAPI:
		s.calls.API++
	}
	s.last[e] = Request{
		Method: r.Method, URL: r.RequestURI, Header: r.Header.Clone(), Form: cloneValues(r.Form),
	}
	s.countedLocked()
	return s.switches.fault(e).take(), s.reset
}

// waits adds n to the requests that are kept waiting.
func (s *OAuthServer) waits(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls.Waiting += n
	s.countedLocked()
}

// countedLocked wakes everybody in WaitForCalls.
func (s *OAuthServer) countedLocked() {
	close(s.counted)
	s.counted = make(chan struct{})
}

func cloneValues(v url.Values) url.Values {
	c := maps.Clone(v)
	for k := range c {
		c[k] = slices.Clone(c[k])
	}
	return c
}
