package httpapi_test

import (
	"net/http"
	"testing"
)

// A user connects two accounts as the SDK does, names each, acts as each, and removes one.
func TestWalk(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token := h.token("acme", nil)
	me := h.want(http.StatusOK, token, http.MethodGet, "{P}/me", "").json(t)
	if in := me["integrations"].(map[string]any)[calendar].(map[string]any); in["enabled"] != false || len(in["allCredentials"].([]any)) != 0 {
		t.Errorf("me of a new user = %v, want no account", in)
	}
	ada := h.install(token, "ada", `{}`)
	bob := h.install(token, "bob", `{"allowMultipleCredentials":true,"externalId":"work"}`)
	if built := h.buildOAuth(token, calendar, "again", `{}`); built.Status != http.StatusConflict {
		t.Errorf("a third account without the flag = %d %s, want 409", built.Status, built.Body)
	}
	for name, want := range map[string]string{ada: "ada@example.com", bob: "bob@example.com", "work": "bob@example.com", "ext:work": "bob@example.com"} {
		got := h.want(http.StatusOK, token, http.MethodGet, "{P}/proxy/googleCalendar/api/me", "", "X-Paragon-Credential", name)
		if output, _ := got.json(t)["output"].(map[string]any); output["account"] != want {
			t.Errorf("GET as %s = %s, want account %s", name, got.Body, want)
		}
	}
	h.want(http.StatusConflict, token, http.MethodGet, "{P}/proxy/googleCalendar/api/me", "") // which of the two?
	h.want(http.StatusNoContent, token, http.MethodDelete, "{P}/integrations/"+h.engine.IntegrationID(calendar), "", "X-Paragon-Credential", ada)
	got := h.want(http.StatusOK, token, http.MethodGet, "{P}/proxy/googleCalendar/api/me", "")
	if used := got.Header.Get("X-Polycred-Credential-Used"); used != bob {
		t.Errorf("used %s, want the one that is left, %s", used, bob)
	}
}
