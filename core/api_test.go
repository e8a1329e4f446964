package core_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
)

// baseURL is where the API of an account lies.
func (w *world) baseURL(credential string) (string, error) {
	w.Helper()
	up, err := w.engine.User("u").Upstream(w.Context(), core.Selector{Credential: credential})
	if err != nil {
		w.Fatal(w.note(err))
	}
	base, err := up.BaseURL()
	if err != nil {
		return "", w.note(err)
	}
	text := base.String()
	base.Host, base.Path = "elsewhere.example.com", "/changed" // it is the caller's own
	if again, err := up.BaseURL(); err != nil || again.String() != text {
		w.Errorf("BaseURL(), again = %v, %v, want %s", again, err, text)
	}
	return text, nil
}

// Where an integration does not say where its API lies, that is its first host, if it is one whatever the account is.
func TestAPIURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ada := w.mustConnect("u", "ada", core.ConnectInput{})
	variables := map[string]core.Variable{"site": {Default: "main"}}
	for name, tt := range map[string]struct {
		change func(*core.Integration)
		want   string // empty: there is none
	}{
		"the only host": {func(*core.Integration) {}, w.provider.URL()},
		"the first":     {func(in *core.Integration) { in.AllowedHosts = []string{"api.example.com", "www.example.com"} }, "https://api.example.com"},
		"behind patterns": {func(in *core.Integration) {
			in.AllowedHosts = []string{"*.example.com", "{site}.example.com", "www.example.com"}
		}, "https://www.example.com"},
		"only patterns": {func(in *core.Integration) { in.AllowedHosts = []string{"*.example.com"} }, ""},
		"no host":       {func(in *core.Integration) { in.AllowedHosts = nil }, ""},
		"its own":       {func(in *core.Integration) { in.APIURL = w.provider.APIURL() + "/v1/" }, w.provider.APIURL() + "/v1/"},
		"a pattern's": {func(in *core.Integration) {
			in.AllowedHosts, in.APIURL = []string{"*.example.com"}, "https://api.example.com/v1"
		}, "https://api.example.com/v1"},
		"with a variable": {func(in *core.Integration) {
			in.AllowedHosts, in.APIURL = []string{"{site}.example.com"}, "https://{site}.example.com/{site}/v1"
		}, "https://main.example.com/main/v1"},
	} {
		w.change(func(in *core.Integration) {
			in.Variables, in.AllowedHosts, in.APIURL = variables, []string{w.provider.URL()}, ""
			tt.change(in)
		})
		got, err := w.baseURL(ada.ID)
		if tt.want == "" {
			w.wantInput(name+": BaseURL()", err, "apiUrl")
		} else if err != nil || strings.TrimSuffix(got, "/") != strings.TrimSuffix(tt.want, "/") {
			t.Errorf("%s: BaseURL() = %s, %v, want %s", name, got, err, tt.want)
		}
	}
	for _, refused := range []string{
		"/v1", "api.example.com", "ftp://api.example.com", "https://user:canary@api.example.com", "https://api.example.com/{nope}",
		"https://elsewhere.example.org", "https://api.example.com.example.org", "http://api.example.com", "https://api.example.com:8443", "https://api.example.com/../x",
	} {
		err := w.tryChange(func(in *core.Integration) {
			in.Variables, in.AllowedHosts, in.APIURL = variables, []string{"*.example.com"}, refused
		})
		w.wantInput("APIURL "+refused, err, "apiUrl")
	}
	w.wantInput("APIURL without hosts", w.tryChange(func(in *core.Integration) { in.AllowedHosts, in.APIURL = nil, "https://api.example.com" }), "apiUrl")
}

// The integration's own headers are set in every request, whoever sends it, in place of what the caller says of them.
func TestHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	headers := map[string]string{"notion-version": "2022-06-28", "X-Site": "{site}; of={site}", "X-Braces": "{}", "Accept": "application/json"}
	err := w.tryChange(func(in *core.Integration) {
		in.Variables, in.Headers = map[string]core.Variable{"site": {Default: "main"}}, headers
	})
	w.wantInput("a placeholder that is none", err, "headers.X-Braces")
	delete(headers, "X-Braces")
	w.change(func(in *core.Integration) {
		in.Variables, in.Headers = map[string]core.Variable{"site": {Default: "main"}}, headers
	})
	accounts := map[string]core.Credential{
		"north": w.mustConnect("u", "ada", core.ConnectInput{Variables: map[string]string{"site": "north"}}),
		"main":  w.mustConnect("u", "bob", core.ConnectInput{AllowMultiple: true}),
	}
	for site, account := range accounts {
		up, err := w.engine.User("u").Upstream(t.Context(), core.Selector{Credential: account.ID})
		if err != nil {
			t.Fatal(err)
		}
		for name, client := range map[string]*http.Client{"Client": w.client(account.ID), "Upstream": {Transport: up}} {
			req := w.request(http.MethodGet, "/echo", nil)
			req.Header["x-site"], req.Header["X-Site"], req.Header["X-Own"] = []string{"a"}, []string{"b", "c"}, []string{"kept"}
			var got echo
			if _, err := w.do(client, req, &got); err != nil {
				t.Fatal(err)
			}
			for header, want := range map[string]string{
				"Notion-Version": "2022-06-28", "X-Site": site + "; of=" + site, "Accept": "application/json", "X-Own": "kept",
			} {
				if values := got.Header.Values(header); len(values) != 1 || values[0] != want {
					t.Errorf("%s of %s: header %s = %q, want only %q", name, site, header, values, want)
				}
			}
			if want := map[string]string{"north": "ada", "main": "bob"}[site] + "@example.com"; w.whose(strings.TrimPrefix(got.Header.Get("Authorization"), "Bearer ")) != want {
				t.Errorf("%s of %s: the token is not that of %s", name, site, want)
			}
			if diff := cmp.Diff([]string{"b", "c"}, req.Header["X-Site"]); diff != "" {
				t.Errorf("%s changed the caller's request (-want +got):\n%s", name, diff)
			}
		}
	}
}

// What belongs to the connection, to polycred or to whoever sends a request is not for an integration to set.
func TestHeadersRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprintf("X-%d", i)] = "x"
	}
	for field, all := range map[string][]map[string]string{
		"headers": {many, {"": "x"}, {"a b": "x"}, {"X:": "x"}, {"X\r\nY": "x"}, {"ü": "x"}, {"X-A": "1", "x-a": "2"}},
		"headers.X-A": {
			{"X-A": "a\r\nAuthorization: b"}, {"x-a": "\x00"}, {"X-A": "ü"}, {"X-A": strings.Repeat("x", 1025)}, {"X-A": "{nope}"}, {"X-A": "{site}{x}"},
		},
	} {
		for _, headers := range all {
			err := w.tryChange(func(in *core.Integration) {
				in.Variables, in.Headers = map[string]core.Variable{"site": {Default: "main"}}, headers
			})
			w.wantInput(fmt.Sprintf("Headers %q", headers), err, field)
		}
	}
	for _, name := range []string{
		"Authorization", "authorization", "AUTHORIZATION", "Connection", "Content-Length", "Content-Encoding", "Cookie", "Expect", "Host", "Keep-Alive",
		"Proxy-Authorization", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		err := w.tryChange(func(in *core.Integration) { in.Headers = map[string]string{name: "x"} })
		w.wantInput("the header "+name, err, "headers."+http.CanonicalHeaderKey(name))
	}
	_, err := w.engine.CreateIntegration(t.Context(), w.integration(func(in *core.Integration) {
		in.Name, in.OAuth2, in.Headers = "mail", nil, map[string]string{"x-api-KEY": "x"}
		in.APIKey = &core.APIKey{In: core.KeyHeader, Name: "X-API-Key", TestURL: w.provider.APIURL() + "/me"}
		in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject"}
	}))
	w.wantInput("the header of the key", err, "headers.X-Api-Key")
}

// Changes of an integration's API are told by name, and what Resolve returns is the caller's.
func TestAPIOfIntegration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	before := uint64(len(w.events(0)))
	w.change(func(in *core.Integration) {
		in.APIURL, in.Headers, in.PickerTokens = w.provider.APIURL(), map[string]string{"X-Version": "1"}, true
	})
	if events := w.events(before); len(events) != 1 || events[0].Details["changed"] != "apiUrl,headers,pickerTokens" {
		t.Errorf("events = %v, want that apiUrl,headers,pickerTokens changed", events)
	}
	in, err := w.engine.Integration(t.Context(), calendar)
	if err != nil || !in.PickerTokens || in.APIURL != w.provider.APIURL() {
		t.Errorf("Integration() = %+v, %v, want what was declared", in, err)
	}
	in.OAuth2.AuthorizationURL = "https://example.com/authorize"
	own := maps.Clone(in.Headers)
	resolved, err := core.Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	resolved.Headers["X-Version"] = "2"
	if !maps.Equal(in.Headers, own) {
		t.Errorf("Resolve shares Headers with what it was given: %v", in.Headers)
	}
}

// An id stands for project and name: it is known without asking, stays, and tells projects apart.
func TestIntegrationID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	opts := w.opts
	opts.Project = "0192f0c1-7e3a-7000-8000-00000000000b"
	there, err := core.Open(t.Context(), w.store, w.keks, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = there.Close() })
	if got, want := there.IntegrationID(calendar), "9585274b-b637-517a-b3c6-8a69e8804d9b"; got != want { // front ends keep it
		t.Errorf("IntegrationID() = %s, want %s", got, want)
	}
	seen := map[string]bool{}
	for _, e := range []*core.Engine{w.engine, there} {
		for _, name := range []string{calendar, "mail", "custom.acme"} {
			id := e.IntegrationID(name)
			if again := e.IntegrationID(name); again != id || seen[id] {
				t.Errorf("IntegrationID(%s) = %s, then %s, want one of its own that stays", name, id, again)
			}
			seen[id] = true
		}
	}
}
