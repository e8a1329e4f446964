package httpapi_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
)

// fuzzed is a house with an account of each integration and no limits.
func fuzzed(f *testing.F) (h *house, token, ada, mine string) {
	f.Helper()
	h = newFullHouse(f, func(_ *core.Options, o *httpapi.Options) { o.Rate, o.FailureRate = -1, -1 }).impatient()
	token = h.token("acme", nil)
	return h, token, h.install(token, "ada", `{"externalId":"work"}`), h.installAt(token, notes, "bob", `{}`)
}

// sound checks what has to be true of any answer: no failure of ours, no status that logs the user out, and the form of errors.
func sound(t *testing.T, what string, got answer) {
	t.Helper()
	if got.Status < 400 {
		return
	}
	body := got.json(t)
	if got.Status >= 500 || got.Status == http.StatusUnauthorized || got.Status == http.StatusForbidden && body["code"] != "7210" ||
		body["message"] == "" || body["code"] == "" || body["status"] != float64(got.Status) {
		t.Errorf("%s = %d %s", what, got.Status, got.Body)
	}
}

// FuzzBody sends any body to each route that takes one.
func FuzzBody(f *testing.F) {
	h, token, ada, mine := fuzzed(f)
	routes := []string{
		"PATCH {P}/me", "POST {P}/credentials", "PATCH {P}/credentials/" + ada, "PATCH {P}/credentials/" + mine,
		"POST {P}/credentials/" + mine + "/complete-setup", "POST {P}/credentials/" + ada + "/configurations",
		"PATCH {P}/credentials/" + ada + "/configurations/" + ada, "POST {P}/actions", "POST {P}/resources/x/connect",
		"POST {P}/workflows/" + flowID, "POST {P}/triggers/" + flowID, "POST {P}/events/trigger",
	}
	for i := range routes {
		for _, body := range []string{
			"", "{}", "null", "[]", `"x"`, "{", `{"meta":{"a":{"b":[1,null]}}}`, `{"meta":null}`, `{"config":{"sharedSettings":{"folder":"a","webhook":"b"}}}`,
			`{"config":{"workflowSettings":{"` + flowID + `":{"enabled":true,"settings":{"a":1e99}}}}}`, `{"externalId":"a"}`, `{"payload":{"team":"x"}}`,
			`{"integrationId":"custom.keys","payload":{"apiKey":"key-cyd"},"installOptions":{"allowMultipleCredentials":true}}`,
			`{"integrationId":"notes","code":"code-x","redirectUrl":"x","parameters":{"state":"y"}}`, `{"name":"note.made","payload":[1]}`,
			`{"action":"googleCalendar","sourceKey":"folders","parameters":[{"key":"a","source":{"value":{}}}],"paginationParameters":{"pageCursor":"2"}}`,
			"{\"meta\":{\"\xff\":\"\\ud800\"}}", `{"meta":{"a":1}} {"meta":{}}`,
		} {
			f.Add(uint8(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, route uint8, body string) {
		method, path, _ := strings.Cut(routes[int(route)%len(routes)], " ")
		got := h.serve(t.Context(), token, method, path, body)
		if got.Status == http.StatusBadGateway && strings.Contains(path, "credentials") && strings.Contains(body, "code") {
			return // the provider was asked for a code that nobody gave
		}
		sound(t, method+" "+path, got)
	})
}

// FuzzSelector sends any selector in each header and in a path. Whatever it names, it is an account of the user or none.
func FuzzSelector(f *testing.F) {
	h, token, ada, _ := fuzzed(f)
	for _, text := range []string{ada, "work", "ext:work", " ext:work ", "ext:", "", "ext:ext:work", strings.ToUpper(ada), "../" + ada, "\x00", "\xff", strings.Repeat("a", 300), "*", "ä/b"} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, credential, configuration string) {
		for _, header := range [][]string{
			{"X-Paragon-Credential", credential}, {"X-Polycred-Credential", credential, "X-Polycred-Configuration", configuration},
			{"X-Paragon-Configuration-Id", configuration}, {"X-Paragon-Credential", credential, "X-Polycred-Credential", configuration},
		} {
			got := h.serve(t.Context(), token, http.MethodGet, "{P}/credentials?integration=googleCalendar", "", header...)
			sound(t, "GET credentials", got)
			if got.Status == http.StatusOK && lookup(any(got.json(t)), "credential.id") != ada {
				t.Errorf("%q = %s, want the one account", header, got.Body)
			}
			sound(t, "POST events", h.serve(t.Context(), token, http.MethodPost, "{P}/events/trigger", `{"name":"note.made"}`, header...))
		}
		got := h.serve(t.Context(), token, http.MethodGet, "{P}/credentials/"+url.PathEscape(credential), "")
		if credential != "" && strings.Trim(credential, "./") != "" {
			sound(t, "GET credentials/…", got)
		}
	})
}

// FuzzIfMatch sends any If-Match: it changes something only where it names what is there.
func FuzzIfMatch(f *testing.F) {
	h, token, _, mine := fuzzed(f)
	for _, text := range []string{"", "*", `"1"`, `W/"1"`, "1", `""`, `"0"`, "\"1", `"18446744073709551615"`, `"99999999999999999999"`, `"1", "2"`, "-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := h.serve(t.Context(), token, http.MethodPatch, "{P}/credentials/"+mine, `{"config":{"sharedSettings":{"folder":"a"}}}`, "If-Match", text)
		sound(t, "PATCH", got)
		if trimmed := strings.TrimSpace(text); got.Status == http.StatusOK && trimmed != "" && trimmed != "*" && !strings.Contains(text, strings.Trim(got.Header.Get("Etag"), `"`)[:3]) {
			t.Errorf("If-Match %q = %d", text, got.Status)
		}
	})
}

// FuzzOptions sends any installOptions and values of the user to row 6.
func FuzzOptions(f *testing.F) {
	h, token, ada, _ := fuzzed(f)
	for _, options := range []string{"", "{}", "null", "[]", "7", "{", `{"selectedCredentialId":"` + ada + `"}`, `{"externalId":"x","allowMultipleCredentials":true}`, `{"externalId":7}`, `{"accountType":["a"]}`} {
		f.Add(options, options, "")
	}
	f.Add("{}", `{"site":"x","y":null,"z":""}`, "https://evil.example")
	f.Fuzz(func(t *testing.T, options, values, redirect string) {
		q := url.Values{"integrationId": {calendar}, "installOptions": {options}, "endUserSuppliedValues": {values}, "redirectUrl": {redirect}}
		got := h.serve(t.Context(), token, http.MethodGet, "/v2{P}/actions/build-oauth?"+q.Encode(), "")
		sound(t, "build-oauth", got)
		if to, _ := got.json(t)["redirectUrl"].(string); got.Status == http.StatusOK && !strings.HasPrefix(to, h.server.URL+"/connect/hop/") {
			t.Errorf("redirectUrl = %q", to)
		}
	})
}
