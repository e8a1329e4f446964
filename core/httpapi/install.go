package httpapi

import (
	"net/http"
	"net/url"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
)

// Rows that connect an account: 9 with a key, or with what a window of ours posted, 10 with a code; and 11, which completes one.

// installOptions are how the SDK says what is to be connected.
type installOptions struct {
	AllowMultiple bool   `json:"allowMultipleCredentials"`
	Credential    string `json:"selectedCredentialId"`
	ExternalID    string `json:"externalId"`
}

// check refuses what contradicts itself.
func (o *installOptions) check() error {
	if o.Credential != "" && o.ExternalID != "" {
		return invalid("installOptions.externalId names a new account: it does not go with selectedCredentialId.")
	}
	return nil
}

// credentialBody is the body of row 9, or of row 10 where there is a code.
type credentialBody struct {
	IntegrationID  string         `json:"integrationId"`
	Payload        map[string]any `json:"payload"`
	InstallOptions installOptions `json:"installOptions"`

	Code        string `json:"code"`
	RedirectURL string `json:"redirectUrl"`
	// Parameters are the others of the page, such as state and iss. The SDK does not send them; who can should (RFC 9207).
	Parameters  map[string]string `json:"parameters"`
	Integration struct {
		InstallOptions installOptions `json:"installOptions"`
	} `json:"integrationOptions"`
}

// postCredential is rows 9 and 10.
func (a *api) postCredential(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	var body credentialBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	in, err := a.known.find(r.Context(), a, body.IntegrationID)
	if err != nil {
		return err
	}
	if body.Code != "" {
		return a.completeInstall(w, r, u, &in, &body)
	}
	if in.OAuth2 != nil {
		return a.finishInstall(w, r, u, body.Payload)
	}
	key, variables, err := keyPayload(body.Payload)
	if err != nil {
		return err
	}
	if err := body.InstallOptions.check(); err != nil {
		return err
	}
	c, err := u.AddKey(r.Context(), core.KeyInput{
		Integration: in.Name, Key: key, AllowMultiple: body.InstallOptions.AllowMultiple, Into: body.InstallOptions.Credential,
		ExternalID: body.InstallOptions.ExternalID, Variables: variables,
	})
	if err != nil {
		return neverLogOut(err)
	}
	return a.writeCredential(w, r, u, &c, http.StatusCreated)
}

// keyPayload takes the key and the variables out of what a page asked for.
func keyPayload(payload map[string]any) (key crypto.Secret, variables map[string]string, err error) {
	variables = map[string]string{}
	for name, value := range payload {
		if name == "skipPostOAuthInputs" {
			continue
		}
		text, ok := value.(string)
		switch {
		case !ok:
			return key, nil, invalid("payload." + clip(name) + " must be a text.")
		case name == keyInput:
			key = crypto.NewSecret(text)
		default:
			variables[name] = text
		}
	}
	if key.IsZero() {
		return key, nil, invalid("payload." + keyInput + " is missing: the key that the person copied.")
	}
	return key, variables, nil
}

// completeInstall is row 10: a code that came in at a page of the application.
func (a *api) completeInstall(w http.ResponseWriter, r *http.Request, u *core.User, in *core.Integration, body *credentialBody) error {
	values := url.Values{}
	for name, value := range body.Parameters {
		values.Set(name, value)
	}
	result, err := u.CompleteConnect(r.Context(), core.CompleteInput{Integration: in.Name, Code: body.Code, RedirectURL: body.RedirectURL, Values: values})
	if err != nil {
		return neverLogOut(waitFor(pageError(err)))
	}
	return a.writeCredential(w, r, u, &result.Credential, http.StatusCreated)
}

// finishInstall is row 9 for OAuth: the payload comes from a window, which anybody may post to, so it holds a one-use handle
// of ours and nothing else (security 8).
func (a *api) finishInstall(w http.ResponseWriter, r *http.Request, u *core.User, payload map[string]any) error {
	handle, _ := payload["handle"].(string)
	for name := range payload {
		if name != "handle" && name != "skipPostOAuthInputs" {
			return invalid("payload holds more than the handle of a connect session. Tokens and codes are not taken here.")
		}
	}
	if handle == "" {
		return invalid("payload.handle is missing: an account of this integration is connected in a window of the provider.")
	}
	result, err := u.ConnectOutcome(r.Context(), handle)
	if err != nil {
		return neverLogOut(err)
	}
	return a.writeCredential(w, r, u, &result.Credential, http.StatusCreated)
}

// neverLogOut gives an attempt to connect that the provider or a rule refused a status on which the SDK does not log the user
// out.
func neverLogOut(err error) error {
	f := failureOf(err, "")
	if f.Status != http.StatusUnauthorized && (f.Status != http.StatusForbidden || f.Code == codePermission) {
		return err
	}
	return &Error{http.StatusUnprocessableEntity, f.Code, f.Message}
}

// completeSetup is row 11.
func (a *api) completeSetup(w http.ResponseWriter, r *http.Request) error {
	u, err := a.caller(r)
	if err != nil {
		return err
	}
	var body credentialBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	c, err := a.pathCredential(r, u)
	if err != nil {
		return err
	}
	delete(body.Payload, "skipPostOAuthInputs")
	if c, err = u.CompleteSetup(r.Context(), core.Selector{Credential: c.ID}, body.Payload); err != nil {
		return err
	}
	return a.writeCredential(w, r, u, &c, http.StatusOK)
}
