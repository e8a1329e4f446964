package coretest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/polycred/polycred/core/coretest"
)

// Slack takes the token itself as proof.
func TestRevokeRequestsBearer(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) { o.Switches.RevokeRequests = coretest.RevokeRequestsBearer })
	one, two := s.connect(t), s.connect(t)
	if a := mustSend(t, http.MethodPost, s.RevocationURL(), nil, "Authorization", "Bearer "+one.AccessToken); a.status != http.StatusOK {
		t.Errorf("revoke = %d %s, want 200", a.status, a.body)
	}
	s.wantLive(t, one.AccessToken, false)
	s.wantLive(t, two.AccessToken, true)
	for what, token := range map[string]string{"a dead token": one.AccessToken, "a refresh token": two.RefreshToken, "nothing": ""} {
		a := mustSend(t, http.MethodPost, s.RevocationURL(), nil, "Authorization", "Bearer "+token)
		if a.status != http.StatusUnauthorized {
			t.Errorf("revoke %s = %d %s, want 401", what, a.status, a.body)
		}
	}
	s.mustRefresh(t, two.RefreshToken)
}

// GitHub has a resource that is deleted.
func TestRevokeRequestsDelete(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Switches.RevokeRequests, o.Switches.RevokeGrant = coretest.RevokeRequestsDelete, true
	})
	one, two := s.connect(t), s.connect(t)
	send := func(token string, header ...string) int {
		t.Helper()
		body, err := json.Marshal(map[string]string{"access_token": token})
		if err != nil {
			t.Fatal(err)
		}
		url := s.RevocationURL() + "/" + s.ClientID()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	auth := basic(s.ClientID(), s.ClientSecret())
	if got := send(one.AccessToken, "Authorization", basic(s.ClientID(), "wrong")); got != http.StatusUnauthorized {
		t.Errorf("DELETE with a wrong secret = %d, want 401", got)
	}
	s.wantLive(t, one.AccessToken, true)
	if got := send(one.AccessToken, "Authorization", auth); got != http.StatusNoContent {
		t.Errorf("DELETE = %d, want 204", got)
	}
	s.wantLive(t, one.AccessToken, false)
	s.wantLive(t, two.AccessToken, false) // the whole grant
	if got := send(two.AccessToken, "Authorization", auth); got != http.StatusNotFound {
		t.Errorf("DELETE of a dead token = %d, want 404", got)
	}
	if a := mustSend(t, http.MethodPost, s.RevocationURL(), nil); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST = %d, want 405", a.status)
	}
}
