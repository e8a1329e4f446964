package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/polycred/polycred/core"
)

// An OAuth flow over the wire. The SDK fetches build-oauth (row 6), which begins a connect session, and at the same time opens
// a window at oauth-nonce (row 5), which leaves a cookie in the browser. The window then goes to the hop, which hands it over
// to the provider without its opener, and comes back to the callback. The SDK learns the outcome by polling (row 7).

// hopPath is where the hop of a connect session lies, by its handle.
const hopPath = "/connect/hop/"

// buildOAuth is row 6.
func (a *api) buildOAuth(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	session, err := a.begin(r, u)
	if err != nil {
		return neverLogOut(waitFor(err))
	}
	a.write(w, http.StatusOK, map[string]string{"redirectUrl": a.opts.PublicURL + hopPath + session.Handle})
	return nil
}

// waitFor makes of too many open connect sessions what a client can wait for: they expire (security 28).
func waitFor(err error) error {
	if errors.Is(err, core.ErrTooMany) {
		return &limitedError{time.Minute}
	}
	return err
}

// begin begins the connect session that the query of rows 6 and 6b describes.
func (a *api) begin(r *http.Request, u *core.User) (*core.ConnectSession, error) {
	q := r.URL.Query()
	in, err := a.askedFor(r, q)
	if err != nil {
		return nil, err
	}
	if in.OAuth2 == nil {
		return nil, invalid("This integration is connected with a key: send it with POST …/sdk/credentials.")
	}
	var options installOptions
	if raw := q.Get("installOptions"); raw != "" && json.Unmarshal([]byte(raw), &options) != nil {
		return nil, invalid("installOptions is not the JSON of an object.")
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	variables := map[string]string{}
	if raw := q.Get("endUserSuppliedValues"); raw != "" {
		var given map[string]any
		if json.Unmarshal([]byte(raw), &given) != nil {
			return nil, invalid("endUserSuppliedValues is not the JSON of an object.")
		}
		for name, value := range given {
			if text, ok := value.(string); ok {
				if text != "" {
					variables[name] = text
				}
			} else if value != nil {
				return nil, invalid("endUserSuppliedValues." + clip(name) + " must be a text.")
			}
		}
	}
	key := q.Get("oauthMetaKeyId")
	if key == "" {
		key = q.Get("sessionId") // SDKs before 2.2.3
	}
	session, err := u.Connect(r.Context(), core.ConnectInput{
		Integration: in.Name, AllowMultiple: options.AllowMultiple || options.Credential != "", Into: options.Credential,
		ExternalID: options.ExternalID, RedirectURL: q.Get("redirectUrl"), Variables: variables, PollingKey: key,
	})
	return session, pageError(err)
}

// pageError is the error of a page of the application that is none of its own, in words that say whose list it is.
func pageError(err error) error {
	if wrong, ok := errors.AsType[*core.InputError](err); ok && wrong.Field == "redirectUrl" {
		return invalid("redirectUrl is none of the pages that the application lists. They are compared exactly.")
	}
	return err
}

// askedFor is the integration that a query names, by its id or, without one, as an action.
func (a *api) askedFor(r *http.Request, q url.Values) (core.Integration, error) {
	if id := q.Get("integrationId"); id != "" {
		return a.known.find(r.Context(), a, id)
	}
	return a.known.find(r.Context(), a, q.Get("action"))
}

// noncePage is row 5: the window of a flow, before it goes to the provider. It comes from a page of the application, whose
// origin the Referer tells; any other way here is asked about first, by a form that only a page of ours can send.
func (a *api) noncePage(w http.ResponseWriter, r *http.Request) error {
	u, in, err := a.visitor(r)
	if err != nil {
		return err
	}
	origin := r.URL.Query().Get("originForPostMessage")
	if !slices.Contains(a.opts.AllowedOrigins, origin) {
		return &Error{http.StatusBadRequest, "origin", "This page was opened by an address that the application does not list. Tell the operator."}
	}
	if ok, err := a.agreed(w, r, u, &in); !ok || err != nil {
		return err
	}
	if err := a.setNonce(r.Context(), w, u.ID(), u.Person(), in.Name); err != nil {
		return err
	}
	return a.render(w, http.StatusOK, noncePage, map[string]any{"Origin": origin})
}

// legacyPage is row 6b: one navigation that begins the session and leads to the provider, for SDKs before 2.2.3.
func (a *api) legacyPage(w http.ResponseWriter, r *http.Request) error {
	if !a.opts.LegacyNavigation {
		return &Error{http.StatusNotFound, "not_found", "This way to connect is switched off. Use @useparagon/connect 2.4.0 or later, or switch legacyNavigation on."}
	}
	u, in, err := a.visitor(r)
	if err != nil {
		return err
	}
	if ok, err := a.agreed(w, r, u, &in); !ok || err != nil {
		return err
	}
	session, err := a.begin(r, u)
	if err != nil {
		return waitFor(err)
	}
	return a.leave(w, r, session.Handle)
}

// visitor is who a window is for, by the user token in its query, and the integration.
func (a *api) visitor(r *http.Request) (*core.User, core.Integration, error) {
	q := r.URL.Query()
	u, err := a.callerBy(r, q.Get("userToken"))
	if err != nil {
		return nil, core.Integration{}, err
	}
	in, err := a.askedFor(r, q)
	return u, in, err
}

// agreed reports whether the person in front of the browser wants this flow: a page of the application led here, or they said
// so on the page that is shown otherwise (security 1).
func (a *api) agreed(w http.ResponseWriter, r *http.Request, u *core.User, in *core.Integration) (bool, error) {
	if r.Method == http.MethodPost {
		if r.Header.Get("Origin") != a.opts.PublicURL { // another page sent the form
			return false, &Error{http.StatusForbidden, "origin", "This request came from another page. Start again in the application."}
		}
		return true, nil
	}
	// A browser that does not say what it asks for may be showing a picture of some page of the application's.
	if ref, err := url.Parse(r.Referer()); err == nil && ref.Host != "" && slices.Contains(a.opts.AllowedOrigins, ref.Scheme+"://"+ref.Host) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" {
		return true, nil
	}
	return false, a.render(w, http.StatusOK, askPage, map[string]any{
		"Application": a.opts.Application, "User": u.ID(), "Person": u.Person(), "Integration": displayName(in), "Action": r.URL.RequestURI(),
	})
}

// hop is the one-use step between our window and the provider (security 2).
func (a *api) hop(w http.ResponseWriter, r *http.Request) error {
	return a.guessed(r, func() error {
		handle := r.PathValue("handle")
		session, err := a.engine.ConnectSession(r.Context(), handle)
		if err != nil {
			return err
		}
		ok, err := a.hasNonce(r, session.User, session.Person, session.Integration)
		if err != nil {
			return err
		}
		if !ok {
			return core.ErrBrowser
		}
		return a.leave(w, r, handle)
	})
}

// navigates refuses what a browser asks for a page of ours for otherwise than to show it in a window of its own: pictures,
// frames and scripts of other pages could set its cookies unseen (Fetch Metadata Request Headers; security 1).
func navigates(r *http.Request) error {
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	if mode != "" && mode != "navigate" || dest != "" && dest != "document" {
		return &Error{http.StatusForbidden, "origin", "This page is shown in a window of its own only. Start again in the application."}
	}
	return nil
}

// guessed does what begins with a secret of a URL, which nobody should try many of (security 28).
func (a *api) guessed(r *http.Request, do func() error) error {
	address := a.limits.address(r)
	if err := a.limits.links.peek(address); err != nil {
		return err
	}
	err := do()
	if errors.Is(err, core.ErrSession) || errors.Is(err, core.ErrBrowser) {
		_ = a.limits.links.take(address) // this one was looked at
	}
	return err
}

// leave binds a session to this browser and sends it to the provider, where nothing of this window can be reached.
func (a *api) leave(w http.ResponseWriter, r *http.Request, handle string) error {
	secret := newSecret()
	name := a.sessionName(handle)
	if cookie, err := r.Cookie(name); err == nil { // the same browser, once more
		secret = cookie.Value
	}
	session, err := a.engine.BeginConnect(r.Context(), handle, secret)
	if err != nil {
		return err
	}
	at, err := url.Parse(session.URL)
	if err != nil {
		return err
	}
	ttl := session.Expires.Sub(a.now())
	a.setCookie(w, name, secret, ttl)
	a.setCookie(w, a.sessionName(at.Query().Get("state")), secret, ttl)
	h := w.Header()
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Location", session.URL)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// callbackPath is the path of core.Options.CallbackURL; empty without OAuth.
func (a *api) callbackPath() string {
	u, err := url.Parse(a.engine.CallbackURL())
	if err != nil {
		return ""
	}
	return u.Path
}

// callback is where the provider sends the browser back to.
func (a *api) callback(w http.ResponseWriter, r *http.Request) error {
	values := r.URL.Query()
	browser := ""
	if cookie, err := r.Cookie(a.sessionName(values.Get("state"))); err == nil {
		browser = cookie.Value
	}
	var result *core.ConnectResult
	err := a.guessed(r, func() (err error) {
		result, err = a.engine.Callback(r.Context(), core.CallbackInput{Integration: r.PathValue("integration"), Values: values, Browser: browser})
		return err
	})
	if result != nil && result.ReturnURL != "" {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		http.Redirect(w, r, result.ReturnURL, http.StatusSeeOther)
		return nil
	}
	if err != nil {
		return err
	}
	noteCredential(r, result.Credential.ID)
	return a.render(w, http.StatusOK, donePage, map[string]any{"Application": a.opts.Application})
}

// callbackPost is callback for providers that answer with a form (OAuth 2.0 Form Post Response Mode): browsers keep cookies
// from a form of another site, so it is turned into a navigation of our own.
func (a *api) callbackPost(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return errBody
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Location", r.URL.EscapedPath()+"?"+r.PostForm.Encode())
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// failPage tells the person at the window what went wrong, and what to do.
func (a *api) failPage(w http.ResponseWriter, r *http.Request, err error) {
	f := failureOf(err, requestID(r))
	if f.Status >= 500 {
		a.log.ErrorContext(r.Context(), "a page could not be shown", "requestId", f.Meta["requestId"], "code", f.Code, "error", loggable(err))
	}
	noteFailure(r, f.Code)
	f.header(w.Header())
	if f.Status == http.StatusBadRequest && errors.As(err, new(*core.InputError)) {
		f.Message = core.Message(err)
	}
	if err := a.render(w, f.Status, failedPage, map[string]any{"Message": f.Message, "Request": f.Meta["requestId"]}); err != nil {
		a.log.ErrorContext(r.Context(), "a page could not be written", "error", err)
	}
}
