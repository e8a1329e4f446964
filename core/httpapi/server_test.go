package httpapi_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
)

// TestBodyLimit: what is too large is 413, before it is read.
func TestBodyLimit(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(_ *core.Options, o *httpapi.Options) { o.MaxBody = 1 << 10 })
	token := h.token("acme", nil)
	for _, route := range []string{"PATCH {P}/me", "POST {P}/credentials", "POST {P}/actions", "POST {P}/events/trigger"} {
		method, path, _ := strings.Cut(route, " ")
		got := h.do(token, method, path, `{"meta":{"a":"`+strings.Repeat("x", 2<<10)+`"}}`)
		if got.Status != http.StatusRequestEntityTooLarge || got.json(t)["code"] != "too_large" {
			t.Errorf("%s = %d %s, want 413", route, got.Status, got.Body)
		}
	}
	server := httpapi.Server(h.handler)
	if server.ReadHeaderTimeout == 0 || server.IdleTimeout == 0 || server.MaxHeaderBytes == 0 || server.MaxHeaderBytes > 1<<20 {
		t.Errorf("Server has no limits: %+v", server)
	}
}

// TestCORS: errors can be read by scripts of any origin; pages and their preflights by none.
func TestCORS(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	for path, want := range map[string]string{
		"{P}/me": "*", "/nowhere": "*", "{P}/proxy/googleCalendar/x": "*", "/healthz": "*", "{P}/actions/session-id/x": "*",
		"{P}/actions/oauth-nonce": "", "{P}/actions/build-oauth": "", "/connect/hop/x": "", "/callback/googleCalendar": "",
	} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			got := h.do("", method, path, "", "Access-Control-Request-Method", http.MethodGet, "Access-Control-Request-Headers", "authorization, x-any", "Origin", appOrigin)
			if origin := got.Header.Get("Access-Control-Allow-Origin"); origin != want {
				t.Errorf("%s %s: Access-Control-Allow-Origin = %q, want %q", method, path, origin, want)
			}
			if got.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s %s allows credentials", method, path)
			}
			if allowed := got.Header.Get("Access-Control-Allow-Headers"); method == http.MethodOptions && want != "" && (allowed != "authorization, x-any" || got.Status != 204) {
				t.Errorf("%s %s: %d, headers %q, want those that were asked for", method, path, got.Status, allowed)
			}
		}
	}
}

// TestOldest: a host that asked for the habit of the first account has it in row 1, but never one that is off.
func TestOldest(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *core.Options, _ *httpapi.Options) { o.Unselected = core.Oldest })
	token := h.token("acme", nil)
	ada := h.install(token, "ada", `{}`)
	bob := h.install(token, "bob", `{"allowMultipleCredentials":true,"externalId":"work"}`)
	top := func() map[string]any {
		me := h.want(http.StatusOK, token, http.MethodGet, "{P}/me", "").json(t)
		return me["integrations"].(map[string]any)[calendar].(map[string]any)
	}
	in := top()
	for name, want := range map[string]any{"credentialId": ada, "credentialConfigId": ada, "credentialStatus": "VALID", "providerId": "ada", "enabled": true} {
		if in[name] != want {
			t.Errorf("%s = %v, want %v", name, in[name], want)
		}
	}
	for _, name := range []string{"sharedSettings", "workflowSettings", "configuredWorkflows", "configMeta", "providerData"} {
		if _, ok := in[name].(map[string]any); !ok {
			t.Errorf("%s = %v, want an object", name, in[name])
		}
	}
	user := h.engine.User("acme")
	if err := user.Disable(t.Context(), core.Selector{Credential: ada}); err != nil {
		t.Fatal(err)
	}
	if in := top(); in["credentialId"] != bob {
		t.Errorf("with the first one off = %v, want %s", in["credentialId"], bob)
	}
}

// TestExternalIDs: external ids are any text, also in paths.
func TestExternalIDs(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token := h.token("a/b c", nil)
	for login, id := range map[string]string{"ada": "Team A/ü//x", "bob": "01900000-0000-7000-8000-000000000001", "cyd": "a.b"} {
		want := h.install(token, login, `{"allowMultipleCredentials":true,"externalId":"`+id+`"}`)
		escaped := strings.NewReplacer("/", "%2F", " ", "%20", "ü", "%C3%BC").Replace("ext:" + id)
		got := h.want(http.StatusOK, token, http.MethodGet, "{P}/credentials/"+escaped, "").json(t)
		if got["id"] != want || got["externalId"] != id {
			t.Errorf("%s = %v, want %s", escaped, got["id"], want)
		}
	}
	h.want(http.StatusNotFound, token, http.MethodGet, "{P}/credentials/01900000-0000-7000-8000-000000000001", "")
	if got := h.do(token, http.MethodGet, "{P}/credentials/ext:%00", ""); got.Status != http.StatusBadRequest || bytes.Contains(got.Body, []byte{0}) {
		t.Errorf("a NUL = %d %s", got.Status, got.Body)
	}
}
