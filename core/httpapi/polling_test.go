package httpapi_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/httpapi"
)

// poll asks row 7 in the background.
func (f *flow) poll() <-chan string {
	got := make(chan string, 1)
	go func() { got <- f.outcome() }()
	return got
}

func (f *flow) arrives(got <-chan string, within time.Duration) string {
	f.Helper()
	select {
	case id := <-got:
		return id
	case <-time.After(within):
		f.Fatalf("row 7 was not answered within %v", within)
		return ""
	}
}

// TestPollWakes: a poll that is held back is answered as soon as the account is there, long before the hold ends.
func TestPollWakes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	httpapi.SetHolds(h.handler, time.Minute, time.Minute, time.Minute) // nothing but the bell
	token, w := h.token("acme", nil), h.window()
	f := h.begin(token, calendar, "k", `{}`)
	w.nonce(token, calendar)
	callback := w.atProvider(f.hop, "ada")
	polled := f.poll()
	w.get(callback)
	if id := f.arrives(polled, 20*time.Second); id == "" || strings.HasPrefix(id, "failed.") {
		t.Errorf("outcome = %q", id)
	}
}

// TestPollOtherEngine: what another process did is seen within a second.
func TestPollOtherEngine(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	other, err := core.Open(t.Context(), h.store, h.keks, &h.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	handler, err := httpapi.New(other, &h.http)
	if err != nil {
		t.Fatal(err)
	}
	second := httptest.NewServer(handler)
	defer second.Close()
	token, w := h.token("acme", nil), h.window()
	f := h.begin(token, calendar, "k", `{}`)
	w.nonce(token, calendar)
	callback := w.atProvider(f.hop, "ada")
	polled := f.poll()
	at, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	there := w.get(strings.Replace(callback, "http://"+at.Host, second.URL, 1)) // cookies do not tell ports apart
	if there.Status != http.StatusOK {
		t.Fatalf("callback at the other process = %d %s", there.Status, there.Body)
	}
	if id := f.arrives(polled, 20*time.Second); id == "" || time.Since(began) > 10*time.Second {
		t.Errorf("outcome = %q after %v", id, time.Since(began))
	}
}

// TestPollLate: consent that takes 200 seconds still arrives: a poll that begins late is held past the SDK's last one.
func TestPollLate(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	httpapi.SetHolds(h.handler, time.Millisecond, time.Minute, 10*time.Millisecond)
	token, w := h.token("acme", nil), h.window()
	f := h.begin(token, calendar, "k", `{}`)
	w.nonce(token, calendar)
	callback := w.atProvider(f.hop, "ada")
	for _, age := range []time.Duration{0, 149 * time.Second} {
		h.clock.Advance(age)
		if id := f.arrives(f.poll(), 20*time.Second); id != "" { // held briefly
			t.Errorf("outcome before consent = %q", id)
		}
	}
	h.clock.Advance(2 * time.Second)
	polled := f.poll()
	h.clock.Advance(49 * time.Second) // 200 s
	w.get(callback)
	if id := f.arrives(polled, 20*time.Second); id == "" {
		t.Error("the late poll was not held until consent came")
	}
}

// TestPollAfterwards: the window is closed, the key is asked for a long time after; and one that nobody finished has failed.
func TestPollAfterwards(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil).impatient()
	token, w := h.token("acme", nil), h.window()
	good, dead := h.begin(token, calendar, "good", `{}`), h.begin(token, calendar, "dead", `{"allowMultipleCredentials":true}`)
	w.nonce(token, calendar)
	w.consent(good.hop, "ada")
	h.window().nonce(token, calendar) // its window is closed before the hop
	if id := dead.outcome(); id != "" {
		t.Errorf("a flow that goes on = %q", id)
	}
	h.clock.Advance(16 * time.Minute)
	token = h.token("acme", nil)
	good.token, dead.token = token, token
	id := good.outcome()
	h.want(http.StatusOK, token, http.MethodGet, "{P}/credentials/"+id, "")
	lost := dead.outcome()
	got := h.want(http.StatusUnprocessableEntity, token, http.MethodGet, "{P}/credentials/"+lost, "").json(t)
	if !strings.HasPrefix(lost, "failed.") || got["code"] != "session_expired" || got["message"] != core.Message(core.ErrSessionExpired) {
		t.Errorf("a flow that timed out = %q, %v", lost, got)
	}
}

// TestPollFailed: a refusal is told by rows 7 and 12, never with 401 or 403, and by the window's own page; coming back to the
// callback shows it again.
func TestPollFailed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil).impatient()
	token, w := h.token("acme", nil), h.window()
	f := h.begin(token, calendar, "k", `{}`)
	w.nonce(token, calendar)
	h.provider.DenyNext()
	callback := w.atProvider(f.hop, "ada")
	for range 2 {
		page := w.get(callback)
		if page.Status != http.StatusUnprocessableEntity || !bytes.Contains(page.Body, []byte("Access was not granted.")) {
			t.Errorf("the window shows %d %s", page.Status, page.Body)
		}
	}
	got := h.want(http.StatusUnprocessableEntity, token, http.MethodGet, "{P}/credentials/"+f.outcome(), "").json(t)
	if got["code"] != "denied" || got["message"] != core.Message(core.ErrDenied) {
		t.Errorf("row 12 = %v", got)
	}
	// The person tries again under the same key, and it goes well.
	again := h.begin(token, calendar, "k", `{}`)
	w = h.window()
	w.nonce(token, calendar)
	w.consent(again.hop, "ada")
	if id := f.outcome(); strings.HasPrefix(id, "failed.") || id == "" {
		t.Errorf("after the second try = %q, want the account", id)
	}
}

// TestCallbackReplayed: the same browser may come back; nothing is exchanged again.
func TestCallbackReplayed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token, w := h.token("acme", nil), h.window()
	f := h.begin(token, calendar, "k", `{}`)
	w.nonce(token, calendar)
	callback := w.atProvider(f.hop, "ada")
	for range 3 {
		if page := w.get(callback); page.Status != http.StatusOK || !bytes.Contains(page.Body, []byte("The account is connected.")) {
			t.Errorf("callback = %d %s", page.Status, page.Body)
		}
	}
	if n := h.provider.Calls().Exchange; n != 1 {
		t.Errorf("%d exchanges, want one", n)
	}
}

// TestFormPost: a provider that answers with a form: the cookie comes with the navigation that follows.
func TestFormPost(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token, w := h.token("acme", nil), h.window()
	f := h.begin(token, calendar, "k", `{}`)
	w.nonce(token, calendar)
	at, err := url.Parse(w.atProvider(f.hop, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.server.URL+at.Path+"?ignored=1", strings.NewReader(at.RawQuery))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	posted := h.send(&http.Client{CheckRedirect: w.client.CheckRedirect}, req) // without cookies, as browsers send it
	to := posted.Header.Get("Location")
	if posted.Status != http.StatusSeeOther || !strings.HasPrefix(to, at.Path+"?") || strings.Contains(to, "ignored") {
		t.Fatalf("POST to the callback = %d to %q", posted.Status, to)
	}
	if page := w.get(h.server.URL + to); page.Status != http.StatusOK {
		t.Errorf("callback = %d %s", page.Status, page.Body)
	}
}

// TestTwoWindows: two flows at once in one browser, of two integrations and of one, in any order.
func TestTwoWindows(t *testing.T) {
	t.Parallel()
	h := newFullHouse(t, nil)
	token, w := h.token("acme", nil), h.window()
	flows := []*flow{
		h.begin(token, calendar, "k1", `{"allowMultipleCredentials":true}`), h.begin(token, notes, "k2", `{}`),
		h.begin(token, calendar, "k3", `{"allowMultipleCredentials":true}`),
	}
	w.nonce(token, calendar)
	w.nonce(token, notes)
	w.nonce(token, calendar)
	var callbacks []string
	for i, login := range []string{"ada", "bob", "cyd"} {
		callbacks = append(callbacks, w.atProvider(flows[i].hop, login))
	}
	seen := map[string]bool{}
	for i := range callbacks {
		i = len(callbacks) - 1 - i
		if page := w.get(callbacks[i]); page.Status != http.StatusOK {
			t.Errorf("callback %d = %d %s", i, page.Status, page.Body)
		}
		seen[flows[i].outcome()] = true
	}
	if len(seen) != 3 || seen[""] {
		t.Errorf("outcomes = %v, want three accounts", seen)
	}
}

// TestHopReloaded: the same browser may leave again, and gets the same address.
func TestHopReloaded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	token, w := h.token("acme", nil), h.window()
	f := h.begin(token, calendar, "k", `{}`)
	w.nonce(token, calendar)
	first, second := w.get(f.hop), w.get(f.hop)
	if first.Header.Get("Location") == "" || first.Header.Get("Location") != second.Header.Get("Location") {
		t.Errorf("hop twice = %q, %q", first.Header.Get("Location"), second.Header.Get("Location"))
	}
	page, err := coretest.NewBrowser().OpenUntil(h.soon(), second.Header.Get("Location"), h.opts.CallbackURL)
	if err != nil {
		t.Fatal(err)
	}
	if done := w.get(page.URL); done.Status != http.StatusOK {
		t.Errorf("callback = %d %s", done.Status, done.Body)
	}
	w.refused("the hop of a flow that is done", w.get(f.hop))
}

// TestShutdown: a server that shuts down lets go of polls, so that it does not wait for them.
func TestShutdown(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	httpapi.SetHolds(h.handler, time.Minute, time.Minute, time.Minute)
	server := httpapi.Server(h.handler)
	f := h.begin(h.token("acme", nil), calendar, "k", `{}`)
	polled := f.poll()
	if err := server.Shutdown(h.soon()); err != nil {
		t.Fatal(err)
	}
	if id := f.arrives(polled, 20*time.Second); id != "" {
		t.Errorf("outcome = %q", id)
	}
}
