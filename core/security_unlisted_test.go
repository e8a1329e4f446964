package core_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// A token host that was taken off the list gets neither refresh token nor client secret, also for accounts that were
// connected while it was listed.
func TestSecurity3_TokenHostLeftTheList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	here, other := w.provider.URL(), "https://accounts.example.com"
	list := func(hosts ...string) {
		w.change(func(in *core.Integration) {
			in.SentHosts = []core.SentHost{{Field: "accounts-server", In: core.SentInCallback, TokenHost: true, Hosts: hosts}}
		})
	}
	w.change(func(in *core.Integration) { in.OAuth2.TokenURL = other + pathOf(t, w.provider.TokenURL()) })
	list(here, other)
	w.provider.Set(func(sw *coretest.Switches) { sw.ExtraCallbackParams = map[string]string{"accounts-server": here} })
	ada := w.mustConnect("u", "ada", core.ConnectInput{})

	list(other)
	w.clock.Advance(2 * time.Hour)
	_, err := w.token("u", ada.ID)
	w.wantErr("a refresh at a host that is not listed any more", err, core.ErrProvider)
	w.wantErr("a refresh at a host that is not listed any more", err, core.ErrMisconfigured)
	w.wantRefreshes("that is not listed any more", 0)
	if got := w.credential("u", ada.ID); got.Status != core.StatusValid || got.LastFailure != core.FailureNone {
		t.Errorf("status = %s, last failure %q, want an account that is as good as before", got.Status, got.LastFailure)
	}
	list(here, other)
	w.clock.Advance(5 * time.Second)
	w.mustToken("u", ada.ID)
	w.wantRefreshes("that is listed again", 1)
}

// A data host that was taken off the list gets no access token any more.
func TestSecurity4_DataHostLeftTheList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	list := func(hosts ...string) {
		w.change(func(in *core.Integration) {
			in.SentHosts = []core.SentHost{{Field: "instance_url", In: core.SentInToken, Hosts: hosts}}
			in.AllowedHosts = []string{"{instance_url}"}
		})
	}
	list(w.provider.URL(), "*.salesforce.com")
	w.fields(map[string]any{"instance_url": w.provider.URL()})
	client := w.client(w.mustConnect("u", "ada", core.ConnectInput{}).ID)
	if status, err := get(t, client, w.provider.APIURL()+"/me"); status != http.StatusOK || err != nil {
		t.Fatalf("a request to the sent host = %d, %v, want 200", status, err)
	}
	calls := w.provider.Calls().API
	list("*.salesforce.com")
	_, err := get(t, client, w.provider.APIURL()+"/me")
	w.wantErr("a request to a host that is not listed any more", err, core.ErrHostNotAllowed)
	if err == nil || !strings.Contains(err.Error(), "{instance_url}") {
		t.Errorf("error = %v, want it to name the variable", err)
	}
	if got := w.provider.Calls().API; got != calls {
		t.Errorf("%d requests arrived there, want none", got-calls)
	}
}

// The refresh token of a public client does not follow a token URL that was changed while the refresh began.
func TestSecurity23_PublicClientAtOldTokenURL(t *testing.T) {
	t.Parallel()
	old, renewed := newPeer(t, http.NotFound), newPeer(t, http.NotFound)
	store := &readSpy{}
	store.Store = stores["memory"](t)
	w := newPeerWorld(t, store, old, renewed)
	in := w.join(old, nil)
	id := w.connectPeer("a", core.ConnectInput{}).ID
	w.clock.Advance(24 * time.Hour)
	in.OAuth2.TokenURL = renewed.URL + "/token"
	store.before('i', func() { // the refresh reads the integration
		store.before('i', func() { // and once more before it spends anything
			if _, err := w.engine.UpdateIntegration(t.Context(), in); err != nil {
				t.Error(err)
			}
		})
	})
	before := len(old.got())
	_, err := w.engine.User("u").Token(t.Context(), core.Selector{Credential: id})
	w.wantErr("a refresh during the change", err, core.ErrProvider)
	if got := old.got(); len(got) != before {
		t.Errorf("the old token URL was sent %v, want nothing", got[before:])
	}
	if _, err := w.engine.User("u").Token(t.Context(), core.Selector{Credential: id}); err != nil {
		t.Errorf("Token() after that = %v, want a token of the new token URL", w.note(err))
	}
}

// A code from a request that somebody wrote by hand, without challenge and nonce, finishes no session of ours at a
// provider that does not look for the verifier (RFC 9700 §4.8.2): the id_token has to repeat the nonce.
func TestSecurity5_CodeWithoutNonce(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*core.Integration){
		"userinfo": func(*core.Integration) {},
		"id_token": func(in *core.Integration) {
			in.Identity = core.Identity{Source: core.IdentityIDToken, SubjectPath: "sub"}
		},
		"in place of PKCE": func(in *core.Integration) {
			in.OAuth2.PKCE, in.OAuth2.NonceOptional = core.PKCERefused, true // which takes effect beside PKCE only
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, nil, nil)
			g.world.change(change)
			g.provider.Set(ignorePKCE)
			victim := g.acme("")
			g.pending(victim, core.ConnectInput{})
			_, err := g.complete(victim, g.installation("bob"))
			g.wantErr("a code without nonce", err, core.ErrProvider)
			if err == nil || !strings.Contains(err.Error(), "another session") {
				t.Errorf("error = %v, want it to say that the id_token belongs to another session", err)
			}
			g.wantAccounts()
		})
	}
	t.Run("a provider that repeats none", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, nil)
		w.change(func(in *core.Integration) { in.OAuth2.NonceOptional = true })
		w.claims(map[string]any{"nonce": nil})
		w.mustConnect("u", "ada", core.ConnectInput{})
		w.claims(map[string]any{"nonce": "canary"})
		_, err := w.connect("v", "ada", core.ConnectInput{})
		w.wantErr("another nonce", err, core.ErrProvider)
	})
}

func pathOf(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Path
}
