package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/polycred/polycred/core/coretest"
)

const (
	controlPath = "/_control" // a path that no provider has
	maxBody     = 1 << 20     // bytes of a body
)

// control answers everything below controlPath. It is the server's fallback, and so must be made before the server.
type control struct {
	clock *clock
	log   *slog.Logger

	ready  chan struct{} // closed when server is set
	server *coretest.OAuthServer
}

func newControl(clock *clock, log *slog.Logger) *control {
	return &control{clock: clock, log: log, ready: make(chan struct{})}
}

// serve gives the control its server. It is called once.
func (c *control) serve(s *coretest.OAuthServer) {
	c.server = s
	close(c.ready)
}

// route is what one method does at one name below controlPath. A nil answer is sent as 204; an error is the caller's
// fault, and told to it.
type route struct {
	method, name string
	do           func(c *control, body []byte) (answer any, err error)
}

var routes = []route{
	{http.MethodGet, "switches", func(c *control, _ []byte) (any, error) { return c.server.Switches(), nil }},
	{http.MethodPatch, "switches", (*control).patchSwitches},
	{http.MethodGet, "calls", func(c *control, _ []byte) (any, error) { return c.server.Calls(), nil }},
	{http.MethodGet, "last", (*control).last},
	{http.MethodPost, "accounts", (*control).addAccount},
	{http.MethodPost, "keys", (*control).addKey},
	{http.MethodPost, "sign-in", (*control).signIn},
	{http.MethodPost, "revoke", (*control).revoke},
	{http.MethodGet, "clock", (*control).time},
	{http.MethodPost, "clock", (*control).advance},
	{http.MethodPost, "reset", (*control).reset},
}

// ServeHTTP answers a request for a path that the OAuth server does not have.
func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	<-c.ready
	if r.URL.Path != controlPath && !strings.HasPrefix(r.URL.Path, controlPath+"/") {
		refuse(w, http.StatusNotFound, "not_found", "this server has no such path")
		return
	}
	status := c.steer(w, r)
	c.log.Info("control", "method", r.Method, "path", r.URL.Path, "status", status)
}

// steer answers a request below controlPath and returns the status.
func (c *control) steer(w http.ResponseWriter, r *http.Request) int {
	// A web page can make a browser send requests here, with an Origin, or under a name of its own that it has
	// resolve to 127.0.0.1. Some browsers send GET without an Origin; those that do name the site instead.
	site := r.Header.Get("Sec-Fetch-Site")
	switch {
	case len(r.Header["Origin"]) > 0 || site != "" && site != "none":
		return refuse(w, http.StatusForbidden, "forbidden", "a web page must not steer this server")
	case r.Host != c.server.Host():
		return refuse(w, http.StatusForbidden, "forbidden", "the host must be "+c.server.Host())
	}
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, controlPath), "/")
	var methods []string
	for _, route := range routes {
		if route.name == name {
			methods = append(methods, route.method)
		}
	}
	if len(methods) == 0 {
		return refuse(w, http.StatusNotFound, "not_found", "there are: "+listRoutes())
	}
	i := slices.IndexFunc(routes, func(route route) bool { return route.name == name && route.method == r.Method })
	if i < 0 {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		return refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "there are: "+listRoutes())
	}

	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return refuse(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a body has at most %d bytes", maxBody))
	} else if err != nil {
		panic(http.ErrAbortHandler) // the client has left
	}
	answer, err := routes[i].do(c, body)
	switch {
	case err != nil:
		return refuse(w, http.StatusBadRequest, "bad_request", err.Error())
	case answer == nil:
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	}
	return write(w, http.StatusOK, answer)
}

func (c *control) patchSwitches(body []byte) (any, error) {
	var err error
	c.server.Set(func(sw *coretest.Switches) { err = decode(body, sw) })
	if err != nil {
		return nil, err
	}
	return c.server.Switches(), nil
}

func (c *control) last([]byte) (any, error) {
	requests := make(map[coretest.Endpoint]coretest.Request)
	for _, e := range []coretest.Endpoint{
		coretest.EndpointAuthorize, coretest.EndpointExchange, coretest.EndpointRefresh,
		coretest.EndpointUserInfo, coretest.EndpointRevoke, coretest.EndpointAPI,
	} {
		if r, ok := c.server.Last(e); ok {
			requests[e] = r
		}
	}
	return requests, nil
}

func (c *control) addAccount(body []byte) (any, error) {
	var a coretest.Account
	if err := decode(body, &a); err != nil {
		return nil, err
	}
	if a.Subject == "" && a.Login == "" {
		return nil, errors.New("an account needs a subject or a login")
	}
	c.server.AddAccount(a)
	return nil, nil
}

func (c *control) addKey(body []byte) (any, error) {
	var in struct{ Key, Login string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.Key == "" || in.Login == "" {
		return nil, errors.New("key and login must be given")
	}
	c.server.AddKey(in.Key, in.Login)
	return nil, nil
}

func (c *control) signIn(body []byte) (any, error) {
	var in struct{ Login *string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.Login == nil {
		return nil, errors.New(`login must be given; "" signs everybody out`)
	}
	c.server.SignIn(*in.Login)
	return nil, nil
}

func (c *control) revoke(body []byte) (any, error) {
	var in struct{ Login string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.Login == "" {
		return nil, errors.New("login must be given")
	}
	c.server.Revoke(in.Login)
	return nil, nil
}

func (c *control) time([]byte) (any, error) {
	return map[string]string{"now": c.clock.now().UTC().Format(time.RFC3339Nano)}, nil
}

func (c *control) advance(body []byte) (any, error) {
	var in struct{ Advance string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(in.Advance)
	if err != nil {
		return nil, errors.New(`advance must be a duration, such as "1h30m" or "-10s"`)
	}
	c.clock.advance(d)
	return c.time(nil)
}

func (c *control) reset([]byte) (any, error) {
	c.clock.reset()
	c.server.Reset()
	return nil, nil
}

// decode reads a JSON object into v and refuses names that v does not have.
func decode(body []byte, v any) error {
	body = bytes.TrimSpace(body)
	if !bytes.HasPrefix(body, []byte("{")) || !json.Valid(body) {
		return errors.New("the body must be a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// refuse answers with an error and returns the status.
func refuse(w http.ResponseWriter, status int, code, message string) int {
	return write(w, status, map[string]string{"error": code, "message": message})
}

// write answers with a value as JSON and returns the status.
func write(w http.ResponseWriter, status int, v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
	return status
}

// listRoutes is what the control has, for whoever asks for something else.
func listRoutes() string {
	names := make([]string, 0, len(routes))
	for _, r := range routes {
		names = append(names, r.method+" "+controlPath+"/"+r.name)
	}
	return strings.Join(names, ", ")
}
