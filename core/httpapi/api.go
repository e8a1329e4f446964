package httpapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/core/internal/telemetry"
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
	polls  pollTimes
	body   time.Duration // bodyTime, but for tests
	told   *telemetry.Instruments
	proxy  *proxy
	known  integrations
	ready  readiness
	isPage map[string]bool // by the pattern of each route: it reads a cookie
	now    func() time.Time

	closing chan struct{} // closed once the server begins to shut down
	close   func()
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
		engine: engine, kernel: k, opts: opts, log: opts.Logger, mux: http.NewServeMux(), limits: newLimits(&opts), bell: newBell(k),
		polls: usualTimes, body: bodyTime, told: k.Telemetry(), isPage: map[string]bool{}, now: k.Now, closing: make(chan struct{}),
	}
	a.close = sync.OnceFunc(func() { close(a.closing) })
	a.proxy = newProxy(a)
	if err := a.routes(); err != nil {
		return nil, fmt.Errorf("http api: %w", err)
	}
	return a, nil
}

// Server returns a server for a handler of New, with limits that fit it: headers of 64 KiB within 10 seconds, and connections
// that idle no longer than 2 minutes. Bodies have limits of their own: ReadTimeout and WriteTimeout stay 0, and the Proxy API
// would go past them, because a good upload or download may take hours. Set Addr, or call Serve with a listener. Its Shutdown
// does not wait for requests that wait for the outcome of a connect session: their clients ask again.
func Server(h http.Handler) *http.Server {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // it may show what clients sent
	}
	if a, ok := h.(*api); ok {
		s.RegisterOnShutdown(a.close)
	}
	return s
}

// routes registers every path but those of the Proxy API, which the mux would clean and decode. {project} is checked by
// who serves it. The only path that is not ours to choose is the callback's.
func (a *api) routes() (err error) {
	defer func() {
		if recover() != nil { // the mux does not take two patterns that clash
			err = errCallbackPath
		}
	}()
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
	a.handle("POST /v2"+p+"/triggers/{workflow}", a.runWorkflow)
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
	return nil
}

// handle serves JSON to scripts of any origin: no such route reads a cookie.
func (a *api) handle(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	a.isPage[pattern] = false
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.fail(w, r, err)
		}
	})
}

// page serves HTML to the window of an OAuth flow, to no script.
func (a *api) page(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	a.isPage[pattern] = true
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		dropCORS(w.Header())
		if err := navigates(r); err != nil {
			a.failPage(w, r, err)
			return
		}
		if err := h(w, r); err != nil {
			a.failPage(w, r, err)
		}
	})
}

// noRoute answers what no route takes: the mux knows which methods there are.
func (a *api) noRoute(w http.ResponseWriter, r *http.Request, fallback http.Handler) {
	silent := &observed{ResponseWriter: &discarded{header: http.Header{}}}
	fallback.ServeHTTP(silent, r)
	if allow := silent.Header().Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		a.fail(w, r, errWrongMethod)
		return
	}
	a.fail(w, r, errNoRoute)
}

// discarded is an answer that nobody gets.
type discarded struct{ header http.Header }

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarded) WriteHeader(int)             {}

// ServeHTTP answers one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.logged(w, r, func(w http.ResponseWriter, r *http.Request) {
		setCORS(w.Header())
		control := http.NewResponseController(w)
		if r.ContentLength != 0 { // also where nobody reads the body: net/http does, before the next request
			_ = control.SetReadDeadline(time.Now().Add(a.body))
		}
		target, proxied := proxyTarget(written(r.URL))
		if r.Method == http.MethodOptions && (!proxied || r.Header.Get("Authorization") == "") { // a preflight never has that
			_ = control.SetWriteDeadline(time.Now().Add(answerTime))
			a.preflight(w, r)
			return
		}
		if proxied {
			noteRoute(r, proxyRoute)
			if err := a.proxy.serve(w, r, target); err != nil {
				_ = control.SetWriteDeadline(time.Now().Add(answerTime))
				a.fail(w, r, err)
			}
			return
		}
		_ = control.SetWriteDeadline(time.Now().Add(a.polls.late + answerTime)) // each time: it outlives a request
		if escaped := r.URL.EscapedPath(); escaped != path.Clean("/"+escaped) { // the mux would redirect
			a.fail(w, r, errNoRoute)
			return
		}
		fallback, pattern := a.mux.Handler(r)
		if pattern == "" { // the mux would answer in plain text
			a.noRoute(w, r, fallback)
			return
		}
		noteRoute(r, pattern)
		r.Body = &timedBody{ReadCloser: http.MaxBytesReader(w, r.Body, a.opts.MaxBody), control: control}
		a.mux.ServeHTTP(w, r)
	})
}
