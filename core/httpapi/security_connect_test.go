package httpapi_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/httpapi"
	"github.com/polycred/polycred/core/usertoken"
)

// flow is one OAuth flow that has begun: row 6 was answered.
type flow struct {
	*house
	token, integration, key, hop string
}

// begin asks row 6.
func (h *house) begin(token, integration, key, installOptions string) *flow {
	h.Helper()
	built := h.buildOAuth(token, integration, key, installOptions)
	if built.Status != http.StatusOK {
		h.Fatalf("build-oauth = %d %s", built.Status, built.Body)
	}
	return &flow{h, token, integration, key, built.json(h)["redirectUrl"].(string)}
}

// outcome is row 7; empty while there is none.
func (f *flow) outcome() string {
	f.Helper()
	id, _ := f.want(http.StatusOK, f.token, http.MethodGet, "{P}/actions/session-id/"+f.key, "").json(f)["connectCredentialId"].(string)
	return id
}

// impatient has polls answered at once.
func (h *house) impatient() *house {
	httpapi.SetHolds(h.handler, time.Nanosecond, time.Nanosecond, time.Nanosecond)
	return h
}

// atProvider leaves by the hop and signs in as login; the callback is not opened yet.
func (w *window) atProvider(hop, login string) string {
	w.Helper()
	left := w.get(hop)
	if left.Status != http.StatusSeeOther {
		w.Fatalf("hop = %d %s", left.Status, left.Body)
	}
	page, err := coretest.NewBrowser().OpenUntil(w.soon(), left.Header.Get("Location")+"&login_hint="+url.QueryEscape(login), w.server.URL)
	if err != nil {
		w.Fatal(err)
	}
	w.referer = ""
	return page.URL
}

func (w *window) refused(what string, a answer) {
	w.Helper()
	if a.Status < 400 || a.Header.Get("Location") != "" || len(a.Header["Set-Cookie"]) != 0 {
		w.Errorf("%s = %d, Location %q, cookies %q; want an error page", what, a.Status, a.Header.Get("Location"), a.Header["Set-Cookie"])
	}
	if a.Header.Get("Access-Control-Allow-Origin") != "" || a.Header.Get("X-Frame-Options") != "DENY" {
		w.Errorf("%s may be read or framed by others: %v", what, a.Header)
	}
}

// TestSecurity1_ForeignBrowser: consent cannot be forwarded, neither the hop's link nor the provider's.
func TestSecurity1_ForeignBrowser(t *testing.T) {
	t.Parallel()
	h := newFullHouse(t, nil).impatient()
	joe := h.token("acme", func(in *usertoken.MintInput) { in.Person = "joe" })
	f := h.begin(joe, calendar, "k", `{}`)
	w := h.window()
	if page := w.nonce(joe, calendar); page.Status != http.StatusOK {
		t.Fatalf("nonce page = %d %s", page.Status, page.Body)
	}
	for name, prepare := range map[string]func(*window){
		"without cookie":              func(*window) {},
		"with another user's cookie":  func(w *window) { w.nonce(h.token("other", nil), calendar) },
		"with one of an integration":  func(w *window) { w.nonce(joe, notes) },
		"with another person's":       func(w *window) { w.nonce(h.token("acme", nil), calendar) },
		"with a made up one":          func(w *window) { forge(w, joe) },
		"with one that has timed out": func(w *window) { w.nonce(joe, calendar); ageNonce(w) },
	} {
		victim := h.window()
		prepare(victim)
		victim.refused("the hop "+name, victim.get(f.hop))
	}
	callback := w.atProvider(f.hop, "ada")

	second := h.window() // it has a right to begin flows of its own
	second.nonce(joe, calendar)
	second.refused("the hop in a second browser", second.get(f.hop))
	second.refused("the callback in a second browser", second.get(callback))
	if id := f.outcome(); id != "" {
		t.Errorf("the foreign browsers led to %q", id)
	}
	if calls := h.provider.Calls().Exchange; calls != 0 {
		t.Errorf("%d codes were spent for foreign browsers", calls)
	}
	if done := w.get(callback); done.Status != http.StatusOK {
		t.Errorf("the callback in the right browser = %d %s", done.Status, done.Body)
	}
	if id := f.outcome(); id == "" || strings.HasPrefix(id, "failed.") {
		t.Errorf("outcome = %q, want a credential", id)
	}
}

// forge gives a browser a nonce cookie with a code of its own.
func forge(w *window, token string) {
	w.nonce(token, calendar)
	at, _ := url.Parse(w.server.URL)
	for _, c := range w.client.Jar.Cookies(at) {
		c.Value = c.Value[:len(c.Value)-2] + "AA"
		c.Path = "/"
		w.client.Jar.SetCookies(at, []*http.Cookie{c})
	}
}

// ageNonce makes the time in a nonce cookie an earlier one.
func ageNonce(w *window) {
	at, _ := url.Parse(w.server.URL)
	for _, c := range w.client.Jar.Cookies(at) {
		_, mac, _ := strings.Cut(c.Value, ".")
		c.Value, c.Path = "1000000000."+mac, "/"
		w.client.Jar.SetCookies(at, []*http.Cookie{c})
	}
}

// TestSecurity1_NonceExpires: the cookie is good for 15 minutes.
func TestSecurity1_NonceExpires(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token, w := h.token("acme", nil), h.window()
	w.nonce(token, calendar)
	h.clock.Advance(15 * time.Minute)
	w.refused("the hop after 15 minutes", w.get(h.begin(token, calendar, "k", `{}`).hop))
}

// TestSecurity1_Asks: a flow that no page of the application began asks first.
func TestSecurity1_Asks(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(_ *core.Options, o *httpapi.Options) { o.LegacyNavigation = true })
	token := h.token("acme <b>", nil)
	q := url.Values{"integrationId": {h.engine.IntegrationID(calendar)}, "originForPostMessage": {appOrigin}, "userToken": {token}}
	for _, path := range []string{"/actions/oauth-nonce?", "/actions/build-oauth?"} {
		address := h.url("{P}" + path + q.Encode())
		for _, referer := range []string{
			"", "https://evil.example/", "https://app.example.com.evil.example/", "http://app.example.com/", "https://app.example.com:444/",
			"https://APP.example.com/", "https://user@app.example.com/x", "https://evil.example/https://app.example.com", "null", h.server.URL,
		} {
			w := h.window()
			w.referer = referer
			if referer == "https://user@app.example.com/x" { // user information says nothing of the host
				continue
			}
			page := w.get(address)
			for _, part := range []string{"Zeppelin", "acme &lt;b&gt;", "<form method=\"post\""} {
				if !bytes.Contains(page.Body, []byte(part)) {
					t.Errorf("from %q: the page does not have %q: %d %s", referer, part, page.Status, page.Body)
				}
			}
			if len(page.Header["Set-Cookie"]) != 0 || page.Header.Get("Cross-Origin-Opener-Policy") != "" {
				t.Errorf("from %q: the page that asks does more than ask: %v", referer, page.Header)
			}
			if policy := page.Header.Get("Referrer-Policy"); policy != "same-origin" { // or the form has Origin: null
				t.Errorf("Referrer-Policy = %q, want same-origin", policy)
			}
			for origin, status := range map[string]int{"https://evil.example": 403, "null": 403, "": 403, appOrigin: 403, h.server.URL: 0} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Origin", origin)
				got := w.send(w.client, req)
				if status != 0 && (got.Status != status || len(got.Header["Set-Cookie"]) != 0) {
					t.Errorf("the form from %q = %d %v, want %d", origin, got.Status, got.Header, status)
				} else if status == 0 && (got.Status >= 400 || len(got.Header["Set-Cookie"]) == 0) {
					t.Errorf("the form from our own page = %d %s, want it to go on", got.Status, got.Body)
				}
			}
		}
	}
}

// TestSecurity1_Legacy: the flow in one navigation is off unless the host switches it on.
func TestSecurity1_Legacy(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		h := newHouse(t, func(_ *core.Options, o *httpapi.Options) { o.LegacyNavigation = on }).impatient()
		token, w := h.token("acme", nil), h.window()
		q := url.Values{"action": {calendar}, "integrationId": {h.engine.IntegrationID(calendar)}, "userToken": {token}, "sessionId": {"old"}, "installOptions": {"{}"}}
		address := h.url("{P}/actions/build-oauth?" + q.Encode())
		if !on {
			if page := w.get(address); page.Status != http.StatusNotFound || len(page.Header["Set-Cookie"]) != 0 {
				t.Errorf("switched off: %d %v", page.Status, page.Header)
			}
			continue
		}
		if done := w.consent(address, "ada"); done.Status != http.StatusOK {
			t.Errorf("switched on: %d %s", done.Status, done.Body)
		}
		if id := (&flow{h, token, calendar, "old", ""}).outcome(); id == "" {
			t.Error("an old SDK does not learn the outcome")
		}
	}
}

// TestSecurity2: the hop hands the window to the provider without its opener, and the page before it keeps the opener.
func TestSecurity2(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token, w := h.token("acme", nil), h.window()
	page := w.nonce(token, calendar)
	if page.Header.Get("Cross-Origin-Opener-Policy") != "" || page.Header.Get("Referrer-Policy") != "no-referrer" || page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("nonce page: %v", page.Header)
	}
	if !bytes.Contains(page.Body, []byte(`postMessage({ type: "oauth-nonce-loaded" }, "`+appOrigin+`")`)) {
		t.Errorf("nonce page: %s, want a message for %s alone", page.Body, appOrigin)
	}
	left := w.get(h.begin(token, calendar, "k", `{}`).hop)
	for name, want := range map[string]string{
		"Cross-Origin-Opener-Policy": "same-origin", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "",
	} {
		if got := left.Header.Get(name); got != want {
			t.Errorf("hop: %s = %q, want %q", name, got, want)
		}
	}
	if left.Status != http.StatusSeeOther || !strings.HasPrefix(left.Header.Get("Location"), h.provider.AuthorizationURL()) {
		t.Errorf("hop = %d to %s", left.Status, left.Header.Get("Location"))
	}
	for _, cookie := range append(page.Header["Set-Cookie"], left.Header["Set-Cookie"]...) {
		if !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Lax") || !strings.Contains(cookie, "Path=/;") || strings.HasPrefix(cookie, "__Host-") {
			t.Errorf("cookie on loopback: %s", cookie)
		}
	}
	for _, public := range []string{"http://app.example.com", "https://app.example.com/x", "https://APP.example.com", "https://app.example.com:443", "ftp://localhost", "", "https://other.example.com"} {
		o := h.http
		o.PublicURL = public
		if _, err := httpapi.New(h.engine, &o); err == nil {
			t.Errorf("New with the public URL %q went well", public)
		}
	}
	for _, origin := range []string{"*", "app.example.com", "https://app.example.com/", "https://App.example.com", "https://app.example.com:443", "null"} {
		o := h.http
		o.AllowedOrigins = []string{origin}
		if _, err := httpapi.New(h.engine, &o); err == nil {
			t.Errorf("New with the allowed origin %q went well", origin)
		}
	}
}

// TestSecurity2_Host: over TLS cookies have the prefix that other hosts cannot set.
func TestSecurity2_Host(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *core.Options, p *httpapi.Options) {
		o.CallbackURL, p.PublicURL = "https://connect.example.com/callback", "https://connect.example.com"
	})
	page := h.window().nonce(h.token("acme", nil), calendar)
	if cookie := page.Header.Get("Set-Cookie"); !strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "Secure") || strings.Contains(cookie, "Domain") {
		t.Errorf("cookie = %q, want one with __Host- and Secure", cookie)
	}
}

// TestSecurity6: the public URL is configuration; what requests say of hosts counts for nothing.
func TestSecurity6(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token := h.token("acme", nil)
	q := "/v2{P}/actions/build-oauth?integrationId=" + calendar
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url(q), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	req.Header = http.Header{
		"Authorization": {"Bearer " + token}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"host=evil.example"},
	}
	built := h.send(http.DefaultClient, req)
	if got, _ := built.json(t)["redirectUrl"].(string); !strings.HasPrefix(got, h.server.URL+"/connect/hop/") {
		t.Errorf("redirectUrl = %q, want one of %s", got, h.server.URL)
	}
	for _, origin := range []string{"https://evil.example", appOrigin + "/", "https://APP.example.com", "*", ""} {
		w := h.window()
		q := url.Values{"integrationId": {h.engine.IntegrationID(calendar)}, "originForPostMessage": {origin}, "userToken": {token}}
		w.refused("a message for "+origin, w.get(h.url("{P}/actions/oauth-nonce?"+q.Encode())))
	}
	for _, redirect := range []string{"https://evil.example", h.server.URL + "/app/connected/", h.server.URL + "/app/connected?x=1", "javascript:alert(1)"} {
		h.want(http.StatusBadRequest, token, http.MethodGet, q+"&redirectUrl="+url.QueryEscape(redirect), "")
	}
}

// TestSecurity7: completeInstall finishes a session of the same user, integration and page, with its own verifier.
func TestSecurity7(t *testing.T) {
	t.Parallel()
	h := newFullHouse(t, nil)
	const paged = "paged" // the SDK passes no "iss" on, so it is for providers that send none
	in := h.provider.Integration(paged)
	in.OAuth2.RequireIssuer = false
	if _, err := h.engine.CreateIntegration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	token := h.token("acme", nil)
	page := h.server.URL + "/app/connected"
	begin := func() string { // returns the code that comes in at the page
		w := h.window()
		w.nonce(token, paged)
		q := url.Values{"integrationId": {h.engine.IntegrationID(paged)}, "redirectUrl": {page}, "installOptions": {`{"allowMultipleCredentials":true}`}}
		built := h.want(http.StatusOK, token, http.MethodGet, "/v2{P}/actions/build-oauth?"+q.Encode(), "").json(t)
		at, err := url.Parse(w.atProvider(built["redirectUrl"].(string), "ada"))
		if err != nil || !strings.HasPrefix(at.String(), page) {
			t.Fatalf("the provider led to %v, want %s", at, page)
		}
		return at.Query().Get("code")
	}
	complete := func(token, integration, code, page string) answer {
		body := `{"code":"` + code + `","integrationId":"` + integration + `","redirectUrl":"` + page + `","integrationOptions":{}}`
		return h.do(token, http.MethodPost, "{P}/credentials", body)
	}
	code := begin()
	exchanged := h.provider.Calls().Exchange
	for name, got := range map[string]answer{
		"another user":        complete(h.token("other", nil), paged, code, page),
		"another person":      complete(h.token("acme", func(in *usertoken.MintInput) { in.Person = "joe" }), paged, code, page),
		"another page":        complete(token, paged, code, page+"/"),
		"another integration": complete(token, calendar, code, page),
	} {
		if got.Status != http.StatusUnprocessableEntity && got.Status != http.StatusBadRequest {
			t.Errorf("%s = %d %s, want 422 or 400", name, got.Status, got.Body)
		}
	}
	if n := h.provider.Calls().Exchange; n != exchanged {
		t.Errorf("%d codes were spent for others", n-exchanged)
	}
	first := complete(token, paged, code, page)
	if first.Status != http.StatusCreated {
		t.Fatalf("completeInstall = %d %s", first.Status, first.Body)
	}
	if again := complete(token, paged, code, page); again.json(t)["id"] != first.json(t)["id"] {
		t.Errorf("completeInstall twice = %d %s, want the same account", again.Status, again.Body)
	}

	older := begin()
	_ = begin() // takes its place
	if got := complete(token, paged, older, page); got.Status < 400 {
		t.Errorf("a code of a session that was superseded = %d %s", got.Status, got.Body)
	}

	// Only where the provider may begin is a code without session spent.
	h.provider.Reset()
	other := h.token("nobody", nil)
	if got := complete(other, paged, "code-made-up", page); got.Status != http.StatusUnprocessableEntity || h.provider.Calls().Exchange != 0 {
		t.Errorf("an install that began at the provider = %d %s, %d exchanges; want 422 and none", got.Status, got.Body, h.provider.Calls().Exchange)
	}
	if got := complete(other, notes, "code-made-up", page); got.Status < 400 || got.Status == 401 || got.Status == 403 || h.provider.Calls().Exchange != 1 {
		t.Errorf("switched on = %d %s, %d exchanges; want an error of the provider, and one", got.Status, got.Body, h.provider.Calls().Exchange)
	}
}

// TestSecurity8: tokens and codes of a window are refused, and a flow that is finished in both ways has one account.
func TestSecurity8(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token, w := h.token("acme", nil), h.window()
	f := h.begin(token, calendar, "k", `{}`)
	w.nonce(token, calendar)
	if done := w.consent(f.hop, "ada"); done.Status != http.StatusOK {
		t.Fatalf("callback = %d %s", done.Status, done.Body)
	}
	handle := f.hop[strings.LastIndexByte(f.hop, '/')+1:]
	for _, payload := range []string{`{"access_token":"x"}`, `{"code":"x"}`, `{"handle":"` + handle + `","refresh_token":"x"}`, `{"handle":{"code":1}}`, `{"OAUTH_ACCESS_TOKEN":"x"}`} {
		h.want(http.StatusBadRequest, token, http.MethodPost, "{P}/credentials", `{"integrationId":"`+calendar+`","payload":`+payload+`}`)
	}
	polled := f.outcome()
	body := `{"integrationId":"` + calendar + `","config":{},"payload":{"handle":"` + handle + `"},"installOptions":{}}`
	for range 2 {
		if got := h.want(http.StatusCreated, token, http.MethodPost, "{P}/credentials", body).json(t)["id"]; got != polled {
			t.Errorf("by message = %v, by polling = %s", got, polled)
		}
	}
	if got := h.do(h.token("other", nil), http.MethodPost, "{P}/credentials", body); got.Status != http.StatusUnprocessableEntity {
		t.Errorf("another user with the handle = %d %s", got.Status, got.Body)
	}
	all := h.want(http.StatusOK, token, http.MethodGet, "{P}/credentials", "")
	if n := bytes.Count(all.Body, []byte(`"connectCredentialId"`)); n != 1 {
		t.Errorf("%d accounts, want one: %s", n, all.Body)
	}
}

// TestSecurity9: what stands in the way and cannot be seen is told in one neutral way.
func TestSecurity9(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil).impatient()
	eve := h.token("acme", func(in *usertoken.MintInput) { in.Person = "mallory" })
	hidden := h.install(eve, "ada", `{"externalId":"payroll"}`)
	joe := h.token("acme", func(in *usertoken.MintInput) {
		in.Person, in.Permissions = "joe", map[string]any{"integration:*": map[string]any{"credential:owner": true}}
	})
	if got := h.buildOAuth(joe, calendar, "k", `{"externalId":"payroll"}`); got.Status != http.StatusConflict || got.json(t)["code"] != "hidden_conflict" || bytes.Contains(got.Body, []byte(hidden)) {
		t.Errorf("a name that somebody invisible has = %d %s", got.Status, got.Body)
	}
	// The same account at the provider: found out at the commit, told by rows 7 and 12 and by the page.
	f, w := h.begin(joe, calendar, "k", `{}`), h.window()
	w.nonce(joe, calendar)
	page := w.consent(f.hop, "ada")
	told := h.do(joe, http.MethodGet, "{P}/credentials/"+f.outcome(), "")
	if told.Status != http.StatusUnprocessableEntity || told.json(t)["code"] != "hidden_conflict" {
		t.Errorf("row 12 = %d %s, want 422 hidden_conflict", told.Status, told.Body)
	}
	for _, secret := range []string{hidden, "payroll", "mallory", "ada@example.com"} {
		if bytes.Contains(page.Body, []byte(secret)) || bytes.Contains(told.Body, []byte(secret)) {
			t.Errorf("%q is told: %s %s", secret, page.Body, told.Body)
		}
	}
	for _, into := range []string{hidden, "payroll", "01900000-0000-7000-8000-000000000000"} {
		if got := h.buildOAuth(joe, calendar, "k", `{"selectedCredentialId":"`+into+`"}`); got.Status != http.StatusNotFound {
			t.Errorf("into %s = %d %s, want 404", into, got.Status, got.Body)
		}
	}
}

// TestSecurity11: a foreign poll or delete looks like one of an unknown key, and changes nothing.
func TestSecurity11(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil).impatient()
	token := h.token("acme", func(in *usertoken.MintInput) { in.Person = "joe" })
	f, w := h.begin(token, calendar, "k", `{}`), h.window()
	w.nonce(token, calendar)
	w.consent(f.hop, "ada")
	for _, other := range []string{h.token("other", nil), h.token("acme", func(in *usertoken.MintInput) { in.Person = "eve" })} {
		mine, unknown := h.do(other, http.MethodGet, "{P}/actions/session-id/k", ""), h.do(other, http.MethodGet, "{P}/actions/session-id/unknown", "")
		if mine.Status != unknown.Status || !bytes.Equal(mine.Body, unknown.Body) || strings.TrimSpace(string(mine.Body)) != "{}" {
			t.Errorf("a foreign key = %d %s, an unknown one = %d %s", mine.Status, mine.Body, unknown.Status, unknown.Body)
		}
		h.want(http.StatusNoContent, other, http.MethodDelete, "{P}/actions/session-id/k", "")
		h.want(http.StatusNotFound, other, http.MethodGet, "{P}/credentials/failed.aw", "") // "k"
	}
	if id := f.outcome(); id == "" {
		t.Error("a foreign delete took the key away")
	}
	h.want(http.StatusNoContent, token, http.MethodDelete, "{P}/actions/session-id/k", "")
	if id := f.outcome(); id != "" {
		t.Errorf("after its own delete the key still leads to %q", id)
	}
}
