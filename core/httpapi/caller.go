package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
)

// Who calls, and which account is meant.

const (
	headerCredential    = "X-Polycred-Credential"
	headerConfiguration = "X-Polycred-Configuration"
	sdkCredential       = "X-Paragon-Credential"
	sdkConfiguration    = "X-Paragon-Configuration-Id"

	headerUsed = "X-Polycred-Credential-Used" // of answers: the account that was used
)

// caller returns the handle of who shows the token in the Authorization header, for a path that names a project.
func (a *api) caller(r *http.Request) (*core.User, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	return a.callerBy(r, strings.TrimSpace(token))
}

// callerBy is caller for a token that came in another way.
func (a *api) callerBy(r *http.Request, token string) (*core.User, error) {
	if token == "" {
		return nil, errNoToken
	}
	address := a.limits.address(r)
	if err := a.limits.failed.peek(address); err != nil && !a.engine.Authenticated(token) { // who is known is not locked out
		return nil, err
	}
	u, err := a.engine.Authenticate(r.Context(), token)
	if errors.Is(err, usertoken.ErrToken) && !errors.Is(err, usertoken.ErrExpired) {
		_ = a.limits.failed.take(address) // the answer is 401; the next one is not looked at
	}
	if err != nil {
		return nil, err
	}
	noteUser(r, u)
	if err := a.limits.tokens.take(u.ID() + "\x00" + u.TokenID()); err != nil {
		return nil, err
	}
	if project := r.PathValue("project"); project != "" && !a.isProject(project) {
		return nil, errNotFound
	}
	return u, nil
}

// isProject reports whether a path names this engine's project.
func (a *api) isProject(text string) bool { return strings.EqualFold(text, a.engine.Project()) }

// selected returns the account and configuration that the headers of a request name. Integration may be empty.
func selected(r *http.Request, integration string) (core.Selector, error) {
	sel := core.Selector{Integration: integration}
	var err error
	if sel.Credential, err = either(r.Header, sdkCredential, headerCredential); err != nil {
		return sel, err
	}
	sel.Configuration, err = either(r.Header, sdkConfiguration, headerConfiguration)
	return sel, err
}

// selectedConfiguration is selected for a call whose path names the account: its header is ignored.
func selectedConfiguration(r *http.Request, credential string) (core.Selector, error) {
	configuration, err := either(r.Header, sdkConfiguration, headerConfiguration)
	return core.Selector{Credential: credential, Configuration: configuration}, err
}

// either returns what one of two headers says; both may, if they say the same.
func either(h http.Header, names ...string) (string, error) {
	value := ""
	for _, name := range names {
		for _, given := range h.Values(name) {
			switch given = strings.TrimSpace(given); {
			case value != "" && given != "" && given != value:
				return "", invalid("The headers " + strings.Join(names, " and ") + " name different things. Send one of them.")
			case given != "":
				value = given
			}
		}
	}
	return value, nil
}

// isUUID reports whether a text is a UUID in the usual form.
func isUUID(text string) bool {
	_, err := uuid.Parse(text)
	return err == nil && len(text) == 36
}
