package coretest_test

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polycred/polycred/core/coretest"
	"golang.org/x/oauth2"
)

func TestRefreshWithoutRotation(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	first := s.connect(t)
	s.clock.Advance(2 * time.Hour)
	second := s.mustRefresh(t, first.RefreshToken)
	if second.RefreshToken != first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Errorf("refresh = %+v, want a new access token and the same refresh token", second)
	}
	s.wantLive(t, first.AccessToken, false)
	s.wantLive(t, second.AccessToken, true)
	if got := s.verifyIDToken(t, second)["nonce"]; got != nil {
		t.Errorf("nonce after a refresh = %v, want none", got)
	}
	s.mustRefresh(t, first.RefreshToken)

	_, err := s.refresh(t.Context(), "rt-unknown")
	wantCode(t, err, "invalid_grant")
	if got := s.Calls().Refresh; got != 3 {
		t.Errorf("Calls().Refresh = %d, want 3", got)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	for _, reuseRevokes := range []bool{false, true} {
		s := start(t, func(o *coretest.OAuthServerOptions) {
			o.Switches = coretest.Switches{Rotate: true, ReuseRevokes: reuseRevokes}
		})
		first := s.connect(t)
		second := s.mustRefresh(t, first.RefreshToken)
		third := s.mustRefresh(t, second.RefreshToken)
		if third.RefreshToken == second.RefreshToken || second.RefreshToken == first.RefreshToken {
			t.Fatal("refresh did not rotate the refresh token")
		}
		other := s.connect(t) // another grant of the same account

		_, err := s.refresh(t.Context(), first.RefreshToken)
		wantCode(t, err, "invalid_grant")
		s.wantLive(t, third.AccessToken, !reuseRevokes)
		s.wantLive(t, other.AccessToken, true)
		_, err = s.refresh(t.Context(), third.RefreshToken)
		if reuseRevokes {
			wantCode(t, err, "invalid_grant")
		} else if err != nil {
			t.Errorf("refresh after a refused reuse: %v", err)
		}
		s.mustRefresh(t, other.RefreshToken)
	}
}

func TestGraceWindow(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Switches = coretest.Switches{Rotate: true, ReuseRevokes: true, GraceWindow: time.Minute}
	})
	first := s.connect(t)
	second := s.mustRefresh(t, first.RefreshToken)
	s.clock.Advance(59 * time.Second)
	again := s.mustRefresh(t, first.RefreshToken)
	if again.RefreshToken == first.RefreshToken || again.RefreshToken == second.RefreshToken {
		t.Error("a spent token within the window earned no new refresh token")
	}
	s.mustRefresh(t, second.RefreshToken)
	s.clock.Advance(time.Second) // the window counts from the first use
	_, err := s.refresh(t.Context(), first.RefreshToken)
	wantCode(t, err, "invalid_grant")
	_, err = s.refresh(t.Context(), again.RefreshToken)
	wantCode(t, err, "invalid_grant") // the chain is revoked
}

func TestConcurrentRefresh(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.Rotate = true })
	tok := s.connect(t)
	const n = 32
	var won atomic.Int32
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := s.refresh(t.Context(), tok.RefreshToken); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || s.Calls().Refresh != n {
		t.Errorf("%d of %d refreshes won, want 1 of %d", won.Load(), s.Calls().Refresh, n)
	}
}

func TestOmitRefreshToken(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Switches = coretest.Switches{Rotate: true, OmitRefreshTokenAtExchange: true}
	})
	if tok := s.connect(t); tok.RefreshToken != "" {
		t.Errorf("exchange granted refresh token %.3s…, want none", tok.RefreshToken)
	}
	s.Set(func(sw *coretest.Switches) {
		sw.OmitRefreshTokenAtExchange, sw.OmitRefreshTokenAtRefresh = false, true
	})
	tok := s.connect(t)
	for range 2 { // the presented token stays good, although the server rotates
		form := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {tok.RefreshToken},
			"client_id": {s.ClientID()}, "client_secret": {s.ClientSecret()},
		}
		m := mustSend(t, http.MethodPost, s.TokenURL(), form).json(t)
		if _, ok := m["refresh_token"]; ok || m["access_token"] == nil {
			t.Errorf("refresh = %v, want an access token only", m)
		}
	}
}

func TestRefreshScope(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tok := s.connect(t)
	for scope, want := range map[string]string{"read": "read", "": "openid read", "read write": ""} {
		form := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {tok.RefreshToken}, "scope": {scope},
			"client_id": {s.ClientID()}, "client_secret": {s.ClientSecret()},
		}
		m := mustSend(t, http.MethodPost, s.TokenURL(), form).json(t)
		if want == "" && m["error"] != "invalid_scope" || want != "" && m["scope"] != want {
			t.Errorf("refresh with scope %q = %v, want scope %q", scope, m, want)
		}
	}
}

func TestRevocationEndpoint(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	revoke := func(token string) {
		t.Helper()
		a := mustSend(t, http.MethodPost, s.RevocationURL(), url.Values{"token": {token}},
			"Authorization", basic(s.ClientID(), s.ClientSecret()))
		if a.status != http.StatusOK {
			t.Fatalf("revoke = %d %s, want 200", a.status, a.body)
		}
	}
	one, two := s.connect(t), s.connect(t)
	revoke("unknown")
	revoke(one.AccessToken)
	s.wantLive(t, one.AccessToken, false)
	fresh := s.mustRefresh(t, one.RefreshToken)
	revoke(one.RefreshToken)
	s.wantLive(t, fresh.AccessToken, false)
	_, err := s.refresh(t.Context(), one.RefreshToken)
	wantCode(t, err, "invalid_grant")
	s.wantLive(t, two.AccessToken, true)

	s.Set(func(sw *coretest.Switches) { sw.RevokeGrant = true })
	three := s.connect(t)
	s.SignIn("bob")
	bob := s.connect(t)
	revoke(three.AccessToken)
	s.wantLive(t, two.AccessToken, false)
	s.wantLive(t, bob.AccessToken, true)

	if a := mustSend(t, http.MethodPost, s.RevocationURL(), url.Values{"token": {"x"}}); a.status != 401 {
		t.Errorf("revoke without client = %d, want 401", a.status)
	}
	a := mustSend(t, http.MethodPost, s.RevocationURL(), url.Values{}, "Authorization", basic(s.ClientID(), s.ClientSecret()))
	if a.status != 400 {
		t.Errorf("revoke without token = %d, want 400", a.status)
	}
	if got := s.Calls().Revoke; got != 6 {
		t.Errorf("Calls().Revoke = %d, want 6", got)
	}
}

func TestRevokeAccount(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.AddKey("key-ada", "ada")
	s.AddKey("key-bob", "bob")
	tok := s.connect(t)
	verifier := oauth2.GenerateVerifier()
	code := s.consent(t, verifier).Get("code")
	s.Revoke("ada")
	s.wantLive(t, tok.AccessToken, false)
	s.wantLive(t, "key-ada", false)
	s.wantLive(t, "key-bob", true)
	_, err := s.refresh(t.Context(), tok.RefreshToken)
	wantCode(t, err, "invalid_grant")
	_, err = s.conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_grant")
	s.wantLive(t, s.connect(t).AccessToken, true) // the account may consent again
}
