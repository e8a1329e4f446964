package core_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/usertoken"
)

// identityProvider serves the keys of an issuer; it may be down.
type identityProvider struct {
	*httptest.Server
	asked atomic.Int64
	down  atomic.Bool
}

// newIdentityProvider serves the public half of testKey(i).
func newIdentityProvider(t *testing.T, i int) *identityProvider {
	t.Helper()
	public := testKey(i).Public().(ed25519.PublicKey)
	kid, err := usertoken.KeyID(public)
	if err != nil {
		t.Fatal(err)
	}
	p := &identityProvider{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if p.asked.Add(1); p.down.Load() {
			http.Error(rw, "canary: down", http.StatusBadGateway)
			return
		}
		_, _ = fmt.Fprintf(rw, `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":%q,"x":%q}]}`, kid, base64.RawURLEncoding.EncodeToString(public))
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *identityProvider) host() string { return strings.TrimPrefix(p.URL, "http://") }

const issuerName = "https://login.example.com/"

// An issuer's tokens are taken as user tokens once it is declared, with the audience that is declared, and no longer than
// that.
func TestTokenIssuer(t *testing.T) {
	t.Parallel()
	provider := newIdentityProvider(t, 5)
	d := newEntrance(t, nil, func(o *core.Options) { o.PrivateHosts = append(o.PrivateHosts, provider.host()) })
	ctx, other := t.Context(), d.open()
	audience := "polycred/" + d.engine.Project()
	account := d.mail(d.engine.User("auth0|7"), "ada", core.KeyInput{})
	token := d.mintWith(5, usertoken.MintInput{User: "auth0|7", Claims: map[string]any{"iss": issuerName}})
	d.refused("before it is declared", d.engine, token, usertoken.ErrToken)
	d.refused("before, elsewhere", other, token, usertoken.ErrToken)

	in := core.TokenIssuer{Issuer: issuerName, Audiences: []string{"another application"}, KeysURL: provider.URL + "/keys"}
	declared, err := d.engine.SetTokenIssuer(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	d.refused("of another audience", d.engine, token, usertoken.ErrToken)
	declared.Audiences = append(declared.Audiences, audience)
	if declared, err = d.engine.SetTokenIssuer(ctx, declared); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		u, err := d.try(d.engine, token)
		if err != nil {
			t.Fatal(err)
		}
		d.wantSeen("of the issuer", u, account)
	}
	if asked := provider.asked.Load(); asked != 1 {
		t.Errorf("the issuer was asked for its keys %d times, want once", asked)
	}
	d.clock.Advance(5 * time.Second)
	d.refused("elsewhere, 5 seconds later", other, token, nil)
	d.refused("under the project's own key", d.engine, d.mint(usertoken.MintInput{Claims: map[string]any{"iss": issuerName}}), usertoken.ErrToken)
	d.refused("under its key, as the project", d.engine, d.mintWith(5, usertoken.MintInput{}), usertoken.ErrToken)

	if err := d.engine.DeleteTokenIssuer(ctx, issuerName); err != nil {
		t.Fatal(err)
	}
	d.refused("after it was deleted", d.engine, token, usertoken.ErrToken)
	d.clock.Advance(5 * time.Second)
	d.refused("after that, elsewhere", other, token, usertoken.ErrToken)
	d.wantErr("DeleteTokenIssuer(twice)", d.engine.DeleteTokenIssuer(ctx, issuerName), core.ErrNotFound)
	d.refused("a token of the project", other, d.mint(usertoken.MintInput{}), nil)
}

// An issuer that is down keeps out only its own tokens, and is told apart from tokens that are no good.
func TestTokenIssuerDown(t *testing.T) {
	t.Parallel()
	provider := newIdentityProvider(t, 5)
	provider.down.Store(true)
	d := newEntrance(t, nil, func(o *core.Options) { o.PrivateHosts = append(o.PrivateHosts, provider.host()) })
	_, err := d.engine.SetTokenIssuer(t.Context(), core.TokenIssuer{
		Issuer: issuerName, Audiences: []string{"polycred/" + d.engine.Project()}, KeysURL: provider.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	token := d.mintWith(5, usertoken.MintInput{Claims: map[string]any{"iss": issuerName}})
	d.refused("while it is down", d.engine, token, usertoken.ErrUnavailable)
	d.refused("a token of the project", d.engine, d.mint(usertoken.MintInput{}), nil)
	provider.down.Store(false)
	d.clock.Advance(30 * time.Second)
	d.refused("when it is back", d.engine, token, nil)
}

// The keys of an issuer are fetched from public addresses only, whatever is declared (security 18).
func TestSecurity18_TokenIssuer(t *testing.T) {
	t.Parallel()
	provider := newIdentityProvider(t, 5)
	d := newEntrance(t, nil, nil)
	in := core.TokenIssuer{Issuer: issuerName, Audiences: []string{"polycred/" + d.engine.Project()}, KeysURL: provider.URL}
	_, err := d.engine.SetTokenIssuer(t.Context(), in)
	d.wantInput("SetTokenIssuer(http)", err, "keysUrl")
	in.KeysURL = strings.Replace(provider.URL, "http:", "https:", 1)
	if _, err := d.engine.SetTokenIssuer(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	d.refused("an issuer at a private address", d.engine, d.mintWith(5, usertoken.MintInput{Claims: map[string]any{"iss": issuerName}}), usertoken.ErrUnavailable)
	if asked := provider.asked.Load(); asked != 0 {
		t.Errorf("the private address was asked %d times", asked)
	}
}

func TestTokenIssuers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	ctx, e := t.Context(), w.engine
	good := core.TokenIssuer{Issuer: "https://b.example.com", Audiences: []string{"app"}, KeysURL: "https://b.example.com/keys", Algorithms: []string{"RS256"}}
	for name, tt := range map[string]struct {
		change func(*core.TokenIssuer)
		field  string
	}{
		"no name":            {func(i *core.TokenIssuer) { i.Issuer = "" }, "issuer"},
		"long name":          {func(i *core.TokenIssuer) { i.Issuer = strings.Repeat("x", 256) }, "issuer"},
		"no audience":        {func(i *core.TokenIssuer) { i.Audiences = nil }, "issuer"},
		"empty audience":     {func(i *core.TokenIssuer) { i.Audiences = []string{""} }, "issuer"},
		"unknown algorithm":  {func(i *core.TokenIssuer) { i.Algorithms = []string{"HS256"} }, "issuer"},
		"no URL":             {func(i *core.TokenIssuer) { i.KeysURL = "" }, "issuer"},
		"a path":             {func(i *core.TokenIssuer) { i.KeysURL = "/keys" }, "issuer"},
		"plain http":         {func(i *core.TokenIssuer) { i.KeysURL = "http://b.example.com/keys" }, "keysUrl"},
		"a password in it":   {func(i *core.TokenIssuer) { i.KeysURL = "https://u:canary@b.example.com/keys" }, "issuer"},
		"another scheme":     {func(i *core.TokenIssuer) { i.KeysURL = "file:///etc/passwd" }, "issuer"},
		"a URL that is none": {func(i *core.TokenIssuer) { i.KeysURL = "https://b example.com" }, "issuer"},
	} {
		in := good
		tt.change(&in)
		_, err := e.SetTokenIssuer(ctx, in)
		if w.note(err) == nil {
			t.Errorf("SetTokenIssuer(%s) = nil", name)
		}
		w.wantErr("SetTokenIssuer("+name+")", err, core.ErrInvalid)
	}
	var want []core.TokenIssuer
	for i := range 20 {
		in := good
		in.Issuer = fmt.Sprintf("https://%c.example.com", 'a'+i)
		out, err := e.SetTokenIssuer(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		in.Created, in.Updated, in.Revision = w.clock.Now(), w.clock.Now(), out.Revision
		if diff := cmp.Diff(in, out); diff != "" || out.Revision == 0 {
			t.Errorf("SetTokenIssuer() (-want +got):\n%s", diff)
		}
		want = append(want, out)
	}
	_, err := e.SetTokenIssuer(ctx, core.TokenIssuer{Issuer: "https://z.example.com", Audiences: []string{"app"}, KeysURL: good.KeysURL})
	w.wantErr("the 21st", err, core.ErrTooMany)
	_, err = e.SetTokenIssuer(ctx, good)
	w.wantErr("declaring it again", err, core.ErrConflict)
	got, err := w.open().TokenIssuers(ctx)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("TokenIssuers() = %v (-want +got):\n%s", err, diff)
	}
	w.clock.Advance(time.Minute)
	changed := want[1]
	changed.Algorithms = nil
	if changed, err = e.SetTokenIssuer(ctx, changed); err != nil || !changed.Created.Equal(want[1].Created) || !changed.Updated.Equal(w.clock.Now()) {
		t.Errorf("SetTokenIssuer(changed) = %+v, %v, want it updated now", changed, err)
	}
	_, err = e.SetTokenIssuer(ctx, want[1])
	w.wantErr("a revision from before", err, core.ErrConflict)
	good.Issuer, good.Revision = "https://zz.example.com", 7
	_, err = e.SetTokenIssuer(ctx, good)
	w.wantErr("a revision of what is not there", err, core.ErrConflict)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	w.wantErr("SetTokenIssuer(closed)", ignore(e.SetTokenIssuer(ctx, want[0])), core.ErrClosed)
	w.wantErr("TokenIssuers(closed)", ignore(e.TokenIssuers(ctx)), core.ErrClosed)
	w.wantErr("DeleteTokenIssuer(closed)", e.DeleteTokenIssuer(ctx, want[0].Issuer), core.ErrClosed)
}
