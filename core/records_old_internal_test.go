package core

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

// What a program of format 1 left in testdata/store-1-used.json: user u has two accounts of oauth, "work" and bob's, and
// one of keys; user v has the account of "work" too. A connect session waits. There are no configurations and no grants.
const (
	oldWork, oldBob = "01a2049d-d2aa-7db3-9f20-bb0e964522e6", "01a2049d-d2ab-757d-a163-d749af477b08"
	oldOther        = "01a2049d-d2ab-7afd-9d76-03d412ce594d"
	oldKey          = "01a2049d-d2ab-7d8b-932c-a1540400ad3e"
	oldHandle       = "sItMGrkHJhwHj00ln4PXZa0SLu3M3GyacXI0mC_-iDc"
)

// openOld opens an engine on that store, at the time when it was written, with a provider that still lives.
func openOld(t *testing.T) (*Engine, string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(answerCrowd))
	t.Cleanup(server.Close)
	store, kek := loadGolden(t, "1-used", 1)
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	e, err := Open(t.Context(), store, crypto.KEKs{Tokens: kek, Policy: kek}, &Options{
		CallbackURL: "http://127.0.0.1:1/callback", PrivateHosts: []string{strings.TrimPrefix(server.URL, "http://"), "127.0.0.1:45001"},
		Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e, server.URL
}

// ids are those of a user's accounts.
func ids(t *testing.T, u *User, integration string) (found []string) {
	t.Helper()
	page, err := u.Credentials(t.Context(), ListInput{Integration: integration})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range page.Credentials {
		found = append(found, c.ID)
	}
	return found
}

// Whoever had accounts before there were configurations, labels and grants loses none of them, and gets all of that.
func TestStoreOfFormat1(t *testing.T) {
	t.Parallel()

	t.Run("read", func(t *testing.T) {
		t.Parallel()
		e, _ := openOld(t)
		ctx, u := t.Context(), e.User("u")
		if diff := cmp.Diff([]string{oldWork, oldBob, oldKey}, ids(t, u, "")); diff != "" {
			t.Errorf("accounts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{oldWork, oldBob}, ids(t, u, "oauth")); diff != "" {
			t.Errorf("accounts of oauth (-want +got):\n%s", diff)
		}
		for sel, want := range map[Selector]string{
			{Integration: "oauth", Credential: "work"}: "at-ada", {Credential: oldBob}: "at-bob", {Integration: "keys"}: "key-cyd",
		} {
			if token, err := u.Token(ctx, sel); err != nil || token.Value.Reveal() != want {
				t.Errorf("Token(%s) = %q, %v, want %q", sel, token.Value.Reveal(), err, want)
			}
		}
		c, err := u.Configuration(ctx, Selector{Credential: oldWork})
		if err != nil || c.ID != oldWork || !c.Default || c.Revision != 0 || len(c.Settings)+len(c.Meta) != 0 {
			t.Errorf("Configuration(work) = %+v, %v, want an empty default one", c, err)
		}
		if all, err := u.Configurations(ctx, Selector{Credential: oldWork}); err != nil || len(all) != 1 || all[0].ID != oldWork {
			t.Errorf("Configurations(work) = %+v, %v, want the default one", all, err)
		}
		if s, err := e.ConnectSession(ctx, oldHandle); err != nil || s.User != "u" || s.Integration != "oauth" {
			t.Errorf("ConnectSession() = %+v, %v, want the one that waits", s, err)
		}
	})

	t.Run("configure", func(t *testing.T) {
		t.Parallel()
		e, _ := openOld(t)
		ctx, u, sel := t.Context(), e.User("u"), Selector{Credential: oldWork}
		in, err := e.Integration(ctx, "oauth")
		if err != nil {
			t.Fatal(err)
		}
		in.Settings = []input.Input{{ID: "folder", Type: input.Text}}
		if _, err := e.UpdateIntegration(ctx, in); err != nil {
			t.Fatal(err)
		}
		c, err := u.UpdateConfiguration(ctx, sel, ConfigurationUpdate{Settings: map[string]any{"folder": "a"}, Meta: map[string]any{"m": "n"}})
		if err != nil || c.Settings["folder"] != "a" || c.Meta["m"] != "n" || c.Revision == 0 {
			t.Errorf("UpdateConfiguration() = %+v, %v, want the new values", c, err)
		}
		// An account whose default configuration has no record yet gets it with the first one beside it.
		extra, err := u.CreateConfiguration(ctx, Selector{Credential: oldBob}, ConfigurationInput{ExternalID: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if found, err := u.Configuration(ctx, Selector{Integration: "oauth", Configuration: "x"}); err != nil || found.ID != extra.ID {
			t.Errorf("Configuration(x) = %+v, %v, want %s", found, err, extra.ID)
		}
		if first, _, err := e.tables.configurations.Get(ctx, "u", oldBob, oldBob); err != nil || first.Others != 1 {
			t.Errorf("default configuration = %+v, %v, want it stored with 1 beside it", first, err)
		}
		if err := u.Disconnect(ctx, Selector{Credential: oldBob}); err != nil {
			t.Fatal(err)
		}
		if left, _, err := e.tables.configurations.List(ctx, []string{"u", oldBob}, nil, 0); err != nil || len(left) != 0 {
			t.Errorf("configurations after the disconnect = %v, %v, want none", left, err)
		}
	})

	t.Run("change", func(t *testing.T) {
		t.Parallel()
		e, _ := openOld(t)
		ctx, u := t.Context(), e.User("u")
		label, external := "At work", "office"
		c, err := u.Rename(ctx, Selector{Credential: oldWork}, RenameInput{Label: &label, ExternalID: &external})
		if err != nil || c.Label != label || c.ExternalID != external {
			t.Errorf("Rename() = %+v, %v, want both changed", c, err)
		}
		if err := u.Disconnect(ctx, Selector{Integration: "oauth", Credential: "office"}); err != nil {
			t.Errorf("disconnect: %v", err)
		}
		if err := u.Disconnect(ctx, Selector{Integration: "keys"}); err != nil {
			t.Errorf("disconnect the key: %v", err)
		}
		if diff := cmp.Diff([]string{oldBob}, ids(t, u, "")); diff != "" {
			t.Errorf("accounts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{oldOther}, ids(t, e.User("v"), "")); diff != "" {
			t.Errorf("accounts of v (-want +got):\n%s", diff)
		}
		if err := e.DeleteIntegration(ctx, "keys"); err != nil {
			t.Errorf("delete the integration without accounts: %v", err)
		}
	})

	t.Run("reconnect", func(t *testing.T) {
		t.Parallel()
		e, provider := openOld(t)
		ctx, u := t.Context(), e.User("u")
		for _, name := range []string{"oauth", "keys"} { // the provider has moved
			in, err := e.Integration(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if in.OAuth2 != nil {
				in.OAuth2.AuthorizationURL, in.OAuth2.TokenURL = provider+"/authorize", provider+"/token"
				in.OAuth2.ClientSecret = crypto.NewSecret("s")
			} else {
				in.APIKey.TestURL, in.OtherAccount = provider+"/key", OtherAccountReplace // accounts are known by the host that answers
			}
			if _, err := e.UpdateIntegration(ctx, in); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := u.AddKey(ctx, KeyInput{Integration: "keys", Key: crypto.NewSecret("key-cyd"), Into: "key"}); err != nil || c.ID != oldKey {
			t.Errorf("AddKey() = %+v, %v, want %s authorised anew", c, err, oldKey)
		}
		again := func(u *User, into string) {
			t.Helper()
			session, err := u.Connect(ctx, ConnectInput{Integration: "oauth", Into: into, Browser: "b"})
			if err != nil {
				t.Fatal(err)
			}
			at, err := url.Parse(session.URL)
			if err != nil {
				t.Fatal(err)
			}
			r, err := e.Callback(ctx, CallbackInput{
				Integration: "oauth", Browser: "b", Values: url.Values{"state": {at.Query().Get("state")}, "code": {"ada"}},
			})
			if err != nil || r.Credential.ID != into {
				t.Errorf("Callback() = %+v, %v, want %s authorised anew", r, err, into)
			}
		}
		again(u, oldWork)
		record, _, err := e.tables.credentials.Get(ctx, "u", oldWork)
		if err != nil {
			t.Fatal(err)
		}
		if shared, err := e.grantShared(ctx, "v", &record); err != nil || !shared {
			t.Errorf("the grant of an account that was authorised anew = %v, %v, want it in the index", shared, err)
		}
		again(e.User("v"), oldOther)
		if err := u.Disconnect(ctx, Selector{Credential: oldWork}); err != nil {
			t.Fatal(err)
		}
		if err := e.kernel.Step(ctx); err != nil {
			t.Fatal(err)
		}
		entries, err := e.kernel.Events().Read(ctx, 0, 0)
		if err != nil || len(entries) == 0 || entries[len(entries)-1].Value.Details["grant"] != "shared" {
			t.Errorf("the last event = %+v, %v, want a disconnect that says that the grant is shared", entries, err)
		}
		if left := ids(t, u, "oauth"); !slices.Equal(left, []string{oldBob}) {
			t.Errorf("accounts = %v, want %s", left, oldBob)
		}
		if _, err := u.Configuration(ctx, Selector{Credential: oldWork}); !errors.Is(err, ErrNotFound) {
			t.Errorf("configuration of the account that is gone: %v, want ErrNotFound", err)
		}
		if _, _, err := e.tables.configurations.Get(ctx, "u", oldBob, oldBob); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("record of the configuration of %s: %v, want none yet", oldBob, err)
		}
	})
}
