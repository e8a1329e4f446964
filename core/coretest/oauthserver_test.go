package coretest_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/coretest"
	"golang.org/x/oauth2"
)

func TestFallback(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Fallback = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte(r.Method + " " + r.RequestURI))
		})
	})
	a := mustSend(t, http.MethodDelete, s.URL()+"/applications//demo/grant?x=1", nil)
	if a.status != http.StatusTeapot || a.body != "DELETE /applications//demo/grant?x=1" {
		t.Errorf("fallback = %d %s, want the request unchanged", a.status, a.body)
	}
	s.wantLive(t, s.connect(t).AccessToken, true) // what the server has stays its own
}

func TestReset(t *testing.T) {
	t.Parallel()
	given := []coretest.Account{{Subject: "cyd"}, {Subject: "bob"}}
	s := start(t, func(o *coretest.OAuthServerOptions) {
		o.Accounts = given
		o.Switches.Rotate = true
	})
	given[0].Subject = "changed"
	claims := s.verifyIDToken(t, s.connect(t))
	if claims["sub"] != "cyd" {
		t.Errorf("sub = %v, want cyd, the first of the options", claims["sub"])
	}
	s.SignIn("ada")
	s.AddKey("key-1", "ada")
	tok := s.connect(t)
	s.Set(func(sw *coretest.Switches) { sw.Rotate, sw.API.Error = false, "server_error" })

	s.Reset()
	if diff := cmp.Diff(coretest.Switches{Rotate: true}, s.Switches()); diff != "" {
		t.Errorf("Switches after Reset (-want +got):\n%s", diff)
	}
	if _, ok := s.Last(coretest.EndpointExchange); ok || s.Calls() != (coretest.Calls{}) {
		t.Errorf("Calls after Reset = %+v, want none", s.Calls())
	}
	s.wantLive(t, tok.AccessToken, false)
	s.wantLive(t, "key-1", false)
	_, err := s.refresh(t.Context(), tok.RefreshToken)
	wantCode(t, err, "invalid_grant")
	hint := oauth2.SetAuthURLParam("login_hint", "ada")
	if got := s.consent(t, oauth2.GenerateVerifier(), hint).Get("error"); got != "login_required" {
		t.Errorf("consent of ada after Reset = %q, want login_required", got)
	}
	if claims := s.verifyIDToken(t, s.connect(t)); claims["sub"] != "cyd" {
		t.Errorf("sub after Reset = %v, want cyd", claims["sub"])
	}
}

// What waits must not go on when its tokens are forgotten, or the next test sees it.
func TestResetCutsWaiting(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]coretest.Fault{
		"slow": {Slow: time.Hour},
		"hold": {Hold: true},
		"hang": {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, nil)
			tok := s.connect(t)
			s.Set(func(sw *coretest.Switches) { sw.Refresh = f })
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			outcome := s.refreshBeside(ctx, t, tok.RefreshToken)
			s.Reset()
			r := <-outcome
			var re *oauth2.RetrieveError
			if r.err == nil || errors.As(r.err, &re) || ctx.Err() != nil {
				t.Errorf("refresh = %v, want a cut connection", r.err)
			}
			s.waiting(t, 0)
		})
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	taken := start(t, nil)
	u, err := url.Parse(taken.URL())
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatalf("Atoi: %v", err)
	}
	tests := []struct {
		name string
		give coretest.OAuthServerOptions
		want string // in the error
	}{
		{"lifetime", coretest.OAuthServerOptions{TokenLifetime: -1}, "token lifetime"},
		{"port", coretest.OAuthServerOptions{Port: 65536}, "no port 65536"},
		{"negative port", coretest.OAuthServerOptions{Port: -1}, "no port -1"},
		{"taken port", coretest.OAuthServerOptions{Port: port}, taken.Host()},
		{"account", coretest.OAuthServerOptions{Accounts: []coretest.Account{{Subject: "ada"}, {Name: "Bob"}}}, "account 2"},
	}
	for _, tt := range tests {
		s, err := coretest.NewOAuthServer(&tt.give)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewOAuthServer, bad %s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}
