package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// upstream is the provider's side of the demo, apart from OAuth itself: the page on which a person consents, and the API that
// is called with accounts. It remembers who called.
type upstream struct {
	provider string // the API that knows whose a token is

	mu   sync.Mutex // guards seen
	seen []call
}

// call is one request to the API, as the provider sees it.
type call struct {
	Account     string `json:"account"` // whose token it showed; empty: nobody's
	Method      string `json:"method"`
	Path        string `json:"path"`
	Query       string `json:"query"`
	Body        string `json:"body"`
	ContentType string `json:"contentType"`
}

// mostCalls is how many are remembered.
const mostCalls = 1000

func (u *upstream) handler(d *demo) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /consent", func(w http.ResponseWriter, r *http.Request) { // who are you, and do you agree?
		show(w, "consent.html", map[string]any{
			"Agree": "/authorize?" + r.URL.RawQuery, "Deny": "/deny?" + r.URL.RawQuery, "People": people,
		})
	})
	mux.HandleFunc("GET /deny", func(w http.ResponseWriter, r *http.Request) {
		d.provider.DenyNext()
		http.Redirect(w, r, "/authorize?"+r.URL.RawQuery, http.StatusSeeOther)
	})
	mux.HandleFunc("GET /seen", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, u.calls()) })
	mux.HandleFunc("/upstream/", u.serve)
	return mux
}

func (u *upstream) calls() []call {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]call{}, u.seen...)
}

// serve is the API.
func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/upstream")
	c := call{u.whose(r), r.Method, path, r.URL.RawQuery, string(body), r.Header.Get("Content-Type")}
	u.mu.Lock()
	if len(u.seen) == mostCalls {
		u.seen = u.seen[1:]
	}
	u.seen = append(u.seen, c)
	u.mu.Unlock()
	code, hasCode := strings.CutPrefix(path, "/status/")
	switch {
	case c.Account == "":
		answer(w, http.StatusUnauthorized, map[string]any{"message": "unknown token"})
	case hasCode:
		status, err := strconv.Atoi(code)
		if err != nil || status < 200 || status > 599 {
			status = http.StatusNotFound
		}
		answer(w, status, map[string]any{"message": "this is what was asked for", "status": status})
	case path == "/text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "plain "+c.Account)
	case path == "/calendars":
		type calendar struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		}
		found := []calendar{}
		for _, one := range []calendar{{"work-" + c.Account, "Work of " + c.Account}, {"home-" + c.Account, "Home of " + c.Account}} {
			if strings.Contains(strings.ToLower(one.Name), strings.ToLower(r.URL.Query().Get("search"))) {
				found = append(found, one)
			}
		}
		answer(w, http.StatusOK, map[string]any{"calendars": found})
	default:
		answer(w, http.StatusOK, c)
	}
}

// whose asks the provider whose token or key a request shows.
func (u *upstream) whose(r *http.Request) string {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, u.provider+"/me", nil)
	if err != nil {
		return ""
	}
	req.Header.Set("Authorization", r.Header.Get("Authorization"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	var me struct{ Account string }
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&me) != nil {
		return ""
	}
	return me.Account
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // or the client is gone
}
