//go:build browser

package sdktest_test

import (
	"testing"

	"github.com/polycred/polycred/internal/need"
)

// The walk in Chromium, in both ways to point the client at a server.
func TestBrowser(t *testing.T) {
	packages(t, true)
	chromium := need.Program(t, "chromium")
	for mode, public := range map[string]string{
		"host":      "https://zeus.localhost:0", // configureGlobal({host: "localhost:8443"})
		"overrides": "http://127.0.0.1:0",       // overrideEnvs, over plain http
	} {
		t.Run(mode, func(t *testing.T) {
			newHouse(t, public).drive("browser.mjs", map[string]any{"chromium": chromium, "mode": mode})
		})
	}
}
