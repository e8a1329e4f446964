package httpapi_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/httpapi"
)

// TestRace: for one user at once, 50 installs of 25 accounts, settings through the Go API and over HTTP, and uninstalls. No
// change is lost, and each account at the provider is one here.
func TestRace(t *testing.T) {
	t.Parallel()
	const logins, writers, leaving = 25, 16, 8
	h := newFullHouse(t, func(_ *core.Options, o *httpapi.Options) { o.Rate = -1 })
	token, user := h.token("acme", nil), h.engine.User("acme")
	login := func(kind string, i int) string {
		name := kind + strconv.Itoa(i)
		h.provider.AddAccount(coretest.Account{Subject: name, Name: name})
		return name
	}
	mine := h.installAt(token, notes, "ada", `{}`)
	at := "{P}/credentials/" + mine
	h.want(http.StatusOK, token, http.MethodPatch, at, `{"config":{"sharedSettings":{"folder":"|","webhook":"canary-kept"}}}`)
	var gone []string
	for i := range leaving {
		gone = append(gone, h.installAt(token, notes, login("leaving", i), `{"allowMultipleCredentials":true}`))
	}

	var mu sync.Mutex // guards what follows
	installed, left, refused := map[string]map[string]bool{}, map[string]int{}, 0
	var all sync.WaitGroup
	for i := range 2 * logins {
		who := login("coming", i/2)
		all.Go(func() {
			id := h.install(token, who, `{"allowMultipleCredentials":true}`)
			mu.Lock()
			defer mu.Unlock()
			if installed[who] == nil {
				installed[who] = map[string]bool{}
			}
			installed[who][id] = true
		})
	}
	for i := range writers {
		all.Go(func() { // through the Go API: changes merge
			_, err := user.UpdateConfiguration(t.Context(), core.Selector{Credential: mine}, core.ConfigurationUpdate{Meta: map[string]any{"k" + strconv.Itoa(i): i}})
			if err != nil {
				t.Errorf("UpdateConfiguration: %v", err)
			}
		})
		all.Go(func() { // over HTTP: what was read is put back with one mark more, until nobody was faster
			for {
				read := h.want(http.StatusOK, token, http.MethodGet, at, "")
				folder := fmt.Sprint(lookup(any(read.json(t)), "configurations.0.sharedSettings.folder"))
				got := h.do(token, http.MethodPatch, at, fmt.Sprintf(`{"config":{"sharedSettings":{"folder":%q}}}`, folder+strconv.Itoa(i)+"|"),
					"If-Match", read.Header.Get("Etag"))
				if got.Status == http.StatusOK {
					return
				}
				if got.Status != http.StatusPreconditionFailed {
					t.Errorf("PATCH = %d %s, want 200 or 412", got.Status, got.Body)
					return
				}
			}
		})
	}
	for _, id := range gone {
		for range 2 {
			all.Go(func() {
				got := h.do(token, http.MethodDelete, "{P}/integrations/"+notes, "", "X-Paragon-Credential", id)
				mu.Lock()
				defer mu.Unlock()
				switch got.Status {
				case http.StatusNoContent:
					left[id]++
				case http.StatusNotFound:
					refused++
				default:
					t.Errorf("DELETE = %d %s", got.Status, got.Body)
				}
			})
		}
	}
	all.Wait()

	if len(installed) != logins {
		t.Errorf("%d accounts were installed, want %d", len(installed), logins)
	}
	for who, ids := range installed {
		if len(ids) != 1 {
			t.Errorf("%s is %d accounts: %v", who, len(ids), ids)
		}
	}
	page, err := user.Credentials(t.Context(), core.ListInput{Integration: calendar, Limit: 1000})
	if err != nil || len(page.Credentials) != logins {
		t.Errorf("%d accounts, %v; want %d", len(page.Credentials), err, logins)
	}
	if len(left) != leaving || refused != leaving {
		t.Errorf("%d accounts left, %d were gone already; want %d of each", len(left), refused, leaving)
	}
	c, err := user.Configuration(t.Context(), core.Selector{Credential: mine})
	if err != nil {
		t.Fatal(err)
	}
	folder := fmt.Sprint(c.Settings["folder"])
	for i := range writers {
		if c.Meta["k"+strconv.Itoa(i)] != float64(i) || strings.Count(folder, "|"+strconv.Itoa(i)+"|") != 1 {
			t.Errorf("the change of writer %d is lost: %v %q", i, c.Meta, folder)
		}
	}
	if secret, err := user.Password(t.Context(), core.Selector{Credential: mine}, "settings.webhook"); err != nil || secret.Reveal() != "canary-kept" {
		t.Errorf("the password is lost: %v", err)
	}
}
