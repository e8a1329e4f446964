package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/httpapi"
)

// attempt is a request that names something of somebody else: {id} is an account, {ext} its external id, {conf} and {confExt} a
// configuration of it, {keyed} an account with a key, {key} a polling key, {failed} what row 7 makes of one, {handle} and
// {state} those of a connect session. Method and path are those of the route where they are empty.
type attempt struct {
	path, body string
	header     []string
}

// header of a selection.
func named(id string) []string { return []string{"X-Paragon-Credential", id} }

func configured(id string) []string { return []string{"X-Paragon-Configuration-Id", id} }

// matrix is how each route could reach what belongs to others. A route that is missing here fails TestMatrix; one that names
// nothing has an attempt without names, and must not show it either.
var matrix = map[string][]attempt{
	"GET {P}/me":                                                               {{path: "{P}/me", header: named("{id}")}},
	"PATCH {P}/me":                                                             {{path: "{P}/me", body: `{"meta":{}}`, header: named("{id}")}},
	"GET /sdk/projects/{project}":                                              {{path: "/sdk/projects/{project}"}},
	"GET {P}/metadata":                                                         {{path: "{P}/metadata"}},
	"GET {P}/integrations":                                                     {{path: "{P}/integrations", header: named("{id}")}},
	"DELETE {P}/integrations/{integration}":                                    selections("{P}/integrations/{cal}", ""),
	"GET {P}/credentials":                                                      append(selections("{P}/credentials?integration=googleCalendar&includeAccountAuth=true", ""), attempt{path: "{P}/credentials"}),
	"POST {P}/credentials":                                                     {{path: "{P}/credentials", body: `{"integrationId":"custom.keys","payload":{"apiKey":"key-cyd"},"installOptions":{"selectedCredentialId":"{keyed}"}}`}, {path: "{P}/credentials", body: `{"integrationId":"{cal}","payload":{"handle":"{handle}"}}`}},
	"GET {P}/credentials/{credential}":                                         {{path: "{P}/credentials/{id}"}, {path: "{P}/credentials/{ext}"}, {path: "{P}/credentials/ext:{ext}"}, {path: "{P}/credentials/{failed}"}},
	"PATCH {P}/credentials/{credential}":                                       {{path: "{P}/credentials/{id}", body: settings}, {path: "{P}/credentials/ext:{ext}", body: settings}, {path: "{P}/credentials/{own}", body: settings, header: configured("{conf}")}, {path: "{P}/credentials/{own}", body: settings, header: configured("{confExt}")}, {path: "{P}/credentials/{id}", body: `{"config":{"workflowSettings":{"{flow}":{"enabled":true}}}}`}},
	"POST {P}/credentials/{credential}/complete-setup":                         {{path: "{P}/credentials/{id}/complete-setup", body: `{"payload":{}}`}},
	"POST {P}/credentials/{credential}/configurations":                         {{path: "{P}/credentials/{id}/configurations", body: `{"externalId":"x"}`}},
	"PATCH {P}/credentials/{credential}/configurations":                        {{path: "{P}/credentials/{id}/configurations", body: `{"meta":{"a":1}}`}, {path: "{P}/credentials/{own}/configurations", body: `{"meta":{"a":1}}`, header: configured("{conf}")}},
	"PATCH {P}/credentials/{credential}/configurations/{configuration}":        {{path: "{P}/credentials/{id}/configurations/{conf}", body: `{"meta":{"a":1}}`}, {path: "{P}/credentials/{own}/configurations/{conf}", body: `{"meta":{"a":1}}`}, {path: "{P}/credentials/{own}/configurations/ext:{confExt}", body: `{"meta":{"a":1}}`}},
	"DELETE {P}/credentials/{credential}/configurations":                       {{path: "{P}/credentials/{id}/configurations", header: configured("{conf}")}, {path: "{P}/credentials/{own}/configurations", header: configured("{conf}")}},
	"DELETE {P}/credentials/{credential}/configurations/{configuration}":       {{path: "{P}/credentials/{id}/configurations/{conf}"}, {path: "{P}/credentials/{own}/configurations/{conf}"}},
	"POST {P}/actions":                                                         selections("{P}/actions", `{"action":"googleCalendar","sourceKey":"folders"}`),
	"POST {P}/resources/{resource}/connect":                                    {{path: "{P}/resources/{id}/connect", body: "{}"}},
	"POST {P}/workflows/{workflow}":                                            selections("{P}/workflows/{flow}", ""),
	"DELETE {P}/workflows/{workflow}":                                          selections("{P}/workflows/{flow}", ""),
	"POST {P}/triggers/{workflow}":                                             selections("{P}/triggers/{flow}", "{}"),
	"POST /v2{P}/triggers/{workflow}":                                          selections("/v2{P}/triggers/{flow}", "{}"),
	"POST {P}/events/trigger":                                                  selections("{P}/events/trigger", `{"name":"note.made"}`),
	"POST /v2{P}/events/trigger":                                               selections("/v2{P}/events/trigger", `{"name":"note.made"}`),
	"GET /projects/{project}/triggers":                                         {{path: "/projects/{project}/triggers?integrations=googleCalendar", header: named("{id}")}},
	"GET /v2{P}/actions/build-oauth":                                           {{path: `/v2{P}/actions/build-oauth?integrationId={cal}&installOptions={"selectedCredentialId":"{id}"}`}, {path: `/v2{P}/actions/build-oauth?integrationId={cal}&installOptions={"selectedCredentialId":"{ext}"}`}},
	"GET {P}/actions/session-id/{key}":                                         {{path: "{P}/actions/session-id/{key}"}},
	"DELETE {P}/actions/session-id/{key}":                                      {{path: "{P}/actions/session-id/{key}"}},
	"GET {P}/actions/oauth-nonce":                                              {{path: "{P}/actions/oauth-nonce?integrationId={cal}&originForPostMessage={origin}&userToken={token}"}},
	"POST {P}/actions/oauth-nonce":                                             {{path: "{P}/actions/oauth-nonce?integrationId={cal}&originForPostMessage={origin}&userToken={token}"}},
	"GET {P}/actions/build-oauth":                                              {{path: `{P}/actions/build-oauth?integrationId={cal}&userToken={token}&installOptions={"selectedCredentialId":"{id}"}`}},
	"POST {P}/actions/build-oauth":                                             {{path: `{P}/actions/build-oauth?integrationId={cal}&userToken={token}&installOptions={"selectedCredentialId":"{id}"}`, header: []string{"Origin", "{server}"}}},
	"GET /connect/hop/{handle}":                                                {{path: "/connect/hop/{handle}"}}, // a handle is a secret: only that it leads nowhere counts
	"GET /callback/{integration}":                                              {{path: "/callback/googleCalendar?code=x&state={state}"}},
	"POST /callback/{integration}":                                             {{path: "/callback/googleCalendar", body: "code=x&state={state}"}},
	"/projects/{project}/sdk/proxy/{integration}/{path...}":                    selections("{P}/proxy/googleCalendar/api/me", ""),
	"GET /triggers/connect/{project}/{integration}/custom-triggers/{trigger}":  {{path: "/triggers/connect/{project}/{cal}/custom-triggers/{flow}?id={id}"}},
	"POST /triggers/connect/{project}/{integration}/custom-triggers/{trigger}": {{path: "/triggers/connect/{project}/{cal}/custom-triggers/{flow}?id={id}", body: "{}"}},
	"GET /integrations/{file}":                                                 {{path: "/integrations/{id}.svg"}},
	"GET /images/icons/{file}":                                                 {{path: "/images/icons/{id}.svg"}},
	"GET /images/{file}":                                                       {{path: "/images/{id}.png"}},
	"GET /healthz":                                                             {{path: "/healthz"}},
	"GET /readyz":                                                              {{path: "/readyz"}},
}

const settings = `{"config":{"sharedSettings":{"a":1}}}`

// selections are the attempts of a call that takes the headers.
func selections(path, body string) []attempt {
	var all []attempt
	for _, header := range [][]string{
		named("{id}"), named("{ext}"), named("ext:{ext}"), {"X-Polycred-Credential", "{id}"}, configured("{conf}"), configured("ext:{confExt}"),
		append(named("{own}"), configured("{conf}")...), append(named("{id}"), configured("{conf}")...),
	} {
		all = append(all, attempt{path, body, header})
	}
	return all
}

// names are what attempts name.
type names map[string]string

// fill puts names into a text; in a URL they are escaped.
func (n names) fill(text string, escape bool) string {
	for name, value := range n {
		if escape {
			value = url.QueryEscape(value)
		}
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// victim is a user with two accounts of the calendar and one with a key, and what can be named of them.
func (h *house) victim(user, prefix string) (names, string) {
	h.Helper()
	token := h.token(user, nil)
	own := h.install(token, "ada", `{"externalId":"`+prefix+`own"}`)
	id := h.install(token, "bob", `{"allowMultipleCredentials":true,"externalId":"`+prefix+`roll"}`)
	made := h.want(http.StatusCreated, token, http.MethodPost, "{P}/credentials/"+id+"/configurations", `{"externalId":"`+prefix+`Team A"}`).json(h)
	keyed := h.want(http.StatusCreated, token, http.MethodPost, "{P}/credentials", `{"integrationId":"custom.keys","payload":{"apiKey":"key-ada"}}`).json(h)
	f, w := h.begin(token, calendar, prefix+"-key", `{"allowMultipleCredentials":true}`), h.window()
	w.nonce(token, calendar)
	left := w.get(f.hop)
	at, err := url.Parse(left.Header.Get("Location"))
	if err != nil {
		h.Fatal(err)
	}
	return names{
		"id": id, "ext": prefix + "roll", "conf": fmt.Sprint(lookup(made, "configurations.1.id")), "confExt": prefix + "Team A", "keyed": keyed["id"].(string),
		"key": prefix + "-key", "failed": "failed." + base64.RawURLEncoding.EncodeToString([]byte(prefix+"-key")),
		"handle": f.hop[strings.LastIndexByte(f.hop, '/')+1:], "state": at.Query().Get("state"),
	}, own
}

var unknown = names{
	"id": "01900000-0000-7000-8000-00000000dead", "ext": "nowhere", "conf": "01900000-0000-7000-8000-00000000beef", "confExt": "Team Z",
	"keyed": "01900000-0000-7000-8000-00000000feed", "key": "other-key", "failed": "failed." + base64.RawURLEncoding.EncodeToString([]byte("other-key")),
	"handle": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "state": "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
}

// actor is who tries, in a house of their own or the victim's.
type actor struct {
	name  string
	house *house
	token string
	own   string // an account of theirs
	path  string // of a project; empty: their house's
}

var volatile = regexp.MustCompile(`"requestId":"[0-9a-f]+"|Request [0-9a-f]+|nonce-?[=]?"?[A-Za-z0-9_-]{22}|connect/hop/[A-Za-z0-9_-]+`)

// try sends an attempt and returns status and body, with what is another thing each time taken out.
func (a *actor) try(route string, at attempt, n names) (int, string) {
	known := names{
		"cal": a.house.engine.IntegrationID(calendar), "flow": flowID, "own": a.own, "token": a.token, "origin": appOrigin, "server": a.house.server.URL,
		"project": a.house.engine.Project(),
	}
	if a.path != "" {
		known["project"] = a.path
	}
	method, _, ok := strings.Cut(route, " ")
	if !ok {
		method = http.MethodGet
	}
	path := strings.ReplaceAll(at.path, "{P}", "/projects/{project}/sdk")
	var header []string
	for _, value := range at.header {
		header = append(header, known.fill(n.fill(value, false), false))
	}
	if strings.Contains(route, "callback") && method == http.MethodPost {
		header = append(header, "Content-Type", "application/x-www-form-urlencoded")
	}
	got := a.house.direct(a.token, method, known.fill(n.fill(path, true), true), known.fill(n.fill(at.body, false), false), header...)
	body := volatile.ReplaceAllString(string(got.Body), "")
	for name, value := range n { // pages may repeat what they were asked for
		body = strings.ReplaceAll(strings.ReplaceAll(body, url.QueryEscape(value), "{"+name+"}"), value, "{"+name+"}")
	}
	return got.Status, body
}

// state is all that a user has.
func (h *house) state(user string) string {
	h.Helper()
	token := h.token(user, nil)
	me := h.direct(token, http.MethodGet, "{P}/me", "")
	work := h.http.Workflows.(*flows)
	work.mu.Lock()
	defer work.mu.Unlock()
	states, err := json.Marshal([]any{work.states, work.ran, work.told})
	if err != nil {
		h.Fatal(err)
	}
	return string(me.Body) + string(states) + string(h.direct(token, http.MethodGet, "{P}/actions/session-id/secret-key", "").Body)
}

// TestMatrix: two projects, two users, two accounts each. On no route does another user, another project or a narrower token
// learn that something exists, or change it: what is there is answered like what is not.
func TestMatrix(t *testing.T) {
	t.Parallel()
	full := func(_ *core.Options, o *httpapi.Options) {
		o.Workflows, o.LegacyNavigation = newFlows(), true
		o.Sources = map[string]map[string]httpapi.Source{calendar: {"folders": folders}}
		o.Rate, o.FailureRate = -1, -1
	}
	h := newHouse(t, full).impatient()
	next := h.neighbour(full).impatient()
	theirs, ada := h.victim("acme", "secret")
	_, mine := h.victim("other", "my")
	_, same := next.victim("acme", "my")
	narrow := h.token("acme", may(map[string]any{"integration:*": map[string]any{"credential:" + ada: true}}))
	actors := []actor{
		{"another user", h, h.token("other", nil), mine, ""},
		{"the same user of another project", next, next.token("acme", nil), same, ""},
		{"a narrowed token", h, narrow, ada, ""},
	}
	strangers := []actor{
		{"a token of another project", h, next.token("acme", nil), ada, ""},
		{"the path of another project", h, h.token("acme", nil), ada, next.engine.Project()},
		{"no token", h, "", ada, ""},
	}
	for _, route := range httpapi.Routes(h.handler) {
		attempts, ok := matrix[strings.Replace(strings.Replace(route, "/projects/{project}/sdk/", "{P}/", 1), "{P}/proxy", "/projects/{project}/sdk/proxy", 1)]
		if !ok {
			t.Errorf("%s is not in the matrix", route)
		}
		for _, at := range attempts {
			before := h.state("acme")
			for _, a := range actors {
				if a.token == narrow && strings.Contains(at.path+at.body, "{handle}") { // the user's own, and a secret
					continue
				}
				status, body := a.try(route, at, theirs)
				wantStatus, want := a.try(route, at, unknown)
				if diff := cmp.Diff(want, body); status != wantStatus || diff != "" && !strings.Contains(at.path, "{handle}") && !strings.Contains(at.path+at.body, "{state}") {
					t.Errorf("%s: %s %s %v = %d, what is unknown = %d (-unknown +known):\n%s", a.name, route, at.path, at.header, status, wantStatus, diff)
				}
				for _, secret := range []string{theirs["id"], theirs["conf"], theirs["keyed"], "bob@example.com"} {
					if a.house == h && a.own != mine && strings.Contains(body, secret) {
						t.Errorf("%s: %s %s shows %q: %s", a.name, route, at.path, secret, body)
					}
				}
			}
			for _, a := range strangers {
				if !strings.Contains(route, "{project}") || strings.Contains(route, "custom-triggers") {
					continue
				}
				if status, body := a.try(route, at, theirs); status != http.StatusUnauthorized && status != http.StatusNotFound {
					t.Errorf("%s: %s %s = %d %s, want 401 or 404", a.name, route, at.path, status, body)
				}
			}
			if diff := cmp.Diff(before, h.state("acme")); diff != "" {
				t.Fatalf("%s %s %v changed something (-before +after):\n%s", route, at.path, at.header, diff)
			}
		}
	}
}
