package core

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/polycred/polycred/crypto"
	"golang.org/x/oauth2"
)

// ConnectInput says what is to be connected.
type ConnectInput struct {
	// Integration is its name; it has to be one with OAuth. Keys are connected with User.AddKey.
	Integration string
	// AllowMultiple adds an account beside those that are connected; otherwise a connected account is an error (rule 1).
	AllowMultiple bool
	// Into authorises a connected account anew, named by its id or external id: its id and settings stay (rule 3).
	// AllowMultiple does not matter then. An integration without Identity cannot tell whose authorisation came: the
	// credential then stands for whatever account the person chose.
	Into string
	// ExternalID is the application's own name for a new account, unique for the user and integration: 1 to 255 bytes of
	// UTF-8 without control characters, compared byte by byte; surrounding space and a leading "ext:" are cut off. Empty
	// leaves it without, or as it was. Not together with Into (rule 5).
	ExternalID string
	// Label is what people call the account; empty leaves it without, or as it was. One line of at most 255 bytes.
	Label string
	// ReturnURL is handed back with the result: where the application wants its user next. One of Options.ReturnURLs.
	ReturnURL string
	// Browser is something that only the person's browser can present again at the callback, such as the id of its login
	// session or a cookie of at least 128 random bits. The cookie has to be HttpOnly, SameSite=Lax (Strict does not come
	// back from the provider) and set on the very host of Options.CallbackURL: localhost is not 127.0.0.1. Browser is
	// stored only as a digest. Empty leaves the session without URL until Engine.BeginConnect binds it.
	Browser string
	// RedirectURL is a page of the application at which the provider ends the flow, in place of Options.CallbackURL; it has
	// to be registered there, and is one of Options.RedirectURLs. That page passes the code to User.CompleteConnect. A
	// session with one supersedes those before of the same user, person, integration and URL.
	RedirectURL string
	// PollingKey is a text of the caller's choice under which the same user can ask what came of the session, see
	// User.ConnectOutcomeOf: at most 255 bytes. It is no secret, and opens nothing to anybody else. Empty means none.
	PollingKey string
	// Variables are values for the integration's Variables, such as the subdomain of the person's workspace. An account
	// that is authorised anew keeps its own for those that are not given here; only a new one gets the defaults.
	Variables map[string]string
}

// ConnectSession is one attempt to connect an account. It is good for one callback, from one browser, until Expires.
type ConnectSession struct {
	ID          string // names it in log lines
	User        string // whose account it will be
	Person      string // who began it, as User.Person has it; may be empty
	Integration string
	// Handle names the session to Engine.BeginConnect. Whoever has it may begin the flow in their browser, so hand it only
	// to the person themselves.
	Handle string
	// URL is the provider's page to send the browser to; empty until a browser is bound.
	URL     string
	Expires time.Time
}

// Connect begins to connect an account over OAuth and returns the session. Nothing is changed but that session is
// stored; the account is there once Engine.Callback returned it.
//
// Errors: InputError, ErrNotFound for the integration or Into, ErrDeleting, ErrDisabled for a user who is, and what the
// rules say of the accounts there are: ErrAlreadyConnected, AmbiguousError, ErrExternalID; ErrMisconfigured when the
// integration has no client secret; ErrPermission, ErrHiddenConflict; ErrTooMany where Options.OpenSessions of the user
// wait. The rules are applied again when the account answers.
func (u *User) Connect(ctx context.Context, in ConnectInput) (*ConnectSession, error) {
	session, err := u.connect(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", clip(in.Integration), err)
	}
	return session, nil
}

func (u *User) connect(ctx context.Context, in ConnectInput) (*ConnectSession, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	e := u.e
	p, err := e.freshProvider(ctx, in.Integration)
	if err != nil {
		return nil, err
	}
	record, err := u.newSession(ctx, p, in)
	if err != nil {
		return nil, err
	}
	handle := newNonce()
	if err := e.putSession(ctx, record, sessionKey(stateOf(handle))); err != nil {
		return nil, err
	}
	return e.connectSession(p, record, handle)
}

// newSession checks what is asked for and returns a session for it, which is not stored yet.
func (u *User) newSession(ctx context.Context, p *provider, in ConnectInput) (*sessionRecord, error) {
	e := u.e
	switch {
	case p.OAuth2 == nil:
		return nil, invalid("integration", "is connected with a key: call AddKey")
	case e.opts.CallbackURL == "" && in.RedirectURL == "":
		return nil, invalid("callbackUrl", "is not set: OAuth needs Options.CallbackURL")
	case in.RedirectURL != "" && !slices.Contains(e.opts.RedirectURLs, in.RedirectURL):
		return nil, invalid("redirectUrl", "is none of Options.RedirectURLs")
	case len(in.PollingKey) > maxExternalID:
		return nil, invalid("pollingKey", fmt.Sprintf("has more than %d bytes", maxExternalID))
	case in.ReturnURL != "" && !slices.Contains(e.opts.ReturnURLs, in.ReturnURL):
		return nil, invalid("returnUrl", "is none of Options.ReturnURLs")
	}
	if err := e.mayWait(ctx, u.id); err != nil {
		return nil, err
	}
	if _, err := e.clientSecrets(ctx, p, "authorize"); err != nil {
		return nil, err
	}
	if err := p.checkGiven(in.Variables); err != nil {
		return nil, err
	}
	w, err := u.wish(ctx, p, asked{in.AllowMultiple, in.Into, in.ExternalID, in.Label})
	if err != nil {
		return nil, err
	}
	vars, err := u.variables(ctx, p, &w, in.Variables)
	if err != nil {
		return nil, err
	}
	tokenURL, err := p.token.Expand(vars)
	if err != nil {
		return nil, valueError(err)
	}

	now := e.now()
	record := &sessionRecord{
		ID: newID(), User: u.id, Integration: p.Name, Created: toMillis(now), Expires: toMillis(now.Add(e.opts.ConnectTTL)),
		Owner: u.person, Variables: vars, ReturnURL: in.ReturnURL,
		TokenID: u.tokenID, AllowMultiple: w.allowMultiple, Into: w.into, ExternalID: w.externalID, Label: w.label,
		TokenURL: tokenURL.String(), RedirectURI: e.opts.CallbackURL + "/" + p.Name, ClientID: p.OAuth2.ClientID,
		Nonce: crypto.NewSecret(newNonce()),
	}
	if p.OAuth2.PKCE != PKCERefused {
		record.Verifier = crypto.NewSecret(oauth2.GenerateVerifier())
	}
	if in.PollingKey != "" {
		record.PollingKey = pollingKey(u.person, in.PollingKey)
	}
	if in.Browser != "" {
		record.Phase, record.Browser = sessionOpen, digest("browser", in.Browser)
	}
	if u.authority != nil {
		if record.Authority = u.authority.raw(); len(record.Authority) == 0 { // which means everything
			return nil, fmt.Errorf("an authority that no session can keep: %w", ErrPermission)
		}
	}
	if in.RedirectURL != "" {
		record.Redirect, record.RedirectURI = true, in.RedirectURL
	}
	return record, nil
}

// variables returns the values for a wish: those given, else those of the account that it authorises anew, else the
// defaults. An account of another site than the default's would otherwise become one of that site.
func (u *User) variables(ctx context.Context, p *provider, w *wish, given map[string]string) (map[string]string, error) {
	if len(p.Variables) == 0 {
		return p.checkVariables(given)
	}
	target, _, err := u.e.target(ctx, w)
	if err != nil {
		return nil, err
	}
	if target == "" {
		return p.checkVariables(given)
	}
	record, _, err := u.record(ctx, target)
	if err != nil {
		return nil, err
	}
	values := cloneMap(given)
	for name := range p.Variables { // not the hosts that the provider sent
		if kept := record.Variables[name]; kept != "" && values[name] == "" {
			values[name] = kept
		}
	}
	return p.checkVariables(values)
}

// ConnectSession returns the session that a handle names, without URL and without binding it: for a page that tells a
// person for which user and integration they are about to connect an account, before BeginConnect. A person who did not
// begin that themselves should refuse: the account would become the other user's.
// Errors: ErrSession for an unknown or finished session, ErrSessionExpired.
func (e *Engine) ConnectSession(ctx context.Context, handle string) (*ConnectSession, error) {
	record, _, err := e.session(ctx, sessionKey(stateOf(handle)))
	switch {
	case err != nil:
	case record.Phase > sessionOpen:
		err = fmt.Errorf("%w: it was used already", ErrSession)
	case !e.now().Before(record.Expires.time()):
		err = ErrSessionExpired
	}
	if err != nil {
		return nil, fmt.Errorf("connect session: %w", err)
	}
	return &ConnectSession{
		ID: record.ID, User: record.User, Person: record.Owner, Integration: record.Integration, Handle: handle, Expires: record.Expires.time(),
	}, nil
}

// BeginConnect binds a session that was made without a browser to this one, and returns it with its URL. A session is
// bound once: the same browser gets the same URL again, any other ErrBrowser.
// Errors: InputError, ErrSession for an unknown or finished session, ErrSessionExpired, ErrBrowser, ErrNotFound when the
// integration was deleted since.
func (e *Engine) BeginConnect(ctx context.Context, handle, browser string) (*ConnectSession, error) {
	session, err := e.beginConnect(ctx, handle, browser)
	if err != nil {
		return nil, fmt.Errorf("begin connect: %w", err)
	}
	return session, nil
}

func (e *Engine) beginConnect(ctx context.Context, handle, browser string) (*ConnectSession, error) {
	if browser == "" {
		return nil, invalid("browser", "is empty: pass something that only this browser can present again")
	}
	key := sessionKey(stateOf(handle))
	for {
		record, rev, err := e.session(ctx, key)
		if err != nil {
			return nil, err
		}
		switch {
		case record.Phase == sessionUnbound:
		case !record.from(browser):
			return nil, ErrBrowser
		case record.Phase != sessionOpen:
			return nil, fmt.Errorf("%w: it was used already", ErrSession)
		}
		if !e.now().Before(record.Expires.time()) {
			return nil, ErrSessionExpired
		}
		p, err := e.provider(ctx, record.Integration)
		switch {
		case err != nil:
			return nil, err
		case p.OAuth2 == nil:
			return nil, fmt.Errorf("%w: the integration was changed; start again", ErrSession)
		}
		if record.Phase == sessionUnbound {
			record.Phase, record.Browser = sessionOpen, digest("browser", browser)
			tx := e.db.Begin(ctx)
			e.tables.sessions.Put(tx, &record, rev, key)
			if err := e.kernel.Apply(ctx, tx); conflicted(err) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		return e.connectSession(p, &record, handle)
	}
}

// connectSession is what the caller sees of a session, with the authorization URL (RFC 6749 §4.1.1) once it is bound.
func (e *Engine) connectSession(p *provider, record *sessionRecord, handle string) (*ConnectSession, error) {
	session := &ConnectSession{
		ID: record.ID, User: record.User, Person: record.Owner, Integration: record.Integration, Handle: handle, Expires: record.Expires.time(),
	}
	if record.Phase == sessionUnbound {
		return session, nil
	}
	u, err := p.authorization.Expand(record.Variables)
	if err != nil {
		return nil, valueError(err)
	}
	q := url.Values{}
	for name, value := range p.OAuth2.AuthorizationParams {
		q.Set(name, value)
	}
	if record.AllowMultiple && record.Into == "" {
		for name, value := range p.OAuth2.AddAccountParams {
			q.Set(name, value)
		}
	}
	q.Set("response_type", "code")
	q.Set("client_id", record.ClientID)
	q.Set("redirect_uri", record.RedirectURI)
	q.Set("state", stateOf(handle))
	if len(p.OAuth2.Scopes) > 0 {
		separator := p.OAuth2.ScopeSeparator
		if separator == "" {
			separator = " "
		}
		q.Set(cmp.Or(p.OAuth2.ScopeParam, "scope"), strings.Join(p.OAuth2.Scopes, separator))
	}
	if !record.Verifier.IsZero() {
		q.Set("code_challenge", oauth2.S256ChallengeFromVerifier(record.Verifier.Reveal()))
		q.Set("code_challenge_method", "S256")
	}
	if record.sendsNonce(p) {
		q.Set("nonce", record.Nonce.Reveal())
	}
	u.RawQuery = q.Encode()
	session.URL = u.String()
	return session, nil
}

// sendsNonce reports whether the authorization request of a session has a nonce: where the answer may have an id_token.
func (r *sessionRecord) sendsNonce(p *provider) bool {
	return r.needsNonce() || !r.ProviderInitiated && slices.Contains(p.OAuth2.Scopes, "openid")
}
