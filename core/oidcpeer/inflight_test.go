package oidcpeer_test

import (
	"net/http"
	"sync"
	"testing"
)

// TestRefreshUnderARequest: a refresh at op ends the previous access token at once. A request that was sent with that
// token while the refresh ran behind it is refused with 403.
func TestRefreshUnderARequest(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *host) {
		h.declare(t, nil)
		ada := h.mustConnect(t, h.ada, "")
		// userinfo is let through once a refresh was answered; then at once
		refreshed := make(chan struct{})
		next := h.server.Config.Handler
		var once sync.Once
		h.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if "http://"+r.Host+r.URL.Path == h.UserinfoEndpoint {
				<-refreshed
			}
			next.ServeHTTP(w, r)
			if "http://"+r.Host+r.URL.Path == h.TokenEndpoint {
				once.Do(func() { close(refreshed) })
			}
		})
		h.clock.Advance(lifetime * 7 / 10)
		h.checkIs(t, ada, h.ada)
	})
}
