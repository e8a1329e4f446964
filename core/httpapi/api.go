package httpapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/internal/kernel"
)

// api is the handler that New returns.
type api struct {
	engine *core.Engine
	kernel *kernel.Kernel
	opts   Options
	log    *slog.Logger
	mux    *http.ServeMux
	limits *limits
	bell   *bell
	proxy  *proxy
	known  integrations
	now    func() time.Time

	patterns []string // of mux, in order
}

// New returns the HTTP API of an engine. It holds nothing open. The handler trusts nothing that a request says of itself but
// what the user token proves; give the server that it runs in the timeouts of Server, or longer ones.
func New(engine *core.Engine, o *Options) (http.Handler, error) {
	opts, err := o.prepare(engine)
	if err != nil {
		return nil, fmt.Errorf("http api: %w", err)
	}
	k := engine.Kernel()
	a := &api{
		engine: engine, kernel: k, opts: opts, log: opts.Logger, mux: http.NewServeMux(), limits: newLimits(&opts), bell: newBell(k), now: k.Now,
	}
	a.proxy = newProxy(a)
	a.routes()
	return a, nil
}

// Server returns a server for a handler of New, with limits that fit it: headers of 64 KiB within 10 seconds, and connections
// that idle no longer than 2 minutes. Bodies have limits of their own. Set Addr, or call Serve with a listener.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // it may show what clients sent
	}
}

// routes registers every path but those of the Proxy API, which the mux would clean and decode. {project} is checked by
// who serves it.
func (a *api) routes() {
	const p = "/projects/{project}/sdk"
	// The users API.
	a.handle("GET "+p+"/me", a.getMe)
	a.handle("PATCH "+p+"/me", a.patchMe)
	a.handle("GET /sdk/projects/{project}", a.getProject)
	a.handle("GET "+p+"/metadata", a.getMetadata)
	a.handle("GET "+p+"/integrations", a.getIntegrations)
	a.handle("DELETE "+p+"/integrations/{integration}", a.deleteIntegration)
	a.handle("GET "+p+"/credentials", a.getAccount)
	a.handle("POST "+p+"/credentials", a.postCredential)
	a.handle("GET "+p+"/credentials/{credential}", a.getCredential)
	a.handle("PATCH "+p+"/credentials/{credential}", a.patchCredential)
	a.handle("POST "+p+"/credentials/{credential}/complete-setup", a.completeSetup)
	for _, at := range []string{"/configurations", "/configurations/{configuration}"} {
		a.handle("PATCH "+p+"/credentials/{credential}"+at, a.patchConfiguration)
		a.handle("DELETE "+p+"/credentials/{credential}"+at, a.deleteConfiguration)
	}
	a.handle("POST "+p+"/credentials/{credential}/configurations", a.postConfiguration)
	a.handle("POST "+p+"/actions", a.postAction)
	a.handle("POST "+p+"/resources/{resource}/connect", a.noResource)
	// Workflows and events, on either prefix.
	a.handle("POST "+p+"/workflows/{workflow}", a.enableWorkflow)
	a.handle("DELETE "+p+"/workflows/{workflow}", a.disableWorkflow)
	a.handle("POST "+p+"/triggers/{workflow}", a.runWorkflow)
	a.handle("POST "+p+"/events/trigger", a.postEvent)
	a.handle("POST /v2"+p+"/events/trigger", a.postEvent)
	a.handle("GET /projects/{project}/triggers", a.getTriggers)
	a.handle("GET /triggers/connect/{project}/{integration}/custom-triggers/{trigger}", a.noTrigger)
	a.handle("POST /triggers/connect/{project}/{integration}/custom-triggers/{trigger}", a.noTrigger)
	// OAuth: what the SDK fetches, and the pages of the window.
	a.handle("GET /v2"+p+"/actions/build-oauth", a.buildOAuth)
	a.handle("GET "+p+"/actions/session-id/{key}", a.getSession)
	a.handle("DELETE "+p+"/actions/session-id/{key}", a.deleteSession)
	a.page("GET "+p+"/actions/oauth-nonce", a.noncePage)
	a.page("POST "+p+"/actions/oauth-nonce", a.noncePage)
	a.page("GET "+p+"/actions/build-oauth", a.legacyPage)
	a.page("POST "+p+"/actions/build-oauth", a.legacyPage)
	a.page("GET "+hopPath+"{handle}", a.hop)
	if path := a.callbackPath(); path != "" {
		a.page("GET "+path+"/{integration}", a.callback)
		a.page("POST "+path+"/{integration}", a.callbackPost)
	}
	// Pictures.
	a.handle("GET /integrations/{file}", a.icon)
	a.handle("GET /images/icons/{file}", a.icon)
	a.handle("GET /images/{file}", a.picture)
	// The server itself.
	a.handle("GET /healthz", a.healthz)
	a.handle("GET /readyz", a.readyz)
}

// handle serves JSON to scripts of any origin: no such route reads a cookie.
func (a *api) handle(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	a.patterns = append(a.patterns, pattern)
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.fail(w, r, err)
		}
	})
}

// page serves HTML to the window of an OAuth flow, to no script.
func (a *api) page(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	a.patterns = append(a.patterns, pattern)
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		dropCORS(w.Header())
		if err := h(w, r); err != nil {
			a.failPage(w, r, err)
		}
	})
}

// ServeHTTP answers one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.logged(w, r, func(w http.ResponseWriter, r *http.Request) {
		setCORS(w.Header())
		if r.Method == http.MethodOptions {
			preflight(w, r)
			return
		}
		if target, ok := proxyTarget(r.URL.EscapedPath()); ok {
			noteRoute(r, proxyRoute)
			if err := a.proxy.serve(w, r, target); err != nil {
				a.fail(w, r, err)
			}
			return
		}
		_, pattern := a.mux.Handler(r)
		noteRoute(r, pattern)
		if pattern == "" || r.URL.Path != path.Clean("/"+r.URL.Path) { // the mux would redirect, or answer in plain text
			a.fail(w, r, errNoRoute)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, a.opts.MaxBody)
		a.mux.ServeHTTP(w, r)
	})
}
