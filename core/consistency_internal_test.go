package core

import (
	"errors"
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

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/memory"
)

// Whatever users do at once, in any order: in the end records, indexes, claims and counts say the same, and each account
// has tokens of its own. The operations are random; what is checked at the end is not.
func TestConsistencyUnderRandomUse(t *testing.T) {
	t.Parallel()
	for _, same := range []SameAccount{SameAccountUpdate, SameAccountReject, SameAccountAllow} {
		for _, other := range []OtherAccount{OtherAccountRefuse, OtherAccountReplace} {
			t.Run(fmt.Sprintf("%s and %s", same, other), func(t *testing.T) {
				t.Parallel()
				c := newCrowd(t, same, other)
				var workers sync.WaitGroup
				for range 8 {
					workers.Go(func() {
						for range 80 {
							c.act()
						}
					})
				}
				workers.Wait()
				if err := c.e.Close(); err != nil { // waits for what runs behind
					t.Error(err)
				}
				if c.done.Load() == 0 {
					t.Error("operations that succeeded = 0, want most")
				}
				c.check()
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
	for _, in := range []Integration{
		{
			Name: "oauth", SameAccount: c.same, OtherAccount: c.other, Identity: Identity{Source: IdentityToken, SubjectPath: "sub"},
			OAuth2: &OAuth2{ClientID: "c", ClientAuth: ClientAuthNone, AuthorizationURL: c.url + "/authorize", TokenURL: c.url + "/token"},
		},
		{
			Name: "keys", SameAccount: c.same, OtherAccount: c.other, Identity: Identity{Source: IdentityTest, SubjectPath: "sub"},
			APIKey: &APIKey{TestURL: c.url + "/key"},
		},
	} {
		_, err := c.e.CreateIntegration(c.Context(), in)
		c.note("create", err)
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
	switch op := rand.IntN(12); {
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
	case rand.IntN(3) > 0:
		in, err := c.e.Integration(ctx, integration)
		if err == nil {
			in.DisplayName = fmt.Sprint(rand.Uint32())
			_, err = c.e.UpdateIntegration(ctx, in)
		}
		c.note("update", err)
	default:
		c.note("delete", c.e.DeleteIntegration(ctx, integration))
		c.create()
	}
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
			Integration: integration, Key: crypto.NewSecret("key-" + who), AllowMultiple: multiple, Into: into, ExternalID: external,
		})
		c.note("add key", err)
		return
	}
	session, err := u.Connect(ctx, ConnectInput{
		Integration: integration, AllowMultiple: multiple, Into: into, ExternalID: external, Browser: "b",
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

// check compares what the tables say with what the credentials say.
func (c *crowd) check() {
	c.Helper()
	want, counts := c.credentials()
	got := c.entries()
	for entry := range want {
		if got[entry] != 1 {
			c.Errorf("entry %q = %d times, want once", entry, got[entry])
		}
	}
	for entry := range got {
		if !want[entry] {
			c.Errorf("entry %q leads to no account", entry)
		}
	}
	rosters, more, err := c.e.tables.rosters.List(c.Context(), nil, nil, 1000)
	if err = complete(more, err); err != nil {
		c.Fatal(err)
	}
	for _, row := range rosters {
		key := strings.Join(row.Key, " ")
		if row.Value.Count != counts[key] {
			c.Errorf("roster of %s = %d, want %d", key, row.Value.Count, counts[key])
		}
		delete(counts, key)
	}
	for key, n := range counts {
		c.Errorf("roster of %s = none, want %d", key, n)
	}
}

// credentials returns what the credentials say has to stand elsewhere, and how many each user has of an integration.
func (c *crowd) credentials() (want map[string]bool, counts map[string]int) {
	c.Helper()
	ctx := c.Context()
	rows, more, err := c.e.tables.credentials.List(ctx, nil, nil, 1000)
	if err = complete(more, err); err != nil {
		c.Fatal(err)
	}
	want, counts = map[string]bool{}, map[string]int{}
	for i := range rows {
		r, user := &rows[i].Value, rows[i].Key[0]
		if rows[i].Key[1] != r.ID {
			c.Errorf("id of the credential at %v = %s", rows[i].Key, r.ID)
		}
		want["user "+user+" "+r.Integration+" "+r.ID] = true
		want["integration "+r.Integration+" "+r.ID+" "+user] = true
		counts[user+" "+r.Integration]++
		claims, err := c.e.claimsOf(ctx, user, r.Integration, ProviderAccount(r.Account))
		if err != nil || len(claims) == 0 {
			c.Fatalf("claims of %s = %v, %v, want one", r.ID, claims, err)
		}
		want["claim "+user+" "+r.Integration+" "+claims[0].key+" "+r.ID] = true
		if r.ExternalID != "" {
			_, rows, err := c.e.externalHolder(ctx, user, r.Integration, r.ExternalID)
			if err != nil {
				c.Fatal(err)
			}
			want["external "+strings.Join(rows[0].Key, " ")+" "+r.ID] = true
		}
		if _, _, err := c.e.readIntegration(ctx, r.Integration); err != nil {
			c.Errorf("integration %s of %s = %v, want it to be there", r.Integration, r.ID, err)
		}
		c.wantOwn(r)
	}
	return want, counts
}

// wantOwn fails the test unless the tokens of a credential are of the account that it stands for.
func (c *crowd) wantOwn(r *credentialRecord) {
	c.Helper()
	who, access, refresh := r.Account.Subject, r.AccessToken.Reveal(), r.RefreshToken.Reveal()
	if access != "key-"+who && !strings.HasPrefix(access, "at-"+who+"-") || refresh != "" && !strings.HasPrefix(refresh, "rt-"+who+"-") {
		c.Errorf("tokens of %s, which is %s = %q and %q, want its own", r.ID, who, access, refresh)
	}
}

// entries returns how often what leads to a credential stands in the other tables.
func (c *crowd) entries() map[string]int {
	c.Helper()
	ctx, got, tables := c.Context(), map[string]int{}, &c.e.tables
	users, more, err := tables.byUser.Scan(ctx, nil, nil, 1000)
	if err = complete(more, err); err != nil {
		c.Fatal(err)
	}
	for _, entry := range users {
		got["user "+strings.Join(entry, " ")]++
	}
	integrations, more, err := tables.byIntegration.Scan(ctx, nil, nil, 1000)
	if err = complete(more, err); err != nil {
		c.Fatal(err)
	}
	for _, entry := range integrations {
		got["integration "+strings.Join(entry, " ")]++
	}
	claims, more, err := tables.claims.List(ctx, nil, nil, 1000)
	if err = complete(more, err); err != nil {
		c.Fatal(err)
	}
	for _, row := range claims {
		if len(row.Value.Credentials) == 0 {
			c.Errorf("claim %q = empty, want it gone", row.Key)
		}
		for _, id := range row.Value.Credentials {
			got["claim "+strings.Join(row.Key, " ")+" "+id]++
		}
	}
	externals, more, err := tables.externalIDs.List(ctx, nil, nil, 1000)
	if err = complete(more, err); err != nil {
		c.Fatal(err)
	}
	for _, row := range externals {
		got["external "+strings.Join(row.Key, " ")+" "+row.Value.Credential]++
	}
	return got
}

// complete is the error of a scan that has to be whole.
func complete(more bool, err error) error {
	if err == nil && more {
		return errors.New("a table holds more than is checked")
	}
	return err
}
