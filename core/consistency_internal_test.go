package core

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/memory"
)

// Whatever users do at once, in any order: in the end records, indexes, claims and counts say the same, so does what the
// events tell, and each account has tokens of its own. The operations are random; what is checked at the end is not.
func TestConsistencyUnderRandomUse(t *testing.T) {
	t.Parallel()
	for _, same := range []SameAccount{SameAccountUpdate, SameAccountReject, SameAccountAllow} {
		for _, other := range []OtherAccount{OtherAccountRefuse, OtherAccountReplace} {
			t.Run(fmt.Sprintf("%s and %s", same, other), func(t *testing.T) {
				t.Parallel()
				c := newCrowd(t, same, other)
				ctx, cancel := context.WithCancel(t.Context())
				var running, workers sync.WaitGroup
				running.Go(func() { _ = c.e.Run(ctx) }) // numbers events beside all this
				for range 8 {
					workers.Go(func() {
						for range 80 {
							c.act()
						}
					})
				}
				workers.Wait()
				cancel()
				running.Wait()
				if err := c.e.Close(); err != nil { // waits for what runs behind
					t.Error(err)
				}
				if err := c.e.kernel.Step(t.Context()); err != nil { // numbers what that told, too
					t.Error(err)
				}
				if c.done.Load() == 0 {
					t.Error("operations that succeeded = 0, want most")
				}
				c.check()
				c.replay()
			})
		}
	}
}

// crowd is users who do random things at two integrations, oauth and keys, whose tokens are named after their accounts.
type crowd struct {
	*testing.T
	e           *Engine
	same        SameAccount
	other       OtherAccount
	url         string
	ahead, done atomic.Int64 // how far the clock went; what succeeded
}

func newCrowd(t *testing.T, same SameAccount, other OtherAccount) *crowd {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(answerCrowd))
	t.Cleanup(server.Close)
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{T: t, same: same, other: other, url: server.URL}
	begun := time.Now()
	c.e, err = Open(t.Context(), memory.New(), crypto.KEKs{Tokens: kek, Policy: kek}, &Options{
		CallbackURL: "http://127.0.0.1:1/callback", PrivateHosts: []string{strings.TrimPrefix(server.URL, "http://")},
		Now: func() time.Time { return begun.Add(time.Duration(c.ahead.Load())) }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.e.Close() })
	c.create()
	return c
}

// answerCrowd is the provider: it ends some grants, and leaves refresh tokens out of some answers.
func answerCrowd(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/key" {
		_, _ = fmt.Fprintf(w, `{"sub":%q}`, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer key-"))
		return
	}
	who := r.PostForm.Get("code")
	if r.PostForm.Get("grant_type") == "refresh_token" {
		who = strings.Split(r.PostForm.Get("refresh_token"), "-")[1]
		if rand.IntN(4) == 0 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
			return
		}
	}
	refresh := ""
	if n := rand.Uint32(); n%5 != 0 {
		refresh = fmt.Sprintf(`,"refresh_token":"rt-%s-%d"`, who, n)
	}
	_, _ = fmt.Fprintf(w, `{"access_token":"at-%s-%d","expires_in":60,"sub":%q%s}`, who, rand.Uint32(), who, refresh)
}

// create makes the integrations that are not there.
func (c *crowd) create() {
	for _, in := range crowdIntegrations(c.url) {
		in.SameAccount, in.OtherAccount = c.same, c.other
		_, err := c.e.CreateIntegration(c.Context(), in)
		c.note("create", err)
	}
}

// crowdIntegrations are those of a provider that answers like answerCrowd.
func crowdIntegrations(provider string) []Integration {
	settings := []input.Input{{ID: "folder", Type: input.Text}, {ID: "secret", Type: input.Password}}
	return []Integration{
		{
			Name: "oauth", Identity: Identity{Source: IdentityToken, SubjectPath: "sub"}, Settings: settings,
			OAuth2: &OAuth2{ClientID: "c", ClientAuth: ClientAuthNone, AuthorizationURL: provider + "/authorize", TokenURL: provider + "/token"},
		},
		{
			Name: "keys", Identity: Identity{Source: IdentityTest, SubjectPath: "sub"}, Settings: settings,
			APIKey: &APIKey{TestURL: provider + "/key"},
		},
	}
}

// note fails the test for an error that is none of a user's or an operator's.
func (c *crowd) note(op string, err error) {
	if err == nil {
		c.done.Add(1)
	} else if codeOf(err) == codeInternal {
		c.Errorf("%s = %v, want no internal error", op, err)
	}
}

func one(of ...string) string { return of[rand.IntN(len(of))] }

// any returns some account of a user, "" when there is none.
func (c *crowd) any(u *User, integration string) string {
	page, err := u.Credentials(c.Context(), ListInput{Integration: integration})
	if err != nil || len(page.Credentials) == 0 {
		return ""
	}
	return page.Credentials[rand.IntN(len(page.Credentials))].ID
}

// act does one thing.
func (c *crowd) act() {
	ctx, u, integration := c.Context(), c.e.User(one("u", "v")), one("oauth", "keys")
	switch op := rand.IntN(20); {
	case op < 5:
		c.connect(u, integration)
	case op < 8:
		if id := c.any(u, integration); id != "" {
			c.note("disconnect", u.Disconnect(ctx, Selector{Credential: id}))
		}
	case op < 11:
		c.ahead.Add(int64(40 * time.Second))
		if id := c.any(u, integration); id != "" {
			_, err := u.Token(ctx, Selector{Credential: id})
			c.note("token", err)
		}
	case op < 13:
		c.rename(u, integration)
	case op < 17:
		c.configure(u, integration)
	case op < 18:
		if id := c.any(u, integration); id != "" {
			_, err := u.CompleteSetup(ctx, Selector{Credential: id}, map[string]any{"site": one("north", "south")})
			c.note("complete setup", err)
		}
	case rand.IntN(3) > 0:
		in, err := c.e.Integration(ctx, integration)
		if err == nil {
			in.DisplayName = fmt.Sprint(rand.Uint32())
			in.Setup = []input.Input{{ID: "site", Type: input.Text, Required: rand.IntN(2) == 0}} // accounts are PENDING, or are not
			_, err = c.e.UpdateIntegration(ctx, in)
		}
		c.note("update", err)
	default:
		c.note("delete", c.e.DeleteIntegration(ctx, integration))
		c.create()
	}
}

// rename gives an account another label, or external id, or none.
func (c *crowd) rename(u *User, integration string) {
	id := c.any(u, integration)
	if id == "" {
		return
	}
	var in RenameInput
	if rand.IntN(2) == 0 {
		label := one("", "Ada", "Bob")
		in.Label = &label
	}
	if rand.IntN(3) > 0 {
		external := one("", "x", "y", "z")
		in.ExternalID = &external
	}
	_, err := u.Rename(c.Context(), Selector{Credential: id}, in)
	c.note("rename", err)
}

// secret adds at times that a password is set, or taken away.
func secret(settings map[string]any) map[string]any {
	switch rand.IntN(4) {
	case 0, 1:
		settings["secret"] = one("one", "two")
	case 2:
		settings["secret"] = nil
	}
	return settings
}

// configure creates, changes or deletes a configuration of an account.
func (c *crowd) configure(u *User, integration string) {
	ctx, sel := c.Context(), Selector{Credential: c.any(u, integration)}
	if sel.Credential == "" {
		return
	}
	all, err := u.Configurations(ctx, sel)
	if err != nil {
		c.note("configurations", err)
		return
	}
	some := all[rand.IntN(len(all))]
	sel.Configuration = some.ID
	switch rand.IntN(4) {
	case 0, 1:
		sel.Configuration = ""
		_, err = u.CreateConfiguration(ctx, sel, ConfigurationInput{ExternalID: one("", "p", "q"), Settings: secret(map[string]any{"folder": "new"})})
	case 2:
		change := ConfigurationUpdate{Settings: secret(map[string]any{"folder": one("a", "b")}), Meta: map[string]any{one("m", "n"): rand.IntN(9)}}
		if !some.Default && rand.IntN(2) == 0 {
			external := one("p", "q", "r", "")
			change.ExternalID = &external
		}
		_, err = u.UpdateConfiguration(ctx, sel, change)
	default:
		err = u.DeleteConfiguration(ctx, sel)
	}
	c.note("configure", err)
}

// connect connects an account, new or into one that is there; the callback arrives twice at times.
func (c *crowd) connect(u *User, integration string) {
	ctx, who, multiple := c.Context(), one("ada", "bob", "cyd"), rand.IntN(3) > 0
	into, external := "", one("", "", "x", "y", "z")
	if rand.IntN(3) == 0 {
		if into = c.any(u, integration); into != "" {
			external = ""
		}
	}
	if integration == "keys" {
		_, err := u.AddKey(ctx, KeyInput{
			Integration: integration, Key: crypto.NewSecret("key-" + who), AllowMultiple: multiple, Into: into, ExternalID: external, Label: one("", "Ada", "Bob"),
		})
		c.note("add key", err)
		return
	}
	session, err := u.Connect(ctx, ConnectInput{
		Integration: integration, AllowMultiple: multiple, Into: into, ExternalID: external, Label: one("", "Ada", "Bob"), Browser: "b",
	})
	c.note("connect", err)
	if err != nil {
		return
	}
	at, err := url.Parse(session.URL)
	if err != nil {
		c.Error(err)
		return
	}
	callback := CallbackInput{
		Integration: integration, Browser: "b", Values: url.Values{"state": {at.Query().Get("state")}, "code": {who}},
	}
	var callbacks sync.WaitGroup
	for range 1 + rand.IntN(2) {
		callbacks.Go(func() {
			_, err := c.e.Callback(ctx, callback)
			c.note("callback", err)
		})
	}
	callbacks.Wait()
}
